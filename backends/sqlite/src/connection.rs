//! Connections, and what every one of them is told.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// Below this, a bug of SQLite can damage a database in WAL mode that has several connections.
const SQLITE_MIN: (i32, &str) = (3_051_003, "3.51.3");
/// How long to wait for somebody else's program, such as the sqlite3 shell, to let go of the database.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// As that, for a checkpoint: our own readers are done sooner, and the next one is not far.
const HURRIED_WAIT: Duration = Duration::from_millis(20);
/// More than there are statements in this crate.
const STATEMENTS_MAX: usize = 64;

/// Refuses a library with known faults; bundled, it is never one.
pub(crate) fn check_library() -> Result<(), String> {
    if rusqlite::version_number() < SQLITE_MIN.0 {
        return Err(format!("SQLite {} is too old; needed is {} or newer", rusqlite::version(), SQLITE_MIN.1));
    }
    Ok(())
}

/// Makes it the one that writes: write-ahead log, and every commit on the disk before it is answered. Checkpoints are made by the
/// writer alone, since SQLite keeps errors of automatic ones to itself.
pub(crate) fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("the journal mode is `{mode}`; needed is `wal`")),
        ));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    // Negative: KiB. 32 MiB, since one transaction may write 128 streams that are anywhere.
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    Ok(())
}

/// From now on closing it brings the log into the database.
pub(crate) fn tidy_up_on_close(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

/// One that leaves database and log as they are as long as it only reads: not even closing it brings a log that somebody has left
/// into the database.
pub(crate) fn looking_on(path: &Path) -> rusqlite::Result<Connection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    let connection = open(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)?;
    Ok(connection)
}

/// Does what waits for readers and need not: nobody is written for meanwhile, and a copy that somebody makes of the database takes
/// minutes.
pub(crate) fn hurried(connection: &Connection, work: impl FnOnce() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    connection.busy_timeout(HURRIED_WAIT)?;
    let done = work();
    connection.busy_timeout(BUSY_WAIT)?;
    done
}

/// One for a file that nobody else has: without a log beside it.
pub(crate) fn alone(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// One that only reads, in snapshots that the writer does not disturb.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    connection.pragma_update(None, "query_only", true)?;
    // 2 MiB: the inner pages of tables of a million streams. Scans gain nothing from more, and there are several readers.
    connection.pragma_update(None, "cache_size", -2 * 1024)?;
    Ok(connection)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // A statement's plan does not depend on what is bound to it: or SQLite would parse a cached one anew, at every use, wherever its
    // planner has looked at a bound value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// Ranges are where the planner looks at what is bound.
    #[test]
    fn a_cached_statement_is_parsed_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("database");
        let table = "CREATE TABLE event (stream INTEGER, seq INTEGER, PRIMARY KEY (stream, seq)) WITHOUT ROWID";
        let made = Connection::open(&path).expect("a file");
        made.execute_batch(table).expect("a table");
        made.execute_batch("INSERT INTO event VALUES (1, 1)").expect("a row");
        let connection = reader(&path).expect("it opens");
        for _ in 0..3 {
            let select = "SELECT seq FROM event WHERE stream = ?1 AND seq >= ?2 ORDER BY seq";
            let mut select = connection.prepare_cached(select).expect("a statement");
            assert_eq!(select.query_row((1, 1), |row| row.get::<_, i64>(0)), Ok(1));
            assert_eq!(select.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
