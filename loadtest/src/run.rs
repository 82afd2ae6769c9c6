//! A whole run: the look whether the scenario is there, threads, steps, progress, an early end, the report.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::ProgressBar;
use tessera_benches::scenario::{self, SplitMix64};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::account::{Account, EXAMPLES_MAX};
use crate::arguments::Run;
use crate::credentials::{Credentials, Way};
use crate::popularity::Popularity;
use crate::probe;
use crate::question::Mode;
use crate::rate::Rate;
use crate::report::{FORMAT, Measured, Report, Settings, Step, Updates};
use crate::schedule::{Arrivals, Schedule, Share};
use crate::storm::{Changes, Storm};
use crate::worker::{self, Assignment, Done, Order, Progress};

/// Between order and beginning of the first step: connections are made meanwhile.
const LEAD: Duration = Duration::from_millis(300);
/// The same of later steps.
const LEAD_BETWEEN: Duration = Duration::from_millis(20);
/// Between two looks at how it goes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The threads that send.
struct Workers {
    orders: Vec<mpsc::Sender<Order>>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    progress: Arc<Progress>,
    stop: watch::Sender<bool>,
}

/// Why a run ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Early {
    Interrupted,
    GaveUp,
}

/// Puts load on the deployment. `seed` is used when the arguments name none. An error means that there was no load.
pub async fn run(arguments: &Run, seed: u64) -> anyhow::Result<Report> {
    arguments.validate()?;
    let seed = arguments.seed.unwrap_or(seed);
    let credentials = arguments.who.read()?;
    let ways: Vec<Way> =
        arguments.data_addr.iter().map(|address| credentials.way(address, "--data-addr")).collect::<Result<_, _>>()?;
    let storm = storm(arguments, &credentials, seed)?;
    if !arguments.skip_probe {
        for way in &ways {
            probe::probe(way, arguments.tenants).await?;
        }
    }
    if let Some(storm) = &storm {
        storm.begin().await?;
    }
    let (end_of_storm, storm_ends) = watch::channel(false);
    let raging = storm.clone().map(|storm| std::thread::spawn(move || storm.rage(storm_ends)));
    let mut workers = Workers::start(arguments, &ways, seed)?;
    let bar = bar(arguments);
    let mut watcher = Watcher::new(arguments, &workers, bar.clone());

    let mut report = empty(arguments, seed);
    let first = arguments.rate.first().copied().context("--rate: allowed is at least one")?;
    let mut wrong = Vec::new();
    let warm_up = (!arguments.warm_up.is_zero()).then_some((first, arguments.warm_up, true));
    let steps = warm_up.into_iter().chain(arguments.rate.iter().map(|rate| (*rate, arguments.duration, false)));
    let mut early = None;
    for (number, (rate, duration, is_warm_up)) in steps.enumerate() {
        let lead = if number == 0 { LEAD } else { LEAD_BETWEEN };
        let seed = SplitMix64::new(seed ^ number as u64).next_u64();
        let outcome = workers.step(rate, duration, arguments.arrivals, seed, lead, &mut watcher).await?;
        let measured = outcome.measured;
        wrong.extend(measured.account.examples.iter().cloned());
        let step = Step::of(&measured);
        report.wrong += step.wrong;
        if is_warm_up {
            report.warm_up = Some(step);
        } else {
            report.failed += step.failures();
            report.warnings.extend(step.warnings());
            report.steps.push(step);
        }
        early = outcome.early;
        if early.is_some() {
            break;
        }
    }
    end_of_storm.send_replace(true);
    workers.join()?;
    bar.finish_and_clear();
    if let (Some(raging), Some(storm)) = (raging, storm) {
        let Changes { account, elapsed } = joined(raging)?;
        report.failed += account.failed + account.not_sent_count();
        report.updates = Some(Updates::of(storm.rate, elapsed, &account));
    }
    wrong.truncate(EXAMPLES_MAX);
    report.wrong_answers = wrong;
    report.interrupted = early == Some(Early::Interrupted);
    report.gave_up = early == Some(Early::GaveUp);
    Ok(report)
}

fn storm(arguments: &Run, credentials: &Credentials, seed: u64) -> anyhow::Result<Option<Storm>> {
    let Some(rate) = arguments.updates else { return Ok(None) };
    let way = credentials.way(&arguments.control_addr, "--control-addr")?;
    Ok(Some(Storm { way, rate, arrivals: arguments.arrivals, tenants: arguments.tenants, seed }))
}

fn empty(arguments: &Run, seed: u64) -> Report {
    let name = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let settings = Settings {
        data_addrs: arguments.data_addr.iter().map(ToString::to_string).collect(),
        tenants: arguments.tenants,
        mode: name(&arguments.mode),
        checks_per_message: arguments.checks() as u64,
        arrivals: name(&arguments.arrivals),
        zipf: arguments.zipf,
        connections: arguments.connections,
        streams_per_connection: if arguments.mode == Mode::Stream { arguments.streams } else { 0 },
        in_flight_max: arguments.under_way_max(),
        deadline_ms: u64::try_from(arguments.deadline.as_millis()).unwrap_or(u64::MAX),
        threads: arguments.threads,
        seed,
    };
    Report {
        format: FORMAT,
        program: format!("tessera-loadtest {}", env!("CARGO_PKG_VERSION")),
        scenario_version: scenario::VERSION,
        settings,
        steps: Vec::new(),
        warm_up: None,
        updates: None,
        wrong: 0,
        wrong_answers: Vec::new(),
        failed: 0,
        interrupted: false,
        gave_up: false,
        warnings: Vec::new(),
    }
}

fn joined<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the load generator panicked")))
}

// === impl Workers ===

/// A step's figures, and whether the run ended with it.
struct Outcome {
    measured: Measured,
    early: Option<Early>,
}

impl Workers {
    fn start(arguments: &Run, ways: &[Way], seed: u64) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let progress = Arc::new(Progress::default());
        let (mut orders, mut threads) = (Vec::new(), Vec::new());
        for index in 0..arguments.threads {
            let assignment = assignment(arguments, ways, index, seed)?;
            let (sender, receiver) = mpsc::channel(1);
            let (progress, stopped) = (Arc::clone(&progress), stopped.clone());
            let thread = std::thread::Builder::new().name(format!("load-{index}"));
            threads.push(thread.spawn(move || worker::work(&assignment, progress, receiver, stopped)).context("start a thread")?);
            orders.push(sender);
        }
        Ok(Self { orders, threads, progress, stop })
    }

    async fn step(
        &mut self,
        rate: Rate,
        duration: Duration,
        arrivals: Arrivals,
        seed: u64,
        lead: Duration,
        watcher: &mut Watcher,
    ) -> anyhow::Result<Outcome> {
        let begin = Instant::now() + lead;
        let of = u32::try_from(self.orders.len())?;
        let mut dones = Vec::new();
        for (index, orders) in (0..).zip(&self.orders) {
            let schedule = Schedule::new(rate, duration, arrivals, Share { index, of }, seed.wrapping_add(u64::from(index)));
            let (done, receiver) = oneshot::channel();
            if orders.send(Order { begin, schedule, done }).await.is_err() {
                return Err(self.failure());
            }
            dones.push(receiver);
        }
        let mut early = None;
        let mut all = Box::pin(futures::future::try_join_all(dones));
        let finished = loop {
            tokio::select! {
                finished = &mut all => break finished,
                ended = watcher.watch(rate, begin), if early.is_none() => {
                    early = Some(ended);
                    self.stop.send_replace(true);
                }
            }
        };
        let Ok(finished) = finished else { return Err(self.failure()) };
        watcher.finished(duration);
        let nothing = Account::new()?;
        let mut sum =
            Measured { rate, duration, elapsed: Duration::ZERO, account: nothing, cpu: Duration::ZERO, busiest: Duration::ZERO };
        for Done { account, cpu, elapsed } in finished {
            sum.account.add(account)?;
            sum.elapsed = sum.elapsed.max(elapsed);
            sum.cpu += cpu;
            sum.busiest = sum.busiest.max(cpu);
        }
        if early.is_some() {
            // What would have been due later was not.
            sum.duration = sum.duration.min(sum.elapsed);
        }
        Ok(Outcome { measured: sum, early })
    }

    /// Why a worker is gone.
    fn failure(&mut self) -> anyhow::Error {
        self.stop.send_replace(true);
        self.join().err().unwrap_or_else(|| anyhow::anyhow!("a thread of the load generator ended early"))
    }

    fn join(&mut self) -> anyhow::Result<()> {
        self.orders.clear();
        let ended: Vec<_> = std::mem::take(&mut self.threads).into_iter().map(joined).collect();
        ended.into_iter().collect()
    }
}

/// A worker's part of everything.
fn assignment(arguments: &Run, ways: &[Way], index: u32, seed: u64) -> anyhow::Result<Assignment> {
    let own = |whole: u32| whole / arguments.threads + u32::from(index < whole % arguments.threads);
    let all = ways.iter().cycle().take(usize::try_from(arguments.connections)?);
    let connections = all.skip(usize::try_from(index)?).step_by(usize::try_from(arguments.threads)?);
    let tenants = arguments.tenants;
    Ok(Assignment {
        connections: connections.cloned().collect(),
        streams: arguments.streams,
        mode: arguments.mode,
        size: arguments.checks(),
        under_way_max: usize::try_from(own(arguments.under_way_max()))?,
        deadline: arguments.deadline,
        popularity: arguments.zipf.map_or_else(|| Popularity::uniform(tenants), |exponent| Popularity::zipf(tenants, exponent)),
        seed: SplitMix64::new(seed.wrapping_add(u64::from(index))).next_u64(),
    })
}

/// Shows how it goes, and ends what has no sense any more.
struct Watcher {
    progress: Arc<Progress>,
    bar: ProgressBar,
    give_up_after: Duration,
    /// Steps that are over, together.
    before: Duration,
    alive: u64,
    failed: u64,
    alive_at: Instant,
    answered: (u64, Instant),
}

fn bar(arguments: &Run) -> ProgressBar {
    if arguments.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let steps = u32::try_from(arguments.rate.len()).unwrap_or(u32::MAX);
    let whole = arguments.warm_up + arguments.duration.saturating_mul(steps);
    let style = indicatif::ProgressStyle::with_template("{wide_bar} {eta} {msg}");
    let style = style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    ProgressBar::new(millis(whole)).with_style(style)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Watcher {
    fn new(arguments: &Run, workers: &Workers, bar: ProgressBar) -> Self {
        let (progress, now) = (Arc::clone(&workers.progress), Instant::now());
        let give_up_after = arguments.give_up_after;
        Self { progress, bar, give_up_after, before: Duration::ZERO, alive: 0, failed: 0, alive_at: now, answered: (0, now) }
    }

    /// Returns when the run should end early.
    async fn watch(&mut self, rate: Rate, begin: Instant) -> Early {
        loop {
            tokio::select! {
                // Without a handler for the signal there is nothing to wait for.
                Ok(()) = tokio::signal::ctrl_c() => return Early::Interrupted,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.nobody_answers() {
                return Early::GaveUp;
            }
            self.show(rate, begin);
        }
    }

    /// Failures without any sign of life for too long. Where nothing is due nothing can be told.
    fn nobody_answers(&mut self) -> bool {
        let (alive, failed) = (self.progress.alive.load(Ordering::Relaxed), self.progress.failed.load(Ordering::Relaxed));
        if alive != self.alive || failed == self.failed {
            (self.alive, self.failed, self.alive_at) = (alive, failed, Instant::now());
        }
        self.alive_at.elapsed() >= self.give_up_after
    }

    fn show(&mut self, rate: Rate, begin: Instant) {
        let now = Instant::now();
        let answered = self.progress.answered.load(Ordering::Relaxed);
        let since = now.saturating_duration_since(self.answered.1).as_millis().max(1);
        let per_second = u128::from(answered - self.answered.0) * 1_000 / since;
        self.answered = (answered, now);
        self.bar.set_position(millis(self.before + now.saturating_duration_since(begin)));
        let (failed, wrong) = (self.progress.failed.load(Ordering::Relaxed), self.progress.wrong.load(Ordering::Relaxed));
        self.bar.set_message(format!("{rate}/s offered, {per_second}/s answered, {failed} failed, {wrong} wrong"));
    }

    fn finished(&mut self, duration: Duration) {
        self.before += duration;
    }
}
