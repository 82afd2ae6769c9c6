//! The scan of all current states: by number of stream, which is the order in which the table lies on the disk.
//!
//! Streams are never removed and numbers only grow, so a range between two numbers always holds the same streams, and whatever
//! was there when the ranges were cut is in one of them. Bounds are numbers in 8 bytes, most significant first.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _};
use tessera_core::stream::{Epoch, StreamKind};
use tessera_ports::event_store::{ScanPage, ScanRange};

use crate::error::Trouble;
use crate::row::{StreamRow, Told, change_of, restored, stream_columns};

/// Streams in a range: some milliseconds of reading.
const RANGE_STREAMS: i64 = 4096;
/// Bytes of states in one page, beyond which it ends early.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

fn bound(number: i64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn number(bound: &[u8]) -> Result<i64, Trouble> {
    let bytes = bound.try_into().map_err(|_| Trouble::Refused("a scan range of another store".to_owned()))?;
    Ok(i64::from_be_bytes(bytes))
}

pub(crate) fn ranges(connection: &Connection, kind: StreamKind) -> Result<Vec<ScanRange>, Trouble> {
    // Two questions: SQLite answers one about both ends by going through all rows between them.
    let mut ends = connection.prepare_cached(
        "SELECT (SELECT min(number) FROM stream INDEXED BY stream_by_kind WHERE kind = ?1),
                (SELECT max(number) FROM stream INDEXED BY stream_by_kind WHERE kind = ?1)",
    )?;
    let ends = ends.query_row([kind as u8], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    let (Some(mut from), Some(last)) = ends else { return Ok(Vec::new()) };
    let end = last.saturating_add(1);
    let mut cut = connection.prepare_cached(
        "SELECT number FROM stream INDEXED BY stream_by_kind WHERE kind = ?1 AND number >= ?2 ORDER BY number LIMIT 1 OFFSET ?3",
    )?;
    let mut ranges = Vec::new();
    while from < end {
        let next = cut.query_row((kind as u8, from, RANGE_STREAMS), |row| row.get::<_, i64>(0)).optional()?;
        let until = next.unwrap_or(end).min(end);
        ranges.push(ScanRange { kind, from: bound(from), until: bound(until) });
        from = until;
    }
    Ok(ranges)
}

macro_rules! select {
    ($way:literal) => {
        concat!(
            "SELECT ",
            stream_columns!(),
            " FROM stream s ",
            $way,
            " WHERE s.kind = ?1 AND s.number >= ?2 AND s.number < ?3 ORDER BY s.number"
        )
    };
}

pub(crate) fn page(
    connection: &Connection,
    epoch: Epoch,
    range: &ScanRange,
    limit: usize,
    told: &Told,
) -> Result<ScanPage, Trouble> {
    let (from, until) = (number(&range.from)?, number(&range.until)?);
    let limit = limit.max(1);
    // Nearly every stream is a tenant's: those are read as the table lies, without finding each by way of the index.
    let mut select = connection.prepare_cached(match range.kind {
        StreamKind::Tenant => select!("NOT INDEXED"),
        _ => select!("INDEXED BY stream_by_kind"),
    })?;
    let mut rows = select.query((range.kind as u8, from, until))?;
    let mut changes = Vec::with_capacity(limit.min(1024));
    let (mut bytes, mut read) = (0, 0);
    while let Some(row) = rows.next()? {
        if read >= limit || bytes >= PAGE_BYTES_MAX {
            let rest = ScanRange { from: bound(row.get(0)?), ..range.clone() };
            return Ok(ScanPage { changes, rest: Some(rest) });
        }
        read += 1;
        if let Ok(change) = change_of(StreamRow::read_alone(row, 0)?, epoch, told) {
            bytes += change.state.len();
            changes.push(change);
        }
    }
    Ok(ScanPage { changes, rest: None })
}

pub(crate) fn count(connection: &Connection, kind: StreamKind) -> Result<u64, Trouble> {
    let mut select = connection.prepare_cached("SELECT count(*) FROM stream WHERE kind = ?1")?;
    restored(select.query_row([kind as u8], |row| row.get(0))?)
}
