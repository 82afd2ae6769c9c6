//! A matrix that is kept equal to a store, and everything that belongs to it alone.

use std::collections::{HashSet, VecDeque};

use tessera_core::stream::{Epoch, StreamId, StreamKind};
use tessera_core::time::Timestamp;
use tessera_ports::change_feed::{Position, Topic};
use tessera_ports::event_store::{ScanRange, StoreIdentity};
use tokio::time::Instant;

use super::hydration::Hydration;
use crate::matrix::writer::Writer;
use crate::metric_definitions::{Metrics, approximate};

/// Tells the errands of one hydration, and of what follows it, from those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(pub(super) u64);

/// A matrix on its way.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) generation: Generation,
    pub(super) writer: Writer,
    pub(super) topic: Topic,
    /// Where each partition is read on from.
    pub(super) positions: Vec<Position>,
    /// The newest heartbeat of each partition, of this epoch.
    pub(super) heartbeats: Vec<Option<Timestamp>>,
    /// `None` once it is over.
    pub(super) hydration: Option<Hydration>,
    /// The lap under way.
    pub(super) lap: Lap,
    /// Streams that parked rows wait for and that will be read unless they come first.
    pub(super) due: HashSet<StreamId>,
    /// Streams that are being read.
    pub(super) reading: HashSet<StreamId>,
    /// Whether its rows came from a snapshot and the store has not been caught up with since.
    pub(super) from_snapshot: bool,
}

/// A lap of the scan.
#[derive(Debug, Default)]
pub(super) struct Lap {
    pub(super) ranges: VecDeque<ScanRange>,
    pub(super) begun: Option<Instant>,
    /// Rows read so far.
    pub(super) rows: u64,
}

impl Session {
    /// On its way, from these positions.
    pub(super) fn new(
        generation: Generation,
        writer: Writer,
        topic: Topic,
        positions: Vec<Position>,
        hydration: Hydration,
    ) -> Self {
        Self {
            generation,
            writer,
            topic,
            heartbeats: vec![None; positions.len()],
            positions,
            hydration: Some(hydration),
            lap: Lap::default(),
            due: HashSet::new(),
            reading: HashSet::new(),
            from_snapshot: false,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.writer.matrix().epoch()
    }

    /// The store that its matrix is made from.
    pub(super) fn identity(&self) -> StoreIdentity {
        StoreIdentity { epoch: self.epoch(), store: self.writer.matrix().store().to_owned() }
    }

    /// Up to when the matrix is whole, once it is hydrated: the newest heartbeat of the worst partition, unless something newer
    /// than what answers has been parked since before.
    pub(super) fn whole_until(&mut self) -> Option<Timestamp> {
        self.writer.whole_until(self.heartbeats.iter().copied().min().flatten())
    }

    /// Whether every partition was read up to `ends`. A partition that is not in `ends` counts as reached.
    pub(super) fn reached(&self, ends: &[Position]) -> bool {
        self.positions.iter().zip(ends).all(|(position, end)| position >= end)
    }

    pub(super) fn observe(&self, metrics: &Metrics) {
        let digest = self.writer.digest();
        for kind in StreamKind::ALL {
            metrics.streams(kind, digest.count(kind));
        }
        metrics.parked.set(count(self.writer.parked()));
        metrics.bad.set(count(self.writer.bad()));
        for (partition, position) in (0..).zip(&self.positions) {
            Metrics::position(partition, *position);
        }
    }
}

fn count(streams: usize) -> f64 {
    approximate(u64::try_from(streams).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use metrics::Gauge;

    use super::*;
    use crate::matrix::Matrix;
    use crate::matrix::early::Early;
    use crate::metric_definitions::Source;
    use crate::universe::{Universe, latest};

    #[test]
    fn what_is_hydrated_beside_says_nothing_of_what_is_bad_or_parked() {
        let (bad, parked, mut metrics) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Metrics::new());
        (metrics.bad, metrics.parked) = (Gauge::from_arc(Arc::clone(&bad)), Gauge::from_arc(Arc::clone(&parked)));
        let session = |generation| {
            let writer = Writer::new(Arc::new(Matrix::new(1, "first", 0, Arc::default())), metrics.clone());
            let topic = Topic { id: "topic".to_owned(), partitions: 1 };
            Session::new(Generation(generation), writer, topic, vec![0], Hydration::awaiting())
        };
        let (mut live, mut beside) = (session(1), session(2));
        let mut universe = Universe::new();
        let mut damaged = universe.service("reports", &["view"]);
        damaged.state = bytes::Bytes::from_static(b"nothing that was ever written");
        universe.publish("gold", &[], &[]);
        for change in [damaged, universe.create("acme", latest("gold"))] {
            live.writer.apply(&change, Early::decoded(&change), Source::Feed);
        }
        live.writer.finish();
        live.observe(&metrics);
        beside.writer.finish();
        let value = |gauge: &AtomicU64| f64::from_bits(gauge.load(Ordering::Relaxed)).to_string();
        assert_eq!((value(&bad), value(&parked)), ("1".to_owned(), "1".to_owned()));
    }
}
