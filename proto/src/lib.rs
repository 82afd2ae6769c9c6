//! Tessera: protocol.
