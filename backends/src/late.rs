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
use tessera_ports::{ChangeFeed, ChangePublisher, EventStore, HintStore, LeaseStore, Shard};

use crate::Ports;

const NOT_YET: &str = "it has not been opened yet";

/// The ports once they are open. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Late(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ports: OnceLock<Ports>,
    /// Known before they are open.
    feeds_itself: bool,
    /// Why they could not be opened when that was tried last.
    reason: Mutex<Option<String>>,
}

impl Late {
    /// Not open yet.
    pub(crate) fn new(feeds_itself: bool) -> Self {
        Self(Arc::new(Inner { ports: OnceLock::new(), feeds_itself, reason: Mutex::new(None) }))
    }

    /// From now on every call goes through. Said once.
    pub(crate) fn opened(&self, ports: Ports) {
        // A second word would be a second set of backends: the first stays.
        drop(self.0.ports.set(ports));
    }

    /// They could not be opened; whether it is for another reason than before.
    pub(crate) fn refused(&self, reason: &str) -> bool {
        let mut known = self.0.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.replace(reason.to_owned()).is_none_or(|before| before != reason)
    }

    /// All ports, each of which is this.
    pub(crate) fn ports(&self) -> Ports {
        Ports {
            store: Arc::new(self.clone()),
            feed: Arc::new(self.clone()),
            publisher: Arc::new(self.clone()),
            hints: Arc::new(self.clone()),
            leases: Arc::new(self.clone()),
        }
    }

    fn store(&self) -> Result<&Ports, ReadError> {
        self.0.ports.get().ok_or_else(|| ReadError::Unavailable(NOT_YET.to_owned()))
    }

    /// Those of the open ones, or why they are not open.
    fn problems_of(&self, open: impl Fn(&Ports) -> Vec<String>) -> Vec<String> {
        let reason = || self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.ports.get().map_or_else(|| vec![reason().unwrap_or_else(|| NOT_YET.to_owned())], open)
    }

    fn feed(&self) -> Result<&Ports, FeedError> {
        self.0.ports.get().ok_or_else(|| FeedError::Unavailable(NOT_YET.to_owned()))
    }
}

#[async_trait]
impl EventStore for Late {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.store()?.store.identity().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        self.store()?.store.read(stream, requests, known).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        match self.0.ports.get() {
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
        match self.0.ports.get() {
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
        if let Some(ports) = self.0.ports.get() {
            ports.store.heard_of(newer).await;
        }
    }

    fn problems(&self) -> Vec<String> {
        self.problems_of(|ports| ports.store.problems())
    }

    fn feeds_itself(&self) -> bool {
        self.0.feeds_itself
    }
}

#[async_trait]
impl ChangeFeed for Late {
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
        self.problems_of(|ports| ports.feed.problems())
    }
}

#[async_trait]
impl ChangePublisher for Late {
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
        self.problems_of(|ports| ports.publisher.problems())
    }
}

#[async_trait]
impl HintStore for Late {
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
impl LeaseStore for Late {
    async fn renew(&self, owner: &str, time: Duration) -> Result<Vec<String>, ReadError> {
        self.store()?.leases.renew(owner, time).await
    }
}
