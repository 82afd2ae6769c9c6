//! The wire and the stored form of Tessera: the .proto files, the code generated from them, and conversions to and from
//! the domain. Proto types stop at the edges: nothing in the domain, the ports or the matrix knows them.
//!
//! - [`convert`]: between the public API and the domain;
//! - [`status`]: errors as clients see them;
//! - [`storage`]: events and states as they are stored, for ever.
#![forbid(unsafe_code)]

pub mod convert;
mod generated;
pub mod status;
pub mod storage;

/// The public API, `tessera.v1`: messages, clients and servers.
pub use generated::v1;

/// The descriptors of everything served, with google.rpc's error details: what reflection answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
