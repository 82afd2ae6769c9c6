//! The local snapshot: how fast it is written, how large it is, and how soon the real server process is ready from it, with its
//! store and without.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::child::{self, Running};
use crate::report::{Goal, Row};
use crate::stores::Workshop;

/// Snapshots written, and starts of each kind.
const ROUNDS: u32 = 5;
/// How long a snapshot may take to be written.
const PATIENCE: Duration = Duration::from_mins(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const MANY_TENANTS: u64 = 10_000_000;

/// All rows of this kind.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn measure(workshop: &Workshop, tenants: u64) -> anyhow::Result<Vec<Row>> {
    let store = workshop.store(tenants)?;
    let folder = workshop.path("snapshots");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let mut writer = start(workshop, &store, &folder, "snapshot_interval_ms = 1000")?;
    writer.ready()?;
    let (mut bytes, mut rates) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        written(&writer, round)?;
        bytes.push(writer.metric("tessera_snapshot_bytes")? / tenants as f64);
        rates.push(tenants as f64 / writer.metric("tessera_snapshot_seconds")?);
    }
    writer.stop()?;

    let (mut with_store, mut alone) = (Vec::new(), Vec::new());
    let nowhere = workshop.path("no-store");
    std::fs::write(&nowhere, "a file where a data directory should be")?;
    for _ in 0..ROUNDS {
        with_store.push(until_ready(workshop, &store, &folder, "")?);
        alone.push(until_ready(workshop, &nowhere, &folder, "snapshot_wait_ms = 0")?);
    }
    let most = if tenants >= MANY_TENANTS { 5.0 } else { 1.0 };
    Ok(vec![
        Row::measured("snapshot: written, tenants per second", tenants, "1/s", &rates),
        Row::measured("snapshot: size per tenant", tenants, "B", &bytes),
        Row::measured("start from snapshot until ready, with its store", tenants, "s", &with_store).goal(Goal::AtMost(most)),
        Row::measured("start from snapshot until ready, without a store", tenants, "s", &alone).goal(Goal::AtMost(most)),
    ])
}

fn start(workshop: &Workshop, store: &Path, folder: &Path, more: &str) -> anyhow::Result<Running> {
    let command = std::process::Command::new(child::beside("tessera-server")?);
    let folder = folder.display().to_string();
    workshop.server_with(command, store, &format!("snapshots = true\nsnapshot_dir = {folder:?}\n{more}\n"))
}

/// Seconds from the command until it is ready.
fn until_ready(workshop: &Workshop, store: &Path, folder: &Path, more: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut server = start(workshop, store, folder, more)?;
    server.ready()?;
    let elapsed = began.elapsed().as_secs_f64();
    server.stop()?;
    Ok(elapsed)
}

/// Waits until that many snapshots are written.
fn written(server: &Running, count: u32) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if server.metric("tessera_snapshots_total{outcome=\"written\"}").is_ok_and(|written| written >= f64::from(count)) {
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    anyhow::bail!("no snapshot was written in {PATIENCE:?}")
}
