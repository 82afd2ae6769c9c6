//! Tessera: black-box tests.
