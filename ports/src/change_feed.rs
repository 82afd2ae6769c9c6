//! The feed of changes: what loaders publish and servers follow.
//!
//! Per stream the records stand in one partition. Nothing else is promised of order or number: whoever applies them gates
//! by seq. A record that is not what a loader wrote is handed on as [`FeedMessage::Bad`], never skipped in silence.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tessera_core::stream::{Epoch, Seq, StreamId};
use tessera_core::time::Timestamp;

/// The whole current state of one stream at a seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The life of the store it was read from.
    pub epoch: Epoch,
    /// Which stream.
    pub stream: StreamId,
    /// At which seq; 1 or more.
    pub seq: Seq,
    /// The stored state, as `tessera-proto` encodes it. Empty, which no state is, when a store found that what it has is not
    /// what was written: whoever decodes it refuses it as any change that is bad, and the others flow.
    pub state: Bytes,
}

/// "Everything committed before `at`, in the streams of the shards that stand in this partition where there are `partitions` of
/// them, is published." It says nothing to whoever knows the feed with another number of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The life of the store.
    pub epoch: Epoch,
    /// Name of the store, so that a running server finds a restored one.
    pub store: String,
    /// The instant it speaks of, by the publisher's clock.
    pub at: Timestamp,
    /// How many partitions the feed had for the publisher; 1 or more.
    pub partitions: u32,
}

/// Where a partition is read on from: the position after the last record seen.
pub type Position = u64;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedMessage {
    /// A change.
    Change(Change),
    /// A heartbeat of this partition.
    Heartbeat(Heartbeat),
    /// Not a record that a loader wrote; why.
    Bad(String),
}

/// Which topic a feed reads; positions of another one mean nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Unique to the topic and the number of its partitions: one made again under the same name has another, and so has one that
    /// was given more partitions. Positions of all partitions are noted with it.
    pub id: String,
    /// How many partitions it has; 1 or more.
    pub partitions: u32,
}

/// What was read of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedBatch {
    /// Records in order; empty when nothing came in time.
    pub messages: Vec<FeedMessage>,
    /// Where to read on.
    pub next: Position,
}

/// Why the feed has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// It cannot be reached: try again.
    #[error("the feed is unavailable: {0}")]
    Unavailable(String),
    /// The position is not in the log (any more), or belongs to another topic: hydrate again, never jump.
    #[error("position {position} of partition {partition} is not in the feed")]
    OutOfRange {
        /// Which partition.
        partition: u32,
        /// Which position.
        position: Position,
    },
}

/// The reading side of the feed. Readers keep their own positions; there are no groups and no commits.
#[async_trait]
pub trait ChangeFeed: std::fmt::Debug + Send + Sync + 'static {
    /// The topic as it is now.
    async fn topic(&self) -> Result<Topic, FeedError>;

    /// The position after the last record of every partition, by partition number.
    async fn ends(&self) -> Result<Vec<Position>, FeedError>;

    /// Up to `limit` records from `from` on, waiting at most `wait` for the first. `topic` is the [`Topic::id`] the position
    /// was noted in.
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError>;

    /// What is wrong with it now, one sentence each, for those who operate it; empty when all is well as far as it knows.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The writing side of the feed.
#[async_trait]
pub trait ChangePublisher: std::fmt::Debug + Send + Sync + 'static {
    /// Publishes changes; `Ok` when every one of them is in the feed. After an error any part of them may be.
    async fn publish(&self, changes: &[Change]) -> Result<(), FeedError>;

    /// How many partitions the feed has now; 1 or more. Streams are published where their [`Shard`](crate::Shard) says.
    async fn partitions(&self) -> Result<u32, FeedError>;

    /// Publishes a heartbeat to these partitions, after everything this publisher has published before.
    async fn beat(&self, partitions: &[u32], heartbeat: &Heartbeat) -> Result<(), FeedError>;

    /// What is wrong with it now, one sentence each, for those who operate it; empty when all is well as far as it knows.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}
