//! Events for others: everything that happened, told to whoever wants to know.
//!
//! Servers do not need it, and nothing here feeds them: that is the [feed of changes](crate::change_feed). Events are told at
//! least once and name streams by their ids alone; what was written in a stream stays in it.

use async_trait::async_trait;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;

use crate::change_feed::FeedError;

/// What others are told of one stored event. Store, stream and seq name it: who has seen it drops it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicEvent {
    /// Name of the store: after a restore equal seqs are other events.
    pub store: String,
    /// In which stream it happened.
    pub stream: StreamId,
    /// Its number there; 1 or more.
    pub seq: Seq,
    /// What happened, in snake case: `created`, `plan_changed`. Of an event that cannot be read [`UNKNOWN`].
    pub kind: String,
    /// When it happened; `None` of an event that does not even say that.
    pub at: Option<Timestamp>,
}

/// The kind of an event that this software cannot read: told all the same, so that nobody misses a seq.
pub const UNKNOWN: &str = "unknown";

/// Tells others of events.
#[async_trait]
pub trait EventPublisher: std::fmt::Debug + Send + Sync + 'static {
    /// Publishes events, those of one stream in the order in which they are given; `Ok` when every one of them is where others can
    /// read it. After an error any part of them may be.
    async fn publish(&self, events: &[PublicEvent]) -> Result<(), FeedError>;

    /// What is wrong with it now, one sentence each, for those who operate it; empty when all is well as far as it knows.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}
