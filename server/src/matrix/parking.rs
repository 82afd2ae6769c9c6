//! Changes that wait for streams they name. The newest seq of a stream wins; whoever waits is found by what it waits for, so that
//! the arrival of a plan never looks at rows that wait for another, and by how long it has waited, so that the longest wait for
//! each stream is known without looking at all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::Change;

/// Of a change that makes no answer older than is told: up to the end of time. `None` is less than any time: nothing is known.
pub(super) const NO_LAG: Option<Timestamp> = Some(Timestamp::MAX);

/// Whoever waits for the same, the one with the greatest lag first.
type Waiters = BTreeSet<(Option<Timestamp>, StreamId)>;

/// All parked changes of a matrix.
#[derive(Debug, Default)]
pub(super) struct Parking {
    parked: HashMap<StreamId, Parked>,
    /// By what is missing and the seq it must reach. Ordered, so that a simulated run repeats itself.
    waiting: BTreeMap<StreamId, BTreeMap<Seq, Waiters>>,
}

/// A change that waits.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) change: Change,
    pub(super) checksum: u64,
    /// For which stream, at which seq at least.
    pub(super) missing: (StreamId, Seq),
    /// Up to when the state that answers meanwhile is known to have been the newest.
    pub(super) newest_until: Option<Timestamp>,
}

impl Parking {
    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<&Parked> {
        self.parked.get(stream)
    }

    /// Parks a change until what it misses has that seq, in place of whatever of its stream was parked.
    pub(super) fn park(&mut self, parked: Parked) {
        self.remove(&parked.change.stream);
        let (missing, seq) = &parked.missing;
        let waiting = self.waiting.entry(missing.clone()).or_default();
        waiting.entry(*seq).or_default().insert((parked.newest_until, parked.change.stream.clone()));
        self.parked.insert(parked.change.stream.clone(), parked);
    }

    pub(super) fn remove(&mut self, stream: &StreamId) -> Option<Parked> {
        let parked = self.parked.remove(stream)?;
        let (missing, seq) = &parked.missing;
        if let Some(by_seq) = self.waiting.get_mut(missing) {
            if let Some(streams) = by_seq.get_mut(seq) {
                streams.remove(&(parked.newest_until, stream.clone()));
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
        arrived.into_values().flatten().filter_map(|(_, waiter)| self.parked.remove(&waiter)).collect()
    }

    pub(super) fn is_waited_for(&self, stream: &StreamId) -> bool {
        self.waiting.contains_key(stream)
    }

    /// Every parked change.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.parked.values().map(|parked| &parked.change)
    }

    /// What is missing and the seq it must reach, and up to when all is the newest that waits for it and answers meanwhile.
    pub(super) fn lags(&self) -> impl Iterator<Item = (&StreamId, Seq, Option<Timestamp>)> {
        let by_seq =
            self.waiting.iter().flat_map(|(missing, by_seq)| by_seq.iter().map(move |(seq, waiters)| (missing, *seq, waiters)));
        by_seq.filter_map(|(missing, seq, waiters)| waiters.first().map(|(newest_until, _)| (missing, seq, *newest_until)))
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

    fn tenant(id: &str) -> StreamId {
        StreamId::Tenant(TenantId::parse(id).unwrap())
    }

    fn parked(id: &str, seq: Seq, missing: (StreamId, Seq), newest_until: Option<Timestamp>) -> Parked {
        let change = Change { epoch: 1, stream: tenant(id), seq, state: Bytes::new() };
        Parked { change, checksum: 0, missing, newest_until }
    }

    fn plan(id: &str) -> StreamId {
        StreamId::Plan(PlanId::parse(id).unwrap())
    }

    #[test]
    fn what_arrives_frees_only_what_it_was_enough_for() {
        let mut parking = Parking::default();
        for (id, seq, missing) in [("a", 1, ("gold", 2)), ("b", 1, ("gold", 3)), ("c", 1, ("free", 1)), ("a", 2, ("gold", 4))] {
            parking.park(parked(id, seq, (plan(missing.0), missing.1), NO_LAG));
        }
        assert_eq!((parking.len(), parking.missing().count()), (3, 2));

        let arrived = parking.arrived(&plan("gold"), 3);
        assert_eq!(arrived.iter().map(|parked| parked.change.stream.key()).collect::<Vec<_>>(), ["b"]);
        assert!(parking.is_waited_for(&plan("gold")));
        assert_eq!(parking.arrived(&plan("gold"), 4).first().map(|parked| parked.change.seq), Some(2));
        assert!(!parking.is_waited_for(&plan("gold")));

        assert!(parking.remove(&tenant("c")).is_some());
        assert_eq!((parking.len(), parking.missing().count()), (0, 0));
    }

    #[test]
    fn the_greatest_lag_of_each_that_is_missing_is_told_as_long_as_it_lasts() {
        let at = |second| Some(Timestamp::from_seconds(second).unwrap());
        let mut parking = Parking::default();
        let gold = (plan("gold"), 2);
        parking.park(parked("a", 1, gold.clone(), at(7)));
        parking.park(parked("b", 1, gold.clone(), at(5)));
        parking.park(parked("c", 1, gold, NO_LAG));
        parking.park(parked("d", 1, (plan("free"), 1), None));
        let lags = |parking: &Parking| {
            let lags = parking.lags();
            lags.map(|(missing, seq, until)| (missing.key().to_owned(), seq, until)).collect::<Vec<_>>()
        };
        assert_eq!(lags(&parking), [("free".to_owned(), 1, None), ("gold".to_owned(), 2, at(5))]);
        parking.park(parked("b", 2, (plan("gold"), 3), at(6)));
        parking.remove(&tenant("d"));
        assert_eq!(lags(&parking), [("gold".to_owned(), 2, at(7)), ("gold".to_owned(), 3, at(6))]);
        parking.arrived(&plan("gold"), 2);
        assert_eq!(lags(&parking), [("gold".to_owned(), 3, at(6))]);
        parking.arrived(&plan("gold"), 3);
        assert_eq!(lags(&parking), []);
    }
}
