//! Each guard of snapshots: the same run holds its property with the guard, and not without it.

use std::time::Duration;

use tessera_core::tenant::Event;
use tessera_ports::change_feed::ChangePublisher as _;
use tessera_ports::hooks::{self, Guard};
use tessera_ports::memory::{FeedChances, MemoryFeed};
use tessera_proto::v1;

use super::{Keeper, another_store, pass};
use crate::bench::{check, wait_for};
use crate::universe::{latest, store};

/// `run` says whether its property held: it must with every guard in place, and must not without `guard`.
async fn matters(guard: Guard, run: impl AsyncFn() -> bool) {
    assert!(run().await, "the property does not hold with every guard in place");
    let _removed = hooks::remove(&[guard]);
    assert!(!run().await, "nothing is lost without {guard:?}");
}

/// Waits until a snapshot is being written, and has copied some of the rows.
async fn in_the_middle_of_one() {
    // The first one is begun after ten seconds, and copies a slice every ten milliseconds.
    pass(Duration::from_millis(10_015)).await;
}

#[tokio::test(start_paused = true)]
async fn positions_noted_after_the_rows_skip_what_came_meanwhile() {
    matters(Guard::SnapshotPositionsFirst, async || {
        let mut keeper = Keeper::usual(40).await;
        in_the_middle_of_one().await;
        for n in 0..40 {
            let deleted = keeper.bench.universe.tenant_event(&format!("other-{n}"), Event::Deleted);
            keeper.bench.commit(&deleted).await;
        }
        keeper.written().await;
        let keeper = keeper.crash();
        keeper.no_scans();
        keeper.bench.handle.loaded().await;
        pass(Duration::from_secs(5)).await;
        keeper.outage_is_over();
        keeper.bench.handle.digest() == keeper.bench.stored_digest().await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_change_that_is_left_out_never_comes() {
    matters(Guard::SnapshotKeepsParked, async || {
        let mut keeper = Keeper::usual(3).await;
        let silver = keeper.bench.universe.publish("silver", &[("reports", &["view"])], &[]);
        let created = keeper.bench.universe.create("acme-2", latest("silver"));
        keeper.bench.commit(&created).await;
        store(&keeper.bench.store, &silver);
        keeper.bench.store.faults().fail_next(tessera_ports::memory::Operation::Read, super::FOR_LONG);
        keeper.written().await;
        keeper.no_scans();
        let keeper = keeper.crash();
        pass(Duration::from_secs(1)).await;
        keeper.bench.feed.publish(&[silver]).await.unwrap();
        keeper.bench.handle.loaded().await;
        keeper.bench.reason("acme-2", "view").await == v1::Reason::GrantedByPlan
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_parked_makes_a_snapshot_as_old_as_its_wait() {
    matters(Guard::ParkedHoldsHeartbeat, async || {
        let mut keeper = Keeper::usual(0).await;
        let second = Duration::from_secs(1);
        keeper.bench.beat().await;
        pass(second).await;
        // The plan that it was decided on is nowhere to be had.
        keeper.bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        let moved = keeper.bench.universe.tenant_event("acme", Event::PlanChanged(latest("gold")));
        keeper.bench.commit(&moved).await;
        pass(second).await;
        keeper.bench.clock.advance(second);
        keeper.bench.beat().await;
        keeper.written().await;
        keeper.outage();
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        let says = async || keeper.bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms;
        let of_the_file = says().await == Some(1_000);
        // It still waits when the server has caught up.
        keeper.outage_is_over();
        keeper.bench.clock.advance(second);
        keeper.bench.beat().await;
        pass(Duration::from_mins(1)).await;
        of_the_file && says().await == Some(2_000)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn tables_noted_before_the_rows_are_older_than_rows_need() {
    matters(Guard::SnapshotTablesLast, async || {
        let mut keeper = Keeper::usual(40).await;
        in_the_middle_of_one().await;
        let second = keeper.bench.universe.publish("gold", &[("reports", &["export"])], &[]);
        keeper.bench.commit(&second).await;
        for n in 0..40 {
            // Decided against the second version, which grants something else.
            let renewed = keeper.bench.universe.tenant_event(&format!("other-{n}"), Event::PlanChanged(latest("gold")));
            keeper.bench.commit(&renewed).await;
        }
        keeper.written().await;
        keeper.outage();
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        for n in 0..40 {
            let answer = keeper.bench.ask(check(&format!("other-{n}"), "reports", "view")).await.unwrap();
            // Only rows of the first seq may be answered with the first version.
            if answer.plan_version == 1 && tenant_seq(&answer) > 1 {
                return false;
            }
        }
        true
    })
    .await;
}

fn tenant_seq(answer: &v1::CheckEntitlementResponse) -> u64 {
    let revision = tessera_core::revision::Revision::parse(&answer.revision).unwrap();
    let tenant = |named: &&tessera_core::revision::Named| named.kind == tessera_core::stream::StreamKind::Tenant;
    revision.streams.iter().find(tenant).map_or(0, |named| named.seq)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_a_matrix_that_is_being_hydrated_is_full_of_holes() {
    matters(Guard::SnapshotNotWhileHydrating, async || {
        let mut keeper = Keeper::usual(3).await;
        // The feed is cut beneath it, and what was in it is found by a scan that takes long.
        keeper.bench.feed.faults().fail_reads(20);
        keeper.delete().await;
        let feed = &keeper.bench.feed;
        for (partition, records) in (0..).zip(feed.records()) {
            feed.faults().truncate(partition, u64::try_from(records.len()).unwrap());
        }
        keeper.no_scans();
        pass(Duration::from_secs(15)).await;
        let keeper = keeper.crash();
        keeper.bench.store.faults().fail_next(tessera_ports::memory::Operation::ScanRanges, 5);
        keeper.bench.handle.loaded().await;
        keeper.reason().await == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_another_store_answers_for_ever() {
    matters(Guard::SnapshotOfThisStore, async || {
        let mut keeper = Keeper::usual(3).await;
        keeper.delete().await;
        keeper.bench.settled().await;
        keeper.written().await;
        (keeper.bench.universe, keeper.bench.store) = another_store();
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        pass(Duration::from_mins(1)).await;
        keeper.reason().await == v1::Reason::GrantedByPlan
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn positions_in_another_topic_are_no_positions() {
    matters(Guard::SnapshotOfThisTopic, async || {
        let mut keeper = Keeper::usual(3).await;
        for _ in 0..10 {
            let renewed = keeper.bench.universe.tenant_event("acme", Event::SubscriptionRenewed);
            keeper.bench.commit(&renewed).await;
        }
        keeper.bench.settled().await;
        keeper.written().await;
        keeper.bench.feed = MemoryFeed::new("another", 2);
        keeper.delete().await;
        let slow = FeedChances { delay_max: Duration::from_secs(2), ..FeedChances::default() };
        keeper.bench.feed.faults().seed(3, slow);
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        // Ready means that this is in.
        keeper.reason().await == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tail_from_the_ends_misses_what_came_since_the_snapshot() {
    matters(Guard::SnapshotTailsFromItsPositions, async || {
        let mut keeper = Keeper::usual(3).await;
        keeper.written().await;
        keeper.delete().await;
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        pass(Duration::from_secs(5)).await;
        keeper.reason().await == v1::Reason::TenantDeleted
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_checksums_a_flipped_bit_is_an_answer() {
    matters(Guard::SnapshotChecksums, async || {
        let keeper = Keeper::usual(3).await;
        keeper.written().await;
        // One letter of an id: another tenant, and this one is gone.
        keeper.folder.damage_newest(|file| {
            let at = file.windows(4).position(|window| window == b"acme").expect("the tenant is in the file");
            file[at] ^= 2;
        });
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        keeper.reason().await == v1::Reason::GrantedByPlan
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_grants_what_was_taken_away_long_ago() {
    matters(Guard::SnapshotAgeLimit, async || {
        let keeper = Keeper::usual(3).await;
        keeper.written().await;
        keeper.outage();
        keeper.bench.clock.advance(Duration::from_hours(24) + Duration::from_secs(1));
        let keeper = keeper.crash();
        pass(Duration::from_mins(10)).await;
        let refused = keeper.bench.handle.ready().is_err();
        keeper.outage_is_over();
        wait_for("the store to be read", || keeper.bench.handle.ready().is_ok()).await;
        refused
    })
    .await;
}
