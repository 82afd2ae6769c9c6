//! Measurements of the shipped processes. What a number means is written in docs/PERFORMANCE.md, with the last table.
//!
//! - [`scenario`]: which tenants, plans and questions there are; the same for benches, load tests and tests;
//! - [`stores`]: the scenario in a store on disk, kept between runs;
//! - [`child`]: the processes that are measured, and what they use; [`twin`]: the bare one beside them; [`place`]: on which core;
//! - [`bare_driver`]: what an import writes, written by a bare loop over SQLite;
//! - [`cluster`]: real engines, and adapters and bare drivers in turns;
//! - [`envoy`]: the questions of the scenario as an Envoy asks them;
//! - [`load`]: questions over the wire, with every answer looked at; [`generator`]: the load test beside it; [`flood`]: calls
//!   that nobody means;
//! - [`quota`]: less of the machine than there is;
//! - [`rows`]: what is measured; one file per kind of row;
//! - [`report`]: rows as a table and as JSON.
//!
//! Machines are shared and noisy, so speed is CPU time of the measured process beside that of a twin in the same minute, in turns,
//! and never wall time where it can be avoided. What counts (instructions, allocations) is exact enough for a baseline.
#![expect(clippy::disallowed_methods, reason = "who measures looks at the clock")]

pub mod bare_driver;
pub mod child;
pub mod cluster;
pub mod envoy;
pub mod flood;
pub mod generator;
pub mod load;
pub mod miscounted;
pub mod place;
pub mod quota;
pub mod report;
pub mod rows;
pub mod scenario;
pub mod stores;
pub mod twin;
