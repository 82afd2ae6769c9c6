//! A real server process that starts with nothing but the store: no snapshot, and nothing in the feed. How long it takes, who is
//! busy meanwhile, and how much more memory it needs for it than afterwards.

use std::time::{Duration, Instant};

use crate::child;
use crate::cluster::engines::Engines;
use crate::cluster::place::{Place, Role};
use crate::report::{Goal, Row};
use crate::stores::Workshop;

/// Between two looks at a server that is hydrating.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// After so long without calls memory is as it stays: what was freed has gone back to the system.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Looks at it then, and between two of them.
const STEADY_LOOKS: usize = 21;
const STEADY_PAUSE: Duration = Duration::from_millis(250);

/// What one start amounted to; times in seconds.
struct Start {
    until_ready: f64,
    hydration: f64,
    server_cpu: f64,
    /// `None` where the store is somebody else's.
    store_cpu: Option<f64>,
    /// Of all cores.
    idle: f64,
    resident_most: f64,
    resident_steady: f64,
}

/// All rows of this kind, from so many starts.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn measure(
    workshop: &Workshop,
    engines: &Engines,
    place: &Place,
    (tenants, rounds): (u64, usize),
) -> anyhow::Result<Vec<Row>> {
    let cores = std::thread::available_parallelism()?.get() as f64;
    let mut starts = Vec::new();
    for _ in 0..rounds {
        starts.push(start(workshop, engines, place, tenants)?);
    }
    let all = |value: &dyn Fn(&Start) -> Option<f64>| starts.iter().filter_map(value).collect::<Vec<_>>();
    let row = |what: &str, unit, values: &[f64]| {
        Row::measured(format!("rehydration from the store alone, {what}"), tenants, unit, values)
    };
    let share = |cpu: f64, start: &Start| cpu / (start.until_ready * cores);
    let mut rows = vec![
        row("until ready", "s", &all(&|start| Some(start.until_ready))),
        row("tenants per second", "1/s", &all(&|start| Some(tenants as f64 / start.hydration))),
        row("CPU of the server per tenant", "µs", &all(&|start| Some(start.server_cpu * 1e6 / tenants as f64))),
        row("share of all cores for the server", "×", &all(&|start| Some(share(start.server_cpu, start)))),
        row("share of all cores for nobody", "×", &all(&|start| Some(share(start.idle, start)))),
    ];
    if engines.store_process().is_some() {
        rows.extend([
            row("CPU of the store per tenant", "µs", &all(&|start| Some(start.store_cpu? * 1e6 / tenants as f64))),
            row("share of all cores for the store", "×", &all(&|start| Some(share(start.store_cpu?, start)))),
        ]);
    } else {
        rows.push(Row::skipped(
            "rehydration from the store alone, CPU of the store",
            tenants,
            "µs",
            "the store is somebody else's",
        ));
    }
    let megabytes = |what: &str, values: &[f64]| Row::measured(format!("resident memory, {what}"), tenants, "MB", values);
    rows.extend([
        megabytes("most until hydrated from the store", &all(&|start| Some(start.resident_most / 1e6))),
        megabytes("after that", &all(&|start| Some(start.resident_steady / 1e6))),
        Row::measured(
            "memory while hydrating over steady state",
            tenants,
            "×",
            &all(&|start| Some(start.resident_most / start.resident_steady)),
        )
        .goal(Goal::AtMost(1.3)),
    ]);
    Ok(rows)
}

#[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^52")]
fn start(workshop: &Workshop, engines: &Engines, place: &Place, tenants: u64) -> anyhow::Result<Start> {
    let store_cpu = || engines.store_process().map(child::cpu_of).transpose();
    let (before, idle_before, began) = (store_cpu()?, child::idle()?, Instant::now());
    let mut server = place.process(workshop, Role::Server, "cluster-server-alone")?;
    server.ready_seen_every(LOOK_AGAIN)?;
    let until_ready = began.elapsed().as_secs_f64();
    let (server_cpu, after) = (server.cpu()?, store_cpu()?);
    let idle = child::idle()?.saturating_sub(idle_before).as_secs_f64();
    let resident_most = server.resident_most()? as f64;
    let hydration = server.metric("tessera_hydration_seconds")?;
    std::thread::sleep(STEADY_AFTER);
    let mut looks = Vec::with_capacity(STEADY_LOOKS);
    for _ in 0..STEADY_LOOKS {
        looks.push(server.resident()?);
        std::thread::sleep(STEADY_PAUSE);
    }
    // Told from time to time, and so not at once.
    let held = server.metric("tessera_matrix_streams{kind=\"tenant\"}")?;
    anyhow::ensure!((held - tenants as f64).abs() < 0.5, "the server holds {held} of {tenants} tenants");
    looks.sort_unstable();
    let resident_steady = looks.get(STEADY_LOOKS / 2).copied().unwrap_or_default() as f64;
    server.stop()?;
    let store_cpu = after.zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
    Ok(Start { until_ready, hydration, server_cpu: server_cpu.as_secs_f64(), store_cpu, idle, resident_most, resident_steady })
}
