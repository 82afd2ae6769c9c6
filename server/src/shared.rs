//! What requests and the follower share: the matrix that is served, whether it may be, and how old it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard as Loaded};
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tessera_ports::event_store::StoreIdentity;
use tokio::sync::{mpsc, watch};

use crate::decision_log::DecisionLog;
use crate::evaluation_time::EvaluationClock;
use crate::hub::Hub;
use crate::matrix::Matrix;
use crate::metric_definitions::{Metrics, approximate};

/// Shared by everything in the data plane of one process.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) evaluation: EvaluationClock,
    pub(crate) metrics: Metrics,
    pub(crate) decision_log: DecisionLog,
    pub(crate) hub: Arc<Hub>,
    /// Replaced whole: by a matrix of a newer epoch, or a snapshot's by one of another store in the same.
    matrix: ArcSwap<Matrix>,
    ready: watch::Sender<bool>,
    /// Whether a snapshot is served whose store has not been caught up with.
    unproven: AtomicBool,
    /// The newest heartbeat of the worst partition, in ms since 1970, plus 1; 0 when none ever came.
    heartbeat: AtomicU64,
    wishes: mpsc::Sender<StreamId>,
}

impl Shared {
    pub(crate) fn new(clock: Arc<dyn Clock>, wishes: mpsc::Sender<StreamId>, decision_log: DecisionLog) -> Self {
        let hub = Arc::new(Hub::default());
        Self {
            evaluation: EvaluationClock::new(Arc::clone(&clock)),
            clock,
            metrics: Metrics::new(),
            decision_log,
            matrix: ArcSwap::from_pointee(Matrix::new(0, "", 0, Arc::clone(&hub))),
            hub,
            ready: watch::Sender::new(false),
            unproven: AtomicBool::new(false),
            heartbeat: AtomicU64::new(0),
            wishes,
        }
    }

    /// The matrix that is served. Load it once per request and answer the request from it alone.
    pub(crate) fn matrix(&self) -> Loaded<Arc<Matrix>> {
        self.matrix.load()
    }

    /// Whether there is a hydrated matrix; never turns false again.
    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Changes once: when it becomes ready.
    pub(crate) fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// An empty matrix with room for that many tenants.
    pub(crate) fn new_matrix(&self, identity: &StoreIdentity, tenants: u64) -> Arc<Matrix> {
        Arc::new(Matrix::new(identity.epoch, &identity.store, tenants, Arc::clone(&self.hub)))
    }

    /// Serves this matrix from now on.
    pub(crate) fn serve(&self, matrix: &Arc<Matrix>) {
        matrix.begin_serving();
        let before = self.matrix.swap(Arc::clone(matrix));
        if !Arc::ptr_eq(&before, matrix) {
            self.metrics.epoch.set(approximate(matrix.epoch()));
            before.waiters().wake_all();
            self.hub.everything_replaced();
        }
        self.metrics.ready.set(1.0);
        self.ready.send_replace(true);
    }

    /// Whether what is served is a snapshot whose store has not been caught up with since.
    pub(crate) fn is_unproven(&self) -> bool {
        self.unproven.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unproven(&self, unproven: bool) {
        self.unproven.store(unproven, Ordering::Relaxed);
        self.metrics.snapshot_served.set(f64::from(u8::from(unproven)));
    }

    pub(crate) fn set_heartbeat(&self, worst: Option<Timestamp>) {
        let stored = worst.map_or(0, |at| milliseconds(at).saturating_add(1));
        self.heartbeat.store(stored, Ordering::Relaxed);
    }

    /// How far the matrix may lag behind at `now`, in ms; `None` when no heartbeat ever came on some partition.
    pub(crate) fn staleness_ms(&self, now: Timestamp) -> Option<i64> {
        let newest = self.heartbeat.load(Ordering::Relaxed).checked_sub(1)?;
        i64::try_from(milliseconds(now).saturating_sub(newest)).ok()
    }

    /// Asks the follower to read a stream from the store; it may have too much to do.
    pub(crate) fn wish_for(&self, stream: StreamId) {
        // Full or closed: whoever waits goes on waiting for the feed.
        drop(self.wishes.try_send(stream));
    }

    pub(crate) fn observe(&self) {
        let staleness = self.staleness_ms(self.clock.now()).and_then(|ms| u64::try_from(ms).ok());
        self.metrics.staleness.set(staleness.map_or(f64::NAN, |ms| approximate(ms) / 1_000.0));
    }
}

fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanos() / 1_000_000).unwrap_or(0)
}
