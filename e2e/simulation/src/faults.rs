//! What goes wrong beside the callers: crashes, logs cut short, topics made again, a restore from a backup.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_ports::ChangeFeed as _;
use tessera_ports::memory::{FeedChances, SplitMix64, StoreChances};

use crate::cluster::{Cluster, PARTITIONS, PROCESSES};

/// Which faults there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// The feed loses changes. Only where the repair scan runs: nothing else finds a lost last change.
    pub lossy: bool,
    /// The store is restored from a backup once.
    pub restore: bool,
}

/// Draws faults of store and feed from the seed, from now on.
pub fn begin(cluster: &Cluster, random: &mut SplitMix64, storm: Storm) {
    cluster
        .store
        .faults()
        .seed(random.next_u64(), StoreChances { late_max: Duration::from_millis(800), ..StoreChances::stormy() });
    let stormy = FeedChances::stormy();
    let change_lost = if storm.lossy { stormy.change_lost } else { 0 };
    cluster.feed.faults().seed(random.next_u64(), FeedChances { change_lost, ..stormy });
}

/// Ends them all; what is late arrives.
pub fn end(cluster: &Cluster) {
    cluster.store.faults().release_late();
    cluster.store.faults().calm();
    cluster.feed.faults().calm();
}

/// Does harm now and then until `stop` says so.
pub async fn rage(cluster: Rc<Cluster>, mut random: SplitMix64, storm: Storm, stop: Rc<Cell<bool>>) {
    let mut backup = None;
    let mut restored = !storm.restore;
    let mut topics = 1;
    while !stop.get() {
        tokio::time::sleep(random.duration(Duration::from_millis(120))).await;
        match random.below(100) {
            0..25 => drop(cluster.store.faults().release_oldest()),
            25..35 => cluster.crash_loader(random.index(PROCESSES)),
            35..45 => cluster.crash_server(random.index(PROCESSES)),
            45..52 => {
                let keep = random.below(7);
                cut(&cluster, u32::try_from(random.below(u64::from(PARTITIONS))).unwrap_or(0), keep).await;
            }
            52..54 => {
                topics += 1;
                cluster.feed.faults().new_topic(&format!("topic-{topics}"));
            }
            54..62 if !restored && backup.is_none() => {
                // Tenants from a copy no later than the plans', these from one no later than the catalog's.
                let tenants = cluster.store.back_up(&[StreamKind::Tenant]);
                tokio::time::sleep(random.duration(Duration::from_millis(300))).await;
                let offers = cluster.store.back_up(&[StreamKind::Plan, StreamKind::AddOn]);
                tokio::time::sleep(random.duration(Duration::from_millis(300))).await;
                let catalog = cluster.store.back_up(&[StreamKind::Catalog]);
                backup = Some(tenants.and(offers).and(catalog));
            }
            62..72 if !restored => {
                if let Some(backup) = backup.take() {
                    restored = true;
                    cluster.restore(&backup, "simulated-2");
                }
            }
            // An outage: readers fall behind, and sometimes what they have not read is gone when it is over.
            72..78 => {
                let reads = 4 + u32::try_from(random.below(12)).unwrap_or(0);
                cluster.feed.faults().fail_reads(reads);
                if random.chance(500) {
                    tokio::time::sleep(random.duration(Duration::from_millis(600))).await;
                    for partition in 0..PARTITIONS {
                        cut(&cluster, partition, 0).await;
                    }
                }
            }
            _ => {}
        }
    }
}

/// Cuts a partition short, but for its last records.
async fn cut(cluster: &Cluster, partition: u32, keep: u64) {
    let ends = loop {
        if let Ok(ends) = cluster.feed.ends().await {
            break ends;
        }
    };
    if let Some(end) = ends.get(partition as usize) {
        cluster.feed.faults().truncate(partition, end.saturating_sub(keep));
    }
}
