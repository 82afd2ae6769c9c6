//! The data plane: everything in memory, kept equal to the store, and answers from it.
//!
//! - `matrix`: what answers are made from; one writer, readers that never wait;
//! - `follower`: the one writer: hydration, the feed, the scan that never stops;
//! - [`snapshot`]: all of it in a file, to begin from;
//! - `consistency`: how new an answer must be, and the waiting for it;
//! - `decide`, `wire`: from a question to an encoded answer;
//! - `service`: `tessera.v1.EntitlementService`; [`access`]: who may call it;
//! - [`build`]: all of it put together; [`process`]: as a process of its own.
//!
//! It never writes and never waits for the control plane: with every dependency down it goes on answering and says how old its
//! data is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::todo, clippy::unreachable)]

pub mod access;
mod assembly;
pub mod config;
mod consistency;
mod decide;
pub mod decision_log;
mod evaluation_time;
pub mod ext_authz;
mod follower;
mod hub;
mod limits;
mod matrix;
pub mod metric_definitions;
pub mod process;
mod service;
mod shared;
pub mod snapshot;
mod wire;

#[cfg(test)]
#[path = "../tests/data_plane/universe.rs"]
mod universe;

pub use assembly::{BuildError, Dependencies, Handle, Server, build};
pub use config::Config;
pub use service::services::Services;
