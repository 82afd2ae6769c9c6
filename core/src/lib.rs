//! The domain of Tessera: what plans and tenants are, how they change, and what a decision means.
//!
//! Sync and free of I/O: time, ids and everything else from outside are arguments, so nothing here can fail for a reason
//! that is not in its arguments. Wire formats, stores and processes live in other crates; this one depends on none of them.
//!
//! Where to look:
//! - [`ids`], [`time`], [`value`]: the words every other module is built of;
//! - [`catalog`], [`plan`], [`tenant`]: the aggregates, each `decide` and `evolve` (see [`aggregate`]);
//! - [`access`]: what a caller may do;
//! - [`decision`]: what a check asks and is answered;
//! - [`evaluator`]: the answer, from compiled tables, without an allocation;
//! - [`mod@reference`]: the answer again, written as the design states it, for tests to compare with;
//! - [`revision`]: the opaque token that names how new an answer is;
//! - [`shown`]: what somebody sent, as errors repeat it.
#![deny(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::todo,
    clippy::unreachable
)]

pub mod access;
pub mod aggregate;
pub mod catalog;
pub mod decision;
pub mod digest;
pub mod evaluator;
pub mod ids;
pub mod plan;
pub mod reference;
pub mod rejection;
pub mod revision;
pub mod shown;
pub mod stream;
pub mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod value;
