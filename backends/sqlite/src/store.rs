//! The event store.

use std::sync::Arc;

use async_trait::async_trait;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_ports::event_store::{
    Append, AppendError, Appended, CommandDigest, EventCell, EventStore, Head, Question, ReadError, RequestRow, ScanPage,
    ScanRange, StoreIdentity, StreamRead,
};
use tessera_ports::hooks::{self, Guard};

use crate::checksum;
use crate::error::Trouble;
use crate::open::Sqlite;
use crate::readers::Reading;
use crate::row::{StreamRow, event, restored, stored, stream_columns};
use crate::scan;
use crate::writer::{Appending, Comparisons, Done, Failure, Work};

/// Bytes of cells in one page of events, beyond which it ends early: the next page goes on.
const EVENTS_BYTES_MAX: usize = 8 * 1024 * 1024;

#[async_trait]
impl EventStore for Sqlite {
    async fn identity(&self) -> Result<StoreIdentity, ReadError> {
        Ok(self.0.identity.clone())
    }

    async fn read(&self, stream: &StreamId, requests: &[RequestId], known: Option<Seq>) -> Result<StreamRead, ReadError> {
        let (stream, requests, epoch) = (stream.clone(), requests.to_vec(), self.0.identity.epoch);
        self.0.readers.read(move |reading| read_stream(reading, epoch, &stream, &requests, known)).await
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let appending = self.admit(&Arc::new(append), comparisons())?;
        match appending {
            Some(appending) => appended(self.0.writer.write(Work::Append(appending)).await),
            None => Ok(Appended::Conflict),
        }
    }

    /// One read transaction for all of them.
    async fn read_many(&self, questions: Vec<Question>) -> Vec<Result<StreamRead, ReadError>> {
        let (count, epoch) = (questions.len(), self.0.identity.epoch);
        let read = self.0.readers.read(move |reading| {
            let answers = questions.iter().map(|question| {
                match read_stream(reading, epoch, &question.stream, &question.requests, None) {
                    // Of this stream alone.
                    Err(Trouble::Damaged(damage)) => Ok(Err(Trouble::Damaged(damage))),
                    Err(trouble) => Err(trouble),
                    Ok(read) => Ok(Ok(read)),
                }
            });
            answers.collect::<Result<Vec<_>, Trouble>>()
        });
        match read.await {
            Ok(answers) => answers.into_iter().map(|read| read.map_err(|trouble| self.0.readers.error(trouble))).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    /// One transaction for all of them.
    async fn append_many(&self, appends: &[Arc<Append>]) -> Vec<Result<Appended, AppendError>> {
        let comparisons = comparisons();
        let admitted: Vec<_> = appends.iter().map(|append| self.admit(append, comparisons)).collect();
        let mut outcomes = Vec::with_capacity(appends.len());
        let mut works = Vec::with_capacity(appends.len());
        for admitted in admitted {
            outcomes.push(match admitted {
                Ok(Some(appending)) => {
                    works.push(Work::Append(appending));
                    None
                }
                Ok(None) => Some(Ok(Appended::Conflict)),
                Err(error) => Some(Err(error)),
            });
        }
        let mut written = self.0.writer.write_many(works).await.into_iter();
        let unanswered = || Err(AppendError::Unknown("the writing thread gave no answer".to_owned()));
        let outcome = |known: Option<_>| known.unwrap_or_else(|| written.next().map_or_else(unanswered, appended));
        outcomes.into_iter().map(outcome).collect()
    }

    async fn events(&self, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, ReadError> {
        let stream = stream.clone();
        self.0.readers.read(move |reading| read_events(reading, &stream, after, limit)).await
    }

    async fn requests(&self, stream: &StreamId, after: Option<&RequestId>, limit: usize) -> Result<Vec<RequestRow>, ReadError> {
        let (stream, after) = (stream.clone(), after.cloned());
        self.0.readers.read(move |reading| read_requests(reading, &stream, after.as_ref(), limit)).await
    }

    async fn scan_ranges(&self, kind: StreamKind) -> Result<Vec<ScanRange>, ReadError> {
        self.0.readers.read(move |connection| scan::ranges(connection, kind)).await
    }

    async fn scan(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        self.0.verdict.wait().await.map_err(|damage| ReadError::Unavailable(damage.to_string()))?;
        let (range, epoch, told) = (range.clone(), self.0.identity.epoch, self.0.told.clone());
        self.0.readers.read(move |connection| scan::page(connection, epoch, &range, limit, &told)).await
    }

    async fn count(&self, kind: StreamKind) -> Result<u64, ReadError> {
        self.0.readers.read(move |connection| scan::count(connection, kind)).await
    }

    fn problems(&self) -> Vec<String> {
        self.0.verdict.problem().iter().map(ToString::to_string).collect()
    }

    fn feeds_itself(&self) -> bool {
        true
    }
}

impl Sqlite {
    /// What is to be written; `None` for an append of another life of the store, which is a conflict.
    fn admit(&self, append: &Arc<Append>, comparisons: Comparisons) -> Result<Option<Appending>, AppendError> {
        if append.cells.is_empty() {
            return Err(AppendError::NotAttempted("an append needs at least one event".to_owned()));
        }
        let same_life = append.epoch == self.0.identity.epoch;
        Ok(same_life.then(|| Appending::new(Arc::clone(append), comparisons)))
    }
}

/// Asked for where an append is called: a test takes a guard away for its own thread.
fn comparisons() -> Comparisons {
    let head = hooks::holds(Guard::AppendComparesHead);
    Comparisons { head, hash: head && hooks::holds(Guard::AppendComparesHash) }
}

fn appended(outcome: Result<Done, Failure>) -> Result<Appended, AppendError> {
    match outcome {
        Ok(Done::Written) => Ok(Appended::Committed),
        Ok(Done::Conflict) => Ok(Appended::Conflict),
        Ok(Done::Refused(why)) | Err(Failure::NotAttempted(why)) => Err(AppendError::NotAttempted(why)),
        Err(Failure::DiskFull) => Err(AppendError::DiskFull),
        Err(Failure::Unknown(why)) => Err(AppendError::Unknown(why)),
    }
}

fn find(reading: &Reading<'_>, stream: &StreamId) -> Result<Option<StreamRow>, Trouble> {
    let mut select =
        reading.prepare_cached(concat!("SELECT ", stream_columns!(), " FROM stream s WHERE s.kind = ?1 AND s.key = ?2"))?;
    let mut rows = select.query((stream.kind() as u8, stream.key()))?;
    rows.next()?.map(|row| reading.with_end(StreamRow::read(row, 0)?)).transpose()
}

fn read_stream(
    reading: &Reading<'_>,
    epoch: Epoch,
    stream: &StreamId,
    requests: &[RequestId],
    known: Option<Seq>,
) -> Result<StreamRead, Trouble> {
    let Some(found) = find(reading, stream)? else {
        return Ok(StreamRead { epoch, head: Head::default(), state: None, requests: Vec::new() });
    };
    let mut rows = Vec::new();
    for id in requests {
        rows.extend(read_request(reading, &found, id)?);
    }
    let state = (known != Some(found.head.seq)).then_some(found.state);
    Ok(StreamRead { epoch, head: found.head, state, requests: rows })
}

fn read_requests(
    reading: &Reading<'_>,
    stream: &StreamId,
    after: Option<&RequestId>,
    limit: usize,
) -> Result<Vec<RequestRow>, Trouble> {
    let Some(found) = find(reading, stream)? else { return Ok(Vec::new()) };
    let mut select = reading.prepare_cached("SELECT id FROM request WHERE stream = ?1 AND id > ?2 ORDER BY id LIMIT ?3")?;
    let after = after.map_or("", RequestId::as_str);
    let mut rows = select.query((found.number, after, stored(limit as u64)))?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next()? {
        let id = RequestId::parse(row.get_ref(0)?.as_str().unwrap_or_default());
        let id = id.map_err(|error| Trouble::Damaged(format!("stream `{stream}`, a request id: {error}")))?;
        requests.extend(read_request(reading, &found, &id)?);
    }
    Ok(requests)
}

fn read_request(reading: &Reading<'_>, stream: &StreamRow, id: &RequestId) -> Result<Option<RequestRow>, Trouble> {
    let mut select = reading.prepare_cached("SELECT seq, digest, sum FROM request WHERE stream = ?1 AND id = ?2")?;
    let mut rows = select.query((stream.number, id.as_str()))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let damaged = |why: &str| Trouble::Damaged(format!("stream `{}`, request `{id}`: {why}", stream.id));
    let digest = row.get_ref(1)?.as_blob().ok().and_then(|digest| digest.try_into().ok());
    let digest = CommandDigest(digest.ok_or_else(|| damaged("its digest is not one"))?);
    let request = RequestRow { id: id.clone(), seq: restored(row.get(0)?)?, digest };
    if checksum::of_request(stream.number, &request) != row.get::<_, i64>(2)? {
        return Err(damaged("the row does not match its checksum"));
    }
    Ok(Some(request))
}

fn read_events(reading: &Reading<'_>, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<EventCell>, Trouble> {
    let Some(found) = find(reading, stream)? else { return Ok(Vec::new()) };
    let mut select =
        reading.prepare_cached("SELECT seq, cell, sum FROM event WHERE stream = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")?;
    let mut rows = select.query((found.number, stored(after), stored(limit as u64)))?;
    let mut events: Vec<EventCell> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let event = event(row, found.number, stream)?;
        check_next(stream, after.saturating_add(events.len() as u64), event.seq)?;
        bytes += event.cell.len();
        events.push(event);
        if bytes >= EVENTS_BYTES_MAX {
            return Ok(events);
        }
    }
    let last = after.saturating_add(events.len() as u64);
    if events.len() < limit && last < found.head.seq {
        check_next(stream, last, found.head.seq.saturating_add(1))?;
    }
    Ok(events)
}

fn check_next(stream: &StreamId, before: Seq, seq: Seq) -> Result<(), Trouble> {
    let expected = before.saturating_add(1);
    if seq == expected {
        return Ok(());
    }
    Err(Trouble::Damaged(format!("stream `{stream}`, event {expected}: it is missing, though the head counts it")))
}
