//! The data plane as a whole, over in-memory ports: through its API alone, on one thread, in time that stands still until
//! everybody waits (except where real connections are tested).
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bad_input;
mod bench;
mod checks;
mod connections;
mod consistency;
#[cfg(feature = "test-hooks")]
mod guards;
mod limits;
mod lists;
mod repairs;
#[cfg(feature = "test-hooks")]
mod snapshots;
mod starting;
mod universe;
mod watches;
