//! Open-loop load for whole deployments, with every answer verified.
//!
//! A library only so that its own tests can reach inside; nothing outside this workspace may lean on it.
//!
//! Pure, with time and randomness as arguments:
//! - [`rate`], [`schedule`]: when messages are due; [`popularity`]: which tenants are asked about;
//! - [`question`], [`answer`]: messages as bytes; [`expected`]: what answers must say;
//! - [`ghz`]: questions for another load generator;
//! - [`account`]: what became of messages; [`report`]: that as a table and as JSON.
//!
//! Everything else:
//! - [`arguments`], [`commands()`]: from the command line to an exit code;
//! - [`credentials`]: who asks, and by what servers are known; [`address`], [`control`], [`prepare`]: the scenario in a
//!   deployment; [`probe`]: whether it is there;
//! - [`run`]: steps, interruption, progress; [`worker`]: a thread that sends; [`storm`]: changes beside it;
//! - [`wire`], [`failure`], [`pacing`]: gRPC over h2, what goes wrong there, exact waiting.

pub mod account;
pub mod address;
pub mod answer;
pub mod arguments;
mod commands;
pub mod control;
pub mod credentials;
pub mod expected;
pub mod failure;
pub mod ghz;
pub mod pacing;
pub mod popularity;
pub mod prepare;
pub mod probe;
pub mod question;
pub mod rate;
pub mod report;
pub mod run;
pub mod schedule;
pub mod storm;
pub mod wire;
pub mod worker;

pub use commands::commands;
