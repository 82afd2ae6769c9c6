//! A backup becomes the database of a data directory, and begins the next epoch.
//!
//! In two steps, so that somebody can be asked between them. [`Restore::prepare`] takes the directory, copies the backup beside
//! the database and checks the copy as a start would; [`Restore::perform`] gives it its new name and epoch and puts it in place.
//! The backup is only read. The database that it replaces stays in the directory under another name. At every moment the
//! database in place is the old one or the new one, whole, so that a process which starts after a crash finds one of them, and
//! a restore that is done again begins from there.
//!
//! - `restore/backup.rs`: the file to restore, and its copy;
//! - `restore/replacing.rs`: the database in place, and its way out.

mod backup;
mod replacing;

use std::path::{Path, PathBuf};

use tessera_core::stream::Epoch;
use tessera_ports::clock::IdSource;
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::hooks;

use crate::data_dir::DataDir;
use crate::error::OpenError;
use backup::Copied;
use replacing::Leaving;

/// The greatest epoch that SQLite can keep.
const EPOCH_MAX: Epoch = i64::MAX.unsigned_abs();

/// Why a backup is not restored. The database in place is what it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The data directory cannot be used, or another process has it.
    #[error(transparent)]
    DataDir(#[from] OpenError),
    /// The backup is not one, or not whole.
    #[error("the backup `{path}` cannot be restored: {reason}")]
    Backup {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database in place does not say which epoch it is in, and nobody else did.
    #[error(
        "the database `{path}`, which would be replaced, does not tell its epoch: {reason}; needed is --epoch N, greater than \
         the epoch of the backup, which is {backup}, and than every epoch that servers and callers have seen"
    )]
    EpochUnknown {
        /// The database in place.
        path: PathBuf,
        /// Why it does not tell.
        reason: String,
        /// The backup's epoch.
        backup: Epoch,
    },
    /// The epoch that was asked for is not the next of both.
    #[error("epoch `{given}` is not allowed: {}; allowed are {least} to {EPOCH_MAX}", seen(*.backup, *.present))]
    Epoch {
        /// What was asked for.
        given: Epoch,
        /// The least that is allowed.
        least: Epoch,
        /// The backup's epoch.
        backup: Epoch,
        /// The epoch of the database in place, if there is one that tells.
        present: Option<Epoch>,
    },
    /// There is no place for it, or the system does not let us.
    #[error("the backup cannot be put into data_dir `{path}`: {doing}: {reason}")]
    Place {
        /// Which directory.
        path: PathBuf,
        /// What was tried.
        doing: String,
        /// What the system says.
        reason: String,
    },
}

fn seen(backup: Epoch, present: Option<Epoch>) -> String {
    let present = present.map(|epoch| format!(", and the database in place of epoch {epoch}")).unwrap_or_default();
    format!("the backup is of epoch {backup}{present}")
}

/// The database that is in place before a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Present {
    /// There is none.
    None,
    /// One of this epoch.
    Epoch(Epoch),
    /// Something that does not say its epoch, for this reason.
    Unreadable(String),
}

/// What a restore is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Who the backup is.
    pub backup: StoreIdentity,
    /// Streams in it.
    pub streams: u64,
    /// The database in place.
    pub present: Present,
    /// The epoch that begins.
    pub epoch: Epoch,
    /// Under which name in the directory the database that is replaced is kept; `None` when there is none.
    pub kept_as: Option<String>,
}

/// What a restore has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Who the database is now.
    pub identity: StoreIdentity,
    /// Where the database that was replaced is.
    pub kept: Option<PathBuf>,
}

/// A backup that was checked and can be put in place. Dropping it leaves everything as it was. The directory belongs to this
/// process meanwhile.
#[derive(Debug)]
pub struct Restore {
    copied: Copied,
    leaving: Leaving,
    plan: Plan,
    data_dir: DataDir,
}

impl Restore {
    /// Takes the directory, which is made if it is not there, and brings a checked copy of the backup `from` into it. The epoch
    /// that begins is the next of the backup's and of that of the database in place, or `epoch`, which must be greater than
    /// both. It blocks, for as long as it takes to copy the backup and read it whole.
    pub fn prepare(data_dir: &Path, from: &Path, epoch: Option<Epoch>) -> Result<Self, RestoreError> {
        backup::look_at(from)?;
        let data_dir = DataDir::take(data_dir)?;
        let database = data_dir.database_path();
        if backup::are_the_same(from, &database) {
            let reason = "it is the database in place itself; needed is a copy of it".to_owned();
            return Err(RestoreError::Backup { path: from.to_owned(), reason });
        }
        backup::is_whole(from)?;
        let present = replacing::look_at(&database);
        let copied = Copied::beside(&database, from)?;
        let epoch = next_epoch(copied.identity().epoch, &present, epoch, &database)?;
        let leaving = Leaving::of(database, epoch);
        let plan = Plan {
            backup: copied.identity().clone(),
            streams: copied.streams(),
            present,
            epoch,
            kept_as: leaving.kept_as().map(str::to_owned),
        };
        Ok(Self { copied, leaving, plan, data_dir })
    }

    /// What is going to be done.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does it: the database is the backup, in the next epoch, named by `ids`. After an error the database in place is the one
    /// that was there before, unless the error says otherwise.
    pub fn perform(mut self, ids: &dyn IdSource) -> Result<Restored, RestoreError> {
        let identity = StoreIdentity { epoch: self.plan.epoch, store: ids.unique() };
        let place = |doing: &str, reason: String| RestoreError::Place {
            path: self.data_dir.path.clone(),
            doing: doing.to_owned(),
            reason,
        };
        self.copied.begin_anew(&identity).map_err(|reason| place("name the copy", reason))?;
        hooks::fail_point("sqlite.restore.copied");
        let kept = self.leaving.keep().map_err(|reason| place("keep the database that is replaced", reason))?;
        self.data_dir.sync().map_err(|error| place("keep the database that is replaced", error.to_string()))?;
        hooks::fail_point("sqlite.restore.kept");
        self.leaving.clear().map_err(|error| place("remove the log of the database that is replaced", error.to_string()))?;
        self.data_dir.sync().map_err(|error| place("remove the log of the database that is replaced", error.to_string()))?;
        hooks::fail_point("sqlite.restore.cleared");
        let database = self.data_dir.database_path();
        self.copied.put_in_place(&database).map_err(|error| place("put the copy in place", error.to_string()))?;
        hooks::fail_point("sqlite.restore.placed");
        let after = "make it last; it is in place, and a loss of power may still take it back";
        self.data_dir.sync().map_err(|error| place(after, error.to_string()))?;
        tracing::info!(path = %database.display(), epoch = identity.epoch, database = identity.store, "the backup is restored");
        Ok(Restored { identity, kept })
    }
}

fn next_epoch(backup: Epoch, present: &Present, asked: Option<Epoch>, database: &Path) -> Result<Epoch, RestoreError> {
    let known = match present {
        Present::Epoch(epoch) => Some(*epoch),
        Present::Unreadable(reason) if asked.is_none() => {
            return Err(RestoreError::EpochUnknown { path: database.to_owned(), reason: reason.clone(), backup });
        }
        Present::None | Present::Unreadable(_) => None,
    };
    let least = known.map_or(backup, |known| known.max(backup)).saturating_add(1);
    let epoch = asked.unwrap_or(least);
    if (least..=EPOCH_MAX).contains(&epoch) {
        return Ok(epoch);
    }
    Err(RestoreError::Epoch { given: epoch, least, backup, present: known })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_epoch_is_greater_than_both() {
        let next =
            |backup, present, asked| next_epoch(backup, &present, asked, Path::new("db")).map_err(|error| error.to_string());
        assert_eq!(next(1, Present::None, None), Ok(2));
        assert_eq!(next(1, Present::Epoch(1), None), Ok(2));
        assert_eq!(next(1, Present::Epoch(7), None), Ok(8));
        assert_eq!(next(7, Present::Epoch(1), None), Ok(8));
        assert_eq!(next(7, Present::Epoch(1), Some(8)), Ok(8));
        assert_eq!(next(1, Present::None, Some(EPOCH_MAX)), Ok(EPOCH_MAX));
        let unreadable = || Present::Unreadable("it is noise".to_owned());
        assert_eq!(next(1, unreadable(), Some(2)), Ok(2));

        let refused = |backup, present, asked| next(backup, present, asked).unwrap_err();
        assert_eq!(
            refused(7, Present::Epoch(9), Some(9)),
            "epoch `9` is not allowed: the backup is of epoch 7, and the database in place of epoch 9; allowed are 10 to \
             9223372036854775807"
        );
        assert!(refused(7, unreadable(), Some(7)).contains("allowed are 8 to "));
        assert!(refused(7, Present::None, Some(EPOCH_MAX + 1)).contains("epoch `9223372036854775808` is not allowed"));
        assert!(refused(EPOCH_MAX, Present::None, None).contains("allowed are 9223372036854775808 to 9223372036854775807"));
        let asks = refused(3, unreadable(), None);
        assert!(
            asks.contains("`db`") && asks.contains("it is noise") && asks.contains("--epoch N") && asks.contains("is 3"),
            "{asks}"
        );
    }
}
