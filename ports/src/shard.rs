//! How streams are dealt out: every stream is in one of a fixed number of shards for ever, and a shard in one partition of the
//! feed for as long as the feed has that many.
//!
//! Hints are kept by shard, so that whoever has followed the hints of a partition's shards knows what its heartbeat says.

use tessera_core::stream::StreamId;

/// How many shards there are, and so the most partitions that a feed can make use of. Hints are stored by it: never changes.
pub const SHARDS: u32 = 64;

/// A shard, by its number below [`SHARDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u32);

impl Shard {
    /// The shard of a stream.
    pub fn of(stream: &StreamId) -> Self {
        Self(u32::try_from(stream.hash() % u64::from(SHARDS)).unwrap_or(0))
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Where its streams are published in a feed of that many partitions; 0 for none.
    pub fn partition(self, partitions: u32) -> u32 {
        self.0.checked_rem(partitions).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::ids::TenantId;

    use super::*;

    /// Stored hints and published records rest on it.
    #[test]
    fn streams_stay_where_they_are() {
        let tenant = |id: &str| StreamId::Tenant(TenantId::parse(id).expect("an id"));
        let shards = [StreamId::Catalog, tenant("acme"), tenant("globex")].map(|stream| Shard::of(&stream).number());
        assert_eq!(shards, [3, 17, 20]);
        assert_eq!(Shard(63).partition(12), 3);
        assert_eq!(Shard(63).partition(0), 0);
    }

    #[test]
    fn every_partition_has_a_shard() {
        for partitions in 1..=SHARDS {
            let used: std::collections::BTreeSet<u32> = Shard::all().map(|shard| shard.partition(partitions)).collect();
            assert_eq!(used, (0..partitions).collect());
        }
    }
}
