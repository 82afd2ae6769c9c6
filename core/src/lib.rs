//! Tessera: the domain.
