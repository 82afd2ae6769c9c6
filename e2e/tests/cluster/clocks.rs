//! Processes whose clocks are far from the store's, beside others whose clocks are right: refused at start, or named at `/readyz`
//! with what to do, and no trouble to the others.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tessera_e2e::cluster::{Cluster, Place, Role};
use tessera_e2e::commands::{Change, Command, Ledger};
use tessera_e2e::dev::Addresses;
use tessera_e2e::load::{self, Load};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Planes, Running, Start, shop};
use tessera_engines::{shared_cassandra, shared_kafka};

use crate::ROLES;

/// How the store's clock is beside one that is ahead.
const BEHIND: &str = " s behind ours, allowed are 30 s; set the clocks";
/// How it is beside one that is behind.
const AHEAD: &str = " s ahead of ours, allowed are 30 s; set the clocks";
/// An hour off, either way.
const HOURS: [(&str, &str); 2] = [("3600", BEHIND), ("-3600", AHEAD)];
/// Heartbeats come several times a second here.
const FRESH: Duration = Duration::from_secs(5);

/// It ends with 1 and says what its clock is beside the store's.
fn refused(what: Role, start: Start, how: &str) -> anyhow::Result<()> {
    let (status, log) = start.until_it_ends()?;
    anyhow::ensure!(status.code() == Some(1), "{what:?} ended with {status}, wanted is 1\n{log}");
    for words in ["the store cannot be opened: the clock of the store is ", how] {
        anyhow::ensure!(log.contains(words), "{what:?} does not say `{words}`\n{log}");
    }
    Ok(())
}

/// Waits until `/readyz` answers with that status, and says what the store's clock is beside its own.
async fn names(process: &Running, status: u16, how: &str) -> anyhow::Result<()> {
    let named = eventually("the name of the clock", async || {
        let page = process.page("/readyz").await?;
        let named = page.body.contains("the store: the clock of the store is ") && page.body.contains(how);
        anyhow::ensure!(page.status == status && named, "it says {}: {}", page.status, page.body);
        Ok(())
    });
    named.await.with_context(|| process.account())
}

/// Waits until `/readyz` answers with 200 and has no word of clocks.
async fn names_no_clock(process: &Running) -> anyhow::Result<()> {
    let unnamed = eventually("no word of clocks", async || {
        let page = process.page("/readyz").await?;
        anyhow::ensure!(page.status == 200 && !page.body.contains("clock"), "it says {}: {}", page.status, page.body);
        Ok(())
    });
    unnamed.await.with_context(|| process.account())
}

/// What a server's matrix holds.
async fn digest(process: &Running) -> anyhow::Result<Value> {
    let page = process.page("/digest").await?;
    serde_json::from_str(&page.body).with_context(|| page.body.clone())
}

/// A new tenant, noted once that is acknowledged.
async fn create(planes: &Planes, tenant: &str, ledger: &mut Ledger) -> anyhow::Result<()> {
    let command = Command { tenant: tenant.to_owned(), request_id: format!("create-{tenant}"), change: Change::Create };
    let answer = eventually("a new tenant", async || Ok(command.send(planes, true).await?)).await?;
    ledger.note(command, answer);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_far_off_is_refused_at_start_and_troubles_nobody_else() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let cluster = Cluster::start(Place::made(&cassandra, &kafka)?, 1, 1).await?;
    let planes = cluster.all_planes()?;
    let tenants = load::tenants(2);
    let mut ledger = load::prepare(&planes[0], 2, &tenants).await?;
    let load = Load::begin("beside-wrong-clocks", 2, &tenants, &planes, 0);
    for (seconds, how) in HOURS {
        for role in ROLES {
            // Another number than that of the one that is right, whose snapshots are its own.
            refused(role, cluster.place.start(role, 1)?.clock_ahead(seconds), how)?;
            load.goes_on(10).await.with_context(|| cluster.account())?;
            for member in cluster.loaders.iter().chain(&cluster.servers) {
                names_no_clock(member.process()?).await?;
            }
        }
    }
    let written = load.stop().await.with_context(|| cluster.account())?;
    println!("beside wrong clocks: {} acknowledged, failed {:?}", written.ledger.len(), written.failed);
    ledger.append(written.ledger);
    ledger.check_streams(&planes[0]).await?;
    ledger.check_replays(&planes[0], 20).await?;
    load::check_all_servers(&ledger, &planes).await?;
    cluster.ends_well().await?;
    cluster.is_fresh(FRESH).await?;
    let Cluster { mut loaders, mut servers, .. } = cluster;
    for member in loaders.iter_mut().chain(&mut servers) {
        member.stop().with_context(|| member.to_string())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_snapshot_serves_that_and_names_its_clock() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let mut place = Place::made(&cassandra, &kafka)?;
    place.server += "snapshot_interval_ms = 300\nsnapshot_wait_ms = 500\n";
    let mut cluster = Cluster::start(place, 1, 1).await?;
    let planes = cluster.planes(0, 0)?;
    let mut ledger = load::prepare(&planes, 1, &load::tenants(2)).await?;
    cluster.heals().await?;
    let server = cluster.servers[0].process()?;
    let written = "tessera_snapshots_total{outcome=\"written\"}";
    // One of them at least was begun when everything was there.
    let before = server.metric(written).await?.unwrap_or(0.0);
    server.metric_reaches(written, before + 2.0).await?;
    let held = digest(server).await?;
    cluster.servers[0].kill()?;

    // Two minutes behind, the snapshot is not from too far in the future; ten minutes ahead, it is not too old.
    for (seconds, how) in [("-120", AHEAD), ("600", BEHIND)] {
        let server = cluster.place.start(Role::Server, 0)?.clock_ahead(seconds).ready().await?;
        names(&server, 200, how).await?;
        create(&planes, &format!("made-meanwhile{seconds}"), &mut ledger).await?;
        assert_eq!(digest(&server).await?, held, "{}", server.account());
        server.kill()?;
    }
    // How old the snapshot is cannot be told any more.
    refused(Role::Server, cluster.place.start(Role::Server, 0)?.clock_ahead("-3600"), AHEAD)?;

    cluster.servers[0].start(&cluster.place).await?;
    names_no_clock(cluster.servers[0].process()?).await?;
    ledger.check_streams(&planes).await?;
    cluster.ends_well().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_goes_wrong_later_is_named_until_it_is_set() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let place = Place::made(&cassandra, &kafka)?;
    let folder = tempfile::tempdir().context("make a folder for a clock")?;
    let clock = folder.path().join("ahead");
    let ahead = clock.to_str().context("a path that is no text")?;
    std::fs::write(&clock, "0")?;
    let loader = place.start(Role::Loader, 0)?.clock_ahead(ahead).ready().await?;
    let server = place.start(Role::Server, 0)?.clock_ahead(ahead).ready().await?;
    let right = place.start(Role::Server, 1)?.ready().await?;
    let (data, control, http) = (right.address("data")?, loader.address("control")?, right.address("http")?);
    let planes = Planes::connect(Addresses { data, control, http }).await?;
    shop::open(&planes).await?;

    let mut ledger = Ledger::default();
    for (seconds, how) in HOURS {
        std::fs::write(&clock, seconds)?;
        // Balancers send it no commands; whoever does all the same is served.
        names(&loader, 503, how).await?;
        names(&server, 200, how).await?;
        names_no_clock(&right).await?;
        create(&planes, &format!("made-meanwhile{seconds}"), &mut ledger).await?;
        let heartbeats = loader.metric("tessera_heartbeats_total").await?.unwrap_or(0.0);
        loader.metric_reaches("tessera_heartbeats_total", heartbeats + 3.0).await?;
    }
    std::fs::write(&clock, "0")?;
    for process in [&loader, &server, &right] {
        names_no_clock(process).await?;
    }
    ledger.check_streams(&planes).await?;
    let store = place.digest()?;
    for process in [&server, &right] {
        let equal = eventually("the digest of the store", async || {
            let matrix = digest(process).await?;
            anyhow::ensure!(matrix == store, "it has {matrix}, the store {store}");
            Ok(())
        });
        equal.await.with_context(|| process.account())?;
    }
    // Heartbeats that spoke of the hour to come do not make answers count as new for so long.
    loader.kill()?;
    right.metric_reaches("tessera_staleness_seconds", 2.0).await?;
    right.stop()
}
