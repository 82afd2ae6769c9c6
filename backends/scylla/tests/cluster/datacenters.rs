//! A keyspace belongs to one datacenter. The Cassandra of these tests has one; another one is there by name, and always away.

use std::sync::Arc;

use tessera_core::stream::StreamKind;
use tessera_engines::{Cassandra, Options};
use tessera_ports::Shard;
use tessera_ports::clock::Clock as _;
use tessera_ports::event_store::EventStore as _;
use tessera_ports::hint_store::{Hint, HintStore as _};
use tessera_scylla::{Config, Moves, OpenError, Scylla, migrate};

use crate::place::{Place, RandomIds, WallClock, shared_config};
use crate::writing::{names, request, tenant, write};

/// The one there is.
const HERE: &str = "datacenter1";

/// What opening says, and what migrating says.
async fn refusals(config: &Config) -> [OpenError; 2] {
    let opened = Scylla::open(config, Arc::new(WallClock), Moves::No).await;
    let migrated = migrate(config, &RandomIds, &WallClock, None).await;
    [opened.expect_err("it opened"), migrated.expect_err("it migrated")]
}

/// What the keyspace says.
async fn written(place: &Place) -> anyhow::Result<String> {
    let text = format!("SELECT datacenters FROM {}.meta WHERE one = 1", place.config.keyspace);
    let rows = place.session().await?.query_unpaged(text.as_str(), ()).await?.into_rows_result()?;
    let (written,) = rows.first_row::<(String,)>()?;
    Ok(written)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_that_is_not_there_is_refused() -> anyhow::Result<()> {
    let Some(config) = shared_config()? else { return Ok(()) };
    let elsewhere = Config { local_datacenter: Some("elsewhere".to_owned()), ..config };
    for error in refusals(&elsewhere).await {
        assert!(!error.may_pass(), "{error}");
        let said = format!("local_datacenter is `elsewhere`; allowed are the datacenters of the store: `{HERE}`");
        assert_eq!(error.to_string(), said);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyspace_stays_with_its_datacenter() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    assert_eq!(written(&place).await?, format!("one {HERE}"));
    // Named or not, it is the same.
    let named = Config { local_datacenter: Some(HERE.to_owned()), ..place.config.clone() };
    Scylla::open(&named, Arc::new(WallClock), Moves::No).await?;

    place.run("UPDATE KS.meta SET datacenters = 'one elsewhere' WHERE one = 1").await?;
    for config in [&place.config, &named] {
        for error in refusals(config).await {
            assert!(!error.may_pass(), "{error}");
            let made = format!("keyspace `{}` was made with datacenters `one elsewhere`", place.config.keyspace);
            assert!(error.to_string().starts_with(&format!("{made}, the settings say `one {HERE}`")), "{error}");
        }
    }
    assert_eq!(written(&place).await?, "one elsewhere", "nothing was changed");
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyspace_that_does_not_say_where_it_is_learns_it() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    // As it was made once.
    place.run("UPDATE KS.meta SET datacenters = 'one' WHERE one = 1").await?;
    place.open(Moves::No).await?;
    assert_eq!(written(&place).await?, "one", "opening changes nothing");
    let migrated = migrate(&place.config, &RandomIds, &WallClock, None).await?;
    assert_eq!((migrated.identity, migrated.found), (place.migrated.identity.clone(), 1));
    assert_eq!(written(&place).await?, format!("one {HERE}"));
    place.open(Moves::No).await?;
    place.end().await
}

/// Most copies of a keyspace are in a datacenter that nobody reaches: what is asked of a majority of all of them has no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_datacenter_that_is_away_keeps_nobody_from_starting_or_following() -> anyhow::Result<()> {
    if !tessera_engines::available()? {
        return Ok(());
    }
    let mut engine = tokio::task::spawn_blocking(|| Cassandra::throwaway(&Options::default())).await??;
    let place = Place::at(engine.contact_point()).await?;
    let restored = place.next(2).await?;
    for made in [&place, &restored] {
        // A statement of the database would refuse a datacenter without nodes.
        let replication = format!(
            "UPDATE system_schema.keyspaces SET replication = {{'class': 'org.apache.cassandra.locator.NetworkTopologyStrategy', \
             '{HERE}': '1', 'elsewhere': '3'}} WHERE keyspace_name = '{}'",
            made.config.keyspace
        );
        made.run(&replication).await?;
    }
    // The database reads that when it starts.
    let engine = tokio::task::spawn_blocking(move || engine.stop().and_then(|()| engine.restart()).map(|()| engine)).await??;

    let (loader, server) = (place.open(Moves::No).await?, place.open(Moves::Yes).await?);
    write(&loader, &tenant("a"), "one").await;
    assert_eq!(names(&server, &tenant("a")).await, ["one"]);
    for range in loader.scan_ranges(StreamKind::Tenant).await? {
        loader.scan(&range, 10).await?;
    }
    let hint = Hint { stream: tenant("a"), request_id: request("r"), head: 0, at: WallClock.now() };
    loader.put(&hint).await?;
    assert_eq!(loader.list(&[Shard::of(&hint.stream)], 10).await?, [hint]);
    server.heard_of(&restored.migrated.identity).await;
    assert_eq!(server.identity().await?, restored.migrated.identity);

    let error = migrate(&place.config, &RandomIds, &WallClock, None).await.expect_err("a majority of all copies answers");
    assert!(error.may_pass(), "{error}");
    drop(engine);
    Ok(())
}
