//! Three servers and two loaders over a real Cassandra and a real Kafka: many writers on the same few tenants through both loaders.
//!
//! Looked for: a command that was acknowledged and is not in its stream, or twice; a chain that does not hold; a replay that
//! answers otherwise than the first time; a server that answers older than it was asked to, older than before, or otherwise than
//! what was acknowledged by then; one that holds something else than the store. How many commands there are at least is
//! `TESSERA_CLUSTER_COMMANDS`.

use anyhow::Context as _;
use tessera_e2e::cluster::{Cluster, Place};
use tessera_e2e::load::{self, Load};
use tessera_engines::{shared_cassandra, shared_kafka};
use tokio::time::Instant;

const LOADERS: usize = 2;
const SERVERS: usize = 3;
const WRITERS: usize = 16;
const TENANTS: usize = 4;
/// Written at least, unless told otherwise.
const COMMANDS: usize = 5_000;
/// Replayed by each loader.
const REPLAYS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_through_both_loaders_lose_and_double_nothing() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let wanted = std::env::var("TESSERA_CLUSTER_COMMANDS").map_or(Ok(COMMANDS), |count| count.parse());
    let wanted = wanted.context("TESSERA_CLUSTER_COMMANDS")?;

    let cluster = Cluster::start(Place::made(&cassandra, &kafka)?, LOADERS, SERVERS).await?;
    let planes = cluster.all_planes()?;
    let tenants = load::tenants(TENANTS);
    let mut ledger = load::prepare(&planes[0], WRITERS, &tenants).await?;

    let begun = Instant::now();
    let load = Load::begin("write", WRITERS, &tenants, &planes, 0);
    while load.acknowledged() < wanted {
        load.goes_on(50).await.with_context(|| cluster.account())?;
    }
    let written = load.stop().await.with_context(|| cluster.account())?;
    let took = begun.elapsed();
    let count = written.ledger.len();
    ledger.append(written.ledger);
    println!(
        "{count} commands in {took:.1?}; failed attempts: {:?}; {} answers as new as demanded, {} refused",
        written.failed, written.fresh, written.behind
    );
    assert!(count >= wanted && written.fresh > 0, "{count} commands, {} answers", written.fresh);

    println!("equal digests after {:.1?}", cluster.heals().await?);
    for planes in &planes[..LOADERS] {
        ledger.check_streams(planes).await?;
        ledger.check_replays(planes, REPLAYS).await?;
    }
    let events = planes[0].verify_audit().await?;
    let read = ledger.check_reads()?;
    assert_eq!(read, written.fresh, "an answer was not recorded");
    let looked = load::check_all_servers(&ledger, &planes).await?;
    println!("{events} events in whole chains, {read} answers on the way and {looked} in the end as new as demanded");
    assert_eq!(looked, TENANTS * WRITERS * SERVERS);
    cluster.ends_well().await?;
    // Each of them stops in peace.
    let Cluster { mut loaders, mut servers, .. } = cluster;
    for member in loaders.iter_mut().chain(&mut servers) {
        member.stop().with_context(|| member.to_string())?;
    }
    Ok(())
}
