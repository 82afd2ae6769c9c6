//! What lines say, which decisions are sampled, and what happens to lines that cannot be written.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use metrics::{Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder};
use serde_json::{Value, json};
use tessera_core::decision::{LimitQuery, Query, Reason};
use tessera_core::value::Amount;
use tessera_runtime::lifecycle::Signals;

use super::*;
use crate::decide::Wants;
use crate::metric_definitions::DECISION_LOG_LINES;
use crate::wire::encode::AsOf;

fn time() -> Timestamp {
    Timestamp::new(1_795_000_000, 123_456_789).unwrap()
}

fn check<'a>(feature: &'a str, limit: Option<LimitQuery<'a>>) -> Check<'a> {
    let query = Query { service: "reports", feature, limit };
    Check { tenant: "acme", query, wants: Wants::default(), unchecked: None, hidden: false, log: None }
}

fn answer<'a>(reason: Reason, plan: &'a str, as_of: &'a AsOf) -> Answer<'a> {
    Answer {
        reason,
        plan_id: plan,
        plan_version: u32::from(!plan.is_empty()) * 3,
        familiarity_basis_points: 0,
        limit: None,
        valid_until: None,
        revision: &[],
        as_of,
        grace_until: None,
        detail: None,
        explanation: None,
    }
}

fn settings(file: &Path) -> Settings {
    Settings { file: file.to_owned(), allow_per_million: ALL, deny_per_million: ALL, queue_max: 100 }
}

/// A log that nobody writes.
fn unwritten(settings: &Settings) -> (DecisionLog, Receiver<Record>) {
    let (queue, records) = sync_channel(settings.queue_max);
    (DecisionLog(Some(On::new(queue, settings, false, 7))), records)
}

/// Counts in place of the process's recorder, by name and labels: the counters that were made while it was in force.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(key.to_string()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Counts {
    /// Lines that were written.
    fn lines(&self) -> u64 {
        self.of(&Key::from_name(DECISION_LOG_LINES))
    }

    /// Lines that were dropped for that cause.
    fn dropped(&self, cause: &'static str) -> u64 {
        self.of(&Key::from_parts(DECISION_LOG_DROPPED, &[("cause", cause)]))
    }

    fn of(&self, key: &Key) -> u64 {
        self.0.lock().unwrap().get(&key.to_string()).map_or(0, |count| count.load(Ordering::Acquire))
    }
}

/// What is counted when so many denials of one second are handed to the thread that writes, once it has ended.
fn counted(sink: Sink, denials: usize) -> Counts {
    let counts = Counts::default();
    let (queue, records) = sync_channel(denials);
    let writer = with_local_recorder(&counts, || Writer::start(records, sink)).unwrap();
    for _ in 0..denials {
        queue.send(Record::of_refusal(time(), "ROUTE_UNKNOWN", Mode::ExtAuthz, true)).unwrap();
    }
    drop(writer);
    counts
}

async fn end(tasks: Tasks) {
    tasks.shutdown().drain();
    let (_sender, signals) = tokio::sync::mpsc::channel(1);
    tasks.run_until_stopped(Signals::of_channel(signals)).await;
}

#[tokio::test]
async fn lines_say_what_was_asked_and_answered_and_are_there_when_the_process_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decisions.jsonl");
    let tasks = Tasks::new();
    let config = Config { decision_log: Some(settings(&file)), ..Config::default() };
    let log = DecisionLog::start(&config, time(), &tasks).unwrap();
    let as_of = AsOf::new(None, time());
    let logged = log.of(Mode::Unary, false).unwrap();
    let limit = LimitQuery { name: "seats", amount: Amount::new(2).unwrap(), used: Amount::new(9).unwrap() };
    let id = HeaderValue::from_static("import 7");
    CALL.scope(id, async {
        logged.decided(time(), &check("view", Some(limit)), &answer(Reason::GrantedByPlan, "gold", &as_of), &[1, 2, 3]);
    })
    .await;
    let batch = log.of(Mode::Batch, false).unwrap();
    batch.decided(time(), &check("", None), &answer(Reason::TenantUnknown, "", &as_of), &[]);
    log.of(Mode::ExtAuthz, true).unwrap().refused(time(), "ROUTE_UNKNOWN");
    end(tasks).await;

    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!({
            "time": "2026-11-18T11:06:40.123456789Z", "mode": "unary", "tenant": "acme", "service": "reports", "feature": "view",
            "limit": {"name": "seats", "amount": 2, "used": 9}, "entitled": true, "reason": "GRANTED_BY_PLAN", "plan": "gold",
            "plan_version": 3, "revision": "AQID", "request_id": "import 7",
        }),
        json!({
            "time": "2026-11-18T11:06:40.123456789Z", "mode": "batch", "tenant": "acme", "service": "reports", "entitled": false,
            "reason": "TENANT_UNKNOWN",
        }),
        json!({
            "time": "2026-11-18T11:06:40.123456789Z", "mode": "ext_authz", "entitled": false, "reason": "ROUTE_UNKNOWN",
            "dry_run": true,
        }),
    ];
    assert_eq!(lines, expected, "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn allowed_and_denied_have_chances_of_their_own() {
    let of = |allow_per_million, deny_per_million| {
        let (log, _records) = unwritten(&Settings { allow_per_million, deny_per_million, ..settings(Path::new("x")) });
        let logged = log.of(Mode::Unary, false).unwrap();
        let sampled = |entitled| (0..100_000).filter(|_| logged.samples(entitled)).count();
        (sampled(true), sampled(false))
    };
    let (log, _records) = unwritten(&Settings { deny_per_million: 0, ..settings(Path::new("x")) });
    assert!(!log.of(Mode::ExtAuthz, false).unwrap().samples(false));
    assert!(log.of(Mode::ExtAuthz, true).unwrap().samples(false), "what a dry run would have denied is always told");
    assert_eq!(of(0, ALL), (0, 100_000));
    assert_eq!(of(ALL, 0), (100_000, 0));
    // Seven standard deviations; and the dice of a test begin alike but for the threads before it.
    let (allowed, denied) = of(10_000, 100_000);
    assert!((780..1_220).contains(&allowed) && (9_330..10_670).contains(&denied), "{allowed} {denied}");
}

#[test]
fn a_full_queue_drops_and_holds_nobody_up() {
    let counts = Counts::default();
    let small = Settings { queue_max: 2, ..settings(Path::new("x")) };
    let (log, records) = with_local_recorder(&counts, || unwritten(&small));
    for _ in 0..5 {
        log.of(Mode::ExtAuthz, false).unwrap().refused(time(), "ROUTE_UNKNOWN");
    }
    assert_eq!((records.try_iter().count(), counts.dropped("queue")), (2, 3));
    drop(records);
    log.of(Mode::ExtAuthz, false).unwrap().refused(time(), "ROUTE_UNKNOWN");
    assert_eq!(counts.dropped("queue"), 4, "nobody is left to write it");
}

#[test]
fn lines_are_counted_as_written_or_by_the_cause_they_were_dropped_for() {
    let folder = tempfile::tempdir().unwrap();
    let of = |counts: Counts| (counts.lines(), counts.dropped("write"), counts.dropped("rate"));
    assert_eq!(of(counted(Sink::open(&folder.path().join("log")).unwrap(), 5)), (5, 0, 0));
    assert_eq!(of(counted(Sink::open(Path::new("/dev/full")).unwrap(), 5)), (0, 5, 0));
    let max = sink::LOG_LINES_PER_SECOND_MAX;
    assert_eq!(of(counted(Sink::process_log(), max as usize + 50)), (u64::from(max), 0, 50));
}

#[test]
fn a_file_that_was_renamed_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let mut sink = Sink::open(&path).unwrap();
    sink.write("a\n").unwrap();
    sink.write("b\n").unwrap();
    std::fs::rename(&path, &moved).unwrap();
    sink.write("c\n").unwrap();
    std::fs::remove_file(&path).unwrap();
    sink.write("d\n").unwrap();
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "a\nb\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "d\n");
}

#[test]
fn a_full_disk_costs_lines_and_a_line_that_may_be_torn_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = (folder.path().join("log"), folder.path().join("whole"));
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut sink = Sink::open(&path).unwrap();
    sink.write("lost\n").unwrap_err();
    sink.write("lost\n").unwrap_err();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&whole, &path).unwrap();
    sink.write("kept\n").unwrap();
    sink.write("kept too\n").unwrap();
    assert_eq!(std::fs::read_to_string(&whole).unwrap(), "\nkept\nkept too\n");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let error = Sink::open(Path::new("/nonexistent/log")).unwrap_err().to_string();
    assert!(["decision_log.file", "`/nonexistent/log`", "`stdout`"].iter().all(|word| error.contains(word)), "{error}");
    for (bad, named) in [
        (Settings { allow_per_million: 1_000_001, ..settings(Path::new("x")) }, "`decision_log.allow_per_million` is `1000001`"),
        (Settings { queue_max: 0, ..settings(Path::new("x")) }, "`decision_log.queue_max` is `0`; allowed are 1 to 100000"),
    ] {
        let config = Config { decision_log: Some(bad), ..Config::default() };
        assert!(config.validate().unwrap_err().to_string().contains(named));
    }
}

#[tokio::test]
async fn a_dry_run_tells_what_envoys_would_be_denied_even_without_a_file() {
    let ext_authz = json!({ "dry_run": true, "tenant": [{ "from": "header", "name": "x-tenant" }] });
    let of = |ext_authz| Config { ext_authz: serde_json::from_value(ext_authz).unwrap(), ..Config::default() };
    let tasks = Tasks::new();
    let log = DecisionLog::start(&of(ext_authz.clone()), time(), &tasks).unwrap();
    assert!(log.of(Mode::Unary, false).is_none(), "only what Envoys ask");
    let logged = log.of(Mode::ExtAuthz, true).unwrap();
    assert!(logged.samples(false) && !logged.samples(true), "all that would be denied, and nothing else");
    let mut wet = ext_authz;
    wet["dry_run"] = false.into();
    assert!(!DecisionLog::start(&of(wet), time(), &tasks).unwrap().is_on());
    end(tasks).await;

    let mut sink = Sink::process_log();
    let max = sink::LOG_LINES_PER_SECOND_MAX;
    assert_eq!((0..max + 50).filter(|_| sink.takes(7)).count(), max as usize);
    assert!(sink.takes(8), "the next second has room again");
}
