//! One seed, from its first command to the last check.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tessera_ports::memory::SplitMix64;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::checks;
use crate::client::Client;
use crate::cluster::{Cluster, PROCESSES, Plan};
use crate::command;
use crate::faults::{self, GROWTH_MAX, Storm};
use crate::journal::Journal;
use crate::line::Lie;
use crate::restarts::{self, Restarts, SNAPSHOT_STEP_MAX};
use crate::strangers::Stranger;
use crate::{overtaking, set_backs, told};

/// Callers at a time, beside one who only asks.
const CLIENTS: usize = 4;
/// How long faults last, by the simulated clock.
const STORM: Duration = Duration::from_millis(2_500);
/// What the writing of a snapshot pauses for between two parts of the rows.
const SNAPSHOT_STEP: Duration = Duration::from_millis(15);
/// How long everything may take to become equal once faults are over, by the simulated clock.
const CALM_MAX: Duration = Duration::from_secs(90);

/// Which repair is there to hide the lack of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The repair scan runs and the feed loses changes.
    Scan,
    /// No repair scan; the feed loses nothing.
    NoScan,
    /// As `NoScan`, but one partition of the feed lags behind the other, and changes come once more after newer ones.
    Overtaking,
    /// As `NoScan`, but one partition of the feed lags behind the other, and servers are started from their snapshots all the time.
    Restarts,
    /// The store is set back beneath running loaders, in the same epoch. There are no servers.
    SetBacks,
}

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Run this seed again to see it.
    pub seed: u64,
    /// In this mode.
    pub mode: Mode,
    /// The property, by its letter, and what was seen.
    pub text: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("seed {} in mode {:?}: {}", self.seed, self.mode, self.text))
    }
}

/// What a run without a violation amounted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Acknowledged commands.
    pub acknowledged: usize,
    /// Refused commands.
    pub refused: usize,
    /// Commands of unknown outcome.
    pub unknown: u64,
    /// Answered checks.
    pub answers: u64,
    /// Restores.
    pub restores: u64,
    /// Events that others were told of, repetitions among them.
    pub told: usize,
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.answers += other.answers;
        self.restores += other.restores;
        self.told += other.told;
    }
}

/// Runs one seed on this thread.
pub fn simulate(seed: u64, mode: Mode) -> Result<Tally, Violation> {
    simulate_with(seed, mode, None)
}

/// As [`simulate`], but loaders are lied to as no store may lie to them: some property must be seen to suffer.
pub fn simulate_with(seed: u64, mode: Mode, lie: Option<Lie>) -> Result<Tally, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime with only a clock is built");
    let told = LocalSet::new().block_on(&runtime, story(seed, mode, lie));
    // Processes that still run hold nothing that outlives the runtime.
    drop(runtime);
    told.map_err(|text| Violation { seed, mode, text })
}

/// What a run is made of.
struct Script {
    plan: Plan,
    storm: Storm,
    of_snapshots: SplitMix64,
    of_events: SplitMix64,
}

impl Script {
    /// Draws it. What came later is drawn apart, so that all else is the same with it and without.
    fn draw(seed: u64, mode: Mode, lie: Option<Lie>, random: &mut SplitMix64) -> Self {
        let usual = matches!(mode, Mode::Scan | Mode::NoScan);
        let mut of_growth = SplitMix64::new(seed ^ 0x6e0f);
        let growth = of_growth.chance(400) && usual;
        let growth_alone = growth && of_growth.chance(500);
        let mut of_snapshots = SplitMix64::new(seed ^ 0x05a9);
        let snapshots = (of_snapshots.chance(600) && !growth_alone && usual) || mode == Mode::Restarts;
        let mut of_events = SplitMix64::new(seed ^ 0xe7e4);
        let events = of_events.chance(500) && mode != Mode::SetBacks;
        let mut of_leases = SplitMix64::new(seed ^ 0x1ea5);
        let lease_s = if growth_alone || of_leases.chance(500) { 1 } else { 10 };
        let plan = Plan {
            repair_scan: mode == Mode::Scan,
            snapshots,
            snapshot_step: if mode == Mode::Restarts { of_snapshots.duration(SNAPSHOT_STEP_MAX) } else { SNAPSHOT_STEP },
            servers: mode != Mode::SetBacks,
            events,
            lease_s,
            seed: random.next_u64(),
            lie,
        };
        let storm = Storm { growth: if growth { GROWTH_MAX } else { 0 }, ..Storm::draw(random, plan.repair_scan) };
        let storm = match mode {
            Mode::Overtaking | Mode::Restarts => storm.quiet(),
            Mode::SetBacks => storm.without_servers(),
            Mode::Scan | Mode::NoScan if growth_alone => storm.growth_alone(),
            Mode::Scan | Mode::NoScan => storm,
        };
        Self { plan, storm, of_snapshots, of_events }
    }
}

async fn story(seed: u64, mode: Mode, lie: Option<Lie>) -> Result<Tally, String> {
    let mut random = SplitMix64::new(seed);
    let Script { plan, storm, mut of_snapshots, mut of_events } = Script::draw(seed, mode, lie, &mut random);
    let cluster = Cluster::start(plan);
    let journal = Rc::new(Journal::default());
    command::set_up(&cluster).await.map_err(|status| format!("set up: {status:?}"))?;
    if !cluster.all_ready(CALM_MAX).await {
        return Err("set up: the servers never became ready".to_owned());
    }
    faults::begin(&cluster, &mut random, storm);
    faults::begin_telling(&cluster, &mut of_events);
    let stop = Rc::new(Cell::new(false));
    let mut tasks = Vec::new();
    let caller = |number: usize, random: &mut SplitMix64| Client {
        name: format!("c{number}"),
        random: SplitMix64::new(random.next_u64()),
        cluster: Rc::clone(&cluster),
        journal: Rc::clone(&journal),
        stop: Rc::clone(&stop),
    };
    for number in 0..CLIENTS {
        tasks.push(tokio::task::spawn_local(caller(number, &mut random).run()));
    }
    if plan.servers {
        tasks.push(tokio::task::spawn_local(caller(CLIENTS, &mut random).read()));
        tasks.push(tokio::task::spawn_local(watch_readiness(Rc::clone(&cluster), Rc::clone(&journal), Rc::clone(&stop))));
    }
    let stranger = Stranger::new(&cluster, &journal, SplitMix64::new(seed ^ 0x57a6));
    tasks.push(tokio::task::spawn_local(stranger.run(Rc::clone(&stop))));
    let rage = faults::rage(Rc::clone(&cluster), SplitMix64::new(random.next_u64()), storm, Rc::clone(&stop));
    tasks.push(tokio::task::spawn_local(rage));
    let hold_up = faults::hold_up(Rc::clone(&cluster), SplitMix64::new(random.next_u64()), storm, Rc::clone(&stop));
    tasks.push(tokio::task::spawn_local(hold_up));
    let of_snapshots = SplitMix64::new(of_snapshots.next_u64());
    match mode {
        Mode::Scan | Mode::NoScan if plan.snapshots => {
            let restarts = restarts::now_and_then(Rc::clone(&cluster), of_snapshots, storm, Rc::clone(&stop));
            tasks.push(tokio::task::spawn_local(restarts));
        }
        Mode::Scan | Mode::NoScan => {}
        Mode::Overtaking => {
            overtaking::lag(&cluster, &mut random);
            let repeat = overtaking::repeat(Rc::clone(&cluster), SplitMix64::new(random.next_u64()), Rc::clone(&stop));
            tasks.push(tokio::task::spawn_local(repeat));
        }
        Mode::Restarts => {
            overtaking::lag(&cluster, &mut random);
            let restarts = Restarts::new(&cluster, &journal, of_snapshots);
            tasks.push(tokio::task::spawn_local(restarts.run(Rc::clone(&stop))));
        }
        Mode::SetBacks => {
            let set_backs = set_backs::run(Rc::clone(&cluster), SplitMix64::new(random.next_u64()), Rc::clone(&stop));
            tasks.push(tokio::task::spawn_local(set_backs));
        }
    }
    let deadline = Instant::now() + STORM;
    while Instant::now() < deadline && violation(&cluster, &journal).is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if violation(&cluster, &journal).is_none() {
        faults::finale(&cluster, &mut random, storm, &stop).await;
    }
    stop.set(true);
    for task in tasks {
        task.await.map_err(|error| format!("a task failed: {error}"))?;
    }
    faults::end(&cluster);
    calm(&cluster, &journal).await?;
    let tally = Tally {
        acknowledged: journal.acknowledged.borrow().len(),
        refused: journal.refused.borrow().len(),
        unknown: *journal.unknown.borrow(),
        answers: *journal.answers.borrow(),
        restores: cluster.epoch() - 1,
        told: cluster.events.published().len(),
    };
    cluster.crash_all();
    if tally.answers == 0 && mode != Mode::SetBacks {
        return Err("nobody was answered at all".to_owned());
    }
    Ok(tally)
}

/// What was told to callers, or promised to servers, and was not so.
fn violation(cluster: &Cluster, journal: &Journal) -> Option<String> {
    if !cluster.has_servers() {
        return journal.violation();
    }
    journal.violation().or_else(|| cluster.promises.broken()).or_else(|| cluster.told.broken())
}

/// Whether everything is where it has to be once faults are over.
async fn healed(cluster: &Cluster) -> Result<(), String> {
    if !cluster.has_servers() {
        return Ok(());
    }
    checks::all_equal(cluster).await?;
    told::all_told(cluster)
}

async fn calm(cluster: &Cluster, journal: &Journal) -> Result<(), String> {
    let deadline = Instant::now() + CALM_MAX;
    let mut last = healed(cluster).await;
    while last.is_err() && Instant::now() < deadline && violation(cluster, journal).is_none() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        last = healed(cluster).await;
    }
    if let Some(text) = violation(cluster, journal) {
        return Err(text);
    }
    last?;
    for place in (0..PROCESSES).filter(|_| cluster.has_servers()) {
        checks::ask_of_all(cluster, journal, place).await;
        checks::insist_on_answers(cluster, journal, place).await;
    }
    if let Some(text) = violation(cluster, journal) {
        return Err(text);
    }
    checks::check_store(cluster, journal)
}

/// Checks every server that becomes ready.
async fn watch_readiness(cluster: Rc<Cluster>, journal: Rc<Journal>, stop: Rc<Cell<bool>>) {
    let mut seen = [0; PROCESSES];
    while !stop.get() {
        for (place, seen) in seen.iter_mut().enumerate() {
            let server = cluster.server(place);
            let generation = server.process.generation;
            // A server without its store may serve a snapshot, and says how old that is: no promise of what was published since.
            if generation > *seen && server.handle.ready().is_ok() && !server.handle.serves_snapshot() {
                *seen = generation;
                checks::check_readiness(&cluster, &journal, &server).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
