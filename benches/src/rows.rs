//! What is measured, by kind.

pub mod counts;
pub mod matrix;
pub mod residence;
pub mod wire;
pub mod writes;
