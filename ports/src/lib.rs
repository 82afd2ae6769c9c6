//! Tessera: ports.
