//! Tessera: the data plane.
