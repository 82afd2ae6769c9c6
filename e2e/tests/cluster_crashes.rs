//! Loaders that are killed between every two durable steps of a write and at random, servers that are killed at random, loaders
//! that stand still for half a minute between two durable steps, while others take over their work and are killed themselves, and
//! then go on, servers that stand still as long: three servers and two loaders over a real Cassandra and a real Kafka, under load
//! all the time.
//!
//! After each round nobody is down, and within ten seconds every server holds what the store holds. In the end every acknowledged
//! command is in its stream exactly once, others were told of every event, and every answer that was heard on the way was as new as
//! demanded and what the acknowledged commands say as of then. How long it goes on at least is
//! `TESSERA_CLUSTER_CRASHES_S`, in seconds; every fail point is reached, fifty processes are killed, five loaders and with each of
//! them a server stand still however short that is. The seed is printed, and `TESSERA_SEED` sets it; what meets what is up to the
//! scheduler.
//!
//! Beside that runs a cluster whose loaders have the settings that they have by themselves, and whose servers do not scan, to see
//! how soon the sweep alone publishes a change whose loader has died.

#[path = "cluster/told.rs"]
mod told;

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tessera_e2e::cluster::{Cluster, Place};
use tessera_e2e::commands::{Change, Command, Ledger};
use tessera_e2e::history::Read;
use tessera_e2e::load::{self, Load};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Planes, binary};
use tessera_engines::{shared_cassandra, shared_kafka};
use tokio::time::Instant;

const LOADERS: usize = 2;
const SERVERS: usize = 3;
const WRITERS: usize = 8;
const TENANTS: usize = 4;
/// Rounds begin for so long at least, in seconds.
const SECONDS: u64 = 60;
/// Loaders that stand still, at least, and as many servers.
const STOPS: usize = 5;
/// Processes that are killed, at least.
const KILLS: usize = 50;
/// Replayed by each loader in the end.
const REPLAYS: usize = 50;
/// For so long a loader and a server stand still: the lease and the deadlines of all that the loader had begun are over.
const STANDSTILL: Duration = Duration::from_secs(30);
/// How soon a change is published whatever has died, with the settings that loaders have by themselves.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(75);
/// What a loader counts that its sweeper publishes.
const SWEPT: &str = "tessera_changes_swept_total";
/// Heartbeats of somebody else have come since.
const FRESH: Duration = Duration::from_secs(1);
/// A limit of the plan that no writer raises.
const SEATS: &str = "seats";
/// More of it than the plan has.
const RAISED: usize = 100;
/// A fail point that loaders reach seldom: for each shard of hints once in a minute.
const SELDOM: &str = "scylla.hint.registered";

/// What befalls the members in one round.
#[derive(Debug)]
enum Harm {
    /// A loader dies at a fail point when it is reached for that many times, and a server dies meanwhile.
    FailPoint { point: String, times: usize, loader: usize, server: usize },
    /// A loader and a server are killed after so many acknowledgements.
    Killed { after: usize, loader: usize, server: usize },
    /// A loader stands still where it reaches a fail point for that many times, and a server wherever it is, and they go on after
    /// [`STANDSTILL`]. Meanwhile another server is killed now and then, and every other time the other loader too.
    StoodStill { point: String, times: usize, loader: usize, server: usize },
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_or_stands_still_nothing_is_lost_or_doubled() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let seed = tessera_e2e::seed()?;
    let mut random = StdRng::seed_from_u64(seed);
    let seconds = std::env::var("TESSERA_CLUSTER_CRASHES_S").map_or(Ok(SECONDS), |text| text.parse())?;

    let mut cluster = Cluster::start(Place::made(&cassandra, &kafka)?, LOADERS, SERVERS).await?;
    let planes = cluster.all_planes()?;
    let tenants = load::tenants(TENANTS);
    let mut ledger = load::prepare(&planes[0], WRITERS, &tenants).await?;

    let mut planned = planned(&fail_points()?, &mut random);
    let begun = Instant::now();
    let (mut kills, mut stops, mut slowest) = (0, 0, Duration::ZERO);
    let (mut above, mut fresh, mut behind) = (0, 0, 0);
    for round in 0.. {
        let harm = match planned.pop_front() {
            Some(harm) => harm,
            None if kills < KILLS || begun.elapsed() < Duration::from_secs(seconds) => {
                let server = random.random_range(0..SERVERS);
                Harm::Killed { after: random.random_range(1..=60), loader: round % LOADERS, server }
            }
            None => {
                println!("{round} rounds in {:.1?}", begun.elapsed());
                break;
            }
        };
        let name = format!("round-{round}");
        let load = Load::begin(&name, WRITERS, &tenants, &planes, above);
        let suffered = suffer(&mut cluster, &harm, &load, &mut random, &mut ledger).await;
        kills += suffered.with_context(|| format!("seed {seed}, round {round}, {harm:?}"))?;
        stops += usize::from(matches!(harm, Harm::StoodStill { .. }));
        let written = load.stop().await.with_context(|| format!("round {round}, {harm:?}\n{}", cluster.account()))?;
        let healed = cluster.heals().await.with_context(|| format!("seed {seed}, round {round}, {harm:?}"))?;
        println!("{harm:?}: {} acknowledged, failed {:?}, healed in {healed:.1?}", written.ledger.len(), written.failed);
        slowest = slowest.max(healed);
        // No writer has done more than all of them.
        above += written.ledger.len();
        fresh += written.fresh;
        behind += written.behind;
        ledger.append(written.ledger);
    }
    println!("{} commands, {kills} kills, {stops} stops; healed within {slowest:.1?}", ledger.len());
    println!("{fresh} answers as new as demanded, {behind} refused");
    assert!(kills >= KILLS && stops >= STOPS && fresh > 0, "{kills} kills, {stops} stops, {fresh} answers");
    check(&ledger, &planes).await.with_context(|| cluster.account())?;
    let told = told::check_everything_is_told(&cluster.place, &tenants, &planes[0]).await;
    let (events, times) = told.with_context(|| cluster.account())?;
    println!("others were told of {events} events, {times} times in all");
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

/// A death at every fail point, and standstills at some of them in between.
fn planned(points: &[String], random: &mut StdRng) -> VecDeque<Harm> {
    let mut standing_still: Vec<&String> = points.iter().collect();
    standing_still.shuffle(random);
    standing_still.truncate(STOPS);
    let mut planned = VecDeque::new();
    for (round, point) in points.iter().enumerate() {
        let (loader, server) = (round % LOADERS, random.random_range(0..SERVERS));
        planned.push_back(Harm::FailPoint { point: point.clone(), times: times(point, random), loader, server });
        if round % 2 == 1
            && let Some(point) = standing_still.pop()
        {
            let (loader, server) = (random.random_range(0..LOADERS), random.random_range(0..SERVERS));
            planned.push_back(Harm::StoodStill { point: point.clone(), times: times(point, random), loader, server });
        }
    }
    planned
}

/// When it is reached for that many times.
fn times(point: &str, random: &mut StdRng) -> usize {
    if point == SELDOM { 1 } else { random.random_range(1..=8) }
}

/// Does it, under load, and puts everything up again. How many processes were killed.
async fn suffer(
    cluster: &mut Cluster,
    harm: &Harm,
    load: &Load,
    random: &mut StdRng,
    ledger: &mut Ledger,
) -> anyhow::Result<usize> {
    let kills = match harm {
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
            2
        }
        Harm::Killed { after, loader, server } => {
            load.goes_on(*after).await?;
            let signal = cluster.loaders[*loader].kill()?;
            anyhow::ensure!(signal == Some(Signal::KILL.as_raw()), "it had ended before, by signal {signal:?}");
            cluster.servers[*server].kill()?;
            load.goes_on(1).await?;
            2
        }
        Harm::StoodStill { point, times, loader, server } => {
            cluster.loaders[*loader].kill()?;
            cluster.loaders[*loader].begin(&cluster.place, Some(&format!("{point}:{times}:stop")))?;
            let stopping = &cluster.loaders[*loader];
            let stops = eventually("a loader that stands still", async || {
                anyhow::ensure!(stopping.process()?.stands_still()?, "`{point}` was not reached {times} times");
                Ok(())
            });
            stops.await?;
            cluster.servers[*server].suspend()?;
            let kills = 1 + kill_others(cluster, *loader, *server, load, random).await?;
            wakes_up(cluster, *loader, *server, ledger).await?;
            // Somebody else speaks to the partitions of the loader that stands still.
            cluster.is_fresh(FRESH).await?;
            cluster.loaders[*loader].resume()?;
            load.goes_on(20).await?;
            kills
        }
    };
    cluster.revive().await?;
    Ok(kills)
}

/// For as long as that loader and that server stand still, kills others: a server each time, and every other time the other loader
/// too. How many.
async fn kill_others(
    cluster: &mut Cluster,
    loader: usize,
    server: usize,
    load: &Load,
    random: &mut StdRng,
) -> anyhow::Result<usize> {
    let (since, other) = (Instant::now(), (loader + 1) % LOADERS);
    let Cluster { place, loaders, servers } = cluster;
    let mut kills = 0;
    for round in 0.. {
        let mut victims = vec![&mut servers[(server + random.random_range(1..SERVERS)) % SERVERS]];
        if round % 2 == 1 {
            victims.push(&mut loaders[other]);
        }
        for victim in victims {
            victim.kill()?;
            victim.start(place).await?;
            kills += 1;
        }
        load.goes_on(5).await?;
        if since.elapsed() >= STANDSTILL {
            break;
        }
    }
    Ok(kills)
}

/// The server goes on. It has missed a write through the loader that does not stand still; what it answers whoever demands that is
/// not older. The write gives a tenant so many seats as nobody has yet; it and the answer are noted.
async fn wakes_up(cluster: &Cluster, loader: usize, server: usize, ledger: &mut Ledger) -> anyhow::Result<()> {
    let planes = cluster.planes((loader + 1) % LOADERS, server)?;
    let seats = RAISED + ledger.len();
    let tenant = load::tenants(TENANTS).remove(0);
    let maximum = i64::try_from(seats)?;
    let change = Change::Limit { limit: SEATS.to_owned(), maximum };
    let raise = Command { tenant: tenant.clone(), request_id: format!("{SEATS}-{seats}"), change };
    let raised = eventually("more seats", async || Ok(raise.send(&planes, true).await?)).await?;
    let standing = &cluster.servers[server];
    anyhow::ensure!(standing.process()?.stands_still()?, "{standing} does not stand still");
    standing.resume()?;
    // It may refuse for a while; the first answer counts.
    let asked = eventually("an answer", async || Ok(Read::ask(&planes, &tenant, SEATS, &raised.revision).await?));
    let read = asked.await?;
    anyhow::ensure!(read.maximum == maximum, "{standing} answers older than demanded: {read:?} after {raise:?}");
    ledger.note(raise, raised);
    ledger.heard(read);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_usual_settings_the_sweep_publishes_a_change_of_a_dead_loader_in_time() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let mut place = Place::made(&cassandra, &kafka)?;
    // Loaders are as they are by themselves. A scan of the servers would repair sooner or later what nobody publishes.
    (place.scylla, place.feed, place.loader) = (String::new(), String::new(), String::new());
    place.server = "repair_scan = false\n".to_owned();
    let mut cluster = Cluster::start(place, LOADERS, SERVERS).await?;
    let tenants = load::tenants(1);
    load::prepare(&cluster.planes(1, 0)?, 0, &[]).await?;
    cluster.loaders[0].kill()?;
    cluster.loaders[0].begin(&cluster.place, Some("loader.publish.before"))?;
    cluster.loaders[0].process()?.is_ready().await?;
    let before = cluster.loaders[1].process()?.metric_sum(SWEPT).await?;
    let create = Command { tenant: tenants[0].clone(), request_id: "of-a-dead-loader".to_owned(), change: Change::Create };
    // It may die before it has answered.
    drop(create.send(&cluster.planes(0, 0)?, false).await);
    let dying = &mut cluster.loaders[0];
    let dies = eventually("the end of the loader", async || {
        anyhow::ensure!(!dying.is_up(), "it has published nothing");
        Ok(())
    });
    dies.await?;
    let since = Instant::now();
    let signal = cluster.loaders.remove(0).kill()?;
    anyhow::ensure!(signal == Some(Signal::ABORT.as_raw()), "it ended by signal {signal:?}");
    let took = cluster.settles(since).await?;
    println!("a change of a dead loader was everywhere after {took:.1?}");
    anyhow::ensure!(took <= PUBLISHED_WITHIN, "a change of a dead loader was everywhere after {took:.1?} only");
    let left = &cluster.loaders[0];
    let (store, after) = (left.digest().await?, left.process()?.metric_sum(SWEPT).await?);
    anyhow::ensure!(store["streams"]["tenant"] == 1, "the loader that died had committed nothing: {store}");
    anyhow::ensure!(after > before, "{left} has swept {after} changes, as many as before");
    cluster.ends_well().await
}

/// The names of all fail points of the code of the loader and of its store, read from the code, so that none is forgotten here.
fn fail_points() -> anyhow::Result<Vec<String>> {
    let points = binary::fail_points(&["loader/src", "backends/scylla/src"])?;
    anyhow::ensure!(points.len() >= 11, "loaders have fewer fail points than steps: {points:?}");
    anyhow::ensure!(points.contains(SELDOM), "there is no fail point `{SELDOM}`: {points:?}");
    Ok(points.into_iter().collect())
}
