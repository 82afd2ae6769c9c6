//! Hints in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;

use super::store::MemoryStore;
use super::store_faults::Operation;
use crate::event_store::ReadError;
use crate::hint_store::{Hint, HintStore};
use crate::shard::Shard;

/// By key: stream, request id, expected head.
#[derive(Debug, Default)]
pub(super) struct Hints(BTreeMap<(StreamId, RequestId, Seq), Timestamp>);

fn key(hint: &Hint) -> (StreamId, RequestId, Seq) {
    (hint.stream.clone(), hint.request_id.clone(), hint.head)
}

#[async_trait]
impl HintStore for MemoryStore {
    async fn put(&self, hint: &Hint) -> Result<(), ReadError> {
        self.operate(Operation::PutHint, |inner| {
            inner.hints.0.entry(key(hint)).or_insert(hint.at);
            Ok(())
        })
        .await
    }

    async fn erase(&self, hint: &Hint) -> Result<(), ReadError> {
        self.operate(Operation::EraseHint, |inner| {
            inner.hints.0.remove(&key(hint));
            Ok(())
        })
        .await
    }

    async fn list(&self, shards: &[Shard], limit: usize) -> Result<Vec<Hint>, ReadError> {
        self.operate(Operation::ListHints, |inner| {
            let mut hints: Vec<Hint> = (inner.hints.0.iter())
                .filter(|((stream, ..), _)| shards.contains(&Shard::of(stream)))
                .map(|((stream, request_id, head), at)| Hint {
                    stream: stream.clone(),
                    request_id: request_id.clone(),
                    head: *head,
                    at: *at,
                })
                .collect();
            hints.sort_by_key(|hint| hint.at);
            hints.truncate(limit);
            Ok(hints)
        })
        .await
    }
}
