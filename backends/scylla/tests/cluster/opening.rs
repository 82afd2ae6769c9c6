//! What is said when a keyspace does not open, and how it is made.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tessera_core::ids::RequestId;
use tessera_core::time::Timestamp;
use tessera_engines::{Cassandra, Options};
use tessera_ports::clock::{Clock as _, IdSource, ManualClock};
use tessera_ports::event_store::EventStore as _;
use tessera_scylla::{Config, Datacenters, Moves, OpenError, Scylla, Tablets, migrate};

use crate::place::{Place, RandomIds, WallClock, keyspace, shared_config};

async fn refusal(config: &Config) -> OpenError {
    match Scylla::open(config, Arc::new(WallClock), Moves::No).await {
        Ok(store) => panic!("it opened: {store:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_worth_another_try() {
    // Nothing can listen on port 1 of a machine that runs tests.
    let error = refusal(&Config::new(vec!["127.0.0.1:1".to_owned()])).await;
    assert!(error.may_pass(), "{error}");
    assert!(error.to_string().contains("cannot be reached through contact_points `127.0.0.1:1`"), "{error}");
    let error = refusal(&Config::new(vec!["nowhere".to_owned()])).await;
    assert!(!error.may_pass() && matches!(error, OpenError::Config(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_what_to_do() -> anyhow::Result<()> {
    let Some(missing) = shared_config()? else { return Ok(()) };
    let error = refusal(&missing).await.to_string();
    assert_eq!(error, format!("there is no keyspace `{}`; make it with `tessera migrate`", missing.keyspace));

    let Some(place) = Place::shared().await? else { return Ok(()) };
    let keyspace = &place.config.keyspace;
    let error = refusal(&Config { datacenters: Datacenters::Many, ..place.config.clone() }).await;
    assert!(!error.may_pass());
    let said = format!("keyspace `{keyspace}` was made with datacenters `one`, the settings say `many`");
    assert!(error.to_string().starts_with(&said), "{error}");

    place.run("INSERT INTO KS.schema_version (one, version) VALUES (1, 2)").await?;
    let error = refusal(&place.config).await.to_string();
    assert!(
        error.contains("has schema version 2, this software knows versions up to 1; use the software that wrote it"),
        "{error}"
    );
    let error = migrate(&place.config, &RandomIds, &WallClock, None).await.expect_err("newer").to_string();
    assert!(error.contains("has schema version 2"), "{error}");

    place.run("DELETE FROM KS.schema_version WHERE one = 1").await?;
    let error = refusal(&place.config).await.to_string();
    assert!(error.ends_with("has schema version 0, this software needs 1; run `tessera migrate`"), "{error}");
    let migrated = migrate(&place.config, &RandomIds, &WallClock, None).await?;
    assert_eq!((migrated.identity, migrated.found), (place.migrated.identity.clone(), 0), "what is there stays");
    place.open(Moves::No).await?;

    place.run("TRUNCATE KS.meta").await?;
    let error = refusal(&place.config).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_far_apart_are_refused() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let hour = Duration::from_hours(1);
    for (ours, said) in
        [(WallClock.now().saturating_add(hour), "behind ours"), (WallClock.now().saturating_sub(hour), "ahead of ours")]
    {
        let error = Scylla::open(&place.config, Arc::new(ManualClock::new(ours)), Moves::No).await.expect_err(said);
        assert!(matches!(error, OpenError::Clock { .. }) && error.to_string().contains(said), "{error}");
    }
    // One that goes wrong later is told about, and goes on.
    let clock = Arc::new(ManualClock::new(WallClock.now()));
    let store = Scylla::open(&place.config, Arc::clone(&clock) as _, Moves::No).await?;
    clock.set(Timestamp::MIN);
    let told = async {
        while !store.problems().iter().any(|problem| problem.starts_with("the clock of the store is")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = told => {}
        never = store.clone().watch() => match never {},
    }
    store.identity().await?;
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_migrate_at_once_make_one_store() -> anyhow::Result<()> {
    let Some(config) = shared_config()? else { return Ok(()) };
    let one = migrate(&config, &RandomIds, &WallClock, Some(3));
    let other = migrate(&config, &RandomIds, &WallClock, Some(3));
    let (one, other) = futures::try_join!(one, other)?;
    assert_eq!(one.identity, other.identity);
    assert_eq!((one.identity.epoch, one.now), (3, 1));
    assert!(one.identity.store.starts_with(&format!("{}/", config.keyspace)), "{one:?}");
    let again = migrate(&config, &RandomIds, &WallClock, None).await?;
    assert_eq!((again.identity, again.found), (one.identity, 1), "without an epoch, what is there will do");
    let error = migrate(&config, &RandomIds, &WallClock, Some(4)).await.expect_err("another epoch");
    assert_eq!(error, OpenError::OtherEpoch { keyspace: config.keyspace.clone(), found: 3, asked: 4 });
    Ok(())
}

/// Always the same id, so that the turn it takes is known.
#[derive(Debug)]
struct SameId;

impl IdSource for SameId {
    fn request_id(&self) -> RequestId {
        RandomIds.request_id()
    }

    fn unique(&self) -> String {
        "ours".to_owned()
    }
}

/// An answer may be lost: the turn is ours then, and nobody else's that would have to be waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_turn_does_not_wait_for_itself() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    // Without an end of its own, so that only its owner can end it.
    place.run("INSERT INTO KS.migrating (one, turn) VALUES (1, 'ours') IF NOT EXISTS").await?;
    let taking = Box::pin(migrate(&place.config, &SameId, &WallClock, None));
    let migrated = tokio::time::timeout(Duration::from_mins(3), taking).await??;
    assert_eq!(migrated.identity, place.migrated.identity);
    // It was left as well: another one need not wait.
    let other = Box::pin(migrate(&place.config, &RandomIds, &WallClock, None));
    tokio::time::timeout(Duration::from_mins(3), other).await??;
    place.end().await
}

/// Ends with a panic once it has its turn, when it is about to say who the store is.
#[derive(Debug, Default)]
struct BrokenOff(AtomicBool);

impl IdSource for BrokenOff {
    fn request_id(&self) -> RequestId {
        RandomIds.request_id()
    }

    fn unique(&self) -> String {
        assert!(!self.0.swap(true, Ordering::Relaxed), "broken off");
        SameId.unique()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyspace_whose_migration_was_broken_off_is_to_be_migrated_and_not_damaged() -> anyhow::Result<()> {
    let Some(config) = shared_config()? else { return Ok(()) };
    let ids = BrokenOff::default();
    let broken_off = Box::pin(AssertUnwindSafe(migrate(&config, &ids, &WallClock, None)).catch_unwind());
    assert!(broken_off.await.is_err(), "it was not broken off");
    let error = refusal(&config).await.to_string();
    assert!(error.ends_with("has schema version 0, this software needs 1; run `tessera migrate`"), "{error}");
    // The turn is its own still.
    let migrated = migrate(&config, &SameId, &WallClock, None).await?;
    assert_eq!(migrated.found, 0);
    let store = Scylla::open(&config, Arc::new(WallClock), Moves::No).await?;
    assert_eq!(store.which(), migrated.identity);
    Place { config, migrated }.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cassandra_knows_no_tablets() -> anyhow::Result<()> {
    let Some(config) = shared_config()? else { return Ok(()) };
    let config = Config { tablets: Tablets::Off, keyspace: keyspace(), ..config };
    let error = migrate(&config, &RandomIds, &WallClock, None).await.expect_err("tablets");
    assert!(matches!(error, OpenError::Refused { .. }) && error.to_string().contains("tablets"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_log_in_is_told_so_without_the_password() -> anyhow::Result<()> {
    if !tessera_engines::available()? {
        return Ok(());
    }
    let settings = vec![("authenticator".to_owned(), "PasswordAuthenticator".to_owned())];
    let options = Options { settings, ..Options::default() };
    let engine = tokio::task::spawn_blocking(move || Cassandra::throwaway(&options)).await??;
    let mut file = tempfile::NamedTempFile::new()?;
    let config = Config {
        user: Some("cassandra".to_owned()),
        password_file: Some(file.path().to_owned()),
        replication_factor: 1,
        ..Config::new(vec![engine.contact_point().to_string()])
    };
    let error = refusal(&config).await.to_string();
    assert!(error.contains("its first line is empty"), "{error}");

    writeln!(file, "sesame-open")?;
    let error = refusal(&config).await;
    assert!(matches!(error, OpenError::Authentication { .. }), "{error}");
    assert!(!error.may_pass() && error.to_string().contains("user `cassandra`"), "{error}");
    assert!(!format!("{error:?} {config:?}").contains("sesame"), "{error:?}");

    let nobody = Config { user: None, password_file: None, ..config.clone() };
    let error = refusal(&nobody).await;
    assert!(matches!(error, OpenError::Authentication { .. }), "{error}");

    std::fs::write(file.path(), "cassandra\n")?;
    // The first user is made a moment after the port opens.
    let made = loop {
        match migrate(&config, &RandomIds, &WallClock, None).await {
            Err(OpenError::Authentication { .. }) => tokio::task::yield_now().await,
            other => break other?,
        }
    };
    let store = Scylla::open(&config, Arc::new(WallClock), Moves::No).await?;
    assert_eq!(store.which(), made.identity);
    Ok(())
}
