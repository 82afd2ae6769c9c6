//! What goes wrong beside the callers: crashes, processes that stand still or are cut off, slow servers, logs cut short, topics
//! made again, partitions of which loaders learn late, a restore from a backup.
//!
//! Not every run has every kind of fault: where all of them rage at once, each repairs what another one broke. A server that
//! crashes reads everything anew, and a stream that is written again publishes what was left unpublished.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_ports::ChangeFeed as _;
use tessera_ports::memory::{EventChances, FeedChances, SplitMix64, StoreChances};
use tokio::time::Instant;

use crate::cluster::{Cluster, PARTITIONS, PROCESSES};
use crate::line::Slowness;

/// Which faults there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "kinds of fault, each there or not, in any combination")]
pub struct Storm {
    /// The feed loses changes. Only where the repair scan runs: nothing else finds a lost last change.
    pub lossy: bool,
    /// The store is restored from a backup once.
    pub restore: bool,
    /// Loaders and servers crash and start again.
    pub crashes: bool,
    /// Logs are cut short and topics made anew, whoever reads them.
    pub cuts: bool,
    /// Loaders stand still for a while, and some of them crash soon after they have gone on.
    pub standstills: bool,
    /// Servers are cut off for a while, and some find the log cut beneath them.
    pub cut_offs: bool,
    /// The lines of servers are slow.
    pub slow: bool,
    /// So many partitions are added to the feed, at most, and some loaders learn of them late.
    pub growth: u32,
    /// What a loader publishes that learns late of partitions is long under way.
    pub slow_publishing: bool,
    /// How it ends.
    pub finale: Finale,
}

/// What comes last, with nobody writing any more who would repair it by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finale {
    /// Nothing.
    None,
    /// Appends are slow, and then all loaders crash.
    PowerCut,
    /// A server is cut off, and the log is cut beneath it.
    LogCut,
}

impl Storm {
    /// Draws which faults a run has; growth is drawn by others.
    pub fn draw(random: &mut SplitMix64, lossy: bool) -> Self {
        Self {
            lossy,
            restore: random.chance(400),
            crashes: random.chance(650),
            cuts: random.chance(600),
            standstills: random.chance(500),
            cut_offs: random.chance(500),
            slow: random.chance(500),
            growth: 0,
            slow_publishing: false,
            finale: match random.below(10) {
                0..4 => Finale::None,
                4..7 => Finale::PowerCut,
                _ => Finale::LogCut,
            },
        }
    }

    /// Hardly anything beside what servers are made to start from: nothing else may bring what is missing.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { restore: false, crashes: false, cuts: false, cut_offs: false, slow: false, finale: Finale::None, ..self }
    }

    /// Nothing that servers notice: there are none.
    #[must_use]
    pub fn without_servers(self) -> Self {
        Self { restore: false, cuts: false, cut_offs: false, slow: false, finale: Finale::None, ..self }
    }

    /// One partition is added, of which one loader learns late, that is slow to publish as well. Nothing else makes servers begin
    /// anew or silences loaders: as long as that goes on, nobody says how old answers are.
    #[must_use]
    pub fn growth_alone(self) -> Self {
        let finale = if self.finale == Finale::LogCut { Finale::None } else { self.finale };
        let quiet = Self { restore: false, crashes: false, cuts: false, standstills: false, cut_offs: false, finale, ..self };
        Self { growth: 1, slow_publishing: true, ..quiet }
    }
}

/// By how many partitions the feed grows, at most.
pub const GROWTH_MAX: u32 = 3;
/// How late a loader learns for good that there are more, at most: several passes of its sweeper.
const LEARNS_LATE_MAX: Duration = Duration::from_millis(2_500);
/// The slowest that a line is, on each way.
const SLOWEST: Duration = Duration::from_millis(120);
/// How long nobody hears of a process, at most.
pub(crate) const STANDSTILL_MAX: Duration = Duration::from_millis(450);
/// A pass of the sweeper, with what it waits for.
pub(crate) const SWEEP: Duration = Duration::from_millis(300);
/// How soon a crash can follow.
const SOON: Duration = Duration::from_millis(20);

/// Draws faults of telling others from the seed, from now on.
pub fn begin_telling(cluster: &Cluster, random: &mut SplitMix64) {
    cluster.events.seed(random.next_u64(), EventChances::stormy());
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
    for place in 0..PROCESSES {
        if storm.slow && random.chance(700) {
            let (feed, scans) = (random.duration(SLOWEST), random.duration(SLOWEST));
            cluster.slow_server(place, Slowness { feed, scans, ..Slowness::default() });
        }
    }
}

/// Ends them all; what is late arrives.
pub fn end(cluster: &Cluster) {
    cluster.store.faults().release_late();
    cluster.store.faults().calm();
    cluster.feed.faults().calm();
    cluster.events.calm();
    cluster.mend_all();
}

/// Loaders stand still and servers are cut off now and then, until `stop` says so.
pub async fn hold_up(cluster: Rc<Cluster>, mut random: SplitMix64, storm: Storm, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        tokio::time::sleep(random.duration(Duration::from_millis(300))).await;
        let place = random.index(PROCESSES);
        if storm.standstills && random.chance(500) {
            stand_still(&cluster, place, &mut random).await;
            if random.chance(500) {
                tokio::time::sleep(random.duration(SOON)).await;
                cluster.crash_loader(place);
            }
        } else if storm.cut_offs {
            cut_off(&cluster, place, &mut random).await;
        }
    }
}

/// The server in that place is cut off for a while. Sometimes the log is cut beneath it meanwhile, and when it is back, much
/// is to be read at once, and slowly.
async fn cut_off(cluster: &Cluster, place: usize, random: &mut SplitMix64) {
    let line = cluster.server(place).process.line;
    line.cut();
    tokio::time::sleep(random.duration(STANDSTILL_MAX)).await;
    match random.below(4) {
        0 => {}
        1 => cut_all(cluster, random).await,
        // The other partitions it follows all the time.
        _ => cut(cluster, any_partition(random), 0).await,
    }
    let usual = line.slow(Slowness { feed: STANDSTILL_MAX / 2, ..Slowness::default() });
    line.mend();
    tokio::time::sleep(STANDSTILL_MAX + random.duration(STANDSTILL_MAX)).await;
    line.slow(usual);
}

/// The loader in that place stands still for a while and goes on.
async fn stand_still(cluster: &Cluster, place: usize, random: &mut SplitMix64) {
    let line = cluster.loader(place).line;
    line.cut();
    tokio::time::sleep(random.duration(STANDSTILL_MAX)).await;
    line.mend();
}

/// The end of the storm. Callers begin nothing any more; what they have begun is still under way.
pub async fn finale(cluster: &Cluster, random: &mut SplitMix64, storm: Storm, stop: &Cell<bool>) {
    let place = random.index(PROCESSES);
    match storm.finale {
        Finale::None => stop.set(true),
        Finale::PowerCut => {
            // Long enough under way that sweepers pass between a hint and its append.
            for place in 0..PROCESSES {
                cluster.loader(place).line.slow(Slowness { appends: SWEEP, ..Slowness::default() });
            }
            tokio::time::sleep(SWEEP + random.duration(SWEEP)).await;
            stop.set(true);
            tokio::time::sleep(random.duration(SWEEP)).await;
            for place in 0..PROCESSES {
                cluster.crash_loader(place);
            }
        }
        Finale::LogCut => {
            let line = cluster.server(place).process.line;
            line.cut();
            tokio::time::sleep(random.duration(STANDSTILL_MAX)).await;
            stop.set(true);
            tokio::time::sleep(random.duration(STANDSTILL_MAX)).await;
            cut_all(cluster, random).await;
            line.mend();
        }
    }
}

/// Does harm now and then until `stop` says so.
pub async fn rage(cluster: Rc<Cluster>, mut random: SplitMix64, storm: Storm, stop: Rc<Cell<bool>>) {
    let mut backup = None;
    let mut restored = !storm.restore;
    let mut topics = 1;
    let mut partitions = PARTITIONS;
    while !stop.get() {
        tokio::time::sleep(random.duration(Duration::from_millis(120))).await;
        match random.below(100) {
            0..25 => drop(cluster.store.faults().release_oldest()),
            25..35 if storm.crashes => cluster.crash_loader(random.index(PROCESSES)),
            35..45 if storm.crashes && cluster.has_servers() => cluster.crash_server(random.index(PROCESSES)),
            45..52 if storm.cuts => {
                let keep = random.below(7);
                cut(&cluster, any_partition(&mut random), keep).await;
            }
            52..54 if storm.cuts => {
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
                    // Somebody is in the middle of loading the store that is about to be replaced.
                    if random.chance(600) {
                        cluster.crash_server(random.index(PROCESSES));
                        tokio::time::sleep(random.duration(Duration::from_millis(200))).await;
                    }
                    cluster.restore(&backup, "simulated-2");
                }
            }
            // An outage: readers fall behind, and sometimes what they have not read is gone when it is over.
            72..78 => {
                let reads = 4 + u32::try_from(random.below(12)).unwrap_or(0);
                cluster.feed.faults().fail_reads(reads);
                if storm.cuts && random.chance(500) {
                    tokio::time::sleep(random.duration(Duration::from_millis(600))).await;
                    cut_all(&cluster, &mut random).await;
                }
            }
            78..84 if partitions < PARTITIONS + storm.growth => {
                topics += 1;
                partitions += 1;
                cluster.feed.faults().more_partitions(&format!("topic-{topics}"), partitions);
                learn_late(&cluster, &mut random, storm, partitions - 1);
            }
            // Nobody takes events for a while.
            84..88 => cluster.events.fail_publishes(2, 0),
            // Brokers that get more to do are slow at first, and what is published takes too long.
            88..96 if partitions > PARTITIONS => cluster.feed.faults().fail_publishes(2),
            _ => {}
        }
    }
}

/// Mostly one loader alone hears for a while of no more partitions than there were, now and then.
fn learn_late(cluster: &Cluster, random: &mut SplitMix64, storm: Storm, known: u32) {
    let last = random.index(PROCESSES);
    if storm.slow_publishing {
        cluster.loader(last).line.slow(Slowness { publishes: SWEEP, ..Slowness::default() });
    }
    for place in 0..PROCESSES {
        if random.chance(if place == last { 900 } else { 200 }) {
            let until = Instant::now() + random.duration(LEARNS_LATE_MAX);
            cluster.loader(place).line.learns_late(known, until);
        }
    }
}

pub(crate) fn any_partition(random: &mut SplitMix64) -> u32 {
    u32::try_from(random.below(u64::from(PARTITIONS))).unwrap_or(0)
}

/// Cuts every partition short, but for up to two records.
pub(crate) async fn cut_all(cluster: &Cluster, random: &mut SplitMix64) {
    for (partition, _) in (0..).zip(cluster.feed.records()) {
        cut(cluster, partition, random.below(3)).await;
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
