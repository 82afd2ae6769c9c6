//! What is measured, by kind.

pub mod cluster;
pub mod counts;
pub mod local;
pub mod matrix;
pub mod overload;
pub mod residence;
pub mod snapshot;
pub mod wire;
pub mod writes;
