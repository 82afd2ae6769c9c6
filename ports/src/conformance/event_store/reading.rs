//! Reading one stream.

use bytes::Bytes;
use futures::future::join;
use tessera_core::ids::RequestId;
use tessera_core::stream::StreamId;

use crate::conformance::Run;
use crate::conformance::sample::{append_of, cell, command, digest, epoch, events, named_hash, read, request_row, write};
use crate::event_store::{Append, Appended, CellHash, EventStore, Head, Question, RequestRow, StreamRead};

/// Epochs count from 1, and who the store is does not change by itself.
pub async fn identity_stays(store: &dyn EventStore, _run: &Run) {
    let identity = store.identity().await.expect("an identity");
    assert!(identity.epoch >= 1 && !identity.store.is_empty(), "{identity:?}");
    assert_eq!(store.identity().await, Ok(identity));
}

/// A stream without an event reads as such, known requests or not.
pub async fn unknown_stream_is_empty(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("unknown");
    let expected = StreamRead { epoch: epoch(store).await, head: Head::default(), state: None, requests: Vec::new() };
    assert_eq!(store.read(&stream, &[run.request("any")], Some(0)).await, Ok(expected));
    assert_eq!(store.events(&stream, 0, 10).await, Ok(Vec::new()));
}

/// Head, state, request row and events come back as they were written.
pub async fn what_is_appended_is_read(store: &dyn EventStore, run: &Run) {
    let stream = run.plan("read-back");
    let id = run.request("read-back");
    let mut append = append_of(epoch(store).await, &stream, Head::default(), &["one", "two"]);
    append.requests.push(request_row(&id, 2));
    assert_eq!(store.append(append.clone()).await, Ok(Appended::Committed));

    let read = store.read(&stream, std::slice::from_ref(&id), None).await.expect("a read");
    assert_eq!(read.head, append.head_after());
    assert_eq!(read.state.as_deref(), Some(&b"two"[..]));
    assert_eq!(read.requests, [request_row(&id, 2)]);
    assert_eq!(read.epoch, append.epoch);
    let events = events(store, &stream).await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events.iter().map(|event| event.cell.clone()).collect::<Vec<_>>(), append.cells);
}

/// Cells and states are bytes: zeros, no text, and nothing at all.
pub async fn any_bytes_are_kept(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("bytes");
    let cells = vec![Bytes::from_static(&[0, 255, 0, 39, 0]), Bytes::new()];
    let (epoch, expected, state) = (epoch(store).await, Head::default(), Bytes::new());
    let append = Append { epoch, stream: stream.clone(), expected, cells: cells.clone(), state, requests: Vec::new() };
    assert_eq!(store.append(append).await, Ok(Appended::Committed));
    let read = read(store, &stream).await;
    assert_eq!(read.head, Head { seq: 2, hash: CellHash::of(&[]) });
    assert_eq!(read.state.as_deref(), Some(&[][..]), "an empty state is a state");
    let events = events(store, &stream).await;
    assert_eq!(events.into_iter().map(|event| event.cell).collect::<Vec<_>>(), cells);
}

/// Whoever knows the state at the head does not get it again; at any other head he does.
pub async fn known_seq_leaves_the_state_out(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("known");
    let head = write(store, &stream, &["a", "b"]).await;
    for (known, expected) in [(Some(2), None), (Some(1), Some("b")), (Some(3), Some("b")), (None, Some("b"))] {
        let read = store.read(&stream, &[], known).await.expect("a read");
        assert_eq!(read.head, head);
        assert_eq!(read.state.as_deref(), expected.map(str::as_bytes), "known {known:?}");
    }
}

/// A request id belongs to its stream: the same id elsewhere is another; unknown ones are left out.
pub async fn requests_are_looked_up_in_their_stream(store: &dyn EventStore, run: &Run) {
    let (here, there) = (run.tenant("requests.a"), run.tenant("requests.b"));
    let (first, second) = (run.request("first"), run.request("second"));
    command(store, &here, &first).await;
    command(store, &here, &second).await;
    command(store, &there, &second).await;

    let asked = [first.clone(), second.clone(), run.request("never")];
    let mut found = store.read(&here, &asked, None).await.expect("a read").requests;
    found.sort_by_key(|row| row.seq);
    assert_eq!(found, [request_row(&first, 1), request_row(&second, 2)]);
    let found = store.read(&there, &asked, None).await.expect("a read").requests;
    assert_eq!(found, [request_row(&second, 1)]);
    assert_eq!(found.first().map(|row| row.digest), Some(digest(second.as_str())));
}

/// While a stream is written, every read shows head, state and request rows that belong together.
pub async fn read_is_of_one_moment(store: &dyn EventStore, run: &Run) {
    const WRITES: u64 = 60;
    let stream = run.tenant("moment");
    let ids: Vec<_> = (1..=WRITES).map(|n| run.request(&format!("moment-{n}"))).collect();
    let writing = async {
        for id in &ids {
            command(store, &stream, id).await;
        }
    };
    let reading = async {
        let mut newest = 0;
        while newest < WRITES {
            let read = store.read(&stream, &ids, None).await.expect("a read");
            assert!(read.head.seq >= newest, "the head fell from {newest} to {}", read.head.seq);
            newest = read.head.seq;
            let last = newest.checked_sub(1).and_then(|index| ids.get(usize::try_from(index).expect("small")));
            assert_eq!(read.state.as_deref(), last.map(|id| id.as_str().as_bytes()), "state at {newest}");
            assert_eq!(read.requests.len() as u64, newest, "request rows at {newest}");
            assert!(read.requests.iter().all(|row| row.seq <= newest));
        }
    };
    join(writing, reading).await;
}

/// Events come in order without gaps, page by page, and nothing beyond the end.
pub async fn events_come_in_pages(store: &dyn EventStore, run: &Run) {
    let stream = run.tenant("pages");
    let texts: Vec<String> = (1..=25).map(|n| format!("event {n}")).collect();
    for some in texts.chunks(4) {
        write(store, &stream, &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let mut seen = Vec::new();
    loop {
        let page = store.events(&stream, seen.len() as u64, 10).await.expect("events");
        assert!(page.len() <= 10);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
    let mut before = CellHash::default();
    for (event, text) in seen.iter().zip(&texts) {
        assert_eq!(named_hash(&event.cell), before, "the chain breaks at {}", event.seq);
        assert_eq!(event.cell, cell(before, text));
        before = CellHash::of(&event.cell);
    }
    assert_eq!(store.events(&stream, 99, 10).await, Ok(Vec::new()));
}

/// Events that are too long for one page come in as many as it takes; only behind the last event is one empty.
pub async fn long_events_come_in_pages(store: &dyn EventStore, run: &Run) {
    const CELL_LEN: usize = 900 * 1024;
    let stream = run.plan("long-events");
    let (epoch, state) = (epoch(store).await, Bytes::from_static(b"state"));
    let written: Vec<Bytes> = (1..=20).map(|filling| Bytes::from(vec![filling; CELL_LEN])).collect();
    let mut expected = Head::default();
    for cell in &written {
        let (stream, state, cells) = (stream.clone(), state.clone(), vec![cell.clone()]);
        let append = Append { epoch, stream, expected, cells, state, requests: Vec::new() };
        expected = append.head_after();
        assert_eq!(store.append(append).await, Ok(Appended::Committed));
    }
    let events = events(store, &stream).await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(events.iter().map(|event| &event.cell).eq(&written), "a cell of {CELL_LEN} bytes is another");
}

/// Many questions have the answers that each has alone, in their order.
pub async fn many_are_read_as_each_alone(store: &dyn EventStore, run: &Run) {
    let (known, other, unknown) = (run.tenant("many.known"), run.plan("many.other"), run.tenant("many.unknown"));
    let (first, second) = (run.request("many-first"), run.request("many-second"));
    command(store, &known, &first).await;
    command(store, &known, &second).await;
    command(store, &other, &second).await;
    let ask = |stream: &StreamId, ids: &[&RequestId]| Question {
        stream: stream.clone(),
        requests: ids.iter().copied().cloned().collect(),
    };
    let questions = vec![
        ask(&unknown, &[&first]),
        ask(&other, &[&first, &second]),
        ask(&known, &[&second]),
        ask(&known, &[]),
        ask(&known, &[&first]),
    ];
    let answers = store.read_many(questions.clone()).await;
    assert_eq!(answers.len(), questions.len());
    for (question, answer) in questions.iter().zip(answers) {
        let alone = store.read(&question.stream, &question.requests, None).await;
        assert_eq!(answer, alone, "{question:?}");
        let found = answer.expect("a read").requests.len();
        let asked =
            question.requests.iter().filter(|id| question.stream == known || (question.stream == other && **id == second));
        assert_eq!(found, asked.count(), "{question:?}");
    }
    assert_eq!(store.read_many(Vec::new()).await, []);
}

/// Page after page, every row once and in order, and nothing of another stream.
pub async fn request_rows_come_in_pages(store: &dyn EventStore, run: &Run) {
    let (stream, other) = (run.tenant("request-pages"), run.tenant("request-pages-other"));
    assert_eq!(store.requests(&stream, None, 10).await, Ok(Vec::new()));
    let mut written: Vec<RequestRow> = Vec::new();
    for number in 0..7 {
        // In another order than they are asked for in.
        let id = run.request(&format!("page-{}", (number * 3) % 7));
        let seq = command(store, &stream, &id).await;
        written.push(request_row(&id, seq));
    }
    command(store, &other, &run.request("page-other")).await;
    written.sort_by(|one, two| one.id.as_str().cmp(two.id.as_str()));
    let mut read: Vec<RequestRow> = Vec::new();
    loop {
        let page = store.requests(&stream, read.last().map(|row| &row.id), 3).await.expect("a page");
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    assert_eq!(read, written);
}
