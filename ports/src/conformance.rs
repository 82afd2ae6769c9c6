//! Conformance suites: what every implementation of a port must do, run by each adapter against the real thing.
//!
//! Recipe for an adapter: in `tests/conformance.rs` open the real thing and call [`event_store::check_all`],
//! [`change_feed::check_all`], [`event_publisher::check_all`], [`hint_store::check_all`] and [`lease_store::check_all`], those of the
//! ports it has, with a text that no other run has used; what earlier runs left behind does not matter. Every check is a function of
//! its own, so that one can be called alone; a failed one panics.
//!
//! Only what the traits promise is checked, without faults. How an adapter behaves when its technology fails is for its own
//! tests.
#![expect(clippy::missing_panics_doc, reason = "a check that fails panics, as every test does")]

pub mod change_feed;
pub mod event_publisher;
pub mod event_store;
pub mod hint_store;
pub mod lease_store;
mod sample;

pub use sample::Run;
