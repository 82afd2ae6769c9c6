//! The event store: the strong read, the append, events.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use scylla::errors::ExecutionError;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::event_store::{
    Append, AppendError, Appended, CellHash, EventCell, EventStore, Head, Question, ReadError, RequestRow, ScanPage, ScanRange,
    StoreIdentity, StreamRead,
};
use tessera_ports::hooks::{self, Guard};

use crate::checksum;
use crate::keyspace::{ANCHOR, CLASS_EVENT, CLASS_REQUEST, Keyspace, Streams, advance_text, partition};
use crate::open::Scylla;
use crate::row::{EventRow, ReadRow, RequestsRow, StatelessRow, damaged, head_of, request_cell, request_of, state_of, stored};
use crate::session::{Consistencies, append_error, one_line};

/// Bytes of cells in one page of events, beyond which it ends early: the next page goes on.
const EVENTS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events in the first question of a page: they may all be big.
const EVENTS_FIRST: usize = 16;
/// Events in one question, at most.
const EVENTS_MAX: usize = 1_000;
/// Bytes of an append: half of what Cassandra takes in one write unless it is told otherwise, several times what loaders append.
const APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Request ids in one question: ScyllaDB refuses more than 100 by itself.
const REQUESTS_MAX: usize = 90;
/// How often a question about more of them is begun anew because the stream moved meanwhile.
const ROUNDS_MAX: usize = 20;

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

    /// So many of them at once as the settings say.
    async fn read_many(&self, questions: Vec<Question>) -> Vec<Result<StreamRead, ReadError>> {
        let asked =
            questions.into_iter().map(|question| async move { self.read(&question.stream, &question.requests, None).await });
        futures::stream::iter(asked).buffered(self.0.config.concurrency).collect().await
    }

    /// So many of them at once as the settings say.
    async fn append_many(&self, appends: &[Arc<Append>]) -> Vec<Result<Appended, AppendError>> {
        let comparisons = Comparisons::now();
        let appends = appends.to_vec();
        let appended = appends.into_iter().map(|append| async move { self.append_one(&append, comparisons).await });
        futures::stream::iter(appended).buffered(self.0.config.concurrency).collect().await
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        let keyspace = self.keyspace();
        let streams = keyspace.streams(stream.kind());
        let (mut events, mut bytes, mut at_once) = (Vec::new(), 0, EVENTS_FIRST);
        while events.len() < limit && bytes < EVENTS_BYTES_MAX {
            let last = after.saturating_add(events.len() as u64);
            let asked = at_once.min(limit.saturating_sub(events.len()));
            let page = self.events_after(streams, stream, last, asked).await?;
            let came = page.len();
            bytes += page.iter().map(|event| event.cell.len()).sum::<usize>();
            events.extend(page);
            if came < asked {
                break;
            }
            at_once = (EVENTS_BYTES_MAX / (bytes / events.len().max(1)).max(1)).clamp(1, EVENTS_MAX);
        }
        Ok(events)
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        let keyspace = self.keyspace();
        let after = after.map_or(ANCHOR, RequestId::as_str);
        let Some(most) = i32::try_from(limit).ok().or(Some(i32::MAX)).filter(|most| *most > 0) else { return Ok(Vec::new()) };
        let values = (partition(stream), after, most);
        let rows = self.rows(&keyspace.streams(stream.kind()).requests, values, self.0.config.read_timeout()).await?;
        let wrong = |why: &dyn std::fmt::Display| damaged(stream, &one_line(why));
        let mut requests = Vec::new();
        for row in rows.rows::<RequestsRow<'_>>().map_err(|error| wrong(&error))? {
            let row = row.map_err(|error| wrong(&error))?;
            requests.extend(request_of(stream, row.request, row.cell)?);
        }
        Ok(requests)
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

// === reading ===

impl Scylla {
    /// All of it at one moment: one serial read of the partition. Of more request ids than one read can name, several reads that
    /// found the same head, since no request row comes without the head moving.
    async fn read_at(
        &self,
        keyspace: &Keyspace,
        stream: &StreamId,
        requests: &[RequestId],
        with_state: bool,
    ) -> Result<StreamRead, ReadError> {
        let (first, others) = requests.split_at_checked(REQUESTS_MAX).unwrap_or((requests, &[]));
        for _ in 0..ROUNDS_MAX {
            let mut read = self.read_once(keyspace, stream, first, with_state).await?;
            let mut moved = false;
            for some in others.chunks(REQUESTS_MAX) {
                let more = self.read_once(keyspace, stream, some, false).await?;
                moved |= more.head != read.head;
                read.requests.extend(more.requests);
            }
            if !moved {
                return Ok(read);
            }
        }
        Err(ReadError::Unavailable(format!("stream `{stream}` moved between reads {ROUNDS_MAX} times")))
    }

    async fn read_once(
        &self,
        keyspace: &Keyspace,
        stream: &StreamId,
        requests: &[RequestId],
        with_state: bool,
    ) -> Result<StreamRead, ReadError> {
        let streams = keyspace.streams(stream.kind());
        let statement = if with_state { &streams.read } else { &streams.read_stateless };
        let ids: Vec<&str> = std::iter::once(ANCHOR).chain(requests.iter().map(RequestId::as_str)).collect();
        let rows = self.rows(statement, (partition(stream), ids), self.0.config.read_timeout()).await?;
        let wrong = |why: &dyn std::fmt::Display| damaged(stream, &one_line(why));
        let mut read = StreamRead { epoch: keyspace.identity.epoch, head: Head::default(), state: None, requests: Vec::new() };
        let mut found = false;
        if with_state {
            for row in rows.rows::<ReadRow<'_>>().map_err(|error| wrong(&error))? {
                let row = row.map_err(|error| wrong(&error))?;
                if let Some(head) = head_of(stream, row.head, row.hash)?.filter(|_| !found) {
                    read.state = Some(state_of(stream, &head, row.state, row.sum)?);
                    (read.head, found) = (head, true);
                }
                read.requests.extend(request_of(stream, row.request, row.cell)?);
            }
        } else {
            for row in rows.rows::<StatelessRow<'_>>().map_err(|error| wrong(&error))? {
                let row = row.map_err(|error| wrong(&error))?;
                if let Some(head) = head_of(stream, row.head, row.hash)? {
                    (read.head, found) = (head, true);
                }
                read.requests.extend(request_of(stream, row.request, row.cell)?);
            }
        }
        if !found && !read.requests.is_empty() {
            return Err(wrong(&"it has requests and no head"));
        }
        Ok(read)
    }

    /// Up to `limit` events after `last`; fewer only at the end of the stream. That nothing is missing there is seen from the head,
    /// which comes with every row.
    async fn events_after(
        &self,
        streams: &Streams,
        stream: &StreamId,
        last: Seq,
        limit: usize,
    ) -> Result<Vec<EventCell>, ReadError> {
        let mut least = 0;
        loop {
            let (events, head) = self.event_rows(streams, stream, last, limit).await?;
            let next = last.saturating_add(events.len() as u64);
            if let Some(head) = head {
                check_end(stream, &events, next, limit, &head)?;
                return Ok(events);
            }
            // Not one event. If the head counted some before this question, they are missing.
            if least > last {
                return Err(missing(stream, last.saturating_add(1)));
            }
            least = self.head_seq(streams, stream).await?;
            if least <= last {
                return Ok(Vec::new());
            }
        }
    }

    async fn event_rows(
        &self,
        streams: &Streams,
        stream: &StreamId,
        last: Seq,
        limit: usize,
    ) -> Result<(Vec<EventCell>, Option<Head>), ReadError> {
        let most = i32::try_from(limit).unwrap_or(i32::MAX).max(1);
        let values = (partition(stream), stored(last), most);
        let rows = self.rows(&streams.events, values, self.0.config.read_timeout()).await?;
        let wrong = |why: &dyn std::fmt::Display| damaged(stream, &one_line(why));
        let (mut events, mut head) = (Vec::new(), None);
        for row in rows.rows::<EventRow<'_>>().map_err(|error| wrong(&error))? {
            let row = row.map_err(|error| wrong(&error))?;
            let expected = last.saturating_add(events.len() as u64).saturating_add(1);
            if Seq::try_from(row.seq) != Ok(expected) {
                return Err(missing(stream, expected));
            }
            let cell = row.cell.ok_or_else(|| wrong(&format_args!("event {expected}: it has no cell")))?;
            events.push(EventCell { seq: expected, cell: Bytes::copy_from_slice(cell) });
            if head.is_none() {
                head = head_of(stream, row.head, row.hash)?;
                head.ok_or_else(|| wrong(&"it has events and no head"))?;
            }
        }
        Ok((events, head))
    }

    /// The seq of the head; 0 without an event.
    async fn head_seq(&self, streams: &Streams, stream: &StreamId) -> Result<Seq, ReadError> {
        let rows = self.rows(&streams.head, (partition(stream),), self.0.config.read_timeout()).await?;
        let row = rows.maybe_first_row::<(Option<i64>,)>().map_err(|error| damaged(stream, &one_line(&error)))?;
        let seq = row.and_then(|(head,)| head).unwrap_or(0);
        Seq::try_from(seq).map_err(|_| damaged(stream, &"its head is no counter"))
    }
}

/// Events that end before they were as many as asked for end at the head, and the last one is the one whose hash it has.
fn check_end(stream: &StreamId, events: &[EventCell], next: Seq, limit: usize, head: &Head) -> Result<(), ReadError> {
    if events.len() < limit && next < head.seq {
        return Err(missing(stream, next.saturating_add(1)));
    }
    match events.last() {
        Some(last) if last.seq == head.seq && CellHash::of(&last.cell) != head.hash => {
            Err(damaged(stream, &format_args!("event {}: it is not the one whose hash the head has", last.seq)))
        }
        Some(last) if last.seq > head.seq => {
            Err(damaged(stream, &format_args!("event {}: the head does not count it", last.seq)))
        }
        _ => Ok(()),
    }
}

fn missing(stream: &StreamId, seq: Seq) -> ReadError {
    damaged(stream, &format_args!("event {seq}: it is missing, though the head counts it"))
}

// === appending ===

/// What of the head is compared; tests take parts away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparisons {
    head: bool,
    hash: bool,
}

impl Comparisons {
    /// Asked for where an append is called: a test takes a guard away for its own thread.
    fn now() -> Self {
        let head = hooks::holds(Guard::AppendComparesHead);
        Self { head, hash: head && hooks::holds(Guard::AppendComparesHash) }
    }

    fn all(self) -> bool {
        self.head && self.hash
    }
}

/// Values of one statement of an append. They are their own, since bytes are cheap to hold twice.
#[derive(Debug)]
enum Values {
    Advance { head: i64, hash: [u8; 32], state: Bytes, sum: i64, key: Arc<str>, expected: Expected },
    Insert { key: Arc<str>, class: i8, request: String, seq: i64, cell: Bytes },
}

/// What the head must be; nothing at all before the first event.
#[derive(Debug, Clone, Copy)]
struct Expected {
    comparisons: Comparisons,
    head: Option<i64>,
    hash: Option<[u8; 32]>,
}

impl SerializeRow for Values {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        match self {
            Self::Advance { head, hash, state, sum, key, expected } => {
                let old = expected.hash.as_ref().map(<[u8; 32]>::as_slice);
                let new = (head, hash.as_slice(), &state[..], sum, &**key);
                match (expected.comparisons.head, expected.comparisons.hash) {
                    (true, true) => (new.0, new.1, new.2, new.3, new.4, expected.head, old).serialize(ctx, writer),
                    (true, false) => (new.0, new.1, new.2, new.3, new.4, expected.head).serialize(ctx, writer),
                    (false, _) => new.serialize(ctx, writer),
                }
            }
            Self::Insert { key, class, request, seq, cell } => {
                (&**key, class, request.as_str(), seq, &cell[..]).serialize(ctx, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl Scylla {
    /// One conditional batch in one partition, sent once.
    async fn append_one(&self, append: &Append, comparisons: Comparisons) -> Result<Appended, AppendError> {
        if append.cells.is_empty() {
            return Err(AppendError::NotAttempted("an append needs at least one event".to_owned()));
        }
        let keyspace = self.keyspace();
        // A keyspace has one epoch for ever.
        if append.epoch != keyspace.identity.epoch {
            return Ok(Appended::Conflict);
        }
        let bytes = append.state.len() + append.cells.iter().map(Bytes::len).sum::<usize>();
        if bytes > APPEND_BYTES_MAX {
            let why = format!("the append has {bytes} bytes; allowed are {APPEND_BYTES_MAX}");
            return Err(AppendError::NotAttempted(why));
        }
        let values = values(append, comparisons);
        let batch = self.batch(&keyspace, append, comparisons, values.len());
        let answer = self.0.session.batch(&batch, values).await;
        self.heard(&answer);
        applied(answer, comparisons)
    }

    fn batch(&self, keyspace: &Keyspace, append: &Append, comparisons: Comparisons, statements: usize) -> Batch {
        let kind = append.stream.kind();
        let streams = keyspace.streams(kind);
        let consistencies = Consistencies::of(self.0.config.datacenters);
        let mut batch = Batch::new(BatchType::Unlogged);
        if comparisons.all() {
            batch.append_statement(streams.advance.clone());
        } else {
            batch.append_statement(advance_text(&keyspace.name, kind, comparisons.head, comparisons.hash).as_str());
        }
        let insert: &PreparedStatement = &streams.insert;
        for _ in 1..statements {
            batch.append_statement(insert.clone());
        }
        batch.set_consistency(consistencies.regular);
        batch.set_serial_consistency(Some(consistencies.conditions));
        batch.set_request_timeout(Some(self.0.config.append_timeout()));
        // Nobody beneath repeats an append: the second time would be a conflict with the first.
        batch.set_is_idempotent(false);
        batch.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
        batch
    }
}

/// The condition first, then every row.
fn values(append: &Append, comparisons: Comparisons) -> Vec<Values> {
    let stream = &append.stream;
    let key: Arc<str> = partition(stream).into();
    let first = append.expected.seq == 0;
    let expected = Expected {
        comparisons,
        head: (!first).then(|| stored(append.expected.seq)),
        hash: (append.expected.hash != CellHash::default()).then_some(append.expected.hash.0),
    };
    let after = append.head_after();
    let mut values = Vec::with_capacity(append.cells.len() + append.requests.len() + 2);
    values.push(Values::Advance {
        head: stored(after.seq),
        hash: after.hash.0,
        state: append.state.clone(),
        sum: checksum::of_stream(stream, &after, &append.state),
        key: Arc::clone(&key),
        expected,
    });
    let insert = |class, request: &str, seq: u64, cell: Bytes| Values::Insert {
        key: Arc::clone(&key),
        class,
        request: request.to_owned(),
        seq: stored(seq),
        cell,
    };
    if first {
        values.push(insert(CLASS_REQUEST, ANCHOR, 0, Bytes::new()));
    }
    for (seq, cell) in (append.expected.seq.saturating_add(1)..).zip(&append.cells) {
        values.push(insert(CLASS_EVENT, "", seq, cell.clone()));
    }
    for row in &append.requests {
        values.push(insert(CLASS_REQUEST, row.id.as_str(), 0, request_cell(stream, row)));
    }
    values
}

/// What the answer says. A row for each statement, or one, or one with more columns than that: only the first column of the first
/// row is the same everywhere.
fn applied(answer: Result<QueryResult, ExecutionError>, comparisons: Comparisons) -> Result<Appended, AppendError> {
    let unclear = |why: &dyn std::fmt::Display| AppendError::Unknown(format!("the answer cannot be read: {}", one_line(why)));
    let result = answer.map_err(|error| append_error(&error))?;
    if !comparisons.head && !result.is_rows() {
        return Ok(Appended::Committed);
    }
    let rows = result.into_rows_result().map_err(|error| unclear(&error))?;
    if rows.column_specs().get_by_index(0).is_none_or(|column| column.name() != "[applied]") {
        return Err(unclear(&"its first column is not `[applied]`"));
    }
    let row = rows.first_row::<Row>().map_err(|error| unclear(&error))?;
    match row.columns.first() {
        Some(Some(CqlValue::Boolean(true))) => Ok(Appended::Committed),
        Some(Some(CqlValue::Boolean(false))) => Ok(Appended::Conflict),
        _ => Err(unclear(&"`[applied]` is neither true nor false")),
    }
}
