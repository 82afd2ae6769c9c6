//! Due changes: recorded in time, and found by laps whatever they meet.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tessera_core::tenant::Action;
use tessera_core::time::Timestamp;
use tessera_ports::memory::{Operation, StoreChances};
use tokio::time::Instant;
use tracing::Level;

use crate::bench::{Bench, ask, choice, create, furnish, new_year, stream, wait_for};
use crate::unreadable::Logged;

#[tokio::test(start_paused = true)]
async fn due_changes_are_recorded_by_the_system() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let at = new_year().saturating_add(Duration::from_mins(10));
    let change = Action::ChangePlan { choice: choice("silver"), at: Some(at) };
    loader.tenants().handle(ask("acme", change, "r2")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.stored("acme").1, 2, "it is not due yet");
    bench.clock.set(at);
    wait_for("the record", || bench.stored("acme").1 == 3).await;
    let state = bench.stored("acme").0;
    assert_eq!(state.0.unwrap().subscription.choice, choice("silver"));
    let cell = &bench.store.inner.cells(&stream("acme"))[2];
    assert_eq!(tessera_proto::storage::EventLink::decode(cell).unwrap().actor.as_str(), "system");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.stored("acme").1, 3, "once");
}

/// When those of [`forty_due`] are.
fn due() -> Timestamp {
    new_year().saturating_add(Duration::from_mins(1))
}

/// Tenants in three ranges that a loader commits which records nothing.
async fn forty_due(bench: &Bench) {
    let idle = bench.loader().handle();
    furnish(&idle).await;
    for n in 0..40 {
        let tenant = format!("t{n:02}");
        idle.tenants().handle(create(&tenant, "r1")).await.unwrap();
        let cancel = Action::CancelSubscription(Some(due()));
        idle.tenants().handle(ask(&tenant, cancel, "r2")).await.unwrap();
    }
}

/// Those of them that are recorded.
fn recorded(bench: &Bench) -> Vec<u32> {
    (0..40).filter(|n| bench.stored(&format!("t{n:02}")).1 == 3).collect()
}

#[tokio::test(start_paused = true)]
async fn due_changes_of_other_loaders_are_found_by_a_lap() {
    let bench = Bench::new();
    forty_due(&bench).await;
    let _working = bench.loader().start(&bench.tasks);
    bench.clock.set(due());
    wait_for("all records", || recorded(&bench).len() == 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_lap_takes_its_time_whatever_comes_to_it_and_in_however_many_pages() {
    let bench = Bench::new();
    bench.store.inner.faults().fail_next(Operation::Count, u32::MAX);
    bench.store.page_max.store(1, Ordering::Relaxed);
    let begun = Instant::now();
    let _working = bench.loader().start(&bench.tasks);
    // The first lap finds nothing.
    tokio::time::sleep(Duration::from_secs(1)).await;
    forty_due(&bench).await;
    tokio::time::sleep_until(begun + Duration::from_secs(1_799)).await;
    let scans: Vec<u64> = bench.store.scans.lock().unwrap().iter().map(|at| (*at - begun).as_secs()).collect();
    assert_eq!((scans.len(), scans[0], scans[39]), (40, 900, 1_500), "{scans:?}");
    bench.clock.set(due());
    wait_for("all records", || recorded(&bench).len() == 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_lap_finds_everything_through_a_store_that_fails_now_and_then() {
    let bench = Bench::new();
    forty_due(&bench).await;
    bench.store.page_max.store(1, Ordering::Relaxed);
    bench.store.inner.faults().seed(3, StoreChances { read_fails: 300, ..Default::default() });
    bench.store.inner.faults().fail_next(Operation::ScanRanges, 3);
    let _working = bench.loader().start(&bench.tasks);
    tokio::time::sleep(Duration::from_mins(2)).await;
    bench.store.inner.faults().calm();
    bench.clock.set(due());
    wait_for("all records", || recorded(&bench).len() == 40).await;
}

#[tokio::test(start_paused = true)]
async fn tenants_that_cannot_be_read_hold_up_no_others_in_a_lap() {
    let bench = Bench::new();
    forty_due(&bench).await;
    bench.store.page_max.store(4, Ordering::Relaxed);
    bench.store.unscannable.lock().unwrap().extend([stream("t05"), stream("t38")]);
    let _working = bench.loader().start(&bench.tasks);
    bench.clock.set(due());
    let found: Vec<u32> = (0..4).chain(16..36).collect();
    wait_for("the others", || recorded(&bench) == found).await;
    bench.store.unscannable.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!(recorded(&bench).len(), 40, "the next lap begins, and goes on");
}

#[tokio::test(start_paused = true)]
async fn the_log_has_one_line_for_all_that_could_not_be_recorded_and_none_for_damage() {
    let bench = Bench::new();
    let logged = Logged::at(Level::WARN);
    let _logging = tracing::subscriber::set_default(logged.clone());
    forty_due(&bench).await;
    let _working = bench.loader().start(&bench.tasks);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.store.inner.faults().damage(stream("t07"));
    let others = (0..40).filter(|n| *n != 7).map(|n| stream(&format!("t{n:02}")));
    bench.store.unreadable.lock().unwrap().extend(others);
    bench.clock.set(due());
    // A command has ten seconds.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let lines = logged.with("due changes");
    assert!(lines.len() == 1 && lines[0].contains("tenants=39"), "{lines:?}");
    bench.store.unreadable.lock().unwrap().clear();
    for _ in 0..5 {
        bench.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((recorded(&bench).len(), logged.with("due changes").len()), (39, 1));
}
