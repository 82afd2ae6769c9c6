//! Local mode of the client: how long a check takes that memory answers, and whether it allocates.

use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::child;
use crate::report::{Goal, Row};
use crate::stores::Workshop;

/// As many as one watch holds.
pub const TENANTS: u64 = 10_000;

/// All rows of this kind.
pub fn measure(workshop: &Workshop) -> anyhow::Result<Vec<Row>> {
    // Both planes: without a loader nobody says how new the data is, and memory must not answer.
    let store = workshop.path("store-of-local-mode");
    workshop.import(&store, TENANTS)?;
    let mut server = workshop.dev(&store)?;
    server.ready()?;
    let mut command = Command::new(child::beside("local-checks")?);
    command.arg(server.address("data")?.to_string());
    let output = command.stderr(std::process::Stdio::inherit()).output().context("run `local-checks`")?;
    anyhow::ensure!(output.status.success(), "`local-checks` ended with {}", output.status);
    server.stop()?;
    let rounds: Vec<Value> = serde_json::from_slice(&output.stdout).context("read what `local-checks` says")?;
    let of = |name: &str| -> anyhow::Result<Vec<f64>> {
        rounds.iter().map(|round| round.get(name).and_then(Value::as_f64).with_context(|| format!("no `{name}`"))).collect()
    };
    let row = |name: &str, values: &[f64]| Row::measured(format!("check in local mode, {name}"), TENANTS, "ns", values);
    Ok(vec![
        row("one after the other", &of("in_a_row")?),
        row("p50", &of("p50")?).goal(Goal::AtMost(200.0)),
        row("p99", &of("p99")?),
        Row::measured("check in local mode: allocations", TENANTS, "count", &of("allocations")?).goal(Goal::AtMost(0.0)),
    ])
}
