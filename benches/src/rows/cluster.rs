//! A cluster on real engines: what the adapters cost beside bare drivers, how soon a write is seen by every server, and a server that
//! has nothing but the store to fill itself from.

mod rehydration;
mod visible;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::child;
use crate::cluster::engines::Engines;
use crate::cluster::fill::fill;
use crate::cluster::place::Place;
use crate::cluster::turns::{Job, Order, Turn};
use crate::report::{Goal, Row};
use crate::scenario;
use crate::stores::Workshop;

/// Tenants of an ordinary run.
const TENANTS: u64 = 100_000;
/// Tenants of `--full`, besides.
const MANY_TENANTS: u64 = 1_000_000;
/// Starts of a server over so many tenants, and over many.
const STARTS: usize = 5;
const STARTS_OF_MANY: usize = 3;
/// How long the store may be busy with what was written to it.
const CALM_WITHIN: Duration = Duration::from_mins(5);

/// All rows of this kind; with `full`, rehydration of many tenants too.
pub fn measure(workshop: &Workshop, full: bool) -> anyhow::Result<Vec<Row>> {
    let engines = match Engines::start(workshop)? {
        Ok(engines) => engines,
        Err(missing) => {
            let reason = format!("there are no engines here for want of {missing}");
            return Ok(vec![Row::skipped("cluster", TENANTS, "–", &reason)]);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    let small = filled(workshop, &engines, &runtime, TENANTS)?;
    rows.extend(replay(&small)?);
    rows.extend(append(&engines, &runtime)?);
    rows.extend(visible::measure(workshop, &engines, &runtime)?);
    rows.extend(scan(&small, TENANTS)?);
    rows.extend(rehydration::measure(workshop, &engines, &small, (TENANTS, STARTS))?);
    if full {
        let large = filled(workshop, &engines, &runtime, MANY_TENANTS)?;
        rows.extend(rehydration::measure(workshop, &engines, &large, (MANY_TENANTS, STARTS_OF_MANY))?);
    }
    engines.stop()?;
    Ok(rows)
}

/// A keyspace with so many tenants, which is kept, and a topic with nothing in it. Returns when the store has nothing to do.
fn filled(workshop: &Workshop, engines: &Engines, runtime: &Runtime, tenants: u64) -> anyhow::Result<Place> {
    let place = Place::new(engines, format!("bench_{}_{tenants}", scenario::VERSION));
    runtime.block_on(fill(&place, &workshop.store(tenants)?))?;
    calm(engines)?;
    Ok(place)
}

/// Waits until the store has written out and merged what it was given.
fn calm(engines: &Engines) -> anyhow::Result<()> {
    /// Of CPU time in a second, for so many seconds.
    const LITTLE: (Duration, u32) = (Duration::from_millis(100), 3);
    let Some(process) = engines.store_process() else { return Ok(()) };
    let (until, mut quiet) = (Instant::now() + CALM_WITHIN, 0);
    while quiet < LITTLE.1 {
        anyhow::ensure!(Instant::now() < until, "the store was busy for {CALM_WITHIN:?} after it was written to");
        let before = child::cpu_of(process)?;
        std::thread::sleep(Duration::from_secs(1));
        quiet = if child::cpu_of(process)?.saturating_sub(before) <= LITTLE.0 { quiet + 1 } else { 0 };
    }
    Ok(())
}

/// Has the adapters do it, and the bare drivers, in turns.
fn turns(place: &Place, job: Job, tenants: u64) -> anyhow::Result<Rounds> {
    let order = serde_json::to_string(&Order { job, backends: place.config(), tenants })?;
    let mut command = Command::new(child::beside("cluster-adapters")?);
    let output = command.arg(order).stderr(Stdio::inherit()).output().context("run `cluster-adapters`")?;
    anyhow::ensure!(output.status.success(), "`cluster-adapters` ended with {} at {job:?}", output.status);
    Ok(Rounds(serde_json::from_slice(&output.stdout).context("read what `cluster-adapters` says")?))
}

/// Of every round, a turn of each.
struct Rounds(Vec<Vec<Turn>>);

impl Rounds {
    /// A value of the turns of one of them.
    fn of(&self, who: usize, value: impl Fn(&Turn) -> f64) -> Vec<f64> {
        self.0.iter().filter_map(|round| round.get(who)).map(value).collect()
    }

    /// A value of one over that of another in the same round.
    fn ratios(&self, (who, over): (usize, usize), value: impl Fn(&Turn) -> f64) -> Vec<f64> {
        let (who, over) = (self.of(who, &value), self.of(over, &value));
        who.iter().zip(over).map(|(who, over)| who / over).collect()
    }
}

fn scan(place: &Place, tenants: u64) -> anyhow::Result<Vec<Row>> {
    const DECODED: usize = 0;
    const DROPPED: usize = 1;
    const BARE: usize = 2;
    let rounds = turns(place, Job::Scan, tenants)?;
    let row = |what: &str, unit, values: &[f64]| Row::measured(format!("scan of a keyspace, {what}"), tenants, unit, values);
    Ok(vec![
        row("rows per second", "1/s", &rounds.of(DECODED, Turn::rate)),
        row("rows per second, states dropped", "1/s", &rounds.of(DROPPED, Turn::rate)),
        row("rows per second of the bare driver", "1/s", &rounds.of(BARE, Turn::rate)),
        row("rate over the bare driver's", "×", &rounds.ratios((DECODED, BARE), Turn::rate)).goal(Goal::AtLeast(0.9)),
        row("rate over the bare driver's, states dropped", "×", &rounds.ratios((DROPPED, BARE), Turn::rate)),
        row("CPU per row", "µs", &rounds.of(DECODED, Turn::cpu_micros)),
        row("CPU per row, states dropped", "µs", &rounds.of(DROPPED, Turn::cpu_micros)),
        row("CPU per row of the bare driver", "µs", &rounds.of(BARE, Turn::cpu_micros)),
    ])
}

fn replay(place: &Place) -> anyhow::Result<Vec<Row>> {
    const OURS: usize = 0;
    const ONE: usize = 1;
    const MANY: usize = 2;
    let rounds = turns(place, Job::Replay, TENANTS)?;
    let row = |what: &str, unit, values: &[f64]| Row::measured(format!("replay of a feed, {what}"), 0, unit, values);
    Ok(vec![
        row("records per second", "1/s", &rounds.of(OURS, Turn::rate)),
        row("records per second of a bare consumer", "1/s", &rounds.of(ONE, Turn::rate)),
        row("records per second of a bare consumer per partition", "1/s", &rounds.of(MANY, Turn::rate)),
        row("rate over a bare consumer's", "×", &rounds.ratios((OURS, ONE), Turn::rate)).goal(Goal::AtLeast(0.75)),
        row("rate over that of a bare consumer per partition", "×", &rounds.ratios((OURS, MANY), Turn::rate)),
        row("records per second of CPU", "1/s", &rounds.of(OURS, Turn::per_cpu_second)).goal(Goal::AtLeast(300_000.0)),
        row("records per second of CPU of a bare consumer", "1/s", &rounds.of(ONE, Turn::per_cpu_second)),
        row("records per second of CPU of a bare consumer per partition", "1/s", &rounds.of(MANY, Turn::per_cpu_second)),
    ])
}

fn append(engines: &Engines, runtime: &Runtime) -> anyhow::Result<Vec<Row>> {
    const OURS: usize = 0;
    const BARE: usize = 1;
    let place = Place::unique(engines);
    runtime.block_on(place.migrate())?;
    let rounds = turns(&place, Job::Append, 0)?;
    runtime.block_on(place.drop_keyspace())?;
    let row = |what: &str, unit, values: &[f64]| Row::measured(format!("append to a keyspace, {what}"), 0, unit, values);
    let (p50, p99) = (|turn: &Turn| turn.latency_ms(500), |turn: &Turn| turn.latency_ms(990));
    Ok(vec![
        row("p50", "ms", &rounds.of(OURS, p50)),
        row("p50 of the bare batch", "ms", &rounds.of(BARE, p50)),
        row("p50 over the bare batch's", "×", &rounds.ratios((OURS, BARE), p50)).goal(Goal::AtMost(1.2)),
        row("p99", "ms", &rounds.of(OURS, p99)),
        row("p99 of the bare batch", "ms", &rounds.of(BARE, p99)),
        row("CPU", "µs", &rounds.of(OURS, Turn::cpu_micros)),
        row("CPU of the bare batch", "µs", &rounds.of(BARE, Turn::cpu_micros)),
        row("CPU over the bare batch's", "×", &rounds.ratios((OURS, BARE), Turn::cpu_micros)).goal(Goal::AtMost(1.2)),
    ])
}
