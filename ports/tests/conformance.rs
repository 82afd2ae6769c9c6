//! The suites on the in-memory ports: they must pass calm, and where only latency is drawn.

use std::time::Duration;

use tessera_core::ids::{RequestId, TenantId};
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_ports::HintStore as _;
use tessera_ports::conformance::{Run, change_feed, event_publisher, event_store, hint_store, lease_store};
use tessera_ports::hint_store::Hint;
use tessera_ports::memory::{EventChances, FeedChances, MemoryEvents, MemoryFeed, MemoryStore, StoreChances};

#[tokio::test(start_paused = true)]
async fn memory_store_conforms() {
    let store = MemoryStore::new("conformance");
    event_store::check_all(&store, &Run::new("calm")).await;
    hint_store::check_all(&store, &Run::new("calm")).await;
    lease_store::check_all(&store, &Run::new("calm"), true).await;
}

/// A run that broke off leaves hints, whose times are as old as those of the next.
#[tokio::test(start_paused = true)]
async fn hints_of_earlier_runs_do_not_matter() {
    let store = MemoryStore::new("conformance");
    for at_s in 0..3 {
        let stream = StreamId::Tenant(TenantId::parse(&format!("earlier-{at_s}")).expect("a tenant id"));
        let at = Timestamp::from_seconds(at_s).expect("a time");
        let hint = Hint { stream, request_id: RequestId::parse("earlier").expect("a request id"), head: 1, at };
        store.put(&hint).await.expect("put");
    }
    hint_store::check_all(&store, &Run::new("later")).await;
}

#[tokio::test(start_paused = true)]
async fn memory_store_with_short_pages_conforms() {
    let store = MemoryStore::new("conformance");
    store.faults().events_bytes_max(100);
    event_store::check_all(&store, &Run::new("short")).await;
}

#[tokio::test(start_paused = true)]
async fn slow_memory_store_with_lagging_replicas_conforms() {
    let store = MemoryStore::new("conformance");
    let chances = StoreChances { delay_max: Duration::from_millis(50), replicas_lag: true, ..StoreChances::default() };
    for seed in 0..4 {
        store.faults().seed(seed, chances);
        let run = Run::new(&format!("seed-{seed}"));
        event_store::check_all(&store, &run).await;
        hint_store::check_all(&store, &run).await;
        lease_store::check_all(&store, &run, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn memory_feed_conforms() {
    let (store, feed) = (MemoryStore::new("conformance"), MemoryFeed::new("topic", 3));
    let sides = change_feed::Sides { store: &store, feed: &feed, publisher: &feed };
    change_feed::check_all(sides, &Run::new("calm")).await;
    let delay_max = Duration::from_millis(50);
    feed.faults().seed(1, FeedChances { delay_max, change_twice: 300, ..FeedChances::default() });
    store.faults().seed(1, StoreChances { delay_max, ..StoreChances::default() });
    change_feed::check_all(sides, &Run::new("slow")).await;
}

#[tokio::test(start_paused = true)]
async fn memory_store_that_feeds_itself_conforms() {
    let feed = MemoryFeed::new("topic", 2);
    let store = MemoryStore::feeding("conformance", feed.clone());
    event_store::check_all(&store, &Run::new("calm")).await;
    change_feed::check_all(change_feed::Sides { store: &store, feed: &feed, publisher: &feed }, &Run::new("fed")).await;
}

#[tokio::test(start_paused = true)]
async fn memory_events_conform() {
    let events = MemoryEvents::new();
    let told = async || events.published().into_iter().map(|event| (event.stream.to_string(), event.seq)).collect();
    event_publisher::check_all(&events, &told, &Run::new("calm")).await;
    events.seed(1, EventChances { delay_max: Duration::from_millis(50), ..EventChances::default() });
    event_publisher::check_all(&events, &told, &Run::new("slow")).await;
}
