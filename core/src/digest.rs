//! A digest of many stream states that can be kept up to date change by change: equal sets have equal digests, in whatever
//! order they were added. Servers keep one of their matrix, the command line makes one of the store, and both compare.
//!
//! It finds mistakes, not attacks: the hashes are fast and not cryptographic.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::stream::{Seq, StreamKind};

/// The checksum of a stored state.
pub fn state_checksum(state: &[u8]) -> u64 {
    xxh3_64(state)
}

/// A digest over (stream, seq, checksum of the state) of any number of streams, with their counts by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateDigest {
    counts: [u64; StreamKind::ALL.len()],
    sum: u128,
}

impl StateDigest {
    /// Takes a stream in. `key` is [`crate::stream::StreamId::key`].
    pub fn add(&mut self, kind: StreamKind, key: &[u8], seq: Seq, checksum: u64) {
        if let Some(count) = self.count_of(kind) {
            *count = count.wrapping_add(1);
        }
        self.sum = self.sum.wrapping_add(term(kind, key, seq, checksum));
    }

    /// Takes a stream out again that was added with the same arguments.
    pub fn remove(&mut self, kind: StreamKind, key: &[u8], seq: Seq, checksum: u64) {
        if let Some(count) = self.count_of(kind) {
            *count = count.wrapping_sub(1);
        }
        self.sum = self.sum.wrapping_sub(term(kind, key, seq, checksum));
    }

    /// Takes in everything that is in `other`, and was not in this one.
    pub fn absorb(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.wrapping_add(more);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The digest without the counts.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// How many streams of that kind are in it.
    pub fn count(&self, kind: StreamKind) -> u64 {
        self.counts.get(position(kind)).copied().unwrap_or(0)
    }

    fn count_of(&mut self, kind: StreamKind) -> Option<&mut u64> {
        self.counts.get_mut(position(kind))
    }
}

impl fmt::Display for StateDigest {
    /// 32 hexadecimal digits, without the counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.sum)
    }
}

fn position(kind: StreamKind) -> usize {
    usize::from(kind as u8).saturating_sub(1)
}

/// Added up, not xored, so that something counted twice does not vanish.
fn term(kind: StreamKind, key: &[u8], seq: Seq, checksum: u64) -> u128 {
    let mut hasher = Xxh3::with_seed(u64::from(kind as u8));
    hasher.update(&seq.to_le_bytes());
    hasher.update(&checksum.to_le_bytes());
    hasher.update(key);
    hasher.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_what_is_removed_is_gone() {
        let (mut one, mut other) = (StateDigest::default(), StateDigest::default());
        one.add(StreamKind::Tenant, b"a", 1, 10);
        one.add(StreamKind::Plan, b"a", 1, 10);
        other.add(StreamKind::Plan, b"a", 1, 10);
        other.add(StreamKind::Tenant, b"b", 7, 70);
        other.add(StreamKind::Tenant, b"a", 1, 10);
        assert_ne!(one, other);
        assert_ne!(one.to_string(), other.to_string());
        other.remove(StreamKind::Tenant, b"b", 7, 70);
        assert_eq!(one, other);
        assert_eq!(one.count(StreamKind::Tenant), 1);
    }

    #[test]
    fn parts_make_the_whole() {
        let (mut whole, mut one, mut other) = (StateDigest::default(), StateDigest::default(), StateDigest::default());
        for (part, id) in [(&mut one, b"a"), (&mut other, b"b")] {
            whole.add(StreamKind::Tenant, id, 3, 30);
            part.add(StreamKind::Tenant, id, 3, 30);
        }
        one.absorb(other);
        assert_eq!((one, one.sum()), (whole, whole.sum()));
    }

    #[test]
    fn every_part_counts() {
        let digest = |kind, key: &[u8], seq, checksum| {
            let mut digest = StateDigest::default();
            digest.add(kind, key, seq, checksum);
            digest.to_string()
        };
        let base = digest(StreamKind::Tenant, b"a", 1, 1);
        assert_ne!(base, digest(StreamKind::Plan, b"a", 1, 1));
        assert_ne!(base, digest(StreamKind::Tenant, b"b", 1, 1));
        assert_ne!(base, digest(StreamKind::Tenant, b"a", 2, 1));
        assert_ne!(base, digest(StreamKind::Tenant, b"a", 1, 2));
        assert_eq!(base.len(), 32);
    }
}
