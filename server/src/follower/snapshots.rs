//! Writing snapshots: one at a time, every so often, never while anything is being hydrated. Rows are copied and written by a
//! thread of their own; only what the writer of the matrix knows is noted here, before the first row and after the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_core::time::Timestamp;
use tessera_ports::hooks::{self, Guard};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::session::{Generation, Session};
use super::{Event, Follower};
use crate::metric_definitions::approximate;
use crate::snapshot::folder::SnapshotFolder;
use crate::snapshot::write::{Beginning, Draft, Ending, Written};
use crate::snapshot::{Origin, Standing};

/// A store that had to be read whole is soon put into a file, so that a process that ends early need not do it again.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    generation: Generation,
    at: Timestamp,
    began: Instant,
}

/// Tells a thread that nobody waits for it any more.
#[derive(Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Follower {
    /// The live matrix has become whole: from now on snapshots are written.
    pub(super) fn snapshots_may_begin(&mut self, came_from_snapshot: bool) {
        if self.snapshots.is_none() || std::mem::replace(&mut self.snapshots_are_due, true) {
            return;
        }
        let interval = self.config.snapshot_interval();
        let first = if came_from_snapshot { interval } else { interval.min(FIRST_PAUSE) };
        self.later(first, Event::SnapshotDue);
    }

    pub(super) fn snapshot_due(&mut self) {
        self.later(self.config.snapshot_interval(), Event::SnapshotDue);
        let Some((folder, session)) = self.snapshots.clone().zip(self.live.as_ref()) else { return };
        if self.writing.is_some() || self.is_hydrating() {
            debug!("no snapshot is written now");
            return;
        }
        let (generation, at) = (session.generation, self.shared.clock.now());
        let noted_first = hooks::holds(Guard::SnapshotPositionsFirst);
        let beginning = Beginning {
            matrix: Arc::clone(session.writer.matrix()),
            origin: session.origin(),
            standing: noted_first.then(|| session.standing(at)),
            parked: if hooks::holds(Guard::SnapshotKeepsParked) { session.writer.parked_changes() } else { Vec::new() },
            bad: session.writer.bad_streams(),
        };
        // Without the guard: noted before the rows that may need newer ones.
        let early = (!hooks::holds(Guard::SnapshotTablesLast)).then(|| session.writer.table_changes());
        self.writing = Some(UnderWay { generation, at, began: Instant::now() });
        let stop = Stop::default();
        self.errand(async move { Event::SnapshotRows(copy(folder, beginning, stop).await.map(Box::new), early) });
    }

    /// Whether any matrix is being hydrated.
    fn is_hydrating(&self) -> bool {
        let hydrating = [&self.live, &self.beside].into_iter().flatten().any(|session| session.hydration.is_some());
        hydrating && hooks::holds(Guard::SnapshotNotWhileHydrating)
    }

    /// The rows are in the file: now the tables, which are new enough for all of them.
    pub(super) fn snapshot_rows(&mut self, draft: std::io::Result<Box<Draft>>, early: Option<Vec<tessera_ports::Change>>) {
        let draft = match draft {
            Ok(draft) => draft,
            Err(error) => return self.snapshot_written(Err(error)),
        };
        let Some(under_way) = &self.writing else { return };
        let another = |session: &Session| session.generation != under_way.generation;
        let void = self.is_hydrating() || self.live.as_ref().is_none_or(another);
        let Some(session) = self.live.as_ref().filter(|_| !void || !hooks::holds(Guard::SnapshotNotWhileHydrating)) else {
            self.writing = None;
            self.shared.metrics.snapshots_abandoned.increment(1);
            info!("a snapshot is abandoned: the matrix is hydrated again");
            return;
        };
        let standing = (!hooks::holds(Guard::SnapshotPositionsFirst)).then(|| session.standing(under_way.at));
        let ending = Ending { tables: early.unwrap_or_else(|| session.writer.table_changes()), standing };
        let slow = self.snapshots.as_ref().is_some_and(|folder| folder.pause().is_none());
        self.errand(async move {
            if !slow {
                return Event::SnapshotWritten(draft.finish(&ending));
            }
            let finishing = tokio::task::spawn_blocking(move || draft.finish(&ending));
            Event::SnapshotWritten(finishing.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost))))
        });
    }

    pub(super) fn snapshot_written(&mut self, written: std::io::Result<Written>) {
        let Some(UnderWay { at, began, .. }) = self.writing.take() else { return };
        let metrics = &self.shared.metrics;
        match written {
            Ok(Written { bytes, rows }) => {
                let seconds = began.elapsed().as_secs_f64();
                info!(bytes, rows, seconds, "a snapshot is written");
                metrics.snapshots_written.increment(1);
                metrics.snapshot_bytes.set(approximate(bytes));
                metrics.snapshot_seconds.set(seconds);
                self.newest_snapshot = Some(at);
            }
            Err(error) => {
                metrics.snapshots_failed.increment(1);
                warn!(%error, "a snapshot cannot be written; the ones before stay");
            }
        }
    }

    /// Brings the age of the newest snapshot up to date for the metrics.
    pub(super) fn observe_snapshot(&self) {
        let age = self.newest_snapshot.map(|at| self.shared.clock.now().saturating_since(at).as_secs_f64());
        self.shared.metrics.snapshot_age.set(age.unwrap_or(f64::NAN));
    }
}

/// Begins the file and copies all rows into it.
async fn copy(folder: Arc<dyn SnapshotFolder>, beginning: Beginning, stop: Stop) -> std::io::Result<Draft> {
    if let Some(pause) = folder.pause() {
        let mut draft = Draft::begin(&*folder, beginning)?;
        while draft.step()? {
            tokio::time::sleep(pause).await;
        }
        return Ok(draft);
    }
    let stopped = Arc::clone(&stop.0);
    let copying = tokio::task::spawn_blocking(move || {
        let mut draft = Draft::begin(&*folder, beginning)?;
        while draft.step()? {
            if stopped.load(Ordering::Relaxed) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
        }
        Ok(draft)
    });
    let copied = copying.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
    drop(stop);
    copied
}

impl Session {
    fn origin(&self) -> Origin {
        let matrix = self.writer.matrix();
        let tenants = self.writer.digest().count(StreamKind::Tenant);
        Origin { store: matrix.store().to_owned(), epoch: matrix.epoch(), topic: self.topic.clone(), tenants }
    }

    fn standing(&self, at: Timestamp) -> Standing {
        let lag = self.writer.lag();
        let heartbeats = self.heartbeats.iter().map(|heartbeat| lag.min(*heartbeat)).collect();
        Standing { at, positions: self.positions.clone(), heartbeats }
    }
}
