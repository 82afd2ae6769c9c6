//! The shipped load generator, run against `tessera dev` with the scenario in it.

use tessera_benches::place::{asking_core, pinned};
use tessera_loadtest::report::Report;

use crate::binary::{self, Finished};
use crate::{Dev, Launch};

/// How many tenants the scenario has here.
pub const TENANTS: &str = "1000";

/// Runs it with these words, on the core that does not serve where that is told apart.
pub fn loadtest(words: &str) -> anyhow::Result<Finished> {
    binary::run(pinned(&binary::loadtest()?, asking_core()).args(words.split_whitespace()))
}

/// Puts load on `dev`; the report, and how it ended.
pub fn run(dev: &Dev, words: &str) -> anyhow::Result<(Report, Finished)> {
    let (data, control) = (dev.addresses().data, dev.addresses().control);
    let finished = loadtest(&format!("run --data-addr {data} --control-addr {control} --tenants {TENANTS} --json - {words}"))?;
    anyhow::ensure!(!finished.stdout.is_empty(), "no report: {}", finished.stderr);
    let report = serde_json::from_str(&finished.stdout)?;
    Ok((report, finished))
}

/// Puts the scenario into `dev`: what it said of that.
pub fn prepare(dev: &Dev, words: &str) -> anyhow::Result<String> {
    let finished = loadtest(&format!("prepare --control {} --tenants {TENANTS} {words}", dev.addresses().control))?;
    anyhow::ensure!(finished.code == Some(0), "{}", finished.stderr);
    Ok(finished.stderr)
}

/// Puts the scenario into what `launch` starts.
pub async fn deployment(launch: Launch) -> anyhow::Result<Dev> {
    let dev = launch.ready().await?;
    let said = prepare(&dev, "")?;
    let expected = "6 plans published, 1000 tenants created or changed, 0 as they should be";
    anyhow::ensure!(said.trim() == expected, "{said}");
    Ok(dev)
}
