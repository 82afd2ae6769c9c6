//! (o) Others are told of every event of this life of the store, of none that it does not have, and of each always the same.
//!
//! Told is what reached them, whether or not whoever told it heard so. A restored store does not tell again what its copy holds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tessera_core::stream::{Seq, StreamId};
use tessera_ports::event_publisher::PublicEvent;
use tessera_ports::memory::MemoryStore;

use crate::cluster::Cluster;

/// The first event that was told wrongly. Shared by all lines of a cluster.
#[derive(Debug, Default)]
pub struct Told(Mutex<Option<String>>);

impl Told {
    /// Checks events at the moment in which they are told.
    pub fn check(&self, store: &MemoryStore, events: &[PublicEvent]) {
        let name = store.identity_now().store;
        // Those of an earlier life cannot be compared with anything any more.
        for event in events.iter().filter(|event| event.store == name) {
            let head = store.current(&event.stream).map_or(0, |(head, _)| head.seq);
            if event.seq == 0 || event.seq > head {
                self.broken_slot().get_or_insert(format!("o: told of {event:?}, where the head is {head}"));
            }
        }
    }

    /// The first that was told wrongly.
    pub fn broken(&self) -> Option<String> {
        self.broken_slot().clone()
    }

    fn broken_slot(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether others were told of everything that happened in this life of the store, if there are any.
pub fn all_told(cluster: &Cluster) -> Result<(), String> {
    if !cluster.tells() {
        return Ok(());
    }
    let name = cluster.store.identity_now().store;
    let mut told: BTreeMap<(StreamId, Seq), PublicEvent> = BTreeMap::new();
    for event in cluster.events.published().into_iter().filter(|event| event.store == name) {
        match told.get(&(event.stream.clone(), event.seq)) {
            Some(before) if *before != event => return Err(format!("o: told of {before:?} and of {event:?}")),
            Some(_) => {}
            None => drop(told.insert((event.stream.clone(), event.seq), event)),
        }
    }
    for stream in cluster.store.streams() {
        let head = cluster.store.current(&stream).map_or(0, |(head, _)| head.seq);
        let untold = (cluster.began_with(&stream) + 1..=head).find(|seq| !told.contains_key(&(stream.clone(), *seq)));
        if let Some(seq) = untold {
            return Err(format!("o: nobody is told of {stream}@{seq}; its head is {head}"));
        }
    }
    Ok(())
}
