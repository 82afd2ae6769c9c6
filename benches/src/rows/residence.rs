//! Memory per tenant, hydration and cold start of the real server process over a store on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::child;
use crate::report::{Goal, Row};
use crate::stores::{COUNTED_PER_CENT, Workshop};

/// Starts of each store.
const ROUNDS: usize = 3;
const MANY_TENANTS: u64 = 10_000_000;
/// A table made for so many in a hundred of the tenants has all its shards rehashed, and not one of them twice: they stand 46 in a
/// hundred full.
const OUTGROWN: u64 = 85;

/// What one start amounted to.
struct Start {
    resident: u64,
    /// From the command to ready.
    elapsed: Duration,
    /// Of that, what the hydration took, in seconds.
    hydration: f64,
}

/// All rows of this kind.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn measure(workshop: &Workshop, tenants: u64) -> anyhow::Result<Vec<Row>> {
    let (empty, full) = (workshop.store(0)?, workshop.store(tenants)?);
    let (mut bytes, mut seconds, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (before, after) = (start(workshop, &empty, None)?, start(workshop, &full, None)?);
        bytes.push(after.resident.saturating_sub(before.resident) as f64 / tenants as f64);
        seconds.push(after.elapsed.as_secs_f64());
        rates.push(tenants as f64 / after.hydration);
    }
    let (before, after) = (start(workshop, &empty, Some(OUTGROWN))?, start(workshop, &full, Some(OUTGROWN))?);
    let outgrown = after.resident.saturating_sub(before.resident) as f64 / tenants as f64;
    let most = if tenants >= MANY_TENANTS { 100.0 } else { 120.0 };
    Ok(vec![
        Row::measured("resident memory per tenant", tenants, "B", &bytes).goal(Goal::AtMost(most)),
        Row::measured("resident memory per tenant, right after the worst load factor", tenants, "B", &[outgrown]),
        Row::measured("start from SQLite until ready", tenants, "s", &seconds),
        Row::measured("hydration from SQLite, tenants per second", tenants, "1/s", &rates).goal(Goal::AtLeast(500_000.0)),
    ])
}

/// With `counted`, the store tells of so many in a hundred of its tenants.
fn start(workshop: &Workshop, store: &Path, counted: Option<u64>) -> anyhow::Result<Start> {
    let binary = if counted.is_some() { "counted-server" } else { "tessera-server" };
    let mut command = std::process::Command::new(child::beside(binary)?);
    command.envs(counted.map(|per_cent| (COUNTED_PER_CENT, per_cent.to_string())));
    let began = Instant::now();
    let mut server = workshop.server(command, store)?;
    server.ready()?;
    let elapsed = began.elapsed();
    let hydration = server.metric("tessera_hydration_seconds")?;
    let start = Start { elapsed, resident: server.resident()?, hydration };
    server.stop()?;
    Ok(start)
}
