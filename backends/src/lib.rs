//! Opens the backends that the configuration names. The only crate that knows which there are; of the processes only their
//! `main.rs` know this one.
//!
//! - `config`: the configuration, as people write it;
//! - `late`: backends that open while the process is already at work.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod config;
mod late;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_core::stream::Epoch;
use tessera_kafka::Kafka;
use tessera_ports::clock::{Clock, IdSource};
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::{ChangeFeed, ChangePublisher, EventPublisher, EventStore, HintStore, LeaseStore};
use tessera_scylla::{Moves, Scylla};
use tessera_sqlite::{Checks, Sqlite};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

pub use config::{ClusterConfig, Config};
use late::{FeedPorts, Late as _, LateFeed, LateStore, StorePorts};
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
    /// Where others are told of events: by processes that write, where the settings name a place for it.
    pub events: Option<Arc<dyn EventPublisher>>,
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
            Ok(embedded(on_a_thread(move || Sqlite::open(&config, &*ids)).await?))
        }
        Config::Cluster(config) => {
            let ((store, watch), feed) = futures::try_join!(open_scylla(config, opening), open_kafka(config, opening.purpose))?;
            Ok(Backends { ports: joined(store, feed), fatal: watch })
        }
    }
}

/// As [`open`]; an embedded database that is made now begins in `epoch`.
pub async fn open_in_epoch(config: &Config, opening: &Opening, epoch: Epoch) -> Result<Backends, OpenError> {
    let Config::Sqlite(config) = config else { return open(config, opening).await };
    config.validate().map_err(OpenError::Config)?;
    let (config, ids) = (config.clone(), Arc::clone(&opening.ids));
    Ok(embedded(on_a_thread(move || Sqlite::open_in_epoch(&config, &*ids, epoch)).await?))
}

/// The store alone, of what is there already: nothing is made. What keeps it open is in what is returned.
pub async fn open_store(config: &Config, opening: &Opening) -> Result<Arc<dyn EventStore>, OpenError> {
    config.validate().map_err(OpenError::Config)?;
    match config {
        Config::Sqlite(config) => {
            let (config, ids) = (config.clone(), Arc::clone(&opening.ids));
            Ok(embedded(on_a_thread(move || Sqlite::open_existing(&config, &*ids)).await?).ports.store)
        }
        Config::Cluster(config) => Ok(open_scylla(config, opening).await?.0.store),
    }
}

/// As [`open`], or, for a process that has the patience, backends that open in time and can be called at once: store and feed each
/// as soon as it can be reached.
pub async fn open_in_time(config: &Config, opening: Opening, patience: Patience) -> Result<Backends, OpenError> {
    if patience == Patience::UntilRefused && !config.is_shared() {
        return open(config, &opening).await;
    }
    config.validate().map_err(OpenError::Config)?;
    let (store, feed) = (LateStore::new(config.feeds_itself()), LateFeed::new());
    let purpose = opening.purpose;
    let ports = late::ports(&store, &feed, config.tells_events() && purpose == Purpose::Loading);
    let fatal = match config.clone() {
        Config::Sqlite(config) => open_sqlite_late(config, opening, store, feed).boxed(),
        Config::Cluster(config) => {
            let config: Arc<ClusterConfig> = config.into();
            let (for_feed, opening) = (Arc::clone(&config), Arc::new(opening));
            let open_store = move || {
                let (config, opening) = (Arc::clone(&config), Arc::clone(&opening));
                async move { open_scylla(&config, &opening).await }.boxed()
            };
            let open_feed = move || {
                let config = Arc::clone(&for_feed);
                async move { open_kafka(&config, purpose).await }.boxed()
            };
            let store = async move {
                match try_on("the store", patience, &store, open_store).await {
                    Ok((ports, watch)) => {
                        store.opened(ports);
                        watch.await
                    }
                    Err(refusal) => refusal,
                }
            };
            let feed = async move {
                match try_on("the feed", patience, &feed, open_feed).await {
                    Ok(ports) => {
                        feed.opened(ports);
                        std::future::pending().await
                    }
                    Err(refusal) => refusal,
                }
            };
            async move {
                tokio::select! {
                    fatal = store => fatal,
                    fatal = feed => fatal,
                }
            }
            .boxed()
        }
    };
    Ok(Backends { ports, fatal })
}

/// It is checked while it is used already: the process has something to serve meanwhile, and whenever it turns out to be damaged.
async fn open_sqlite_late(config: SqliteConfig, opening: Opening, store: LateStore, feed: LateFeed) -> String {
    let open = || {
        let (config, ids) = (config.clone(), Arc::clone(&opening.ids));
        on_a_thread(move || Sqlite::open_unchecked(&config, &*ids)).boxed()
    };
    match try_on("the embedded database", Patience::Endless, &store, open).await {
        Ok((sqlite, checks)) => {
            let Backends { ports, fatal } = embedded(sqlite);
            let Ports { store: streams, feed: changes, publisher, events, hints, leases } = ports;
            store.opened(StorePorts { store: streams, hints, leases });
            feed.opened(FeedPorts { feed: changes, publisher, events });
            tokio::select! {
                fatal = fatal => fatal,
                never = check(checks) => match never {},
            }
        }
        Err(refusal) => refusal,
    }
}

/// Whatever comes of it, the process goes on with what it has.
async fn check(checks: Checks) -> Infallible {
    let checks = Arc::new(checks);
    let mut told = None;
    loop {
        let running = Arc::clone(&checks);
        match on_a_thread(move || running.run()).await {
            Ok(()) => info!("the embedded database is as it was written"),
            Err(error @ OpenError::Sqlite(SqliteError::Damaged { .. })) => {
                error!(%error, "the embedded database is not used any more; what is in memory is served");
            }
            Err(error) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    warn!(%error, "the embedded database cannot be checked; trying again");
                    told = Some(why);
                }
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Tries until it is open; with little patience the first refusal is the end, and returned.
async fn try_on<T>(
    what: &str,
    patience: Patience,
    late: &impl late::Late,
    open: impl Fn() -> BoxFuture<'static, Result<T, OpenError>>,
) -> Result<T, String> {
    loop {
        match open().await {
            Ok(opened) => {
                info!("{what} is open");
                return Ok(opened);
            }
            Err(error) if patience == Patience::UntilRefused && !error.may_pass() => {
                return Err(format!("{what} cannot be opened: {error}"));
            }
            Err(error) => {
                let error = error.to_string();
                if late.refused(&error) {
                    warn!(error, "{what} cannot be opened; trying again");
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// With what it needs beside the calls.
async fn open_scylla(config: &ClusterConfig, opening: &Opening) -> Result<(StorePorts, BoxFuture<'static, String>), OpenError> {
    let moves = match opening.purpose {
        Purpose::Serving => Moves::Yes,
        Purpose::Loading => Moves::No,
    };
    let scylla = Scylla::open(&config.scylla, Arc::clone(&opening.clock), moves).await?;
    let watch = scylla.clone().watch().map(|never| match never {}).boxed();
    let scylla = Arc::new(scylla);
    let hints = Arc::clone(&scylla) as Arc<dyn HintStore>;
    Ok((StorePorts { store: Arc::clone(&scylla) as Arc<dyn EventStore>, hints, leases: scylla }, watch))
}

/// Servers publish nothing, and do not look for the topic of events.
async fn open_kafka(config: &ClusterConfig, purpose: Purpose) -> Result<FeedPorts, OpenError> {
    let open_events = async {
        match purpose {
            Purpose::Loading => tessera_kafka::Events::open(&config.kafka).await,
            Purpose::Serving => Ok(None),
        }
    };
    let (kafka, events) = futures::try_join!(Kafka::open(&config.kafka), open_events)?;
    let kafka = Arc::new(kafka);
    let events = events.map(|events| Arc::new(events) as Arc<dyn EventPublisher>);
    Ok(FeedPorts { feed: Arc::clone(&kafka) as Arc<dyn ChangeFeed>, publisher: kafka, events })
}

fn joined(store: StorePorts, feed: FeedPorts) -> Ports {
    let StorePorts { store, hints, leases } = store;
    let FeedPorts { feed, publisher, events } = feed;
    Ports { store, feed, publisher, events, hints, leases }
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
    /// The topic of events for others, where there is one.
    pub events_topic: Option<TopicMigration>,
}

/// Brings the schema of a store up to date. An embedded one must be there; the keyspace and the topics of a cluster are made.
/// `epoch` is that of a keyspace that is made; without one it is 1.
pub async fn migrate(config: &Config, opening: &Opening, epoch: Option<Epoch>) -> Result<Migrated, OpenError> {
    config.validate().map_err(OpenError::Config)?;
    match config {
        Config::Sqlite(config) => {
            let (config, ids) = (config.clone(), Arc::clone(&opening.ids));
            let sqlite = on_a_thread(move || Sqlite::open_existing(&config, &*ids)).await?;
            Ok(Migrated { identity: sqlite.which().clone(), schema: sqlite.schema(), topic: None, events_topic: None })
        }
        Config::Cluster(config) => {
            let ClusterConfig { scylla, kafka } = &**config;
            let migrated = tessera_scylla::migrate(scylla, &*opening.ids, &*opening.clock, epoch).await?;
            let schema = SchemaVersions { found: migrated.found, now: migrated.now };
            let topic = Some(tessera_kafka::migrate(kafka).await?);
            let events_topic = tessera_kafka::migrate_events(kafka).await?;
            Ok(Migrated { identity: migrated.identity, schema, topic, events_topic })
        }
    }
}

fn embedded(sqlite: Sqlite) -> Backends {
    let sqlite = Arc::new(sqlite);
    let fatal = sqlite.fatal().wait().map(|reason| reason.to_string()).boxed();
    let ports = Ports {
        store: Arc::clone(&sqlite) as Arc<dyn EventStore>,
        feed: Arc::clone(&sqlite) as Arc<dyn ChangeFeed>,
        publisher: Arc::clone(&sqlite) as Arc<dyn ChangePublisher>,
        events: None,
        hints: Arc::clone(&sqlite) as Arc<dyn HintStore>,
        leases: sqlite,
    };
    Backends { ports, fatal }
}

/// On a thread that the end of the process does not wait for: to open or check a big database takes seconds, and breaking off is safe.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, SqliteError> + Send + 'static) -> Result<T, OpenError> {
    let (sender, answer) = oneshot::channel();
    std::thread::spawn(move || drop(sender.send(work())));
    Ok(answer.await.map_err(|_| OpenError::NoAnswer)??)
}
