//! The published schema, and what is told of a run.

use super::*;
use crate::account::Cause;

fn report(steps: Vec<Step>) -> Report {
    let settings = Settings {
        data_addrs: vec!["127.0.0.1:7400".to_owned()],
        tenants: 1_000,
        mode: "unary".to_owned(),
        checks_per_message: 1,
        arrivals: "constant".to_owned(),
        zipf: None,
        connections: 4,
        streams_per_connection: 0,
        in_flight_max: 1_000,
        deadline_ms: 1_000,
        threads: 1,
        seed: 7,
    };
    Report {
        format: FORMAT,
        program: "tessera-loadtest".to_owned(),
        scenario_version: 1,
        settings,
        wrong: steps.iter().map(|step| step.wrong).sum(),
        failed: steps.iter().map(Step::failures).sum(),
        warnings: steps.iter().flat_map(Step::warnings).collect(),
        steps,
        warm_up: None,
        updates: None,
        wrong_answers: Vec::new(),
        interrupted: false,
        gave_up: false,
    }
}

fn measured(happen: impl FnOnce(&mut Account)) -> Measured {
    let mut account = Account::new().unwrap();
    happen(&mut account);
    let second = Duration::from_secs(1);
    let cpu = Duration::from_millis(100);
    Measured { rate: Rate::constant(1_000.0), duration: second, elapsed: second, account, cpu, busiest: cpu }
}

#[test]
fn the_schema_beside_the_documentation_is_the_one_of_the_code() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("report.schema.json");
    let published: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(published, schema(), "write it again with `tessera-loadtest schema > loadtest/report.schema.json`");
}

#[test]
fn a_report_is_read_back_and_every_field_is_described() {
    let step = Step::of(&measured(|account| account.sent(Duration::ZERO, false)));
    let report = report(vec![step]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(serde_json::from_value::<Report>(json.clone()).unwrap(), report);
    let described = schema();
    for (name, _) in json.as_object().unwrap() {
        assert!(described["properties"][name]["description"].is_string(), "`{name}` has no description");
    }
}

#[test]
fn every_message_is_accounted_for() {
    let step = Step::of(&measured(|account| {
        for _ in 0..900 {
            account.sent(Duration::ZERO, false);
            account.answered(Duration::from_millis(2));
        }
        account.sent(Duration::ZERO, true);
        account.failed(Cause { code: "UNAVAILABLE".to_owned(), reason: "DRAINING".to_owned() }, "bye");
        account.not_sent(Hold::NoConnection);
    }));
    assert_eq!((step.due, step.answered, step.failed, step.failures()), (902, 900, 1, 2));
    assert_eq!(step.not_sent["NO_CONNECTION"], 1);
    assert!((step.answered_per_second - 900.0).abs() < 1e-9);
    assert!((step.latency.p50_us - 2_000.0).abs() < 10.0, "{:?}", step.latency);
    assert!(step.warnings().is_empty(), "{:?}", step.warnings());
    let text = table(&report(vec![step]));
    for part in ["1 × UNAVAILABLE DRAINING: bye", "1 × not sent: NO_CONNECTION", "2.00 ms", "--seed 7"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn how_soon_refusals_came_is_told_if_there_were_any() {
    let cause = |code: &str| Cause { code: code.to_owned(), reason: "OVERLOADED".to_owned() };
    let failed = Step::of(&measured(|account| {
        account.sent(Duration::ZERO, false);
        account.failed(cause("UNAVAILABLE"), "no");
    }));
    assert_eq!((failed.failed, failed.refused), (1, None));
    assert_eq!(serde_json::to_value(&failed).unwrap()["refused"], serde_json::Value::Null);
    assert!(!table(&report(vec![failed])).contains("refused"));
    let step = Step::of(&measured(|account| {
        for _ in 0..98 {
            account.sent(Duration::from_millis(30), true);
            account.refused(Duration::from_millis(34), Duration::from_millis(4), cause("RESOURCE_EXHAUSTED"), "too much");
        }
        for _ in 0..2 {
            account.sent(Duration::from_millis(30), true);
            account.refused(Duration::from_millis(90), Duration::from_millis(60), cause("RESOURCE_EXHAUSTED"), "too much");
        }
        account.sent(Duration::ZERO, false);
        account.failed(cause("UNAVAILABLE"), "no");
    }));
    let refused = step.refused.unwrap();
    assert_eq!((refused.count, step.failed), (100, 101));
    let told = [refused.latency.p50_us, refused.latency.p99_us, refused.since_sent.p50_us, refused.since_sent.p99_us];
    for (told, expected) in told.into_iter().zip([34e3, 90e3, 4e3, 60e3]) {
        assert!((told - expected).abs() < expected / 500.0, "{told} instead of {expected}");
    }
    let text = table(&report(vec![step]));
    let told = "at 1k/s: 100 refused: p50 34.0 ms, p99 90.0 ms; since they were sent: p50 4.00 ms, p99 60.0 ms";
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_generator_that_was_the_bottleneck_says_so() {
    let late = Step::of(&measured(|account| {
        for _ in 0..100 {
            account.sent(Duration::from_millis(5), false);
            account.answered(Duration::from_millis(6));
        }
    }));
    assert!(late.warnings().iter().any(|warning| warning.contains("100 messages by more than 1 ms")), "{:?}", late.warnings());
    let busy = Step::of(&Measured { busiest: Duration::from_millis(950), ..measured(|_| {}) });
    assert!(busy.warnings().iter().any(|warning| warning.contains("95 %")), "{:?}", busy.warnings());
    // What something else held is not the generator's fault.
    let held = Step::of(&measured(|account| account.sent(Duration::from_millis(500), true)));
    assert_eq!((held.warnings(), held.generator.late), (Vec::new(), 0));
}
