//! What is measured, by kind.

pub mod wire;
