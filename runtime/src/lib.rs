//! Tessera: a process.
