//! The conditional append.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tessera_core::ids::{AddOnId, PlanId, RequestId, TenantId};
use tessera_core::stream::StreamId;

use crate::conformance::Run;
use crate::conformance::sample::{append_of, cell, command, epoch, events, named_hash, read, request_row, write};
use crate::event_store::{AppendError, Appended, CellHash, EventStore, Head};

/// Behind the head, and beyond it, is a conflict.
pub async fn append_compares_seq(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("seq");
    let epoch = epoch(store).await;
    let beyond = append_of(epoch, &stream, Head { seq: 1, hash: CellHash::default() }, &["x"]);
    assert_eq!(store.append(beyond).await, Ok(Appended::Conflict), "beyond an empty stream");
    let first = write(store, &stream, &["a"]).await;
    let second = write(store, &stream, &["b"]).await;
    for expected in [Head::default(), first, Head { seq: 3, ..second }] {
        let append = append_of(epoch, &stream, expected, &["x"]);
        assert_eq!(store.append(append).await, Ok(Appended::Conflict), "at {} instead of 2", expected.seq);
    }
    assert_eq!(read(store, &stream).await.head, second);
}

/// The right seq on another history is a conflict: two stores that diverged are never merged.
pub async fn append_compares_hash(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("hash");
    let epoch = epoch(store).await;
    let wrong = Head { seq: 0, hash: CellHash([1; 32]) };
    assert_eq!(store.append(append_of(epoch, &stream, wrong, &["x"])).await, Ok(Appended::Conflict), "on an empty stream");
    let head = write(store, &stream, &["a"]).await;
    for hash in [CellHash::default(), CellHash::of(b"another history")] {
        let append = append_of(epoch, &stream, Head { hash, ..head }, &["x"]);
        assert_eq!(store.append(append).await, Ok(Appended::Conflict), "{hash:?}");
    }
    assert_eq!(read(store, &stream).await.head, head);
}

/// What was decided in another life of the store is not written in this one.
pub async fn append_compares_epoch(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("epoch");
    let epoch = epoch(store).await;
    for other in [epoch - 1, epoch + 1] {
        let append = append_of(other, &stream, Head::default(), &["x"]);
        assert_eq!(store.append(append).await, Ok(Appended::Conflict), "epoch {other} instead of {epoch}");
    }
    assert_eq!(read(store, &stream).await.head, Head::default());
}

/// Nothing to append is a mistake, and says so.
pub async fn append_without_events_is_refused(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("no-events");
    let mut append = append_of(epoch(store).await, &stream, Head::default(), &["x"]);
    append.cells.clear();
    let answer = store.append(append).await;
    assert!(matches!(answer, Err(AppendError::NotAttempted(_))), "{answer:?}");
    assert_eq!(read(store, &stream).await.head, Head::default());
}

/// After a conflict nothing of the append is there: no event, no state, no request row.
pub async fn conflict_writes_nothing(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("conflict");
    let head = write(store, &stream, &["a"]).await;
    let id = run.request("conflict");
    let mut append = append_of(epoch(store).await, &stream, Head::default(), &["x", "y"]);
    append.requests.push(request_row(&id, 2));
    assert_eq!(store.append(append).await, Ok(Appended::Conflict));
    let read = store.read(&stream, &[id], None).await.expect("a read");
    assert_eq!((read.head, read.state.as_deref(), read.requests), (head, Some(&b"a"[..]), Vec::new()));
    assert_eq!(events(store, &stream).await.len(), 1);
}

/// Sending the same bytes again, as after an unknown outcome, does it once: the second time is a conflict, and the request
/// row tells why.
pub async fn same_bytes_again_are_a_conflict(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("again");
    let id = run.request("again");
    let mut append = append_of(epoch(store).await, &stream, Head::default(), &["x"]);
    append.requests.push(request_row(&id, 1));
    assert_eq!(store.append(append.clone()).await, Ok(Appended::Committed));
    assert_eq!(store.append(append).await, Ok(Appended::Conflict));
    let read = store.read(&stream, std::slice::from_ref(&id), None).await.expect("a read");
    assert_eq!((read.head.seq, read.requests), (1, vec![request_row(&id, 1)]));
}

/// A group of commands is one append: all its events, one state, a row for each command.
pub async fn group_is_written_whole(store: &dyn EventStore, run: &Run) {
    let stream = run.add_on("group");
    let head = write(store, &stream, &["before"]).await;
    let ids: Vec<RequestId> = (0..5).map(|n| run.request(&format!("group-{n}"))).collect();
    let texts: Vec<String> = (0..10).map(|n| format!("event {n}")).collect();
    let mut append = append_of(epoch(store).await, &stream, head, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let rows: Vec<_> = ids.iter().zip([3, 5, 7, 9, 11]).map(|(id, seq)| request_row(id, seq)).collect();
    append.requests.clone_from(&rows);
    assert_eq!(store.append(append.clone()).await, Ok(Appended::Committed));
    let mut read = store.read(&stream, &ids, None).await.expect("a read");
    read.requests.sort_by_key(|row| row.seq);
    assert_eq!(read.requests, rows);
    assert_eq!(read.head, append.head_after());
    assert_eq!(read.head.seq, 11);
    assert_eq!(events(store, &stream).await.len(), 11);
}

/// The greatest state that is allowed, and an event as big, written several times.
pub async fn big_states_and_events_fit(store: &dyn EventStore, run: &Run) {
    const STATE_LEN_MAX: usize = 900 * 1024;
    let stream = run.plan("big");
    let epoch = epoch(store).await;
    let mut head = Head::default();
    for filling in [b'a', b'b', b'c'] {
        let big = Bytes::from(vec![filling; STATE_LEN_MAX]);
        let mut append = append_of(epoch, &stream, head, &["x"]);
        append.cells = vec![big.clone()];
        append.state = big.clone();
        head = append.head_after();
        assert_eq!(store.append(append).await, Ok(Appended::Committed));
        let read = read(store, &stream).await;
        assert_eq!(read.head, head);
        assert!(read.state.as_ref() == Some(&big), "the state of {STATE_LEN_MAX} bytes is another");
    }
    let events = events(store, &stream).await;
    assert_eq!(events.iter().map(|event| event.cell.len()).collect::<Vec<_>>(), [STATE_LEN_MAX; 3]);
}

/// Ids that differ in case, in kind or in their last byte are different streams.
pub async fn odd_ids_are_apart(store: &dyn EventStore, run: &Run) {
    let text = run.text();
    let tenant = |name: &str| StreamId::Tenant(TenantId::parse(name).expect("a tenant id"));
    let plan = format!("{text}.same");
    let long = format!("{text}{}", "x".repeat(128 - text.len() - 1));
    let streams = [
        tenant(&format!("{text}.Case")),
        tenant(&format!("{text}.case")),
        tenant(&format!("{text}:a@b.c-d_e")),
        tenant(&format!("{text}-")),
        tenant(&format!("{text}_")),
        tenant(text),
        tenant(&format!("{long}1")),
        tenant(&format!("{long}2")),
        tenant(&plan),
        StreamId::Plan(PlanId::parse(&plan).expect("a plan id")),
        StreamId::AddOn(AddOnId::parse(&plan).expect("an add-on id")),
    ];
    for stream in &streams {
        write(store, stream, &[&stream.to_string()]).await;
    }
    for stream in &streams {
        let read = read(store, stream).await;
        assert_eq!(read.head.seq, 1, "{stream}");
        assert_eq!(read.state.as_deref(), Some(stream.to_string().as_bytes()), "{stream}");
    }
}

/// Sixteen writers on one stream: every acknowledged append is there exactly once, in a chain without gaps.
pub async fn concurrent_writers_lose_nothing(store: &dyn EventStore, run: &Run) {
    const WRITERS: usize = 16;
    const EACH: usize = 8;
    let stream = run.tenant("contended");
    let ids: Vec<RequestId> = (0..WRITERS * EACH).map(|n| run.request(&format!("contended-{n}"))).collect();
    let writers = ids.chunks(EACH).map(async |own| {
        let mut acknowledged = Vec::new();
        for id in own {
            acknowledged.push((command(store, &stream, id).await, id.clone()));
        }
        acknowledged
    });
    let acknowledged: BTreeMap<u64, RequestId> = join_all(writers).await.into_iter().flatten().collect();
    assert_eq!(acknowledged.keys().copied().collect::<Vec<_>>(), (1..=(WRITERS * EACH) as u64).collect::<Vec<_>>());

    let events = events(store, &stream).await;
    assert_eq!(events.len(), WRITERS * EACH);
    let mut before = CellHash::default();
    for (event, (seq, id)) in events.iter().zip(&acknowledged) {
        assert_eq!((event.seq, named_hash(&event.cell)), (*seq, before));
        assert_eq!(event.cell, cell(before, id.as_str()), "event {seq}");
        before = CellHash::of(&event.cell);
    }
    assert_eq!(read(store, &stream).await.head.hash, before);
}

/// Writers of different streams meet no conflict, in however few transactions they end up.
pub async fn concurrent_streams_do_not_disturb_each_other(store: &dyn EventStore, run: &Run) {
    let streams: Vec<StreamId> = (0..50).map(|n| run.tenant(&format!("apart-{n}"))).collect();
    join_all(streams.iter().map(async |stream| {
        write(store, stream, &["a"]).await;
        write(store, stream, &["b", "c"]).await;
    }))
    .await;
    for stream in &streams {
        assert_eq!(read(store, stream).await.head.seq, 3, "{stream}");
    }
}

/// Of many appends each has the outcome it has alone, in their order; what one may not write holds up no other.
pub async fn many_are_appended_as_each_alone(store: &dyn EventStore, run: &Run) {
    let moved = run.tenant("many-appends.moved");
    write(store, &moved, &["a"]).await;
    let epoch = epoch(store).await;
    let stream = |name: &str| run.tenant(&format!("many-appends.{name}"));
    let mut empty = append_of(epoch, &stream("empty"), Head::default(), &["x"]);
    empty.cells.clear();
    let appends = [
        append_of(epoch, &stream("first"), Head::default(), &["one", "two"]),
        append_of(epoch, &moved, Head::default(), &["b"]),
        append_of(epoch + 1, &stream("other-life"), Head::default(), &["x"]),
        empty,
        append_of(epoch, &stream("last"), Head::default(), &["three"]),
    ]
    .map(Arc::new);
    let outcomes = store.append_many(&appends).await;
    let (Ok(Appended::Committed), Ok(Appended::Conflict)) = (&outcomes[0], &outcomes[1]) else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[2], Ok(Appended::Conflict), "{outcomes:?}");
    assert!(matches!(outcomes[3], Err(AppendError::NotAttempted(_))), "{outcomes:?}");
    assert_eq!((&outcomes[4], outcomes.len()), (&Ok(Appended::Committed), 5), "{outcomes:?}");
    for (append, seq) in appends.iter().zip([2, 1, 0, 0, 1]) {
        assert_eq!(read(store, &append.stream).await.head.seq, seq, "{}", append.stream);
    }
    assert_eq!(store.append_many(&[]).await, []);

    let many: Vec<_> = (0..2_000).map(|n| stream(&format!("of-{n}"))).collect();
    let appends: Vec<_> = many.iter().map(|id| Arc::new(append_of(epoch, id, Head::default(), &["x"]))).collect();
    assert!(store.append_many(&appends).await.iter().all(|outcome| *outcome == Ok(Appended::Committed)));
    assert!(store.append_many(&appends).await.iter().all(|outcome| *outcome == Ok(Appended::Conflict)), "each a second time");
}
