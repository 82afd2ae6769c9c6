//! The local snapshot: the matrix in a file, so that a server that starts need not read every state from the store, and can
//! start at all while the store cannot be reached.
//!
//! It is written beside the serving of checks and the applying of changes, which both go on, so the order of reading is a guard:
//! positions of the feed and parked changes first, then rows, then catalog, plans and add-ons. What the feed brings after the
//! positions were noted is read again from there, and passes the seq gate or does not; what had come before was in the matrix
//! or parked when the first row was copied; and tables that are read after the last row are new enough for every row.
//!
//! - `snapshot/bytes.rs`: the form of the file: blocks with lengths and checksums;
//! - `snapshot/write.rs`: writing one, step by step;
//! - `snapshot/load.rs`: loading one, with all cores;
//! - `snapshot/folder.rs`: two generations in a directory, each written beside and renamed;
//! - `snapshot/memory.rs`: a folder in memory for tests.
//!
//! When one is written and what a server does with the one it finds is the follower's business.

mod bytes;
pub mod folder;
pub(crate) mod load;
#[cfg(feature = "test-hooks")]
pub mod memory;
pub(crate) mod write;

#[cfg(feature = "test-hooks")]
#[cfg(test)]
mod tests;

use tessera_core::stream::Epoch;
use tessera_core::time::Timestamp;
use tessera_ports::change_feed::{Position, Topic};

/// Of the whole file; counts up whenever a file of the version before can no longer be read. Older files are refused by this
/// number: a server whose file is refused reads the store, so that no older form need ever be understood.
pub(crate) const FORMAT: u32 = 1;

/// Whose rows are in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The database or keyspace.
    pub(crate) store: String,
    /// The life of the store.
    pub(crate) epoch: Epoch,
    /// The feed that positions speak of.
    pub(crate) topic: Topic,
    /// How many tenants there were, to set room aside.
    pub(crate) tenants: u64,
}

/// Where the feed stood when the first row had not been copied yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// When that was.
    pub(crate) at: Timestamp,
    /// Where each partition is read on from.
    pub(crate) positions: Vec<Position>,
    /// The newest heartbeat of each partition, but none later than up to when the rows were the newest: a newer state may have
    /// been parked.
    pub(crate) heartbeats: Vec<Option<Timestamp>>,
}

impl Standing {
    /// Up to when the rows are the newest; `None`: nothing is known.
    pub(crate) fn whole_until(&self) -> Option<Timestamp> {
        self.heartbeats.iter().copied().min().flatten()
    }
}

/// Why a file is not used. The words end a sentence that begins with the name of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The disk does not give it.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It does not begin as snapshots do.
    #[error("is not a snapshot of a matrix")]
    NotASnapshot,
    /// Other software wrote it.
    #[error("has format `{given}`; this software reads {FORMAT}")]
    Format {
        /// The number in the file.
        given: u32,
    },
    /// Another version wrote it, which may compile the same state to another row.
    #[error("was written by version `{given}`; this is {ours}, which makes rows of its own")]
    Version {
        /// Version and row format in the file.
        given: String,
        /// Ours.
        ours: String,
    },
    /// It is not whole.
    #[error("ends at byte {at}, before its end mark")]
    Torn {
        /// Its length.
        at: u64,
    },
    /// It is longer than it says.
    #[error("goes on after its end mark at byte {at}")]
    TooLong {
        /// Where it should end.
        at: u64,
    },
    /// What is in it is not what was written.
    #[error("is damaged: {what} at byte {at}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Where the block begins.
        at: u64,
    },
    /// Its checksums are right, and yet it cannot be understood.
    #[error("cannot be understood: {0}")]
    Malformed(String),
    /// It is older than allowed.
    #[error("is {age_s} s old; allowed are {max_s} s (`snapshot_age_max_s`)")]
    TooOld {
        /// Seconds since it was written.
        age_s: u64,
        /// Seconds allowed.
        max_s: u64,
    },
    /// It was written at a time that is yet to come, so that its age cannot be told.
    #[error("was written {ahead_s} s from now, so the clock is wrong now or was wrong then")]
    FromTheFuture {
        /// Seconds.
        ahead_s: u64,
    },
    /// It is of another store, or of another life of this one.
    #[error("is of store `{store}` in epoch {epoch}; the store that was reached is `{reached}` in epoch {reached_epoch}")]
    OfAnotherStore {
        /// In the file.
        store: String,
        /// In the file.
        epoch: Epoch,
        /// The store that answers.
        reached: String,
        /// Its life.
        reached_epoch: Epoch,
    },
}

impl Refusal {
    /// The same in one word, for metrics.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::NotASnapshot | Self::Format { .. } | Self::Version { .. } => "format",
            Self::Torn { .. } | Self::TooLong { .. } => "torn",
            Self::Damaged { .. } | Self::Malformed(_) => "damaged",
            Self::TooOld { .. } | Self::FromTheFuture { .. } => "age",
            Self::OfAnotherStore { .. } => "foreign",
        }
    }
}

/// Which software makes the rows: its version and the format of packed rows.
pub(crate) fn software() -> String {
    format!("{}/{}", env!("CARGO_PKG_VERSION"), tessera_core::evaluator::ROW_FORMAT)
}
