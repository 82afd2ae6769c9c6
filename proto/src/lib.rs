//! The wire and the stored form of Tessera: the .proto files, the code generated from them, and conversions to and from
//! the domain. Proto types stop at the edges: nothing in the domain, the ports or the matrix knows them.
//!
//! - [`convert`]: between the public API and the domain;
//! - [`scope`]: who may call which method;
//! - [`status`]: errors as clients see them;
//! - [`time_left`]: the caller's deadline as it travels;
//! - [`storage`]: events and states as they are stored, for ever.
#![forbid(unsafe_code)]

pub mod convert;
mod generated;
pub mod scope;
pub mod status;
pub mod storage;
pub mod time_left;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// The public API, `tessera.v1`: messages, clients and servers.
pub use generated::v1;

/// The descriptors of everything, the stored form included, with google.rpc's error details.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");

/// The descriptors of `envoy.service.auth.v3.Authorization`, which the data plane serves to Envoys; without options that are
/// extensions. Its messages are not generated here: whoever serves it reads and writes them in place.
pub const ENVOY_FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/envoy.bin");

/// The descriptors of what is served: what reflection answers from. The stored form is nobody's business but ours. Options
/// that are extensions (the REST bindings) are left out, as reflection itself does.
pub fn public_file_descriptor_set() -> FileDescriptorSet {
    // Generated, and read by the tests: it decodes.
    let mut set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    set.file.retain(|file| !file.package().starts_with("tessera.storage."));
    set
}
