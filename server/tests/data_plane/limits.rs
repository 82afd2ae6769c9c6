//! How much is asked of the store at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, EventStore, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity, StreamRead,
};
use tessera_server::{Config, Dependencies};
use tonic::Code;

use crate::bench::{Bench, check_at_least, refused, revision_of, without_scan};
use crate::universe::tenant_stream;

#[tokio::test(start_paused = true)]
async fn no_more_streams_are_fetched_at_once_than_allowed() {
    let reads = Arc::<UnderWay>::default();
    let config = Config { fetches_at_once_max: 2, ..without_scan() };
    let counted = |own: Dependencies| {
        let store = Counted { store: own.store, reads: Arc::clone(&reads), scans: Arc::default() };
        Dependencies { store: Arc::new(store), ..own }
    };
    let bench = Bench::started(config, 0, counted);
    bench.handle.loaded().await;
    let answers = (0..10).map(|n| {
        let tenant = format!("t{n}");
        bench.ask(check_at_least(&tenant, revision_of(&[(&tenant_stream(&tenant), 99)])))
    });
    for answer in futures::future::join_all(answers).await {
        assert_eq!(refused(answer), (Code::Unavailable, "REVISION_NOT_REACHED".to_owned()));
    }
    assert_eq!(reads.most(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_ranges_are_hydrated_at_once_than_allowed() {
    for at_once in [1, 3] {
        let scans = Arc::<UnderWay>::default();
        let config = Config { hydration_ranges_at_once: at_once, ..without_scan() };
        let counted = |own: Dependencies| {
            let store = Counted { store: own.store, reads: Arc::default(), scans: Arc::clone(&scans) };
            Dependencies { store: Arc::new(store), ..own }
        };
        // They are in more ranges than that.
        let bench = Bench::started(config, 100, counted);
        bench.handle.loaded().await;
        assert_eq!(bench.handle.digest(), bench.stored_digest().await);
        assert_eq!(scans.most(), at_once);
    }
}

/// What is under way, and how much of it was at most.
#[derive(Debug, Default)]
struct UnderWay {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl UnderWay {
    /// Takes its time, so that others can begin meanwhile.
    async fn count<T>(&self, work: impl Future<Output = T>) -> T {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let done = work.await;
        self.now.fetch_sub(1, Ordering::Relaxed);
        done
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// A store whose reads and scans are counted.
#[derive(Debug)]
struct Counted {
    store: Arc<dyn EventStore>,
    reads: Arc<UnderWay>,
    scans: Arc<UnderWay>,
}

#[async_trait]
impl EventStore for Counted {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.store.identity().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        self.reads.count(self.store.read(stream, requests, known)).await
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
        self.scans.count(self.store.scan(range, limit)).await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.store.count(kind).await
    }

    fn feeds_itself(&self) -> bool {
        self.store.feeds_itself()
    }
}
