//! The command line of Tessera: documents for people, commands over gRPC, and `tessera dev`.
//!
//! A library only so that its own tests (and the end-to-end tests) can reach inside; nothing outside this workspace may lean
//! on it.
//!
//! - [`document`]: the YAML format for people, and its conversion to the domain.

pub mod document;
