//! Opens the backends that the configuration names. The only crate that knows which there are; of the processes only their
//! `main.rs` know this one.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod reading;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tessera_ports::clock::IdSource;
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::{ChangeFeed, ChangePublisher, EventStore, HintStore};
use tessera_sqlite::Sqlite;

pub use tessera_sqlite::{
    Config as SqliteConfig, Fatal, OpenError, Present, Restore, RestoreError, RestorePlan, Restored, SchemaVersions,
};

/// Which backends, and how they are run: `kind` names them, the other fields are theirs.
///
/// ```toml
/// kind = "sqlite"
/// data_dir = "/var/lib/tessera"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Config {
    /// One SQLite database, store and feed at once, for one process.
    Sqlite(SqliteConfig),
}

impl Config {
    /// Says what is out of bounds: field, value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::Sqlite(config) => config.validate(),
        }
    }

    /// The directory of an embedded database.
    pub fn data_dir(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(config) => Some(&config.data_dir),
        }
    }

    /// Whether several processes can use them at once. Where not, loader and server must be one process.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
        }
    }
}

/// Open backends, one per port. They stay open as long as one of the handles lives.
#[derive(Debug, Clone)]
pub struct Backends {
    /// The streams.
    pub store: Arc<dyn EventStore>,
    /// Where changes are read.
    pub feed: Arc<dyn ChangeFeed>,
    /// Where changes are published.
    pub publisher: Arc<dyn ChangePublisher>,
    /// Appends that may still have to be published.
    pub hints: Arc<dyn HintStore>,
    /// Tells when the process must end, with an exit code that is not 0, because they cannot be relied on any more.
    pub fatal: Fatal,
}

/// As [`open`], of what is there already: nothing is made.
pub fn open_existing(config: &Config, ids: &dyn IdSource) -> Result<Backends, OpenError> {
    match config {
        Config::Sqlite(config) => Ok(backends(Sqlite::open_existing(config, ids)?)),
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

/// Opens what `config` names; `ids` gives names to what is new. It blocks, with a big embedded database for some seconds: call
/// it before there is anything else to do, or on a thread that may wait.
pub fn open(config: &Config, ids: &dyn IdSource) -> Result<Backends, OpenError> {
    match config {
        Config::Sqlite(config) => Ok(backends(Sqlite::open(config, ids)?)),
    }
}

fn backends(sqlite: Sqlite) -> Backends {
    let (fatal, sqlite) = (sqlite.fatal(), Arc::new(sqlite));
    Backends {
        store: Arc::clone(&sqlite) as Arc<dyn EventStore>,
        feed: Arc::clone(&sqlite) as Arc<dyn ChangeFeed>,
        publisher: Arc::clone(&sqlite) as Arc<dyn ChangePublisher>,
        hints: sqlite,
        fatal,
    }
}
