//! Each guard of the read side: the same run holds its property with the guard, and not without it. The scan is off unless a
//! run is about it, since it would hide most of them.

use std::time::Duration;

use tessera_core::access::Scopes;
use tessera_core::aggregate::Actor;
use tessera_core::ids::TenantId;
use tessera_core::stream::StreamKind;
use tessera_core::tenant::{Event, ScheduledChange};
use tessera_ports::Clock as _;
use tessera_ports::change_feed::{ChangePublisher as _, FeedMessage, Heartbeat};
use tessera_ports::hooks::{self, Guard};
use tessera_ports::memory::{FeedChances, MemoryFeed, MemoryStore, Operation, StoreChances};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_runtime::identity::{Grant, Principal};

use crate::bench::{Bench, check, check_at_least, fully_consistent, revision, without_scan};
use crate::universe::{Universe, latest, pinned, start, store, tenant_stream};

/// `run` says whether its property held: it must with every guard in place, and must not without `guard`.
async fn matters(guard: Guard, run: impl AsyncFn() -> bool) {
    assert!(run().await, "the property does not hold with every guard in place");
    let _removed = hooks::remove(&[guard]);
    assert!(!run().await, "nothing is lost without {guard:?}");
}

/// Time for everything that would happen by itself.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn with_acme() -> Bench {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    bench
}

#[tokio::test(start_paused = true)]
async fn without_the_seq_gate_answers_go_back() {
    matters(Guard::SeqGate, async || {
        let mut bench = with_acme().await;
        let zombie = bench.universe.change(&tenant_stream("acme"));
        let deleted = bench.universe.tenant_event("acme", Event::Deleted);
        bench.commit(&deleted).await;
        bench.settled().await;
        bench.feed.publish(&[zombie]).await.unwrap();
        pass(Duration::from_secs(1)).await;
        bench.reason("acme", "view").await == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_tombstones_a_deleted_tenant_comes_back() {
    matters(Guard::Tombstones, async || {
        let mut bench = with_acme().await;
        let zombie = bench.universe.change(&tenant_stream("acme"));
        let deleted = bench.universe.tenant_event("acme", Event::Deleted);
        bench.commit(&deleted).await;
        pass(Duration::from_secs(1)).await;
        bench.feed.publish(&[zombie]).await.unwrap();
        pass(Duration::from_secs(1)).await;
        bench.reason("acme", "view").await == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_parking_a_row_is_answered_with_an_older_plan() {
    matters(Guard::Parking, async || {
        let mut bench = with_acme().await;
        bench.store.faults().fail_next(Operation::Read, 1_000);
        bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        let moved = bench.universe.tenant_event("acme", Event::PlanChanged(latest("gold")));
        bench.commit(&moved).await;
        pass(Duration::from_millis(500)).await;
        // Seq 2 of the tenant was decided on version 2 of the plan: never with version 1.
        let answer = bench.ask(check("acme", "reports", "view")).await.unwrap();
        let revision = tessera_core::revision::Revision::parse(&answer.revision).unwrap();
        let seq = revision.streams.iter().find(|named| named.kind == StreamKind::Tenant).unwrap().seq;
        seq == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_waiting_for_scheduled_plans_they_come_too_old() {
    matters(Guard::ParkingLatestAndScheduled, async || {
        let mut bench = with_acme().await;
        bench.store.faults().fail_next(Operation::Read, 1_000);
        let silver = bench.universe.publish("silver", &[("reports", &["view"])], &[]);
        bench.commit(&silver).await;
        bench.settled().await;
        bench.universe.publish("silver", &[("reports", &["export"])], &[]);
        let change = ScheduledChange { id: 1, at: start(), choice: latest("silver") };
        let scheduled = bench.universe.tenant_event("acme", Event::PlanChangeScheduled(change));
        bench.commit(&scheduled).await;
        pass(Duration::from_millis(500)).await;
        // On gold still, or on silver with its second version; never on silver with its first.
        let answer = bench.ask(check("acme", "reports", "view")).await.unwrap();
        (answer.plan_id.as_str(), answer.plan_version) != ("silver", 1)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_newest_wins_an_older_parked_row_is_installed() {
    matters(Guard::ParkedNewestWins, async || {
        let mut bench = Bench::with(without_scan()).await;
        let second = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        let older = bench.universe.create("acme", latest("gold"));
        let newer = bench.universe.tenant_event("acme", Event::Deleted);
        bench.feed.publish(&[newer, older]).await.unwrap();
        pass(Duration::from_millis(500)).await;
        bench.feed.publish(&[second]).await.unwrap();
        pass(Duration::from_millis(500)).await;
        bench.reason("acme", "view").await == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn if_a_parked_seq_counted_an_answer_would_be_older_than_demanded() {
    matters(Guard::ParkedDoesNotCount, async || {
        let mut bench = with_acme().await;
        bench.store.faults().fail_next(Operation::Read, 1_000);
        bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        let moved = bench.universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2)));
        bench.commit(&moved).await;
        pass(Duration::from_millis(500)).await;
        bench.ask(check_at_least("acme", revision(&moved))).await.is_err()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_past_a_parked_state_would_make_an_answer_older_than_it_says() {
    matters(Guard::ParkedHoldsHeartbeat, async || {
        let mut bench = with_acme().await;
        bench.beat().await;
        pass(Duration::from_millis(500)).await;
        bench.store.faults().fail_next(Operation::Read, 1_000);
        let second = Duration::from_secs(1);
        bench.clock.advance(second);
        let committed = bench.clock.now();
        let lost = bench.universe.tenant_event("acme", Event::Activated);
        bench.lose(&lost);
        bench.clock.advance(second);
        let swept = bench.clock.now();
        bench.clock.advance(second);
        // What is published in its place is newer, and was decided on what is not there yet.
        bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        let moved = bench.universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2)));
        bench.commit(&moved).await;
        bench.beat_at(swept, 2).await;
        pass(Duration::from_millis(500)).await;
        let answer = bench.ask(check("acme", "reports", "view")).await.unwrap();
        assert_eq!((answer.reason(), answer.plan_version), (v1::Reason::GrantedByPlan, 1), "the last good row answers");
        let said = Duration::from_millis(answer.staleness_ms.unwrap().try_into().unwrap());
        said >= bench.clock.now().saturating_since(committed)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rows_before_their_catalog_would_be_answered_with_the_one_before() {
    matters(Guard::CatalogBeforeRows, async || {
        let mut bench = with_acme().await;
        let second = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        let moved = bench.universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2)));
        bench.feed.publish(&[moved]).await.unwrap();
        pass(Duration::from_millis(500)).await;
        bench.feed.publish(&[second]).await.unwrap();
        pass(Duration::from_millis(500)).await;
        bench.ask(check("acme", "reports", "export")).await.unwrap().plan_version == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_catalog_loaded_before_the_row_may_be_older_than_the_row_needs() {
    matters(Guard::RowBeforeCatalog, async || {
        let mut bench = with_acme().await;
        let second = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        let moved = bench.universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2)));
        let ask = bench.ask(check_at_least("acme", revision(&moved)));
        let publish = async {
            pass(Duration::from_millis(10)).await;
            bench.feed.publish(&[second, moved.clone()]).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask, publish);
        answer.unwrap().plan_version == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn if_at_least_did_not_wait_an_answer_would_be_older() {
    matters(Guard::AtLeastWaits, async || {
        let mut bench = with_acme().await;
        let deleted = bench.universe.tenant_event("acme", Event::Deleted);
        bench.lose(&deleted);
        let answer = bench.ask(check_at_least("acme", revision(&deleted))).await.unwrap();
        answer.reason() == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_named_the_tenant_alone_would_let_plans_go_back() {
    matters(Guard::RevisionNamesAll, async || {
        let mut newer = with_acme().await;
        let older = Bench::over(without_scan(), newer.universe.clone(), newer.store.clone(), MemoryFeed::new("silent", 1));
        older.handle.loaded().await;
        let published = newer.universe.publish("gold", &[("reports", &["export"])], &[]);
        newer.commit(&published).await;
        newer.settled().await;
        let seen = newer.ask(check("acme", "reports", "view")).await.unwrap();
        assert_eq!(seen.plan_version, 2);
        let answer = older.ask(check_at_least("acme", seen.revision.to_vec())).await;
        answer.is_ok_and(|answer| answer.plan_version == 2)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn fully_consistent_of_the_tenant_alone_would_miss_its_plan() {
    matters(Guard::FullyConsistentReadsAllHeads, async || {
        let mut bench = with_acme().await;
        let published = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        bench.lose(&published);
        let asked = v1::CheckEntitlementRequest { consistency: Some(fully_consistent()), ..check("acme", "reports", "view") };
        bench.ask(asked).await.unwrap().plan_version == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_jump_over_a_gap_loses_what_was_in_it() {
    matters(Guard::OutOfRangeRehydrates, async || {
        let mut bench = with_acme().await;
        bench.feed.faults().fail_reads(20);
        let deleted = bench.universe.tenant_event("acme", Event::Deleted);
        bench.commit(&deleted).await;
        let partition = bench.feed.partition_of(&deleted.stream);
        let end = bench.feed.records()[usize::try_from(partition).unwrap()].len();
        bench.feed.faults().truncate(partition, u64::try_from(end).unwrap());
        pass(Duration::from_mins(1)).await;
        bench.reason("acme", "view").await == v1::Reason::TenantDeleted
    })
    .await;
}

/// The usual store with these tenants on gold.
fn stored(tenants: impl IntoIterator<Item = String>) -> (Universe, MemoryStore) {
    let (mut universe, changes) = Universe::usual();
    let memory = MemoryStore::new("first");
    for change in &changes {
        store(&memory, change);
    }
    for tenant in tenants {
        store(&memory, &universe.create(&tenant, latest("gold")));
    }
    (universe, memory)
}

#[tokio::test(start_paused = true)]
async fn positions_noted_after_the_scan_miss_what_was_published_during_it() {
    matters(Guard::PositionsBeforeScan, async || {
        let name = |n| format!("t{n:03}");
        let (universe, memory) = stored((0..400).map(name));
        memory.faults().seed(7, StoreChances { delay_max: Duration::from_millis(50), ..StoreChances::default() });
        let mut bench = Bench::over(without_scan(), universe, memory, MemoryFeed::new("topic", 1));
        let mut deleted = 0;
        while bench.handle.ready().is_err() && deleted < 400 {
            let change = bench.universe.tenant_event(&name(deleted), Event::Deleted);
            bench.commit(&change).await;
            deleted += 1;
            pass(Duration::from_millis(3)).await;
        }
        bench.handle.loaded().await;
        pass(Duration::from_secs(5)).await;
        let mut all = true;
        for n in 0..deleted {
            all &= bench.reason(&name(n), "view").await == v1::Reason::TenantDeleted;
        }
        all
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ready_before_the_ends_is_ready_without_what_was_published() {
    matters(Guard::ReadyAtEndsAfterScan, async || {
        let mut always = true;
        for seed in 0..12 {
            let (universe, memory) = stored(["acme".to_owned()]);
            memory.faults().fail_next(Operation::Scan, 10);
            let mut bench = Bench::over(without_scan(), universe, memory, MemoryFeed::new("topic", 1));
            // The first positions are noted and the scan is held up for two seconds; from now on the feed is slow.
            pass(Duration::from_millis(1)).await;
            bench.feed.faults().seed(seed, FeedChances { delay_max: Duration::from_secs(30), ..FeedChances::default() });
            pass(Duration::from_millis(1_500)).await;
            let deleted = bench.universe.tenant_event("acme", Event::Deleted);
            let partition = bench.feed.partition_of(&deleted.stream);
            bench.feed.faults().write(partition, FeedMessage::Change(deleted));
            assert!(bench.handle.ready().is_err());
            bench.handle.loaded().await;
            always &= bench.reason("acme", "view").await == v1::Reason::TenantDeleted;
        }
        always
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hydration_over_two_epochs_is_the_whole_of_neither() {
    matters(Guard::HydrationInOneEpoch, async || {
        let mut always = true;
        for seed in 0..20 {
            let (mut universe, memory) = stored((0..60).map(|n| format!("t{n}")));
            let backup = memory.back_up(&StreamKind::ALL);
            memory.faults().seed(seed, StoreChances { delay_max: Duration::from_millis(20), ..StoreChances::default() });
            universe.epoch = 2;
            let bench = Bench::over(without_scan(), universe, memory, MemoryFeed::new("topic", 1));
            pass(Duration::from_millis(60 + 5 * seed)).await;
            bench.store.restore(&backup, "second");
            // It takes longer to learn of the new epoch than to scan to the end.
            bench.store.faults().fail_next(Operation::Count, 3);
            bench.handle.loaded().await;
            for n in 0..60 {
                always &= bench.reason(&format!("t{n}"), "view").await == v1::Reason::GrantedByPlan;
            }
        }
        always
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn hydrating_again_past_the_gate_makes_answers_go_back() {
    matters(Guard::HydrationThroughSeqGate, async || {
        let mut bench = with_acme().await;
        // The feed is ahead of what one replica of the store has learned: the scan finds the older state.
        let ahead = bench.universe.tenant_event("acme", Event::Deleted);
        bench.feed.publish(std::slice::from_ref(&ahead)).await.unwrap();
        pass(Duration::from_millis(100)).await;
        assert_eq!(bench.reason("acme", "view").await, v1::Reason::TenantDeleted);
        bench.feed.faults().new_topic("another");
        pass(Duration::from_secs(30)).await;
        bench.reason("acme", "view").await == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_epochs_a_restored_store_is_never_believed() {
    matters(Guard::EpochInEverything, async || {
        let mut bench = with_acme().await;
        let backup = bench.store.back_up(&StreamKind::ALL);
        let before = bench.universe.clone();
        for event in [Event::Deleted, Event::Activated, Event::Activated] {
            let change = bench.universe.tenant_event("acme", event);
            bench.commit(&change).await;
        }
        bench.settled().await;
        bench.store.restore(&backup, "second");
        bench.universe = before;
        bench.universe.epoch = 2;
        bench
            .feed
            .beat(&[0, 1, 2, 3], &Heartbeat { epoch: 2, store: "second".to_owned(), at: start(), partitions: 2 })
            .await
            .unwrap();
        pass(Duration::from_secs(30)).await;
        bench.reason("acme", "view").await == v1::Reason::GrantedByPlan
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_that_is_not_swapped_whole_shows_through() {
    matters(Guard::NewEpochSwappedWhole, async || {
        let mut bench = with_acme().await;
        let backup = bench.store.back_up(&StreamKind::ALL);
        bench.store.restore(&backup, "second");
        bench.universe.epoch = 2;
        let expected = bench.stored_digest().await;
        bench.store.faults().seed(1, StoreChances { delay_max: Duration::from_millis(50), ..StoreChances::default() });
        bench
            .feed
            .beat(&[0, 1, 2, 3], &Heartbeat { epoch: 2, store: "second".to_owned(), at: start(), partitions: 2 })
            .await
            .unwrap();
        let mut always = true;
        while bench.handle.digest() != expected {
            let answer = bench.ask(check("acme", "reports", "view")).await;
            always &= answer.is_ok_and(|answer| answer.reason() == v1::Reason::GrantedByPlan);
            pass(Duration::from_millis(1)).await;
        }
        always
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_for_another_number_of_partitions_says_nothing_of_these() {
    matters(Guard::HeartbeatOfTheseShards, async || {
        let mut bench = with_acme().await;
        // The feed has two partitions, and whoever said this swept for three.
        bench.beat_for(3).await;
        // Behind the heartbeats of both.
        let partitions: std::collections::BTreeSet<u32> =
            (0..8).map(|number| bench.feed.partition_of(&tenant_stream(&format!("t{number}")))).collect();
        assert_eq!(partitions.len(), 2);
        for number in 0..8 {
            let created = bench.universe.create(&format!("t{number}"), latest("gold"));
            bench.commit(&created).await;
        }
        bench.settled().await;
        bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms.is_none()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_bound_to_tenants_would_see_all_of_them() {
    matters(Guard::TenantsOfCaller, async || {
        let bench = with_acme().await;
        let bound = Principal::new(Grant {
            actor: Actor::parse("an actor", "token:globex").unwrap(),
            scopes: Scopes::all(),
            tenants: Some([TenantId::parse("globex").unwrap()].into()),
        });
        let shows = move |mut request: tonic::Request<()>| {
            request.extensions_mut().insert(bound.clone());
            Ok(request)
        };
        let mut client = EntitlementServiceClient::with_interceptor(bench.services.clone(), shows);
        let answer = client.check_entitlement(check("acme", "reports", "view")).await.unwrap().into_inner();
        answer.reason() == v1::Reason::TenantUnknown
    })
    .await;
}
