//! The database that a restore replaces. It is never lost: before anything else takes its place it has a second name, and what
//! its log held is in it, or beside it under that name.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::wal::CheckpointMode;
use tessera_core::stream::Epoch;

use super::Present;
use super::backup::{BESIDE, are_the_same, beside};
use crate::error::{OpenError, Trouble};
use crate::{connection, schema};

/// What holds data of a database beside it. The third file is memory that processes share.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// Which epoch the database in place is in; it stays as it is.
pub(super) fn look_at(database: &Path) -> Present {
    match fs::metadata(database) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Present::None,
        Err(error) => return Present::Unreadable(error.to_string()),
        // What a process leaves that ends before it has written anything.
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => return Present::None,
        Ok(_) => {}
    }
    match epoch_of(database) {
        Ok(epoch) => Present::Epoch(epoch),
        Err(reason) => Present::Unreadable(reason),
    }
}

fn epoch_of(database: &Path) -> Result<Epoch, String> {
    let connection = connection::looking_on(database).map_err(|error| error.to_string())?;
    let reason = |error: OpenError| match error {
        OpenError::Damaged { damage, .. } => format!("it is damaged: {damage}"),
        OpenError::Foreign { reason, .. } => format!("it is not a database of Tessera: {reason}"),
        OpenError::Sqlite { reason, .. } => reason,
        OpenError::NewerSchema { found, .. } => format!("it has schema version {found}, which is newer than this software"),
        other => other.to_string(),
    };
    match schema::recognize(&connection, database).map_err(reason)? {
        schema::Found::Nothing => Err("it is empty".to_owned()),
        schema::Found::Version(_) => {
            let identity = schema::identity(&connection);
            identity.map(|identity| identity.epoch).map_err(|trouble| reason(schema::open_error(database, &trouble)))
        }
    }
}

/// A database on its way out, and the name it gets.
#[derive(Debug)]
pub(super) struct Leaving {
    database: PathBuf,
    /// `None` when nothing is there that could be lost.
    name: Option<String>,
}

impl Leaving {
    /// The database gives way to `epoch`.
    pub(super) fn of(database: PathBuf, epoch: Epoch) -> Self {
        let holds_data = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file() || metadata.len() > 0);
        let is_there = holds_data(&database) || LOGS.iter().any(|suffix| holds_data(&beside(&database, suffix)));
        let name = is_there.then(|| free_name(&database, epoch));
        Self { database, name }
    }

    pub(super) fn kept_as(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Gives it its second name; the first stays. Where it is now, or why it cannot be kept.
    pub(super) fn keep(&self) -> Result<Option<PathBuf>, String> {
        let Some(name) = &self.name else { return Ok(None) };
        fold(&self.database)?;
        let kept = self.database.with_file_name(name);
        link(&self.database, &kept).map_err(|error| error.to_string())?;
        for suffix in LOGS {
            link(&beside(&self.database, suffix), &beside(&kept, suffix)).map_err(|error| error.to_string())?;
        }
        Ok(Some(kept))
    }

    /// Takes away what must not meet the next database: another one's log would be written into it. Only a database that SQLite
    /// cannot open has one left by now, so that what is in place for this moment is as unusable as before.
    pub(super) fn clear(&self) -> std::io::Result<()> {
        for suffix in BESIDE {
            match fs::remove_file(beside(&self.database, suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Brings the log into the database, as closing it in peace does. An error where that can still be done: without its log the
/// database would be in place for a moment as it was before its last writes. Only of one that SQLite cannot use the log is kept as
/// it is.
fn fold(database: &Path) -> Result<(), String> {
    let has_bytes = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    // SQLite would throw away a log whose database is empty.
    if !has_bytes(database) || !LOGS.iter().any(|suffix| has_bytes(&beside(database, suffix))) {
        return Ok(());
    }
    let folded = connection::looking_on(database).and_then(|connection| {
        // Only a read opens the log.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE)?;
        connection::tidy_up_on_close(&connection)?;
        connection.close().map_err(|(_, error)| error)
    });
    let Err(error) = folded else { return Ok(()) };
    let (reason, advice) = match Trouble::from(&error) {
        Trouble::Busy(reason) => (reason, "; end the program that has it open, and restore again"),
        Trouble::DiskFull => ("the disk is full".to_owned(), "; make room, and restore again"),
        Trouble::Io(reason) => (reason, "; move the database and what is beside it out of the directory, and restore again"),
        Trouble::Damaged(_) | Trouble::Refused(_) => {
            tracing::warn!(%error, "the log of the database that is replaced stays beside it");
            return Ok(());
        }
    };
    Err(format!("its log cannot be brought into it: {reason}{advice}"))
}

/// A second name for a file that is there; never in place of another.
fn link(file: &Path, name: &Path) -> std::io::Result<()> {
    match fs::hard_link(file, name) {
        // Given by a restore that did not come to its end.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && are_the_same(file, name) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A name that says what the file was, and that nothing else has.
fn free_name(database: &Path, epoch: Epoch) -> String {
    let mut name = format!("tessera-before-epoch-{epoch}.db");
    let mut count = 1_u64;
    while !is_free(database, &database.with_file_name(&name)) {
        count = count.saturating_add(1);
        name = format!("tessera-before-epoch-{epoch}-{count}.db");
    }
    name
}

/// Nobody has it, or the database itself, by a restore that did not come to its end.
fn is_free(database: &Path, name: &Path) -> bool {
    let is_free = |file: &Path, name: &Path| fs::symlink_metadata(name).is_err() || are_the_same(file, name);
    is_free(database, name) && LOGS.iter().all(|suffix| is_free(&beside(database, suffix), &beside(name, suffix)))
}
