//! Hints: one immutable row per append attempt, written before it, so that a crash between commit and publishing is found.

use async_trait::async_trait;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;

use crate::event_store::ReadError;
use crate::shard::Shard;

/// "This stream may have moved beyond `head`, and perhaps nobody has published it."
///
/// Stream, request id and head name the attempt. A store may count the time as a part of the key: of an attempt that is noted again
/// at another time it has one hint, the first, or one for each time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    /// Which stream.
    pub stream: StreamId,
    /// By which command.
    pub request_id: RequestId,
    /// The head the attempt expected.
    pub head: Seq,
    /// When it was written, by its loader's clock.
    pub at: Timestamp,
}

/// Keeps hints. Hints have no time to live: only their reader removes them.
#[async_trait]
pub trait HintStore: std::fmt::Debug + Send + Sync + 'static {
    /// Writes a hint; the same one again is no error. One that was erased is never put again with its time: a store that
    /// believes the newer of the two may answer `Ok` and not have it. At another time it is another hint.
    async fn put(&self, hint: &Hint) -> Result<(), ReadError>;

    /// Removes a hint as it was put or listed; one that is not there is no error. Whether those of the same attempt at other times go
    /// with it depends on the store; whoever sweeps finds them in a list.
    async fn erase(&self, hint: &Hint) -> Result<(), ReadError>;

    /// Up to `limit` hints of streams in these shards, oldest first as far as the store can tell.
    async fn list(&self, shards: &[Shard], limit: usize) -> Result<Vec<Hint>, ReadError>;
}
