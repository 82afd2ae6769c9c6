//! A keyspace for one test on a real Cassandra.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tessera_core::ids::RequestId;
use tessera_core::stream::Epoch;
use tessera_core::time::Timestamp;
use tessera_ports::clock::{Clock, IdSource};
use tessera_scylla::{Config, Migrated, Moves, OpenError, Scylla, migrate};

/// The clock of this machine, which Cassandra has too.
#[derive(Debug)]
pub(crate) struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "what is compared with the clock of a real database has to be a real one")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::MIN.saturating_add(since)
    }
}

/// Ids that no other run has.
#[derive(Debug)]
pub(crate) struct RandomIds;

impl IdSource for RandomIds {
    fn request_id(&self) -> RequestId {
        RequestId::parse(&self.unique()).expect("an id")
    }

    #[expect(clippy::disallowed_methods, reason = "runs beside runs need names that are really new")]
    fn unique(&self) -> String {
        uuid::Uuid::now_v7().simple().to_string()
    }
}

/// A keyspace of its own.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) config: Config,
    pub(crate) migrated: Migrated,
}

impl Place {
    /// In the Cassandra that all suites share. `None`: there is none here, and that has been said.
    pub(crate) async fn shared() -> anyhow::Result<Option<Self>> {
        let Some(config) = shared_config()? else { return Ok(None) };
        Self::made(config, None).await.map(Some)
    }

    /// In a Cassandra that the test has for itself.
    pub(crate) async fn at(address: SocketAddr) -> anyhow::Result<Self> {
        Self::made(config(&address.to_string()), None).await
    }

    /// Beside this one, as a restore makes it.
    pub(crate) async fn next(&self, epoch: Epoch) -> anyhow::Result<Self> {
        let keyspace = keyspace();
        Self::made(Config { keyspace, ..self.config.clone() }, Some(epoch)).await
    }

    async fn made(config: Config, epoch: Option<Epoch>) -> anyhow::Result<Self> {
        let migrated = migrate(&config, &RandomIds, &WallClock, epoch).await?;
        Ok(Self { config, migrated })
    }

    pub(crate) async fn open(&self, moves: Moves) -> Result<Scylla, OpenError> {
        Scylla::open(&self.config, Arc::new(WallClock), moves).await
    }

    /// The database without us in between.
    pub(crate) async fn session(&self) -> anyhow::Result<Session> {
        SessionBuilder::new().known_nodes(&self.config.contact_points).build().await.context("connect")
    }

    /// A statement on this keyspace, whose name stands for `KS`.
    pub(crate) async fn run(&self, text: &str) -> anyhow::Result<()> {
        let text = text.replace("KS", &self.config.keyspace);
        self.session().await?.query_unpaged(text.as_str(), ()).await.with_context(|| text.clone())?;
        Ok(())
    }

    /// Takes the keyspace away, so that a Cassandra that serves many suites stays small.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.run("DROP KEYSPACE KS").await
    }
}

/// Settings for the Cassandra that all suites share, with a keyspace that is not there yet.
pub(crate) fn shared_config() -> anyhow::Result<Option<Config>> {
    Ok(tessera_engines::shared_cassandra()?.map(|address| config(&address)))
}

fn config(address: &str) -> Config {
    let config = Config::new(vec![address.to_owned()]);
    // A machine that is busy with other suites answers late.
    let (append_timeout_ms, read_timeout_ms, scan_timeout_ms) = (30_000, 30_000, 60_000);
    Config { keyspace: keyspace(), replication_factor: 1, append_timeout_ms, read_timeout_ms, scan_timeout_ms, ..config }
}

/// A name that no other run has.
pub(crate) fn keyspace() -> String {
    format!("t_{}", RandomIds.unique())
}
