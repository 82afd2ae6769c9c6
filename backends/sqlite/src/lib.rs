//! Tessera: SQLite behind the ports.
