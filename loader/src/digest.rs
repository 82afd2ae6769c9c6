//! Hashes by which commands are told apart and named.
//!
//! The digest of a command is SHA-256 over its method's name, a zero byte, and the request message with `request_id` cleared.
//! Everything else counts, the etag too: the same id with another etag is another command.

use sha2::{Digest as _, Sha256};
use tessera_ports::event_store::CommandDigest;

/// The digest of a command: its method, and its body without the request id.
pub fn of_command(method: &str, body: &[u8]) -> CommandDigest {
    let mut hash = Sha256::new();
    hash.update(method);
    hash.update([0]);
    hash.update(body);
    CommandDigest(hash.finalize().into())
}

/// A name of at most 64 printable characters made of `parts`: equal parts, equal name.
pub fn name(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hexadecimal(hash.finalize().iter().take(24))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hexadecimal<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> String {
    let bytes = bytes.into_iter();
    let digit = |half: u8| char::from_digit(u32::from(half), 16);
    let mut digits = String::with_capacity(2 * bytes.size_hint().0);
    digits.extend(bytes.flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).flatten());
    digits
}
