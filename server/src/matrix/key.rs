//! Tenant ids as keys of the matrix: short ones lie in the table itself, so that a lookup touches no other memory.
//!
//! The bytes are compared exactly: a hash alone could let one tenant's id stand for another's.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest id that lies inline, in bytes.
const INLINE_MAX: usize = 30;

/// A tenant id of 32 bytes of memory, plus the heap for ids longer than 30 bytes.
#[derive(Clone)]
pub(crate) struct TenantKey(Bytes);

#[derive(Clone)]
enum Bytes {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Heap(Box<[u8]>),
}

impl TenantKey {
    pub(crate) fn new(id: &str) -> Self {
        let id = id.as_bytes();
        let mut bytes = [0; INLINE_MAX];
        match (u8::try_from(id.len()), bytes.get_mut(..id.len())) {
            (Ok(len), Some(inline)) => {
                inline.copy_from_slice(id);
                Self(Bytes::Inline { len, bytes })
            }
            _ => Self(Bytes::Heap(id.into())),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Bytes::Heap(bytes) => bytes,
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

impl PartialEq for TenantKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for TenantKey {}

impl Ord for TenantKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for TenantKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

// The same as `[u8]` hashes, which lookups are made with.
impl Hash for TenantKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl Borrow<[u8]> for TenantKey {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl fmt::Debug for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_ids_keep_their_bytes() {
        for len in [1, 29, 30, 31, 128] {
            let id = "x".repeat(len);
            let key = TenantKey::new(&id);
            assert_eq!(key.text(), id);
            assert_eq!(key, TenantKey::new(&id));
            assert_ne!(key, TenantKey::new(&"y".repeat(len)));
        }
        assert_eq!(size_of::<TenantKey>(), 32);
    }
}
