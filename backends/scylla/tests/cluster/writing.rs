//! Streams and appends for these tests.

use bytes::Bytes;
use tessera_core::ids::{RequestId, TenantId};
use tessera_core::stream::StreamId;
use tessera_ports::event_store::{Append, Appended, CellHash, CommandDigest, EventStore, Head, RequestRow, StreamRead};

pub(crate) fn tenant(name: &str) -> StreamId {
    StreamId::Tenant(TenantId::parse(name).expect("a tenant id"))
}

pub(crate) fn request(name: &str) -> RequestId {
    RequestId::parse(name).expect("a request id")
}

/// An append of one event by one command, whose state is its name.
pub(crate) fn append_of(read: &StreamRead, stream: &StreamId, name: &str) -> Append {
    let cell = Bytes::from([&read.head.hash.0[..], name.as_bytes()].concat());
    let row = RequestRow { id: request(name), seq: read.head.seq + 1, digest: CommandDigest([7; 32]) };
    Append {
        epoch: read.epoch,
        stream: stream.clone(),
        expected: read.head,
        cells: vec![cell],
        state: Bytes::copy_from_slice(name.as_bytes()),
        requests: vec![row],
    }
}

pub(crate) async fn read(store: &dyn EventStore, stream: &StreamId) -> StreamRead {
    store.read(stream, &[], None).await.expect("a read")
}

/// Appends where nobody else does.
pub(crate) async fn write(store: &dyn EventStore, stream: &StreamId, name: &str) -> Head {
    let append = append_of(&read(store, stream).await, stream, name);
    let after = append.head_after();
    assert_eq!(store.append(append).await, Ok(Appended::Committed), "append to {stream}");
    after
}

/// The names of the events of a stream, whose chain is checked.
pub(crate) async fn names(store: &dyn EventStore, stream: &StreamId) -> Vec<String> {
    let (mut names, mut before) = (Vec::new(), CellHash::default());
    loop {
        let page = store.events(stream, names.len() as u64, 1_000).await.expect("events");
        if page.is_empty() {
            assert_eq!(read(store, stream).await.head.hash, before, "the head of {stream} is not its last event's");
            return names;
        }
        for event in page {
            assert_eq!(event.seq, names.len() as u64 + 1);
            assert_eq!(&event.cell[..32], &before.0, "the chain of {stream} breaks at {}", event.seq);
            names.push(String::from_utf8(event.cell[32..].to_vec()).expect("a name"));
            before = CellHash::of(&event.cell);
        }
    }
}
