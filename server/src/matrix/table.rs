//! The table of tenants: some `DashMap`s side by side, so many that each shard of a big store is filled to about four
//! fifths.
//!
//! A `DashMap` has a power of two of shards and each shard a power of two of slots; alone it would stand half empty at most sizes.
//! With many small shards no insert moves more than one of them when a store outgrows what was expected.

use std::hash::BuildHasher as _;

use dashmap::DashMap;
use foldhash::fast::{FixedState, RandomState};

use super::Entry;
use super::key::TenantKey;

/// Entries that a shard is meant to hold: five standard deviations below the 7,168 at which its 8,192 slots are rehashed. A bigger one
/// could be fuller still (three in a hundred at four times as many slots), and its readers wait for longer while it is rehashed; this
/// one is some 600 KB, which takes part of a millisecond.
const SHARD_FILL: u64 = 6_750;
/// What a shard allocates for when it is meant to hold that many.
const SHARD_CAPACITY: usize = 7_168;
/// Shards of each of several maps: a power of two, and few, since it is whole maps that are added until there is room.
const SHARDS_PER_MAP: usize = 4;
/// Shards of a map that holds everything alone: enough for the threads that write to their locks.
const SHARDS_ALONE: usize = 16;
/// More full shards than these are not held by one map: its own, of the next power of two, would be emptier at most sizes.
const FULL_ALONE_MAX: usize = 8;
/// Room for growth since the store was counted: one in so many. What grows beyond it grows shard by shard.
const GROWTH: u64 = 32;

/// Every tenant of one matrix.
#[derive(Debug)]
pub(super) struct TenantTable {
    maps: Box<[DashMap<TenantKey, Entry, RandomState>]>,
    /// Picks the map; the maps' own hash picks shard and slot.
    picker: FixedState,
}

impl TenantTable {
    /// With room for that many tenants; more are welcome.
    pub(super) fn for_tenants(expected: u64) -> Self {
        let expected = expected.saturating_add(expected / GROWTH);
        let shards = usize::try_from(expected.div_ceil(SHARD_FILL)).unwrap_or(usize::MAX).max(1);
        let (maps, each, capacity) = if shards <= FULL_ALONE_MAX {
            // A small store gets shards to its measure.
            (1, SHARDS_ALONE, usize::try_from(expected).unwrap_or(usize::MAX))
        } else {
            (shards.div_ceil(SHARDS_PER_MAP), SHARDS_PER_MAP, SHARD_CAPACITY * SHARDS_PER_MAP)
        };
        let map = |_| DashMap::with_capacity_and_hasher_and_shard_amount(capacity, RandomState::default(), each);
        Self { maps: (0..maps).map(map).collect(), picker: FixedState::with_seed(0x7e55_e2a0) }
    }

    /// How many maps there are.
    pub(super) fn maps(&self) -> usize {
        self.maps.len()
    }

    /// Shows `look` every entry of that map; of a map cut into `of` slices, of that slice alone. Each shard is locked, against
    /// writing, while its entries are shown: copy and be gone.
    pub(super) fn each_of(&self, map: usize, slice: usize, of: usize, mut look: impl FnMut(&TenantKey, &Entry)) {
        let in_slice = |id: &[u8]| of <= 1 || usize::try_from(self.picker.hash_one(id)).unwrap_or(0) % of == slice;
        for entry in self.maps.get(map).into_iter().flat_map(DashMap::iter) {
            if in_slice(entry.key().bytes()) {
                look(entry.key(), entry.value());
            }
        }
    }

    fn map(&self, id: &[u8]) -> Option<&DashMap<TenantKey, Entry, RandomState>> {
        if let [only] = &*self.maps {
            return Some(only);
        }
        // The high half of hash times count: an even pick without a division.
        let maps = u128::try_from(self.maps.len()).unwrap_or(1);
        let position = (u128::from(self.picker.hash_one(id)) * maps) >> 64;
        self.maps.get(usize::try_from(position).unwrap_or(0))
    }

    /// What `look` makes of the tenant's entry. The shard is locked meanwhile: copy and be gone.
    pub(super) fn with<T>(&self, id: &[u8], look: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.map(id)?.get(id).map(|entry| look(entry.value()))
    }

    /// Puts the entry in, and gives back the one before.
    pub(super) fn insert(&self, key: TenantKey, entry: Entry) -> Option<Entry> {
        self.map(key.bytes())?.insert(key, entry)
    }

    pub(super) fn remove(&self, id: &[u8]) -> Option<Entry> {
        self.map(id)?.remove(id).map(|(_, entry)| entry)
    }
}
