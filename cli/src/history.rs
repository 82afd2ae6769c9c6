//! A whole store as lines of JSON: every stream with its events, the request ids it knows and its state, so that another store can
//! become what this one is. Cells and states are the stored bytes, in base64, and mean nothing here.
//!
//! The first line says which store it was, then come the streams (those that others name before those that name them), each in one or
//! more parts of consecutive events, and the last line has the digest of the whole: without it, or with another one, what was read is
//! not what was written.
//!
//! An import writes the first stream, alone and to its end, before any other: a store that has others without it is another one, and
//! nothing is written into it. It writes as a loader does: a hint, the append, the change into the feed, and then the hint goes. So whoever follows the
//! store hears of every stream, and no heartbeat says that one is published which is not. As many streams have hints at a time as
//! are written at a time: those of an import that broke off hold up no loader for long.

use std::collections::VecDeque;
use std::io::{BufRead, Write};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{self, TryStreamExt as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tessera_core::digest::{StateDigest, state_checksum};
use tessera_core::ids::RequestId;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::{Append, AppendError, Appended, CommandDigest, EventStore, Head, RequestRow};
use tessera_ports::hint_store::Hint;
use tessera_ports::{ChangePublisher, Clock, HintStore};

/// Changes whenever older software could not read what is written here.
const FORMAT: u32 = 1;
/// Most events of one part, which is one append, and the bytes from which it ends early: far below what any store takes at once.
const PART_EVENTS_MAX: usize = 64;
const PART_BYTES_MAX: usize = 256 * 1024;
/// Rows of one page of request ids.
const REQUESTS_PAGE: usize = 1_000;
/// Streams of one page of the scan.
const STREAMS_PAGE: usize = 64;
/// Streams that are written at a time.
const STREAMS_AT_ONCE: usize = 32;
/// How often an append whose outcome is unknown is looked after.
const ATTEMPTS_MAX: u32 = 20;
/// The request id of hints. An append may be of many commands, or the middle of one; with stream and head it is a key all the same.
const HINT_ID: &str = "import --history";

/// Bytes, in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Encoded(Bytes);

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(&text).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Begin { format: u32, store: String, epoch: Epoch },
    Part(Part),
    End { streams: Value, digest: Value },
}

/// Consecutive events of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    kind: String,
    key: String,
    /// Seq of the event before the first.
    after: Seq,
    cells: Vec<Encoded>,
    /// Request rows of these events.
    requests: Vec<Request>,
    /// The stream's state at its end: that of the last part. A stream is whole when all its parts are written.
    state: Encoded,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    id: String,
    seq: Seq,
    digest: Encoded,
}

/// What was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Streams.
    pub streams: u64,
    /// Events.
    pub events: u64,
    /// Request ids.
    pub requests: u64,
}

/// Where a history goes, and how those hear of it who follow that store.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The store.
    pub store: &'a dyn EventStore,
    /// Its hints.
    pub hints: &'a dyn HintStore,
    /// Its feed.
    pub publisher: &'a dyn ChangePublisher,
    /// The time, for hints.
    pub clock: &'a dyn Clock,
}

/// Writes everything that the store has. Nobody may write to the store meanwhile: it ends with an error where the store is not at
/// its end what was written, since no import could make that of it.
pub async fn export(store: &dyn EventStore, out: &mut dyn Write, tell: impl Fn(u64)) -> anyhow::Result<Moved> {
    let identity = store.identity().await?;
    put(out, &Line::Begin { format: FORMAT, store: identity.store, epoch: identity.epoch })?;
    let (mut moved, mut written) = (Moved::default(), StateDigest::default());
    for kind in StreamKind::ALL {
        for range in store.scan_ranges(kind).await? {
            let mut rest = Some(range);
            while let Some(range) = rest {
                let page = store.scan(&range, STREAMS_PAGE).await?;
                for change in page.changes {
                    let stream = change.stream;
                    ensure!(!change.state.is_empty(), "stream `{stream}` is damaged");
                    export_stream(store, out, &stream, change.seq, &change.state, &mut moved).await?;
                    written.add(kind, stream.key().as_bytes(), change.seq, state_checksum(&change.state));
                    tell(moved.streams);
                }
                rest = page.rest;
            }
        }
    }
    let found = digest_of(store).await?;
    let written = parts(tessera_runtime::digest::shown(identity.epoch, &written));
    ensure!(
        written == found,
        "somebody wrote to the store meanwhile, so this is not the history of one moment; export again while nobody writes: with \
         `tessera dev`, or all loaders, stopped"
    );
    let (streams, digest) = written;
    put(out, &Line::End { streams, digest })?;
    out.flush().context("write the history")?;
    Ok(moved)
}

async fn export_stream(
    store: &dyn EventStore,
    out: &mut dyn Write,
    stream: &StreamId,
    seq: Seq,
    state: &Bytes,
    moved: &mut Moved,
) -> anyhow::Result<()> {
    let mut requests = request_rows(store, stream).await?;
    let mut after = 0;
    while after < seq {
        let mut events = store.events(stream, after, PART_EVENTS_MAX).await?;
        let mut bytes = 0;
        let fitting = events.iter().take_while(|event| {
            let fits = bytes < PART_BYTES_MAX;
            bytes += event.cell.len();
            fits
        });
        let count = fitting.count();
        events.truncate(count);
        let last = events.last().map_or(after, |event| event.seq);
        ensure!(
            last > after && last <= seq,
            "stream `{stream}` has events up to {last} and a state at {seq}: is somebody writing?"
        );
        let rows = std::iter::from_fn(|| requests.pop_front_if(|row| row.seq <= last));
        let rows: Vec<Request> = rows.map(|row| Request::of(&row)).collect();
        moved.events += events.len() as u64;
        moved.requests += rows.len() as u64;
        let cells = events.into_iter().map(|event| Encoded(event.cell)).collect();
        let (kind, key, state) = (stream.kind().name().to_owned(), stream.key().to_owned(), Encoded(state.clone()));
        put(out, &Line::Part(Part { kind, key, after, cells, requests: rows, state }))?;
        after = last;
    }
    ensure!(requests.is_empty(), "stream `{stream}` knows requests beyond its end at {seq}: is somebody writing?");
    moved.streams += 1;
    Ok(())
}

/// By seq.
async fn request_rows(store: &dyn EventStore, stream: &StreamId) -> anyhow::Result<VecDeque<RequestRow>> {
    let mut rows: Vec<RequestRow> = Vec::new();
    loop {
        let page = store.requests(stream, rows.last().map(|row| &row.id), REQUESTS_PAGE).await?;
        if page.is_empty() {
            break;
        }
        rows.extend(page);
    }
    rows.sort_by_key(|row| row.seq);
    Ok(rows.into())
}

async fn digest_of(store: &dyn EventStore) -> anyhow::Result<(Value, Value)> {
    Ok(parts(tessera_runtime::digest::of_store(store).await?))
}

/// What is compared of a digest: the counts and the digest itself.
fn parts(mut digest: Value) -> (Value, Value) {
    let mut part = |name: &str| digest.get_mut(name).map(Value::take).unwrap_or_default();
    (part("streams"), part("digest"))
}

fn put(out: &mut dyn Write, line: &Line) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, line).context("write the history")?;
    out.write_all(b"\n").context("write the history")
}

/// A history of which the first line was read.
#[derive(Debug)]
pub struct History<R> {
    store: String,
    epoch: Epoch,
    reader: Reader<std::io::Lines<R>>,
}

impl<R: BufRead> History<R> {
    /// Reads the first line.
    pub fn begin(lines: R) -> anyhow::Result<Self> {
        let mut reader = Reader { lines: lines.lines(), number: 0, ahead: None };
        match reader.next()? {
            Some(Line::Begin { format: FORMAT, epoch, store }) => Ok(Self { store, epoch, reader }),
            Some(Line::Begin { format, .. }) => bail!("the history has format {format}; this software reads format {FORMAT}"),
            _ => bail!("this is no history: it does not begin as `tessera export --history` does"),
        }
    }

    /// The epoch of the store that was exported: the least in which another store can become what it was.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Makes the store what was exported. What of it is there already, from a try that broke off, is left: it was published, or has its
/// hint. Anything else in the store is an error, since it would not be the same store any more. Other streams beside a first one
/// that is the same are found at the end only, when the rest is written.
pub async fn import<R: BufRead>(target: Target<'_>, history: History<R>, tell: impl Fn(u64)) -> anyhow::Result<Moved> {
    let History { store, epoch: theirs, mut reader } = history;
    let epoch = target.store.identity().await?.epoch;
    ensure!(
        epoch >= theirs,
        "the history is of epoch {theirs} (store `{store}`), and the store is in epoch {epoch}; allowed is a later one or the same: \
         name a data directory that is not there yet, which is made in that of the history, or a keyspace that \
         `tessera migrate --epoch {theirs}` has made"
    );
    let mut moved = Moved::default();
    let expected = std::cell::RefCell::new(None);
    let streams = std::iter::from_fn(|| match reader.stream() {
        Ok(Read::Stream(parts)) => Some(appends(epoch, parts)),
        Ok(Read::End(streams, digest)) => {
            *expected.borrow_mut() = Some((streams, digest));
            None
        }
        Err(error) => Some(Err(error)),
    });
    let mut streams = streams.fuse();
    if let Some(first) = streams.next().transpose()? {
        refuse_another_store(target.store, &first).await?;
        moved.add(import_stream(target, first).await?);
        tell(moved.streams);
    }
    let written = stream::iter(streams).map_ok(|appends| import_stream(target, appends));
    let mut written = std::pin::pin!(written.try_buffer_unordered(STREAMS_AT_ONCE));
    while let Some(stream) = written.try_next().await? {
        moved.add(stream);
        tell(moved.streams);
    }
    let Some(expected) = expected.take() else { bail!("the history ends early: its last line is missing") };
    let found = digest_of(target.store).await?;
    ensure!(found == expected, "the store has other streams besides those of the history, or other states");
    Ok(moved)
}

/// An import that broke off has left nothing beside the first stream unless that is whole.
async fn refuse_another_store(store: &dyn EventStore, first: &[Append]) -> anyhow::Result<()> {
    let Some(last) = first.last() else { return Ok(()) };
    if store.read(&last.stream, &[], None).await?.head == last.head_after() {
        return Ok(());
    }
    for kind in StreamKind::ALL {
        for range in store.scan_ranges(kind).await? {
            let mut rest = Some(range);
            while let Some(range) = rest {
                let page = store.scan(&range, STREAMS_PAGE).await?;
                if let Some(other) = page.changes.into_iter().find(|change| change.stream != last.stream) {
                    bail!(
                        "the store is another one: it has stream `{}`, and not `{}` as the history has it, which is written first; \
                         nothing was written",
                        other.stream,
                        last.stream
                    );
                }
                rest = page.rest;
            }
        }
    }
    Ok(())
}

/// All parts of a stream, or the end.
enum Read {
    Stream(Vec<Part>),
    End(Value, Value),
}

#[derive(Debug)]
struct Reader<L> {
    lines: L,
    number: u64,
    ahead: Option<Line>,
}

impl<L: Iterator<Item = std::io::Result<String>>> Reader<L> {
    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.number += 1;
        let line = serde_json::from_str(&line.context("read the history")?);
        line.map(Some).with_context(|| format!("line {} of the history", self.number))
    }

    fn stream(&mut self) -> anyhow::Result<Read> {
        let mut parts: Vec<Part> = Vec::new();
        loop {
            match self.next()? {
                Some(Line::Part(part)) => {
                    if parts.last().is_some_and(|before| (&before.kind, &before.key) != (&part.kind, &part.key)) {
                        self.ahead = Some(Line::Part(part));
                        return Ok(Read::Stream(parts));
                    }
                    parts.push(part);
                }
                Some(line @ Line::End { .. }) if !parts.is_empty() => {
                    self.ahead = Some(line);
                    return Ok(Read::Stream(parts));
                }
                Some(Line::End { streams, digest }) => return Ok(Read::End(streams, digest)),
                Some(Line::Begin { .. }) => bail!("line {} of the history: it begins again", self.number),
                None => bail!("the history ends early, after line {}: its last line is missing", self.number),
            }
        }
    }
}

/// What a stream consists of; at least one append.
fn appends(epoch: Epoch, parts: Vec<Part>) -> anyhow::Result<Vec<Append>> {
    let mut appends: Vec<Append> = Vec::new();
    for part in parts {
        let (stream, end) = (part.stream()?, appends.last().map(Append::head_after).unwrap_or_default());
        ensure!(part.after == end.seq, "stream `{stream}`: the part after seq {} is missing", end.seq);
        appends.push(part.append(epoch, stream, end)?);
    }
    Ok(appends)
}

async fn import_stream(target: Target<'_>, appends: Vec<Append>) -> anyhow::Result<Moved> {
    let Some(last) = appends.last() else { return Ok(Moved::default()) };
    let (stream, end) = (last.stream.clone(), last.head_after());
    let change = Change { epoch: last.epoch, stream: stream.clone(), seq: end.seq, state: last.state.clone() };
    let head = target.store.read(&stream, &[], None).await?.head;
    let is_of_the_history = head == end || appends.iter().any(|append| append.expected == head);
    ensure!(is_of_the_history, "stream `{stream}` of the store has other events than the history");
    let (mut moved, mut hints) = (Moved { streams: 1, ..Moved::default() }, Vec::new());
    for append in appends {
        moved.events += append.cells.len() as u64;
        moved.requests += append.requests.len() as u64;
        if append.expected.seq >= head.seq {
            // One for each append: whoever sweeps between two of them publishes what it finds, and erases what it is beyond.
            hints.extend(target.put_hint(&append).await?);
            write(target.store, append).await?;
        }
    }
    target.publish(&change, &hints).await?;
    Ok(moved)
}

/// Appends, and looks after an unknown outcome.
async fn write(store: &dyn EventStore, append: Append) -> anyhow::Result<()> {
    let (stream, after) = (append.stream.clone(), append.head_after());
    let mut reason = String::new();
    for _ in 0..ATTEMPTS_MAX {
        match store.append(append.clone()).await {
            Ok(Appended::Committed) => return Ok(()),
            Ok(Appended::Conflict) => "it has other events".clone_into(&mut reason),
            Err(error @ AppendError::DiskFull) => return Err(error.into()),
            Err(error) => reason = error.to_string(),
        }
        let head = store.read(&stream, &[], None).await?.head;
        if head == after {
            return Ok(());
        }
        ensure!(head == append.expected, "stream `{stream}` of the store has other events than the history");
    }
    bail!("stream `{stream}` cannot be written: {reason}")
}

impl Moved {
    fn add(&mut self, other: Self) {
        self.streams += other.streams;
        self.events += other.events;
        self.requests += other.requests;
    }
}

impl Target<'_> {
    /// Notes, before an append, that its stream may move: whatever becomes of this process, a loader publishes it. Nothing where
    /// appends are in the feed by themselves.
    async fn put_hint(&self, append: &Append) -> anyhow::Result<Option<Hint>> {
        if self.store.feeds_itself() {
            return Ok(None);
        }
        let (stream, request_id) = (append.stream.clone(), RequestId::parse(HINT_ID)?);
        let hint = Hint { stream, request_id, head: append.expected.seq, at: self.clock.now() };
        self.hints.put(&hint).await.with_context(|| format!("note that stream `{}` moves", hint.stream))?;
        Ok(Some(hint))
    }

    /// Publishes what was written under these hints, and then erases them. Without any nothing was written.
    async fn publish(&self, change: &Change, hints: &[Hint]) -> anyhow::Result<()> {
        if hints.is_empty() {
            return Ok(());
        }
        let published = self.publisher.publish(std::slice::from_ref(change)).await;
        published.with_context(|| format!("publish stream `{}`, which is written", change.stream))?;
        for hint in hints {
            self.hints.erase(hint).await.with_context(|| format!("note that stream `{}` is published", change.stream))?;
        }
        Ok(())
    }
}

impl Request {
    fn of(row: &RequestRow) -> Self {
        Self { id: row.id.to_string(), seq: row.seq, digest: Encoded(Bytes::copy_from_slice(&row.digest.0)) }
    }

    fn row(self) -> anyhow::Result<RequestRow> {
        let digest = self.digest.0[..].try_into().with_context(|| format!("request `{}`: the digest is not one", self.id))?;
        Ok(RequestRow { id: RequestId::parse(&self.id)?, seq: self.seq, digest: CommandDigest(digest) })
    }
}

impl Part {
    fn stream(&self) -> anyhow::Result<StreamId> {
        let kind = StreamKind::ALL.into_iter().find(|kind| kind.name() == self.kind);
        let kind = kind.with_context(|| format!("`{}` is no kind of stream", self.kind))?;
        Ok(StreamId::from_parts(kind, &self.key)?)
    }

    fn append(self, epoch: Epoch, stream: StreamId, expected: Head) -> anyhow::Result<Append> {
        let requests = self.requests.into_iter().map(Request::row).collect::<anyhow::Result<_>>()?;
        let cells = self.cells.into_iter().map(|cell| cell.0).collect();
        Ok(Append { epoch, stream, expected, cells, state: self.state.0, requests })
    }
}

#[cfg(test)]
mod tests;
