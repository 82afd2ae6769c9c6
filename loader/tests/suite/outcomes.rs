//! What the outcomes of an append mean, and what is said at the deadline.

use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_loader::refusal::Refusal;
use tessera_ports::event_store::Appended;
use tessera_ports::memory::{AppendFault, Operation};
use tokio::time::Instant;

use crate::bench::{Bench, again, archive, create, rename, stream, title};

#[tokio::test(start_paused = true)]
async fn a_committed_command_is_in_its_stream_once() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    let done = loader.tenants().handle(create("acme", "r1")).await.unwrap();
    assert_eq!((done.seq, done.replay, done.changed), (1, false, true));
    assert_eq!(bench.stored("acme"), ((*done.state).clone(), 1));
    let references = &done.state.0.as_ref().unwrap().references;
    assert_eq!((references.catalog, references.plans.values().copied().collect::<Vec<_>>()), (2, vec![2]));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_append_that_was_written_is_done() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.inner.faults().next_append(AppendFault::UnknownApplied);
    let done = loader.tenants().handle(create("acme", "r1")).await.unwrap();
    assert_eq!((done.seq, done.replay), (1, false));
    assert_eq!((bench.stored("acme").1, bench.store.appends().len()), (1, 1));
}

/// Between the attempts the plan is archived: deciding again would refuse.
pub(crate) async fn unknown_then_archived(bench: &Bench) -> Result<(), Refusal> {
    let loader = bench.furnished().await;
    bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
    let tenants = loader.tenants().clone();
    let asked = bench.tasks.run("test", async move { tenants.handle(create("acme", "r1")).await });
    crate::bench::wait_for("the first attempt", || bench.store.appends().len() == 1).await;
    // The read that would resolve it fails until the plan is archived.
    bench.store.unreadable.lock().unwrap().insert(stream("acme"));
    loader.offers().handle(archive("gold")).await.unwrap();
    bench.store.unreadable.lock().unwrap().clear();
    asked.await.unwrap().map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn unknown_with_head_unmoved_sends_the_same_bytes() {
    let bench = Bench::new();
    unknown_then_archived(&bench).await.unwrap();
    let sent: Vec<_> = bench.store.appends().into_iter().filter(|append| append.stream == stream("acme")).collect();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], sent[1]);
    // The first attempt was overtaken by its equal and can not be written any more.
    assert_eq!(bench.store.inner.faults().release_late(), 0);
    assert_eq!(bench.stored("acme").1, 1);
}

#[tokio::test(start_paused = true)]
async fn unknown_with_head_moved_is_decided_again() {
    let bench = Bench::new();
    let (one, other) = (bench.furnished().await, bench.loader().handle());
    one.tenants().handle(create("acme", "r1")).await.unwrap();
    bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
    let tenants = one.tenants().clone();
    let asked = bench.tasks.run("test", async move { tenants.handle(rename("acme", "first", "r2")).await });
    crate::bench::wait_for("the first attempt", || bench.store.appends().len() == 2).await;
    other.tenants().handle(rename("acme", "second", "r3")).await.unwrap();
    let done = asked.await.unwrap().unwrap();
    assert_eq!((title(&done), done.seq), ("first", 3));
    assert_eq!(bench.store.inner.faults().release_late(), 0, "its condition is past");
    assert_eq!(bench.stored("acme").1, 3);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_read_looked_up_and_decided_again() {
    let bench = Bench::new();
    let (one, other) = (bench.furnished().await, bench.loader().handle());
    one.tenants().handle(create("acme", "r1")).await.unwrap();
    let chances = tessera_ports::memory::StoreChances { delay_max: Duration::from_millis(20), ..Default::default() };
    bench.store.inner.faults().seed(7, chances);
    let renames = (0..20).map(|n| {
        let tenants = if n % 2 == 0 { one.tenants() } else { other.tenants() };
        tenants.handle(rename("acme", &format!("title {n}"), &format!("rename-{n}")))
    });
    for done in futures::future::join_all(renames).await {
        assert!(done.unwrap().changed);
    }
    assert_eq!(bench.stored("acme").1, 21);
    let conflicts = bench.store.attempts.lock().unwrap().iter().filter(|(.., said)| *said == Ok(Appended::Conflict)).count();
    assert!(conflicts > 0, "the loaders never met");
}

#[tokio::test(start_paused = true)]
async fn the_same_command_at_two_loaders_is_applied_once() {
    let bench = Bench::new();
    let (one, other) = (bench.furnished().await, bench.loader().handle());
    one.tenants().handle(create("acme", "r1")).await.unwrap();
    let chances = tessera_ports::memory::StoreChances { delay_max: Duration::from_millis(20), ..Default::default() };
    for seed in 0..20 {
        bench.store.inner.faults().seed(seed, chances);
        let id = format!("same-{seed}");
        let asked = [one.tenants(), other.tenants()].map(|tenants| tenants.handle(rename("acme", &id, &id)));
        let [first, second] = futures::future::join_all(asked).await.try_into().unwrap();
        assert_eq!(first.unwrap().seq, second.unwrap().seq, "seed {seed}");
    }
    assert_eq!(bench.stored("acme").1, 21);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_unknown_at_the_deadline_is_said_before_it() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    for _ in 0..1_000 {
        bench.store.inner.faults().next_append(AppendFault::UnknownNotApplied);
    }
    let asked = create("acme", "r1");
    let deadline = asked.caller.deadline;
    let refusal = loader.tenants().handle(asked).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::OutcomeUnknown(id) if id.as_str() == "r1"), "{refusal:?}");
    let left = deadline - Instant::now();
    assert!(left > Duration::from_millis(20) && left <= Duration::from_millis(51), "answered {left:?} before the deadline");
    // Long after, no attempt was begun beyond the deadline.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let attempts = bench.store.attempts.lock().unwrap().clone();
    assert!(attempts.len() > 3 && attempts.iter().all(|(_, begun, _)| *begun < deadline));
    assert!(attempts.iter().all(|(append, ..)| *append == attempts[0].0), "the same bytes, every time");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_means_that_nothing_was_applied() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.inner.faults().fail_next(Operation::Read, u32::MAX);
    let refusal = loader.tenants().handle(create("acme", "r1")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::StoreUnavailable(_)), "{refusal:?}");
    bench.store.inner.faults().calm();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((bench.stored("acme").1, bench.store.appends().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn hints_that_cannot_be_written_mean_that_nothing_was_applied() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.inner.faults().fail_next(Operation::PutHint, u32::MAX);
    let refusal = loader.tenants().handle(create("acme", "r1")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::StoreUnavailable(_)), "{refusal:?}");
    bench.store.inner.faults().calm();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.store.appends().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_attempted_is_tried_again() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    for _ in 0..3 {
        bench.store.inner.faults().next_append(AppendFault::NotAttempted);
    }
    let done = loader.tenants().handle(create("acme", "r1")).await.unwrap();
    assert_eq!((done.seq, done.replay), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_and_later_takes_the_same_command() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.inner.faults().disk_full(true);
    assert_eq!(loader.tenants().handle(create("acme", "r1")).await.unwrap_err(), Refusal::DiskFull);
    bench.store.inner.faults().disk_full(false);
    assert!(loader.tenants().handle(again(create("acme", "r1"))).await.unwrap().changed);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_after_an_unknown_outcome_settles_nothing() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
    for _ in 0..1_000 {
        bench.store.inner.faults().next_append(AppendFault::DiskFull);
    }
    let refusal = loader.tenants().handle(create("acme", "r1")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::OutcomeUnknown(_)), "{refusal:?}");
    assert_eq!(bench.store.inner.faults().release_late(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_stream_is_refused_at_once() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.inner.faults().damage(stream("acme"));
    let refusal = loader.tenants().handle(create("acme", "r1")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::StoreDamaged(_)), "{refusal:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_is_a_conflict() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let backup = bench.store.inner.back_up(&StreamKind::ALL);
    loader.tenants().handle(rename("acme", "lost", "r2")).await.unwrap();
    bench.store.inner.restore(&backup, "restored");
    // What is cached has the seq of the restored stream or a greater one, and belongs to the life before.
    let done = loader.tenants().handle(rename("acme", "kept", "r3")).await.unwrap();
    assert_eq!((done.epoch, done.seq, title(&done)), (2, 2, "kept"));
    assert_eq!(bench.stored("acme").1, 2);
}
