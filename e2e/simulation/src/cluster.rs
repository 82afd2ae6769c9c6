//! The processes: loaders and servers over one memory store and one memory feed. A process can crash at any instant and start
//! again; what it had in memory is gone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::memory::{Backup, MemoryEvents, MemoryFeed, MemoryStore, SplitMix64};
use tessera_ports::{Clock, EventPublisher, IdSource};
use tessera_runtime::lifecycle::Tasks;
use tessera_server::Services;
use tessera_server::snapshot::memory::MemoryFolder;
use tokio::time::Instant;
use tonic::service::Routes;

use crate::line::{FarSide, Lie, Line, Slowness};
use crate::promises::Promises;
use crate::told::Told;

/// Counts what became of the store: every restore, set-back and move to another store begins a life, with or without an epoch of
/// its own.
pub type Life = u64;

/// Partitions of the feed.
pub const PARTITIONS: u32 = 2;
/// Processes of each kind.
pub const PROCESSES: usize = 2;

/// The oldest that a snapshot may be. Those who write them write one every 150 ms.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(2);

/// Tokio's paused time as the time of day.
#[derive(Debug)]
pub struct SimulatedClock {
    began: Instant,
}

/// The time of day when a run begins.
fn begin() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000).unwrap_or(Timestamp::MIN)
}

impl SimulatedClock {
    /// When it is, or was, that time of day.
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.began + at.saturating_since(begin())
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        begin().saturating_add(self.began.elapsed())
    }
}

/// Counts, and puts the seed before it, so that partitions are not dealt out alike in every run: who looks after which
/// follows from the names of loaders.
#[derive(Debug)]
struct CountedIds {
    seed: u64,
    next: AtomicU64,
}

impl CountedIds {
    fn draw(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl IdSource for CountedIds {
    fn request_id(&self) -> RequestId {
        let text = format!("made-{}", self.draw());
        RequestId::parse(&text).unwrap_or_else(|error| unreachable_id(&error))
    }

    fn unique(&self) -> String {
        format!("unique-{:x}-{}", self.seed, self.draw())
    }
}

fn unreachable_id(error: &tessera_core::ids::IdError) -> ! {
    panic!("a counted id follows the grammar: {error}")
}

/// One run of one process.
#[derive(Debug, Clone)]
pub struct Process<S> {
    /// Which run this is; greater than that of every process before.
    pub generation: u64,
    /// What it serves, called in memory.
    pub services: S,
    /// What lies between it and the store and the feed.
    pub line: Arc<Line>,
    tasks: Tasks,
}

/// A server that runs, with its handle.
#[derive(Debug, Clone)]
pub struct ServerProcess {
    /// The process.
    pub process: Process<Services>,
    /// A way to it.
    pub handle: tessera_server::Handle,
    /// Whether there can have been a snapshot for it that was not too old.
    pub has_young_snapshot: bool,
    /// Whether it has not been stopped.
    runs: bool,
}

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "parts that are there or not, in nearly any combination")]
pub struct Plan {
    /// Whether servers run the repair scan.
    pub repair_scan: bool,
    /// Whether servers write snapshots and start from them.
    pub snapshots: bool,
    /// What the writing of a snapshot pauses for between two parts of the rows.
    pub snapshot_step: Duration,
    /// Whether there are servers at all.
    pub servers: bool,
    /// Whether others are told of events.
    pub events: bool,
    /// How long a loader counts as at work after it was heard of last, in seconds. When that is long, nobody speaks for the
    /// partitions of a loader that crashed for the rest of a run.
    pub lease_s: u64,
    /// What the lines of loaders draw from.
    pub seed: u64,
    /// What the lines of loaders do that they must not.
    pub lie: Option<Lie>,
}

/// All processes, and what they share.
#[derive(Debug)]
pub struct Cluster {
    /// The store.
    pub store: MemoryStore,
    /// The feed.
    pub feed: MemoryFeed,
    /// What others are told.
    pub events: MemoryEvents,
    /// The time.
    pub clock: Arc<SimulatedClock>,
    /// What loaders have promised.
    pub promises: Arc<Promises>,
    /// Who notes what others are told.
    pub told: Arc<Told>,
    ids: Arc<CountedIds>,
    plan: Plan,
    random: RefCell<SplitMix64>,
    epoch: Cell<tessera_core::stream::Epoch>,
    life: Cell<Life>,
    /// Whether what stands in the place of the store is another one, in the same epoch.
    moved: Cell<bool>,
    /// The head of every stream when this life of the store began.
    began_with: RefCell<BTreeMap<StreamId, Seq>>,
    generations: RefCell<u64>,
    slowness: RefCell<[Slowness; PROCESSES]>,
    /// The disk of every server, which outlives it.
    folders: [MemoryFolder; PROCESSES],
    loaders: RefCell<Vec<Process<Routes>>>,
    servers: RefCell<Vec<ServerProcess>>,
}

impl Cluster {
    /// Starts all processes.
    pub fn start(plan: Plan) -> Rc<Self> {
        let cluster = Rc::new(Self {
            store: MemoryStore::new("simulated-1"),
            feed: MemoryFeed::new("topic-1", PARTITIONS),
            events: MemoryEvents::new(),
            clock: Arc::new(SimulatedClock { began: Instant::now() }),
            promises: Arc::default(),
            told: Arc::default(),
            ids: Arc::new(CountedIds { seed: plan.seed, next: AtomicU64::new(0) }),
            random: RefCell::new(SplitMix64::new(plan.seed)),
            plan,
            epoch: Cell::new(1),
            life: Cell::new(0),
            moved: Cell::new(false),
            began_with: RefCell::default(),
            generations: RefCell::new(0),
            slowness: RefCell::default(),
            folders: std::array::from_fn(|_| MemoryFolder::new(plan.snapshot_step)),
            loaders: RefCell::default(),
            servers: RefCell::default(),
        });
        for place in 0..PROCESSES {
            let loader = cluster.new_loader();
            cluster.loaders.borrow_mut().push(loader);
            if plan.servers {
                let server = cluster.new_server(place);
                cluster.servers.borrow_mut().push(server);
            }
        }
        cluster
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The epoch of the store that is now.
    pub fn epoch(&self) -> tessera_core::stream::Epoch {
        self.epoch.get()
    }

    /// The life of the store that is now.
    pub fn life(&self) -> Life {
        self.life.get()
    }

    /// The seq that the stream had when this life of the store began.
    pub fn began_with(&self, stream: &StreamId) -> Seq {
        self.began_with.borrow().get(stream).copied().unwrap_or(0)
    }

    /// The loader that runs in that place now.
    pub fn loader(&self, place: usize) -> Process<Routes> {
        self.loaders.borrow()[place].clone()
    }

    /// The server that runs in that place now, or was the last to run there.
    pub fn server(&self, place: usize) -> ServerProcess {
        self.servers.borrow()[place].clone()
    }

    /// Whether the process that was the `generation`th to be started still runs in that place.
    pub fn runs(&self, place: usize, generation: u64) -> bool {
        let server = self.server(place);
        server.process.generation == generation && server.runs
    }

    /// Whether there are servers at all.
    pub fn has_servers(&self) -> bool {
        self.plan.servers
    }

    /// Whether what that server answers may be of another store: nobody can tell it from ours who cannot reach ours.
    pub fn may_be_of_another_store(&self, server: &ServerProcess) -> bool {
        self.moved.get() && server.handle.serves_snapshot()
    }

    /// Crashes a loader and starts it again.
    pub fn crash_loader(&self, place: usize) {
        self.loaders.borrow()[place].tasks.crash();
        self.loaders.borrow_mut()[place] = self.new_loader();
    }

    /// Whether the feed loses nothing that was published, so that a server has what it says it has.
    pub fn loses_nothing(&self) -> bool {
        !self.plan.repair_scan
    }

    /// Whether others are told of events.
    pub fn tells(&self) -> bool {
        self.plan.events
    }

    /// Whether servers write snapshots and start from them.
    pub fn has_snapshots(&self) -> bool {
        self.plan.snapshots
    }

    /// The snapshots of the server in that place.
    pub fn folder(&self, place: usize) -> &MemoryFolder {
        &self.folders[place]
    }

    /// Crashes a server and starts it again.
    pub fn crash_server(&self, place: usize) {
        self.stop_server(place);
        self.start_server(place);
    }

    /// Crashes a server. Nobody runs in its place until [`Self::start_server`].
    pub fn stop_server(&self, place: usize) {
        let server = &mut self.servers.borrow_mut()[place];
        server.process.tasks.crash();
        server.runs = false;
    }

    /// Starts the server whose place nobody runs in.
    pub fn start_server(&self, place: usize) {
        let server = self.new_server(place);
        self.servers.borrow_mut()[place] = server;
    }

    /// From now on the line of the server in that place is as slow as that, also after it has crashed.
    pub fn slow_server(&self, place: usize, slowness: Slowness) {
        self.slowness.borrow_mut()[place] = slowness;
        self.server(place).process.line.slow(slowness);
    }

    /// All lines are whole and quick.
    pub fn mend_all(&self) {
        for place in 0..PROCESSES {
            if self.has_servers() {
                self.slow_server(place, Slowness::default());
                self.server(place).process.line.mend();
            }
            self.loader(place).line.slow(Slowness::default());
            self.loader(place).line.mend();
        }
    }

    /// Restores the store from a backup into its next epoch, with all loaders stopped.
    pub fn restore(&self, backup: &Backup, name: &str) {
        self.stop_loaders();
        self.store.faults().lose_late();
        self.epoch.set(self.store.restore(backup, name).epoch);
        self.begin_life();
        self.start_loaders();
    }

    /// Everything is stopped, and finds another store with another feed when it starts again: one in the same epoch, as when one
    /// backup was restored twice. Servers still have their snapshots of the first.
    pub fn move_to_another_store(&self, backup: &Backup, name: &str, topic: &str) {
        self.stop_loaders();
        (0..PROCESSES).for_each(|place| self.stop_server(place));
        self.store.faults().lose_late();
        self.store.replace(backup, name);
        self.feed.faults().new_topic(topic);
        self.moved.set(true);
        self.begin_life();
        self.start_loaders();
        (0..PROCESSES).for_each(|place| self.start_server(place));
    }

    /// Sets the store back to the backup beneath running loaders, and keeps its epoch and its name.
    pub fn set_back(&self, backup: &Backup) {
        self.store.replace(backup, &self.store.identity_now().store);
        self.begin_life();
    }

    fn begin_life(&self) {
        self.life.set(self.life() + 1);
        self.promises.forget();
        let head = |stream: StreamId| self.store.current(&stream).map(|(head, _)| (stream, head.seq));
        *self.began_with.borrow_mut() = self.store.streams().into_iter().filter_map(head).collect();
    }

    fn stop_loaders(&self) {
        for loader in self.loaders.borrow().iter() {
            loader.tasks.crash();
        }
    }

    fn start_loaders(&self) {
        for place in 0..PROCESSES {
            self.loaders.borrow_mut()[place] = self.new_loader();
        }
    }

    /// Crashes everything, for good.
    pub fn crash_all(&self) {
        self.stop_loaders();
        for server in self.servers.borrow().iter() {
            server.process.tasks.crash();
        }
    }

    fn generation(&self) -> u64 {
        *self.generations.borrow_mut() += 1;
        *self.generations.borrow()
    }

    fn new_line(&self, slowness: Slowness, lie: Option<Lie>) -> Arc<Line> {
        let random = SplitMix64::new(self.random.borrow_mut().next_u64());
        let far_side = FarSide {
            store: self.store.clone(),
            feed: self.feed.clone(),
            clock: Arc::clone(&self.clock),
            promises: Arc::clone(&self.promises),
            events: self.events.clone(),
            told: Arc::clone(&self.told),
        };
        Line::new(far_side, random, slowness, lie)
    }

    fn new_loader(&self) -> Process<Routes> {
        let tasks = Tasks::new();
        let line = self.new_line(Slowness::default(), self.plan.lie);
        let config = tessera_loader::config::Config {
            deadline_default_ms: 3_000,
            deadline_max_ms: 5_000,
            due_lap_s: 5,
            lease_s: self.plan.lease_s,
            ..tessera_loader::config::Config::default()
        };
        let dependencies = tessera_loader::Dependencies {
            store: line.clone(),
            publisher: line.clone(),
            events: self.plan.events.then(|| line.clone() as Arc<dyn EventPublisher>),
            hints: line.clone(),
            leases: line.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        };
        let loader = tessera_loader::build(config, dependencies, &tasks).expect("a loader with good settings is built");
        let services = loader.routes();
        loader.start(&tasks);
        Process { generation: self.generation(), services, line, tasks }
    }

    fn new_server(&self, place: usize) -> ServerProcess {
        let tasks = Tasks::new();
        let line = self.new_line(self.slowness.borrow()[place], None);
        let config = tessera_server::Config {
            repair_scan: self.plan.repair_scan,
            scan_lap_s: 5,
            scan_pause_max_ms: 300,
            ready_parked_wait_ms: 2_000,
            parked_fetch_after_ms: 500,
            feed_wait_ms: 100,
            scan_page_rows: 2,
            snapshots: self.plan.snapshots,
            snapshot_interval_ms: 150,
            snapshot_wait_ms: 150,
            snapshot_age_max_s: SNAPSHOT_AGE_MAX.as_secs(),
            ..tessera_server::Config::default()
        };
        let dependencies = tessera_server::Dependencies { store: line.clone(), feed: line.clone(), clock: self.clock.clone() };
        let server = tessera_server::build(config, dependencies, &tasks).expect("a server with good settings is built");
        let server = server.with_snapshots(Arc::new(self.folders[place].clone()));
        let services = server.services();
        let handle = server.start(&tasks);
        let process = Process { generation: self.generation(), services, line, tasks };
        let newest = self.folders[place].finished().begun;
        let has_young_snapshot = newest.is_some_and(|begun| begun.elapsed() <= SNAPSHOT_AGE_MAX);
        ServerProcess { process, handle, has_young_snapshot, runs: true }
    }

    /// Waits until every server is ready; `false` when that takes longer than `limit`.
    pub async fn all_ready(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let servers = self.servers.borrow().clone();
        for ServerProcess { handle, .. } in servers {
            if tokio::time::timeout_at(deadline, handle.loaded()).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Every change that is in the feed.
pub fn published(feed: &MemoryFeed) -> Vec<tessera_ports::Change> {
    let is_change = |message| match message {
        tessera_ports::change_feed::FeedMessage::Change(change) => Some(change),
        _ => None,
    };
    feed.records().into_iter().flatten().filter_map(is_change).collect()
}
