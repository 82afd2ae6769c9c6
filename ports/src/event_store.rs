//! The store: one stream per aggregate, each with its events, its head and its current state.
//!
//! Recipe for an adapter: keep per stream one row `head` (seq, hash of the last cell, state bytes), one row per event (one
//! cell, never split over columns), one row per request id. [`EventStore::append`] is one atomic conditional write in one
//! stream. Never retry an append by yourself; never answer [`Appended`] unless the store said so; when in doubt answer
//! [`AppendError::Unknown`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use sha2::{Digest as _, Sha256};
use tessera_core::ids::RequestId;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};

use crate::change_feed::Change;

/// SHA-256 over an event's stored cell; of no event at all: 32 zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CellHash(pub [u8; 32]);

impl CellHash {
    /// The hash by which the next event names `cell`.
    pub fn of(cell: &[u8]) -> Self {
        Self(Sha256::digest(cell).into())
    }
}

/// SHA-256 over a command's method and body: tells a replay from another command under the same request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandDigest(pub [u8; 32]);

/// Where a stream ends: what an append compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Seq of the last event; 0 before the first. Never falls.
    pub seq: Seq,
    /// Hash of the last event's cell.
    pub hash: CellHash,
}

/// The row `request/<id>` of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// The command's name.
    pub id: RequestId,
    /// Seq of its last event.
    pub seq: Seq,
    /// What it asked for.
    pub digest: CommandDigest,
}

/// What one strong read of a stream returned, all of it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRead {
    /// The life of the store.
    pub epoch: Epoch,
    /// Where the stream ends; [`Head::default`] when it has no event.
    pub head: Head,
    /// The stored state at `head`; `None` before the first event, and when `head.seq` is the seq the caller said it knows.
    pub state: Option<Bytes>,
    /// Those of the asked request ids that are known, in any order.
    pub requests: Vec<RequestRow>,
}

/// What [`EventStore::read`] is asked, as one of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The stream.
    pub stream: StreamId,
    /// Request ids that may be known.
    pub requests: Vec<RequestId>,
}

/// One stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCell {
    /// Its number.
    pub seq: Seq,
    /// Its one stored cell, exactly as it was appended.
    pub cell: Bytes,
}

/// An append: everything in it is written, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Refused as a conflict when the store is in another epoch.
    pub epoch: Epoch,
    /// To which stream.
    pub stream: StreamId,
    /// The condition: seq and hash of the last event, both.
    pub expected: Head,
    /// The new events, one cell each, numbered from `expected.seq + 1`; at least one.
    pub cells: Vec<Bytes>,
    /// The state after them.
    pub state: Bytes,
    /// One row per command of the group.
    pub requests: Vec<RequestRow>,
}

impl Append {
    /// Where the stream ends once this is written.
    pub fn head_after(&self) -> Head {
        let hash = self.cells.last().map_or(self.expected.hash, |cell| CellHash::of(cell));
        Head { seq: self.expected.seq.saturating_add(self.cells.len() as Seq), hash }
    }
}

/// What a store said of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is written and durable.
    Committed,
    /// The condition did not hold: nothing was written by this attempt (an earlier one may be the reason).
    Conflict,
}

/// Why an append has no answer, or was refused before anything happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It may have been written, may be written later, or never: only a strong read can tell.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// Certainly not written: the disk is full. Reads go on.
    #[error("the disk is full")]
    DiskFull,
    /// Certainly not written, and never will be by this attempt.
    #[error("not attempted: {0}")]
    NotAttempted(String),
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store cannot be reached, or did not answer in time: try again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored is not what was written: a human must look.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// Which store this is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreIdentity {
    /// Its life: a restore from a backup begins the next.
    pub epoch: Epoch,
    /// Name of the database or keyspace, unique to it.
    pub store: String,
}

/// A part of all streams of one kind that is scanned by itself; opaque outside its adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScanRange {
    /// The kind of its streams.
    pub kind: StreamKind,
    /// Where it begins, in the adapter's own terms.
    pub from: Bytes,
    /// Where it ends, in the adapter's own terms.
    pub until: Bytes,
}

/// A page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The current states found, in no promised order.
    pub changes: Vec<Change>,
    /// The rest of the range; `None` at its end.
    pub rest: Option<ScanRange>,
}

/// A store of event streams.
#[async_trait]
pub trait EventStore: std::fmt::Debug + Send + Sync + 'static {
    /// Which store this is, now: a restore changes it under running processes.
    async fn identity(&self) -> Result<StoreIdentity, ReadError>;

    /// Strong read of head, state and the rows of `requests`, all of one moment. It sees every append that was answered
    /// before it began, and decides the fate of none that it does not see unless `head` has moved past their condition.
    /// With `known` the state is left out when the head is still at that seq.
    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError>;

    /// Appends, if head and hash are as expected. One attempt, never repeated inside. Request rows are no condition: whoever
    /// appends has looked the ids up in the read that `expected` comes from.
    async fn append(&self, append: Append) -> Result<Appended, AppendError>;

    /// As [`Self::read`] of each, with the state whatever its seq: each answer is of one moment for its own stream, and the
    /// answers come in the order of the questions. A store that answers many at once for less than one by one says how.
    async fn read_many(&self, questions: Vec<Question>) -> Vec<Result<StreamRead, ReadError>> {
        join_all(questions.iter().map(|question| self.read(&question.stream, &question.requests, None))).await
    }

    /// As [`Self::append`] of each, all of them different streams: each is atomic by itself and has an outcome of its own, in the
    /// order of `appends`. A store that makes many durable at once for less than one by one says how.
    async fn append_many(&self, appends: &[Arc<Append>]) -> Vec<Result<Appended, AppendError>> {
        join_all(appends.iter().map(|append| self.append(Append::clone(append)))).await
    }

    /// Events of a stream with a seq above `after`, in order without gaps, at most `limit` of them. A store may end a page early,
    /// so that long events stay within bounds, and only an empty page says that there are no more: whoever wants all of them asks
    /// on until then, or until the seq he knows of. It sees every event that was answered as committed, or that a strong read
    /// counted, before the call.
    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError>;

    /// Request rows of a stream with an id above `after` in byte order, in that order, at most `limit` of them. It sees every row
    /// that was answered as committed, or that a strong read counted, before the call. For whoever moves a stream to another
    /// store: commands look ids up in [`Self::read`].
    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError>;

    /// All streams of a kind, cut into ranges that may be scanned at once and in any order. Every stream that had an event
    /// when this was called is in one of them.
    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError>;

    /// At most `limit` current states from the beginning of `range`; that there are fewer says nothing of the rest. It overlaps
    /// writes: a state answered as committed, or returned by a strong read, before the call is in it or has a newer one in its
    /// place. A state that is damaged is handed on as an empty one, which nobody can use, so that it stops nobody else.
    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError>;

    /// How many streams of a kind there are, roughly: sizes tables.
    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError>;

    /// Told that somebody speaks of a newer store: one that runs over several, as keyspaces are, looks whether it can be reached,
    /// and if so is that store from now on. Others have nothing to do: [`Self::identity`] says which store it is.
    async fn heard_of(&self, _newer: &StoreIdentity) {}

    /// What is wrong with it now, one sentence each, for those who operate it; empty when all is well as far as it knows. A
    /// loader whose store says something here is sent no commands. So a disk that is full is not told here: every write that it
    /// refuses is answered so, and only a write finds out that there is space again.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a committed append is in the feed by the same transaction, so that hints, publisher and sweeper rest.
    fn feeds_itself(&self) -> bool;
}
