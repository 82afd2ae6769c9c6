//! The embedded store and feed of Tessera: SQLite behind the ports, in one process that owns the data directory.
//!
//! [`Sqlite::open`] gives one handle that is all five ports: [`EventStore`](tessera_ports::EventStore),
//! [`ChangeFeed`](tessera_ports::ChangeFeed), [`ChangePublisher`](tessera_ports::ChangePublisher),
//! [`HintStore`](tessera_ports::HintStore) and [`LeaseStore`](tessera_ports::LeaseStore).
//!
//! - `config`: settings;
//! - `data_dir`: the directory, its modes, and the lock that keeps other processes out;
//! - `connection`: connections and what every one of them is told;
//! - `schema`: tables, versions, who the database is;
//! - `integrity`: what is checked at every start; `verdict`: what came of it; `checksum`: what finds a flipped byte on every read;
//! - `writer`: the one thread that writes, many appends to a commit; `readers`: the threads that read beside it;
//! - `store`, `scan`, `feed`, `hints`: the ports;
//! - `restore`: a backup becomes the database, in the next epoch;
//! - `error`: why a database does not open; what an error of SQLite means for whoever waits.
//!
//! **Fail-stop.** After an I/O error (a full disk excepted) nothing is known of what the disk holds: nothing more is
//! acknowledged, and [`Sqlite::fatal`] tells the process to end. The next start finds out what is there.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod checksum;
mod config;
mod connection;
mod data_dir;
mod error;
mod fatal;
mod feed;
mod hints;
mod integrity;
mod open;
mod readers;
mod restore;
mod row;
mod scan;
mod schema;
mod store;
mod verdict;
mod writer;

pub use config::Config;
pub use error::OpenError;
pub use fatal::Fatal;
pub use open::{Checks, Sqlite};
pub use restore::{Plan as RestorePlan, Present, Restore, RestoreError, Restored};
pub use schema::SchemaVersions;
