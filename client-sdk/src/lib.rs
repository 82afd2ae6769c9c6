//! A client for services that ask Tessera: the table of contents.
