//! Streams, appends and names for the suites.

use bytes::Bytes;
use tessera_core::ids::{AddOnId, PlanId, RequestId, TenantId};
use tessera_core::stream::{Epoch, Seq, StreamId};

use crate::event_store::{
    Append, AppendError, Appended, CellHash, CommandDigest, EventCell, EventStore, Head, RequestRow, StreamRead,
};

/// One run of a suite: names that no other run uses.
#[derive(Debug, Clone)]
pub struct Run(String);

impl Run {
    /// `unique`: at most 36 bytes of lower-case letters, digits and `-`, never used before on what is examined.
    pub fn new(unique: &str) -> Self {
        Self(unique.to_owned())
    }

    pub(super) fn tenant(&self, name: &str) -> StreamId {
        StreamId::Tenant(TenantId::parse(&format!("{}.{name}", self.0)).expect("a tenant id"))
    }

    pub(super) fn plan(&self, name: &str) -> StreamId {
        StreamId::Plan(PlanId::parse(&format!("{}.{name}", self.0)).expect("a plan id"))
    }

    pub(super) fn add_on(&self, name: &str) -> StreamId {
        StreamId::AddOn(AddOnId::parse(&format!("{}.{name}", self.0)).expect("an add-on id"))
    }

    pub(super) fn request(&self, name: &str) -> RequestId {
        RequestId::parse(&format!("{}/{name}", self.0)).expect("a request id")
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// A cell as events are: it names the cell before.
pub(super) fn cell(before: CellHash, text: &str) -> Bytes {
    [&before.0[..], text.as_bytes()].concat().into()
}

/// The hash of the cell before that a cell names.
pub(super) fn named_hash(cell: &[u8]) -> CellHash {
    CellHash(cell[..32].try_into().expect("32 bytes"))
}

pub(super) fn digest(text: &str) -> CommandDigest {
    CommandDigest(CellHash::of(text.as_bytes()).0)
}

pub(super) fn request_row(id: &RequestId, seq: Seq) -> RequestRow {
    RequestRow { id: id.clone(), seq, digest: digest(id.as_str()) }
}

/// An append of one event per text to a stream that ends at `expected`; the state is the last text.
pub(super) fn append_of(epoch: Epoch, stream: &StreamId, expected: Head, texts: &[&str]) -> Append {
    let mut before = expected.hash;
    let mut cells = Vec::new();
    for text in texts {
        let cell = cell(before, text);
        before = CellHash::of(&cell);
        cells.push(cell);
    }
    let state = Bytes::copy_from_slice(texts.last().expect("a text").as_bytes());
    Append { epoch, stream: stream.clone(), expected, cells, state, requests: Vec::new() }
}

pub(super) async fn read(store: &dyn EventStore, stream: &StreamId) -> StreamRead {
    store.read(stream, &[], None).await.expect("a read")
}

/// All events of a stream, in as many pages as they come in.
pub(super) async fn events(store: &dyn EventStore, stream: &StreamId) -> Vec<EventCell> {
    let mut events = Vec::new();
    loop {
        let page = store.events(stream, events.len() as Seq, 1_000).await.expect("events");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

pub(super) async fn epoch(store: &dyn EventStore) -> Epoch {
    store.identity().await.expect("an identity").epoch
}

/// Appends one event per text at the end of the stream, where nobody else writes; the new head.
pub(super) async fn write(store: &dyn EventStore, stream: &StreamId, texts: &[&str]) -> Head {
    let before = read(store, stream).await;
    let append = append_of(before.epoch, stream, before.head, texts);
    let after = append.head_after();
    assert_eq!(store.append(append).await, Ok(Appended::Committed), "append to {stream}");
    after
}

/// What a loader does: look up, append, and after a conflict or an unknown outcome begin again. The seq of its event.
pub(super) async fn command(store: &dyn EventStore, stream: &StreamId, id: &RequestId) -> Seq {
    loop {
        let read = store.read(stream, std::slice::from_ref(id), None).await.expect("a read");
        if let Some(row) = read.requests.first() {
            return row.seq;
        }
        let mut append = append_of(read.epoch, stream, read.head, &[id.as_str()]);
        append.requests.push(request_row(id, read.head.seq + 1));
        match store.append(append).await {
            Ok(Appended::Committed) => return read.head.seq + 1,
            Ok(Appended::Conflict) | Err(AppendError::Unknown(_)) => {}
            Err(error) => panic!("append to {stream}: {error}"),
        }
    }
}
