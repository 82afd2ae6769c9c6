//! One partition of the feed lags behind the other, so that rows wait for what they name; and changes come once more after newer
//! ones of their stream, as from publishers that heard no answer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tessera_ports::ChangeFeed as _;
use tessera_ports::memory::SplitMix64;
use tokio::time::Instant;

use crate::cluster::{Cluster, PARTITIONS, PROCESSES};
use crate::faults::any_partition;
use crate::line::Slowness;

/// How far a partition lags behind the other at most.
const LAG_MAX: Duration = Duration::from_millis(400);
/// Longest pause before something comes once more.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Out of so many of the newest records of a partition.
const NEWEST: u64 = 8;
/// How long that goes on when callers ask for nothing any more.
const AFTER_ALL: Duration = Duration::from_millis(100);

/// From now on one partition lags behind the other for every server.
pub fn lag(cluster: &Cluster, random: &mut SplitMix64) {
    let lagging = Some((any_partition(random), LAG_MAX));
    for place in 0..PROCESSES {
        cluster.slow_server(place, Slowness { lagging, ..Slowness::default() });
    }
}

/// Changes come once more until `stop` says so, and a little longer: nobody writes then who would repair what is missing.
pub async fn repeat(cluster: Rc<Cluster>, mut random: SplitMix64, stop: Rc<Cell<bool>>) {
    let mut until = Instant::now() + AFTER_ALL;
    while !stop.get() || Instant::now() < until {
        if !stop.get() {
            until = Instant::now() + AFTER_ALL;
        }
        tokio::time::sleep(random.duration(PAUSE_MAX)).await;
        for partition in 0..PARTITIONS {
            let Ok(ends) = cluster.feed.ends().await else { continue };
            let end = ends.get(partition as usize).copied().unwrap_or(0);
            cluster.feed.faults().repeat(partition, end.saturating_sub(1 + random.below(NEWEST)));
        }
    }
}
