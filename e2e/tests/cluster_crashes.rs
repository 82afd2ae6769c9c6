//! Loaders that are killed between every two durable steps of a write and at random, servers that are killed at random, loaders
//! that stand still until others have taken over their work and then go on: three servers and two loaders over a real Cassandra
//! and a real Kafka, under load all the time.
//!
//! After each round nobody is down, and within ten seconds every server holds what the store holds. In the end every acknowledged
//! command is in its stream exactly once. How long it goes on is `TESSERA_CLUSTER_CRASHES_S`, in seconds; every fail point is
//! reached at least once however short that is. The seed is printed, and `TESSERA_SEED` sets it; what meets what is up to the
//! scheduler.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tessera_e2e::cluster::{Cluster, Place};
use tessera_e2e::commands::Ledger;
use tessera_e2e::load::{self, Load};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Planes, binary};
use tessera_engines::{shared_cassandra, shared_kafka};
use tokio::time::Instant;

const LOADERS: usize = 2;
const SERVERS: usize = 3;
const WRITERS: usize = 8;
const TENANTS: usize = 4;
/// Rounds begin for so long, in seconds.
const SECONDS: u64 = 60;
/// Replayed by each loader in the end.
const REPLAYS: usize = 50;
/// A loader that stood still for so long has lost its lease.
const LEASE_OVER: Duration = Duration::from_secs(3);
/// Heartbeats of somebody else have come since.
const FRESH: Duration = Duration::from_secs(1);

/// What befalls the members in one round.
#[derive(Debug)]
enum Harm {
    /// A loader dies at a fail point when it is reached for that many times, and a server dies meanwhile.
    FailPoint { point: String, times: usize, loader: usize, server: usize },
    /// A loader and a server are killed after so many acknowledgements.
    Killed { after: usize, loader: usize, server: usize },
    /// A loader stands still until another one does its work, and goes on then.
    StoodStill { loader: usize },
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_or_stands_still_nothing_is_lost_or_doubled() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let seed = seed();
    println!("TESSERA_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let seconds = std::env::var("TESSERA_CLUSTER_CRASHES_S").map_or(Ok(SECONDS), |text| text.parse())?;

    let mut cluster = Cluster::start(Place::made(&cassandra, &kafka)?, LOADERS, SERVERS).await?;
    let planes = cluster.all_planes()?;
    let tenants = load::tenants(TENANTS);
    let mut ledger = load::prepare(&planes[0], WRITERS, &tenants).await?;

    let points = fail_points()?;
    let begun = Instant::now();
    let (mut kills, mut stops, mut slowest) = (0, 0, Duration::ZERO);
    let mut above = 0;
    for round in 0.. {
        // Two of three rounds at a fail point, in turn, until all were reached.
        let (loader, server) = (round % LOADERS, random.random_range(0..SERVERS));
        let harm = match points.get(round / 3 * 2 + round % 3).filter(|_| round % 3 < 2) {
            Some(point) => Harm::FailPoint { point: point.clone(), times: random.random_range(1..=8), loader, server },
            None if round / 3 % 2 == 0 => Harm::StoodStill { loader },
            None => Harm::Killed { after: random.random_range(1..=60), loader, server },
        };
        let all_reached = round / 3 * 2 + (round % 3).min(2) >= points.len();
        if all_reached && begun.elapsed() > Duration::from_secs(seconds) {
            println!("{round} rounds in {:.1?}", begun.elapsed());
            break;
        }
        let name = format!("round-{round}");
        let load = Load::begin(&name, WRITERS, &tenants, &planes, above);
        suffer(&mut cluster, &harm, &load).await.with_context(|| format!("seed {seed}, round {round}, {harm:?}"))?;
        let written = load.stop().await.with_context(|| format!("round {round}, {harm:?}\n{}", cluster.account()))?;
        let healed = cluster.heals().await.with_context(|| format!("seed {seed}, round {round}, {harm:?}"))?;
        match harm {
            Harm::StoodStill { .. } => stops += 1,
            Harm::FailPoint { .. } | Harm::Killed { .. } => kills += 2,
        }
        println!("{harm:?}: {} acknowledged, failed {:?}, healed in {healed:.1?}", written.ledger.len(), written.failed);
        slowest = slowest.max(healed);
        // No writer has done more than all of them.
        above += written.ledger.len();
        ledger.append(written.ledger);
    }
    println!("{} commands, {kills} kills, {stops} stops; healed within {slowest:.1?}", ledger.len());
    check(&ledger, &planes).await.with_context(|| cluster.account())?;
    cluster.ends_well().await
}

/// Everything that must hold in the end.
async fn check(ledger: &Ledger, planes: &[Planes]) -> anyhow::Result<()> {
    ledger.check_streams(&planes[0]).await?;
    for planes in &planes[..LOADERS] {
        ledger.check_replays(planes, REPLAYS).await?;
    }
    planes[0].verify_audit().await?;
    load::check_all_servers(ledger, planes).await?;
    Ok(())
}

/// Does it, under load, and puts everything up again.
async fn suffer(cluster: &mut Cluster, harm: &Harm, load: &Load) -> anyhow::Result<()> {
    match harm {
        Harm::FailPoint { point, times, loader, server } => {
            cluster.loaders[*loader].kill()?;
            cluster.loaders[*loader].begin(&cluster.place, Some(&format!("{point}:{times}")))?;
            cluster.servers[*server].kill()?;
            let dying = &mut cluster.loaders[*loader];
            let dies = eventually("the end of the loader", async || {
                anyhow::ensure!(!dying.is_up(), "`{point}` was not reached {times} times");
                Ok(())
            });
            dies.await?;
            let signal = dying.kill()?;
            anyhow::ensure!(signal == Some(Signal::ABORT.as_raw()), "it ended by signal {signal:?}, not at `{point}`");
            load.goes_on(1).await?;
        }
        Harm::Killed { after, loader, server } => {
            load.goes_on(*after).await?;
            let signal = cluster.loaders[*loader].kill()?;
            anyhow::ensure!(signal == Some(Signal::KILL.as_raw()), "it had ended before, by signal {signal:?}");
            cluster.servers[*server].kill()?;
            load.goes_on(1).await?;
        }
        Harm::StoodStill { loader } => {
            load.goes_on(20).await?;
            cluster.loaders[*loader].suspend()?;
            // Its lease, of a second, ends; …
            let suspended = Instant::now();
            let lease = eventually("the end of its lease", async || {
                anyhow::ensure!(suspended.elapsed() > LEASE_OVER, "it may have its lease still");
                Ok(())
            });
            lease.await?;
            // … and somebody else speaks to its partitions.
            cluster.is_fresh(FRESH).await?;
            load.goes_on(20).await?;
            cluster.loaders[*loader].resume()?;
            load.goes_on(20).await?;
        }
    }
    cluster.revive().await
}

/// The names of all fail points of the code of the loader, read from the code, so that none is forgotten here.
fn fail_points() -> anyhow::Result<Vec<String>> {
    let points = binary::fail_points(&["loader/src"])?;
    anyhow::ensure!(points.len() >= 9, "the loader has fewer fail points than steps: {points:?}");
    Ok(points.into_iter().collect())
}

fn seed() -> u64 {
    let random = || RandomState::new().build_hasher().finish();
    std::env::var("TESSERA_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(random)
}
