//! An operator who sets the store back beneath running loaders and keeps its epoch, which nobody may do.
//!
//! What was acknowledged before is gone, and what servers have is of another store; no property speaks of that. What must hold all
//! the same: the chains are whole, states are the folds of their events, and what is asked for and acknowledged after the last
//! set-back is in its stream exactly once.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_ports::memory::SplitMix64;

use crate::cluster::Cluster;

/// How long an operator waits, before the copy is made and before it is put in place, at most.
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// Sets the store back again and again, whole or the tenants alone, until `stop` says so.
pub async fn run(cluster: Rc<Cluster>, mut random: SplitMix64, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        tokio::time::sleep(random.duration(PAUSE_MAX)).await;
        let copy = cluster.store.back_up(&StreamKind::ALL);
        tokio::time::sleep(random.duration(PAUSE_MAX)).await;
        // Tenants are never later than what they name.
        let others = cluster.store.back_up(&[StreamKind::Catalog, StreamKind::Plan, StreamKind::AddOn]);
        cluster.set_back(&if random.chance(500) { copy } else { copy.and(others) });
    }
}
