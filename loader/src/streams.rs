//! Reading streams of one aggregate: strong reads, with what was decoded once kept by (stream, seq), and folds of events.
//!
//! The cache only saves decoding: whether a cached state is the current one is said by the store at every read, never by
//! the cache.

mod cache;

use std::sync::Arc;

use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::EventStore;
use tessera_ports::event_store::{CellHash, Question, ReadError, RequestRow, StreamRead};
use tessera_proto::storage::{self, StoredEvent};
use tokio::sync::Semaphore;

use self::cache::Cache;
use crate::aggregate::{Handled, Snapshot};
use crate::refusal::Refusal;

/// How many events one read of a fold asks for.
const EVENTS_PER_READ: usize = 500;

/// The streams of one aggregate.
#[derive(Debug)]
pub struct Streams<A> {
    store: Arc<dyn EventStore>,
    cache: Cache<A>,
}

/// The events of a stream, folded up to somewhere.
#[derive(Debug, Clone)]
pub struct Folded<A: Handled> {
    /// Seq of the last event folded; 0 when there was none.
    pub seq: Seq,
    /// The state after it.
    pub state: A,
    /// The last event itself.
    pub last: Option<StoredEvent<A::Event>>,
    /// Hash of its cell.
    pub hash: CellHash,
}

/// Before the first event.
impl<A: Handled> Default for Folded<A> {
    fn default() -> Self {
        Self { seq: 0, state: A::default(), last: None, hash: CellHash::default() }
    }
}

/// Where a fold ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After the event with this seq.
    Seq(Seq),
    /// After the last event at or before this time, and not before this seq.
    TimeAndSeq(Timestamp, Seq),
}

/// A read with its state, decoded.
fn snapshot_of<A: Handled>(stream: &StreamId, read: StreamRead) -> Result<(Snapshot<A>, Vec<RequestRow>), Refusal> {
    if read.head.seq == 0 {
        return Ok((Snapshot::empty(read.epoch), read.requests));
    }
    let bytes = read
        .state
        .ok_or_else(|| Refusal::StoreDamaged(format!("stream `{stream}` is at seq {} and has no state", read.head.seq)))?;
    let decoded = storage::decode_state::<A>(&bytes);
    let (state, last_event_at) = decoded.map_err(|error| Refusal::undecodable(stream, &error))?;
    let snapshot = Snapshot { epoch: read.epoch, head: read.head, last_event_at, state: Arc::new(state), bytes };
    Ok((snapshot, read.requests))
}

impl<A: Handled> Streams<A> {
    /// Streams in `store`, with at most `cache_bytes` of stored states kept decoded.
    pub fn new(store: Arc<dyn EventStore>, cache_bytes: usize) -> Self {
        Self { store, cache: Cache::new(cache_bytes) }
    }

    /// The store they are in.
    pub fn store(&self) -> &Arc<dyn EventStore> {
        &self.store
    }

    /// One strong read: the stream as it is, and those of `requests` that are known, all of one moment.
    pub async fn read(&self, stream: &StreamId, requests: &[RequestId]) -> Result<(Snapshot<A>, Vec<RequestRow>), Refusal> {
        let known = self.cache.get(stream);
        let seq = known.as_ref().map(|snapshot| snapshot.head.seq);
        let mut read = self.store.read(stream, requests, seq).await?;
        if read.head.seq == 0 {
            return Ok((Snapshot::empty(read.epoch), read.requests));
        }
        if read.state.is_none() {
            // Equal seqs are the same event only within one epoch.
            if let Some(snapshot) = known
                && snapshot.epoch == read.epoch
                && snapshot.head == read.head
            {
                return Ok((snapshot, read.requests));
            }
            read = self.store.read(stream, requests, None).await?;
        }
        let read = snapshot_of(stream, read)?;
        self.remember(stream, &read.0);
        Ok(read)
    }

    /// As [`Self::read`] of each, in the order of the questions. Nothing is kept: whoever reads many hardly comes back.
    pub async fn read_many(&self, questions: Vec<Question>) -> Vec<Result<(Snapshot<A>, Vec<RequestRow>), Refusal>> {
        let streams: Vec<StreamId> = questions.iter().map(|question| question.stream.clone()).collect();
        let reads = self.store.read_many(questions).await;
        let unborn = Arc::new(A::default());
        let snapshot = |(stream, read): (_, Result<StreamRead, ReadError>)| match read? {
            read if read.head.seq == 0 => Ok((Snapshot::unborn(read.epoch, Arc::clone(&unborn)), read.requests)),
            read => snapshot_of(stream, read),
        };
        streams.iter().zip(reads).map(snapshot).collect()
    }

    /// Keeps what was read or committed.
    pub fn remember(&self, stream: &StreamId, snapshot: &Snapshot<A>) {
        self.cache.put(stream, snapshot);
    }

    /// The event with that seq.
    pub async fn event(&self, stream: &StreamId, seq: Seq) -> Result<StoredEvent<A::Event>, Refusal> {
        let cells = self.store.events(stream, seq.saturating_sub(1), 1).await?;
        let cell = cells.into_iter().next().filter(|cell| cell.seq == seq);
        let cell = cell.ok_or_else(|| Refusal::StoreUnavailable(format!("event {seq} of `{stream}` is not there yet")))?;
        storage::decode_event::<A>(&cell.cell).map_err(|error| Refusal::undecodable(stream, &error))
    }

    /// Folds the events of a stream from the first on, each read in its turn. Cells are taken as they are: their chain is the
    /// verifier's business.
    pub async fn fold(&self, turns: &Semaphore, stream: &StreamId, until: Until) -> Result<Folded<A>, Refusal> {
        let mut folded = Folded::default();
        loop {
            let _turn = turns.acquire().await;
            if self.fold_on(stream, until, &mut folded).await? {
                return Ok(folded);
            }
        }
    }

    /// Folds what one read returns more; whether that was the end.
    async fn fold_on(&self, stream: &StreamId, until: Until, folded: &mut Folded<A>) -> Result<bool, Refusal> {
        if matches!(until, Until::Seq(seq) if folded.seq >= seq) {
            return Ok(true);
        }
        let cells = self.store.events(stream, folded.seq, EVENTS_PER_READ).await?;
        if cells.is_empty() {
            return Ok(true);
        }
        for cell in cells {
            let decoded = storage::decode_event::<A>(&cell.cell);
            let entry = decoded.map_err(|error| Refusal::undecodable(stream, &error))?;
            let beyond = match until {
                Until::Seq(seq) => cell.seq > seq,
                Until::TimeAndSeq(at, seq) => entry.recorded.at > at && cell.seq > seq,
            };
            if beyond {
                return Ok(true);
            }
            folded.seq = cell.seq;
            folded.state = std::mem::take(&mut folded.state).evolve(&entry.recorded);
            folded.last = Some(entry);
            folded.hash = CellHash::of(&cell.cell);
        }
        Ok(false)
    }
}
