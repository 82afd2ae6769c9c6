//! Real engines without containers: Apache Cassandra (the stand-in for ScyllaDB, which is not to be had as a package) and
//! Apache Kafka, each as one node out of its jars from Maven Central. Suites start them, harm them and start them again;
//! `cargo xtask up` leaves a pair standing for a developer. Nothing here knows Tessera, and nothing here is linked into it.
//!
//! - [`cassandra`], [`kafka`]: what each engine is told, and how it is seen to be ready;
//! - [`engine`]: a running engine of either kind: kill, stop, suspend, resume, restart;
//! - [`installing`]: the jars, fetched once into `target/tools/engines`;
//! - [`shared`]: one of each for all suites that do no harm;
//! - [`standing`]: the pair that outlives its starter.
//!
//! # Nobody is left behind
//!
//! An engine ends with the process that started it, even when that process is killed with SIGKILL and runs no code any more.
//! The one thing that the kernel then does for it is to close its pipes. So every engine has a watchdog, a `sh` that waits on
//! a pipe whose other end only the starter holds: when the pipe breaks, it kills the engine and removes its throwaway
//! folder. The engine itself waits for a word on a pipe of its own before it runs, and gets it when the watchdog stands, so
//! there is no moment without one. The parent-death signal of Linux would be shorter, but it follows the *thread* that
//! started the child, and threads of tests end long before the process.
//!
//! Engines and watchdogs are in process groups of their own: Ctrl+C ends the starter, and that ends them.

pub mod cassandra;
pub mod engine;
pub mod installing;
mod java;
pub mod kafka;
mod listening;
mod ports;
mod process;
pub mod shared;
pub mod standing;
mod waiting;

pub use cassandra::Cassandra;
pub use engine::{Engine, Options};
pub use kafka::Kafka;
pub use shared::{available, in_ci, present, shared_cassandra, shared_kafka, tell_skip};
