//! The wire and the stored form of Tessera: the .proto files, the code generated from them, and conversions to and from
//! the domain. Proto types stop at the edges: nothing in the domain, the ports or the matrix knows them.
//!
//! - [`storage`]: events and states as they are stored, for ever.
#![forbid(unsafe_code)]

mod generated;
pub mod storage;
