//! The suites of the ports, on a real Cassandra, which stands in for ScyllaDB; each in a keyspace of its own.

use std::sync::Arc;

use tessera_core::ids::RequestId;
use tessera_core::time::Timestamp;
use tessera_ports::clock::{Clock, IdSource};
use tessera_ports::conformance::{Run, event_store, hint_store, lease_store};
use tessera_scylla::{Config, Moves, Scylla, migrate};

/// The clock of this machine, which Cassandra has too.
#[derive(Debug)]
struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "what is compared with the clock of a real database has to be a real one")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::MIN.saturating_add(since)
    }
}

#[derive(Debug)]
struct RandomIds;

impl IdSource for RandomIds {
    fn request_id(&self) -> RequestId {
        RequestId::parse(&self.unique()).expect("an id")
    }

    #[expect(clippy::disallowed_methods, reason = "runs beside runs need names that are really new")]
    fn unique(&self) -> String {
        uuid::Uuid::now_v7().simple().to_string()
    }
}

/// `None`: there is no Cassandra here, and that has been said.
async fn open() -> anyhow::Result<Option<Scylla>> {
    let Some(address) = tessera_engines::shared_cassandra()? else { return Ok(None) };
    let config = Config {
        keyspace: format!("c_{}", RandomIds.unique()),
        replication_factor: 1,
        // A machine that is busy with other suites answers late.
        append_timeout_ms: 30_000,
        read_timeout_ms: 30_000,
        scan_timeout_ms: 60_000,
        ..Config::new(vec![address])
    };
    migrate(&config, &RandomIds, &WallClock, None).await?;
    Ok(Some(Scylla::open(&config, Arc::new(WallClock), Moves::No).await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_store_conforms() -> anyhow::Result<()> {
    let Some(store) = open().await? else { return Ok(()) };
    event_store::check_all(&store, &Run::new("events")).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hint_store_conforms() -> anyhow::Result<()> {
    let Some(store) = open().await? else { return Ok(()) };
    hint_store::check_all(&store, &Run::new("hints")).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_conform() -> anyhow::Result<()> {
    let Some(store) = open().await? else { return Ok(()) };
    lease_store::check_all(&store, &Run::new("leases"), true).await;
    Ok(())
}
