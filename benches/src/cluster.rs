//! A cluster to be measured: real engines, keyspaces and topics in them, and what is done with these by the adapters and, beside
//! them, by bare drivers.
//!
//! - [`engines`]: a Cassandra and a Kafka, started here or somebody else's;
//! - [`place`]: a keyspace and a topic, and the settings that name them;
//! - `cells`: what an append writes, for whoever writes it without the adapter; [`fill`]: a keyspace filled that way;
//! - [`scan`], [`replay`], [`append`]: the adapters and the bare drivers in turns, in a process of their own
//!   (`bin/cluster-adapters.rs`); [`turns`]: what each of them is measured by.
//!
//! Nothing here restarts or harms an engine, and nothing here says what is good: goals are in [`rows::cluster`](crate::rows::cluster).

pub mod append;
mod cells;
pub mod engines;
pub mod fill;
pub mod place;
pub mod replay;
pub mod scan;
pub mod turns;
