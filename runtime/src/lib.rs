//! A process of Tessera: what every binary needs round its services, and nothing of what the services do.
//!
//! - [`digest`]: of a matrix and of its store, to be compared;
//! - [`lifecycle`]: tasks, signals, draining, the exit code; the only place where tasks are spawned;
//! - [`clock`]: the real clock and fresh ids behind the ports;
//! - [`exposure`]: where services are had, and by whom;
//! - [`identity`]: who calls, and what they may do;
//! - [`listener`]: gRPC listeners, and the lives of their connections;
//! - [`tls`]: certificates, read anew while connections live;
//! - [`http`]: the pages for machines that watch: metrics, health, digest;
//! - [`telemetry`]: logs, metrics and traces;
//! - [`metric_definitions`]: the metrics that every process has;
//! - [`process`]: the command line, start and end of a process of one plane;
//! - [`settings`]: file, environment and flags merged into one typed value;
//! - [`time_text`]: times and lengths of time as people write them.

pub mod clock;
pub mod digest;
pub mod exposure;
pub mod http;
pub mod identity;
pub mod lifecycle;
pub mod listener;
pub mod metric_definitions;
pub mod overload;
pub mod process;
pub mod settings;
pub mod telemetry;
pub mod time_text;
pub mod tls;
