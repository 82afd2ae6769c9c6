//! What can be counted exactly: instructions (by valgrind's callgrind) and allocations of the server process per request. These
//! rows have a baseline, `benches/baseline.json`, which CI holds them against.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::child::{self, Running};
use crate::load::{self, Call, Shape, Source};
use crate::report::Row;
use crate::stores::Workshop;

/// Tenants in the counted process: callgrind is slow, and the count hardly depends on it.
const TENANTS: u64 = 10_000;
/// How much more than its baseline a count may be: one part in so many.
const TOLERANCE: f64 = 0.05;

/// What is counted: the name, how calls are made, messages to warm up, messages under instructions, messages under allocations.
const SHAPES: [(&str, Shape, u64, u64); 3] = [
    ("unary", Shape { call: Call::Unary, connections: 1, under_way: 10 }, 2_000, 20_000),
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
        ask(&server, shape, messages / 10)?;
        let before = counted(&mut server)?;
        ask(&server, shape, messages)?;
        let after = counted(&mut server)?;
        let each = |after: u64, before: u64| per_message(after.saturating_sub(before), messages);
        rows.push(Row::measured(format!("{name}: allocations per message"), TENANTS, "count", &[each(after.0, before.0)]));
        rows.push(Row::measured(format!("{name}: allocated per message"), TENANTS, "B", &[each(after.1, before.1)]));
    }
    server.stop()?;
    Ok(rows)
}

/// Instructions of the server per request.
pub fn instructions(workshop: &Workshop) -> anyhow::Result<Vec<Row>> {
    const UNIT: &str = "count";
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        anyhow::ensure!(std::env::var_os("CI").is_none(), "valgrind is not installed, and CI skips nothing");
        return Ok(vec![Row::skipped("instructions per message", TENANTS, UNIT, "valgrind is not installed")]);
    }
    let store = workshop.store(TENANTS)?;
    let counts = workshop.path("callgrind");
    if counts.exists() {
        std::fs::remove_dir_all(&counts)?;
    }
    std::fs::create_dir(&counts)?;
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", "--dump-instr=no"]);
    command.arg(format!("--callgrind-out-file={}", counts.join("out").display())).arg(child::beside("tessera-server")?);
    let mut server = workshop.server(command, &store)?;
    server.ready()?;
    let mut rows = Vec::new();
    for (position, (name, shape, messages, _)) in SHAPES.into_iter().enumerate() {
        ask(&server, shape, messages / 4)?;
        control(&server, "--zero")?;
        ask(&server, shape, messages)?;
        control(&server, "--dump")?;
        let total = total(&counts, position + 1)?;
        rows.push(Row::measured(format!("{name}: instructions per message"), TENANTS, UNIT, &[per_message(total, messages)]));
    }
    server.stop()?;
    Ok(rows)
}

/// Holds counts against the baseline in that file: the rows that are more than they may be, and those that it does not know.
pub fn exceeded(rows: &[Row], baseline: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(baseline).with_context(|| format!("read `{}`", baseline.display()))?;
    let baseline: BTreeMap<String, f64> = serde_json::from_str(&text)?;
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
        .collect())
}

fn ask(server: &Running, shape: Shape, messages: u64) -> anyhow::Result<()> {
    load::run(server.address("data")?, shape, &Source::new(7, TENANTS, messages, true))
}

/// Allocations and bytes so far.
fn counted(server: &mut Running) -> anyhow::Result<(u64, u64)> {
    let line = server.ask("count")?;
    let (count, bytes) = line.split_once(' ').with_context(|| format!("counts in `{line}`"))?;
    Ok((count.parse()?, bytes.parse()?))
}

fn control(server: &Running, what: &str) -> anyhow::Result<()> {
    let output = Command::new("callgrind_control").arg(what).arg(server.id().to_string()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success() && said.contains("OK."), "callgrind_control {what}: {said}");
    Ok(())
}

/// The sum in the dump of that number.
fn total(folder: &Path, number: usize) -> anyhow::Result<u64> {
    let path = folder.join(format!("out.{number}"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("read `{}`", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    Ok(line.with_context(|| format!("a sum in `{}`", path.display()))?.trim().parse()?)
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
        std::fs::remove_file(&file).unwrap();
        assert_eq!(found, ["`b` is 105.1; the baseline is 100.0", "`c` is 1.0 and has no baseline"]);
    }
}
