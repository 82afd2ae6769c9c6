//! Local mode.
#![cfg_attr(not(test), expect(dead_code, reason = "in the making"))]

pub mod document;
mod freshness;
mod keeper;
mod names;
mod policy;
mod settings;
mod tenants;

pub use freshness::Moment;
pub use policy::FailPolicy;
