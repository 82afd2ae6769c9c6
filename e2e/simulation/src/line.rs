//! What lies between one process and the store and the feed: it can be cut for a while, and it can be slow.
//!
//! *Cut*: every call of a port waits, before it reaches the other side and before its answer is heard, until the line is whole
//! again. That is what everybody else sees of a process that is stopped, swapped out or cut off: whatever it had begun goes on
//! later from where it was, in a world that has moved. *Slow*: appends, scans, publishing and reads of the feed take up to so
//! long more, each by itself. *Behind*: for a while it hears now and then that the feed has fewer partitions than it has, as
//! from brokers that do not know yet of those that were added.
//!
//! It also notes what the feed held when the process last asked where the feed ends, which is what being ready is a promise of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::change_feed::{Change, ChangeFeed, ChangePublisher, FeedBatch, FeedError, Heartbeat, Position, Topic};
use tessera_ports::event_publisher::{EventPublisher, PublicEvent};
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, EventStore, Head, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity,
    StreamRead,
};
use tessera_ports::hint_store::{Hint, HintStore};
use tessera_ports::lease_store::LeaseStore;
use tessera_ports::memory::{MemoryEvents, MemoryFeed, MemoryStore, SplitMix64};
use tessera_ports::shard::Shard;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::SimulatedClock;
use crate::promises::Promises;
use crate::told::Told;

/// How much longer than the store and the feed themselves a line takes, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slowness {
    /// For a read of the feed, on the way there, and as much on the way back.
    pub feed: Duration,
    /// For a read of the one partition that lags behind the others, on the way back.
    pub lagging: Option<(u32, Duration)>,
    /// For a page of a scan, on the way back.
    pub scans: Duration,
    /// For an append, on the way there, and as much on the way back.
    pub appends: Duration,
    /// For publishing changes, on the way there.
    pub publishes: Duration,
}

/// What no store may do, to see that the checks would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// One read in so many of a stream's head and state says what they were some time ago.
    StaleReads(u64),
}

/// What all lines lead to.
#[derive(Debug)]
pub struct FarSide {
    /// The store.
    pub store: MemoryStore,
    /// The feed.
    pub feed: MemoryFeed,
    /// The time of day.
    pub clock: Arc<SimulatedClock>,
    /// Who notes what is promised.
    pub promises: Arc<Promises>,
    /// Where others are told of events.
    pub events: MemoryEvents,
    /// Who notes what they are told.
    pub told: Arc<Told>,
}

/// The line of one process, as every port that it needs.
#[derive(Debug)]
pub struct Line {
    far_side: FarSide,
    cut: AtomicBool,
    mended: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    random: SplitMix64,
    slowness: Slowness,
    at_ends: Vec<Vec<Change>>,
    lie: Option<Lie>,
    before: BTreeMap<StreamId, (Head, Bytes)>,
    behind: Option<Behind>,
}

/// What a line hears of the feed.
#[derive(Debug, Clone, Copy)]
struct Behind {
    partitions: u32,
    until: Instant,
}

impl Line {
    /// A whole line to there; all that it draws comes from `random`.
    pub fn new(far_side: FarSide, random: SplitMix64, slowness: Slowness, lie: Option<Lie>) -> Arc<Self> {
        let inner = Inner { random, slowness, at_ends: Vec::new(), lie, before: BTreeMap::new(), behind: None };
        Arc::new(Self { far_side, cut: AtomicBool::new(false), mended: Notify::new(), inner: Mutex::new(inner) })
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Mends it; what waited goes on.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
        self.mended.notify_waiters();
    }

    /// From now on it is as slow as that; returns how slow it was.
    pub fn slow(&self, slowness: Slowness) -> Slowness {
        std::mem::replace(&mut self.inner().slowness, slowness)
    }

    /// Until then it hears every other time that the feed has so many partitions.
    pub fn learns_late(&self, partitions: u32, until: Instant) {
        self.inner().behind = Some(Behind { partitions, until });
    }

    /// How many partitions it hears of this time, where that is not as many as there are.
    fn partitions_before(&self) -> Option<u32> {
        let mut inner = self.inner();
        let behind = inner.behind.filter(|behind| Instant::now() < behind.until)?;
        inner.random.chance(500).then_some(behind.partitions)
    }

    /// Every change that was in the feed when the process noted the ends that it had to reach to be ready. Where it began
    /// more than once, so that which of them counted cannot be told from here: when it first noted any.
    pub fn published_at_ends(&self) -> Vec<Change> {
        let at_ends = &self.inner().at_ends;
        // Noted once before the scan and once after it.
        let counts = if at_ends.len() == 2 { at_ends.last() } else { at_ends.first() };
        counts.cloned().unwrap_or_default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn whole(&self) {
        while self.cut.load(Ordering::SeqCst) {
            let mut mended = std::pin::pin!(self.mended.notified());
            mended.as_mut().enable();
            if self.cut.load(Ordering::SeqCst) {
                mended.await;
            }
        }
    }

    async fn through<T>(&self, call: impl Future<Output = T> + Send) -> T {
        self.whole().await;
        let answer = call.await;
        self.whole().await;
        answer
    }

    async fn linger(&self, longest: impl FnOnce(&Slowness) -> Duration) {
        let delay = {
            let mut inner = self.inner();
            let longest = longest(&inner.slowness);
            if longest.is_zero() { Duration::ZERO } else { inner.random.duration(longest) }
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// Head and state as they were at an earlier read, now and then, if this line lies.
    fn perhaps_stale(&self, stream: &StreamId, read: StreamRead) -> StreamRead {
        let mut inner = self.inner();
        let Some(Lie::StaleReads(one_in)) = inner.lie else { return read };
        let lies = inner.random.below(one_in) == 0;
        match (&read.state, inner.before.get(stream)) {
            (_, Some((head, was))) if lies => StreamRead { head: *head, state: Some(was.clone()), ..read },
            (Some(state), _) => {
                // Kept for a while, so that it grows stale.
                if inner.random.below(one_in) == 0 || !inner.before.contains_key(stream) {
                    inner.before.insert(stream.clone(), (read.head, state.clone()));
                }
                read
            }
            _ => read,
        }
    }
}

#[async_trait]
impl EventStore for Line {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.through(self.far_side.store.identity()).await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        let read = self.through(self.far_side.store.read(stream, requests, known)).await?;
        Ok(self.perhaps_stale(stream, read))
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.linger(|slowness| slowness.appends).await;
        let appended = self.through(self.far_side.store.append(append)).await;
        self.linger(|slowness| slowness.appends).await;
        appended
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        self.through(self.far_side.store.events(stream, after, limit)).await
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        self.through(self.far_side.store.requests(stream, after, limit)).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        self.through(self.far_side.store.scan_ranges(kind)).await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        let page = self.through(self.far_side.store.scan(range, limit)).await;
        self.linger(|slowness| slowness.scans).await;
        page
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.through(self.far_side.store.count(kind)).await
    }

    fn feeds_itself(&self) -> bool {
        self.far_side.store.feeds_itself()
    }
}

#[async_trait]
impl HintStore for Line {
    async fn put(&self, hint: &Hint) -> Result<(), ReadError> {
        self.through(self.far_side.store.put(hint)).await
    }

    async fn erase(&self, hint: &Hint) -> Result<(), ReadError> {
        self.through(self.far_side.store.erase(hint)).await
    }

    async fn list(&self, shards: &[Shard], limit: usize) -> Result<Vec<Hint>, ReadError> {
        self.through(self.far_side.store.list(shards, limit)).await
    }
}

#[async_trait]
impl LeaseStore for Line {
    async fn renew(&self, owner: &str, time: Duration) -> Result<Vec<String>, ReadError> {
        self.through(self.far_side.store.renew(owner, time)).await
    }
}

#[async_trait]
impl ChangeFeed for Line {
    async fn topic(&self) -> Result<Topic, FeedError> {
        self.through(self.far_side.feed.topic()).await
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        self.whole().await;
        // The ends are those of the moment in which this call begins.
        let published = crate::cluster::published(&self.far_side.feed);
        let ends = self.far_side.feed.ends().await?;
        self.inner().at_ends.push(published);
        self.whole().await;
        Ok(ends)
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        self.linger(|slowness| slowness.feed).await;
        let batch = self.through(self.far_side.feed.read(topic, partition, from, limit, wait)).await;
        self.linger(|slowness| slowness.feed).await;
        self.linger(|slowness| match slowness.lagging {
            Some((lagging, lag)) if lagging == partition => lag,
            _ => Duration::ZERO,
        })
        .await;
        batch
    }
}

#[async_trait]
impl ChangePublisher for Line {
    async fn publish(&self, changes: &[Change]) -> Result<(), FeedError> {
        self.linger(|slowness| slowness.publishes).await;
        self.whole().await;
        let published = self.far_side.feed.publish(changes).await;
        if published.is_ok() {
            self.far_side.promises.published(changes);
        }
        self.whole().await;
        published
    }

    async fn partitions(&self) -> Result<u32, FeedError> {
        let there = self.through(self.far_side.feed.partitions()).await?;
        Ok(self.partitions_before().unwrap_or(there))
    }

    async fn beat(&self, partitions: &[u32], heartbeat: &Heartbeat) -> Result<(), FeedError> {
        self.whole().await;
        let FarSide { store, feed, clock, promises, .. } = &self.far_side;
        promises.check(store, clock, partitions, heartbeat);
        let beaten = feed.beat(partitions, heartbeat).await;
        self.whole().await;
        beaten
    }
}

#[async_trait]
impl EventPublisher for Line {
    async fn publish(&self, events: &[PublicEvent]) -> Result<(), FeedError> {
        self.whole().await;
        self.far_side.told.check(&self.far_side.store, events);
        let published = self.far_side.events.publish(events).await;
        self.whole().await;
        published
    }
}
