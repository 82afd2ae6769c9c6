//! The loader over the in-memory ports: each rule of the write side, each rpc, each fault.

mod audit;
mod bad_input;
mod batches;
mod bench;
mod bound;
mod due;
mod edge;
mod events;
mod grouping;
#[cfg(feature = "test-hooks")]
mod guards;
mod history;
mod idempotency;
mod import;
mod metrics;
mod outcomes;
mod publishing;
mod recording;
mod replays;
mod rig;
mod rpcs_catalog;
mod rpcs_tenant;
mod short_pages;
mod unreadable;
mod world;
