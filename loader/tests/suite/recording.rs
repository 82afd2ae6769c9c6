//! A store that remembers every append it was asked for and when, can show events otherwise than they are or keep them back, and
//! scans as badly as it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::EventStore;
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity, StreamRead,
};
use tessera_ports::memory::MemoryStore;
use tokio::sync::RwLock;
use tokio::time::Instant;

/// What each append was, when it began, and what the store said.
pub(crate) type Attempts = Arc<Mutex<Vec<(Append, Instant, Result<Appended, AppendError>)>>>;

#[derive(Debug, Clone)]
pub(crate) struct RecordingStore {
    pub(crate) inner: MemoryStore,
    pub(crate) attempts: Attempts,
    /// Cells to show in the place of the real ones.
    pub(crate) altered: Arc<Mutex<BTreeMap<(StreamId, Seq), Bytes>>>,
    /// Who writes here keeps back all events.
    pub(crate) events: Arc<RwLock<()>>,
    /// Who writes here keeps back all but those that are asked for one by one.
    pub(crate) history: Arc<RwLock<()>>,
    /// How often others were asked for.
    pub(crate) history_reads: Arc<AtomicUsize>,
    /// How often each stream was read strongly.
    pub(crate) reads: Arc<Mutex<BTreeMap<StreamId, usize>>>,
    /// Streams whose strong reads fail.
    pub(crate) unreadable: Arc<Mutex<BTreeSet<StreamId>>>,
    /// Streams that become so when they are appended to.
    pub(crate) unreadable_after: Arc<Mutex<BTreeSet<StreamId>>>,
    /// Streams that no scan gets past.
    pub(crate) unscannable: Arc<Mutex<BTreeSet<StreamId>>>,
    /// Most states in a page of a scan.
    pub(crate) page_max: Arc<AtomicUsize>,
    /// When pages were scanned.
    pub(crate) scans: Arc<Mutex<Vec<Instant>>>,
}

impl RecordingStore {
    pub(crate) fn new(inner: MemoryStore) -> Self {
        Self {
            inner,
            attempts: Attempts::default(),
            altered: Arc::default(),
            events: Arc::default(),
            history: Arc::default(),
            history_reads: Arc::default(),
            reads: Arc::default(),
            unreadable: Arc::default(),
            unreadable_after: Arc::default(),
            unscannable: Arc::default(),
            page_max: Arc::new(AtomicUsize::new(usize::MAX)),
            scans: Arc::default(),
        }
    }

    pub(crate) fn appends(&self) -> Vec<Append> {
        self.attempts.lock().unwrap().iter().map(|(append, ..)| append.clone()).collect()
    }
}

#[async_trait]
impl EventStore for RecordingStore {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.inner.identity().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        *self.reads.lock().unwrap().entry(stream.clone()).or_default() += 1;
        if self.unreadable.lock().unwrap().contains(stream) {
            return Err(ReadError::Unavailable("told to fail".to_owned()));
        }
        self.inner.read(stream, requests, known).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let begun = Instant::now();
        let answer = self.inner.append(append.clone()).await;
        if self.unreadable_after.lock().unwrap().contains(&append.stream) {
            self.unreadable.lock().unwrap().insert(append.stream.clone());
        }
        self.attempts.lock().unwrap().push((append, begun, answer.clone()));
        answer
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        drop(self.events.read().await);
        if limit > 1 {
            self.history_reads.fetch_add(1, Ordering::Relaxed);
            drop(self.history.read().await);
        }
        let mut cells = self.inner.events(stream, after, limit).await?;
        let altered = self.altered.lock().unwrap();
        for cell in &mut cells {
            if let Some(shown) = altered.get(&(stream.clone(), cell.seq)) {
                cell.cell = shown.clone();
            }
        }
        Ok(cells)
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        self.inner.requests(stream, after, limit).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        self.inner.scan_ranges(kind).await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        self.scans.lock().unwrap().push(Instant::now());
        let page = self.inner.scan(range, limit.min(self.page_max.load(Ordering::Relaxed))).await?;
        let unscannable = self.unscannable.lock().unwrap();
        match page.changes.iter().find(|change| unscannable.contains(&change.stream)) {
            Some(change) => Err(ReadError::Unavailable(format!("told to fail at `{}`", change.stream))),
            None => Ok(page),
        }
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.inner.count(kind).await
    }

    fn feeds_itself(&self) -> bool {
        self.inner.feeds_itself()
    }
}
