//! Versions of the schema, and who a database is.
//!
//! The version is SQLite's `user_version`: the number of migrations that were applied. All that are missing are applied in one
//! exclusive transaction, so that a database has a version whole or not at all.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::hooks;

use crate::checksum;
use crate::error::{OpenError, Trouble};
use crate::row::{restored, stored};

const MIGRATIONS: [&str; 1] = [include_str!("schema/001.sql")];

/// The newest version this software knows.
const VERSION: u32 = 1;
const _: () = assert!(MIGRATIONS.len() == VERSION as usize);

/// What `file` and other programs know a database of Tessera by: "TSRA".
const APPLICATION_ID: i64 = 0x5453_5241;

/// What is to be done about the schema of a database that was just opened; nothing has been written to it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// An empty file: everything is to be made.
    Nothing,
    /// A database of Tessera with this version, which this software knows.
    Version(u32),
}

/// Versions of a schema: what was found and what it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersions {
    /// Before the database was opened; 0 if it was made then.
    pub found: u32,
    /// Since then.
    pub now: u32,
}

/// Says what the file is, by reading alone; what belongs to others or is newer is refused.
pub(crate) fn recognize(connection: &Connection, path: &Path) -> Result<Found, OpenError> {
    let failed = |error: &rusqlite::Error| open_error(path, &Trouble::from(error));
    let found = version(connection).map_err(|error| failed(&error))?;
    if found == 0 {
        check_empty(connection, path)?;
        return Ok(Found::Nothing);
    }
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(|error| failed(&error))?;
    if application != APPLICATION_ID {
        let reason = format!("its application id is {application}, that of Tessera's databases {APPLICATION_ID}");
        return Err(OpenError::Foreign { path: path.to_owned(), reason });
    }
    if found > VERSION {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: VERSION });
    }
    Ok(Found::Version(found))
}

/// Brings the schema up to date, and tells who the database is; a new one is who `new` says.
pub(crate) fn prepare(
    connection: &mut Connection,
    path: &Path,
    found: Found,
    new: impl FnOnce() -> StoreIdentity,
) -> Result<(StoreIdentity, SchemaVersions), OpenError> {
    let (found, new) = match found {
        Found::Nothing => (0, Some(new())),
        Found::Version(found) => (found, None),
    };
    if found < VERSION {
        migrate(connection, found, &MIGRATIONS, new).map_err(|error| open_error(path, &Trouble::from(&error)))?;
    }
    let identity = identity(connection).map_err(|trouble| open_error(path, &trouble))?;
    Ok((identity, SchemaVersions { found, now: VERSION }))
}

/// Brings the schema of a database that exists up to date, and tells who it is.
pub(crate) fn upgrade(connection: &mut Connection, path: &Path) -> Result<StoreIdentity, OpenError> {
    let Found::Version(found) = recognize(connection, path)? else {
        return Err(OpenError::Foreign { path: path.to_owned(), reason: "it is empty".to_owned() });
    };
    if found < VERSION {
        migrate(connection, found, &MIGRATIONS, None).map_err(|error| open_error(path, &Trouble::from(&error)))?;
    }
    identity(connection).map_err(|trouble| open_error(path, &trouble))
}

/// Begins another life under another name: what belongs to the old one alone, its feed and its hints, goes.
pub(crate) fn begin_anew(connection: &mut Connection, identity: &StoreIdentity) -> rusqlite::Result<()> {
    let (epoch, database) = (stored(identity.epoch), &identity.store);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let sum = checksum::of_meta(epoch, database);
    transaction.execute("UPDATE meta SET epoch = ?1, database = ?2, sum = ?3", (epoch, database, sum))?;
    transaction.execute("DELETE FROM change", [])?;
    transaction.execute("DELETE FROM hint", [])?;
    transaction.commit()
}

pub(crate) fn open_error(path: &Path, trouble: &Trouble) -> OpenError {
    let path = path.to_owned();
    match trouble {
        Trouble::Damaged(damage) => OpenError::Damaged { path, damage: damage.clone() },
        Trouble::DiskFull => {
            OpenError::Sqlite { path, reason: "the disk is full; make room and start again: nothing is lost".to_owned() }
        }
        Trouble::Io(reason) | Trouble::Busy(reason) | Trouble::Refused(reason) => {
            OpenError::Sqlite { path, reason: reason.clone() }
        }
    }
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// A file without a version must be empty: what is in it is somebody else's.
fn check_empty(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let table = connection.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get::<_, String>(0)).optional();
    match table {
        Ok(None) => Ok(()),
        Ok(Some(name)) => {
            let reason = format!("it has no schema version, and holds `{name}`");
            Err(OpenError::Foreign { path: path.to_owned(), reason })
        }
        Err(error) => Err(open_error(path, &Trouble::from(&error))),
    }
}

/// `new` is who a database is that is made.
fn migrate(connection: &mut Connection, found: u32, migrations: &[&str], new: Option<StoreIdentity>) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let known = usize::try_from(found).unwrap_or(usize::MAX);
    let version = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    for migration in migrations.iter().skip(known) {
        transaction.execute_batch(migration)?;
    }
    if let Some(StoreIdentity { epoch, store: database }) = new {
        let epoch = stored(epoch);
        let sum = checksum::of_meta(epoch, &database);
        transaction.execute("INSERT INTO meta (one, epoch, database, sum) VALUES (1, ?1, ?2, ?3)", (epoch, &database, sum))?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.pragma_update(None, "user_version", version)?;
    hooks::fail_point("sqlite.schema.created");
    transaction.commit()?;
    tracing::info!(from = found, to = version, "the schema of the database is up to date");
    Ok(())
}

pub(crate) fn identity(connection: &Connection) -> Result<StoreIdentity, Trouble> {
    let row = connection
        .query_row("SELECT epoch, database, sum FROM meta", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let (epoch, database, sum) = row.ok_or_else(|| Trouble::Damaged("table `meta` is empty".to_owned()))?;
    if checksum::of_meta(epoch, &database) != sum {
        return Err(Trouble::Damaged("the row of table `meta` does not match its checksum".to_owned()));
    }
    Ok(StoreIdentity { epoch: restored(epoch)?, store: database })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only what is missing is applied, and what is there stays.
    #[test]
    fn an_older_schema_is_brought_up_to_date() {
        let mut connection = Connection::open_in_memory().expect("a database");
        let named = StoreIdentity { epoch: 3, store: "name".to_owned() };
        migrate(&mut connection, 0, &MIGRATIONS, Some(named.clone())).expect("the first version");
        let next = [MIGRATIONS[0], "ALTER TABLE meta ADD COLUMN later TEXT"];
        migrate(&mut connection, 1, &next, None).expect("the next version");
        assert_eq!(version(&connection), Ok(2));
        assert_eq!(identity(&connection), Ok(named));
        let broken = [next[0], next[1], "ALTER TABLE meta ADD COLUMN more TEXT; ALTER TABLE nobody ADD COLUMN more TEXT"];
        assert!(migrate(&mut connection, 2, &broken, None).is_err());
        assert_eq!(version(&connection), Ok(2), "whole or not at all");
        assert!(connection.prepare("SELECT more FROM meta").is_err(), "whole or not at all");
    }
}
