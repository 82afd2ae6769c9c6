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
use tessera_ports::clock::IdSource;
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::{ChangeFeed, ChangePublisher, EventStore, HintStore, LeaseStore};
use tessera_sqlite::Sqlite;
use tokio::sync::oneshot;
use tracing::{info, warn};

pub use config::Config;
use late::Late;
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
    /// The thread that opened it gave no answer.
    #[error("the thread that was to open the database ended")]
    NoAnswer,
}

/// What a process does while its backends cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It does not start.
    No,
    /// It starts and tries again, since it has something to do without them.
    Endless,
}

/// Opens what `config` names; `ids` gives names to what is new. A big embedded database takes some seconds, on a thread of its own
/// that the end of the process does not wait for.
pub async fn open(config: &Config, ids: Arc<dyn IdSource>) -> Result<Backends, OpenError> {
    config.validate().map_err(OpenError::Config)?;
    match config {
        Config::Sqlite(config) => {
            let config = config.clone();
            embedded(move || Sqlite::open(&config, &*ids)).await
        }
    }
}

/// As [`open`], of what is there already: nothing is made.
pub async fn open_existing(config: &Config, ids: Arc<dyn IdSource>) -> Result<Backends, OpenError> {
    match config {
        Config::Sqlite(config) => {
            let config = config.clone();
            embedded(move || Sqlite::open_existing(&config, &*ids)).await
        }
    }
}

/// As [`open`], or, for a process that has the patience, backends that open in time and can be called at once.
pub async fn open_in_time(config: &Config, ids: Arc<dyn IdSource>, patience: Patience) -> Result<Backends, OpenError> {
    if patience == Patience::No {
        return open(config, ids).await;
    }
    let late = Late::new(config.feeds_itself());
    let ports = late.ports();
    let fatal = opening(late, config.clone(), ids).boxed();
    Ok(Backends { ports, fatal })
}

/// Opens them, however often it has to be tried, and then goes on with what the open ones need.
async fn opening(late: Late, config: Config, ids: Arc<dyn IdSource>) -> String {
    loop {
        match open(&config, Arc::clone(&ids)).await {
            Ok(Backends { ports, fatal }) => {
                late.opened(ports);
                info!("the backends are open");
                return fatal.await;
            }
            Err(error) => {
                let error = error.to_string();
                if late.refused(error.clone()) {
                    warn!(error, "the backends cannot be opened; trying again");
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Brings the schema of a store that is there up to date: which store it is, and its versions. It blocks.
pub fn migrate(config: &Config, ids: &dyn IdSource) -> Result<(StoreIdentity, SchemaVersions), OpenError> {
    match config {
        Config::Sqlite(config) => {
            let sqlite = Sqlite::open_existing(config, ids)?;
            Ok((sqlite.which().clone(), sqlite.schema()))
        }
    }
}

/// On a thread that the end of the process does not wait for: to open a big database takes seconds, and breaking off is safe.
async fn embedded(open: impl FnOnce() -> Result<Sqlite, SqliteError> + Send + 'static) -> Result<Backends, OpenError> {
    let (sender, opened) = oneshot::channel();
    std::thread::spawn(move || drop(sender.send(open())));
    let sqlite = Arc::new(opened.await.map_err(|_| OpenError::NoAnswer)??);
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
