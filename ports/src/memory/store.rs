//! The store in memory. One lock, never held across an await: every operation is one moment, between two simulated ways.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tokio::time::Instant;

use super::feed::MemoryFeed;
use super::hints::Hints;
use super::leases::Leases;
use super::store_faults::{AppendFault, FaultState, Late, Operation, StoreFaults};
use super::streams::{Backup, QUORUM, Streams};
use super::{lock, pause};
use crate::change_feed::Change;
use crate::event_store::{
    Append, AppendError, Appended, EventCell, EventStore, Head, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity,
    StreamRead,
};

/// An [`EventStore`] and [`HintStore`](crate::HintStore) in memory; a cheap handle, clones share everything.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    pub(super) inner: Arc<Mutex<Inner>>,
    feeds_itself: bool,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) streams: Streams,
    pub(super) hints: Hints,
    pub(super) leases: Leases,
    pub(super) faults: FaultState,
    feed: Option<MemoryFeed>,
}

impl MemoryStore {
    /// Empty, in epoch 1, without a feed of its own.
    pub fn new(name: &str) -> Self {
        Self::build(name, None)
    }

    /// Empty, in epoch 1; an append writes the feed at the same moment, and the store says so.
    pub fn feeding(name: &str, feed: MemoryFeed) -> Self {
        Self::build(name, Some(feed))
    }

    fn build(name: &str, feed: Option<MemoryFeed>) -> Self {
        let feeds_itself = feed.is_some();
        let inner = Inner {
            streams: Streams::new(1, name),
            hints: Hints::default(),
            leases: Leases::default(),
            faults: FaultState::default(),
            feed,
        };
        Self { inner: Arc::new(Mutex::new(inner)), feeds_itself }
    }

    /// Its switches.
    pub fn faults(&self) -> StoreFaults {
        StoreFaults(Arc::clone(&self.inner))
    }

    /// Appends at once, without latency or faults: for tests that need a store with something in it.
    pub fn append_now(&self, append: &Append) -> Appended {
        lock(&self.inner).apply(append, QUORUM)
    }

    /// Head and state of a stream as they really are, without latency or faults; `None` before its first event.
    pub fn current(&self, stream: &StreamId) -> Option<(Head, Bytes)> {
        lock(&self.inner).streams.current(stream)
    }

    /// Which life it is in and how it is called, as it really is.
    pub fn identity_now(&self) -> StoreIdentity {
        lock(&self.inner).streams.identity.clone()
    }

    /// Every stream that has an event, in order.
    pub fn streams(&self) -> Vec<StreamId> {
        lock(&self.inner).streams.by_id.keys().cloned().collect()
    }

    /// All cells of a stream, the first event first.
    pub fn cells(&self, stream: &StreamId) -> Vec<Bytes> {
        lock(&self.inner).streams.by_id.get(stream).map(|stream| stream.cells.clone()).unwrap_or_default()
    }

    /// Every state that the stream ever had, by the seq at which an append left it.
    pub fn states(&self, stream: &StreamId) -> BTreeMap<Seq, Bytes> {
        lock(&self.inner).streams.by_id.get(stream).map(|stream| stream.states.clone()).unwrap_or_default()
    }

    /// The state that an append left at that seq; `None` where no append ended.
    pub fn state_at(&self, stream: &StreamId, seq: Seq) -> Option<Bytes> {
        lock(&self.inner).streams.by_id.get(stream)?.states.get(&seq).cloned()
    }

    /// The seq that appends of this life of the store had left before that instant; 0 where none had.
    pub fn committed_before(&self, stream: &StreamId, instant: Instant) -> Seq {
        let inner = lock(&self.inner);
        let committed = inner.streams.by_id.get(stream).into_iter().flat_map(|stream| &stream.committed);
        committed.filter(|(_, at)| **at < instant).map(|(seq, _)| *seq).max().unwrap_or(0)
    }

    /// The cells after `after`, up to and including `through`, oldest first.
    pub fn cells_between(&self, stream: &StreamId, after: Seq, through: Seq) -> Vec<Bytes> {
        let inner = lock(&self.inner);
        let cells = inner.streams.by_id.get(stream).map(|stream| (1..).zip(&stream.cells));
        let wanted = cells.into_iter().flatten().filter(|(seq, _)| (after.saturating_add(1)..=through).contains(seq));
        wanted.map(|(_, cell)| cell.clone()).collect()
    }

    /// A copy of all streams of these kinds as they are now. Copies of different kinds may be of different moments.
    pub fn back_up(&self, kinds: &[StreamKind]) -> Backup {
        lock(&self.inner).streams.back_up(kinds)
    }

    /// Begins the next epoch under another name with what the copy holds; hints and late appends stay behind in the old
    /// store, which nobody reaches any more.
    pub fn restore(&self, backup: &Backup, name: &str) -> StoreIdentity {
        self.replace(backup, name);
        let mut inner = lock(&self.inner);
        inner.faults.late.clear();
        let identity = &mut inner.streams.identity;
        identity.epoch = identity.epoch.saturating_add(1);
        identity.clone()
    }

    /// Puts what the copy holds in the place of everything, under that name and **in the same epoch**: what no restore does, and
    /// what happens all the same. What is under way to the store stays under way.
    pub fn replace(&self, backup: &Backup, name: &str) {
        let mut inner = lock(&self.inner);
        inner.streams.replace(backup, name);
        inner.hints = Hints::default();
    }

    /// One operation: on its way, its moment, its way back.
    pub(super) async fn operate<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut Inner) -> Result<T, ReadError> + Send,
    ) -> Result<T, ReadError> {
        let there = lock(&self.inner).faults.delay();
        pause(there).await;
        let (answer, back) = {
            let mut inner = lock(&self.inner);
            inner.settle_due();
            let answer = inner.faults.fail(operation).and_then(|()| work(&mut inner));
            (answer, inner.faults.delay())
        };
        pause(back).await;
        answer
    }
}

impl Inner {
    /// The write itself; a store that feeds itself writes the feed at the same moment.
    fn apply(&mut self, append: &Append, learners: usize) -> Appended {
        let appended = self.streams.apply(append, learners, self.faults.replicas());
        if appended == Appended::Committed
            && let Some(feed) = &self.feed
            && let Some((head, state)) = self.streams.current(&append.stream)
        {
            let epoch = self.streams.identity.epoch;
            feed.write(Change { epoch, stream: append.stream.clone(), seq: head.seq, state });
        }
        appended
    }

    /// Lets up to `count` late appends arrive, oldest first; how many were written.
    pub(super) fn release(&mut self, count: usize) -> usize {
        let count = count.min(self.faults.late.len());
        let arriving: Vec<Late> = self.faults.late.drain(..count).collect();
        arriving.iter().filter(|late| self.arrive(&late.append)).count()
    }

    fn arrive(&mut self, append: &Append) -> bool {
        let learners = self.faults.learners_of_unanswered();
        self.apply(append, learners) == Appended::Committed
    }

    /// Lets the late appends arrive whose time has come, in the order of their times. Whoever asks can tell no difference
    /// from their having arrived in time.
    fn settle_due(&mut self) {
        if self.faults.late.is_empty() {
            return;
        }
        let now = Instant::now();
        let (mut due, waiting): (Vec<Late>, Vec<Late>) =
            self.faults.late.drain(..).partition(|late| late.due.is_some_and(|due| due <= now));
        self.faults.late = waiting;
        due.sort_by_key(|late| late.due);
        for late in &due {
            self.arrive(&late.append);
        }
    }

    /// All replicas have learned everything.
    pub(super) fn learn_all(&mut self) {
        let ids: Vec<StreamId> = self.streams.by_id.keys().cloned().collect();
        for id in ids {
            self.streams.strong(&id, None);
        }
    }

    fn append(&mut self, append: Append) -> Result<Appended, AppendError> {
        self.settle_due();
        if append.cells.is_empty() {
            return Err(AppendError::NotAttempted("an append needs at least one event".to_owned()));
        }
        let unknown = |why: &str| Err(AppendError::Unknown(format!("simulated: {why}")));
        match self.faults.fate() {
            None => Ok(self.apply(&append, QUORUM)),
            Some(AppendFault::NotAttempted) => Err(AppendError::NotAttempted("simulated".to_owned())),
            Some(AppendFault::DiskFull) => Err(AppendError::DiskFull),
            Some(AppendFault::UnknownNotApplied) => unknown("the request was lost"),
            Some(AppendFault::UnknownApplied) => {
                self.arrive(&append);
                unknown("the answer was lost")
            }
            Some(AppendFault::UnknownAppliedLater) => {
                self.faults.late.push(Late { append, due: None });
                unknown("the request is late")
            }
            Some(AppendFault::UnknownAppliedAfter(delay)) => {
                self.faults.late.push(Late { append, due: Instant::now().checked_add(delay) });
                unknown("the request is late")
            }
        }
    }

    fn check_undamaged(&self, stream: &StreamId) -> Result<(), ReadError> {
        if self.faults.damaged.contains(stream) {
            return Err(ReadError::Damaged(format!("simulated damage of stream `{stream}`")));
        }
        Ok(())
    }
}

/// An append on its way to the store. Whoever stops waiting does not stop it: it is late from then on. It never reaches another
/// store that has come in the place of this one.
struct UnderWay<'a> {
    store: &'a MemoryStore,
    /// The name of the store that it was sent to.
    to: String,
    append: Option<Append>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(append) = self.append.take() {
            let mut inner = lock(&self.store.inner);
            if inner.streams.identity.store == self.to {
                let due = inner.faults.abandoned_due();
                inner.faults.late.push(Late { append, due });
            }
        }
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.operate(Operation::Identity, |inner| Ok(inner.streams.identity.clone())).await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        self.operate(Operation::Read, |inner| {
            inner.check_undamaged(stream)?;
            let epoch = inner.streams.identity.epoch;
            let Some(found) = inner.streams.strong(stream, inner.faults.replicas()) else {
                return Ok(StreamRead { epoch, head: Head::default(), state: None, requests: Vec::new() });
            };
            let head = found.head;
            let state = if known == Some(head.seq) { None } else { found.states.get(&head.seq).cloned() };
            let requests = requests.iter().filter_map(|id| found.requests.get(id)).cloned().collect();
            Ok(StreamRead { epoch, head, state, requests })
        })
        .await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let (to, there) = {
            let mut inner = lock(&self.inner);
            (inner.streams.identity.store.clone(), inner.faults.delay())
        };
        let mut under_way = UnderWay { store: self, to, append: Some(append) };
        pause(there).await;
        let (answer, back) = {
            let mut inner = lock(&self.inner);
            let answer = match under_way.append.take() {
                Some(append) => inner.append(append),
                None => Err(AppendError::NotAttempted("nothing to append".to_owned())),
            };
            (answer, inner.faults.delay())
        };
        pause(back).await;
        answer
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        self.operate(Operation::Events, |inner| {
            inner.check_undamaged(stream)?;
            let Some((newest, found)) = inner.streams.weak(stream, QUORUM, inner.faults.replicas()) else {
                return Ok(Vec::new());
            };
            let numbered = (1..=newest).zip(&found.cells).filter(|(seq, _)| *seq > after).take(limit);
            let mut bytes = 0_usize;
            let page = numbered.take_while(|(_, cell)| {
                let goes_on = bytes < inner.faults.events_bytes_max;
                bytes = bytes.saturating_add(cell.len());
                goes_on
            });
            Ok(page.map(|(seq, cell)| EventCell { seq, cell: cell.clone() }).collect())
        })
        .await
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        self.operate(Operation::Requests, |inner| {
            inner.check_undamaged(stream)?;
            let Some((newest, found)) = inner.streams.weak(stream, QUORUM, inner.faults.replicas()) else {
                return Ok(Vec::new());
            };
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = found.requests.range::<RequestId, _>((from, Bound::Unbounded)).map(|(_, row)| row);
            Ok(rows.filter(|row| row.seq <= newest).take(limit).cloned().collect())
        })
        .await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        /// Small, so that tests have several.
        const STREAMS_PER_RANGE: usize = 16;
        self.operate(Operation::ScanRanges, |inner| {
            let keys = inner.streams.by_id.keys().filter(|id| id.kind() == kind);
            let starts = keys.step_by(STREAMS_PER_RANGE).map(|id| Bytes::copy_from_slice(id.key().as_bytes()));
            let starts: Vec<Bytes> = starts.collect();
            let ends = starts.iter().skip(1).cloned().chain([end_of_all()]);
            Ok(starts.iter().cloned().zip(ends).map(|(from, until)| ScanRange { kind, from, until }).collect())
        })
        .await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        let limit = limit.max(1);
        self.operate(Operation::Scan, |inner| {
            let first = std::str::from_utf8(&range.from).ok().and_then(|key| StreamId::from_parts(range.kind, key).ok());
            let first = first.ok_or_else(|| ReadError::Unavailable("a scan range of another store".to_owned()))?;
            let found = inner.streams.by_id.range(first..).map(|(id, _)| id);
            let within = found.take_while(|id| id.kind() == range.kind && id.key().as_bytes() < &range.until[..]);
            let mut ids: Vec<StreamId> = within.take(limit.saturating_add(1)).cloned().collect();
            let rest = (ids.len() > limit).then(|| ids.pop()).flatten();
            let epoch = inner.streams.identity.epoch;
            let asked = if inner.faults.scan_overlaps { QUORUM } else { 1 };
            let mut changes = Vec::with_capacity(ids.len());
            for stream in ids {
                let is_damaged = inner.faults.damaged.contains(&stream);
                let found = inner.streams.weak(&stream, asked, inner.faults.replicas());
                let found = found.and_then(|(seq, found)| Some((seq, found.states.get(&seq)?.clone())));
                changes.extend(found.map(|(seq, state)| {
                    let state = if is_damaged { Bytes::new() } else { state };
                    Change { epoch, stream, seq, state }
                }));
            }
            let rest = rest.map(|id| ScanRange { from: Bytes::copy_from_slice(id.key().as_bytes()), ..range.clone() });
            Ok(ScanPage { changes, rest })
        })
        .await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.operate(Operation::Count, |inner| Ok(inner.streams.by_id.keys().filter(|id| id.kind() == kind).count() as u64)).await
    }

    fn feeds_itself(&self) -> bool {
        self.feeds_itself
    }
}

/// Greater than every key, since keys are ASCII.
fn end_of_all() -> Bytes {
    Bytes::from_static(&[0xff])
}
