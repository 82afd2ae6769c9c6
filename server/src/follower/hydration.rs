//! Hydration: note the ends of the feed, scan the current state of every stream through the seq gate, follow from the noted
//! positions, and be ready when the ends noted after the scan are reached.
//!
//! The feed is followed from the beginning, during the scan too: the gate makes the order indifferent. Hydrating again in the
//! same epoch goes into the live matrix, which answers all the while; its heartbeats do not count until it is over, since what
//! they promise may lie in the gap that is being closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tessera_core::stream::{Epoch, StreamKind};
use tessera_ports::Change;
use tessera_ports::change_feed::{ChangeFeed, Position, Topic};
use tessera_ports::event_store::{EventStore, ReadError, ScanRange, StoreIdentity};
use tessera_ports::hooks::{self, Guard};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::session::{Generation, Session};
use super::{Cause, Event, Follower, Page, RETRY_PAUSE};
use crate::matrix::early::Early;
use crate::matrix::writer::Writer;
use crate::metric_definitions::{Metrics, Source};

/// Pause before a store that is not in the expected epoch is looked at again.
const LOOK_AGAIN_PAUSE: Duration = Duration::from_secs(1);

/// Where a hydration stands.
#[derive(Debug)]
pub(super) struct Hydration {
    /// Kinds whose ranges have not been asked for.
    kinds: VecDeque<StreamKind>,
    /// Ranges of the current kind that wait for their turn.
    ranges: VecDeque<ScanRange>,
    /// Pages that are being read.
    reading: usize,
    /// Pages that were read.
    pages: u64,
    begun: Instant,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The rows are a snapshot's, and the store has not been reached yet.
    Awaiting,
    Scanning,
    /// The ends after the scan have been asked for.
    Ending,
    /// These must be reached.
    Reaching(Vec<Position>),
    /// They are, and parked rows are waited for.
    Parked,
    /// The store has moved to a newer epoch meanwhile: what was scanned is not the whole of anything.
    Void,
}

/// What was read before a hydration begins.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) generation: Generation,
    pub(super) identity: StoreIdentity,
    tenants: u64,
    pub(super) topic: Topic,
    pub(super) ends: Vec<Position>,
}

/// What was read once the scan was over.
#[derive(Debug)]
pub(super) struct AfterScan {
    epoch: Epoch,
    ends: Vec<Position>,
    topic: Topic,
}

/// Why it cannot begin yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Store(#[from] ReadError),
    #[error(transparent)]
    Feed(#[from] tessera_ports::change_feed::FeedError),
}

impl NotYet {
    fn count(&self, metrics: &Metrics) {
        match self {
            Self::Store(_) => metrics.store_errors.increment(1),
            Self::Feed(_) => metrics.feed_errors.increment(1),
        }
    }
}

impl Follower {
    /// Begins a hydration. One that is just beginning serves this cause, too.
    pub(super) fn begin(&mut self, cause: Cause) {
        match &mut self.beginning {
            Some((_, Cause::Epoch)) => self.beginning = self.beginning.map(|(generation, _)| (generation, cause)),
            Some(_) => {}
            None => self.begin_behind(None, cause),
        }
    }

    /// As [`Self::begin`] when no other is beginning. A store that is behind `newer` is told of it, and looked at after a while.
    fn begin_behind(&mut self, newer: Option<StoreIdentity>, cause: Cause) {
        let generation = self.next_generation();
        self.beginning = Some((generation, cause));
        let pause = if newer.is_some() { LOOK_AGAIN_PAUSE } else { Duration::ZERO };
        self.read_beginning(generation, newer, pause);
    }

    fn read_beginning(&self, generation: Generation, newer: Option<StoreIdentity>, mut pause: Duration) {
        let (store, feed, metrics) = (Arc::clone(&self.store), Arc::clone(&self.feed), self.shared.metrics.clone());
        self.errand(async move {
            if let Some(newer) = newer {
                store.heard_of(&newer).await;
            }
            loop {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                pause = RETRY_PAUSE;
                let identity = store.identity().await;
                let error = match &identity {
                    Ok(identity) => match beginning(generation, identity, &*store, &*feed).await {
                        Ok(beginning) => return Event::Begun(Box::new(beginning)),
                        Err(error) => error,
                    },
                    Err(error) => NotYet::Store(error.clone()),
                };
                error.count(&metrics);
                debug!(%error, "hydration cannot begin yet");
                if let Ok(identity) = identity {
                    return Event::StoreAlone(generation, identity);
                }
            }
        });
    }

    /// The store says who it is, and the rest cannot be had yet: enough to judge a snapshot by.
    pub(super) fn store_alone(&mut self, generation: Generation, identity: &StoreIdentity) {
        let newer = self.store_told(identity);
        let pause = if newer.is_some() { LOOK_AGAIN_PAUSE } else { RETRY_PAUSE };
        self.read_beginning(generation, newer, pause);
    }

    /// Everything is known: into which matrix, and on.
    pub(super) fn begun(&mut self, beginning: Beginning) {
        let Some(beginning) = self.start.hold(beginning) else { return };
        let Some((generation, cause)) = self.beginning.filter(|(generation, _)| *generation == beginning.generation) else {
            return;
        };
        self.beginning = None;
        let epoch = beginning.identity.epoch;
        let live = self.live.as_ref().map(Session::epoch);
        if let Some(newer) = self.live.as_ref().map(Session::identity).filter(|live| epoch < live.epoch) {
            warn!(live, epoch, "the store is in an older epoch than the matrix: an old copy? Looking again");
            return self.begin_behind(Some(newer), cause);
        }
        let is_it = |beside: &Session| !beside.is_void() && beside.identity() == beginning.identity;
        if cause == Cause::Epoch && self.beside.as_ref().is_some_and(is_it) {
            // Already on its way. A rumour of yet another epoch, heard again and again, must not keep it from its end.
            return;
        }
        if self.live.as_ref().is_some_and(Session::awaits_store) {
            return self.begun_over_snapshot(beginning);
        }
        if live == Some(epoch) && cause == Cause::Epoch {
            // A hydration that another epoch came into has to be made anew, even if that epoch is gone again.
            self.beside.take_if(|beside| beside.is_void());
            if !self.live.as_ref().is_some_and(Session::is_void) {
                return;
            }
        }
        info!(epoch, cause = cause.name(), store = beginning.identity.store, tenants = beginning.tenants, "hydrating");
        Metrics::hydration(cause.name());
        self.open_session(beginning, live);
        if hooks::holds(Guard::PositionsBeforeScan) {
            self.tail_all(generation);
        }
        self.next_kind(generation);
    }

    /// Into the live matrix again when it is of that epoch, beside it when it is served, in its place when it is not.
    fn open_session(&mut self, beginning: Beginning, live: Option<Epoch>) {
        let generation = beginning.generation;
        let same_matrix = live == Some(beginning.identity.epoch) && hooks::holds(Guard::HydrationThroughSeqGate);
        match self.live.take() {
            Some(session) if same_matrix => {
                self.live = Some(session.again(beginning));
                self.ask_again(generation);
            }
            served @ Some(_) if self.shared.is_ready() => {
                self.live = served;
                self.beside = Some(self.new_session(beginning));
                if !hooks::holds(Guard::NewEpochSwappedWhole) {
                    self.swap();
                }
            }
            _ => self.live = Some(self.new_session(beginning)),
        }
    }

    /// What parked rows wait for was asked for by errands of the generation before.
    pub(super) fn ask_again(&mut self, generation: Generation) {
        let Some(session) = self.session(generation) else { return };
        let missing: Vec<_> = session.writer.missing().cloned().collect();
        for stream in missing {
            self.due_later(generation, stream);
        }
    }

    pub(super) fn new_session(&self, beginning: Beginning) -> Session {
        let matrix = self.shared.new_matrix(&beginning.identity, beginning.tenants);
        let writer = Writer::new(matrix, self.shared.metrics.clone());
        Session::new(beginning.generation, writer, beginning.topic, beginning.ends, Hydration::new())
    }

    /// Asks for the ranges of the next kind, or for the ends after the last.
    pub(super) fn next_kind(&mut self, generation: Generation) {
        let Some(hydration) = self.session(generation).and_then(|session| session.hydration.as_mut()) else { return };
        if let Some(kind) = hydration.kinds.pop_front() {
            let (store, metrics) = (Arc::clone(&self.store), self.shared.metrics.clone());
            self.errand(async move {
                loop {
                    match store.scan_ranges(kind).await {
                        Ok(ranges) => return Event::Ranges(generation, ranges),
                        Err(error) => {
                            metrics.store_errors.increment(1);
                            debug!(%error, kind = kind.name(), "cannot list ranges");
                            tokio::time::sleep(RETRY_PAUSE).await;
                        }
                    }
                }
            });
            return;
        }
        hydration.stage = Stage::Ending;
        let (store, feed, metrics) = (Arc::clone(&self.store), Arc::clone(&self.feed), self.shared.metrics.clone());
        self.errand(async move {
            loop {
                match after_scan(&*store, &*feed).await {
                    Ok(after) => return Event::EndsAfter(generation, after),
                    Err(error) => {
                        error.count(&metrics);
                        debug!(%error, "cannot note the ends");
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            }
        });
    }

    pub(super) fn hydration_ranges(&mut self, generation: Generation, ranges: Vec<ScanRange>) {
        if let Some(hydration) = self.session(generation).and_then(|session| session.hydration.as_mut()) {
            hydration.ranges.extend(ranges);
            self.read_ranges(generation);
        }
    }

    /// Reads as many ranges at once as allowed; goes on to the next kind when none is left.
    fn read_ranges(&mut self, generation: Generation) {
        let at_once = self.config.hydration_ranges_at_once;
        let Some(hydration) = self.session(generation).and_then(|session| session.hydration.as_mut()) else { return };
        let mut ranges = Vec::new();
        while hydration.reading < at_once
            && let Some(range) = hydration.ranges.pop_front()
        {
            hydration.reading += 1;
            ranges.push(range);
        }
        let done = hydration.reading == 0;
        for range in ranges {
            self.read_page(generation, range, Duration::ZERO);
        }
        if done {
            self.next_kind(generation);
        }
    }

    fn read_page(&self, generation: Generation, range: ScanRange, pause: Duration) {
        let (store, rows, tasks) = (Arc::clone(&self.store), self.config.scan_page_rows, self.tasks.clone());
        self.errand(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let result = store.scan(&range, rows).await;
            // States are decoded beside the task that applies them: that is most of the work.
            let prepared = tasks.run_behind("server.decode", async move {
                let early = result.iter().flat_map(|page| &page.changes).map(Early::decoded).collect();
                (result, early)
            });
            let (result, early) = match prepared.await {
                Ok(prepared) => prepared,
                Err(lost) => (Err(ReadError::Unavailable(lost.to_string())), Vec::new()),
            };
            Event::HydrationPage(generation, Page { range, result }, early)
        });
    }

    pub(super) fn hydration_page(&mut self, generation: Generation, page: Page, early: Vec<Early>) {
        if self.session(generation).is_none_or(|session| session.hydration.is_none()) {
            return;
        }
        let read = match page.result {
            Ok(read) => read,
            Err(error) => {
                self.shared.metrics.store_errors.increment(1);
                warn!(%error, kind = page.range.kind.name(), "cannot scan a range, trying again");
                return self.read_page(generation, page.range, RETRY_PAUSE);
            }
        };
        let rows = u64::try_from(read.changes.len()).unwrap_or(u64::MAX);
        self.shared.metrics.scan_rows.increment(rows);
        if let Some(hydration) = self.session(generation).and_then(|session| session.hydration.as_mut()) {
            hydration.pages = hydration.pages.saturating_add(1);
        }
        self.apply_prepared(generation, read.changes.iter().zip(early), Source::Hydration);
        if self.void_by(generation, &read.changes) {
            return;
        }
        if let Some(rest) = read.rest {
            return self.read_page(generation, rest, Duration::ZERO);
        }
        if let Some(hydration) = self.session(generation).and_then(|session| session.hydration.as_mut()) {
            hydration.reading = hydration.reading.saturating_sub(1);
            self.read_ranges(generation);
        }
    }

    /// Whether the hydration cannot be completed, since the store is in a newer epoch than its matrix.
    fn void_by(&mut self, generation: Generation, changes: &[Change]) -> bool {
        let Some(session) = self.session(generation) else { return true };
        let epoch = session.epoch();
        if hooks::holds(Guard::EpochInEverything)
            && hooks::holds(Guard::HydrationInOneEpoch)
            && changes.iter().any(|change| change.epoch > epoch)
            && let Some(hydration) = session.hydration.as_mut()
        {
            hydration.stage = Stage::Void;
        }
        session.is_void()
    }

    /// The scan is over. If the store is in a newer epoch by then, the scan has read two stores and found all of neither: this
    /// hydration never ends, and the matrix of the newer epoch is made beside.
    pub(super) fn ends_after(&mut self, generation: Generation, AfterScan { epoch, topic, ends }: AfterScan) {
        let Some(session) = self.session(generation) else { return };
        let scanned = session.epoch();
        let same_topic = session.topic == topic;
        let Some(hydration) = session.hydration.as_mut() else { return };
        if scanned != epoch && hooks::holds(Guard::HydrationInOneEpoch) {
            hydration.stage = Stage::Void;
            return self.begin(Cause::Epoch);
        }
        // Positions in one topic say nothing about the ends of another.
        if !same_topic && hooks::holds(Guard::OutOfRangeRehydrates) {
            return self.begin(Cause::OutOfRange);
        }
        if !hooks::holds(Guard::PositionsBeforeScan) {
            session.positions.clone_from(&ends);
        }
        let ends = if hooks::holds(Guard::ReadyAtEndsAfterScan) { ends } else { Vec::new() };
        hydration.stage = Stage::Reaching(ends);
        if !hooks::holds(Guard::PositionsBeforeScan) {
            self.tail_all(generation);
        }
        self.hydration_may_be_over(generation);
    }

    /// Looks whether the stage that is under way is over; called after everything that may end it.
    pub(super) fn hydration_may_be_over(&mut self, generation: Generation) {
        let Some(session) = self.session(generation) else { return };
        let nothing_parked = session.writer.parked() == 0;
        let reached = match session.hydration.as_ref().map(|hydration| &hydration.stage) {
            Some(Stage::Reaching(ends)) => session.reached(ends),
            Some(Stage::Parked) => nothing_parked,
            _ => return,
        };
        if !reached {
            return;
        }
        if nothing_parked {
            return self.hydrated(generation);
        }
        if let Some(hydration) = session.hydration.as_mut() {
            hydration.stage = Stage::Parked;
        }
        self.later(Duration::from_millis(self.config.ready_parked_wait_ms), Event::ParkedLongEnough(generation));
    }

    pub(super) fn parked_long_enough(&mut self, generation: Generation) {
        let Some(session) = self.session(generation) else { return };
        if session.hydration.as_ref().is_some_and(|hydration| hydration.stage == Stage::Parked) {
            warn!(parked = session.writer.parked(), "ready although some streams still wait for what they name");
            self.hydrated(generation);
        }
    }

    fn hydrated(&mut self, generation: Generation) {
        let Some(session) = self.session(generation) else { return };
        let took = session.hydration.take().map(|hydration| hydration.begun.elapsed()).unwrap_or_default();
        let from_snapshot = std::mem::take(&mut session.from_snapshot);
        let (epoch, tenants) = (session.epoch(), session.writer.digest().count(StreamKind::Tenant));
        let seconds = took.as_secs_f64();
        info!(epoch, tenants, parked = session.writer.parked(), seconds, "hydrated");
        self.shared.metrics.hydration_seconds.set(seconds);
        if self.beside.as_ref().is_some_and(|beside| beside.generation == generation) {
            self.swap();
        }
        if let Some(session) = &self.live {
            self.shared.set_unproven(false);
            self.shared.serve(session.writer.matrix());
        }
        self.tell_age(generation);
        self.next_lap(generation);
        self.snapshots_may_begin(from_snapshot);
    }

    /// The matrix beside becomes the live one, whole.
    fn swap(&mut self) {
        if let Some(beside) = self.beside.take() {
            self.shared.serve(beside.writer.matrix());
            self.live = Some(beside);
        }
    }
}

impl Hydration {
    fn new() -> Self {
        Self {
            // What others name comes first: fewer rows are parked.
            kinds: StreamKind::ALL.into(),
            ranges: VecDeque::new(),
            reading: 0,
            pages: 0,
            begun: Instant::now(),
            stage: Stage::Scanning,
        }
    }

    /// Of a snapshot, before the store was reached.
    pub(super) fn awaiting() -> Self {
        Self { kinds: VecDeque::new(), stage: Stage::Awaiting, ..Self::new() }
    }

    /// Of a snapshot: nothing is scanned, only these ends must be reached.
    pub(super) fn reaching(ends: Vec<Position>) -> Self {
        Self { kinds: VecDeque::new(), stage: Stage::Reaching(ends), ..Self::new() }
    }
}

impl Session {
    /// Whether it waits for a newer epoch in vain of itself.
    fn is_void(&self) -> bool {
        self.hydration.as_ref().is_some_and(|hydration| hydration.stage == Stage::Void)
    }

    /// Whether it is a snapshot's and the store has not been reached yet.
    pub(super) fn awaits_store(&self) -> bool {
        self.hydration.as_ref().is_some_and(|hydration| hydration.stage == Stage::Awaiting)
    }

    /// Whether nothing but parked rows is waited for.
    pub(super) fn waits_for_parked(&self) -> bool {
        self.hydration.as_ref().is_some_and(|hydration| hydration.stage == Stage::Parked)
    }

    /// A number that changes as long as anything comes that the hydration waits for. What goes on beside it does not count: one
    /// partition may stand still while heartbeats of the others come for ever.
    pub(super) fn progress(&self) -> u64 {
        let Some(hydration) = &self.hydration else { return 0 };
        let sum = |sum: u64, position| sum.wrapping_add(position);
        match &hydration.stage {
            Stage::Reaching(ends) => self.positions.iter().zip(ends).map(|(position, end)| *position.min(end)).fold(0, sum),
            // The same number as soon as these are to be read on from.
            Stage::Awaiting => self.positions.iter().copied().fold(0, sum),
            Stage::Scanning | Stage::Ending | Stage::Parked | Stage::Void => hydration.pages,
        }
    }

    /// The same matrix, hydrated again.
    pub(super) fn again(self, beginning: Beginning) -> Self {
        let Self { writer, from_snapshot, .. } = self;
        let fresh = Self::new(beginning.generation, writer, beginning.topic, beginning.ends, Hydration::new());
        Self { from_snapshot, ..fresh }
    }
}

/// Epoch, ends and topic, in this order: if the topic is still the one that is read, the ends are its own.
async fn after_scan(store: &dyn EventStore, feed: &dyn ChangeFeed) -> Result<AfterScan, NotYet> {
    let identity = store.identity().await?;
    let ends = feed.ends().await?;
    Ok(AfterScan { epoch: identity.epoch, ends, topic: feed.topic().await? })
}

/// The ends come last: whatever is committed later is in the scan or behind them.
async fn beginning(
    generation: Generation,
    identity: &StoreIdentity,
    store: &dyn EventStore,
    feed: &dyn ChangeFeed,
) -> Result<Beginning, NotYet> {
    let tenants = store.count(StreamKind::Tenant).await?;
    let topic = feed.topic().await?;
    let ends = feed.ends().await?;
    Ok(Beginning { generation, identity: identity.clone(), tenants, topic, ends })
}
