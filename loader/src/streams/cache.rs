//! Decoded snapshots by stream, in two generations: when the young one is full it becomes the old one, and what is asked for
//! again moves back. Bounded by the bytes of the stored states. Decoded, those of tenants and of the catalog are about as long; plans and
//! add-ons are longer, since each of their versions is a document then, and they are few.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tessera_core::stream::StreamId;

use crate::aggregate::Snapshot;

/// What an entry costs besides its bytes.
const ENTRY_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Cache<A> {
    bytes_max: usize,
    generations: Mutex<Generations<A>>,
}

#[derive(Debug)]
struct Generations<A> {
    young: HashMap<StreamId, Snapshot<A>>,
    young_bytes: usize,
    old: HashMap<StreamId, Snapshot<A>>,
}

impl<A> Cache<A> {
    pub(super) fn new(bytes_max: usize) -> Self {
        let generations = Generations { young: HashMap::new(), young_bytes: 0, old: HashMap::new() };
        Self { bytes_max, generations: Mutex::new(generations) }
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<Snapshot<A>>
    where
        Snapshot<A>: Clone,
    {
        let mut generations = self.lock();
        if let Some(snapshot) = generations.young.get(stream) {
            return Some(snapshot.clone());
        }
        let snapshot = generations.old.remove(stream)?;
        generations.insert(stream, snapshot.clone(), self.bytes_max);
        Some(snapshot)
    }

    pub(super) fn put(&self, stream: &StreamId, snapshot: &Snapshot<A>)
    where
        Snapshot<A>: Clone,
    {
        let mut generations = self.lock();
        generations.old.remove(stream);
        generations.insert(stream, snapshot.clone(), self.bytes_max);
    }

    fn lock(&self) -> MutexGuard<'_, Generations<A>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Generations<A> {
    fn insert(&mut self, stream: &StreamId, snapshot: Snapshot<A>, bytes_max: usize) {
        self.young_bytes += snapshot.bytes.len() + ENTRY_BYTES;
        if let Some(before) = self.young.insert(stream.clone(), snapshot) {
            self.young_bytes -= before.bytes.len() + ENTRY_BYTES;
        }
        if self.young_bytes > bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}
