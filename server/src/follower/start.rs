//! Starting from a snapshot. Its rows are loaded while the store is asked who it is and where the feed ends; then the feed is read
//! on from the positions of the file, never from the ends, and the server is ready when these are reached. When nothing can be
//! had of store or feed for a while, it serves what it has and says how old that is, and goes on trying. As soon as the store says
//! who it is, with a feed or without one, a file of another store is refused; until then nothing is read of it.

use std::sync::Arc;
use std::time::Duration;

use tessera_core::time::Timestamp;
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::hooks::{self, Guard};
use tokio::time::Instant;
use tracing::{info, warn};

use super::hydration::{Beginning, Hydration};
use super::session::Session;
use super::{Cause, Event, Follower};
use crate::metric_definitions::Metrics;
use crate::shared::Shared;
use crate::snapshot::Refusal;
use crate::snapshot::folder::SnapshotFolder;
use crate::snapshot::load::{self, Loaded};

/// How far a start has come.
#[derive(Debug)]
pub(super) struct Start {
    at: Instant,
    /// A snapshot is being loaded; until that is over nothing is begun with what was read of the store.
    loading: bool,
    begun: Option<Box<Beginning>>,
    /// The file of the snapshot that was loaded.
    file: String,
    /// Up to when the snapshot is known to be whole.
    as_of: Option<Timestamp>,
}

impl Start {
    pub(super) fn new() -> Self {
        Self { at: Instant::now(), loading: false, begun: None, file: String::new(), as_of: None }
    }

    /// Keeps what was read of the store until the snapshot is loaded; gives it back when none is being loaded.
    pub(super) fn hold(&mut self, beginning: Beginning) -> Option<Beginning> {
        if !self.loading {
            return Some(beginning);
        }
        self.begun = Some(Box::new(beginning));
        None
    }
}

impl Follower {
    /// Begins with everything at once.
    pub(super) fn start(&mut self) {
        self.start = Start::new();
        self.begin(Cause::Start);
        let Some(folder) = self.snapshots.clone() else { return };
        self.start.loading = true;
        let (shared, age_max) = (Arc::clone(&self.shared), self.config.snapshot_age_max());
        self.errand(async move {
            if folder.pause().is_some() {
                return Event::Loaded(load_from(&*folder, &shared, age_max));
            }
            let loading = tokio::task::spawn_blocking(move || load_from(&*folder, &shared, age_max));
            Event::Loaded(loading.await.unwrap_or_default())
        });
    }

    /// The snapshot is loaded, or there is none that can be used.
    pub(super) fn loaded(&mut self, loaded: Option<Box<Loaded>>) {
        self.start.loading = false;
        if let Some(loaded) = loaded {
            let (epoch, parked) = (loaded.origin.epoch, loaded.writer.parked());
            let age = self.shared.clock.now().saturating_since(loaded.standing.at).as_secs();
            let took = self.start.at.elapsed().as_secs_f64();
            info!(file = loaded.name, bytes = loaded.bytes, epoch, parked, age, seconds = took, "a snapshot is loaded");
            self.newest_snapshot = Some(loaded.standing.at);
            let generation = self.next_generation();
            self.start.as_of = loaded.standing.whole_until();
            self.start.file.clone_from(&loaded.name);
            let session = Session::of_snapshot(generation, *loaded);
            let progress = session.progress();
            self.live = Some(session);
            let left = self.config.snapshot_wait().saturating_sub(self.start.at.elapsed());
            self.later(left, Event::StartWaited(progress));
        }
        if let Some(beginning) = self.start.begun.take() {
            self.begun(*beginning);
        }
    }

    /// The store says who it is, and its feed cannot be had. A snapshot of another store is not served, unless it is already; one
    /// of a newer epoch is believed, and not the store, which is to be told of it: that one is returned.
    pub(super) fn store_told(&mut self, identity: &StoreIdentity) -> Option<StoreIdentity> {
        let session = self.live.as_ref().filter(|session| session.awaits_store())?;
        let may_be = session.may_be_of(identity);
        session.writer.matrix().set_of_store_read(may_be);
        if may_be {
            return None;
        }
        if identity.epoch < session.epoch() {
            warn!(
                snapshot = session.epoch(),
                epoch = identity.epoch,
                "the store is in an older epoch than the snapshot: an old copy? Looking again"
            );
            return Some(session.identity());
        }
        if !self.shared.is_ready() {
            refuse(&self.start.file, session, identity);
            self.live = None;
        }
        None
    }

    /// The store was reached for the first time since a snapshot was loaded.
    pub(super) fn begun_over_snapshot(&mut self, beginning: Beginning) {
        let generation = beginning.generation;
        let Some(mut session) = self.live.take() else { return };
        if !session.may_be_of(&beginning.identity) {
            refuse(&self.start.file, &session, &beginning.identity);
            return self.instead_of(session, beginning);
        }
        session.writer.matrix().set_of_store_read(true);
        let partitions = usize::try_from(beginning.topic.partitions) == Ok(session.positions.len());
        let in_range = partitions && session.positions.iter().zip(&beginning.ends).all(|(position, end)| position <= end);
        let same_topic = session.topic == beginning.topic;
        if (!same_topic || !in_range) && hooks::holds(Guard::SnapshotOfThisTopic) {
            warn!(topic = beginning.topic.id, of = session.topic.id, "the positions of the snapshot are not in the feed");
            return self.hydrate_over(session, beginning);
        }
        if !hooks::holds(Guard::SnapshotTailsFromItsPositions) {
            session.positions.clone_from(&beginning.ends);
        }
        session.generation = generation;
        session.hydration = Some(Hydration::reaching(beginning.ends));
        // What was asked for so far is answered to a generation that is over.
        session.due.clear();
        session.reading.clear();
        self.live = Some(session);
        self.ask_again(generation);
        self.tail_all(generation);
        self.hydration_may_be_over(generation);
    }

    /// The rows stay, since their seqs are right; what changed since is found by a scan.
    fn hydrate_over(&mut self, session: Session, beginning: Beginning) {
        let generation = beginning.generation;
        Metrics::hydration(Cause::OutOfRange.name());
        self.live = Some(session.again(beginning));
        self.ask_again(generation);
        self.tail_all(generation);
        self.next_kind(generation);
    }

    /// Hydrates the store that is there: beside the snapshot's rows when they are served already, in their place when not.
    fn instead_of(&mut self, session: Session, beginning: Beginning) {
        let generation = beginning.generation;
        Metrics::hydration(Cause::Start.name());
        let hydrating = self.new_session(beginning);
        if self.shared.is_ready() {
            self.live = Some(session);
            self.beside = Some(hydrating);
        } else {
            self.live = Some(hydrating);
        }
        self.tail_all(generation);
        self.next_kind(generation);
    }

    /// It was waited for store and feed. As long as something comes of them it is waited on; once nothing does, the snapshot is
    /// served.
    pub(super) fn start_waited(&mut self, before: u64) {
        let Some(session) = self.live.as_ref().filter(|session| session.from_snapshot) else { return };
        if self.shared.is_ready() || session.waits_for_parked() {
            return;
        }
        let progress = session.progress();
        if session.awaits_store() || progress == before {
            return self.serve_snapshot();
        }
        self.later(self.config.snapshot_wait().max(Duration::from_millis(1)), Event::StartWaited(progress));
    }

    fn serve_snapshot(&self) {
        let Some(session) = &self.live else { return };
        let staleness = self.start.as_of.map(|at| self.shared.clock.now().saturating_since(at).as_secs());
        warn!(epoch = session.epoch(), staleness, "serving a snapshot, since the store and its feed cannot be had");
        self.shared.set_heartbeat(self.start.as_of);
        self.shared.set_unproven(true);
        self.shared.serve(session.writer.matrix());
    }
}

fn load_from(folder: &dyn SnapshotFolder, shared: &Shared, age_max: Duration) -> Option<Box<Loaded>> {
    load::newest(folder, shared, age_max, refused).map(Box::new)
}

/// The session is of a snapshot of another store than the one that was reached.
fn refuse(file: &str, session: &Session, reached: &StoreIdentity) {
    let StoreIdentity { store, epoch } = session.identity();
    let (reached, reached_epoch) = (reached.store.clone(), reached.epoch);
    refused(file, &Refusal::OfAnotherStore { store, epoch, reached, reached_epoch });
}

fn refused(file: &str, refusal: &Refusal) {
    Metrics::snapshot_refused(refusal.cause());
    warn!(file, "{file} {refusal}; another snapshot or the store is read instead");
}

impl Session {
    /// Of a snapshot, before the store was reached.
    fn of_snapshot(generation: super::session::Generation, loaded: Loaded) -> Self {
        let Loaded { writer, origin, standing, .. } = loaded;
        let hydration = Hydration::awaiting();
        let mut session = Self::new(generation, writer, origin.topic, standing.positions, hydration);
        session.heartbeats = standing.heartbeats;
        session.from_snapshot = true;
        session
    }

    /// Whether a snapshot's rows can be that store's.
    fn may_be_of(&self, store: &StoreIdentity) -> bool {
        self.identity() == *store || !hooks::holds(Guard::SnapshotOfThisStore)
    }
}
