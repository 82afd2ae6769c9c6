//! Backends that open while a snapshot is loaded, and again and again when they cannot be opened: store and feed that say they
//! cannot be reached until then. A server that has a snapshot starts without them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::change_feed::{FeedBatch, FeedError, Position, Topic};
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, ReadError, ScanPage, ScanRange, StoreIdentity, StreamRead,
};
use tessera_ports::{ChangeFeed, EventStore};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Opened;

/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const NOT_YET: &str = "it has not been opened yet";

/// Store and feed once they are open.
#[derive(Debug, Clone, Default)]
pub(super) struct Late(Arc<OnceLock<Open>>);

/// Store and feed.
type Open = (Arc<dyn EventStore>, Arc<dyn ChangeFeed>);

impl Late {
    /// Opens them, however often it has to be tried, and then waits until they cannot be relied on any more; returns why.
    pub(super) async fn open(self, open: impl Fn() -> anyhow::Result<Opened> + Send + Sync + 'static) -> String {
        let open = Arc::new(open);
        let mut said = String::new();
        loop {
            let (attempt, (sender, opened)) = (Arc::clone(&open), oneshot::channel());
            // A thread that the end of the process does not wait for: to open a big database takes seconds, and breaking off is safe.
            std::thread::spawn(move || drop(sender.send(attempt())));
            match opened.await.map_err(anyhow::Error::from).and_then(|opened| opened) {
                Ok(Opened { store, feed, fatal }) => {
                    // Nobody else sets it.
                    drop(self.0.set((store, feed)));
                    info!("the backends are open");
                    return fatal.await;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    if error != said {
                        warn!(error, "the backends cannot be opened; trying again, and starting from a snapshot meanwhile");
                        said = error;
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    fn store(&self) -> Result<&dyn EventStore, ReadError> {
        self.0.get().map(|(store, _)| &**store).ok_or_else(|| ReadError::Unavailable(NOT_YET.to_owned()))
    }

    fn feed(&self) -> Result<&dyn ChangeFeed, FeedError> {
        self.0.get().map(|(_, feed)| &**feed).ok_or_else(|| FeedError::Unavailable(NOT_YET.to_owned()))
    }
}

#[async_trait]
impl EventStore for Late {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.store()?.identity().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        self.store()?.read(stream, requests, known).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        match self.store() {
            Ok(store) => store.append(append).await,
            Err(_) => Err(AppendError::NotAttempted(NOT_YET.to_owned())),
        }
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        self.store()?.events(stream, after, limit).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        self.store()?.scan_ranges(kind).await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        self.store()?.scan(range, limit).await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.store()?.count(kind).await
    }

    fn feeds_itself(&self) -> bool {
        self.store().is_ok_and(EventStore::feeds_itself)
    }
}

#[async_trait]
impl ChangeFeed for Late {
    async fn topic(&self) -> Result<Topic, FeedError> {
        self.feed()?.topic().await
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        self.feed()?.ends().await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        self.feed()?.read(topic, partition, from, limit, wait).await
    }
}
