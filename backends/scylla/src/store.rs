//! The event store: what is asked goes to `reading`, `appending` and `scan`; many questions at once are bounded here.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::event_store::{
    Append, AppendError, Appended, EventCell, EventStore, Question, ReadError, RequestRow, ScanPage, ScanRange, StoreIdentity,
    StreamRead,
};

use crate::appending::Comparisons;
use crate::open::Scylla;

#[async_trait]
impl EventStore for Scylla {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        self.identify().await
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        let keyspace = self.keyspace();
        if known.is_some() {
            let read = self.read_at(&keyspace, stream, requests, false).await?;
            if known == Some(read.head.seq) {
                return Ok(read);
            }
        }
        self.read_at(&keyspace, stream, requests, true).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.append_one(&append, Comparisons::now()).await
    }

    /// So many of them at once as the settings say. While one takes long the others are asked.
    async fn read_many(&self, questions: Vec<Question>) -> Vec<Result<StreamRead, ReadError>> {
        let asked = questions
            .into_iter()
            .enumerate()
            .map(|(number, question)| async move { (number, self.read(&question.stream, &question.requests, None).await) });
        in_order(futures::stream::iter(asked).buffer_unordered(self.0.config.concurrency).collect().await)
    }

    /// As [`Self::read_many`].
    async fn append_many(&self, appends: &[Arc<Append>]) -> Vec<Result<Appended, AppendError>> {
        let comparisons = Comparisons::now();
        let appends = appends.to_vec();
        let appended = appends.into_iter().enumerate();
        let appended = appended.map(|(number, append)| async move { (number, self.append_one(&append, comparisons).await) });
        in_order(futures::stream::iter(appended).buffer_unordered(self.0.config.concurrency).collect().await)
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        self.read_events(stream, after, limit).await
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        self.read_requests(stream, after, limit).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        Ok(self.ranges(kind))
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        self.scan_page(range, limit).await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.count_streams(kind).await
    }

    async fn heard_of(&self, newer: &StoreIdentity) {
        self.follow(newer).await;
    }

    fn problems(&self) -> Vec<String> {
        self.0.health.problems()
    }

    fn feeds_itself(&self) -> bool {
        false
    }
}

/// What was asked several at a time, in the order in which it was asked.
fn in_order<T>(mut answers: Vec<(usize, T)>) -> Vec<T> {
    answers.sort_unstable_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
