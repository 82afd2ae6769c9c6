//! What the handler asks of an aggregate beyond deciding and storing: bounds, etags, due times.

use std::sync::Arc;

use bytes::Bytes;
use tessera_core::catalog::{self, Catalog};
use tessera_core::plan::{self, PlanState};
use tessera_core::stream::{Epoch, Seq};
use tessera_core::tenant::{self, TenantState, schedule};
use tessera_core::time::Timestamp;
use tessera_ports::event_store::Head;
use tessera_proto::storage::Stored;

use crate::etag;

/// An aggregate whose commands are handled here.
pub trait Handled: Stored {
    /// What its commands are called in metrics and logs.
    const NAME: &'static str;
    /// Longest stored state, in bytes, so that it fits a record of the feed.
    const STATE_LEN_MAX: usize;
    /// Longest stored state, in bytes, that commands which state something may make ([`Self::states`]). What is above is left to
    /// the others.
    const STATED_LEN_MAX: usize;
    /// Whether its commands are decided against the catalog.
    const NEEDS_CATALOG: bool;

    /// Whether `command` adds a document, or texts and exceptions of somebody's choice. The others take something away, switch
    /// it off or end it: they have to go through however much was stated before.
    fn states(command: &Self::Command) -> bool;

    /// The etag of what `command` is about, in this state of its stream; `None` when it does not exist.
    fn etag(&self, command: &Self::Command, epoch: Epoch, seq: Seq) -> Option<String>;

    /// When time alone will next have to be recorded in this state, if ever; asked after every commit.
    fn next_due(&self, _after: Timestamp) -> Option<Timestamp> {
        None
    }
}

/// A stream as one strong read, or one commit, showed it.
#[derive(Debug, Clone)]
pub struct Snapshot<A> {
    /// The life of the store.
    pub epoch: Epoch,
    /// Where the stream ends.
    pub head: Head,
    /// Time of its last event; the beginning of time before the first.
    pub last_event_at: Timestamp,
    /// The state there.
    pub state: Arc<A>,
    /// The same as it is stored; empty before the first event.
    pub bytes: Bytes,
}

impl<A: Handled> Snapshot<A> {
    /// A stream without events.
    pub fn empty(epoch: Epoch) -> Self {
        Self::unborn(epoch, Arc::new(A::default()))
    }

    /// As [`Self::empty`], with the state before the first event, which many streams share.
    pub fn unborn(epoch: Epoch, state: Arc<A>) -> Self {
        Self { epoch, head: Head::default(), last_event_at: Timestamp::MIN, state, bytes: Bytes::new() }
    }
}

impl Handled for Catalog {
    const NAME: &'static str = "catalog";
    const STATE_LEN_MAX: usize = 900 * 1024;
    /// Three hundred kill switches with the longest reasons are thrown in what is left.
    const STATED_LEN_MAX: usize = Self::STATE_LEN_MAX - 64 * 1024;
    const NEEDS_CATALOG: bool = false;

    fn states(command: &catalog::Command) -> bool {
        use catalog::Command;
        match command {
            Command::UpsertService(_) | Command::UpsertLimit(_) => true,
            Command::Disable { .. }
            | Command::Enable(_)
            | Command::ArchiveService(_)
            | Command::ArchiveFeature(..)
            | Command::ArchiveLimit(_) => false,
        }
    }

    fn etag(&self, command: &catalog::Command, _epoch: Epoch, _seq: Seq) -> Option<String> {
        use catalog::Command;
        let service = match command {
            Command::UpsertService(document) => &document.id,
            Command::ArchiveService(id) | Command::ArchiveFeature(id, _) => id,
            Command::Disable { target, .. } | Command::Enable(target) => &target.service,
            Command::UpsertLimit(document) => return self.limit(&document.id).map(etag::of_limit),
            Command::ArchiveLimit(id) => return self.limit(id).map(etag::of_limit),
        };
        self.service(service).map(etag::of_service)
    }
}

impl Handled for PlanState {
    const NAME: &'static str = "plan";
    const STATE_LEN_MAX: usize = 900 * 1024;
    /// Archiving needs a few bytes.
    const STATED_LEN_MAX: usize = Self::STATE_LEN_MAX - 4 * 1024;
    const NEEDS_CATALOG: bool = true;

    fn states(command: &plan::Command) -> bool {
        use plan::Action;
        match command.action {
            Action::Create(_) | Action::Update(_) | Action::Publish => true,
            Action::Archive | Action::Delete => false,
        }
    }

    fn etag(&self, _command: &Self::Command, epoch: Epoch, seq: Seq) -> Option<String> {
        self.0.is_some().then(|| etag::of_stream(epoch, seq))
    }
}

impl Handled for TenantState {
    const NAME: &'static str = "tenant";
    const STATE_LEN_MAX: usize = 256 * 1024;
    /// As many suspensions as there may be, with the longest reasons, and an end fit into what is left.
    const STATED_LEN_MAX: usize = Self::STATE_LEN_MAX - 8 * 1024;
    const NEEDS_CATALOG: bool = true;

    fn states(command: &tenant::Command) -> bool {
        use tenant::Action;
        match command.action {
            Action::Create { .. }
            | Action::State { .. }
            | Action::Update { .. }
            | Action::ChangePlan { .. }
            | Action::StartTrial(_)
            | Action::AttachAddOn { .. }
            | Action::OverrideAccess(..)
            | Action::OverrideLimit(..)
            | Action::SetFamiliarity(..) => true,
            Action::Suspend { .. }
            | Action::Resume(_)
            | Action::Activate
            | Action::CancelScheduledChange(_)
            | Action::CancelSubscription(_)
            | Action::RenewSubscription
            | Action::EndTrial { .. }
            | Action::DetachAddOn(_)
            | Action::RemoveOverride(_)
            | Action::Delete
            | Action::RecordDue => false,
        }
    }

    fn etag(&self, _command: &Self::Command, epoch: Epoch, seq: Seq) -> Option<String> {
        self.0.is_some().then(|| etag::of_stream(epoch, seq))
    }

    fn next_due(&self, after: Timestamp) -> Option<Timestamp> {
        schedule::next_due(self.0.as_ref()?, after)
    }
}
