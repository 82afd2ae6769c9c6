//! The store of Tessera on ScyllaDB or Cassandra: streams, hints and leases in one keyspace, for any number of processes.
//!
//! [`migrate`] makes the keyspace and its tables; [`Scylla::open`] gives one handle that is three ports:
//! [`EventStore`](tessera_ports::EventStore), [`HintStore`](tessera_ports::HintStore) and
//! [`LeaseStore`](tessera_ports::LeaseStore). The feed is some other adapter's.
//!
//! - `config`: settings;
//! - `session`: the connection, and what its errors mean for whoever waits; `health`: what is wrong now; `datacenters`: whose nodes
//!   are asked;
//! - `schema`: versions of the tables, and who a keyspace is; `migrating`: how it becomes so;
//! - `keyspace`: the statements of one keyspace;
//! - `open`: the handle; `moving`: how it follows a restore to another keyspace;
//! - `store`, `hints`, `leases`: the ports; `reading`, `appending`, `scan`: what is done with streams; `row`, `checksum`: what is in
//!   a row.
//!
//! **One partition per stream** holds its events, its request rows and, as static columns, head, hash and state. An append is one
//! conditional batch in it; the strong read is one serial read of it. Nothing here repeats an append.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod appending;
mod checksum;
mod config;
mod datacenters;
mod error;
mod health;
mod hints;
mod keyspace;
mod leases;
mod migrating;
mod moving;
mod open;
mod reading;
mod row;
mod scan;
mod schema;
mod session;
mod store;

pub use config::{Config, Datacenters, Tablets};
pub use error::OpenError;
pub use migrating::{Migrated, migrate};
pub use open::{Moves, Scylla};
