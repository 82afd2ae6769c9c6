//! The store that is reached is another than the snapshot's: what takes the place of what, and what must not.

use std::sync::Arc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_core::tenant::Event;
use tessera_ports::change_feed::{ChangePublisher as _, Heartbeat};
use tessera_ports::memory::{MemoryStore, Operation, StoreChances};
use tessera_proto::v1;
use tessera_server::Config;
use tokio::time::Instant;
use tonic::Code;

use super::ports::Moving;
use super::{FOR_LONG, Keeper, another_store, pass};
use crate::bench::{check, check_at_least, fully_consistent, refused, revision, wait_for, without_scan};
use crate::universe::{Universe, latest, start, store, tenant_stream};
use crate::watches::{Watch, entitled};

/// The watch's revision names the same seqs in both stores.
#[tokio::test(start_paused = true)]
async fn a_watch_is_told_when_a_snapshot_is_replaced_by_another_store() {
    let mut keeper = Keeper::usual(0).await;
    keeper.written().await;
    let mut universe = Universe::new();
    let memory = MemoryStore::new("another");
    universe.service("reports", &["view", "export"]);
    store(&memory, &universe.limit("seats"));
    store(&memory, &universe.publish("gold", &[("reports", &["export"])], &[]));
    store(&memory, &universe.create("acme", latest("gold")));
    (keeper.bench.universe, keeper.bench.store) = (universe, memory);
    keeper.outage();
    let keeper = keeper.crash();
    keeper.bench.handle.loaded().await;
    let mut watch = Watch::open(&keeper.bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    let before = watch.document().await;
    assert!(entitled(&before, "view"));
    keeper.outage_is_over();
    let after = watch.document().await;
    assert!(entitled(&after, "export") && !entitled(&after, "view"));
    assert_eq!(after.revision, before.revision);
}

/// The store is there, with the feed alone away.
#[tokio::test(start_paused = true)]
async fn a_snapshot_of_another_store_is_refused_as_soon_as_that_says_who_it_is() {
    let mut keeper = Keeper::usual(5).await;
    keeper.delete().await;
    keeper.bench.settled().await;
    keeper.written().await;
    (keeper.bench.universe, keeper.bench.store) = another_store();
    keeper.bench.feed.faults().fail_reads(FOR_LONG);
    let keeper = keeper.crash();
    pass(Duration::from_mins(1)).await;
    assert!(keeper.bench.handle.ready().is_err(), "rows of another store are served");
    keeper.bench.feed.faults().fail_reads(0);
    keeper.bench.handle.loaded().await;
    assert_eq!(keeper.reason().await, v1::Reason::GrantedByPlan);
    assert_eq!(keeper.bench.reason("other-1", "view").await, v1::Reason::TenantUnknown);
    keeper.bench.settled().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_feed_a_snapshot_of_its_own_store_is_served_and_the_store_asked_for_what_is_newer() {
    let mut keeper = Keeper::usual(5).await;
    keeper.written().await;
    let deleted = keeper.bench.universe.tenant_event("acme", Event::Deleted);
    keeper.bench.lose(&deleted);
    keeper.bench.feed.faults().fail_reads(FOR_LONG);
    let keeper = keeper.crash();
    keeper.bench.handle.loaded().await;
    assert!(keeper.bench.handle.serves_snapshot());
    assert_eq!(keeper.reason().await, v1::Reason::GrantedByPlan);
    let asked = v1::CheckEntitlementRequest { consistency: Some(fully_consistent()), ..check("acme", "reports", "view") };
    assert_eq!(keeper.bench.ask(asked).await.unwrap().reason(), v1::Reason::TenantDeleted);
    assert!(keeper.bench.handle.serves_snapshot());
}

#[tokio::test(start_paused = true)]
async fn nothing_of_another_store_comes_into_a_snapshot_that_is_served() {
    let mut keeper = Keeper::usual(5).await;
    keeper.delete().await;
    keeper.bench.settled().await;
    keeper.written().await;
    let (mut universe, memory) = another_store();
    for _ in 0..5 {
        store(&memory, &universe.tenant_event("acme", Event::SubscriptionRenewed));
    }
    let newest = universe.change(&tenant_stream("acme"));
    (keeper.bench.universe, keeper.bench.store) = (universe, memory);
    keeper.outage();
    let keeper = keeper.crash();
    keeper.bench.handle.loaded().await;
    let digest = keeper.bench.handle.digest();
    keeper.outage_is_over();
    keeper.bench.feed.faults().fail_reads(FOR_LONG);
    pass(Duration::from_secs(1)).await;
    let asked = v1::CheckEntitlementRequest { consistency: Some(fully_consistent()), ..check("acme", "reports", "view") };
    assert_eq!(refused(keeper.bench.ask(asked).await), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
    let asked = check_at_least("acme", revision(&newest));
    assert_eq!(refused(keeper.bench.ask(asked).await), (Code::Unavailable, "REVISION_NOT_REACHED".to_owned()));
    assert_eq!(keeper.bench.handle.digest(), digest);
    assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
    keeper.bench.feed.faults().fail_reads(0);
    keeper.bench.settled().await;
    assert_eq!(keeper.reason().await, v1::Reason::GrantedByPlan);
}

/// A keeper whose snapshot is of epoch 2, in which `acme` is deleted; and a store of epoch 1, in which it is not.
async fn restored() -> (Keeper, MemoryStore) {
    let mut keeper = Keeper::usual(3).await;
    let backup = keeper.bench.store.back_up(&StreamKind::ALL);
    keeper.bench.store.restore(&backup, "second");
    keeper.bench.universe.epoch = 2;
    keeper.delete().await;
    keeper.bench.settled().await;
    keeper.written().await;
    let (_, older) = another_store();
    (keeper, older)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_behind_the_snapshot_is_told_of_what_is_newer() {
    for outage in [false, true] {
        let (keeper, older) = restored().await;
        if outage {
            older.faults().fail_next(Operation::Identity, FOR_LONG);
        }
        let (newer, feed) = (keeper.bench.store.clone(), keeper.bench.feed.clone());
        let keeper = keeper.crash_onto(Arc::new(Moving::new(older.clone(), newer)), Arc::new(feed));
        keeper.bench.handle.loaded().await;
        assert_eq!(keeper.bench.handle.serves_snapshot(), outage);
        older.faults().fail_next(Operation::Identity, 0);
        wait_for("the newer store to be reached", || !keeper.bench.handle.serves_snapshot()).await;
        assert_eq!(keeper.bench.handle.digest(), keeper.bench.stored_digest().await);
        assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_behind_the_snapshot_is_told_so_while_the_feed_is_away_too() {
    let (keeper, older) = restored().await;
    let (newer, feed) = (keeper.bench.store.clone(), keeper.bench.feed.clone());
    feed.faults().fail_reads(FOR_LONG);
    let keeper = keeper.crash_onto(Arc::new(Moving::new(older, newer)), Arc::new(feed));
    keeper.bench.handle.loaded().await;
    pass(Duration::from_secs(5)).await;
    assert!(keeper.bench.handle.serves_snapshot());
    let asked = v1::CheckEntitlementRequest { consistency: Some(fully_consistent()), ..check("acme", "reports", "view") };
    assert_eq!(keeper.bench.ask(asked).await.unwrap().reason(), v1::Reason::TenantDeleted);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_behind_the_snapshot_never_takes_its_place() {
    let (keeper, older) = restored().await;
    let feed = keeper.bench.feed.clone();
    let keeper = keeper.crash_onto(Arc::new(older), Arc::new(feed));
    keeper.bench.handle.loaded().await;
    pass(Duration::from_mins(10)).await;
    assert!(keeper.bench.handle.serves_snapshot());
    assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
    assert_eq!(keeper.bench.handle.digest()["epoch"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_rumour_of_an_epoch_does_not_keep_a_snapshot_from_being_replaced() {
    let (mut universe, memory) = another_store();
    for n in 0..60 {
        store(&memory, &universe.create(&format!("t{n}"), latest("gold")));
    }
    let mut keeper = Keeper::usual(0).await;
    keeper.written().await;
    (keeper.bench.universe, keeper.bench.store) = (universe, memory);
    keeper.outage();
    let keeper = keeper.crash_as(Config { scan_page_rows: 1, ..without_scan() });
    keeper.bench.handle.loaded().await;
    assert!(keeper.bench.handle.serves_snapshot());
    keeper.outage_is_over();
    let slow = StoreChances { delay_max: Duration::from_millis(500), ..StoreChances::default() };
    keeper.bench.store.faults().seed(1, slow);
    let begun = Instant::now();
    let lie = Heartbeat { epoch: 9, store: "lie".to_owned(), at: start(), partitions: 2 };
    while keeper.bench.handle.serves_snapshot() {
        assert!(begun.elapsed() < Duration::from_mins(2), "the snapshot is not replaced");
        keeper.bench.feed.beat(&[0, 1], &lie).await.unwrap();
        pass(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "hydration was too quick to say anything");
    keeper.bench.settled().await;
}
