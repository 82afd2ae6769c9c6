//! The control plane: commands, their streams, the admin APIs, and the publishing of what was committed.
//!
//! - [`handler`]: a command's way from a caller to its stream and back, for every aggregate alike;
//! - [`streams`], [`world`]: strong reads;
//! - [`publisher`], [`sweeper`], [`heartbeat`]: how committed states reach the feed whatever dies on the way;
//! - [`announcer`]: how others are told of the events behind them;
//! - [`access`]: who may call what;
//! - [`due`]: records what time alone has done;
//! - [`service`]: puts it all together; [`process`] runs it as a process of its own.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::todo, clippy::unreachable)]

pub mod access;
pub mod aggregate;
pub mod announcer;
pub mod config;
pub mod digest;
pub mod due;
pub mod etag;
mod grpc;
pub mod handler;
pub mod heartbeat;
pub mod metric_definitions;
pub mod process;
pub mod publisher;
pub mod refusal;
pub mod service;
pub mod share;
mod stored_event;
pub mod streams;
pub mod sweeper;
mod unreadable;
pub mod world;

pub use config::Config;
pub use service::{Dependencies, Handle, Loader, build};
