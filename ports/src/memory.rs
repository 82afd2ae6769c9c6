//! In-memory implementations of every port, with fault hooks.
