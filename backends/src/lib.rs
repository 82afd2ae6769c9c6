//! Tessera: backends.
