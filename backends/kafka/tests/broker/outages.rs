//! The broker dies and comes back, or stands still, under a publisher and readers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tessera_core::time::Timestamp;
use tessera_engines::{Engine, Kafka, Options};
use tessera_kafka::migrate;
use tessera_ports::change_feed::{ChangeFeed as _, ChangePublisher as _, FeedError, Heartbeat};

use crate::setup::{Follower, change, config_at, eventually, open, tenant};

/// Does something to the engine that takes its time, while everybody else goes on.
async fn apart(mut engine: Kafka, harm: fn(&mut Engine) -> anyhow::Result<()>) -> Kafka {
    let harmed = tokio::task::spawn_blocking(move || harm(&mut engine).map(|()| engine)).await;
    harmed.expect("no panic").expect("it can be done")
}

/// Every stream's acknowledged seqs are all in the feed afterwards, and do not fall but for what was published again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    const STREAMS: u64 = 8;
    if !tessera_engines::available().expect("engines") {
        return;
    }
    let mut engine =
        tokio::task::spawn_blocking(|| Kafka::throwaway(&Options::default()).expect("a Kafka")).await.expect("it starts");
    let config = tessera_kafka::Config { publish_timeout_ms: 2_000, ..config_at(&engine.bootstrap(), 3) };
    migrate(&config).await.expect("a topic");
    let kafka = open(&config).await;
    let mut follower = Follower::new(&kafka).await;
    let acknowledged: Vec<AtomicU64> = (0..STREAMS).map(|_| AtomicU64::new(0)).collect();
    let (is_over, failures) = (AtomicBool::new(false), AtomicU64::new(0));

    let publishing = async {
        let mut seq = 0;
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while !is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            seq += 1;
            let changes: Vec<_> = (0..STREAMS).map(|n| change(&tenant(&format!("t{n}")), seq, format!("{seq}"))).collect();
            // A state that is not acknowledged is published again, as a loader does, or a later one.
            while let Err(FeedError::Unavailable(_)) = kafka.publish(&changes).await {
                failures.fetch_add(1, Ordering::Relaxed);
            }
            for stream in &acknowledged {
                stream.store(seq, Ordering::Relaxed);
            }
        }
    };
    let goes_on = async || {
        let reached = acknowledged[0].load(Ordering::Relaxed) + 50;
        eventually("50 more are acknowledged", || acknowledged[0].load(Ordering::Relaxed) >= reached).await;
    };
    let harming = async {
        for _ in 0..2 {
            goes_on().await;
            let before = failures.load(Ordering::Relaxed);
            engine = apart(engine, Engine::kill).await;
            // Long enough that both sides notice, and say so.
            let is_told = |text| kafka.problems().iter().any(|problem| problem.contains(text));
            eventually("the outage is noticed", || {
                failures.load(Ordering::Relaxed) > before
                    && is_told("have not answered for")
                    && is_told("nothing could be published")
            })
            .await;
            println!("{:?}", kafka.problems());
            engine = apart(engine, Engine::restart).await;
        }
        goes_on().await;
        is_over.store(true, Ordering::Relaxed);
        // Dropped it would be killed, and the last call would never be answered.
        engine
    };
    let following = async {
        while !is_over.load(Ordering::Relaxed) {
            follower.round().await.expect("positions that are there");
        }
        follower
    };
    let ((), _engine, mut follower) = tokio::join!(publishing, harming, following);
    let last = acknowledged[0].load(Ordering::Relaxed);
    follower
        .until("last seq of every stream", |follower| {
            let greatest = follower.greatest();
            greatest.len() as u64 == STREAMS && greatest.values().all(|seq| *seq >= last)
        })
        .await;
    for n in 0..STREAMS {
        let stream = tenant(&format!("t{n}"));
        let seqs: Vec<u64> = follower.changes().filter(|change| change.stream == stream).map(|change| change.seq).collect();
        let all: BTreeSet<u64> = seqs.iter().copied().collect();
        let missing: Vec<u64> = (1..=last).filter(|seq| !all.contains(seq)).collect();
        assert_eq!(missing, Vec::<u64>::new(), "{stream}");
        // What may come again is what was given up, and nothing older.
        assert!(seqs.windows(2).all(|pair| pair[1] + 1 >= pair[0]), "{stream}: {seqs:?}");
    }
    assert!(follower.unavailable > 0, "the reader was never told of the outage");
    eventually("all is well again", || kafka.problems().is_empty()).await;
}

/// For how long the brokers have not answered, as far as the feed knows.
fn silent_seconds(kafka: &tessera_kafka::Kafka) -> u64 {
    let problems = kafka.problems();
    let rest = problems.iter().find_map(|problem| problem.split_once("have not answered for "));
    rest.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// A broker that stands still for longer than its own session is taken for dead by its controller, so that every partition gets
/// another leader epoch; consumers that were asking for the old one may never be answered. Every partition is read on all the
/// same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_partition_is_read_on_after_a_standstill() {
    const PARTITIONS: u32 = 12;
    if !tessera_engines::available().expect("engines") {
        return;
    }
    let mut engine =
        tokio::task::spawn_blocking(|| Kafka::throwaway(&Options::default()).expect("a Kafka")).await.expect("it starts");
    let config = tessera_kafka::Config { publish_timeout_ms: 2_000, ..config_at(&engine.bootstrap(), PARTITIONS) };
    migrate(&config).await.expect("a topic");
    let (kafka, publisher) = (open(&config).await, open(&config).await);
    let topic = kafka.topic().await.expect("a topic").id;
    let positions: Vec<AtomicU64> = kafka.ends().await.expect("ends").into_iter().map(AtomicU64::new).collect();
    let is_over = AtomicBool::new(false);

    let publishing = async {
        let everywhere: Vec<u32> = (0..PARTITIONS).collect();
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let mut seconds = 0;
        while !is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            seconds += 1;
            let at = Timestamp::from_seconds(seconds).expect("a time");
            // What fails is not repeated: the next one comes at once.
            drop(publisher.beat(&everywhere, &Heartbeat { epoch: 1, store: "s".to_owned(), at, partitions: PARTITIONS }).await);
        }
    };
    let reading = futures::future::join_all((0..PARTITIONS).zip(&positions).map(async |(partition, position)| {
        while !is_over.load(Ordering::Relaxed) {
            let from = position.load(Ordering::Relaxed);
            match kafka.read(&topic, partition, from, 1_000, Duration::from_millis(500)).await {
                Ok(batch) => position.store(batch.next, Ordering::Relaxed),
                Err(FeedError::Unavailable(_)) => tokio::task::yield_now().await,
                Err(lost @ FeedError::OutOfRange { .. }) => panic!("{lost}"),
            }
        }
    }));
    let all_go_on = async |when: &str| {
        let before: Vec<u64> = positions.iter().map(|position| position.load(Ordering::Relaxed)).collect();
        eventually(when, || {
            positions.iter().zip(&before).all(|(position, before)| position.load(Ordering::Relaxed) > *before + 10)
        })
        .await;
    };
    let harming = async {
        all_go_on("all partitions are read").await;
        engine = apart(engine, Engine::suspend).await;
        eventually("the standstill is noticed", || silent_seconds(&kafka) >= 18).await;
        engine = apart(engine, Engine::resume).await;
        all_go_on("all partitions are read again").await;
        is_over.store(true, Ordering::Relaxed);
        engine
    };
    let ((), _, _engine) = tokio::join!(publishing, reading, harming);
}

/// One that gives nothing although there is something is thrown away, and what it did not give is read by another.
#[cfg(feature = "test-hooks")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumer_that_hangs_is_replaced() {
    let Some(config) = crate::setup::topic(2).await else { return };
    let kafka = open(&config).await;
    let mut follower = Follower::new(&kafka).await;
    let publish = async |seqs: std::ops::Range<u64>| {
        for seq in seqs {
            let changes: Vec<_> = (0..8).map(|n| change(&tenant(&format!("t{n}")), seq, "state")).collect();
            kafka.publish(&changes).await.expect("it is published");
        }
    };
    publish(1..4).await;
    follower.until("3 rounds", |follower| follower.changes().count() >= 24).await;
    assert!(kafka.hang(1).await);
    publish(4..7).await;
    follower.until("3 more of all", |follower| follower.changes().count() >= 48).await;
    assert_eq!(follower.changes().count(), 48, "nothing came twice");
    assert_eq!(follower.unavailable, 0);
}
