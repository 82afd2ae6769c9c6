//! Versions of the schema, and who a database is.
//!
//! The version is SQLite's `user_version`: the number of migrations that were applied. All that are missing are applied in one
//! exclusive transaction, so that a database has a version whole or not at all.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use tessera_ports::clock::IdSource;
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::hooks;

use crate::checksum;
use crate::error::{OpenError, Trouble};
use crate::row::restored;

const MIGRATIONS: [&str; 1] = [include_str!("schema/001.sql")];

/// The newest version this software knows.
const VERSION: u32 = 1;
const _: () = assert!(MIGRATIONS.len() == VERSION as usize);

/// What `file` and other programs know a database of Tessera by: "TSRA".
const APPLICATION_ID: i64 = 0x5453_5241;

/// Brings the schema up to date, and tells who the database is.
pub(crate) fn prepare(connection: &mut Connection, path: &Path, ids: &dyn IdSource) -> Result<StoreIdentity, OpenError> {
    let failed = |error: &rusqlite::Error| open_error(path, &Trouble::from(error));
    let found = version(connection).map_err(|error| failed(&error))?;
    if found > VERSION {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: VERSION });
    }
    if found < VERSION {
        if found == 0 {
            check_empty(connection, path)?;
        }
        migrate(connection, found, ids).map_err(|error| failed(&error))?;
    }
    identity(connection).map_err(|trouble| open_error(path, &trouble))
}

pub(crate) fn open_error(path: &Path, trouble: &Trouble) -> OpenError {
    let path = path.to_owned();
    match trouble {
        Trouble::Damaged(damage) => OpenError::Damaged { path, damage: damage.clone() },
        Trouble::DiskFull => OpenError::Sqlite { path, reason: "the disk is full".to_owned() },
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

fn migrate(connection: &mut Connection, found: u32, ids: &dyn IdSource) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let known = usize::try_from(found).unwrap_or(usize::MAX);
    for migration in MIGRATIONS.iter().skip(known) {
        transaction.execute_batch(migration)?;
    }
    if found == 0 {
        let (epoch, database) = (1, ids.unique());
        let sum = checksum::of_meta(epoch, &database);
        transaction.execute("INSERT INTO meta (one, epoch, database, sum) VALUES (1, ?1, ?2, ?3)", (epoch, &database, sum))?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    hooks::fail_point("sqlite.schema.created");
    transaction.commit()?;
    tracing::info!(from = found, to = VERSION, "the schema of the database is up to date");
    Ok(())
}

fn identity(connection: &Connection) -> Result<StoreIdentity, Trouble> {
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
