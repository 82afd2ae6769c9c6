//! A report for people.

use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::{Error, Refused, Report, Step};
use crate::rate::Rate;

/// Wrong answers that are printed in full.
const WRONG_SHOWN_MAX: usize = 5;
/// Characters of what was said that are printed.
const SAID_LEN_MAX: usize = 100;

/// Steps as a table, and below it everything that went wrong.
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "offered/s",
        "answered/s",
        "checks/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "failed",
        "not sent",
        "wrong",
        "own CPU",
        "late",
    ]);
    for step in &report.steps {
        table.add_row(row(step));
    }
    let mut text = format!("{table}\n");
    let settings = &report.settings;
    let popularity = settings.zipf.map_or_else(|| "all alike".to_owned(), |exponent| format!("Zipf {exponent}"));
    let seed = settings.seed;
    line(
        &mut text,
        format_args!("{} tenants, {popularity}; latencies count from when a message was due; --seed {seed}", settings.tenants),
    );
    if let Some(updates) = &report.updates {
        let latency = updates.latency;
        line(
            &mut text,
            format_args!(
                "updates: {}/s offered, {:.0}/s acknowledged, p50 {}, p99 {}; {} failed, {} not sent",
                Rate::constant(updates.offered_per_second),
                updates.acknowledged_per_second,
                time(latency.p50_us),
                time(latency.p99_us),
                updates.failed,
                updates.not_sent
            ),
        );
        errors(&mut text, "an update failed", &updates.errors);
    }
    let warm_up = report.warm_up.iter().map(|step| (step, " (warm-up)"));
    for (step, when) in warm_up.chain(report.steps.iter().map(|step| (step, ""))) {
        let rate = Rate { from: step.offered_per_second, to: step.offered_per_second_at_end };
        errors(&mut text, &format!("at {rate}/s{when}"), &step.errors);
        if let Some(Refused { count, latency, since_sent }) = step.refused {
            let [p50, p99] = [latency.p50_us, latency.p99_us].map(time);
            let [sent_p50, sent_p99] = [since_sent.p50_us, since_sent.p99_us].map(time);
            line(
                &mut text,
                format_args!(
                    "at {rate}/s{when}: {count} refused: p50 {p50}, p99 {p99}; since they were sent: p50 {sent_p50}, p99 {sent_p99}"
                ),
            );
        }
        errors(&mut text, &format!("at {rate}/s{when}, connections and streams"), &step.broken);
        for (hold, count) in &step.not_sent {
            line(&mut text, format_args!("at {rate}/s{when}: {count} × not sent: {hold}"));
        }
    }
    for warning in &report.warnings {
        line(&mut text, format_args!("warning: {warning}"));
    }
    if report.wrong > 0 {
        line(&mut text, format_args!("WRONG ANSWERS: {}", report.wrong));
        for wrong in report.wrong_answers.iter().take(WRONG_SHOWN_MAX) {
            let (tenant, service, feature) = (&wrong.tenant_id, &wrong.service, &wrong.feature);
            let (expected, answered) = (&wrong.expected, &wrong.answered);
            line(&mut text, format_args!("  {tenant} {service} {feature}\n    expected: {expected}\n    answered: {answered}"));
        }
    } else {
        let checks: u64 = report.steps.iter().map(|step| step.checks).sum();
        match checks {
            0 => line(&mut text, format_args!("no answers")),
            _ => line(&mut text, format_args!("{checks} answers, every one as expected")),
        }
    }
    if report.interrupted {
        line(&mut text, format_args!("interrupted: these are the figures up to then"));
    }
    if report.gave_up {
        line(&mut text, format_args!("gave up: nobody answered any more (--give-up-after)"));
    }
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // A string takes everything.
    writeln!(text, "{words}").unwrap_or_default();
}

fn errors(text: &mut String, what: &str, errors: &[Error]) {
    for Error { code, reason, count, example } in errors {
        let gap = if reason.is_empty() { "" } else { " " };
        let said: String = example.chars().take(SAID_LEN_MAX).collect();
        line(text, format_args!("{what}: {count} × {code}{gap}{reason}: {said}"));
    }
}

fn row(step: &Step) -> Vec<String> {
    let rate = Rate { from: step.offered_per_second, to: step.offered_per_second_at_end };
    let latency = step.latency;
    let own = step.generator;
    vec![
        rate.to_string(),
        format!("{:.0}", step.answered_per_second),
        format!("{:.0}", step.checks_per_second),
        time(latency.p50_us),
        time(latency.p90_us),
        time(latency.p99_us),
        time(latency.p999_us),
        time(latency.max_us),
        (step.failed + step.failed_checks).to_string(),
        step.not_sent.values().sum::<u64>().to_string(),
        step.wrong.to_string(),
        format!("{:.0} %, {:.1} µs", own.busiest_thread * 100.0, own.cpu_us_per_message),
        own.late.to_string(),
    ]
}

/// Three significant digits; nothing takes no time at all.
fn time(microseconds: f64) -> String {
    if microseconds <= 0.0 {
        return "–".to_owned();
    }
    let (value, unit) = match microseconds {
        1_000_000.0.. => (microseconds / 1e6, "s"),
        1_000.0.. => (microseconds / 1e3, "ms"),
        _ => (microseconds, "µs"),
    };
    match value {
        100.0.. => format!("{value:.0} {unit}"),
        10.0.. => format!("{value:.1} {unit}"),
        _ => format!("{value:.2} {unit}"),
    }
}
