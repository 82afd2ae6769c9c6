//! A keyspace belongs to one datacenter. The Cassandra of these tests has one.

use std::sync::Arc;

use tessera_scylla::{Config, Moves, OpenError, Scylla, migrate};

use crate::place::{Place, RandomIds, WallClock, shared_config};

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
