//! Conversions between the public API and the domain, by topic.
//!
//! From the API they validate: every field at fault is collected and named by its path, with the value and what is allowed.
//! To the API they cannot fail.

pub mod catalog;
pub mod decision;
pub mod fields;
pub mod offer;
pub mod tenant;
pub mod time;

pub use fields::Fields;
