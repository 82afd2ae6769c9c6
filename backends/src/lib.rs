//! Opens the backends that the configuration names. The only crate that knows which there are; of the processes only their
//! `main.rs` know this one.
//!
//! - `config`: the configuration, as people write it;
//! - `late`: backends that open while the process is already at work.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod config;
mod late;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_core::stream::Epoch;
use tessera_kafka::Kafka;
use tessera_ports::clock::{Clock, IdSource};
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::{ChangeFeed, ChangePublisher, EventStore, HintStore, LeaseStore};
use tessera_scylla::{Moves, Scylla};
use tessera_sqlite::Sqlite;
use tokio::sync::oneshot;
use tracing::{info, warn};

pub use config::{ClusterConfig, Config};
use late::Late;
pub use tessera_kafka::{Config as KafkaConfig, Migration as TopicMigration};
pub use tessera_scylla::Config as ScyllaConfig;
pub use tessera_sqlite::{
    Config as SqliteConfig, OpenError as SqliteError, Present, Restore, RestoreError, RestorePlan, Restored, SchemaVersions,
};

/// Between two attempts to open what could not be opened.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Every port, open or about to be.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The streams.
    pub store: Arc<dyn EventStore>,
    /// Where changes are read.
    pub feed: Arc<dyn ChangeFeed>,
    /// Where changes are published.
    pub publisher: Arc<dyn ChangePublisher>,
    /// Appends that may still have to be published.
    pub hints: Arc<dyn HintStore>,
    /// Which loaders are at work.
    pub leases: Arc<dyn LeaseStore>,
}

/// Backends of a process. They stay open as long as one of the handles lives.
pub struct Backends {
    /// What the process calls.
    pub ports: Ports,
    /// Has to be polled for as long as they are used: it does what they need beside the calls, and completes, with the reason,
    /// when the process must end with an exit code that is not 0 because they cannot be relied on any more.
    pub fatal: BoxFuture<'static, String>,
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends").field("ports", &self.ports).finish_non_exhaustive()
    }
}

/// Why backends cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its bounds.
    #[error("{0}")]
    Config(String),
    /// The embedded database.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The store of a cluster.
    #[error(transparent)]
    Scylla(#[from] tessera_scylla::OpenError),
    /// The feed of a cluster.
    #[error(transparent)]
    Kafka(#[from] tessera_kafka::OpenError),
    /// The thread that opened it gave no answer.
    #[error("the thread that was to open the database ended")]
    NoAnswer,
}

impl OpenError {
    /// Whether it may pass without anybody doing anything.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Scylla(error) => error.may_pass(),
            Self::Kafka(tessera_kafka::OpenError::Unreachable { .. }) => true,
            Self::Config(_) | Self::Sqlite(_) | Self::NoAnswer | Self::Kafka(_) => false,
        }
    }
}

/// What a process does while its backends cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It starts and tries again where they cannot be reached, and ends where they refuse it. An embedded database is not out of
    /// reach: it opens, or the process does not start.
    UntilRefused,
    /// It starts and tries again whatever the reason, since it has something to do without them.
    Endless,
}

/// What a process does with its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reads, and follows a restore into another store.
    Serving,
    /// Writes, into the one store that its settings name.
    Loading,
}

/// Everything that opening takes besides the configuration.
#[derive(Debug, Clone)]
pub struct Opening {
    /// What for.
    pub purpose: Purpose,
    /// Gives names to what is new.
    pub ids: Arc<dyn IdSource>,
    /// Our time, which that of a shared store may not be far from.
    pub clock: Arc<dyn Clock>,
}

/// Opens what `config` names. A big embedded database takes some seconds, on a thread of its own that the end of the process does not
/// wait for.
pub async fn open(config: &Config, opening: &Opening) -> Result<Backends, OpenError> {
    config.validate().map_err(OpenError::Config)?;
    match config {
        Config::Sqlite(config) => {
            let (config, ids) = (config.clone(), Arc::clone(&opening.ids));
            embedded(move || Sqlite::open(&config, &*ids)).await
        }
        Config::Cluster(config) => cluster(config, opening).await,
    }
}

/// As [`open`], of what is there already: nothing is made.
pub async fn open_existing(config: &Config, opening: &Opening) -> Result<Backends, OpenError> {
    match config {
        Config::Sqlite(config) => {
            let (config, ids) = (config.clone(), Arc::clone(&opening.ids));
            embedded(move || Sqlite::open_existing(&config, &*ids)).await
        }
        Config::Cluster(config) => cluster(config, opening).await,
    }
}

/// As [`open`], or, for a process that has the patience, backends that open in time and can be called at once.
pub async fn open_in_time(config: &Config, opening: Opening, patience: Patience) -> Result<Backends, OpenError> {
    if patience == Patience::UntilRefused && !config.is_shared() {
        return open(config, &opening).await;
    }
    config.validate().map_err(OpenError::Config)?;
    let late = Late::new(config.feeds_itself());
    let ports = late.ports();
    let fatal = open_late(late, config.clone(), opening, patience).boxed();
    Ok(Backends { ports, fatal })
}

/// Opens them, however often it has to be tried, and then goes on with what the open ones need.
async fn open_late(late: Late, config: Config, opening: Opening, patience: Patience) -> String {
    loop {
        match open(&config, &opening).await {
            Ok(Backends { ports, fatal }) => {
                late.opened(ports);
                info!("the backends are open");
                return fatal.await;
            }
            Err(error) if patience == Patience::UntilRefused && !error.may_pass() => {
                return format!("the backends cannot be opened: {error}");
            }
            Err(error) => {
                let error = error.to_string();
                if late.refused(&error) {
                    warn!(error, "the backends cannot be opened; trying again");
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn cluster(config: &ClusterConfig, opening: &Opening) -> Result<Backends, OpenError> {
    let moves = match opening.purpose {
        Purpose::Serving => Moves::Yes,
        Purpose::Loading => Moves::No,
    };
    let (scylla, kafka) =
        futures::join!(Scylla::open(&config.scylla, Arc::clone(&opening.clock), moves), Kafka::open(&config.kafka));
    let (scylla, kafka) = (scylla?, Arc::new(kafka?));
    let fatal = scylla.clone().watch().map(|never| match never {}).boxed();
    let scylla = Arc::new(scylla);
    let ports = Ports {
        store: Arc::clone(&scylla) as Arc<dyn EventStore>,
        feed: Arc::clone(&kafka) as Arc<dyn ChangeFeed>,
        publisher: kafka,
        hints: Arc::clone(&scylla) as Arc<dyn HintStore>,
        leases: scylla,
    };
    Ok(Backends { ports, fatal })
}

/// What [`migrate`] found and made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Which store it is.
    pub identity: StoreIdentity,
    /// The versions of its schema.
    pub schema: SchemaVersions,
    /// The topic of a feed that is not the store's own.
    pub topic: Option<TopicMigration>,
}

/// Brings the schema of a store up to date. An embedded one must be there; the keyspace and the topic of a cluster are made. `epoch` is
/// that of a keyspace that is made; without one it is 1.
pub async fn migrate(config: &Config, opening: &Opening, epoch: Option<Epoch>) -> Result<Migrated, OpenError> {
    config.validate().map_err(OpenError::Config)?;
    match config {
        Config::Sqlite(config) => {
            let (config, ids) = (config.clone(), Arc::clone(&opening.ids));
            let sqlite = on_a_thread(move || Sqlite::open_existing(&config, &*ids)).await?;
            Ok(Migrated { identity: sqlite.which().clone(), schema: sqlite.schema(), topic: None })
        }
        Config::Cluster(config) => {
            let ClusterConfig { scylla, kafka } = &**config;
            let migrated = tessera_scylla::migrate(scylla, &*opening.ids, &*opening.clock, epoch).await?;
            let schema = SchemaVersions { found: migrated.found, now: migrated.now };
            let topic = Some(tessera_kafka::migrate(kafka).await?);
            Ok(Migrated { identity: migrated.identity, schema, topic })
        }
    }
}

async fn embedded(open: impl FnOnce() -> Result<Sqlite, SqliteError> + Send + 'static) -> Result<Backends, OpenError> {
    let sqlite = Arc::new(on_a_thread(open).await?);
    let fatal = sqlite.fatal().wait().map(|reason| reason.to_string()).boxed();
    let ports = Ports {
        store: Arc::clone(&sqlite) as Arc<dyn EventStore>,
        feed: Arc::clone(&sqlite) as Arc<dyn ChangeFeed>,
        publisher: Arc::clone(&sqlite) as Arc<dyn ChangePublisher>,
        hints: Arc::clone(&sqlite) as Arc<dyn HintStore>,
        leases: sqlite,
    };
    Ok(Backends { ports, fatal })
}

/// On a thread that the end of the process does not wait for: to open a big database takes seconds, and breaking off is safe.
async fn on_a_thread(open: impl FnOnce() -> Result<Sqlite, SqliteError> + Send + 'static) -> Result<Sqlite, OpenError> {
    let (sender, opened) = oneshot::channel();
    std::thread::spawn(move || drop(sender.send(open())));
    Ok(opened.await.map_err(|_| OpenError::NoAnswer)??)
}
