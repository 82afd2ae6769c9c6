//! What a run found: as JSON with a published schema, and what there is to say of it in the end.
//!
//! The fields are for programs of other people: they are only ever added to, and [`FORMAT`] changes when one changes its meaning.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::{Account, Cause, Hold, Occurrences, WrongAnswer};
use crate::rate::Rate;
pub use table::table;

/// The form of the report.
pub const FORMAT: u32 = 1;
/// The generator was the bottleneck when more than one in so many messages left late.
const LATE_GOOD: u64 = 100;
/// A thread that is busy for a greater part of the time was the bottleneck.
const BUSY_GOOD: f64 = 0.9;

/// A whole run of `tessera-loadtest run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The form of this report: 1.
    pub format: u32,
    /// What wrote it.
    pub program: String,
    /// The version of the scenario; another version has other answers.
    pub scenario_version: u32,
    /// What was asked for.
    pub settings: Settings,
    /// One for each rate, in order; steps that were not begun are left out.
    pub steps: Vec<Step>,
    /// The load before the first step, which counts only for wrong answers and errors.
    pub warm_up: Option<Step>,
    /// The changes beside the load, if there were any.
    pub updates: Option<Updates>,
    /// Checks with an answer that is not the expected one, warm-up included.
    pub wrong: u64,
    /// The first of them.
    pub wrong_answers: Vec<WrongAnswer>,
    /// Messages that failed, or were not sent, and checks that failed by themselves; warm-up left out.
    pub failed: u64,
    /// Somebody ended the run early.
    pub interrupted: bool,
    /// The run ended early because nobody answered any more.
    pub gave_up: bool,
    /// What to know before believing the figures.
    pub warnings: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Servers: host:port.
    pub data_addrs: Vec<String>,
    /// Tenants that are asked about.
    pub tenants: u64,
    /// `unary`, `stream` or `batch`.
    pub mode: String,
    /// Checks in a message.
    pub checks_per_message: u64,
    /// `constant` or `poisson`.
    pub arrivals: String,
    /// Exponent of the Zipf law; absent: all tenants alike.
    pub zipf: Option<f64>,
    /// Connections over all servers.
    pub connections: u32,
    /// Streams on each connection; 0 unless in stream mode.
    pub streams_per_connection: u32,
    /// Most messages under way.
    pub in_flight_max: u32,
    /// From when a message is due until its answer is of no use.
    pub deadline_ms: u64,
    /// Threads that send.
    pub threads: u32,
    /// Repeats the questions and the random distances.
    pub seed: u64,
}

/// The figures of one rate. Rates count messages: calls, frames or batches. Every message that was due is answered, failed or
/// not sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Messages offered per second, at the beginning of the step.
    pub offered_per_second: f64,
    /// The same at its end; differs for ramps.
    pub offered_per_second_at_end: f64,
    /// How long messages were due.
    pub duration_seconds: f64,
    /// How long it took until the last message had its fate.
    pub elapsed_seconds: f64,
    /// Messages that were due.
    pub due: u64,
    /// Messages with an answer in time.
    pub answered: u64,
    /// Messages that were sent and failed.
    pub failed: u64,
    /// Messages that could not be sent before their deadline, by what held them: `IN_FLIGHT_LIMIT`, `NO_CONNECTION`,
    /// `GENERATOR_TOO_SLOW`.
    pub not_sent: BTreeMap<String, u64>,
    /// Messages answered per second.
    pub answered_per_second: f64,
    /// Checks with an answer.
    pub checks: u64,
    /// The same per second.
    pub checks_per_second: f64,
    /// Checks that failed by themselves in messages that were answered.
    pub failed_checks: u64,
    /// Checks with an answer that is not the expected one.
    pub wrong: u64,
    /// From when a message was due until its answer was there. Of messages that were answered.
    pub latency: Latency,
    /// The messages among the failed that a server refused, if there were any.
    pub refused: Option<Refused>,
    /// What failed, by name.
    pub errors: Vec<Error>,
    /// Connections and streams that broke or could not be made, by name.
    pub broken: Vec<Error>,
    /// What the generator itself took.
    pub generator: Generator,
}

/// A distribution of waits, in microseconds. All are 0 if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Greatest.
    pub max_us: f64,
}

/// Messages that a server refused as a whole (`RESOURCE_EXHAUSTED`), and how soon they were told. Checks that are refused by
/// themselves in a message that is answered are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// From when a message was due until it was refused.
    pub latency: Latency,
    /// From when it was sent until then: without what the generator held back. Sent is what HTTP/2 was given; what the other side
    /// does not read yet counts.
    pub since_sent: Latency,
}

/// Failures of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Error {
    /// gRPC's code; `CLIENT` where no status came.
    pub code: String,
    /// Tessera's stable reason (`OVERLOADED`), or what the generator saw (`NO_ANSWER_IN_TIME`); may be empty.
    pub reason: String,
    /// How often.
    pub count: u64,
    /// What was said the first time.
    pub example: String,
}

/// What the generator itself took: whether figures are those of the deployment or its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// CPU time of the threads that send.
    pub cpu_seconds: f64,
    /// CPU time per message that was answered or failed.
    pub cpu_us_per_message: f64,
    /// The part of the time for which the busiest of them was busy: 1 is always.
    pub busiest_thread: f64,
    /// Messages that left more than a millisecond late though nothing but the generator held them.
    pub late: u64,
    /// From when a message was due until it left, where nothing but the generator held it.
    pub lateness: Latency,
}

/// The changes beside the load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Updates {
    /// Changes offered per second.
    pub offered_per_second: f64,
    /// How long it took until the last change had its fate.
    pub elapsed_seconds: f64,
    /// Changes that were due.
    pub due: u64,
    /// Changes that were acknowledged.
    pub acknowledged: u64,
    /// Changes that failed.
    pub failed: u64,
    /// Changes that could not be sent in time.
    pub not_sent: u64,
    /// Changes acknowledged per second.
    pub acknowledged_per_second: f64,
    /// From when a change was due until it was acknowledged.
    pub latency: Latency,
    /// What failed, by name.
    pub errors: Vec<Error>,
}

/// A step with what its workers took.
#[derive(Debug)]
pub struct Measured {
    /// What was offered.
    pub rate: Rate,
    /// How long messages were due.
    pub duration: Duration,
    /// How long it took until the last message had its fate.
    pub elapsed: Duration,
    /// What became of the messages.
    pub account: Account,
    /// CPU time of the threads.
    pub cpu: Duration,
    /// CPU time of the busiest of them.
    pub busiest: Duration,
}

impl Step {
    /// The figures.
    pub fn of(measured: &Measured) -> Self {
        let Measured { rate, duration, elapsed, account, cpu, busiest } = measured;
        let seconds = elapsed.as_secs_f64().max(duration.as_secs_f64());
        let sent = account.answered + account.failed;
        Self {
            offered_per_second: rate.from,
            offered_per_second_at_end: rate.to,
            duration_seconds: duration.as_secs_f64(),
            elapsed_seconds: elapsed.as_secs_f64(),
            due: account.due,
            answered: account.answered,
            failed: account.failed,
            not_sent: account.not_sent.iter().map(|(hold, count)| (hold.name().to_owned(), *count)).collect(),
            answered_per_second: float(account.answered) / seconds,
            checks: account.checks,
            checks_per_second: float(account.checks) / seconds,
            failed_checks: account.failed_checks,
            wrong: account.wrong,
            latency: Latency::of(&account.latency),
            refused: Refused::of(account),
            errors: errors(&account.errors),
            broken: errors(&account.broken),
            generator: Generator {
                cpu_seconds: cpu.as_secs_f64(),
                cpu_us_per_message: cpu.as_secs_f64() * 1e6 / float(sent.max(1)),
                busiest_thread: busiest.as_secs_f64() / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
                late: account.late,
                lateness: Latency::of(&account.lateness),
            },
        }
    }

    /// Messages that were due and not answered, and checks that failed by themselves.
    pub fn failures(&self) -> u64 {
        self.failed + self.failed_checks + self.not_sent.values().sum::<u64>()
    }

    /// Why its figures may be the generator's own.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let name = Rate { from: self.offered_per_second, to: self.offered_per_second_at_end };
        let Generator { busiest_thread, late, lateness, .. } = self.generator;
        let lateness_us = lateness.p99_us;
        if late.saturating_mul(LATE_GOOD) > self.due {
            warnings.push(format!(
                "at {name}/s the generator itself was late ({late} messages by more than 1 ms, p99 {:.1} ms): latencies contain \
                 its own delay; give it a machine of its own, more --threads, or a lower rate",
                lateness_us / 1e3
            ));
        }
        if busiest_thread > BUSY_GOOD {
            let percent = busiest_thread * 100.0;
            warnings.push(format!(
                "at {name}/s a thread of the generator was busy for {percent:.0} % of the time: the deployment may manage more; \
                 use more --threads"
            ));
        }
        if let Some(count) = self.not_sent.get(Hold::UnderWay.name()) {
            warnings.push(format!(
                "at {name}/s {count} messages waited for the limit of --in-flight until their deadline was over: the deployment \
                 does not keep up, or the limit is too low"
            ));
        }
        warnings
    }
}

impl Updates {
    /// The figures.
    pub fn of(rate: Rate, elapsed: Duration, account: &Account) -> Self {
        Self {
            offered_per_second: rate.from,
            elapsed_seconds: elapsed.as_secs_f64(),
            due: account.due,
            acknowledged: account.answered,
            failed: account.failed,
            not_sent: account.not_sent_count(),
            acknowledged_per_second: float(account.answered) / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            latency: Latency::of(&account.latency),
            errors: errors(&account.errors),
        }
    }
}

impl Refused {
    fn of(account: &Account) -> Option<Self> {
        let Account { refusal, refusal_since_sent, .. } = account;
        (!refusal.is_empty()).then(|| Self {
            count: refusal.len(),
            latency: Latency::of(refusal),
            since_sent: Latency::of(refusal_since_sent),
        })
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| float(histogram.value_at_quantile(quantile)) / 1e3;
        Self {
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: float(histogram.max()) / 1e3,
        }
    }
}

fn errors(counts: &BTreeMap<Cause, Occurrences>) -> Vec<Error> {
    let mut errors: Vec<_> = counts
        .iter()
        .map(|(Cause { code, reason }, Occurrences { count, example })| Error {
            code: code.clone(),
            reason: reason.clone(),
            count: *count,
            example: example.clone(),
        })
        .collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    errors
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
fn float(count: u64) -> f64 {
    count as f64
}

/// The JSON schema of [`Report`].
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Report).to_value()
}

#[cfg(test)]
mod tests;
