//! Backends that open while the process is already at work: until then they say that they cannot be reached. A process that starts
//! while its backends are down listens, says what it waits for, and goes on by itself when they are there.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::change_feed::{Change, FeedBatch, FeedError, Heartbeat, Position, Topic};
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, Question, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity, StreamRead,
};
use tessera_ports::hint_store::Hint;
use tessera_ports::{ChangeFeed, ChangePublisher, EventPublisher, EventStore, HintStore, LeaseStore, PublicEvent, Shard};

use crate::Ports;

const NOT_YET: &str = "it has not been opened yet";

/// What is open once it could be opened.
#[derive(Debug)]
struct Slot<T> {
    open: OnceLock<T>,
    /// Why it could not be opened when that was tried last.
    reason: Mutex<Option<String>>,
}

impl<T> Slot<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { open: OnceLock::new(), reason: Mutex::new(None) })
    }

    /// Whether it is for another reason than before.
    fn refused(&self, reason: &str) -> bool {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.replace(reason.to_owned()).is_none_or(|before| before != reason)
    }

    /// Those of the open one, or why it is not open.
    fn problems(&self, open: impl Fn(&T) -> Vec<String>) -> Vec<String> {
        let reason = || self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.open.get().map_or_else(|| vec![reason().unwrap_or_else(|| NOT_YET.to_owned())], open)
    }
}

/// The ports of a store.
#[derive(Debug, Clone)]
pub(crate) struct StorePorts {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) hints: Arc<dyn HintStore>,
    pub(crate) leases: Arc<dyn LeaseStore>,
}

/// The ports of a feed.
#[derive(Debug, Clone)]
pub(crate) struct FeedPorts {
    pub(crate) feed: Arc<dyn ChangeFeed>,
    pub(crate) publisher: Arc<dyn ChangePublisher>,
    /// `None` where nobody is told of events.
    pub(crate) events: Option<Arc<dyn EventPublisher>>,
}

/// A store that opens in time. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct LateStore {
    slot: Arc<Slot<StorePorts>>,
    /// Known before it is open.
    feeds_itself: bool,
}

/// A feed that opens in time. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct LateFeed(Arc<Slot<FeedPorts>>);

/// What opens in time.
pub(crate) trait Late: Clone {
    type Ports;

    /// From now on every call goes through. Said once: a second word would be a second set of backends, and the first stays.
    fn opened(&self, ports: Self::Ports);

    /// It could not be opened; whether it is for another reason than before.
    fn refused(&self, reason: &str) -> bool;
}

impl Late for LateStore {
    type Ports = StorePorts;

    fn opened(&self, ports: StorePorts) {
        drop(self.slot.open.set(ports));
    }

    fn refused(&self, reason: &str) -> bool {
        self.slot.refused(reason)
    }
}

impl Late for LateFeed {
    type Ports = FeedPorts;

    fn opened(&self, ports: FeedPorts) {
        drop(self.0.open.set(ports));
    }

    fn refused(&self, reason: &str) -> bool {
        self.0.refused(reason)
    }
}

/// All ports, none of which is open yet; whether others are told of events is known before.
pub(crate) fn ports(store: &LateStore, feed: &LateFeed, tells_events: bool) -> Ports {
    Ports {
        store: Arc::new(store.clone()),
        feed: Arc::new(feed.clone()),
        publisher: Arc::new(feed.clone()),
        events: tells_events.then(|| Arc::new(feed.clone()) as Arc<dyn EventPublisher>),
        hints: Arc::new(store.clone()),
        leases: Arc::new(store.clone()),
    }
}

impl LateStore {
    /// Not open yet.
    pub(crate) fn new(feeds_itself: bool) -> Self {
        Self { slot: Slot::new(), feeds_itself }
    }

    fn ports(&self) -> Option<&StorePorts> {
        self.slot.open.get()
    }

    fn store(&self) -> Result<&StorePorts, ReadError> {
        self.ports().ok_or_else(|| ReadError::Unavailable(NOT_YET.to_owned()))
    }
}

impl LateFeed {
    /// Not open yet.
    pub(crate) fn new() -> Self {
        Self(Slot::new())
    }

    fn feed(&self) -> Result<&FeedPorts, FeedError> {
        self.0.open.get().ok_or_else(|| FeedError::Unavailable(NOT_YET.to_owned()))
    }
}

#[async_trait]
impl EventStore for LateStore {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.store()?.store.identity().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        self.store()?.store.read(stream, requests, known).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        match self.ports() {
            Some(ports) => ports.store.append(append).await,
            None => Err(AppendError::NotAttempted(NOT_YET.to_owned())),
        }
    }

    async fn read_many(&self, questions: Vec<Question>) -> Vec<Result<StreamRead, ReadError>> {
        match self.store() {
            Ok(ports) => ports.store.read_many(questions).await,
            Err(error) => questions.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn append_many(&self, appends: &[Arc<Append>]) -> Vec<Result<Appended, AppendError>> {
        match self.ports() {
            Some(ports) => ports.store.append_many(appends).await,
            None => appends.iter().map(|_| Err(AppendError::NotAttempted(NOT_YET.to_owned()))).collect(),
        }
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        self.store()?.store.events(stream, after, limit).await
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        self.store()?.store.requests(stream, after, limit).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        self.store()?.store.scan_ranges(kind).await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        self.store()?.store.scan(range, limit).await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.store()?.store.count(kind).await
    }

    async fn heard_of(&self, newer: &StoreIdentity) {
        if let Some(ports) = self.ports() {
            ports.store.heard_of(newer).await;
        }
    }

    fn problems(&self) -> Vec<String> {
        self.slot.problems(|ports| ports.store.problems())
    }

    fn feeds_itself(&self) -> bool {
        self.feeds_itself
    }
}

#[async_trait]
impl ChangeFeed for LateFeed {
    async fn topic(&self) -> Result<Topic, FeedError> {
        self.feed()?.feed.topic().await
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        self.feed()?.feed.ends().await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        self.feed()?.feed.read(topic, partition, from, limit, wait).await
    }

    fn problems(&self) -> Vec<String> {
        self.0.problems(|ports| ports.feed.problems())
    }
}

#[async_trait]
impl ChangePublisher for LateFeed {
    async fn publish(&self, changes: &[Change]) -> Result<(), FeedError> {
        self.feed()?.publisher.publish(changes).await
    }

    async fn partitions(&self) -> Result<u32, FeedError> {
        self.feed()?.publisher.partitions().await
    }

    async fn beat(&self, partitions: &[u32], heartbeat: &Heartbeat) -> Result<(), FeedError> {
        self.feed()?.publisher.beat(partitions, heartbeat).await
    }

    fn problems(&self) -> Vec<String> {
        self.0.problems(|ports| ports.publisher.problems())
    }
}

#[async_trait]
impl EventPublisher for LateFeed {
    async fn publish(&self, events: &[PublicEvent]) -> Result<(), FeedError> {
        match &self.feed()?.events {
            Some(publisher) => publisher.publish(events).await,
            None => Err(FeedError::Unavailable("nobody is told of events".to_owned())),
        }
    }

    /// While it is not open, the feed says why.
    fn problems(&self) -> Vec<String> {
        let events = self.0.open.get().and_then(|ports| ports.events.as_ref());
        events.map(|events| events.problems()).unwrap_or_default()
    }
}

#[async_trait]
impl HintStore for LateStore {
    async fn put(&self, hint: &Hint) -> Result<(), ReadError> {
        self.store()?.hints.put(hint).await
    }

    async fn erase(&self, hint: &Hint) -> Result<(), ReadError> {
        self.store()?.hints.erase(hint).await
    }

    async fn list(&self, shards: &[Shard], limit: usize) -> Result<Vec<Hint>, ReadError> {
        self.store()?.hints.list(shards, limit).await
    }
}

#[async_trait]
impl LeaseStore for LateStore {
    async fn renew(&self, owner: &str, time: Duration) -> Result<Vec<String>, ReadError> {
        self.store()?.leases.renew(owner, time).await
    }
}
