//! A restore into another keyspace while the servers run: the tables as they were earlier are copied, loaders start on the copy
//! with the next epoch, and every server moves over to it as a whole, to the same digest. What was acknowledged before the copy
//! is there, what was acknowledged after it is gone for everybody, and revisions of the epoch before are still answered.

use anyhow::Context as _;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::{CqlValue, Row};
use tessera_e2e::cluster::{Cluster, Place};
use tessera_e2e::commands::{Change, Ledger};
use tessera_e2e::load::{self, Load};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Planes, shop};
use tessera_engines::{shared_cassandra, shared_kafka};

const LOADERS: usize = 2;
const SERVERS: usize = 3;
const WRITERS: usize = 4;
const TENANTS: usize = 3;
const COLUMNS: [&str; 9] = ["key", "class", "request", "seq", "head", "hash", "state", "sum", "cell"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_move_to_a_restored_keyspace() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let mut cluster = Cluster::start(Place::made(&cassandra, &kafka)?, LOADERS, SERVERS).await?;
    let planes = cluster.all_planes()?;
    let tenants = load::tenants(TENANTS);
    let mut kept = load::prepare(&planes[0], WRITERS, &tenants).await?;
    kept.append(write(&cluster, "kept", &tenants, 0).await?);
    cluster.heals().await?;

    // The copy is taken while everybody is at work; tenants first, so that what they name is there.
    let second = cluster.place.beside()?;
    second.migrate(&["--epoch", "2"])?.success()?;
    let session = SessionBuilder::new().known_node(&cassandra).build().await.context("connect")?;
    copy(&session, &cluster.place, &second, "tenant").await?;
    shop::limit(&planes[0], "afterwards").await?;
    for table in ["plan", "add_on", "catalog"] {
        copy(&session, &cluster.place, &second, table).await?;
    }
    let lost = write(&cluster, "lost", &tenants, 1_000_000).await?;
    cluster.heals().await?;
    let refused = second.migrate(&["--epoch", "3"])?;
    assert!(refused.code != Some(0) && refused.stderr.contains("with epoch 2 and not 3"), "{refused:?}");

    for loader in &mut cluster.loaders {
        loader.stop()?;
    }
    let first = std::mem::replace(&mut cluster.place, second);
    for loader in &mut cluster.loaders {
        loader.start(&cluster.place).await?;
    }
    println!("all servers are in the second epoch after {:.1?}", cluster.heals().await?);
    let digest = cluster.servers[0].digest().await?;
    assert_eq!(digest["epoch"], 2, "{digest}");
    assert_ne!(first.digest()?, digest);

    kept.check_streams(&planes[0]).await?;
    check_replays_in_another_epoch(&kept, &planes[1]).await?;
    planes[0].verify_audit().await?;
    // What a revision of the epoch before names is answered, after a look at the store, as it is there.
    let read: f64 = cluster.servers[0].process()?.metric_sum("tessera_fully_consistent_total").await?;
    answers_old_revisions(&kept, &kept, &planes).await?;
    answers_old_revisions(&lost, &kept, &planes).await?;
    let read_now = cluster.servers[0].process()?.metric_sum("tessera_fully_consistent_total").await?;
    assert!(read_now > read, "{read_now} strong reads, {read} before");

    // A server that starts with the settings of the first keyspace finds its way; a loader that does so would write where nobody
    // reads, which is why they are stopped.
    let second = std::mem::replace(&mut cluster.place, first);
    cluster.servers[0].kill()?;
    cluster.servers[0].begin(&cluster.place, None)?;
    cluster.place = second;
    let moved = eventually("the second epoch", async || {
        let digest = cluster.servers[0].digest().await?;
        anyhow::ensure!(digest["epoch"] == 2, "{digest}");
        Ok(())
    });
    moved.await.with_context(|| cluster.account())?;
    kept.append(write(&cluster, "after", &tenants, 2_000_000).await?);
    cluster.heals().await?;
    kept.check_streams(&planes[1]).await?;
    load::check_all_servers(&kept, &planes).await?;
    cluster.ends_well().await
}

async fn write(cluster: &Cluster, name: &str, tenants: &[String], above: usize) -> anyhow::Result<Ledger> {
    let load = Load::begin(name, WRITERS, tenants, &cluster.all_planes()?, above);
    load.goes_on(60).await.with_context(|| cluster.account())?;
    Ok(load.stop().await?.ledger)
}

/// Replays return what was said the first time, but for the epoch, with which etags begin.
async fn check_replays_in_another_epoch(ledger: &Ledger, planes: &Planes) -> anyhow::Result<()> {
    for (command, first) in ledger.newest_limits() {
        let again = command.send(planes, true).await.with_context(|| format!("replay {command:?}"))?;
        let (etag, before) = (again.etag.strip_prefix("2-"), first.etag.strip_prefix("1-"));
        anyhow::ensure!(again.replay && etag.is_some() && etag == before, "a replay answered {again:?} after {first:?}");
    }
    Ok(())
}

/// Every server answers for the newest revisions in `asked`, with what is the newest in `there`.
async fn answers_old_revisions(asked: &Ledger, there: &Ledger, planes: &[Planes]) -> anyhow::Result<()> {
    let newest = there.newest_limits();
    for (command, answer) in asked.newest_limits() {
        let Change::Limit { limit, .. } = &command.change else { continue };
        let same = |other: &Change| matches!(other, Change::Limit { limit: other, .. } if other == limit);
        let expected = newest.iter().find(|(there, _)| there.tenant == command.tenant && same(&there.change));
        let Some(Change::Limit { maximum, .. }) = expected.map(|(there, _)| &there.change) else { continue };
        for planes in planes {
            let found = planes.limit_at_least(&command.tenant, limit, answer.revision.clone()).await;
            let found = found.with_context(|| format!("asked for the revision of {command:?}"))?;
            anyhow::ensure!(found == *maximum, "{found} and not {maximum} for the revision of {command:?}");
        }
    }
    Ok(())
}

/// Copies a table of streams, row by row.
async fn copy(session: &Session, from: &Place, to: &Place, table: &str) -> anyhow::Result<()> {
    let columns = COLUMNS.join(", ");
    let select = format!("SELECT {columns} FROM {}.{table}", from.keyspace);
    let rows = session.query_unpaged(select, ()).await.context("read rows")?.into_rows_result()?;
    let insert = format!("INSERT INTO {}.{table} ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", to.keyspace);
    let insert = session.prepare(insert).await.context("prepare")?;
    for row in rows.rows::<Row>()? {
        let values: Vec<Option<CqlValue>> = row?.columns;
        session.execute_unpaged(&insert, values).await.context("write a row")?;
    }
    Ok(())
}
