//! What is no longer there, what nobody wrote, and what is new.

use rdkafka::admin::NewPartitions;
use rdkafka::{Offset, TopicPartitionList};
use tessera_core::time::Timestamp;
use tessera_kafka::{Config, Kafka};
use tessera_ports::Shard;
use tessera_ports::change_feed::{ChangeFeed as _, ChangePublisher as _, FeedError, FeedMessage, Heartbeat};
use tokio::time::Instant;

use crate::setup::{Follower, LONG, admin, change, delete, open, options, tenant, topic, write};

type Bytes<'a> = Option<&'a [u8]>;

fn is_out_of_range(error: &FeedError) -> bool {
    matches!(error, FeedError::OutOfRange { .. })
}

async fn publish(kafka: &Kafka, count: u64) {
    let changes: Vec<_> = (0..count).map(|n| change(&tenant(&format!("t{n}")), 1, format!("state {n}"))).collect();
    kafka.publish(&changes).await.expect("it is published");
}

/// As many records in the new topic as in the old one: positions fit, and mean something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_made_again_is_out_of_range() {
    let Some(config) = topic(2).await else { return };
    let kafka = open(&config).await;
    let mut follower = Follower::new(&kafka).await;
    let before = kafka.topic().await.expect("a topic");
    publish(&kafka, 20).await;
    follower.until("20 changes", |follower| follower.changes().count() >= 20).await;

    delete(&config).await;
    tessera_kafka::migrate(&config).await.expect("another topic");
    let mut publisher = open(&config).await;
    let until = Instant::now() + LONG;
    while publisher.publish(&[change(&tenant("t0"), 2, "again")]).await.is_err() {
        assert!(Instant::now() < until, "the new topic cannot be written");
        publisher = open(&config).await;
    }
    publish(&publisher, 40).await;
    assert!(is_out_of_range(&follower.until_lost().await));

    let after = kafka.topic().await.expect("a topic");
    assert_ne!(before.id, after.id);
    // Whoever begins anew on the same handle reads the new topic.
    let ends = kafka.ends().await.expect("ends");
    let mut again = Follower::at(&kafka, after.id, vec![0; ends.len()]);
    again.until("41 changes", |follower| follower.changes().count() >= 41).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_log_is_out_of_range() {
    let Some(config) = topic(1).await else { return };
    let kafka = open(&config).await;
    publish(&kafka, 10).await;
    let topic = kafka.topic().await.expect("a topic");
    let mut follower = Follower::at(&kafka, topic.id.clone(), vec![0]);
    follower.until("10 changes", |follower| follower.changes().count() >= 10).await;

    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&config.topic, 0, Offset::Offset(5)).expect("an offset");
    admin(&config).delete_records(&before, &options()).await.expect("they are deleted");
    for from in 0..5 {
        let read = kafka.read(&topic.id, 0, from, 100, LONG).await;
        assert_eq!(read, Err(FeedError::OutOfRange { partition: 0, position: from }));
    }
    let read = kafka.read(&topic.id, 0, 5, 100, LONG).await.expect("the rest is there");
    assert_eq!((read.messages.len(), read.next), (5, 10));
    // It stands at the end, and goes on.
    publish(&kafka, 1).await;
    follower.until("one more", |follower| follower.changes().count() >= 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_told_and_the_others_flow() {
    let Some(config) = topic(1).await else { return };
    let kafka = open(&config).await;
    let mut follower = Follower::new(&kafka).await;
    publish(&kafka, 1).await;
    let huge = vec![1; 1_020_000];
    let poison: [(Bytes<'_>, Bytes<'_>); 6] = [
        (Some(b"tenant/t0"), None),
        (None, None),
        (Some(b"orders/7"), Some(b"{\"order\": 7}")),
        (Some(b"tenant/t0"), Some(b"\x02from the future")),
        (Some(&[0xff, 0xfe]), Some(&[1, 1, 0, 0])),
        (Some(b"tenant/t0"), Some(&huge)),
    ];
    for (key, value) in poison {
        write(&config, 0, key, value).await;
    }
    publish(&kafka, 2).await;
    follower.until("9 messages", |follower| follower.messages().count() >= 9).await;
    let bad: Vec<&String> =
        follower.messages().filter_map(|message| if let FeedMessage::Bad(why) = message { Some(why) } else { None }).collect();
    let expected = [
        "a record without a value, with key `tenant/t0`, at position 1",
        "a record without a value, with key ``, at position 2",
        "a record in format 123, with key `orders/7`; this software knows format 1, at position 3",
        "a record in format 2, with key `tenant/t0`; this software knows format 1, at position 4",
        "a record of 6 bytes, with key `\\xff\\xfe`, which is no record of ours, at position 5",
        "a record of 1020009 bytes, with key `tenant/t0`; the most is 983040, at position 6",
    ];
    assert_eq!(bad, expected);
    assert_eq!(follower.changes().count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_partitions_are_found() {
    let Some(config) = topic(2).await else { return };
    let kafka = open(&config).await;
    let mut few = Follower::new(&kafka).await;
    publish(&kafka, 10).await;
    few.until("10 streams", |few| few.greatest().len() >= 10).await;
    let before = kafka.topic().await.expect("a topic");
    admin(&config).create_partitions([&NewPartitions::new(&config.topic, 5)], &options()).await.expect("partitions");
    let until = Instant::now() + LONG;
    while kafka.partitions().await.expect("a number") != 5 {
        assert!(Instant::now() < until, "new partitions are not found");
        tokio::task::yield_now().await;
    }
    // Positions in two partitions are none in five, which whoever follows two is told of.
    assert!(is_out_of_range(&few.until_lost().await));
    let after = kafka.topic().await.expect("a topic");
    assert_eq!((before.partitions, after.partitions), (2, 5));
    assert_ne!(before.id, after.id);
    for partition in 0..5 {
        let read = kafka.read(&before.id, partition, 0, 100, LONG).await;
        assert_eq!(read, Err(FeedError::OutOfRange { partition, position: 0 }));
    }
    // What was there before is still there, under the new id.
    let mut again = Follower::at(&kafka, after.id, vec![0; 5]);
    again.until("10 streams", |again| again.greatest().len() >= 10).await;
    let mut follower = Follower::new(&kafka).await;
    assert_eq!(follower.seen.len(), 5);
    let changes: Vec<_> = (0..50).map(|n| change(&tenant(&format!("new{n}")), 1, "state")).collect();
    let until = Instant::now() + LONG;
    while let Err(error) = kafka.publish(&changes).await {
        assert!(Instant::now() < until, "{error}");
    }
    follower.until("50 streams", |follower| follower.greatest().len() >= 50).await;
    for (partition, seen) in (0u32..).zip(&follower.seen) {
        for message in seen {
            let FeedMessage::Change(change) = message else { panic!("{message:?}") };
            assert_eq!(Shard::of(&change.stream).partition(5), partition);
        }
    }
    assert!(kafka.problems()[0].contains("has 5 partitions and backends.kafka.partitions is `2`"));
    let agreed = Config { partitions: 5, ..config };
    assert_eq!(open(&agreed).await.problems(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greatest_state_passes() {
    let Some(config) = topic(2).await else { return };
    let kafka = open(&config).await;
    let mut follower = Follower::new(&kafka).await;
    // Bytes that do not compress.
    let mut number = 0x9e37_79b9_u32;
    let state: Vec<u8> = std::iter::repeat_with(|| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number.to_be_bytes()[0]
    })
    .take(900 * 1024)
    .collect();
    let changes: Vec<_> = (0..6).map(|n| change(&tenant(&format!("{n}{}", "x".repeat(127))), 1, state.clone())).collect();
    kafka.publish(&changes).await.expect("it is published");
    follower.until("6 changes", |follower| follower.changes().count() >= 6).await;
    assert!(follower.changes().all(|change| change.state == state));

    let beyond = vec![0; 1024 * 1024];
    let error = kafka.publish(&[change(&tenant("beyond"), 1, beyond)]).await.expect_err("it is too big");
    assert!(error.to_string().contains("`tenant/beyond` makes a record of 1048615 bytes; the most is 983040"), "{error}");
}

/// Two readers of one partition at different positions, on the same handle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_do_not_disturb_each_other() {
    let Some(config) = topic(1).await else { return };
    let kafka = open(&config).await;
    publish(&kafka, 200).await;
    let topic = kafka.topic().await.expect("a topic").id;
    let all = async |limit: usize| {
        let (mut at, mut streams) = (0, Vec::new());
        while at < 200 {
            let batch = kafka.read(&topic, 0, at, limit, LONG).await.expect("a batch");
            for message in &batch.messages {
                let FeedMessage::Change(change) = message else { panic!("{message:?}") };
                streams.push(change.stream.to_string());
            }
            at = batch.next;
        }
        streams
    };
    let expected: Vec<String> = (0..200).map(|n| format!("tenant/t{n}")).collect();
    let (one, other) = tokio::join!(all(70), all(90));
    assert_eq!((&one, &other), (&expected, &expected));
}

/// A reader that is broken off loses nothing: the next one from the same position is given everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_off_reads_lose_nothing() {
    let Some(config) = topic(1).await else { return };
    let kafka = open(&config).await;
    let topic = kafka.topic().await.expect("a topic").id;
    let mut at = 0;
    for round in 0..40 {
        let never = kafka.read(&topic, 0, at, 100, LONG);
        // Broken off while the record is on its way, or just before or after.
        let (_, publishing) =
            tokio::join!(tokio::time::timeout(std::time::Duration::from_micros(round * 150), never), publish(&kafka, 1));
        let () = publishing;
        let batch = kafka.read(&topic, 0, at, 100, LONG).await.expect("a batch");
        assert_eq!((batch.messages.len(), batch.next), (1, at + 1), "in round {round}");
        at = batch.next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_go_where_they_are_sent() {
    let Some(config) = topic(3).await else { return };
    let kafka = open(&config).await;
    let mut follower = Follower::new(&kafka).await;
    let heartbeat =
        |s| Heartbeat { epoch: 1, store: "s".to_owned(), at: Timestamp::from_seconds(s).expect("a time"), partitions: 3 };
    kafka.beat(&[], &heartbeat(1)).await.expect("nothing to do");
    kafka.beat(&[0, 2], &heartbeat(2)).await.expect("beat");
    follower.until("2 heartbeats", |follower| follower.messages().count() >= 2).await;
    let beat = [FeedMessage::Heartbeat(heartbeat(2))];
    assert_eq!(follower.seen, [beat.to_vec(), Vec::new(), beat.to_vec()]);
}
