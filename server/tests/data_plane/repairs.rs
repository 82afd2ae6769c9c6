//! Every way in which a matrix is repaired, each where only it can.

use std::time::Duration;

use tessera_core::stream::StreamId;
use tessera_core::tenant::Event;
use tessera_ports::change_feed::{ChangePublisher as _, FeedMessage};
use tessera_proto::v1;
use tessera_server::Config;

use crate::bench::{Bench, check, wait_for, without_scan};
use crate::universe::{latest, pinned, tenant_stream};

#[tokio::test(start_paused = true)]
async fn the_scan_alone_finds_what_the_feed_lost() {
    let mut bench = Bench::with(Config { scan_lap_s: 60, ..Config::default() }).await;
    let created = bench.universe.create("acme", latest("gold"));
    let published = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
    bench.lose(&created);
    bench.lose(&published);
    bench.settled().await;
    assert_eq!(bench.reason("acme", "export").await, v1::Reason::GrantedByPlan);
}

#[tokio::test(start_paused = true)]
async fn without_the_scan_it_would_not_be_found() {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.lose(&created);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::TenantUnknown);
}

#[tokio::test(start_paused = true)]
async fn the_scan_alone_replaces_a_state_that_differs_at_the_same_seq() {
    let mut bench = Bench::usual().await;
    let created = bench.universe.create("acme", latest("gold"));
    let other = bench.universe.clone().tenant_event("acme", Event::Deleted);
    bench.commit(&created).await;
    bench.settled().await;
    // The store's truth is now another one under the same seq, as after bit rot in memory here.
    assert!(bench.store.faults().overwrite_state(&tenant_stream("acme"), other.state));
    bench.settled().await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::TenantDeleted);
}

#[tokio::test(start_paused = true)]
async fn the_scan_reads_no_more_rows_per_second_than_allowed() {
    let config =
        Config { scan_page_rows: 1, scan_rows_per_second_max: 1, scan_pause_max_ms: 1, scan_lap_s: 1, ..Config::default() };
    let mut bench = Bench::with(config).await;
    for n in 0..60 {
        let created = bench.universe.create(&format!("t{n}"), latest("gold"));
        bench.lose(&created);
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let found = bench.handle.digest()["streams"]["tenant"].as_u64().unwrap();
    assert!((1..=31).contains(&found), "{found} tenants in 30 s");
    // A lap has 62 rows.
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(bench.handle.digest(), bench.stored_digest().await);
}

#[tokio::test(start_paused = true)]
async fn a_lap_of_the_scan_takes_as_long_as_it_is_to_take() {
    let config = Config { scan_page_rows: 1, scan_lap_s: 60, scan_pause_max_ms: 60_000, ..Config::default() };
    let mut bench = Bench::started(config, 600, |own| own);
    bench.handle.loaded().await;
    for n in 0..600 {
        let renewed = bench.universe.tenant_event(&format!("t{n}"), Event::SubscriptionRenewed);
        bench.lose(&renewed);
    }
    // A lap begins after the longest pause.
    tokio::time::sleep(Duration::from_secs(110)).await;
    assert_ne!(bench.handle.digest(), bench.stored_digest().await);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.handle.digest(), bench.stored_digest().await);
}

#[tokio::test(start_paused = true)]
async fn the_fetch_alone_brings_what_parked_rows_wait_for() {
    let mut bench = Bench::with(without_scan()).await;
    let silver = bench.universe.publish("silver", &[("reports", &["view"])], &[]);
    let created = bench.universe.create("acme", pinned("silver", 1));
    bench.lose(&silver);
    bench.commit(&created).await;
    bench.settled().await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::GrantedByPlan);
}

#[tokio::test(start_paused = true)]
async fn the_fetch_brings_whatever_a_row_goes_on_waiting_for() {
    let mut bench = Bench::with(without_scan()).await;
    let registered = bench.universe.service("billing", &["pay"]);
    let published = bench.universe.publish("gold", &[("billing", &["pay"])], &[]);
    let created = bench.universe.create("acme", pinned("gold", 2));
    bench.lose(&registered);
    bench.lose(&published);
    // It waits for the catalog, and when that is there for the plan.
    bench.commit(&created).await;
    bench.settled().await;
    assert_eq!(bench.ask(check("acme", "billing", "pay")).await.unwrap().reason(), v1::Reason::GrantedByPlan);
}

#[tokio::test(start_paused = true)]
async fn hydrating_again_alone_closes_a_gap_in_the_feed() {
    let mut bench = Bench::with(without_scan()).await;
    bench.feed.faults().fail_reads(20);
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.commit(&deleted).await;
    let partition = bench.feed.partition_of(&deleted.stream);
    let end = bench.feed.records()[usize::try_from(partition).unwrap()].len();
    bench.feed.faults().truncate(partition, u64::try_from(end).unwrap());
    bench.settled().await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::TenantDeleted);
    let next = bench.universe.create("next", latest("gold"));
    bench.commit(&next).await;
    bench.settled().await;
}

#[tokio::test(start_paused = true)]
async fn another_topic_means_hydrating_again() {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.lose(&created);
    bench.feed.faults().new_topic("another");
    bench.settled().await;
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.commit(&deleted).await;
    bench.settled().await;
}

/// Also those that were added while the server ran.
#[tokio::test(start_paused = true)]
async fn more_partitions_are_all_followed() {
    let mut bench = Bench::with(without_scan()).await;
    bench.beat().await;
    bench.feed.faults().more_partitions("wider", 16);
    let created = bench.universe.create("acme", latest("gold"));
    bench.lose(&created);
    bench.settled().await;
    let mut partitions = std::collections::BTreeSet::new();
    for number in 0..64 {
        let created = bench.universe.create(&format!("t{number}"), latest("gold"));
        partitions.insert(bench.feed.partition_of(&created.stream));
        bench.commit(&created).await;
    }
    assert!(partitions.len() > 8, "{partitions:?}");
    bench.settled().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_do_not_count_while_a_gap_is_being_closed() {
    let mut bench = Bench::with(without_scan()).await;
    bench.beat().await;
    bench.clock.advance(Duration::from_secs(10));
    let staleness = async |bench: &Bench| bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms;
    while staleness(&bench).await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(staleness(&bench).await, Some(10_000));
    // The scan of the hydration takes 200 ms at least, since its first read fails.
    bench.store.faults().fail_next(tessera_ports::memory::Operation::Scan, 1);
    let created = bench.universe.create("acme", latest("gold"));
    bench.lose(&created);
    bench.feed.faults().new_topic("another");
    bench.beat().await;
    while bench.reason("acme", "view").await == v1::Reason::TenantUnknown {
        assert_eq!(staleness(&bench).await, Some(10_000));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bad_records_are_passed_over() {
    let mut bench = Bench::with(without_scan()).await;
    for partition in 0..2 {
        bench.feed.faults().write(partition, FeedMessage::Bad("not ours".to_owned()));
    }
    let created = bench.universe.create("acme", latest("gold"));
    let broken = tessera_ports::Change { state: bytes::Bytes::from_static(b"\xff"), ..created.clone() };
    bench.feed.publish(&[broken]).await.unwrap();
    let other = bench.universe.create("other", latest("gold"));
    bench.commit(&created).await;
    bench.commit(&other).await;
    bench.settled().await;
}

#[tokio::test(start_paused = true)]
async fn the_feed_may_fail_for_a_while_and_answers_go_on() {
    let mut bench = Bench::with(without_scan()).await;
    bench.feed.faults().fail_reads(50);
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::TenantUnknown);
    bench.settled().await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::GrantedByPlan);
    wait_for("the catalog", || bench.handle.digest()["streams"]["catalog"] == 1).await;
    assert!(bench.store.streams().contains(&StreamId::Catalog));
}
