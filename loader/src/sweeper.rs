//! Following hints: whatever may have been committed and never published is read strongly and published.
//!
//! One pass follows every hint of some shards (`share.rs` says of which), after whichever loader died; publishing twice is
//! harmless. A pass that followed all of them proves that everything committed before it began in streams of these shards is
//! published, which is what a heartbeat says (`heartbeat.rs`). Hints that stand only because others are still to be told of events
//! are the announcer's: there may be many of them, and they hold up nothing here.
//!
//! Nor do others that have to stand, such as all those of an import whose loader was killed before it appended. The stream of
//! each is read strongly after the pass began. Was the head not beyond the hint, then nothing that it leads to had been committed
//! before: what comes of it later is of later heartbeats, whose passes look at it again. Was it beyond, then the change is
//! published, and only its events are not told. So a pass looks at such a hint once, and goes on past it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tessera_core::stream::{Epoch, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::change_feed::{Change, FeedError};
use tessera_ports::event_store::ReadError;
use tessera_ports::hint_store::Hint;
use tessera_ports::hooks::{self, Guard};
use tessera_ports::{ChangePublisher, EventStore, HintStore, Shard};

use crate::announcer::{Announcements, Span, first_of};
use crate::metric_definitions as metrics;

/// Streams read at a time in one pass.
const READS_AT_ONCE: usize = 16;
/// Pages of hints that one pass leaves standing, beside those of the announcer: bounds its memory, and the time until the next
/// heartbeat.
const STANDING_PAGES_MAX: usize = 64;

/// Follows hints.
#[derive(Debug, Clone)]
pub struct Sweeper {
    store: Arc<dyn EventStore>,
    hints: Arc<dyn HintStore>,
    feed: Arc<dyn ChangePublisher>,
    announcements: Option<Announcements>,
    page: usize,
    hint_age: Duration,
}

/// Why a pass did not follow every hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The store, or the hints, cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// The feed takes nothing.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// There are more hints that cannot be erased yet than one pass looks past.
    #[error("more than {0} hints stand for appends under way, or for events that are not told yet")]
    TooMany(usize),
    /// The store's life ended meanwhile.
    #[error("the store is in epoch {found}, not in {expected} any more")]
    OtherEpoch {
        /// The epoch of the pass.
        expected: Epoch,
        /// The epoch that was read.
        found: Epoch,
    },
}

impl Sweeper {
    /// A sweeper that lists `page` hints at a time, beside those that stand, and forgets those without a consequence after
    /// `hint_age`. Without announcements nobody is told of events.
    pub fn new(
        store: Arc<dyn EventStore>,
        hints: Arc<dyn HintStore>,
        feed: Arc<dyn ChangePublisher>,
        announcements: Option<Announcements>,
        page: usize,
        hint_age: Duration,
    ) -> Self {
        Self { store, hints, feed, announcements, page, hint_age }
    }

    /// Follows every hint of these shards that there is now.
    pub async fn pass(&self, epoch: Epoch, shards: &[Shard], now: Timestamp) -> Result<(), Interrupted> {
        let standing_max = self.page.saturating_mul(STANDING_PAGES_MAX);
        // Looked at in this pass, and left where they are.
        let mut standing: BTreeSet<Hint> = BTreeSet::new();
        loop {
            let held = self.announcements.as_ref().map_or(0, Announcements::held);
            // Past those that stand, and as many again, so that few lists get past however many there are.
            let past = standing.len().saturating_mul(2).min(standing_max);
            let limit = self.page.saturating_add(held).saturating_add(past);
            let hints = self.hints.list(shards, limit).await?;
            metrics::hints_seen(hints.len());
            let whole = hints.len() < limit;
            let mut streams: BTreeMap<StreamId, Vec<Hint>> = BTreeMap::new();
            for hint in hints.into_iter().filter(|hint| !standing.contains(hint) && !self.is_announcers(hint)) {
                streams.entry(hint.stream.clone()).or_default().push(hint);
            }
            let stuck = streams.is_empty();
            let mut followed = futures::stream::iter(streams)
                .map(|(stream, hints)| self.follow(epoch, stream, hints, now))
                .buffer_unordered(READS_AT_ONCE);
            while let Some(left) = followed.next().await {
                standing.extend(left?.into_iter().filter(|hint| !self.is_announcers(hint)));
            }
            if whole {
                return Ok(());
            }
            if stuck || standing.len() > standing_max {
                return Err(Interrupted::TooMany(standing_max));
            }
        }
    }

    /// Whether it leads to nothing but events that are still to be told.
    fn is_announcers(&self, hint: &Hint) -> bool {
        self.announcements.as_ref().is_some_and(|announcements| announcements.holds(hint))
    }

    /// Publishes a stream if it is beyond a hint, and erases the hints that lead to nothing else; returns those that stand.
    async fn follow(&self, epoch: Epoch, stream: StreamId, hints: Vec<Hint>, now: Timestamp) -> Result<Vec<Hint>, Interrupted> {
        let read = self.store.read(&stream, &[], None).await?;
        if read.epoch != epoch {
            return Err(Interrupted::OtherEpoch { expected: epoch, found: read.epoch });
        }
        let seq = read.head.seq;
        let (mut beyond, waiting): (Vec<_>, Vec<_>) = hints.into_iter().partition(|hint| seq > hint.head);
        let mut standing = Vec::new();
        if let Some(after) = first_of(&beyond)
            && let Some(state) = read.state
        {
            hooks::fail_point("loader.sweep.before");
            self.feed.publish(&[Change { epoch, stream: stream.clone(), seq, state }]).await?;
            metrics::changes_swept(1);
            hooks::fail_point("loader.swept");
            if let Some(announcements) = &self.announcements {
                let span = Span { epoch, after, through: seq, cells: Vec::new(), hints: beyond.clone() };
                standing = std::mem::replace(&mut beyond, announcements.offer(stream, span));
            }
        }
        // An attempt ends long before a hint is this old, and the read above has not seen it: it never will be written.
        let (dead, waiting): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|hint| now.saturating_since(hint.at) > self.hint_age || !hooks::holds(Guard::HintErasedAfterPublish));
        for hint in beyond.iter().chain(&dead) {
            self.hints.erase(hint).await?;
        }
        standing.extend(waiting);
        Ok(standing)
    }
}
