//! Every fault of the in-memory ports does what it says, and only that.

use std::time::Duration;

use bytes::Bytes;
use tessera_core::ids::{RequestId, TenantId};
use tessera_core::stream::{StreamId, StreamKind};
use tessera_ports::change_feed::{Change, ChangeFeed, ChangePublisher, FeedError, FeedMessage};
use tessera_ports::event_store::{Append, AppendError, Appended, EventStore, Head, ReadError};
use tessera_ports::hint_store::{Hint, HintStore};
use tessera_ports::hooks::{self, Guard};
use tessera_ports::memory::{
    AppendFault, EventChances, FeedChances, MemoryEvents, MemoryFeed, MemoryStore, Operation, StoreChances,
};
use tessera_ports::{EventPublisher as _, PublicEvent, Shard};

fn tenant(name: &str) -> StreamId {
    StreamId::Tenant(TenantId::parse(name).expect("a tenant id"))
}

fn append(stream: &StreamId, expected: Head, text: &'static str) -> Append {
    let bytes = Bytes::from_static(text.as_bytes());
    Append { epoch: 1, stream: stream.clone(), expected, cells: vec![bytes.clone()], state: bytes, requests: Vec::new() }
}

async fn head(store: &MemoryStore, stream: &StreamId) -> u64 {
    store.read(stream, &[], None).await.expect("a read").head.seq
}

fn change(stream: &StreamId, seq: u64) -> Change {
    Change { epoch: 1, stream: stream.clone(), seq, state: Bytes::new() }
}

#[tokio::test(start_paused = true)]
async fn told_fates_of_appends_come_true() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    let first = append(&stream, Head::default(), "first");

    for (fault, refused) in [
        (AppendFault::NotAttempted, AppendError::NotAttempted("simulated".to_owned())),
        (AppendFault::DiskFull, AppendError::DiskFull),
        (AppendFault::UnknownNotApplied, AppendError::Unknown("simulated: the request was lost".to_owned())),
    ] {
        store.faults().next_append(fault);
        assert_eq!(store.append(first.clone()).await, Err(refused));
        assert_eq!(head(&store, &stream).await, 0);
    }
    store.faults().next_append(AppendFault::UnknownApplied);
    assert!(matches!(store.append(first.clone()).await, Err(AppendError::Unknown(_))));
    assert_eq!(head(&store, &stream).await, 1);
    assert_eq!(store.append(first).await, Ok(Appended::Conflict), "the next one meets no fault");
}

#[tokio::test(start_paused = true)]
async fn late_appends_are_written_when_released_and_only_on_their_condition() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    for text in ["first", "rival"] {
        store.faults().next_append(AppendFault::UnknownAppliedLater);
        assert!(store.append(append(&stream, Head::default(), text)).await.is_err());
    }
    assert_eq!((store.faults().late(), head(&store, &stream).await), (2, 0));
    assert_eq!(store.faults().release_oldest(), Some(true));
    assert_eq!(store.faults().release_late(), 0, "the rival meets a conflict");
    assert_eq!(store.current(&stream).map(|(head, state)| (head.seq, state)), Some((1, Bytes::from_static(b"first"))));
}

#[tokio::test(start_paused = true)]
async fn late_appends_come_at_their_time() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    store.faults().next_append(AppendFault::UnknownAppliedAfter(Duration::from_secs(3)));
    assert!(store.append(append(&stream, Head::default(), "first")).await.is_err());
    tokio::time::advance(Duration::from_millis(2_999)).await;
    assert_eq!(head(&store, &stream).await, 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(head(&store, &stream).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_nobody_waits_for_is_still_under_way() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    let delay_max = Duration::from_secs(10);
    store.faults().seed(1, StoreChances { delay_max, ..StoreChances::default() });
    let gone = tokio::time::timeout(Duration::from_nanos(1), store.append(append(&stream, Head::default(), "first"))).await;
    assert!(gone.is_err());
    assert_eq!((store.faults().late(), head(&store, &stream).await), (1, 0));
    assert_eq!(store.faults().release_late(), 1);
    assert_eq!(head(&store, &stream).await, 1);
}

#[tokio::test(start_paused = true)]
async fn failing_operations_fail_as_often_as_told() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    store.faults().fail_next(Operation::Read, 2);
    for _ in 0..2 {
        assert!(matches!(store.read(&stream, &[], None).await, Err(ReadError::Unavailable(_))));
    }
    assert!(store.read(&stream, &[], None).await.is_ok());

    let request_id = RequestId::parse("r").expect("a request id");
    let hint = Hint { stream: stream.clone(), request_id, head: 0, at: tessera_core::time::Timestamp::MIN };
    store.faults().fail_next(Operation::PutHint, 1);
    assert!(store.put(&hint).await.is_err());
    assert_eq!(store.list(&Shard::all().collect::<Vec<_>>(), 10).await, Ok(Vec::new()));

    store.append_now(&append(&stream, Head::default(), "first"));
    store.faults().damage(stream.clone());
    assert!(matches!(store.read(&stream, &[], None).await, Err(ReadError::Damaged(_))));
    let range = store.scan_ranges(StreamKind::Tenant).await.expect("ranges").remove(0);
    let page = store.scan(&range, 10).await.expect("a page");
    assert_eq!(page.changes, [change(&stream, 1)], "a scan goes past damage");
    store.faults().disk_full(true);
    assert_eq!(store.append(append(&stream, Head::default(), "x")).await, Err(AppendError::DiskFull));
    store.faults().calm();
    assert_eq!(head(&store, &stream).await, 1);
}

#[tokio::test(start_paused = true)]
async fn pages_of_events_end_as_early_as_told() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    for text in ["first", "other", "third"] {
        let head = store.current(&stream).map_or_else(Head::default, |(head, _)| head);
        assert_eq!(store.append_now(&append(&stream, head, text)), Appended::Committed);
    }
    store.faults().events_bytes_max(6);
    store.faults().calm();
    let page = async |after, limit| store.events(&stream, after, limit).await.expect("events").len();
    assert_eq!((page(0, 10).await, page(0, 1).await, page(2, 10).await, page(3, 10).await), (2, 1, 1, 0));
    store.faults().events_bytes_max(0);
    assert_eq!(page(0, 10).await, 1, "one is always in it");
}

/// Committed means that two of three replicas have it: two that are asked always know, one that is asked may not.
#[tokio::test(start_paused = true)]
async fn only_an_overlapping_scan_sees_every_committed_state() {
    let seen_by_scan = async |overlaps: bool| {
        let store = MemoryStore::new("store");
        store.faults().seed(3, StoreChances { replicas_lag: true, ..StoreChances::default() });
        store.faults().scan_overlaps(overlaps);
        for n in 0..100 {
            let stream = tenant(&format!("t{n}"));
            assert_eq!(store.append(append(&stream, Head::default(), "x")).await, Ok(Appended::Committed));
        }
        let mut seen = 0;
        for range in store.scan_ranges(StreamKind::Tenant).await.expect("ranges") {
            seen += store.scan(&range, 1000).await.expect("a page").changes.len();
        }
        seen
    };
    assert_eq!(seen_by_scan(true).await, 100);
    let missed = 100 - seen_by_scan(false).await;
    assert!((10..60).contains(&missed), "{missed} of 100 missed, a third expected");
}

#[tokio::test(start_paused = true)]
async fn an_append_under_way_never_reaches_a_store_that_came_in_the_place_of_its_own() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    let empty = store.back_up(&StreamKind::ALL);
    store.faults().seed(1, StoreChances { delay_max: Duration::from_secs(10), ..StoreChances::default() });
    for (name, late) in [("another", 0), ("another", 1)] {
        let mut under_way = Box::pin(store.append(append(&stream, Head::default(), "first")));
        assert!(futures::poll!(&mut under_way).is_pending());
        store.replace(&empty, name);
        drop(under_way);
        assert_eq!(store.faults().late(), late, "of another store at first, then of the same one, set back");
    }
}

#[tokio::test(start_paused = true)]
async fn restoring_begins_another_life() {
    let (store, old, young) = (MemoryStore::new("first"), tenant("old"), tenant("young"));
    store.append_now(&append(&old, Head::default(), "x"));
    let backup = store.back_up(&[StreamKind::Tenant]);
    store.append_now(&append(&young, Head::default(), "x"));
    store.faults().next_append(AppendFault::UnknownAppliedLater);
    let late = append(&tenant("late"), Head::default(), "x");
    assert!(store.append(late.clone()).await.is_err());

    let identity = store.restore(&backup, "second");
    assert_eq!((identity.epoch, identity.store.as_str()), (2, "second"));
    assert_eq!(store.identity().await, Ok(identity));
    assert_eq!(store.streams(), [old]);
    assert_eq!(store.faults().release_late(), 0, "what was under way never reaches the new store");
    assert_eq!(store.append(late).await, Ok(Appended::Conflict), "nor does what was decided in the old one");
}

#[tokio::test(start_paused = true)]
async fn feed_loses_repeats_and_forgets() {
    let (feed, stream) = (MemoryFeed::new("topic", 2), tenant("a"));
    let partition = feed.partition_of(&stream);
    let index = usize::try_from(partition).expect("small");
    feed.faults().lose_next(1);
    for seq in 1..=3 {
        feed.publish(&[change(&stream, seq)]).await.expect("publish");
    }
    assert!(feed.faults().repeat(partition, 0));
    let expected = [2, 3, 2].map(|seq| FeedMessage::Change(change(&stream, seq)));
    assert_eq!(feed.records()[index], expected);

    feed.faults().truncate(partition, 2);
    let read = async |topic: &'static str, from| feed.read(topic, partition, from, 10, Duration::ZERO).await;
    assert_eq!(read("topic", 1).await, Err(FeedError::OutOfRange { partition, position: 1 }));
    assert_eq!(read("topic", 2).await.map(|batch| batch.next), Ok(3));
    feed.faults().new_topic("another");
    assert_eq!(read("topic", 0).await, Err(FeedError::OutOfRange { partition, position: 0 }));
    assert_eq!(read("another", 0).await.map(|batch| batch.messages), Ok(Vec::new()));
    feed.faults().fail_publishes(1);
    assert!(feed.publish(&[change(&stream, 4)]).await.is_err());
    feed.faults().fail_reads(1);
    assert!(read("another", 0).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_in_time_and_at_once_when_there_is_something() {
    let (feed, stream) = (MemoryFeed::new("topic", 1), tenant("a"));
    let began = tokio::time::Instant::now();
    let batch = feed.read("topic", 0, 0, 10, Duration::from_secs(30)).await.expect("a batch");
    assert_eq!((batch.messages, batch.next, began.elapsed()), (Vec::new(), 0, Duration::from_secs(30)));
    let publishing = async {
        tokio::time::advance(Duration::from_secs(5)).await;
        feed.publish(&[change(&stream, 1)]).await
    };
    let (batch, published) = tokio::join!(feed.read("topic", 0, 0, 10, Duration::MAX), publishing);
    assert_eq!((batch.expect("a batch").next, published), (1, Ok(())));
    assert_eq!(began.elapsed(), Duration::from_secs(35));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let run = async |seed| {
        let (store, feed) = (MemoryStore::new("store"), MemoryFeed::new("topic", 2));
        store.faults().seed(seed, StoreChances::stormy());
        feed.faults().seed(seed, FeedChances::stormy());
        let began = tokio::time::Instant::now();
        let mut answers = Vec::new();
        for n in 0..200 {
            let stream = tenant(&format!("t{}", n % 10));
            let head = store.current(&stream).map_or_else(Head::default, |(head, _)| head);
            answers.push(format!("{:?}", store.append(append(&stream, head, "x")).await));
            answers.push(format!("{:?}", feed.publish(&[change(&stream, n)]).await));
        }
        (answers, feed.records(), store.streams().len(), began.elapsed())
    };
    assert_eq!(run(5).await, run(5).await);
    assert_ne!(run(5).await, run(6).await);
}

#[test]
fn without_the_comparisons_appends_get_lost() {
    let (store, stream) = (MemoryStore::new("store"), tenant("a"));
    store.append_now(&append(&stream, Head::default(), "first"));
    let behind = append(&stream, Head::default(), "second");
    let forked = append(&stream, Head { seq: 1, ..Head::default() }, "second");
    for wrong in [&behind, &forked] {
        assert_eq!(store.append_now(wrong), Appended::Conflict);
    }
    {
        let _removed = hooks::remove(&[Guard::AppendComparesHash]);
        assert_eq!(store.append_now(&behind), Appended::Conflict);
        assert_eq!(store.append_now(&forked), Appended::Committed);
    }
    let _removed = hooks::remove(&[Guard::AppendComparesHead]);
    assert_eq!(store.append_now(&behind), Appended::Committed);
}

#[tokio::test]
async fn events_are_kept_as_often_as_they_were_published() {
    let events = MemoryEvents::new();
    let event = |seq| {
        let (store, kind) = ("store".to_owned(), "created".to_owned());
        PublicEvent { store, stream: tenant("a"), seq, kind, at: None }
    };
    events.publish(&[event(1), event(2)]).await.expect("they are published");
    events.fail_publishes(2, 1);
    for _ in 0..2 {
        assert!(matches!(events.publish(&[event(2), event(3)]).await, Err(FeedError::Unavailable(_))));
    }
    events.publish(&[event(3)]).await.expect("it is published");
    assert_eq!(events.published(), [event(1), event(2), event(2), event(2), event(3)]);
    assert_eq!((events.calls(), events.problems()), (4, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn events_get_lost_answers_and_refusals_from_a_seed() {
    let run = async |seed| {
        let events = MemoryEvents::new();
        let event = |seq| {
            let (store, kind) = ("store".to_owned(), "created".to_owned());
            PublicEvent { store, stream: tenant("a"), seq, kind, at: None }
        };
        events.seed(seed, EventChances::stormy());
        let (mut refused, mut answer_lost, mut delivered) = (0, 0, 0);
        for seq in 1..=200 {
            let before = events.published().len();
            let result = events.publish(&[event(seq)]).await;
            match (result, events.published().len() - before) {
                (Ok(()), 1) => delivered += 1,
                (Err(_), 0) => refused += 1,
                (Err(_), 1) => answer_lost += 1,
                other => panic!("{other:?} of one event"),
            }
        }
        events.calm();
        events.publish(&[event(201)]).await.expect("no more faults");
        (refused, answer_lost, delivered)
    };
    let (refused, answer_lost, delivered) = run(5).await;
    assert!(refused > 0 && answer_lost > 0 && delivered > 100, "{refused}, {answer_lost}, {delivered}");
    assert_eq!(run(5).await, run(5).await);
    assert_ne!(run(5).await, run(6).await);
}
