//! What is checked at every start, so that a damaged database is not served.
//!
//! 1. `PRAGMA quick_check`: the pages and rows are well formed; left out, with a warning, above a size.
//! 2. The end of every stream: head and state match their checksum; the last event is there, nothing is beyond it, its cell
//!    hashes to what the head says, and it names the hash of the cell before it.
//!
//! Events further back are checked when they are read. Nothing is repaired. A database that is used before this is over is looked
//! at stream by stream meanwhile, as each is read: see [`crate::verdict`].

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tessera_ports::event_store::{CellHash, EventCell};
use tessera_proto::storage::EventLink;
use tokio::time::Instant;

use crate::connection;
use crate::error::{OpenError, Trouble};
use crate::row::{StreamRow, event, stream_columns};
use crate::schema::open_error;

/// Streams that one thread takes at a time.
const PORTION: i64 = 8192;
/// More threads would wait for the disk.
const THREADS_MAX: usize = 8;
/// So many troubles are told of; the rest are counted.
const TOLD_MAX: usize = 8;

/// All of it. Pages are looked at up to that many bytes.
pub(crate) fn check(path: &Path, page_bytes_max: u64) -> Result<(), OpenError> {
    let connection = connection::reader(path).map_err(|error| open_error(path, &Trouble::from(&error)))?;
    check_pages(&connection, path, page_bytes_max)?;
    check_ends(&connection, path)
}

/// The page check, up to `bytes_max`.
fn check_pages(connection: &Connection, path: &Path, bytes_max: u64) -> Result<(), OpenError> {
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    if bytes > bytes_max {
        tracing::warn!(bytes, bytes_max, "the database is too big to check its pages; the ends of the streams are checked");
        return Ok(());
    }
    let began = Instant::now();
    let mut findings = Vec::new();
    let checked = connection.pragma_query(None, "quick_check", |row| {
        findings.push(row.get::<_, String>(0)?);
        Ok(())
    });
    checked.map_err(|error| open_error(path, &Trouble::from(&error)))?;
    if findings.iter().any(|finding| finding != "ok") {
        return Err(damaged(path, &findings));
    }
    tracing::info!(bytes, took_ms = milliseconds(began.elapsed()), "the pages of the database are well formed");
    Ok(())
}

/// The check of every stream's end, in order of the table and on several threads.
fn check_ends(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let began = Instant::now();
    let failed = |trouble: &Trouble| open_error(path, trouble);
    let last: i64 = connection
        .query_row("SELECT coalesce(max(number), 0) FROM stream", [], |row| row.get(0))
        .map_err(|error| failed(&Trouble::from(&error)))?;
    let (next, checked) = (AtomicI64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let threads = if last <= PORTION { 1 } else { threads };
    let work = || -> Result<Vec<String>, Trouble> {
        let connection = connection::reader(path)?;
        let mut findings = Vec::new();
        loop {
            let from = next.fetch_add(PORTION, Ordering::Relaxed);
            if from > last {
                return Ok(findings);
            }
            let count = check_portion(&connection, from, from.saturating_add(PORTION), &mut findings)?;
            checked.fetch_add(count, Ordering::Relaxed);
        }
    };
    let mut findings = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(Ok(found)) => findings.extend(found),
                Ok(Err(trouble)) => return Err(failed(&trouble)),
                Err(_) => return Err(failed(&Trouble::Refused("a thread that checked the streams panicked".to_owned()))),
            }
        }
        Ok(())
    })?;
    if !findings.is_empty() {
        return Err(damaged(path, &findings));
    }
    let streams = checked.load(Ordering::Relaxed);
    tracing::info!(streams, took_ms = milliseconds(began.elapsed()), "the ends of all streams are as they were written");
    Ok(())
}

fn damaged(path: &Path, findings: &[String]) -> OpenError {
    for finding in findings {
        tracing::error!(finding, "damage found in the database");
    }
    let mut damage = findings.iter().take(TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    if let Some(more) = findings.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        damage = format!("{damage}; and {more} more");
    }
    OpenError::Damaged { path: path.to_owned(), damage }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Checks the streams numbered `from..until`; how many there are.
fn check_portion(connection: &Connection, from: i64, until: i64, findings: &mut Vec<String>) -> Result<u64, Trouble> {
    // What is written meanwhile moves no end between two looks at it.
    let _one_moment = connection.unchecked_transaction()?;
    let mut streams = connection.prepare_cached(concat!(
        "SELECT ",
        stream_columns!(),
        " FROM stream s WHERE s.number >= ?1 AND s.number < ?2 ORDER BY s.number"
    ))?;
    let mut rows = streams.query((from, until))?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        match StreamRow::read(row, 0).and_then(|stream| check_end(connection, &stream)) {
            Ok(()) => {}
            Err(Trouble::Damaged(damage)) => findings.push(damage),
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(count)
}

/// The check of one stream's end.
pub(crate) fn check_end(connection: &Connection, stream: &StreamRow) -> Result<(), Trouble> {
    let mut events =
        connection.prepare_cached("SELECT seq, cell, sum FROM event WHERE stream = ?1 AND seq >= ?2 ORDER BY seq")?;
    let before_last = crate::row::stored(stream.head.seq).saturating_sub(1);
    let mut rows = events.query((stream.number, before_last))?;
    let mut end = Vec::with_capacity(2);
    while let Some(row) = rows.next()? {
        end.push(event(row, stream.number, &stream.id)?);
    }
    fits(stream, &end)
}

/// `end`: every stored event from the one before the head on.
fn fits(stream: &StreamRow, end: &[EventCell]) -> Result<(), Trouble> {
    let (id, head) = (&stream.id, stream.head);
    let damaged = |what: String| Err(Trouble::Damaged(format!("stream `{id}`, {what}")));
    let Some(last) = end.iter().find(|event| event.seq == head.seq) else {
        return damaged(format!("event {}: it is missing, though the head counts it", head.seq));
    };
    if let Some(beyond) = end.iter().find(|event| event.seq > head.seq) {
        return damaged(format!("event {}: it is beyond the head, which is at {}", beyond.seq, head.seq));
    }
    let found = CellHash::of(&last.cell);
    if found != head.hash {
        let (expected, found) = (hexadecimal(&head.hash), hexadecimal(&found));
        return damaged(format!("event {}: the head expects hash {expected}, the stored cell has {found}", head.seq));
    }
    let link = match EventLink::decode(&last.cell) {
        Ok(link) => link,
        Err(error) => return damaged(format!("event {}: {error}", head.seq)),
    };
    if link.seq != head.seq {
        return damaged(format!("event {}: the stored cell says it is event {}", head.seq, link.seq));
    }
    let before = if head.seq == 1 {
        CellHash::default()
    } else {
        let Some(before) = end.iter().find(|event| event.seq.saturating_add(1) == head.seq) else {
            return damaged(format!("event {}: it is missing", head.seq.saturating_sub(1)));
        };
        CellHash::of(&before.cell)
    };
    if before.0 != link.previous_hash {
        let (expected, found) = (hexadecimal(&CellHash(link.previous_hash)), hexadecimal(&before));
        let seq = head.seq.saturating_sub(1);
        return damaged(format!(
            "event {seq}: event {} expects hash {expected} before it, the stored cell has {found}",
            head.seq
        ));
    }
    Ok(())
}

/// The first 8 bytes tell two hashes apart well enough for a message.
fn hexadecimal(hash: &CellHash) -> String {
    let first = hash.0.first_chunk().copied().unwrap_or_default();
    format!("{:016x}…", u64::from_be_bytes(first))
}
