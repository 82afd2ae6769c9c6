//! Rows of streams and events, checked against their sums as they are read.

use bytes::Bytes;
use rusqlite::Row;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::{CellHash, EventCell, Head};

use crate::checksum;
use crate::error::Trouble;

/// A number as SQLite keeps it: 63 bits. No counter here gets near the end of them; one that did would be refused by the
/// comparisons it is stored for.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored number as it was before; a negative one was never stored.
pub(crate) fn restored(number: i64) -> Result<u64, Trouble> {
    u64::try_from(number).map_err(|_| Trouble::Damaged(format!("a counter holds {number}")))
}

pub(crate) fn hash(bytes: &[u8], whose: &dyn std::fmt::Display) -> Result<CellHash, Trouble> {
    let hash = bytes.try_into().map_err(|_| Trouble::Damaged(format!("{whose}: a hash of {} bytes", bytes.len())))?;
    Ok(CellHash(hash))
}

/// A row of the table `stream`.
#[derive(Debug)]
pub(crate) struct StreamRow {
    pub(crate) number: i64,
    pub(crate) id: StreamId,
    pub(crate) head: Head,
    pub(crate) state: Bytes,
}

/// The columns that [`StreamRow::read`] wants, in its order.
macro_rules! stream_columns {
    () => {
        "s.number, s.kind, s.key, s.seq, s.hash, s.state, s.sum"
    };
}
pub(crate) use stream_columns;

impl StreamRow {
    /// Reads the columns of [`stream_columns`] from `first` on, and checks them against their sum.
    pub(crate) fn read(row: &Row<'_>, first: usize) -> Result<Self, Trouble> {
        let number: i64 = row.get(first)?;
        let kind: i64 = row.get(first + 1)?;
        let key = row.get_ref(first + 2)?.as_str().map_err(|error| damaged_row(number, &error.to_string()))?;
        let known_kind = u8::try_from(kind).ok().and_then(StreamKind::from_number);
        let known_kind = known_kind.ok_or_else(|| damaged_row(number, &format!("kind {kind} does not exist")))?;
        let id = StreamId::from_parts(known_kind, key).map_err(|error| damaged_row(number, &error.to_string()))?;
        let whose = format_args!("stream `{id}`");
        let seq = restored(row.get(first + 3)?)?;
        let blob = |index| row.get_ref(index)?.as_blob().map_err(|error| Trouble::Damaged(format!("{whose}: {error}")));
        let head = Head { seq, hash: hash(blob(first + 4)?, &whose)? };
        let state = blob(first + 5)?;
        let sum: i64 = row.get(first + 6)?;
        if checksum::of_stream(kind, key, &head, state) != sum {
            return Err(Trouble::Damaged(format!("{whose}, seq {seq}: head and state do not match their checksum")));
        }
        Ok(Self { number, state: Bytes::copy_from_slice(state), head, id })
    }

    pub(crate) fn into_change(self, epoch: Epoch) -> Change {
        Change { epoch, stream: self.id, seq: self.head.seq, state: self.state }
    }
}

fn damaged_row(number: i64, why: &str) -> Trouble {
    Trouble::Damaged(format!("row {number} of table `stream`: {why}"))
}

/// Reads the columns seq, cell and sum of an event of the stream with that number, and checks them against their sum.
pub(crate) fn event(row: &Row<'_>, number: i64, stream: &StreamId) -> Result<EventCell, Trouble> {
    let stored_seq: i64 = row.get(0)?;
    let cell = row.get_ref(1)?.as_blob().map_err(|error| Trouble::Damaged(format!("stream `{stream}`: {error}")))?;
    let sum: i64 = row.get(2)?;
    if checksum::of_event(number, stored_seq, cell) != sum {
        return Err(Trouble::Damaged(format!("stream `{stream}`, event {stored_seq}: the cell does not match its checksum")));
    }
    let seq: Seq = restored(stored_seq)?;
    Ok(EventCell { seq, cell: Bytes::copy_from_slice(cell) })
}
