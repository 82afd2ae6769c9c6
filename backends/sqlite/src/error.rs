//! What can go wrong: when the database is opened, and what an error of SQLite means for whoever waits for an answer.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why a database does not open. Nothing is ever removed or repaired.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its bounds.
    #[error("{0}")]
    Config(String),
    /// The directory cannot be made, or not be written in.
    #[error("data_dir `{path}` cannot be used: {reason}; needed is a directory on a local disk in which this process may write")]
    DataDir {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// There is no database in it, and none was to be made.
    #[error("there is no database in data_dir `{path}`; needed is the data directory of `tessera dev`, which makes one")]
    Absent {
        /// Which directory.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("data_dir `{path}` is in use by another process{}; a data directory belongs to one process at a time", of(*process))]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// The process that has it, as far as it has left word.
        process: Option<u32>,
    },
    /// Written by newer software.
    #[error(
        "the database `{path}` has schema version {found}, this software knows versions up to {known}; use the software that wrote it, or newer"
    )]
    NewerSchema {
        /// Which database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this software knows.
        known: u32,
    },
    /// Some other program's database.
    #[error("`{path}` is not a database of Tessera: {reason}")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// What is stored is not what was written.
    #[error(
        "the database `{path}` is damaged: {damage}; nothing was changed: restore a backup with `tessera restore`, or copy the directory before you try to repair it"
    )]
    Damaged {
        /// Which database.
        path: PathBuf,
        /// What is wrong with it, as exactly as can be said.
        damage: String,
    },
    /// SQLite does not do what is needed.
    #[error("the database `{path}` does not open: {reason}")]
    Sqlite {
        /// Which database.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
}

fn of(process: Option<u32>) -> String {
    process.map(|id| format!(" (process {id})")).unwrap_or_default()
}

/// What an error of SQLite means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No space: try again later. Nothing was written.
    DiskFull,
    /// The disk does not do what it should: stop.
    Io(String),
    /// The bytes are not what was written: stop writing.
    Damaged(String),
    /// Somebody else's program holds the database: try again.
    Busy(String),
    /// A statement was refused: a mistake in this crate or in what it was given.
    Refused(String),
}

impl From<&rusqlite::Error> for Trouble {
    fn from(error: &rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            // Not a full disk for whoever writes: the commit may be in the log already.
            Some(ErrorCode::SystemIoFailure) if extended_code(error) == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => {
                Self::Io(format!("{text}: the file `-shm` beside it cannot be made bigger; is the disk full?"))
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => Self::Io(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(text),
            // A column of another type than its table says.
            None if matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
            ) =>
            {
                Self::Damaged(text)
            }
            _ => Self::Refused(text),
        }
    }
}

fn extended_code(error: &rusqlite::Error) -> Option<std::ffi::c_int> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.extended_code),
        _ => None,
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(&error)
    }
}
