//! The feed that appends write: wake-ups, heartbeats behind what they speak of, trimming, and life beyond a restart.

use std::time::Duration;

use tessera_core::time::Timestamp;
use tessera_ports::change_feed::{ChangeFeed, ChangePublisher, FeedBatch, FeedError, FeedMessage, Heartbeat, Position};
use tessera_ports::event_store::{EventStore as _, Head};
use tessera_sqlite::{Config, Sqlite};

use crate::setup::{Numbered, Place, tenant, write};

const TOPIC: &str = "unique-0";

async fn read(sqlite: &Sqlite, from: Position, limit: usize) -> Result<FeedBatch, FeedError> {
    ChangeFeed::read(sqlite, TOPIC, 0, from, limit, Duration::ZERO).await
}

fn heartbeat(at_s: i64) -> Heartbeat {
    Heartbeat { epoch: 1, store: TOPIC.to_owned(), at: Timestamp::from_seconds(at_s).expect("a time"), partitions: 1 }
}

fn seqs(batch: &FeedBatch) -> Vec<(String, u64)> {
    let changes = batch.messages.iter().filter_map(|message| match message {
        FeedMessage::Change(change) => Some((change.stream.key().to_owned(), change.seq)),
        _ => None,
    });
    changes.collect()
}

#[tokio::test]
async fn a_batch_has_each_stream_once_as_it_is_now() {
    let place = Place::new();
    let sqlite = place.open();
    for text in ["1", "2", "3"] {
        write(&sqlite, &tenant("a"), 1, text).await;
        write(&sqlite, &tenant("b"), 2, text).await;
    }
    let batch = read(&sqlite, 0, 10).await.expect("a batch");
    assert_eq!(seqs(&batch), [("a".to_owned(), 3), ("b".to_owned(), 6)]);
    assert_eq!(sqlite.ends().await, Ok(vec![batch.next]));
    assert_eq!(read(&sqlite, batch.next, 10).await.map(|batch| batch.messages), Ok(Vec::new()));
    // One at a time the second follows, however often the first has moved.
    let first = read(&sqlite, 0, 1).await.expect("a batch");
    assert_eq!(seqs(&first), [("a".to_owned(), 3)]);
    assert_eq!(seqs(&read(&sqlite, first.next, 1).await.expect("a batch")), [("b".to_owned(), 6)]);
}

#[tokio::test]
async fn a_heartbeat_comes_once_and_behind_every_change_before_it() {
    let place = Place::new();
    let sqlite = place.open();
    let streams: Vec<_> = (0..5).map(|n| tenant(&format!("t{n}"))).collect();
    for stream in &streams {
        write(&sqlite, stream, 1, "x").await;
    }
    sqlite.beat(&[0], &heartbeat(1)).await.expect("a beat");
    sqlite.beat(&[0], &heartbeat(2)).await.expect("a beat");
    // In batches that are too short for everything, it is in none but the last.
    let (mut from, mut batches) = (0, Vec::new());
    loop {
        let batch = read(&sqlite, from, 2).await.expect("a batch");
        if batch.messages.is_empty() {
            break;
        }
        from = batch.next;
        batches.extend(batch.messages);
    }
    assert_eq!(batches.len(), 6, "{batches:?}");
    assert_eq!(batches.last(), Some(&FeedMessage::Heartbeat(heartbeat(2))), "only the newest counts");

    sqlite.beat(&[0], &heartbeat(3)).await.expect("a beat");
    let batch = read(&sqlite, from, 10).await.expect("a batch");
    assert_eq!(batch.messages, [FeedMessage::Heartbeat(heartbeat(3))]);
    assert!(batch.next > from);
    assert_eq!(read(&sqlite, batch.next, 10).await, Ok(FeedBatch { messages: Vec::new(), next: batch.next }));
    // Whoever comes new learns at once how fresh he is.
    let end = sqlite.ends().await.expect("ends");
    let batch = read(&sqlite, end[0], 10).await.expect("a batch");
    assert_eq!(batch.messages, [FeedMessage::Heartbeat(heartbeat(3))]);
}

#[tokio::test]
async fn heartbeats_are_told_apart_for_ever() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("a"), 1, "x").await;
    let end = sqlite.ends().await.expect("ends")[0];
    let mut from = end;
    // More than their numbers go round.
    for n in 1..=70_000 {
        sqlite.beat(&[0], &heartbeat(n)).await.expect("a beat");
        if n % 500 == 0 || (65_500..65_600).contains(&n) {
            let batch = read(&sqlite, from, 10).await.expect("a batch");
            assert_eq!(batch.messages, [FeedMessage::Heartbeat(heartbeat(n))]);
            assert!(batch.next >= end, "a reader never falls behind the ends");
            from = batch.next;
        }
    }
}

/// Writers and a beating heart at once: whenever a heartbeat arrives, everything acknowledged before it has arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_never_overtake_changes() {
    let place = Place::new();
    let sqlite = place.open();
    let stream = tenant("a");
    let writing = async {
        for n in 1..=150 {
            let head = write(&sqlite, &stream, 1, "x").await;
            assert_eq!(head.seq, n);
            // Says in its time what was acknowledged before it.
            sqlite.beat(&[0], &heartbeat(i64::try_from(n).expect("small"))).await.expect("a beat");
        }
    };
    let reading = async {
        let (mut from, mut newest, mut beats) = (0, 0, 0);
        while newest < 150 || beats < 150 {
            let batch = ChangeFeed::read(&sqlite, TOPIC, 0, from, 3, Duration::from_secs(20)).await.expect("a batch");
            assert!(!batch.messages.is_empty(), "nothing came in time");
            from = batch.next;
            for message in batch.messages {
                match message {
                    FeedMessage::Change(change) => newest = newest.max(change.seq),
                    FeedMessage::Heartbeat(heartbeat) => {
                        beats = u64::try_from(heartbeat.at.seconds()).expect("small");
                        assert!(newest >= beats, "heartbeat {beats} overtook the change, which is at {newest}");
                    }
                    FeedMessage::Bad(why) => panic!("{why}"),
                }
            }
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn old_rows_go_and_whoever_needs_them_is_told() {
    let place = Place::new();
    let sqlite = Sqlite::open(&Config { change_rows_max: 1_000, ..place.config() }, &Numbered::default()).expect("it opens");
    let (stream, start) = (tenant("a"), sqlite.ends().await.expect("ends")[0]);
    write(&sqlite, &stream, 1, "x").await;
    let early = sqlite.ends().await.expect("ends")[0];
    let appends = (0..1_200).map(|n| {
        let append = crate::setup::append_of(&tenant(&format!("t{n}")), Head::default(), 1, "x");
        sqlite.append(append)
    });
    futures::future::join_all(appends).await;
    for from in [start, early] {
        assert_eq!(read(&sqlite, from, 10).await, Err(FeedError::OutOfRange { partition: 0, position: from }));
    }
    let count: i64 = place.raw().query_row("SELECT count(*) FROM change", [], |row| row.get(0)).expect("a count");
    assert_eq!(count, 1_000);
    let end = sqlite.ends().await.expect("ends")[0];
    assert_eq!(read(&sqlite, end, 10).await.map(|batch| batch.messages), Ok(Vec::new()));
}

#[tokio::test]
async fn positions_outlive_the_process() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("a"), 1, "x").await;
    sqlite.beat(&[0], &heartbeat(1)).await.expect("a beat");
    let noted = read(&sqlite, 0, 10).await.expect("a batch").next;
    drop(sqlite);
    let sqlite = place.open();
    assert_eq!(sqlite.topic().await.map(|topic| topic.id), Ok(TOPIC.to_owned()));
    assert_eq!(read(&sqlite, noted, 10).await, Ok(FeedBatch { messages: Vec::new(), next: noted }));
    write(&sqlite, &tenant("b"), 1, "x").await;
    assert_eq!(seqs(&read(&sqlite, noted, 10).await.expect("a batch")), [("b".to_owned(), 1)]);
}

#[tokio::test]
async fn only_what_the_store_has_can_be_published() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("a"), 1, "x").await;
    let change = |epoch, name: &str, seq| tessera_ports::Change { epoch, stream: tenant(name), seq, state: "x".into() };
    assert_eq!(sqlite.publish(&[]).await, Ok(()));
    assert_eq!(sqlite.publish(&[change(1, "a", 1)]).await, Ok(()));
    for wrong in [change(1, "a", 2), change(1, "b", 1), change(2, "a", 1)] {
        assert!(sqlite.publish(std::slice::from_ref(&wrong)).await.is_err(), "{wrong:?}");
    }
    // Refused beside what could be published, too, and whatever is written then is in the feed as ever.
    let end = sqlite.ends().await.expect("ends");
    assert!(sqlite.publish(&[change(1, "a", 1), change(1, "b", 1)]).await.is_err());
    assert_eq!(sqlite.ends().await, Ok(end.clone()));
    write(&sqlite, &tenant("a"), 1, "y").await;
    assert_eq!(seqs(&read(&sqlite, end[0], 10).await.expect("a batch")), [("a".to_owned(), 2)]);
}
