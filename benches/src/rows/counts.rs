//! What can be counted exactly: instructions (by valgrind's callgrind) and allocations per message, of the thread that serves.
//! These rows have a baseline, `benches/baseline.json`, which CI holds them against.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::child::{self, Running};
use crate::load::{self, Call, Shape, Source};
use crate::report::Row;
use crate::stores::Workshop;
use crate::twin;

/// Tenants in the counted process: callgrind is slow, and the count hardly depends on it.
const TENANTS: u64 = 10_000;
/// How much more than its baseline a count may be, as a part of it.
const TOLERANCE: f64 = 0.05;

/// What is counted: the name, how calls are made, messages to warm up, messages under instructions, messages under allocations.
const SHAPES: [(&str, Shape, u64, u64); 4] = [
    ("unary", Shape { call: Call::Unary, connections: 1, under_way: 10 }, 2_000, 20_000),
    ("Envoy", Shape { call: Call::Envoy, connections: 1, under_way: 10 }, 2_000, 20_000),
    ("stream, 50 checks a frame", Shape { call: Call::Frame(50), connections: 1, under_way: 10 }, 400, 4_000),
    ("batch of 1,000", Shape { call: Call::Batch(1_000), connections: 1, under_way: 1 }, 20, 200),
];

/// Allocations of the server per request; bytes with them.
pub fn allocations(workshop: &Workshop) -> anyhow::Result<Vec<Row>> {
    let store = workshop.store(TENANTS)?;
    let command = Command::new(child::beside("counted-server")?);
    let mut server = workshop.server(command, &store)?;
    server.ready()?;
    let mut rows = Vec::new();
    for (name, shape, _, messages) in SHAPES {
        ask(&server, shape, messages / 10, true)?;
        let before = counted(&mut server)?;
        ask(&server, shape, messages, true)?;
        let after = counted(&mut server)?;
        let grown = before.iter().zip(&after).map(|(before, after)| (after.0 - before.0, after.1 - before.1));
        let (count, bytes) = grown.max().context("a process without threads")?;
        let row = |what: &str, unit, total| {
            Row::measured(format!("{name}: {what} per message"), TENANTS, unit, &[per_message(total, messages)])
        };
        rows.extend([row("allocations", "count", count), row("allocated", "B", bytes)]);
    }
    server.stop()?;
    Ok(rows)
}

/// Instructions of the server and of its twin per message.
pub fn instructions(workshop: &Workshop) -> anyhow::Result<Vec<Row>> {
    const UNIT: &str = "count";
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        anyhow::ensure!(!tessera_engines::in_ci(), "valgrind is not installed, and CI skips nothing");
        return Ok(vec![Row::skipped("instructions per message", TENANTS, UNIT, "valgrind is not installed")]);
    }
    let mut server = workshop.server(counting(workshop, "tessera-server")?, &workshop.store(TENANTS)?)?;
    server.ready()?;
    let twin = twin::of(&server, counting(workshop, "echo-twin")?, workshop)?;
    let mut rows = Vec::new();
    for (position, (name, shape, messages, _)) in SHAPES.into_iter().enumerate() {
        let count = |process: &Running, program, checked| -> anyhow::Result<f64> {
            ask(process, shape, messages / 4, checked)?;
            control(process, "--zero")?;
            ask(process, shape, messages, checked)?;
            control(process, "--dump")?;
            Ok(per_message(total(workshop, program, position + 1)?, messages))
        };
        let (ours, bare) = (count(&server, "tessera-server", true)?, count(&twin, "echo-twin", false)?);
        let row = |what: &str, unit, value| Row::measured(format!("{name}: instructions{what}"), TENANTS, unit, &[value]);
        rows.push(row(" per message", UNIT, ours));
        rows.push(row(" per message of the bare echo", UNIT, bare));
        rows.push(row(", ratio", "×", ours / bare));
    }
    server.stop()?;
    twin.stop()?;
    Ok(rows)
}

/// Runs that program so that its instructions are counted.
fn counting(workshop: &Workshop, program: &str) -> anyhow::Result<Command> {
    let counts = workshop.path(program);
    if counts.exists() {
        std::fs::remove_dir_all(&counts)?;
    }
    std::fs::create_dir(&counts)?;
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", counts.join("out").display()));
    command.arg(child::beside(program)?);
    // Everything waits long here, and that is no overload.
    command.env("TESSERA_LISTENER__WAIT_TARGET_MS", "1000");
    Ok(command)
}

/// Holds counts against the baseline in that file: the rows that are more than they may be, those that it does not know, and where
/// nothing was skipped those that nobody counts any more.
pub fn exceeded(rows: &[Row], baseline: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(baseline).with_context(|| format!("read `{}`", baseline.display()))?;
    let baseline: BTreeMap<String, f64> = serde_json::from_str(&text)?;
    let forgotten = baseline.keys().filter(|name| rows.iter().all(|row| row.value.is_some() && row.row != **name));
    let forgotten = forgotten.map(|name| format!("`{name}` has a baseline and is not counted"));
    Ok(rows
        .iter()
        .filter_map(|row| row.value.map(|value| (row, value)))
        .filter_map(|(row, value)| match baseline.get(&row.row) {
            None => Some(format!("`{}` is {value:.1} and has no baseline", row.row)),
            Some(least) if value > least * (1.0 + TOLERANCE) => {
                Some(format!("`{}` is {value:.1}; the baseline is {least:.1}", row.row))
            }
            Some(_) => None,
        })
        .chain(forgotten)
        .collect())
}

fn ask(process: &Running, shape: Shape, messages: u64, checked: bool) -> anyhow::Result<()> {
    load::run(process.address("data")?, shape, &Source::new(7, TENANTS, messages, checked))
}

/// Allocations and bytes of every thread so far.
fn counted(server: &mut Running) -> anyhow::Result<Vec<(u64, u64)>> {
    let line = server.ask("count")?;
    serde_json::from_str(&line).with_context(|| format!("counts in `{line}`"))
}

fn control(server: &Running, what: &str) -> anyhow::Result<()> {
    let output = Command::new("callgrind_control").arg(what).arg(server.id().to_string()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success() && said.contains("OK."), "callgrind_control {what}: {said}");
    Ok(())
}

/// What the thread that serves has spent by the dump of that number: it has spent most. The others do what they do by the clock.
fn total(workshop: &Workshop, program: &str, number: usize) -> anyhow::Result<u64> {
    let (folder, of_dump) = (workshop.path(program), format!("out.{number}-"));
    let mut most = 0;
    for file in std::fs::read_dir(&folder)? {
        let path = file?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&of_dump)) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read `{}`", path.display()))?;
            let sum = text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
            let sum = sum.with_context(|| format!("a sum in `{}`", path.display()))?;
            most = most.max(sum.trim().parse()?);
        }
    }
    anyhow::ensure!(most > 0, "dump {number} in `{}` has no threads", folder.display());
    Ok(most)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn per_message(total: u64, messages: u64) -> f64 {
    total as f64 / messages as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_its_baseline_is_named_and_what_has_none_too() {
        let file = std::env::temp_dir().join(format!("tessera-baseline-{}.json", std::process::id()));
        std::fs::write(&file, r#"{"a": 100.0, "b": 100.0}"#).unwrap();
        let row = |name: &str, value| Row::measured(name, 1, "count", &[value]);
        let skipped = Row::skipped("d", 1, "count", "no tool");
        let found = exceeded(&[row("a", 104.9), row("b", 105.1), row("c", 1.0), skipped], &file).unwrap();
        assert_eq!(found, ["`b` is 105.1; the baseline is 100.0", "`c` is 1.0 and has no baseline"]);
        let fewer = exceeded(&[row("a", 100.0)], &file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(fewer, ["`b` has a baseline and is not counted"]);
    }
}
