//! What the snapshot needs of the writer beside the rows, and a writer that begins with what a snapshot held.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tessera_core::digest::StateDigest;
use tessera_core::evaluator::Tables;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::Change;

use super::super::HeldBack;
use super::super::key::TenantKey;
use super::{Applied, Writer};
use crate::matrix::early::Early;
use crate::metric_definitions::Source;

impl Writer {
    /// Every parked change, in no order.
    pub(crate) fn parked_changes(&self) -> Vec<Change> {
        self.parking.changes().cloned().collect()
    }

    /// Streams whose newest state cannot be used, each with the seq of that state.
    pub(crate) fn bad_streams(&self) -> Vec<(StreamId, Seq)> {
        self.bad.iter().map(|(stream, (seq, _))| (stream.clone(), *seq)).collect()
    }

    /// The newest states of catalog, plans and add-ons, in an order in which tables made anew number everything as these do.
    pub(crate) fn table_changes(&self) -> Vec<Change> {
        let plans = self.tables.plans().map(|(id, _)| StreamId::Plan(id.clone()));
        let add_ons = self.tables.add_ons().map(|(id, _)| StreamId::AddOn(id.clone()));
        let streams = std::iter::once(StreamId::Catalog).chain(plans).chain(add_ons);
        streams.filter_map(|stream| self.table_change(stream)).collect()
    }

    fn table_change(&self, stream: StreamId) -> Option<Change> {
        let (seq, _) = *self.in_tables.get(&stream)?;
        let state = self.states.get(&stream)?.clone();
        Some(Change { epoch: self.matrix.epoch, stream, seq, state })
    }

    /// Takes in catalog, plans and add-ons in the order of [`Self::table_changes`]; `Err` names the first that does not fit.
    pub(crate) fn take_tables(&mut self, changes: &[Change]) -> Result<(), StreamId> {
        for change in changes {
            if self.apply(change, Early::only_checksum(change), Source::Snapshot) != Applied::Installed {
                return Err(change.stream.clone());
            }
        }
        self.finish();
        Ok(())
    }

    /// The tables as they are.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Counts rows that were put into the table beside this writer.
    pub(crate) fn count_rows(&mut self, digest: StateDigest) {
        self.digest.absorb(digest);
    }

    /// Takes in what was parked beside rows that are the newest up to `newest_until`, and remembers which tenants have a state that
    /// could not be used, so that they are not told to be unknown; not those of which a good one of that seq or a later one waits. Such a
    /// state is looked at again when it comes again: this software may be able to read it.
    pub(crate) fn take_waiting(&mut self, newest_until: Option<Timestamp>, parked: &[Change], bad: &[(StreamId, Seq)]) {
        self.newest_until = newest_until;
        for change in parked {
            self.apply(change, Early::only_checksum(change), Source::Snapshot);
        }
        for (stream, seq) in bad {
            if let StreamId::Tenant(id) = stream
                && self.applied(stream).is_none_or(|(applied, _)| applied < *seq)
                && self.parking.get(stream).is_none_or(|parked| parked.change.seq < *seq)
                && self.matrix.held_back.insert(TenantKey::new(id.as_str()), HeldBack::Bad(*seq)).is_none()
            {
                self.matrix.held_back_count.fetch_add(1, Ordering::Release);
            }
        }
        self.finish();
    }

    /// Keeps the state of a stream that is in the tables. A copy: what it came in may be large.
    pub(super) fn keep_state(&mut self, change: &Change) {
        self.states.insert(change.stream.clone(), Bytes::copy_from_slice(&change.state));
    }
}
