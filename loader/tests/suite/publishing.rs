//! What is committed reaches the feed, whatever dies on the way; nothing else ever does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_loader::announcer::Announcements;
use tessera_loader::heartbeat::Pulse;
use tessera_loader::publisher::{Publisher, QUEUE_BYTES_MAX};
use tessera_loader::share::Share;
use tessera_loader::sweeper::{Interrupted, Sweeper};
use tessera_ports::change_feed::{Change, FeedMessage};
use tessera_ports::hint_store::Hint;
use tessera_ports::memory::{AppendFault, Operation};
use tessera_ports::{Clock as _, HintStore as _, LeaseStore as _, Shard};

use crate::bench::{Bench, create, furnish, new_year, stream, wait_for};

/// The greatest published seq of a tenant.
pub(crate) fn published(bench: &Bench, tenant: &StreamId) -> u64 {
    let seqs = bench.feed.records().into_iter().flatten().filter_map(|record| match record {
        FeedMessage::Change(change) if change.stream == *tenant => Some(change.seq),
        _ => None,
    });
    seqs.max().unwrap_or(0)
}

fn heartbeats(bench: &Bench) -> usize {
    bench.feed.records().into_iter().flatten().filter(|record| matches!(record, FeedMessage::Heartbeat(_))).count()
}

pub(crate) async fn hints(bench: &Bench) -> Vec<Hint> {
    bench.store.inner.list(&every_shard(), 1_000).await.unwrap()
}

pub(crate) fn every_shard() -> Vec<Shard> {
    Shard::all().collect()
}

pub(crate) fn sweeper(bench: &Bench, page: usize) -> Sweeper {
    sweeper_telling(bench, page, None)
}

pub(crate) fn sweeper_telling(bench: &Bench, page: usize, announcements: Option<Announcements>) -> Sweeper {
    Sweeper::new(
        Arc::new(bench.store.clone()),
        Arc::new(bench.store.inner.clone()),
        Arc::new(bench.feed.clone()),
        announcements,
        page,
        Duration::from_hours(1),
    )
}

/// The hint of an append to a tenant `t<n>`.
fn hint_of(n: usize, at: Timestamp) -> Hint {
    let request_id = tessera_core::ids::RequestId::parse("r1").unwrap();
    Hint { stream: stream(&format!("t{n}")), request_id, head: 0, at }
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_published_and_its_hint_erased() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    wait_for("the change", || published(&bench, &stream("acme")) == 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(hints(&bench).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_dies_after_its_commit_is_followed_by_a_sweeper() {
    let bench = Bench::new();
    // Nothing of this loader runs in the background: its publisher is dead.
    let loader = bench.loader().handle();
    furnish(&loader).await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    assert_eq!(published(&bench, &stream("acme")), 0);
    sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
    assert_eq!(published(&bench, &stream("acme")), 1);
    assert_eq!(hints(&bench).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_hint_outlives_an_attempt_that_is_late() {
    let bench = Bench::new();
    let loader = bench.loader().handle();
    furnish(&loader).await;
    sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
    for _ in 0..100 {
        bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
    }
    let mut asked = create("acme", "r1");
    asked.caller.deadline = tokio::time::Instant::now() + Duration::from_millis(100);
    assert!(loader.tenants().handle(asked).await.is_err());
    sweeper(&bench, 100).pass(1, &every_shard(), new_year().saturating_add(Duration::from_hours(1))).await.unwrap();
    assert_eq!(hints(&bench).await.len(), 1, "it is not over an hour old");
    bench.store.inner.faults().release_late();
    sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
    assert_eq!((published(&bench, &stream("acme")), hints(&bench).await), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_nothing_is_erased_after_an_hour() {
    let bench = Bench::new();
    let hint = hint_of(0, new_year());
    bench.store.inner.put(&hint).await.unwrap();
    let hour = Duration::from_hours(1);
    sweeper(&bench, 100).pass(1, &every_shard(), new_year().saturating_add(hour)).await.unwrap();
    assert_eq!(hints(&bench).await, [hint]);
    sweeper(&bench, 100).pass(1, &every_shard(), new_year().saturating_add(hour + Duration::from_nanos(1))).await.unwrap();
    assert_eq!(hints(&bench).await, []);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_beat_every_second_and_only_after_a_whole_pass() {
    let bench = Bench::new();
    let pulse = |page| pulse_by_page(&bench, "one", page);
    pulse(100).beat().await.unwrap();
    assert_eq!(heartbeats(&bench), 2, "one per partition");
    bench.store.inner.faults().fail_next(Operation::ListHints, 1);
    assert!(pulse(100).beat().await.is_err());
    assert_eq!(heartbeats(&bench), 2);
    // More attempts under way than a pass looks past: what lies behind them is not known.
    for n in 0..65 {
        bench.store.inner.put(&hint_of(n, bench.clock.now())).await.unwrap();
    }
    assert_eq!(pulse(1).beat().await, Err(Interrupted::TooMany(64)));
    assert_eq!(heartbeats(&bench), 2);
    pulse(2).beat().await.unwrap();
    assert_eq!(heartbeats(&bench), 4);
}

/// As a loader leaves them behind that is killed in an import: nothing ever comes of them, and they stand for an hour.
#[tokio::test(start_paused = true)]
async fn hints_of_nothing_hold_up_neither_what_is_behind_them_nor_heartbeats() {
    let bench = Bench::new();
    let orphans: Vec<Hint> = (0..10).map(|n| hint_of(n, new_year())).collect();
    for orphan in &orphans {
        bench.store.inner.put(orphan).await.unwrap();
    }
    // Behind them: nothing of this loader runs in the background.
    bench.clock.advance(Duration::from_secs(1));
    let loader = bench.loader().handle();
    furnish(&loader).await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let mut pulse = pulse_by_page(&bench, "one", 3);
    for beaten in [2, 4] {
        pulse.beat().await.unwrap();
        assert_eq!((published(&bench, &stream("acme")), heartbeats(&bench)), (1, beaten));
        assert_eq!(hints(&bench).await, orphans);
    }
    // Something comes of one of them after all.
    loader.tenants().handle(create("t7", "r2")).await.unwrap();
    pulse.beat().await.unwrap();
    assert_eq!((published(&bench, &stream("t7")), hints(&bench).await.len()), (1, 9));
}

#[tokio::test(start_paused = true)]
async fn a_running_loader_beats() {
    let bench = Bench::new();
    let _loader = bench.furnished().await;
    let before = heartbeats(&bench);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(heartbeats(&bench) >= before + 20, "at least every second, in both partitions");
}

#[tokio::test(start_paused = true)]
async fn where_the_store_feeds_itself_only_the_heartbeat_goes_on() {
    let bench = Bench::feeding();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    assert_eq!(published(&bench, &stream("acme")), 1);
    assert_eq!(hints(&bench).await, []);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(heartbeats(&bench) > 2);
    let changes = bench.feed.records().into_iter().flatten().filter(|r| matches!(r, FeedMessage::Change(_))).count();
    assert_eq!(changes, 7, "each commit once");
}

#[tokio::test(start_paused = true)]
async fn a_failed_publish_is_made_up_for() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    wait_for("the furniture", || published(&bench, &StreamId::Catalog) == 2).await;
    bench.feed.faults().fail_publishes(1);
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    wait_for("the sweeper", || published(&bench, &stream("acme")) == 1).await;
}

/// As many changes wait as there are bytes for, however small their number.
#[tokio::test(start_paused = true)]
async fn a_change_that_there_are_no_bytes_for_is_left_to_its_hint() {
    let bench = Bench::new();
    let (feed, kept) = (Arc::new(bench.feed.clone()), Arc::new(bench.store.inner.clone()));
    let (outgoing, publisher) = Publisher::new(feed, kept, None, 1_000);
    let all: Vec<Hint> = (0..6).map(|n| hint_of(n, new_year())).collect();
    let state = Bytes::from(vec![0; QUEUE_BYTES_MAX / 4]);
    let change = |hint: &Hint| Change { epoch: 1, stream: hint.stream.clone(), seq: 1, state: state.clone() };
    for hint in &all {
        bench.store.inner.put(hint).await.unwrap();
    }
    for hint in &all[..5] {
        outgoing.offer(change(hint), vec![hint.clone()], &[]);
    }
    let later = async {
        wait_for("the fourth change", || published(&bench, &stream("t3")) == 1).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(hints(&bench).await, all[4..], "there was room for four of five");
        // What is published takes up no room.
        outgoing.offer(change(&all[5]), vec![all[5].clone()], &[]);
        drop(outgoing);
    };
    tokio::join!(publisher.run(std::future::pending()), later);
    assert_eq!((published(&bench, &stream("t4")), published(&bench, &stream("t5"))), (0, 1));
    assert_eq!(hints(&bench).await, all[4..5]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_work_is_done_is_published_and_nothing_after_it() {
    let bench = Bench::new();
    let (feed, kept) = (Arc::new(bench.feed.clone()), Arc::new(bench.store.inner.clone()));
    let (outgoing, publisher) = Publisher::new(feed, kept, None, 2_000);
    // More than are published at a time.
    let all: Vec<Hint> = (0..1_001).map(|n| hint_of(n, new_year())).collect();
    let change = |hint: &Hint| Change { epoch: 1, stream: hint.stream.clone(), seq: 1, state: Bytes::new() };
    for hint in &all {
        bench.store.inner.put(hint).await.unwrap();
    }
    let (late, in_time) = all.split_last().unwrap();
    for hint in in_time {
        outgoing.offer(change(hint), vec![hint.clone()], &[]);
    }
    publisher.run(std::future::ready(())).await;
    assert_eq!((published(&bench, &stream("t0")), published(&bench, &stream("t999"))), (1, 1));
    outgoing.offer(change(late), vec![late.clone()], &[]);
    assert_eq!(hints(&bench).await, std::slice::from_ref(late), "the sweeper of another loader finds it");
}

/// The sweep of a loader of that name.
pub(crate) fn pulse(bench: &Bench, owner: &str) -> Pulse {
    pulse_by_page(bench, owner, 100)
}

fn pulse_by_page(bench: &Bench, owner: &str, page: usize) -> Pulse {
    let (leases, time) = (Arc::new(bench.store.inner.clone()), Duration::from_secs(10));
    let share = Share::new(leases, owner.to_owned(), time, bench.tasks.shutdown());
    let (store, feed) = (Arc::new(bench.store.clone()), Arc::new(bench.feed.clone()));
    Pulse::new(store, feed, bench.clock.clone(), Some((share, sweeper(bench, page))), Arc::new(bench.config.clone()))
}

/// Where hints are followed and heartbeats said: by partition.
pub(crate) async fn beat(bench: &Bench, pulse: &mut Pulse) -> Vec<bool> {
    let count = |records: &Vec<FeedMessage>| records.iter().filter(|r| matches!(r, FeedMessage::Heartbeat(_))).count();
    let before: Vec<usize> = bench.feed.records().iter().map(count).collect();
    pulse.beat().await.unwrap();
    bench.feed.records().iter().zip(before).map(|(records, before)| count(records) > before).collect()
}

#[tokio::test(start_paused = true)]
async fn loaders_share_the_sweep_and_one_that_died_is_made_up_for() {
    let bench = Bench::new();
    let mut one = pulse(&bench, "one");
    assert_eq!(beat(&bench, &mut one).await, [true, true], "nobody else is at work");
    let mut two = pulse(&bench, "two");
    let share = beat(&bench, &mut two).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((share, beat(&bench, &mut one).await), (vec![false, true], vec![true, false]), "each has one of two partitions");
    // Both have committed what nobody published, and the other one is heard of no more.
    let loader = bench.loader().handle();
    furnish(&loader).await;
    let mut streams = Vec::new();
    for number in 0..8 {
        loader.tenants().handle(create(&format!("t{number}"), &format!("r{number}"))).await.unwrap();
        streams.push(stream(&format!("t{number}")));
    }
    beat(&bench, &mut one).await;
    let missing = |bench: &Bench| streams.iter().filter(|stream| published(bench, stream) == 0).count();
    assert_eq!(missing(&bench), 4, "those of the other's partition");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(beat(&bench, &mut one).await, [true, true]);
    assert_eq!((missing(&bench), hints(&bench).await), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_drains_gives_its_lease_back_and_beats_until_it_is_gone() {
    let bench = Bench::new();
    let _loader = bench.furnished().await;
    let at_work = async || bench.store.inner.renew("another", Duration::from_mins(1)).await.unwrap().len();
    assert_eq!(at_work().await, 2);
    bench.tasks.shutdown().drain();
    // A lease has whole seconds, and would have had ten.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(at_work().await, 1);
    let before = heartbeats(&bench);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(heartbeats(&bench) >= before + 5, "its partitions are still its own");
    assert_eq!(at_work().await, 1, "it is not renewed");
}
