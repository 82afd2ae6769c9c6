//! Decisions inside the process: how long one takes, alone and while a storm of changes is applied beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tessera_core::decision::Query;
use tessera_core::stream::StreamKind;
use tessera_ports::change_feed::{FeedBatch, FeedError, FeedMessage, Position, Topic};
use tessera_ports::memory::SplitMix64;
use tessera_ports::{Change, ChangeFeed, EventStore};
use tessera_runtime::clock::{SystemClock, SystemIds};
use tessera_runtime::lifecycle::Tasks;
use tessera_server::{Dependencies, Handle};

use crate::report::{Goal, Row};
use crate::scenario::{self, Question};
use crate::stores::{self, Workshop};

/// Decisions of a round.
const DECISIONS: usize = 1_000_000;
/// Rounds, each alone and in a storm.
const ROUNDS: usize = 3;
/// Changes of one read of the feed in a storm, and the time between reads: [`STORM_RATE`] where whoever reads keeps up.
const STORM_BATCH: usize = 1_000;
const STORM_PAUSE: Duration = Duration::from_millis(10);
/// Changes a second in a storm.
const STORM_RATE: f64 = 100_000.0;
/// Less of it is another storm than the rows name.
const STORM_PART_MIN: f64 = 0.9;
/// Tenants that a storm changes over and over.
const STORM_TENANTS: usize = 100_000;

/// All rows of this kind.
pub fn measure(workshop: &Workshop, tenants: u64) -> anyhow::Result<Vec<Row>> {
    let config = tessera_backends::Config::Sqlite(tessera_backends::SqliteConfig::new(&workshop.store(tenants)?));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let backends = runtime.block_on(tessera_backends::open(&config, &stores::opening(Arc::new(SystemIds))))?.ports;
    let storm = Arc::new(Storm::over(Arc::clone(&backends.feed), runtime.block_on(states(&*backends.store))?));
    let tasks = Tasks::new();
    let server = {
        let _inside = runtime.enter();
        let feed = Arc::clone(&storm) as Arc<dyn ChangeFeed>;
        let dependencies = Dependencies { store: Arc::clone(&backends.store), feed, clock: Arc::new(SystemClock) };
        let config = tessera_server::Config { repair_scan: false, ..tessera_server::Config::default() };
        tessera_server::build(config, dependencies, &tasks)?.start(&tasks)
    };
    runtime.block_on(server.loaded());
    let questions = Questions::draw(tenants);
    let (mut quiet, mut stormy, mut handed_out) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(round(&server, &questions)?);
        let (before, began) = (storm.sent.load(Ordering::Relaxed), Instant::now());
        // A pace of its own: the reads of the quiet time before are not caught up with.
        *storm.pace.blocking_lock() = None;
        storm.rages.store(true, Ordering::Release);
        stormy.push(round(&server, &questions)?);
        let (sent, elapsed) = (storm.sent.load(Ordering::Relaxed) - before, began.elapsed());
        storm.rages.store(false, Ordering::Release);
        anyhow::ensure!(sent > 0, "there was no storm");
        handed_out.push(per_second(sent, elapsed));
    }
    tasks.shutdown().abort();
    drop(runtime);
    Ok(rows(tenants, &quiet, &stormy, &handed_out))
}

fn rows(tenants: u64, quiet: &[Percentiles], stormy: &[Percentiles], handed_out: &[f64]) -> Vec<Row> {
    let row = |name: &str, rounds: &[Percentiles], of: fn(&Percentiles) -> f64| {
        Row::measured(format!("decision in process, {name}"), tenants, "ns", &rounds.iter().map(of).collect::<Vec<_>>())
    };
    let ratios: Vec<f64> = quiet.iter().zip(stormy).map(|(quiet, stormy)| stormy.p999 / quiet.p999).collect();
    // The next read comes when the changes of the one before are applied: what is handed out is applied.
    let least = handed_out.iter().copied().fold(f64::INFINITY, f64::min);
    let in_the_storm = |row: Row| {
        if least >= STORM_PART_MIN * STORM_RATE {
            return row;
        }
        Row::skipped(&row.row, tenants, row.unit, &format!("the storm had {least:.0} changes a second instead of {STORM_RATE}"))
    };
    vec![
        row("mean", quiet, |round| round.mean),
        row("p50", quiet, |round| round.p50).goal(Goal::AtMost(250.0)),
        row("p99", quiet, |round| round.p99),
        row("p99.9", quiet, |round| round.p999),
        in_the_storm(row("p50 in a storm of 100,000 changes a second", stormy, |round| round.p50)),
        in_the_storm(row("p99.9 in a storm", stormy, |round| round.p999)),
        in_the_storm(
            Row::measured("decision in process, p99.9 in a storm over quiet", tenants, "×", &ratios).goal(Goal::AtMost(1.3)),
        ),
        Row::measured("decision in process, changes handed out in a storm", tenants, "1/s", handed_out),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "changes of one round")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// In ns. Reading the clock is in them.
#[derive(Debug, Clone, Copy)]
struct Percentiles {
    mean: f64,
    p50: f64,
    p99: f64,
    p999: f64,
}

/// Questions in the form in which they are asked, made before the clock runs.
struct Questions {
    names: Vec<(String, String)>,
    asked: Vec<(String, usize, bool)>,
}

impl Questions {
    fn draw(tenants: u64) -> Self {
        let mut random = SplitMix64::new(3);
        let asked = std::iter::repeat_with(|| Question::draw(&mut random, tenants)).take(DECISIONS);
        Self {
            names: (0..scenario::SERVICES * scenario::FEATURES).map(scenario::names).collect(),
            asked: asked.map(|question| (question.tenant.id(), question.feature, question.entitled)).collect(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one decision")]
fn round(server: &Handle, questions: &Questions) -> anyhow::Result<Percentiles> {
    let mut nanos = Vec::with_capacity(questions.asked.len());
    for (tenant, feature, entitled) in &questions.asked {
        let (service, feature) = &questions.names[*feature];
        let began = Instant::now();
        let reason = server.decide(tenant, Query { service, feature, limit: None });
        nanos.push(began.elapsed().as_nanos() as f64);
        let reason = reason.map_err(|failure| anyhow::anyhow!("{}: {}", failure.reason(), failure.message()))?;
        anyhow::ensure!(reason.entitles() == *entitled, "{tenant} {service} {feature} was answered {reason:?}");
    }
    let mean = nanos.iter().sum::<f64>() / nanos.len() as f64;
    nanos.sort_by(f64::total_cmp);
    let at = |per_mille: usize| nanos.get(nanos.len() * per_mille / 1_000).copied().unwrap_or(f64::NAN);
    Ok(Percentiles { mean, p50: at(500), p99: at(990), p999: at(999) })
}

/// The current states of some tenants.
async fn states(store: &dyn EventStore) -> anyhow::Result<Vec<Change>> {
    let mut states = Vec::new();
    for mut range in store.scan_ranges(StreamKind::Tenant).await? {
        while states.len() < STORM_TENANTS {
            let page = store.scan(&range, STORM_BATCH).await?;
            states.extend(page.changes);
            match page.rest {
                Some(rest) => range = rest,
                None => break,
            }
        }
    }
    anyhow::ensure!(!states.is_empty(), "a store without tenants");
    Ok(states)
}

/// A feed that, while it rages, says over and over that tenants have changed, at a rate.
#[derive(Debug)]
struct Storm {
    feed: Arc<dyn ChangeFeed>,
    states: Vec<Change>,
    rages: AtomicBool,
    /// Since the storm's first read; catches up with what a slow read missed.
    pace: tokio::sync::Mutex<Option<tokio::time::Interval>>,
    sent: AtomicU64,
}

impl Storm {
    fn over(feed: Arc<dyn ChangeFeed>, states: Vec<Change>) -> Self {
        Self { feed, states, rages: AtomicBool::new(false), pace: tokio::sync::Mutex::new(None), sent: AtomicU64::new(0) }
    }

    /// The next change: the same state at a greater seq.
    fn next(&self) -> Option<Change> {
        let sent = self.sent.fetch_add(1, Ordering::Relaxed);
        let states = u64::try_from(self.states.len()).ok()?;
        let state = self.states.get(usize::try_from(sent % states).ok()?)?;
        Some(Change { seq: state.seq + 1 + sent / states, ..state.clone() })
    }
}

#[tonic::async_trait]
impl ChangeFeed for Storm {
    async fn topic(&self) -> Result<Topic, FeedError> {
        self.feed.topic().await
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        self.feed.ends().await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        if !self.rages.load(Ordering::Acquire) {
            return self.feed.read(topic, partition, from, limit, wait.min(STORM_PAUSE)).await;
        }
        self.pace.lock().await.get_or_insert_with(|| tokio::time::interval(STORM_PAUSE)).tick().await;
        let changes = std::iter::repeat_with(|| self.next()).take(STORM_BATCH.min(limit)).flatten();
        Ok(FeedBatch { messages: changes.map(FeedMessage::Change).collect(), next: from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_that_was_too_weak_has_no_figures() {
        let round = Percentiles { mean: 600.0, p50: 600.0, p99: 1_400.0, p999: 2_000.0 };
        let of = |handed_out: [f64; 2]| rows(1_000, &[round; 2], &[round; 2], &handed_out);
        let enough = of([90_000.0, 101_000.0]);
        assert!(enough.iter().all(|row| row.value.is_some() && !row.row.contains("skipped")), "{enough:?}");
        let weak = of([101_000.0, 63_000.0]);
        let skipped: Vec<_> = weak.iter().filter(|row| row.value.is_none()).collect();
        assert_eq!(skipped.len(), 3, "{weak:?}");
        let reason = "in a storm: skipped, the storm had 63000 changes a second instead of 100000";
        assert!(skipped.iter().all(|row| row.met.is_none()) && skipped[1].row.ends_with(reason), "{skipped:?}");
        let told = weak.iter().find(|row| row.row.contains("handed out")).unwrap();
        assert_eq!((told.value, told.min), (Some(101_000.0), Some(63_000.0)));
    }
}
