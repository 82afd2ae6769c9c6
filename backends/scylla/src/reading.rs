//! Reading one stream: the strong read, events, request rows. All of it serial: a read finishes what it finds half done.

use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Seq, StreamId};
use tessera_ports::event_store::{CellHash, EventCell, Head, ReadError, RequestRow, StreamRead};

use crate::keyspace::{ANCHOR, Keyspace, Streams, partition};
use crate::open::Scylla;
use crate::row::{EventRow, ReadRow, RequestsRow, StatelessRow, damaged, head_of, request_of, state_of, stored};
use crate::session::one_line;

/// Bytes of cells in one page of events, beyond which it ends early: the next page goes on.
const EVENTS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events in the first question of a page: they may all be big.
const EVENTS_FIRST: usize = 16;
/// Events in one question, at most.
const EVENTS_MAX: usize = 1_000;
/// Request ids in one question: ScyllaDB refuses more than 100 by itself.
const REQUESTS_MAX: usize = 90;

impl Scylla {
    pub(crate) async fn read_events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
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

    pub(crate) async fn read_requests(
        &self,
        stream: &StreamId,
        after: Option<&RequestId>,
        limit: usize,
    ) -> Result<Vec<RequestRow>, ReadError> {
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

    /// All of it at one moment, that of the first serial read of the partition. More request ids than one read can name are looked
    /// up by others after it: request rows stay, so that these find each one there was, and a row that came later has a seq beyond
    /// the head of the first and is left out.
    pub(crate) async fn read_at(
        &self,
        keyspace: &Keyspace,
        stream: &StreamId,
        requests: &[RequestId],
        with_state: bool,
    ) -> Result<StreamRead, ReadError> {
        let (first, others) = requests.split_at_checked(REQUESTS_MAX).unwrap_or((requests, &[]));
        let mut read = self.read_once(keyspace, stream, first, with_state).await?;
        for some in others.chunks(REQUESTS_MAX) {
            let more = self.read_once(keyspace, stream, some, false).await?;
            read.requests.extend(more.requests.into_iter().filter(|request| request.seq <= read.head.seq));
        }
        Ok(read)
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
        let mut counted = 0;
        loop {
            let (events, head) = self.event_rows(streams, stream, last, limit).await?;
            let next = last.saturating_add(events.len() as u64);
            if let Some(head) = head {
                check_end(stream, &events, next, limit, &head)?;
                return Ok(events);
            }
            // Not one event. If the head counted some before this question, they are missing.
            if counted > last {
                return Err(missing(stream, last.saturating_add(1)));
            }
            counted = self.head_seq(streams, stream).await?;
            if counted <= last {
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
