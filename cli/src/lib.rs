//! The command line of Tessera: documents for people, commands over gRPC, and `tessera dev`.
//!
//! A library only so that its own tests (and the end-to-end tests) can reach inside; nothing outside this workspace may lean
//! on it.
//!
//! - [`arguments`], [`run()`]: from the command line to an exit code;
//! - [`commands`]: a file for each group of commands;
//! - [`document`], [`files`]: the YAML format for people, and its conversion to the domain;
//! - [`apply`], [`difference`]: making the control plane say what documents say;
//! - [`connection`], [`offers`], [`pages`], [`failure`]: speaking to the processes;
//! - [`console`], [`json`], [`values`]: answers in the form that was asked for;
//! - [`replacement`]: files that take the place of others.

pub mod apply;
pub mod arguments;
pub mod commands;
pub mod connection;
pub mod console;
pub mod difference;
pub mod document;
pub mod failure;
pub mod files;
pub mod history;
pub mod json;
pub mod offers;
pub mod pages;
pub mod replacement;
mod run;
pub mod values;

pub use run::run;
