//! Others are told of everything that happened, at least once and in order, whatever dies or fails on the way; and of nothing that
//! was said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::tenant::Action;
use tessera_core::value::{LabelKey, LabelValue, Title};
use tessera_loader::Handle;
use tessera_loader::announcer::{Announcements, Announcer, Span};
use tessera_ports::memory::{EventChances, MemoryEvents, Operation};
use tessera_runtime::lifecycle::Signals;

use crate::bench::{Bench, ask, choice, create, furnish, new_year, rename, stream, suspend, wait_for};
use crate::publishing::{every_shard, hints, published, sweeper, sweeper_telling};

/// The seqs of one stream, in the order in which others were told of them.
pub(crate) fn told(events: &MemoryEvents, of: &StreamId) -> Vec<u64> {
    events.published().into_iter().filter(|event| event.stream == *of).map(|event| event.seq).collect()
}

/// What happened in one stream, as others were told.
fn kinds(events: &MemoryEvents, of: &StreamId) -> Vec<String> {
    events.published().into_iter().filter(|event| event.stream == *of).map(|event| event.kind).collect()
}

/// As [`told`], each as it was told first.
fn first_told(events: &MemoryEvents, of: &StreamId) -> Vec<u64> {
    let mut seen = Vec::new();
    for seq in told(events, of) {
        if !seen.contains(&seq) {
            seen.push(seq);
        }
    }
    seen
}

/// A loader at work that has told others of its furniture, and sweeps at no moment at which a test does something.
async fn furnished(bench: &Bench, events: &MemoryEvents) -> Handle {
    let loader = bench.furnished().await;
    wait_for("the furniture", || events.published().len() >= 6).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    loader
}

/// An announcer that does nothing by itself.
pub(crate) fn announcer(bench: &Bench, events: &MemoryEvents) -> (Announcements, Announcer) {
    let (store, hints) = (Arc::new(bench.store.clone()), Arc::new(bench.store.inner.clone()));
    Announcer::new(store, hints, Arc::new(events.clone()), 1_000)
}

/// Sweeps as a loader that has just started, and tells what it finds.
async fn sweep(bench: &Bench, events: &MemoryEvents) {
    let (announcements, announcer) = announcer(bench, events);
    sweeper_telling(bench, 1_000, Some(announcements)).pass(1, &every_shard(), new_year()).await.unwrap();
    announcer.round().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn others_are_told_of_a_commit_from_what_was_appended() {
    let (bench, events) = Bench::telling();
    let loader = furnished(&bench, &events).await;
    // What is at hand is not read.
    bench.store.inner.faults().fail_next(Operation::Events, 1_000);
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    loader.tenants().handle(rename("acme", "new", "r2")).await.unwrap();
    wait_for("the events", || told(&events, &stream("acme")) == [1, 2]).await;
    let event = events.published().into_iter().find(|event| event.stream == stream("acme")).unwrap();
    assert_eq!((event.store.as_str(), event.kind.as_str(), event.at), ("test", "created", Some(new_year())));
    assert_eq!(kinds(&events, &stream("acme")), ["created", "updated"]);
    assert_eq!(kinds(&events, &StreamId::Catalog)[..2], ["service_upserted", "limit_upserted"]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(hints(&bench).await, []);
}

#[tokio::test(start_paused = true)]
async fn whoever_sweeps_tells_what_a_loader_that_died_did_not() {
    let (bench, events) = Bench::telling();
    // Nothing of this one runs in the background.
    let dead = bench.loader().handle();
    furnish(&dead).await;
    dead.tenants().handle(create("acme", "r1")).await.unwrap();
    sweep(&bench, &events).await;
    assert_eq!(told(&events, &stream("acme")), [1]);
    for n in 2..=4 {
        dead.tenants().handle(rename("acme", &format!("title {n}"), &format!("r{n}"))).await.unwrap();
    }
    sweep(&bench, &events).await;
    assert_eq!(told(&events, &stream("acme")), [1, 2, 3, 4], "exactly what was missing");
    assert_eq!(hints(&bench).await, []);
}

#[tokio::test(start_paused = true)]
async fn hints_stand_until_events_that_could_not_be_told_are() {
    let (bench, events) = Bench::telling();
    let loader = furnished(&bench, &events).await;
    let calls = events.calls();
    events.fail_publishes(3, 0);
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    wait_for("a failure", || events.calls() > calls).await;
    assert_eq!(published(&bench, &stream("acme")), 1, "changes come first, and wait for nothing");
    assert_eq!(hints(&bench).await.len(), 1);
    loader.tenants().handle(rename("acme", "new", "r2")).await.unwrap();
    wait_for("both events", || told(&events, &stream("acme")) == [1, 2]).await;
    assert!(events.calls() >= calls + 4);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(hints(&bench).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_arrived_before_a_failure_is_told_again_and_in_order() {
    let (bench, events) = Bench::telling();
    let loader = furnished(&bench, &events).await;
    events.fail_publishes(1, 1);
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    loader.tenants().handle(rename("acme", "new", "r2")).await.unwrap();
    wait_for("the second event", || told(&events, &stream("acme")).contains(&2)).await;
    assert_eq!(told(&events, &stream("acme")).first(), Some(&1));
    assert_eq!(first_told(&events, &stream("acme")), [1, 2]);
    assert!(told(&events, &stream("acme")).len() > 2, "the first one came twice");
}

#[tokio::test(start_paused = true)]
async fn every_event_of_a_group_is_told_in_order() {
    let (bench, events) = Bench::telling();
    let loader = furnished(&bench, &events).await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let asked = (0..100).map(|n| loader.tenants().handle(rename("acme", &format!("title {n}"), &format!("rename-{n}"))));
    assert!(futures::future::join_all(asked).await.iter().all(Result::is_ok));
    assert!(bench.store.appends().len() < 50, "they were grouped");
    wait_for("the last event", || told(&events, &stream("acme")).len() >= 101).await;
    assert_eq!(told(&events, &stream("acme")), (1..=101).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_drains_tells_of_what_it_publishes_last() {
    let (bench, events) = Bench::telling();
    let loader = furnished(&bench, &events).await;
    events.seed(1, EventChances { delay_max: Duration::from_millis(500), ..EventChances::default() });
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    bench.tasks.shutdown().close();
    let (_sender, signals) = tokio::sync::mpsc::channel(1);
    bench.tasks.clone().run_until_stopped(Signals::of_channel(signals)).await;
    assert_eq!((published(&bench, &stream("acme")), told(&events, &stream("acme"))), (1, vec![1]));
    assert_eq!(hints(&bench).await, [], "nothing is left to others");
}

/// A change that was not published is the sweeper's, and later ones are not: their events do not overtake those before them.
#[tokio::test(start_paused = true)]
async fn events_behind_a_change_that_failed_come_before_later_ones() {
    let (bench, events) = Bench::telling();
    let loader = furnished(&bench, &events).await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    wait_for("the first event", || told(&events, &stream("acme")) == [1]).await;
    // Nobody sweeps meanwhile.
    bench.store.inner.faults().fail_next(Operation::ListHints, 1_000_000);
    bench.feed.faults().fail_publishes(1);
    loader.tenants().handle(rename("acme", "second", "r2")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(told(&events, &stream("acme")), [1]);
    loader.tenants().handle(rename("acme", "third", "r3")).await.unwrap();
    wait_for("all events", || told(&events, &stream("acme")) == [1, 2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_moved_far_is_told_page_by_page() {
    let (bench, events) = Bench::telling();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    dead.tenants().handle(create("acme", "r1")).await.unwrap();
    for n in 2..=600 {
        dead.tenants().handle(rename("acme", &format!("title {n}"), &format!("r{n}"))).await.unwrap();
    }
    let (announcements, announcer) = announcer(&bench, &events);
    sweeper_telling(&bench, 1_000, Some(announcements.clone())).pass(1, &every_shard(), new_year()).await.unwrap();
    announcer.round().await.unwrap();
    assert_eq!(told(&events, &stream("acme")), (1..=600).collect::<Vec<_>>());
    assert_eq!((events.calls(), announcements.held()), (3, 0), "three pages of at most 256 events");
    assert_eq!(hints(&bench).await, []);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_what_was_said_is_told() {
    let (bench, events) = Bench::telling();
    let loader = furnished(&bench, &events).await;
    let secret = "alice@example.com";
    let action = Action::Create {
        title: Title::parse("a title", secret).unwrap(),
        labels: BTreeMap::from([(LabelKey::parse("a label", secret).unwrap(), LabelValue::parse("a label", secret).unwrap())]),
        choice: choice("gold"),
        starts: None,
        trial: None,
        pending: false,
    };
    loader.tenants().handle(ask("acme", action, secret)).await.unwrap();
    loader.tenants().handle(suspend("acme", secret, "r2")).await.unwrap();
    wait_for("the events", || told(&events, &stream("acme")) == [1, 2]).await;
    assert_eq!(kinds(&events, &stream("acme")), ["created", "suspended"]);
    assert!(!format!("{:?}", events.published()).contains("alice"));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_told_as_unknown() {
    let (bench, events) = Bench::telling();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    for n in 1..=3 {
        let asked = if n == 1 { create("acme", "r1") } else { rename("acme", &format!("title {n}"), &format!("r{n}")) };
        dead.tenants().handle(asked).await.unwrap();
    }
    // Of a later software: it tells when it happened, `at` of 7 s, and in field 100 something that nobody knows here.
    let later = Bytes::from_static(&[0x32, 2, 8, 7, 0xa2, 6, 1, b'x']);
    bench.store.altered.lock().unwrap().insert((stream("acme"), 1), later);
    bench.store.altered.lock().unwrap().insert((stream("acme"), 2), Bytes::from_static(b"\xff no message"));
    sweep(&bench, &events).await;
    assert_eq!(told(&events, &stream("acme")), [1, 2, 3]);
    assert_eq!(kinds(&events, &stream("acme")), ["unknown", "unknown", "updated"]);
    let at: Vec<_> =
        events.published().into_iter().filter(|event| event.stream == stream("acme")).map(|event| event.at).collect();
    assert_eq!(at[..2], [Some(tessera_core::time::Timestamp::from_seconds(7).unwrap()), None]);
}

#[tokio::test(start_paused = true)]
async fn where_the_store_feeds_itself_nobody_is_told() {
    let events = MemoryEvents::new();
    let bench = Bench { events: Some(events.clone()), ..Bench::feeding() };
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((published(&bench, &stream("acme")), events.calls()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn hints_of_untold_events_hold_up_no_sweep() {
    let (bench, events) = Bench::telling();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    sweep(&bench, &events).await;
    for n in 0..10 {
        dead.tenants().handle(create(&format!("t{n}"), &format!("r{n}"))).await.unwrap();
    }
    let (announcements, announcer) = announcer(&bench, &events);
    // There are more of them than a page holds, and they are not followed twice.
    let sweeper = sweeper_telling(&bench, 3, Some(announcements.clone()));
    sweeper.pass(1, &every_shard(), new_year()).await.unwrap();
    assert_eq!((announcements.held(), hints(&bench).await.len()), (10, 10));
    let records = |bench: &Bench| bench.feed.records().iter().map(Vec::len).sum::<usize>();
    let before = records(&bench);
    events.fail_publishes(1, 0);
    assert!(announcer.round().await.is_err());
    sweeper.pass(1, &every_shard(), new_year()).await.unwrap();
    assert_eq!((records(&bench), announcements.held()), (before, 10));
    announcer.round().await.unwrap();
    assert_eq!((0..10).map(|n| told(&events, &stream(&format!("t{n}")))).collect::<Vec<_>>(), vec![vec![1]; 10]);
    assert_eq!((announcements.held(), hints(&bench).await), (0, vec![]));
}

/// As when nobody takes events for long: the changes are published whatever becomes of their events.
#[tokio::test(start_paused = true)]
async fn hints_of_events_that_there_is_no_room_for_hold_up_no_sweep_either() {
    let (bench, events) = Bench::telling();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    sweep(&bench, &events).await;
    let tenants: Vec<StreamId> = (0..10).map(|n| stream(&format!("t{n}"))).collect();
    for n in 0..10 {
        dead.tenants().handle(create(&format!("t{n}"), &format!("r{n}"))).await.unwrap();
    }
    let (store, kept) = (Arc::new(bench.store.clone()), Arc::new(bench.store.inner.clone()));
    let (announcements, announcer) = Announcer::new(store, kept, Arc::new(events.clone()), 4);
    let sweeper = sweeper_telling(&bench, 3, Some(announcements.clone()));
    sweeper.pass(1, &every_shard(), new_year()).await.unwrap();
    assert!(tenants.iter().all(|tenant| published(&bench, tenant) == 1));
    assert_eq!((announcements.held(), hints(&bench).await.len()), (4, 10));
    // Room is used as it comes.
    for left in [6, 2, 0] {
        announcer.round().await.unwrap();
        assert_eq!(hints(&bench).await.len(), left);
        sweeper.pass(1, &every_shard(), new_year()).await.unwrap();
    }
    assert!(tenants.iter().all(|tenant| told(&events, tenant) == [1]));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_read_holds_up_no_other() {
    let (bench, events) = Bench::telling();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    sweep(&bench, &events).await;
    for tenant in ["acme", "globex"] {
        dead.tenants().handle(create(tenant, &format!("create-{tenant}"))).await.unwrap();
    }
    let (announcements, announcer) = announcer(&bench, &events);
    sweeper_telling(&bench, 100, Some(announcements.clone())).pass(1, &every_shard(), new_year()).await.unwrap();
    bench.store.inner.faults().damage(stream("acme"));
    assert!(announcer.round().await.is_err());
    assert_eq!((told(&events, &stream("acme")), told(&events, &stream("globex"))), (vec![], vec![1]));
    assert_eq!(announcements.held(), 1);
    bench.store.inner.faults().calm();
    announcer.round().await.unwrap();
    assert_eq!((told(&events, &stream("acme")), told(&events, &stream("globex"))), (vec![1], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn events_of_a_life_of_the_store_that_is_over_are_not_told_as_those_of_the_next() {
    let (bench, events) = Bench::telling();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    let backup = bench.store.inner.back_up(&StreamKind::ALL);
    dead.tenants().handle(create("acme", "r1")).await.unwrap();
    let (announcements, announcer) = announcer(&bench, &events);
    sweeper_telling(&bench, 100, Some(announcements.clone())).pass(1, &every_shard(), new_year()).await.unwrap();
    bench.store.inner.restore(&backup, "restored");
    announcer.round().await.unwrap();
    assert_eq!((events.published(), announcements.held()), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn without_somebody_to_tell_nothing_is_read() {
    let bench = Bench::new();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    bench.store.inner.faults().fail_next(Operation::Events, 1_000_000);
    dead.tenants().handle(create("acme", "r1")).await.unwrap();
    sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
    assert_eq!((published(&bench, &stream("acme")), hints(&bench).await), (1, vec![]));
}

/// As when a sweep overtakes the publisher.
#[tokio::test(start_paused = true)]
async fn events_to_which_both_publisher_and_sweeper_lead_are_told_once() {
    let (bench, events) = Bench::telling();
    let dead = bench.loader().handle();
    furnish(&dead).await;
    sweep(&bench, &events).await;
    dead.tenants().handle(create("acme", "r1")).await.unwrap();
    let committed = hints(&bench).await;
    let (announcements, announcer) = announcer(&bench, &events);
    let span = |through| Span { epoch: 1, after: 0, through, cells: Vec::new(), hints: committed.clone() };
    for _ in 0..2 {
        announcements.offer(stream("acme"), span(1));
        announcer.round().await.unwrap();
    }
    assert_eq!((told(&events, &stream("acme")), hints(&bench).await), (vec![1], vec![]));
    // What has come since is told, and nothing before it.
    dead.tenants().handle(rename("acme", "new", "r2")).await.unwrap();
    announcements.offer(stream("acme"), span(2));
    announcer.round().await.unwrap();
    assert_eq!((told(&events, &stream("acme")), announcements.held()), (vec![1, 2], 0));
}
