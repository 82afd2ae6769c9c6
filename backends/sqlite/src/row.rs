//! Rows of streams and events, checked against their sums as they are read.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

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

/// A row of the table `stream` that is not what was written.
#[derive(Debug)]
pub(crate) struct DamagedRow {
    pub(crate) number: i64,
    /// Whose it says it is, and at which seq, as far as that can be read.
    whose: Option<(StreamId, Seq)>,
    why: String,
}

/// What became of reading a row: the row, or whose is damaged.
pub(crate) type RowRead = Result<StreamRow, DamagedRow>;

impl StreamRow {
    /// Reads the columns of [`stream_columns`] from `first` on, and checks them against their sum. A row without a number is
    /// none; any other damage is the row's alone.
    pub(crate) fn read_alone(row: &Row<'_>, first: usize) -> rusqlite::Result<RowRead> {
        let number: i64 = row.get(first)?;
        Ok(Self::checked(row, first, number))
    }

    /// As [`Self::read_alone`], for whoever wants this row or none.
    pub(crate) fn read(row: &Row<'_>, first: usize) -> Result<Self, Trouble> {
        Self::read_alone(row, first)?.map_err(|damaged| Trouble::Damaged(damaged.why))
    }

    fn checked(row: &Row<'_>, first: usize, number: i64) -> RowRead {
        let of_row = |why: &dyn std::fmt::Display| DamagedRow {
            number,
            whose: None,
            why: format!("row {number} of table `stream`: {why}"),
        };
        let kind: i64 = row.get(first + 1).map_err(|error| of_row(&error))?;
        let key = row.get_ref(first + 2).map_err(|error| of_row(&error))?.as_str().map_err(|error| of_row(&error))?;
        let known_kind = u8::try_from(kind).ok().and_then(StreamKind::from_number);
        let known_kind = known_kind.ok_or_else(|| of_row(&format_args!("kind {kind} does not exist")))?;
        let id = StreamId::from_parts(known_kind, key).map_err(|error| of_row(&error))?;

        let seq = row.get::<_, i64>(first + 3).ok().and_then(|seq| Seq::try_from(seq).ok());
        let of_stream =
            |why: String| DamagedRow { number, whose: Some((id.clone(), seq.unwrap_or(1))), why: format!("stream `{id}`{why}") };
        let seq = seq.ok_or_else(|| of_stream(": its seq is no counter".to_owned()))?;
        let blob = |index| {
            let column = row.get_ref(index).map_err(|error| error.to_string());
            let blob = column.and_then(|column| column.as_blob().map_err(|error| error.to_string()));
            blob.map_err(|error| of_stream(format!(": {error}")))
        };
        let last_hash = blob(first + 4)?;
        let last_hash = last_hash.try_into().map_err(|_| of_stream(format!(": a hash of {} bytes", last_hash.len())))?;
        let head = Head { seq, hash: CellHash(last_hash) };
        let state = blob(first + 5)?;
        let sum: i64 = row.get(first + 6).map_err(|error| of_stream(format!(": {error}")))?;
        if checksum::of_stream(kind, key, &head, state) != sum {
            return Err(of_stream(format!(", seq {seq}: head and state do not match their checksum")));
        }
        let state = Bytes::copy_from_slice(state);
        Ok(Self { number, id, head, state })
    }

    pub(crate) fn into_change(self, epoch: Epoch) -> Change {
        Change { epoch, stream: self.id, seq: self.head.seq, state: self.state }
    }
}

impl DamagedRow {
    /// Head and state are as they were written, and its events are not.
    pub(crate) fn of_stream(stream: StreamRow, why: String) -> Self {
        Self { number: stream.number, whose: Some((stream.id, stream.head.seq)), why }
    }

    /// A change that whoever reads it has to refuse, since no state is empty.
    fn into_change(self, epoch: Epoch) -> Result<Change, String> {
        let (stream, seq) = self.whose.ok_or(self.why)?;
        Ok(Change { epoch, stream, seq: seq.max(1), state: Bytes::new() })
    }
}

/// The change of a row. One that is damaged is told to the log, once, and handed on as a change that cannot be used, so that
/// it stops nobody else: the last good row goes on answering, and who never had one is not taken for unknown. The error: nobody
/// can say whose the row is, for this reason.
pub(crate) fn change_of(read: RowRead, epoch: Epoch, told: &Told) -> Result<Change, String> {
    match read {
        Ok(stream) => Ok(stream.into_change(epoch)),
        Err(damaged) => {
            told.tell(&damaged);
            damaged.into_change(epoch)
        }
    }
}

/// Rows that were found damaged, so that a scan that never ends does not fill the log with them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<HashSet<i64>>>);

impl Told {
    /// Rows that are told of by themselves; of more than that every one is told again.
    const ROWS_MAX: usize = 10_000;

    fn tell(&self, damaged: &DamagedRow) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.contains(&damaged.number) {
            return;
        }
        if rows.len() < Self::ROWS_MAX {
            rows.insert(damaged.number);
        }
        tracing::error!(damage = damaged.why, "a row of the database is damaged; the others are served");
    }
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
