//! Changes that wait for streams they name. The newest seq of a stream wins; whoever waits is found by what it waits for, so that
//! the arrival of a plan never looks at rows that wait for another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tessera_core::stream::{Seq, StreamId};
use tessera_ports::Change;

/// All parked changes of a matrix.
#[derive(Debug, Default)]
pub(super) struct Parking {
    parked: HashMap<StreamId, Parked>,
    /// By what is missing and the seq it must reach. Ordered, so that a simulated run repeats itself.
    waiting: BTreeMap<StreamId, BTreeMap<Seq, BTreeSet<StreamId>>>,
}

/// A change that waits.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) change: Change,
    pub(super) checksum: u64,
    /// For which stream, at which seq at least.
    missing: (StreamId, Seq),
}

impl Parking {
    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<&Parked> {
        self.parked.get(stream)
    }

    /// Parks `change` until `missing` has that seq, in place of whatever of its stream was parked.
    pub(super) fn park(&mut self, change: Change, checksum: u64, missing: (StreamId, Seq)) {
        self.remove(&change.stream);
        let (stream, seq) = &missing;
        let waiting = self.waiting.entry(stream.clone()).or_default();
        waiting.entry(*seq).or_default().insert(change.stream.clone());
        self.parked.insert(change.stream.clone(), Parked { change, checksum, missing });
    }

    pub(super) fn remove(&mut self, stream: &StreamId) -> Option<Parked> {
        let parked = self.parked.remove(stream)?;
        let (missing, seq) = &parked.missing;
        if let Some(by_seq) = self.waiting.get_mut(missing) {
            if let Some(streams) = by_seq.get_mut(seq) {
                streams.remove(stream);
                if streams.is_empty() {
                    by_seq.remove(seq);
                }
            }
            if by_seq.is_empty() {
                self.waiting.remove(missing);
            }
        }
        Some(parked)
    }

    /// Takes out everything that waited for `stream` to reach `seq` or less.
    pub(super) fn arrived(&mut self, stream: &StreamId, seq: Seq) -> Vec<Parked> {
        let Some(by_seq) = self.waiting.get_mut(stream) else { return Vec::new() };
        let later = by_seq.split_off(&seq.saturating_add(1));
        let arrived = std::mem::replace(by_seq, later);
        if by_seq.is_empty() {
            self.waiting.remove(stream);
        }
        arrived.into_values().flatten().filter_map(|waiter| self.parked.remove(&waiter)).collect()
    }

    pub(super) fn is_waited_for(&self, stream: &StreamId) -> bool {
        self.waiting.contains_key(stream)
    }

    /// Every parked change.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.parked.values().map(|parked| &parked.change)
    }

    /// What is missing.
    pub(super) fn missing(&self) -> impl Iterator<Item = &StreamId> {
        self.waiting.keys()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tessera_core::ids::{PlanId, TenantId};

    use super::*;

    fn tenant(id: &str, seq: Seq) -> Change {
        let stream = StreamId::Tenant(TenantId::parse(id).unwrap());
        Change { epoch: 1, stream, seq, state: Bytes::new() }
    }

    #[test]
    fn what_arrives_frees_only_what_it_was_enough_for() {
        let mut parking = Parking::default();
        let plan = |id| StreamId::Plan(PlanId::parse(id).unwrap());
        parking.park(tenant("a", 1), 0, (plan("gold"), 2));
        parking.park(tenant("b", 1), 0, (plan("gold"), 3));
        parking.park(tenant("c", 1), 0, (plan("free"), 1));
        parking.park(tenant("a", 2), 0, (plan("gold"), 4));
        assert_eq!((parking.len(), parking.missing().count()), (3, 2));

        let arrived = parking.arrived(&plan("gold"), 3);
        assert_eq!(arrived.iter().map(|parked| parked.change.stream.key()).collect::<Vec<_>>(), ["b"]);
        assert!(parking.is_waited_for(&plan("gold")));
        assert_eq!(parking.arrived(&plan("gold"), 4).first().map(|parked| parked.change.seq), Some(2));
        assert!(!parking.is_waited_for(&plan("gold")));

        assert!(parking.remove(&tenant("c", 1).stream).is_some());
        assert_eq!((parking.len(), parking.missing().count()), (0, 0));
    }
}
