//! Histories that go from one store into another, and who hears of it.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tessera_core::ids::{PlanId, TenantId};
use tessera_core::time::Timestamp;
use tessera_loader::sweeper::Sweeper;
use tessera_ports::Shard;
use tessera_ports::change_feed::FeedMessage;
use tessera_ports::clock::ManualClock;
use tessera_ports::memory::{AppendFault, MemoryFeed, MemoryStore, Operation, SplitMix64};

use super::*;

/// A store with some streams of that many events each, several to an append, every append one request.
fn filled(seed: u64, lengths: &[usize]) -> MemoryStore {
    let (store, mut random) = (MemoryStore::new("old"), SplitMix64::new(seed));
    let ids = (0..lengths.len()).map(|number| match number {
        0 => StreamId::Catalog,
        1 => StreamId::Plan(PlanId::parse("gold").expect("an id")),
        _ => StreamId::Tenant(TenantId::parse(&format!("tenant-{number}")).expect("an id")),
    });
    for (stream, length) in ids.zip(lengths) {
        let mut head = Head::default();
        while head.seq < *length as u64 {
            let count = 1 + random.below(5);
            let cells: Vec<Bytes> = (0..count).map(|_| vec![7; random.index(PART_BYTES_MAX / 40)].into()).collect();
            let id = RequestId::parse(&format!("r-{}", random.next_u64())).expect("an id");
            let row = RequestRow { id, seq: head.seq + count, digest: CommandDigest([random.next_u64().to_le_bytes()[0]; 32]) };
            let state = Bytes::from(format!("{stream} at {}", head.seq + count));
            let append = Append { epoch: 1, stream: stream.clone(), expected: head, cells, state, requests: vec![row] };
            assert_eq!(store.append_now(&append), Appended::Committed);
            head = append.head_after();
        }
    }
    store
}

async fn exported(store: &MemoryStore) -> Vec<u8> {
    let mut out = Vec::new();
    export(store, &mut out, |_| {}).await.expect("an export");
    out
}

async fn imported(store: &MemoryStore, history: &[u8]) -> Result<Moved, String> {
    published(store, &MemoryFeed::new("changes", 4), history).await
}

/// As [`imported`], with this feed.
async fn published(store: &MemoryStore, feed: &MemoryFeed, history: &[u8]) -> Result<Moved, String> {
    let clock = ManualClock::new(Timestamp::MIN);
    let target = Target { store, hints: store, publisher: feed, clock: &clock };
    let moved = async { import(target, History::begin(history)?, |_| {}).await };
    moved.await.map_err(|error| format!("{error:#}"))
}

/// Every change in the feed, in the order of the streams.
fn told(feed: &MemoryFeed) -> Vec<(StreamId, Seq, Bytes)> {
    let change = |message: FeedMessage| match message {
        FeedMessage::Change(Change { epoch: 1, stream, seq, state }) => (stream, seq, state),
        other => panic!("not published by an import: {other:?}"),
    };
    let mut told: Vec<_> = feed.records().into_iter().flatten().map(change).collect();
    told.sort();
    told
}

/// How every stream ends, in their order.
fn ends(store: &MemoryStore) -> Vec<(StreamId, Seq, Bytes)> {
    let end = |stream: StreamId| {
        let (head, state) = store.current(&stream).expect("a stream");
        (stream, head.seq, state)
    };
    store.streams().into_iter().map(end).collect()
}

/// The heads that hints name.
async fn hinted(store: &MemoryStore) -> Vec<Seq> {
    let hints = store.list(&shards(), 1_000).await.expect("hints");
    let mut heads: Vec<Seq> = hints.into_iter().map(|hint| hint.head).collect();
    heads.sort_unstable();
    heads
}

fn shards() -> Vec<Shard> {
    Shard::all().collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Heads with their hashes, cells, states and request rows are all there; another import of the same changes nothing, and one
    /// that broke off after some appends or was told nothing of them goes on.
    #[test]
    fn the_other_store_becomes_what_this_one_was(seed: u64, lengths in proptest::collection::vec(1..150usize, 1..6)) {
        run(async {
            let old = filled(seed, &lengths);
            let history = exported(&old).await;
            let new = MemoryStore::new("new");
            new.faults().next_append(AppendFault::UnknownApplied);
            new.faults().next_append(AppendFault::UnknownNotApplied);
            new.faults().next_append(AppendFault::NotAttempted);
            let half = history.iter().take(history.len() / 2).copied().collect::<Vec<u8>>();
            assert!(imported(&new, &half).await.is_err(), "it ends early");
            for _ in 0..2 {
                let moved = imported(&new, &history).await.expect("an import");
                assert_eq!(moved.streams, lengths.len() as u64);
            }
            assert_eq!(new.streams(), old.streams());
            for stream in old.streams() {
                assert_eq!(new.current(&stream), old.current(&stream));
                assert_eq!(new.cells(&stream), old.cells(&stream));
                let rows = |store: &MemoryStore| { let store = store.clone(); let stream = stream.clone(); async move {
                    request_rows(&store, &stream).await.expect("rows")
                }};
                assert_eq!(rows(&new).await, rows(&old).await);
            }
        });
    }
}

#[test]
fn what_is_not_the_whole_history_or_not_the_whole_store_is_refused() {
    run(async {
        let history = exported(&filled(1, &[3, 3, 3])).await;
        let text = String::from_utf8(history.clone()).expect("lines");
        let refused = async |store: &MemoryStore, text: &str| imported(store, text.as_bytes()).await.expect_err(text);
        let fresh = || MemoryStore::new("new");
        assert_eq!(refused(&fresh(), "").await, "this is no history: it does not begin as `tessera export --history` does");
        assert!(refused(&fresh(), "plan: gold\n").await.starts_with("line 1 of the history: "));
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        assert_eq!(refused(&fresh(), &newer).await, "the history has format 2; this software reads format 1");
        let later = text.replacen("\"epoch\":1", "\"epoch\":2", 1);
        let said = refused(&fresh(), &later).await;
        assert!(said.contains("allowed is a later one or the same") && said.contains("migrate --epoch 2`"), "{said}");
        let without_end: String =
            text.lines().filter(|line| !line.contains("\"end\"")).map(|line| line.to_owned() + "\n").collect();
        assert!(refused(&fresh(), &without_end).await.contains("its last line is missing"));
        let other = filled(2, &[3]);
        assert!(refused(&other, &text).await.contains("stream `catalog` of the store has other events than the history"));
        let more = filled(1, &[3, 3, 3, 3]);
        assert!(refused(&more, &text).await.contains("the store has other streams besides"));
    });
}

/// Of the store that has nothing to do with the history, nothing is changed: neither its streams nor its hints.
#[test]
fn nothing_is_written_into_another_store() {
    run(async {
        let old = filled(1, &[150, 3, 3]);
        let history = exported(&old).await;
        let untouched = async |store: &MemoryStore, said: &str| {
            let before = ends(store);
            let error = imported(store, &history).await.expect_err(said);
            assert!(error.contains(said), "{error}");
            assert_eq!(ends(store), before, "{said}");
            assert!(hinted(store).await.is_empty(), "{said}");
        };
        let write = |store: &MemoryStore, stream: StreamId| {
            let (cells, state) = (vec![Bytes::from_static(b"cell")], Bytes::from_static(b"state"));
            let append = Append { epoch: 1, stream, expected: Head::default(), cells, state, requests: Vec::new() };
            assert_eq!(store.append_now(&append), Appended::Committed);
        };
        let theirs = StreamId::Tenant(TenantId::parse("theirs").expect("an id"));
        let without_first = MemoryStore::new("without the first stream");
        write(&without_first, theirs.clone());
        untouched(&without_first, "it has stream `tenant/theirs`, and not `catalog` as the history has it").await;

        // Its first stream is the beginning of that of the history.
        let behind = MemoryStore::new("behind");
        write(&behind, theirs);
        let first = history.split(|byte| *byte == b'\n').nth(1).expect("a part");
        let Ok(Line::Part(first)) = serde_json::from_slice(first) else { panic!("it is no part") };
        let first = appends(1, vec![first]).expect("an append").remove(0);
        assert_eq!(behind.append_now(&first), Appended::Committed);
        untouched(&behind, "it has stream `tenant/theirs`, and not `catalog` as the history has it").await;

        untouched(&filled(2, &[3, 3]), "it has stream `plan/gold`, and not `catalog` as the history has it").await;
        untouched(&filled(2, &[3]), "stream `catalog` of the store has other events than the history").await;
    });
}

#[test]
fn an_export_during_which_somebody_writes_is_none() {
    run(async {
        let lengths = [3; STREAMS_PAGE + 3];
        let append = |stream: StreamId, expected: Head, state: &'static str| {
            let (cells, state) = (vec![Bytes::from_static(b"cell")], Bytes::from_static(state.as_bytes()));
            Append { epoch: 1, stream, expected, cells, state, requests: Vec::new() }
        };
        // The catalog comes first, and tenants by their ids.
        for moves_on in [true, false] {
            let (store, mut out) = (filled(6, &lengths), Vec::new());
            let write = |streams| {
                let late = streams == lengths.len() as u64;
                let stream = if moves_on { StreamId::Catalog } else { StreamId::Tenant(TenantId::parse("a").expect("an id")) };
                let expected = store.current(&stream).map(|(head, _)| head).unwrap_or_default();
                if late {
                    assert_eq!(store.append_now(&append(stream, expected, "later")), Appended::Committed);
                }
            };
            let error = export(&store, &mut out, write).await.expect_err("somebody wrote");
            assert!(error.to_string().contains("somebody wrote to the store meanwhile"), "{error:#}");
            assert!(!String::from_utf8(out).expect("lines").contains("\"end\""), "it has an end");
        }
    });
}

#[test]
fn whoever_follows_the_store_hears_of_every_stream() {
    run(async {
        let old = filled(3, &[150, 3, 3, 3]);
        let history = exported(&old).await;
        let (new, feed) = (MemoryStore::new("new"), MemoryFeed::new("changes", 4));
        published(&new, &feed, &history).await.expect("an import");
        assert_eq!(told(&feed), ends(&old));
        assert!(hinted(&new).await.is_empty(), "what is published needs no hint");
        published(&new, &feed, &history).await.expect("another import");
        assert_eq!(told(&feed), ends(&old), "what was there already was published, or has its hint");
    });
}

#[test]
fn nothing_is_written_that_nobody_would_publish() {
    run(async {
        let old = filled(4, &[150]);
        let history = exported(&old).await;
        let begin = |line| match serde_json::from_slice(line) {
            Ok(Line::Part(part)) => Some(part.after),
            _ => None,
        };
        let begins: Vec<Seq> = history.split(|byte| *byte == b'\n').filter_map(begin).collect();
        assert!(begins.len() > 2, "{begins:?}");

        let (new, feed) = (MemoryStore::new("new"), MemoryFeed::new("changes", 4));
        new.faults().fail_next(Operation::PutHint, 1);
        let error = published(&new, &feed, &history).await.expect_err("no hint");
        assert!(error.starts_with("note that stream `catalog` moves: "), "{error}");
        assert!(new.streams().is_empty(), "no append without its hint");

        feed.faults().fail_publishes(1);
        let error = published(&new, &feed, &history).await.expect_err("nothing is published");
        assert!(error.starts_with("publish stream `catalog`, which is written: "), "{error}");
        assert_eq!(hinted(&new).await, begins, "each append has its hint");
        published(&new, &feed, &history).await.expect("what is there is left");
        assert_eq!(hinted(&new).await, begins);

        // A loader that comes to it does what was left undone.
        let (store, hints, publisher) = (Arc::new(new.clone()), Arc::new(new.clone()), Arc::new(feed.clone()));
        let sweeper = Sweeper::new(store, hints, publisher, None, 1_000, Duration::from_hours(1));
        sweeper.pass(1, &shards(), Timestamp::MIN).await.expect("a pass");
        let mut changes = told(&feed);
        changes.dedup();
        assert_eq!(changes, ends(&old));
        assert!(hinted(&new).await.is_empty());
    });
}

#[test]
fn a_store_that_feeds_itself_is_left_to_it() {
    run(async {
        let old = filled(5, &[3, 3]);
        let feed = MemoryFeed::new("changes", 4);
        let new = MemoryStore::feeding("new", feed.clone());
        new.faults().fail_next(Operation::PutHint, 1);
        feed.faults().fail_publishes(1);
        published(&new, &feed, &exported(&old).await).await.expect("an import");
        assert_eq!(told(&feed), ends(&old));
    });
}
