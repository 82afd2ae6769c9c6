//! Hydration: not ready before everything that was published is in, and nothing lost that happens meanwhile.

use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_core::tenant::Event;
use tessera_ports::change_feed::FeedMessage;
use tessera_ports::memory::{FeedChances, MemoryFeed, MemoryStore, Operation, StoreChances};
use tessera_proto::v1;
use tessera_server::Config;
use tokio::time::Instant;
use tonic::Code;

use crate::bench::{Bench, check, refused, without_scan};
use crate::universe::{Universe, latest, start, store};

#[tokio::test(start_paused = true)]
async fn an_empty_store_is_ready_and_knows_nobody() {
    let bench = Bench::over(Config::default(), Universe::new(), MemoryStore::new("empty"), MemoryFeed::new("t", 1));
    bench.handle.loaded().await;
    let answer = bench.ask(check("acme", "reports", "view")).await.unwrap();
    assert_eq!((answer.reason(), answer.revision.len()), (v1::Reason::TenantUnknown, 0));
    assert_eq!(bench.handle.digest(), bench.stored_digest().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_during_the_scan_is_in_when_ready() {
    for seed in 0..40 {
        let mut bench = Bench::not_loaded(without_scan());
        for n in 0..60 {
            let created = bench.universe.create(&format!("t{n}"), latest("gold"));
            store(&bench.store, &created);
        }
        bench.store.faults().seed(seed, StoreChances { delay_max: Duration::from_millis(20), ..StoreChances::default() });
        let mut published = 0;
        while bench.handle.ready().is_err() {
            let event = if published % 3 == 0 { Event::Activated } else { Event::SubscriptionRenewed };
            let change = bench.universe.tenant_event(&format!("t{}", published % 60), event);
            bench.commit(&change).await;
            published += 1;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert!(published > 3, "seed {seed}: hydration was too quick to say anything");
        bench.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn hydration_outlives_failing_reads() {
    let bench = Bench::not_loaded(without_scan());
    for operation in [Operation::Identity, Operation::Count, Operation::ScanRanges, Operation::Scan] {
        bench.store.faults().fail_next(operation, 3);
    }
    bench.feed.faults().fail_reads(5);
    bench.handle.loaded().await;
    bench.settled().await;
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_parked_rows_but_not_for_ever() {
    let mut universe = Universe::usual().0;
    let orphan = {
        let mut other = universe.clone();
        other.publish("silver", &[("reports", &["view"])], &[]);
        other.create("orphan", latest("silver"))
    };
    let (memory, feed) = (MemoryStore::new("first"), MemoryFeed::new("topic", 1));
    for change in universe.changes() {
        store(&memory, &change);
    }
    store(&memory, &orphan);
    let begun = Instant::now();
    let bench = Bench::over(without_scan(), universe.clone(), memory.clone(), feed);
    bench.handle.loaded().await;
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    let behind = (Code::Unavailable, "CATALOG_BEHIND".to_owned());
    assert_eq!(refused(bench.ask(check("orphan", "reports", "view")).await), behind);

    // Once the plan exists it is found, since its stream is asked for as long as a row waits.
    let silver = universe.publish("silver", &[("reports", &["view"])], &[]);
    store(&memory, &silver);
    bench.settled().await;
    assert_eq!(bench.reason("orphan", "view").await, v1::Reason::GrantedByPlan);
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_is_hydrated_beside_and_swapped_in_whole() {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    let backup = bench.store.back_up(&StreamKind::ALL);
    let before = bench.universe.clone();
    let lost = bench.universe.tenant_event("acme", Event::Deleted);
    bench.commit(&lost).await;
    bench.settled().await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::TenantDeleted);

    bench.store.restore(&backup, "second");
    bench.universe = before;
    bench.universe.epoch = 2;
    // The heartbeat names the new store; nothing was written since.
    let heartbeat = tessera_ports::change_feed::Heartbeat { epoch: 2, store: "second".to_owned(), at: start(), partitions: 2 };
    tessera_ports::ChangePublisher::beat(&bench.feed, &[0, 1, 2, 3], &heartbeat).await.unwrap();
    bench.settled().await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::GrantedByPlan);
    assert_eq!(bench.handle.digest()["epoch"], 2);

    // What was written in the life before has no meaning any more.
    tessera_ports::ChangePublisher::publish(&bench.feed, &[lost]).await.unwrap();
    let marker = bench.universe.create("marker", latest("gold"));
    bench.commit(&marker).await;
    bench.settled().await;
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::GrantedByPlan);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_an_epoch_that_the_store_is_not_in_changes_nothing() {
    let mut bench = Bench::with(without_scan()).await;
    let lie = tessera_ports::change_feed::Heartbeat { epoch: 9, store: "lie".to_owned(), at: start(), partitions: 2 };
    tessera_ports::ChangePublisher::beat(&bench.feed, &[0, 1, 2, 3], &lie).await.unwrap();
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    assert_eq!(bench.handle.digest()["epoch"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_rumour_of_an_epoch_does_not_hold_up_a_restore_however_often_it_is_heard() {
    let mut bench = Bench::with(Config { scan_page_rows: 1, ..without_scan() }).await;
    for n in 0..60 {
        let created = bench.universe.create(&format!("t{n}"), latest("gold"));
        bench.commit(&created).await;
    }
    bench.settled().await;
    let backup = bench.store.back_up(&StreamKind::ALL);
    bench.store.restore(&backup, "second");
    bench.universe.epoch = 2;
    let deleted = bench.universe.tenant_event("t7", Event::Deleted);
    bench.commit(&deleted).await;
    let restored = bench.stored_digest().await;
    bench.store.faults().seed(1, StoreChances { delay_max: Duration::from_millis(500), ..StoreChances::default() });
    let begun = Instant::now();
    let lie = tessera_ports::change_feed::Heartbeat { epoch: 9, store: "lie".to_owned(), at: start(), partitions: 2 };
    while bench.handle.digest() != restored {
        assert!(begun.elapsed() < Duration::from_mins(2), "the restored store is not served");
        tessera_ports::ChangePublisher::beat(&bench.feed, &[0, 1, 2, 3], &lie).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "hydration was too quick to say anything");
    assert_eq!(bench.reason("t7", "view").await, v1::Reason::TenantDeleted);
}

#[tokio::test(start_paused = true)]
async fn a_restore_during_hydration_never_leaves_a_part_of_either_life() {
    for seed in 0..60 {
        let mut bench = Bench::not_loaded(without_scan());
        for n in 0..60 {
            let created = bench.universe.create(&format!("t{n}"), latest("gold"));
            store(&bench.store, &created);
        }
        let backup = bench.store.back_up(&StreamKind::ALL);
        bench.store.faults().seed(seed, StoreChances { delay_max: Duration::from_millis(20), ..StoreChances::default() });
        tokio::time::sleep(Duration::from_millis(10 + 5 * seed)).await;
        bench.store.restore(&backup, "second");
        bench.universe.epoch = 2;
        // The scan goes on for longer than it takes to learn of the new epoch, and for less.
        bench.store.faults().fail_next(Operation::Identity, u32::try_from(seed % 3).unwrap());
        bench.handle.loaded().await;
        for n in 0..60 {
            assert_eq!(bench.reason(&format!("t{n}"), "view").await, v1::Reason::GrantedByPlan, "seed {seed}, t{n}");
        }
        let heartbeat =
            tessera_ports::change_feed::Heartbeat { epoch: 2, store: "second".to_owned(), at: start(), partitions: 2 };
        tessera_ports::ChangePublisher::beat(&bench.feed, &[0, 1, 2, 3], &heartbeat).await.unwrap();
        // A hydration that was over before met no failure: the comparison must not.
        bench.store.faults().fail_next(Operation::Identity, 0);
        bench.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_closed_even_while_a_rumour_of_an_epoch_is_looked_into() {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    store(&bench.store, &created);
    bench.store.faults().seed(1, StoreChances { delay_max: Duration::from_millis(200), ..StoreChances::default() });
    let lie = tessera_ports::change_feed::Heartbeat { epoch: 9, store: "lie".to_owned(), at: start(), partitions: 2 };
    tessera_ports::ChangePublisher::beat(&bench.feed, &[0, 1, 2, 3], &lie).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    bench.feed.faults().new_topic("another");
    bench.settled().await;
}

#[tokio::test(start_paused = true)]
async fn positions_in_one_topic_do_not_reach_the_ends_of_another() {
    for seed in 0..12 {
        let (mut universe, changes) = Universe::usual();
        let memory = MemoryStore::new("first");
        let feed = MemoryFeed::new("topic", 1);
        for change in &changes {
            store(&memory, change);
            feed.faults().write(0, FeedMessage::Change(change.clone()));
        }
        store(&memory, &universe.create("acme", latest("gold")));
        memory.faults().fail_next(Operation::Scan, 1);
        let mut bench = Bench::over(without_scan(), universe, memory, feed);
        // The first positions are noted, all is scanned soon, but for two seconds the ends after the scan are not noted.
        tokio::time::sleep(Duration::from_millis(1)).await;
        bench.store.faults().fail_next(Operation::Identity, 10);
        bench.feed.faults().seed(seed, FeedChances { delay_max: Duration::from_secs(30), ..FeedChances::default() });
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        bench.feed.faults().new_topic("another");
        let deleted = bench.universe.tenant_event("acme", Event::Deleted);
        store(&bench.store, &deleted);
        bench.feed.faults().write(0, FeedMessage::Change(deleted));
        assert!(bench.handle.ready().is_err());
        bench.handle.loaded().await;
        assert_eq!(bench.reason("acme", "view").await, v1::Reason::TenantDeleted, "seed {seed}");
    }
}
