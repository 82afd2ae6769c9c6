//! The twin of an import: what is in a store, written once more by a bare loop over SQLite. The same rows with the same bytes, in
//! the order and with the statements, settings and waits for the disk of the real one; without a network, commands, decisions,
//! hashes, answers, or anybody who reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, OpenFlags, Statement};

use crate::stores::Imported;

/// Streams of one transaction: as many as the real writer takes when there is no end of them.
const GROUP: usize = 1_024;
/// Pages of the log between two checkpoints, as the real writer has it.
const CHECKPOINT_PAGES: i64 = 4_000;

/// A stream with everything that was written of it.
#[derive(Debug)]
pub(crate) struct Stream {
    number: i64,
    pub(crate) kind: i64,
    pub(crate) key: String,
    pub(crate) seq: i64,
    pub(crate) hash: Vec<u8>,
    pub(crate) state: Vec<u8>,
    sum: i64,
    /// Seq, cell and sum of each.
    pub(crate) events: Vec<(i64, Vec<u8>, i64)>,
    /// Id, seq, digest and sum of each.
    pub(crate) requests: Vec<(String, i64, Vec<u8>, i64)>,
}

/// Writes what the store in the data directory `from` has, to a new database `to`, and removes that.
pub fn write_again(from: &Path, to: &Path) -> anyhow::Result<Imported> {
    let database = from.join("tessera.db");
    let schema = schema(&database)?;
    let mut streams = Vec::new();
    each(&database, |stream| {
        streams.push(stream);
        Ok(())
    })?;
    let remove = || {
        for end in ["", "-wal", "-shm"] {
            // It need not be there.
            let _ = std::fs::remove_file(format!("{}{end}", to.display()));
        }
    };
    remove();
    let mut connection = open(to, &schema)?;
    let (began, before) = (Instant::now(), thread_time()?);
    write(&mut connection, &streams)?;
    let (elapsed, cpu) = (began.elapsed(), thread_time()?.saturating_sub(before));
    drop(connection);
    remove();
    let tenants = u64::try_from(streams.iter().filter(|stream| stream.kind == TENANT).count())?;
    Ok(Imported { tenants, elapsed, cpu })
}

/// The kind of a tenant's stream.
const TENANT: i64 = tessera_core::stream::StreamKind::Tenant as i64;

fn schema(from: &Path) -> anyhow::Result<Vec<String>> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut schema = source.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    Ok(schema.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Calls `take` with every stream of a database, in the order in which they were made.
pub(crate) fn each(from: &Path, mut take: impl FnMut(Stream) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut select = source.prepare("SELECT number, kind, key, seq, hash, state, sum FROM stream ORDER BY number")?;
    let mut events = source.prepare("SELECT seq, cell, sum FROM event WHERE stream = ?1 ORDER BY seq")?;
    let mut requests = source.prepare("SELECT id, seq, digest, sum FROM request WHERE stream = ?1 ORDER BY seq")?;
    let streams = select.query_map([], |row| {
        let number: i64 = row.get(0)?;
        let events = events.query_map([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let requests = requests.query_map([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(Stream {
            number,
            kind: row.get(1)?,
            key: row.get(2)?,
            seq: row.get(3)?,
            hash: row.get(4)?,
            state: row.get(5)?,
            sum: row.get(6)?,
            events: events.collect::<Result<_, _>>()?,
            requests: requests.collect::<Result<_, _>>()?,
        })
    })?;
    for stream in streams {
        take(stream?)?;
    }
    Ok(())
}

/// With the settings of the real writer.
fn open(to: &Path, schema: &[String]) -> anyhow::Result<Connection> {
    let connection = Connection::open(to)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    for statement in schema {
        connection.execute_batch(statement)?;
    }
    Ok(connection)
}

fn write(connection: &mut Connection, streams: &[Stream]) -> anyhow::Result<()> {
    let pages = Arc::new(AtomicI64::new(0));
    let seen = Arc::clone(&pages);
    let hook = move |_: &mut Wal, length: std::ffi::c_int| {
        seen.store(i64::from(length), Ordering::Relaxed);
        Ok(())
    };
    connection.wal_hook(Some(hook))?;
    let connection = &*connection;
    let mut statements = Statements {
        stream: connection.prepare(
            "INSERT INTO stream (number, kind, key, seq, hash, state, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (kind, key) DO NOTHING",
        )?,
        event: connection.prepare("INSERT INTO event (stream, seq, cell, sum) VALUES (?1, ?2, ?3, ?4)")?,
        request: connection.prepare("INSERT INTO request (stream, id, seq, digest, sum) VALUES (?1, ?2, ?3, ?4, ?5)")?,
        change: connection.prepare("INSERT INTO change (position, stream, seq) VALUES (?1, ?2, ?3)")?,
        position: 0,
    };
    let mut due = CHECKPOINT_PAGES;
    for group in streams.chunks(GROUP) {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for stream in group {
            statements.write(stream)?;
        }
        connection.execute_batch("COMMIT")?;
        let length = pages.load(Ordering::Relaxed);
        due = if length < CHECKPOINT_PAGES { CHECKPOINT_PAGES } else { due };
        if length >= due {
            due = length + CHECKPOINT_PAGES;
            connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE)?;
        }
    }
    Ok(())
}

struct Statements<'a> {
    stream: Statement<'a>,
    event: Statement<'a>,
    request: Statement<'a>,
    change: Statement<'a>,
    position: i64,
}

impl Statements<'_> {
    fn write(&mut self, stream: &Stream) -> rusqlite::Result<()> {
        let Stream { number, kind, key, seq, hash, state, sum, events, requests } = stream;
        self.stream.execute((number, kind, key, seq, &hash[..], &state[..], sum))?;
        for (seq, cell, sum) in events {
            self.event.execute((number, seq, &cell[..], sum))?;
            self.position += 1;
            self.change.execute((self.position, number, seq))?;
        }
        for (id, seq, digest, sum) in requests {
            self.request.execute((number, id, seq, &digest[..], sum))?;
        }
        Ok(())
    }
}

/// CPU time of this thread so far.
fn thread_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_whitespace().next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(first.parse().with_context(|| format!("schedstat `{first}`"))?))
}
