//! The file to restore. It is looked at without being opened by SQLite, which might leave files beside it, and copied byte by
//! byte; everything else is asked of the copy.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tessera_ports::event_store::StoreIdentity;

use super::RestoreError;
use crate::error::{OpenError, Trouble};
use crate::{connection, integrity, schema};

/// How every SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite keeps beside a database while somebody has it open, and after a crash.
const UNFINISHED: [&str; 2] = ["-wal", "-journal"];
/// Everything SQLite may keep beside a database.
pub(super) const BESIDE: [&str; 3] = ["-wal", "-journal", "-shm"];

/// The name of a file that SQLite keeps beside `database`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn refused(path: &Path, reason: String) -> RestoreError {
    RestoreError::Backup { path: path.to_owned(), reason }
}

/// What can be seen from outside.
pub(super) fn look_at(from: &Path) -> Result<(), RestoreError> {
    let refused = |reason: String| refused(from, reason);
    let metadata = std::fs::metadata(from).map_err(|error| refused(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refused("it is no file; needed is one file, as `VACUUM INTO` writes it".to_owned()));
    }
    let mut begins = [0; 16];
    let read = File::open(from).and_then(|mut file| file.read_exact(&mut begins));
    match read {
        Ok(()) if begins == *MAGIC => {}
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(refused(error.to_string())),
        _ => return Err(refused("it is not a SQLite database".to_owned())),
    }
    Ok(())
}

/// Whether the file is all of it.
pub(super) fn is_whole(from: &Path) -> Result<(), RestoreError> {
    let unfinished = UNFINISHED.iter().map(|suffix| beside(from, suffix)).find(|path| path.exists());
    if let Some(unfinished) = unfinished {
        let reason = format!(
            "there is `{}` beside it, so that it is in use, or no copy of one moment; needed is one file, as `VACUUM INTO` writes \
             it (a data directory of a process that does not run is made whole by `tessera migrate --data DIR`)",
            unfinished.display()
        );
        return Err(refused(from, reason));
    }
    Ok(())
}

/// Whether both names are of the same file.
pub(super) fn are_the_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// A copy of the backup beside the database in place. It is removed when it is dropped before it is in place.
#[derive(Debug)]
pub(super) struct Copied {
    path: PathBuf,
    identity: StoreIdentity,
    streams: u64,
    in_place: bool,
}

/// Removes the copy unless it is finished.
struct Unfinished<'a>(Option<&'a Path>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            remove(path);
        }
    }
}

fn remove(copy: &Path) {
    let beside = BESIDE.map(|suffix| beside(copy, suffix));
    for path in beside.iter().map(PathBuf::as_path).chain([copy]) {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "what is left of a restore cannot be removed");
        }
    }
}

impl Copied {
    /// Copies, and checks the copy as a start checks a database, all its pages whatever its size.
    pub(super) fn beside(database: &Path, from: &Path) -> Result<Self, RestoreError> {
        let path = beside(database, ".restoring");
        if are_the_same(from, &path) {
            return Err(refused(from, "it is what a restore that did not come to its end has left".to_owned()));
        }
        remove(&path);
        let mut unfinished = Unfinished(Some(&path));
        let place = |reason: String| RestoreError::Place {
            path: database.parent().unwrap_or(database).to_owned(),
            doing: format!("copy it to `{}`", path.display()),
            reason,
        };
        copy(from, &path).map_err(|error| place(error.to_string()))?;
        let (identity, streams) = check(&path).map_err(|error| match error {
            OpenError::NewerSchema { found, known, .. } => refused(
                from,
                format!(
                    "it has schema version {found}, this software knows versions up to {known}; use the software that wrote it, \
                     or newer"
                ),
            ),
            OpenError::Foreign { reason, .. } => refused(from, format!("it is not a database of Tessera: {reason}")),
            OpenError::Damaged { damage, .. } => refused(from, format!("it is damaged: {damage}; take another one")),
            OpenError::Sqlite { reason, .. } => place(reason),
            other => RestoreError::DataDir(other),
        })?;
        unfinished.0 = None;
        drop(unfinished);
        Ok(Self { path, identity, streams, in_place: false })
    }

    /// Who the backup is.
    pub(super) fn identity(&self) -> &StoreIdentity {
        &self.identity
    }

    /// Streams in it.
    pub(super) fn streams(&self) -> u64 {
        self.streams
    }

    /// The copy becomes a database of its own; everything is on the disk afterwards, in one file.
    pub(super) fn begin_anew(&self, identity: &StoreIdentity) -> Result<(), String> {
        let mut connection = connection::alone(&self.path).map_err(|error| error.to_string())?;
        schema::begin_anew(&mut connection, identity).map_err(|error| error.to_string())?;
        connection.close().map_err(|(_, error)| error.to_string())?;
        if let Some(left) = BESIDE.iter().map(|suffix| beside(&self.path, suffix)).find(|path| path.exists()) {
            return Err(format!("`{}` is left", left.display()));
        }
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(|error| error.to_string())
    }

    /// In one step, in place of whatever is there.
    pub(super) fn put_in_place(&mut self, database: &Path) -> std::io::Result<()> {
        std::fs::rename(&self.path, database)?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if !self.in_place {
            remove(&self.path);
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// As a start does; brings an older schema up to date.
fn check(copy: &Path) -> Result<(StoreIdentity, u64), OpenError> {
    let failed = |error: rusqlite::Error| schema::open_error(copy, &Trouble::from(&error));
    let mut connection = connection::alone(copy).map_err(failed)?;
    let identity = schema::upgrade(&mut connection, copy)?;
    integrity::check(copy, u64::MAX)?;
    let streams = count(&connection).map_err(failed)?;
    Ok((identity, streams))
}

fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let streams: i64 = connection.query_row("SELECT count(*) FROM stream", [], |row| row.get(0))?;
    Ok(streams.unsigned_abs())
}
