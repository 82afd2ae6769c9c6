//! How new an answer must be, and the waiting for it.
//!
//! `minimize_latency` never waits. `at_least` waits until every stream of the revision is applied and not parked, for a bounded
//! time; at half of it the missing streams are read from the store, once. `fully_consistent` asks the store where the streams
//! stand and then goes on as `at_least`. Either ends in the matrix that the answer must be made from, or in UNAVAILABLE; never
//! in an older answer.

mod fully;
mod permits;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tessera_core::ids::TenantId;
use tessera_core::revision::{Named, Revision};
use tessera_core::stream::{Epoch, StreamId, StreamKind};
use tessera_ports::EventStore;
use tessera_ports::hooks::{self, Guard};
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_runtime::identity::Principal;
use tokio::time::Instant;

use crate::Config;
use crate::matrix::Matrix;
use crate::shared::Shared;
use permits::Permits;

/// How new one answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// As it is.
    MinimizeLatency,
    /// Not older than that.
    AtLeast(Revision),
    /// Not older than the store.
    FullyConsistent,
}

/// Who asks, and until when the answer is of use.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// `None` where nobody is asked who they are.
    pub(crate) principal: Option<Principal>,
    /// `None` in tests without a connection.
    pub(crate) address: Option<IpAddr>,
    /// By the caller's own deadline.
    pub(crate) deadline: Option<Instant>,
}

impl Caller {
    /// Whether that tenant is there for this caller, if it is at all. What is not there is answered like what never was.
    pub(crate) fn sees(&self, tenant: &str) -> bool {
        self.principal.as_ref().is_none_or(|principal| principal.sees(tenant)) || !hooks::holds(Guard::TenantsOfCaller)
    }
}

/// Meets demands. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Consistency {
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    config: Arc<Config>,
    permits: Arc<Permits>,
}

/// Why a wait came to its end without the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotReached {
    /// Time is up.
    InTime,
    /// The matrix is of a newer epoch than the names.
    NewerEpoch,
}

impl Demand {
    /// Reads what a request demands of an answer about `tenant`.
    pub(crate) fn of(consistency: Option<&v1::Consistency>, tenant: &str) -> Result<Self, Failure> {
        use v1::consistency::Requirement;
        match consistency.and_then(|consistency| consistency.requirement.as_ref()) {
            None | Some(Requirement::MinimizeLatency(_)) => Ok(Self::MinimizeLatency),
            Some(Requirement::FullyConsistent(_)) => Ok(Self::FullyConsistent),
            Some(Requirement::AtLeast(at_least)) => Self::at_least("consistency.at_least.revision", &at_least.revision, tenant),
        }
    }

    /// Not older than the revision in `field`, which must not be of another tenant.
    pub(crate) fn at_least(field: &str, given: &[u8], tenant: &str) -> Result<Self, Failure> {
        let revision = Revision::parse(given).and_then(|revision| revision.check_tenant(tenant).map(|()| revision));
        revision.map(Self::AtLeast).map_err(|error| Failure::invalid_revision(field, given, error))
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::MinimizeLatency
    }
}

impl Consistency {
    pub(crate) fn new(shared: Arc<Shared>, store: Arc<dyn EventStore>, config: Arc<Config>) -> Self {
        let permits = Arc::new(Permits::new(config.fully_consistent_at_once_max, config.fully_consistent_per_caller_max));
        Self { shared, store, config, permits }
    }

    /// Until when an `at_least` that begins now is waited for. Shared by the items of a batch.
    pub(crate) fn wait_until(&self, caller: &Caller) -> Instant {
        let longest = Instant::now() + self.config.at_least_wait();
        caller.deadline.map_or(longest, |deadline| longest.min(before(deadline)))
    }

    /// Waits until the demand is met; the answer must be made from the matrix that is returned.
    pub(crate) async fn meet(
        &self,
        tenant: &str,
        demand: &Demand,
        caller: &Caller,
        until: Instant,
    ) -> Result<Arc<Matrix>, Failure> {
        // What is not there for the caller is not waited for, and not read.
        if !caller.sees(tenant) || !hooks::holds(Guard::AtLeastWaits) {
            return Ok(Arc::clone(&self.shared.matrix()));
        }
        match demand {
            Demand::MinimizeLatency => Ok(Arc::clone(&self.shared.matrix())),
            Demand::FullyConsistent => self.fully_consistent(tenant, caller).await,
            Demand::AtLeast(revision) => match self.reach(tenant, revision.epoch, &revision.streams, &[], until).await {
                Ok(matrix) => Ok(matrix),
                Err(NotReached::InTime) => Err(Failure::revision_not_reached()),
                // What it names has no meaning in this epoch: only the store can say what is new enough.
                Err(NotReached::NewerEpoch) => self.fully_consistent(tenant, caller).await,
            },
        }
    }

    /// Waits until all of `names` are applied in a matrix of `epoch`. `known` are streams among them whose ids are known.
    async fn reach(
        &self,
        tenant: &str,
        epoch: Epoch,
        names: &[Named],
        known: &[StreamId],
        until: Instant,
    ) -> Result<Arc<Matrix>, NotReached> {
        let begun = Instant::now();
        let half = begun + until.saturating_duration_since(begun) / 2;
        let (mut waited, mut asked) = (false, false);
        loop {
            let matrix = Arc::clone(&self.shared.matrix());
            if matrix.epoch() > epoch && hooks::holds(Guard::EpochInEverything) {
                return Err(NotReached::NewerEpoch);
            }
            let in_epoch = matrix.epoch() >= epoch || !hooks::holds(Guard::EpochInEverything);
            let missing = names.iter().find(|named| !in_epoch || !matrix.has(tenant, named)).copied();
            let Some(missing) = missing else {
                if waited {
                    self.shared.metrics.waits_reached.increment(1);
                }
                return Ok(matrix);
            };
            waited = true;
            let place = matrix.waiters().place(missing.kind, missing.hash);
            let news = place.news();
            let arrived = in_epoch && matrix.has(tenant, &missing);
            if arrived || !Arc::ptr_eq(&self.shared.matrix(), &matrix) {
                continue;
            }
            tokio::select! {
                // Where this thread was late, news may have come in time.
                biased;
                () = news => {}
                () = tokio::time::sleep_until(half), if !asked && in_epoch => {
                    asked = true;
                    self.ask_for(&matrix, tenant, names, known);
                }
                () = tokio::time::sleep_until(until) => {
                    self.shared.metrics.waits_timed_out.increment(1);
                    return Err(NotReached::InTime);
                }
            }
        }
    }

    /// Has the missing streams read from the store, as far as they are known or can be told from their hashes.
    fn ask_for(&self, matrix: &Matrix, tenant: &str, names: &[Named], known: &[StreamId]) {
        let installed = matrix.tables_to_keep();
        for named in names.iter().filter(|named| !matrix.has(tenant, named)) {
            let known = known.iter().find(|stream| stream.kind() == named.kind && stream.hash() == named.hash);
            let stream = match named.kind {
                _ if known.is_some() => known.cloned(),
                StreamKind::Tenant => TenantId::parse(tenant).ok().map(StreamId::Tenant),
                kind => installed.tables.stream_by_hash(kind, named.hash),
            };
            if let Some(stream) = stream {
                self.shared.wish_for(stream);
            }
        }
    }
}

/// A little before the deadline, so that the answer still arrives.
fn before(deadline: Instant) -> Instant {
    /// Enough for an answer on a local network.
    const MARGIN: Duration = Duration::from_millis(5);
    deadline.checked_sub(MARGIN).unwrap_or(deadline)
}
