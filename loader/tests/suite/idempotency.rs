//! Request ids: what is sent again is done once and answered alike, at any loader.

use std::time::Duration;

use tessera_core::aggregate::{Aggregate as _, Settled};
use tessera_core::tenant::{Action, TenantState};
use tessera_loader::refusal::Refusal;
use tessera_ports::memory::AppendFault;
use tessera_proto::storage;
use tokio::time::Instant;

use crate::bench::{Bench, again, archive, ask, create, reason, rename, stream, suspend, title};

#[tokio::test(start_paused = true)]
async fn a_replay_returns_the_first_result_at_another_loader() {
    let bench = Bench::new();
    let (one, other) = (bench.furnished().await, bench.loader().handle());
    one.tenants().handle(create("acme", "r1")).await.unwrap();
    let first = one.tenants().handle(rename("acme", "first", "r2")).await.unwrap();
    one.tenants().handle(rename("acme", "second", "r3")).await.unwrap();
    for replayed in [
        one.tenants().handle(rename("acme", "first", "r2")).await.unwrap(),
        other.tenants().handle(again(rename("acme", "first", "r2"))).await.unwrap(),
    ] {
        assert_eq!((replayed.seq, title(&replayed), replayed.replay), (2, "first", true));
        assert_eq!((&replayed.state, replayed.epoch), (&first.state, first.epoch));
    }
    let newest = one.tenants().handle(rename("acme", "second", "r3")).await.unwrap();
    assert_eq!((newest.seq, newest.replay), (3, true));
    assert_eq!(bench.stored("acme").1, 3);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_with_another_body_is_refused() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let refusal = loader.tenants().handle(rename("acme", "other", "r1")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::RequestIdReused(_)), "{refusal:?}");
    // The scope is the stream.
    assert!(loader.tenants().handle(create("globex", "r1")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_id_is_looked_up_before_etag_and_decision() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let mut asked = rename("acme", "new", "r2");
    asked.etag = Some("1-1".to_owned());
    let first = loader.tenants().handle(asked.clone()).await.unwrap();
    // Now neither the etag holds nor would a creation be taken.
    let replayed = loader.tenants().handle(asked).await.unwrap();
    assert_eq!((replayed.seq, replayed.replay), (first.seq, true));
    assert!(loader.tenants().handle(create("acme", "r1")).await.unwrap().replay);
    assert_eq!(reason(loader.tenants().handle(create("acme", "r3")).await), "TENANT_EXISTS");
}

#[tokio::test(start_paused = true)]
async fn a_stale_etag_is_refused_and_a_current_one_is_not() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let with = |etag: &str, id: &str| {
        let mut asked = rename("acme", id, id);
        asked.etag = Some(etag.to_owned());
        asked
    };
    assert!(loader.tenants().handle(with("1-1", "r2")).await.is_ok());
    assert_eq!(reason(loader.tenants().handle(with("1-1", "r3")).await), "ETAG_MISMATCH");
    assert_eq!(bench.stored("acme").1, 2);
    // A retry's mismatch is written down.
    assert_eq!(reason(loader.tenants().handle(again(with("1-1", "r4"))).await), "ETAG_MISMATCH");
    assert_eq!(bench.stored("acme").1, 3);
    let mut create = create("globex", "r5");
    create.etag = Some("1-1".to_owned());
    assert_eq!(reason(loader.tenants().handle(create).await), "ETAG_MISMATCH");
}

/// The first attempt is under way when its caller's time is over; then the plan is archived, and the caller asks again.
pub(crate) async fn late_then_refused(bench: &Bench) -> Result<(), Refusal> {
    let loader = bench.furnished().await;
    bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
    for _ in 0..1_000 {
        bench.store.inner.faults().next_append(AppendFault::UnknownNotApplied);
    }
    let mut asked = create("acme", "r1");
    asked.caller.deadline = Instant::now() + Duration::from_secs(1);
    let refusal = loader.tenants().handle(asked).await.unwrap_err();
    assert!(matches!(refusal, Refusal::OutcomeUnknown(_)), "{refusal:?}");
    bench.store.inner.faults().calm();
    loader.offers().handle(archive("gold")).await.unwrap();
    loader.tenants().handle(again(create("acme", "r1"))).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn a_retrys_rejection_is_appended() {
    let bench = Bench::new();
    assert_eq!(reason(late_then_refused(&bench).await), "PLAN_ARCHIVED");
    assert_eq!(bench.store.inner.faults().release_late(), 0, "the head moved, so the late attempt dies");
    let (state, events) = bench.stored("acme");
    assert_eq!((state, events), (TenantState::default(), 1));
    let cell = &bench.store.inner.cells(&stream("acme"))[0];
    let event = storage::decode_event::<TenantState>(cell).unwrap().recorded.event;
    assert!(matches!(TenantState::settled(&event), Some(Settled::Rejected(r)) if r.reason == "PLAN_ARCHIVED"));
    // Every later replay hears the same, whatever would be decided now.
    let other = bench.loader().handle();
    assert_eq!(reason(other.tenants().handle(create("acme", "r1")).await), "PLAN_ARCHIVED");
}

#[tokio::test(start_paused = true)]
async fn a_retrys_no_op_is_appended_and_replayed() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    loader.tenants().handle(rename("acme", "same", "r2")).await.unwrap();
    let first = loader.tenants().handle(rename("acme", "same", "r3")).await.unwrap();
    assert_eq!((first.seq, first.changed, bench.stored("acme").1), (2, false, 2));
    let settled = loader.tenants().handle(again(rename("acme", "same", "r4"))).await.unwrap();
    assert_eq!((settled.seq, settled.changed, settled.replay), (3, false, false));
    let replayed = loader.tenants().handle(again(rename("acme", "same", "r4"))).await.unwrap();
    assert_eq!((replayed.seq, replayed.changed, replayed.replay), (3, false, true));
    assert_eq!(bench.stored("acme").1, 3);
}

#[tokio::test(start_paused = true)]
async fn rejections_of_first_attempts_are_not_remembered() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    assert_eq!(reason(loader.tenants().handle(rename("acme", "x", "r1")).await), "TENANT_NOT_FOUND");
    loader.tenants().handle(create("acme", "r2")).await.unwrap();
    assert!(loader.tenants().handle(rename("acme", "x", "r1")).await.unwrap().changed);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_that_does_not_stand_is_decided_again_by_the_next_call() {
    let bench = Bench::new();
    let (one, other) = (bench.furnished().await, bench.loader().handle());
    let asked = || {
        let mut asked = again(rename("acme", "x", "r1"));
        asked.rejection_stands = false;
        asked
    };
    // Written by this call, which was not told so: it stands.
    bench.store.inner.faults().next_append(AppendFault::UnknownApplied);
    assert_eq!(reason(one.tenants().handle(asked()).await), "TENANT_NOT_FOUND");
    assert_eq!(bench.stored("acme").1, 1);
    one.tenants().handle(create("acme", "r2")).await.unwrap();
    // An attempt that was not made makes what an earlier call wrote no more this one's.
    bench.store.inner.faults().next_append(AppendFault::NotAttempted);
    let renamed = other.tenants().handle(asked()).await.unwrap();
    assert_eq!((renamed.seq, renamed.replay, renamed.changed, title(&renamed)), (3, false, true, "x"));
    one.tenants().handle(rename("acme", "y", "r3")).await.unwrap();
    let replayed = one.tenants().handle(asked()).await.unwrap();
    assert_eq!((replayed.seq, replayed.replay, title(&replayed)), (3, true, "x"));
}

#[tokio::test(start_paused = true)]
async fn event_times_never_go_back() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    let created = loader.tenants().handle(create("acme", "r1")).await.unwrap();
    bench.clock.set(crate::bench::new_year().saturating_sub(Duration::from_mins(1)));
    let other = bench.loader().handle();
    let renamed = other.tenants().handle(rename("acme", "x", "r2")).await.unwrap();
    let at = |done: &tessera_loader::handler::Done<TenantState>| done.state.0.as_ref().unwrap().updated_at;
    assert_eq!(at(&renamed), at(&created));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_grows_too_large_is_refused() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    loader.tenants().handle(suspend("acme", "payment", "r2")).await.unwrap();
    let overwritten = {
        // A tenant of almost 256 KiB cannot be made of what core allows, so a stored one is made longer.
        let (head, bytes) = bench.store.inner.current(&stream("acme")).unwrap();
        let (mut state, at) = storage::decode_state::<TenantState>(&bytes).unwrap();
        let tenant = state.0.as_mut().unwrap();
        for n in 0..1_400 {
            let reason = format!("{n:04}{}", "x".repeat(190));
            tenant.suspensions.insert(tessera_core::value::Reason::parse("a reason", &reason).unwrap(), at);
        }
        let bytes = storage::encode_state(&state, at);
        assert!(bytes.len() > 256 * 1024);
        (head, bench.store.inner.faults().overwrite_state(&stream("acme"), bytes.into()))
    };
    assert!(overwritten.1);
    let other = bench.loader().handle();
    assert_eq!(reason(other.tenants().handle(rename("acme", "x", "r3")).await), "STATE_TOO_LARGE");
    assert!(other.tenants().handle(ask("acme", Action::Resume(std::collections::BTreeSet::default()), "r4")).await.is_ok());
}
