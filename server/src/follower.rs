//! Keeps the matrix equal to the store: hydrates it, follows the feed, scans for ever, fetches what is missing.
//!
//! One task owns everything here and is the one writer of every matrix. Whatever waits (a read of the feed, a page of a scan, a
//! fetch, a pause) is a future among its errands that ends in an [`Event`]; handling an event never waits. A matrix that is being
//! filled and everything about it is a [`Session`]: there is the live one and, after a restore, one beside it.
//!
//! - `follower/session.rs`: a matrix, its positions and its heartbeats;
//! - `follower/hydration.rs`: the way to being ready;
//! - `follower/tail.rs`: the feed;
//! - `follower/scan.rs`: the scan that never stops;
//! - `follower/fetch.rs`: reads of single streams;
//! - `follower/start.rs`: starting from a snapshot;
//! - `follower/snapshots.rs`: writing snapshots.

mod fetch;
mod hydration;
mod scan;
mod session;
mod snapshots;
mod start;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tessera_core::stream::{Epoch, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::Change;
use tessera_ports::change_feed::{ChangeFeed, FeedBatch, FeedError};
use tessera_ports::event_store::{EventStore, ReadError, ScanPage, ScanRange, StoreIdentity, StreamRead};
use tessera_ports::hooks::{self, Guard};
use tessera_runtime::lifecycle::Tasks;
use tokio::sync::mpsc;
use tracing::debug;

use crate::Config;
use crate::matrix::early::Early;
use crate::matrix::writer::Applied;
use crate::metric_definitions::Source;
use crate::shared::Shared;
use crate::snapshot::folder::SnapshotFolder;
use crate::snapshot::load::Loaded;
use crate::snapshot::write::{Draft, Written};
use session::{Generation, Session};
use snapshots::UnderWay;
use start::Start;

/// Pause before a failed read is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often staleness and counts are brought up to date for the metrics.
const OBSERVE_PAUSE: Duration = Duration::from_secs(1);

/// What came of an errand. Those of a generation that is over are dropped.
#[derive(Debug)]
enum Event {
    /// Where the feed ends and which store this is: a hydration can begin.
    Begun(Box<hydration::Beginning>),
    /// Which store this is; where the feed ends cannot be had yet.
    StoreAlone(Generation, StoreIdentity),
    /// Ranges of the kind that hydration comes to next.
    Ranges(Generation, Vec<ScanRange>),
    /// A page of a hydrating scan, and what was made of its changes.
    HydrationPage(Generation, Page, Vec<Early>),
    /// The store's epoch and the feed after the scan.
    EndsAfter(Generation, hydration::AfterScan),
    /// Parked rows have been waited for long enough.
    ParkedLongEnough(Generation),
    /// Records of a partition.
    Tail(Generation, u32, Result<FeedBatch, FeedError>),
    /// The ranges of the next lap.
    Lap(Generation, Vec<ScanRange>),
    /// A page of the lap.
    LapPage(Generation, Page),
    /// Something has been missing for a while.
    FetchDue(Generation, StreamId),
    /// A stream was read.
    Fetched(Generation, StreamId, Result<StreamRead, ReadError>),
    /// The store has been told of a newer one, of this epoch.
    Told(Epoch),
    /// A snapshot was loaded, or none that could be used was found.
    Loaded(Option<Box<Loaded>>),
    /// Store and feed have been waited for; how much had come of them before.
    StartWaited(u64),
    /// Time to write a snapshot.
    SnapshotDue,
    /// All rows are in it; and the tables, if they were noted too early.
    SnapshotRows(std::io::Result<Box<Draft>>, Option<Vec<tessera_ports::Change>>),
    /// It is written, or is not.
    SnapshotWritten(std::io::Result<Written>),
    /// Time to look after the metrics.
    Observe,
}

/// A page that was read, or why not, and the range it came from.
#[derive(Debug)]
struct Page {
    range: ScanRange,
    result: Result<ScanPage, ReadError>,
}

/// Why a hydration begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The process starts.
    Start,
    /// A position is not in the feed.
    OutOfRange,
    /// Somebody spoke of a newer epoch: nothing to do unless the store is in it.
    Epoch,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::OutOfRange => "out_of_range",
            Self::Epoch => "epoch",
        }
    }
}

type Errand = BoxFuture<'static, Event>;

/// The follower, before it runs.
#[derive(Debug)]
pub(crate) struct Follower {
    store: Arc<dyn EventStore>,
    feed: Arc<dyn ChangeFeed>,
    config: Arc<Config>,
    shared: Arc<Shared>,
    tasks: Tasks,
    wishes: mpsc::Receiver<StreamId>,
    /// Whether the store is being told of a newer one.
    telling: bool,
    errands: FuturesUnordered<Errand>,
    live: Option<Session>,
    beside: Option<Session>,
    /// The hydration whose beginning is being read, and why.
    beginning: Option<(Generation, Cause)>,
    generations: u64,
    seed: u64,
    /// Where snapshots are; `None`: nowhere.
    snapshots: Option<Arc<dyn SnapshotFolder>>,
    start: Start,
    /// Whether snapshots are written every so often.
    snapshots_are_due: bool,
    writing: Option<UnderWay>,
    /// As of when the newest one is.
    newest_snapshot: Option<Timestamp>,
}

impl Follower {
    /// `wishes` are streams that readers want to be read from the store; `tasks` take what is worth another thread.
    pub(crate) fn new(
        store: Arc<dyn EventStore>,
        feed: Arc<dyn ChangeFeed>,
        config: Arc<Config>,
        shared: Arc<Shared>,
        tasks: Tasks,
        wishes: mpsc::Receiver<StreamId>,
    ) -> Self {
        // Servers shuffle differently because they start at different times; a test repeats itself.
        let seed = shared.clock.now().as_nanos().to_le_bytes();
        let seed = u64::from_le_bytes(seed.first_chunk().copied().unwrap_or_default()) | 1;
        Self {
            store,
            feed,
            config,
            shared,
            tasks,
            wishes,
            telling: false,
            errands: FuturesUnordered::new(),
            live: None,
            beside: None,
            beginning: None,
            generations: 0,
            seed,
            snapshots: None,
            start: Start::new(),
            snapshots_are_due: false,
            writing: None,
            newest_snapshot: None,
        }
    }

    /// From now on it starts from a snapshot, if there is one, and writes them.
    pub(crate) fn keep_snapshots(&mut self, folder: Arc<dyn SnapshotFolder>) {
        self.snapshots = Some(folder).filter(|_| self.config.snapshots);
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        self.start();
        self.later(OBSERVE_PAUSE, Event::Observe);
        let mut readers_are_gone = false;
        loop {
            let event = tokio::select! {
                biased;
                event = self.errands.next() => event,
                wish = self.wishes.recv(), if !readers_are_gone => {
                    match wish {
                        Some(stream) => self.fetch_now(stream),
                        None => readers_are_gone = true,
                    }
                    continue;
                }
            };
            if let Some(event) = event {
                self.handle(event);
            }
            // However much there is to do, readers are heard.
            if let Ok(stream) = self.wishes.try_recv() {
                self.fetch_now(stream);
            }
            // Errands of an in-memory backend may always be ready: others want the thread, too.
            tokio::task::yield_now().await;
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Begun(beginning) => self.begun(*beginning),
            Event::StoreAlone(generation, identity) => self.store_alone(generation, &identity),
            Event::Ranges(generation, ranges) => self.hydration_ranges(generation, ranges),
            Event::HydrationPage(generation, page, early) => self.hydration_page(generation, page, early),
            Event::EndsAfter(generation, after) => self.ends_after(generation, after),
            Event::ParkedLongEnough(generation) => self.parked_long_enough(generation),
            Event::Tail(generation, partition, result) => self.tailed(generation, partition, result),
            Event::Lap(generation, ranges) => self.lap_begins(generation, ranges),
            Event::LapPage(generation, page) => self.lap_page(generation, page),
            Event::FetchDue(generation, stream) => self.fetch_due(generation, stream),
            Event::Fetched(generation, stream, result) => self.fetched(generation, stream, result),
            Event::Told(epoch) => {
                self.telling = false;
                self.newer_epoch(epoch);
            }
            Event::Loaded(loaded) => self.loaded(loaded),
            Event::StartWaited(before) => self.start_waited(before),
            Event::SnapshotDue => self.snapshot_due(),
            Event::SnapshotRows(draft, early) => self.snapshot_rows(draft, early),
            Event::SnapshotWritten(written) => self.snapshot_written(written),
            Event::Observe => {
                self.observe();
                self.later(OBSERVE_PAUSE, Event::Observe);
            }
        }
    }

    fn errand(&self, errand: impl Future<Output = Event> + Send + 'static) {
        self.errands.push(Box::pin(errand));
    }

    fn later(&self, pause: Duration, event: Event) {
        self.errand(async move {
            tokio::time::sleep(pause).await;
            event
        });
    }

    fn next_generation(&mut self) -> Generation {
        self.generations = self.generations.saturating_add(1);
        Generation(self.generations)
    }

    /// The session of that generation, unless it is over.
    fn session(&mut self, generation: Generation) -> Option<&mut Session> {
        [&mut self.live, &mut self.beside].into_iter().flatten().find(|session| session.generation == generation)
    }

    /// Applies changes to the session's matrix and looks after what came of them.
    fn apply(&mut self, generation: Generation, changes: &[Change], source: Source) {
        self.apply_prepared(generation, changes.iter().map(|change| (change, Early::only_checksum(change))), source);
    }

    /// As [`Self::apply`], with what was made of each change elsewhere.
    fn apply_prepared<'a>(&mut self, generation: Generation, changes: impl Iterator<Item = (&'a Change, Early)>, source: Source) {
        let mut newer: Option<Epoch> = None;
        let Some(session) = self.session(generation) else { return };
        for (change, early) in changes {
            if session.writer.apply(change, early, source) == Applied::NewerEpoch {
                newer = newer.max(Some(change.epoch));
            }
        }
        session.writer.finish();
        let missing = session.writer.take_newly_missing();
        // Something may have been waited for until now.
        self.tell_age(generation);
        for stream in missing {
            self.due_later(generation, stream);
        }
        if let Some(epoch) = newer {
            self.newer_epoch(epoch);
        }
        self.hydration_may_be_over(generation);
    }

    /// Somebody names the store of a newer epoch: one that moves over to it is told, and then looked at.
    fn newer_store(&mut self, newer: StoreIdentity) {
        if newer.epoch > self.newest_epoch() && !std::mem::replace(&mut self.telling, true) {
            let store = Arc::clone(&self.store);
            self.errand(async move {
                store.heard_of(&newer).await;
                Event::Told(newer.epoch)
            });
        }
    }

    /// Somebody speaks of a newer epoch: look whether the store is in it, and hydrate beside if so.
    fn newer_epoch(&mut self, epoch: Epoch) {
        let known = self.newest_epoch();
        if epoch > known && hooks::holds(Guard::EpochInEverything) {
            debug!(known, epoch, "a newer epoch was seen");
            self.begin(Cause::Epoch);
        }
    }

    /// Of all that is served or hydrated.
    fn newest_epoch(&self) -> Epoch {
        [&self.live, &self.beside].into_iter().flatten().map(Session::epoch).max().unwrap_or(0)
    }

    fn observe(&mut self) {
        self.shared.observe();
        if let Some(session) = &self.live {
            session.observe(&self.shared.metrics);
        }
        self.observe_snapshot();
    }
}
