//! (p2) Heartbeats keep their promise: whatever was committed before the instant that one names, in the streams of the shards it
//! speaks of, was published before it was said.
//!
//! Published is what its publisher was told is in the feed, whether or not the feed has lost it since.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tessera_core::stream::{Epoch, Seq, StreamId};
use tessera_ports::change_feed::{Change, Heartbeat};
use tessera_ports::memory::MemoryStore;
use tessera_ports::shard::Shard;

use crate::cluster::SimulatedClock;

/// What was published, and the first promise that was broken. Shared by all lines of a cluster.
#[derive(Debug, Default)]
pub struct Promises(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    published: BTreeMap<(Epoch, StreamId), Seq>,
    broken: Option<String>,
}

impl Promises {
    /// Notes what a publisher was told is in the feed.
    pub fn published(&self, changes: &[Change]) {
        let published = &mut self.inner().published;
        for change in changes {
            let newest = published.entry((change.epoch, change.stream.clone())).or_default();
            *newest = (*newest).max(change.seq);
        }
    }

    /// What was published before says nothing of the life of the store that begins.
    pub fn forget(&self) {
        self.inner().published.clear();
    }

    /// Checks a heartbeat to these partitions at the moment in which it is said.
    pub fn check(&self, store: &MemoryStore, clock: &SimulatedClock, partitions: &[u32], heartbeat: &Heartbeat) {
        let before = clock.instant(heartbeat.at);
        let mut inner = self.inner();
        for stream in store.streams() {
            let partition = Shard::of(&stream).partition(heartbeat.partitions);
            let committed = store.committed_before(&stream, before);
            let published = inner.published.get(&(heartbeat.epoch, stream.clone())).copied().unwrap_or(0);
            if partitions.contains(&partition) && committed > published {
                let text = format!(
                    "p2: {heartbeat:?} to {partition}, where {stream}@{committed} was committed before and {published} published"
                );
                inner.broken.get_or_insert(text);
            }
        }
    }

    /// The first promise that was broken.
    pub fn broken(&self) -> Option<String> {
        self.inner().broken.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
