//! Ports that do what those in memory have no switch for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::change_feed::{ChangeFeed, FeedBatch, FeedError, Position, Topic};
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, EventStore, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity, StreamRead,
};
use tessera_ports::memory::{MemoryFeed, MemoryStore};

/// A feed of which one partition cannot be read.
#[derive(Debug, Clone)]
pub(super) struct StandingStill {
    feed: MemoryFeed,
    partition: u32,
    stands_still: Arc<AtomicBool>,
}

impl StandingStill {
    pub(super) fn new(feed: MemoryFeed, partition: u32) -> Self {
        Self { feed, partition, stands_still: Arc::new(AtomicBool::new(true)) }
    }

    pub(super) fn goes_on(&self) {
        self.stands_still.store(false, Ordering::Relaxed);
    }
}

#[async_trait]
impl ChangeFeed for StandingStill {
    async fn topic(&self) -> Result<Topic, FeedError> {
        self.feed.topic().await
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        self.feed.ends().await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        if partition == self.partition && self.stands_still.load(Ordering::Relaxed) {
            return Err(FeedError::Unavailable("it has no leader".to_owned()));
        }
        self.feed.read(topic, partition, from, limit, wait).await
    }
}

/// A store that is the older of two until it hears of the newer.
#[derive(Debug)]
pub(super) struct Moving {
    older: MemoryStore,
    newer: MemoryStore,
    moved: AtomicBool,
}

impl Moving {
    pub(super) fn new(older: MemoryStore, newer: MemoryStore) -> Self {
        Self { older, newer, moved: AtomicBool::new(false) }
    }

    fn now(&self) -> &MemoryStore {
        if self.moved.load(Ordering::Relaxed) { &self.newer } else { &self.older }
    }
}

#[async_trait]
impl EventStore for Moving {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.now().identity().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        self.now().read(stream, requests, known).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.now().append(append).await
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        self.now().events(stream, after, limit).await
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        self.now().requests(stream, after, limit).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        self.now().scan_ranges(kind).await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        self.now().scan(range, limit).await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.now().count(kind).await
    }

    async fn heard_of(&self, newer: &StoreIdentity) {
        if *newer == self.newer.identity_now() {
            self.moved.store(true, Ordering::Relaxed);
        }
    }

    fn feeds_itself(&self) -> bool {
        false
    }
}
