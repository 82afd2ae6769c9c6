//! Memory per tenant, hydration and cold start of the real server process over a store on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::child;
use crate::report::{Goal, Row};
use crate::stores::Workshop;

/// Starts of each store.
const ROUNDS: usize = 3;
const MANY_TENANTS: u64 = 10_000_000;

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
        let (before, after) = (start(workshop, &empty)?, start(workshop, &full)?);
        bytes.push(after.resident.saturating_sub(before.resident) as f64 / tenants as f64);
        seconds.push(after.elapsed.as_secs_f64());
        rates.push(tenants as f64 / after.hydration);
    }
    let most = if tenants >= MANY_TENANTS { 100.0 } else { 120.0 };
    Ok(vec![
        Row::measured("resident memory per tenant", tenants, "B", &bytes).goal(Goal::AtMost(most)),
        Row::measured("start from SQLite until ready", tenants, "s", &seconds),
        Row::measured("hydration from SQLite, tenants per second", tenants, "1/s", &rates).goal(Goal::AtLeast(500_000.0)),
    ])
}

fn start(workshop: &Workshop, store: &Path) -> anyhow::Result<Start> {
    let command = std::process::Command::new(child::beside("tessera-server")?);
    let began = Instant::now();
    let mut server = workshop.server(command, store)?;
    server.ready()?;
    let elapsed = began.elapsed();
    let hydration = server.metric("tessera_hydration_seconds")?;
    let start = Start { elapsed, resident: server.resident()?, hydration };
    server.stop()?;
    Ok(start)
}
