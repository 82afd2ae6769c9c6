//! The broker dies and comes back, under a publisher and a reader.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tessera_engines::{Engine, Kafka, Options};
use tessera_kafka::migrate;
use tessera_ports::change_feed::{ChangePublisher as _, FeedError};

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
