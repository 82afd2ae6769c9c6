//! A store that tells of fewer streams than it has: a server that sizes its table by it meets what one meets whose store has grown
//! under it, every shard rehashed to twice its size.

use std::sync::Arc;

use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::EventStore;
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity, StreamRead,
};

/// Tells of that many in a hundred.
#[derive(Debug)]
pub struct Miscounted {
    /// The store.
    pub store: Arc<dyn EventStore>,
    /// How many of a hundred streams are told of.
    pub per_cent: u64,
}

#[tonic::async_trait]
impl EventStore for Miscounted {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.store.identity().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        self.store.read(stream, requests, known).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.store.append(append).await
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        self.store.events(stream, after, limit).await
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        self.store.requests(stream, after, limit).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        self.store.scan_ranges(kind).await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        self.store.scan(range, limit).await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        Ok(self.store.count(kind).await? * self.per_cent / 100)
    }

    fn feeds_itself(&self) -> bool {
        self.store.feeds_itself()
    }
}
