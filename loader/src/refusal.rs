//! Why a command or a read has no result: what the caller can do about each is fixed here, gRPC codes elsewhere.

use tessera_core::ids::RequestId;
use tessera_core::rejection::{Rejection, RejectionKind};
use tessera_core::shown::shown;
use tessera_core::stream::StreamId;
use tessera_ports::event_store::ReadError;
use tessera_proto::storage::{READER, StorageError};

/// Why there is no result. Every variant but [`Refusal::OutcomeUnknown`] promises that this call applied nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was decided against.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The request id names another command of the same stream.
    #[error("request id `{0}` was used for another command; allowed is a request id of its own for each command")]
    RequestIdReused(RequestId),
    /// It may have been applied, may still be, or never: ask again with the same request id.
    #[error("the outcome of request `{0}` is not known yet: ask again with the same request id")]
    OutcomeUnknown(RequestId),
    /// The store cannot be reached, or did not answer in time.
    #[error("the store is unavailable: {0}")]
    StoreUnavailable(String),
    /// What is stored is not what was written; a human must look.
    #[error("the store is damaged: {0}")]
    StoreDamaged(String),
    /// A newer release wrote what would have to be read.
    #[error("this needs a reader of version {needed}, this one has version {has}")]
    ReaderTooOld {
        /// The version that is needed.
        needed: u32,
        /// The version of this process.
        has: u32,
    },
    /// The disk is full; reads go on.
    #[error("the disk is full")]
    DiskFull,
    /// Too much is waiting already.
    #[error("too many commands are waiting: {0}")]
    Overloaded(&'static str),
    /// The process is about to stop.
    #[error("the process is draining")]
    Draining,
    /// The time was over when the request arrived.
    #[error("the deadline was over when the request arrived")]
    DeadlineExceeded,
}

impl Refusal {
    /// The etag that came along is not the resource's.
    pub fn etag_mismatch(given: &str, current: Option<&str>) -> Rejection {
        let given = shown(given);
        let message = match current {
            Some(current) => format!("etag `{given}` is not the current one; the resource is at `{current}`"),
            None => format!("etag `{given}` names a version of a resource that does not exist"),
        };
        Rejection::new(RejectionKind::Aborted, "ETAG_MISMATCH", message)
    }

    /// The state that a command would make does not fit.
    pub fn state_too_large(len: usize, len_max: usize) -> Rejection {
        let message = format!("the stored state would have {len} bytes; allowed are at most {len_max}");
        Rejection::precondition("STATE_TOO_LARGE", message)
    }

    /// What is stored in `stream` does not decode.
    pub fn undecodable(stream: &StreamId, error: &StorageError) -> Self {
        match error {
            StorageError::ReaderTooOld { needs } => Self::ReaderTooOld { needed: *needs, has: READER },
            other => Self::StoreDamaged(format!("stream `{stream}`: {other}")),
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(why) => Self::StoreUnavailable(why),
            ReadError::Damaged(why) => Self::StoreDamaged(why),
        }
    }
}
