//! Commands of one stream go together into one append, and none of them is answered before it is committed.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_core::ids::PlanId;
use tessera_core::stream::StreamId;
use tessera_core::tenant::{self, Action, TenantState, TrialLength};
use tessera_loader::Handle;
use tessera_loader::handler::{Done, Request};
use tessera_loader::refusal::Refusal;
use tessera_ports::event_store::Append;
use tessera_ports::memory::{AppendFault, Operation, StoreChances};
use tokio::time::Instant;

use crate::bench::{Bench, again, archive, ask, choice, create, reason, rename, stream, title, wait_for};

#[tokio::test(start_paused = true)]
async fn waiting_commands_share_appends() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    bench.store.attempts.lock().unwrap().clear();
    let chances = StoreChances { delay_max: Duration::from_millis(10), ..StoreChances::default() };
    bench.store.inner.faults().seed(1, chances);
    let asked: Vec<_> =
        (0..100).map(|n| loader.tenants().handle(rename("acme", &format!("title {n}"), &format!("rename-{n}")))).collect();
    let mut seqs = Vec::new();
    for (n, done) in futures::future::join_all(asked).await.into_iter().enumerate() {
        let done = done.unwrap();
        // Each has the state of its own seq.
        assert_eq!(title(&done), format!("title {n}"));
        seqs.push(done.seq);
    }
    assert_eq!(seqs, (2..=101).collect::<Vec<_>>());
    let appends = bench.store.appends();
    assert!(appends.len() <= 6, "{} appends", appends.len());
    assert!(appends.iter().all(|append| append.requests.len() <= 32));
    assert_eq!(appends.iter().map(|append| append.requests.len()).sum::<usize>(), 100);
}

#[tokio::test(start_paused = true)]
async fn waiting_commands_share_what_they_are_decided_against() {
    let bench = Bench::new();
    let loader = with_acme(&bench).await;
    bench.store.reads.lock().unwrap().clear();
    let asked = (0..64).map(|n| {
        let choice = choice(if n % 2 == 0 { "silver" } else { "gold" });
        loader.tenants().handle(ask("acme", Action::ChangePlan { choice, at: None }, &format!("change-{n}")))
    });
    assert!(futures::future::join_all(asked).await.into_iter().all(|done| done.unwrap().changed));
    let groups = bench.store.appends().len();
    assert!(groups <= 4, "{groups} groups");
    let plan = |id: &str| StreamId::Plan(PlanId::parse(id).unwrap());
    let reads = bench.store.reads.lock().unwrap().clone();
    for stream in [StreamId::Catalog, plan("silver"), plan("gold")] {
        assert!(reads[&stream] <= groups, "`{stream}` was read {} times for {groups} groups", reads[&stream]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_is_decided_on_the_plan_that_was_chosen_before_it_in_the_group() {
    let bench = Bench::new();
    let loader = with_acme(&bench).await;
    let silver = Action::ChangePlan { choice: choice("silver"), at: None };
    let (changed, refused) = futures::join!(
        loader.tenants().handle(ask("acme", silver, "r2")),
        loader.tenants().handle(ask("acme", Action::StartTrial(TrialLength::OfPlan), "r3")),
    );
    assert!(changed.unwrap().changed);
    let Err(Refusal::Rejected(rejection)) = refused else { panic!("{refused:?}") };
    assert_eq!(rejection.message, "plan `silver` states no trial length; name one");
    assert_eq!(bench.store.appends().len(), 1, "they were decided together");
}

#[tokio::test(start_paused = true)]
async fn long_commands_do_not_share_more_than_fits() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    bench.store.attempts.lock().unwrap().clear();
    let asked = (0..9).map(|n| {
        let mut asked = rename("acme", &format!("title {n}"), &format!("rename-{n}"));
        asked.len = 100 * 1024;
        loader.tenants().handle(asked)
    });
    assert!(futures::future::join_all(asked).await.iter().all(Result::is_ok));
    assert!(bench.store.appends().iter().all(|append| append.requests.len() <= 2));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_waits_for_the_commit_of_its_group() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    // The first command holds the stream while the other two queue.
    let chances = StoreChances { delay_max: Duration::from_millis(50), ..StoreChances::default() };
    bench.store.inner.faults().seed(3, chances);
    let first = bench.tasks.run("test", {
        let tenants = loader.tenants().clone();
        async move { tenants.handle(rename("acme", "too early", "r0")).await }
    });
    // Its task has taken it and reads.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut both = Box::pin(async {
        let creating = loader.tenants().handle(create("acme", "r1"));
        let refused = loader.tenants().handle(create("acme", "r2"));
        futures::join!(creating, refused.map(|result| (result, bench.store.appends().len())))
    });
    assert!(both.as_mut().now_or_never().is_none());
    bench.store.inner.faults().next_append(AppendFault::UnknownNotApplied);
    bench.store.inner.faults().next_append(AppendFault::UnknownNotApplied);
    let (created, (refused, appends_when_refused)) = both.await;
    assert!(created.unwrap().changed);
    assert_eq!(reason(refused), "TENANT_EXISTS");
    assert_eq!(appends_when_refused, 3, "the rejection rests on the creation, which was committed at the third attempt");
    assert_eq!(reason(first.await.unwrap()), "TENANT_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn the_same_id_twice_in_a_queue_is_done_once() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    let asked = (0..5).map(|_| loader.tenants().handle(create("acme", "r1")));
    let done: Vec<_> = futures::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert!(done.iter().all(|done| done.seq == 1));
    assert_eq!(done.iter().filter(|done| !done.replay).count(), 1);
    assert_eq!(bench.stored("acme").1, 1);
}

#[tokio::test(start_paused = true)]
async fn full_queues_refuse() {
    let mut bench = Bench::new();
    bench.config.stream_queue_max = 2;
    bench.config.commands_max = 5;
    bench.config.import_concurrency = 2;
    let loader = bench.furnished().await;
    let chances = StoreChances { delay_max: Duration::from_millis(50), ..StoreChances::default() };
    bench.store.inner.faults().seed(1, chances);
    let one_stream = (0..4).map(|n| loader.tenants().handle(create("acme", &format!("r{n}"))));
    let refused = futures::future::join_all(one_stream).await;
    assert_eq!(refused.iter().filter(|r| matches!(r, Err(Refusal::Overloaded(_)))).count(), 2, "{refused:?}");
    let many_streams = (0..8).map(|n| loader.tenants().handle(create(&format!("t{n}"), "r1")));
    let refused = futures::future::join_all(many_streams).await;
    assert_eq!(refused.iter().filter(|r| matches!(r, Err(Refusal::Overloaded(_)))).count(), 3, "{refused:?}");
    // What was counted is given back.
    assert!(loader.tenants().handle(create("later", "r1")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_leaves_the_command_to_its_task() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    let chances = StoreChances { delay_max: Duration::from_millis(50), ..StoreChances::default() };
    bench.store.inner.faults().seed(1, chances);
    let asked = loader.tenants().handle(create("acme", "r1"));
    assert!(Box::pin(asked).as_mut().now_or_never().is_none());
    wait_for("the command", || bench.store.inner.current(&stream("acme")).is_some()).await;
}

pub(crate) type Reply = BoxFuture<'static, Result<Done<TenantState>, Refusal>>;

/// Has a command handled by a task, whether or not anybody waits.
pub(crate) fn run(bench: &Bench, loader: &Handle, request: Request<tenant::Command>) -> Reply {
    let tenants = loader.tenants().clone();
    bench.tasks.run("test", async move { tenants.handle(request).await }).map(Result::unwrap).boxed()
}

/// Two commands in one append whose outcome is unknown: `first` waits `first_s` seconds, `second` as long as it takes.
struct Pair {
    first: Reply,
    second: Reply,
}

impl Pair {
    /// Sends them, and waits until the append was tried once, with that outcome, and cannot be resolved.
    async fn sent(bench: &Bench, loader: &Handle, second: Request<tenant::Command>, outcome: AppendFault) -> Self {
        // Something holds the stream, so that both wait and then go together.
        bench.store.unreadable.lock().unwrap().insert(stream("acme"));
        let mut held = rename("acme", "held", "r0");
        held.caller.deadline = Instant::now() + Duration::from_millis(500);
        let held = run(bench, loader, held);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut first = rename("acme", "late", "late");
        first.caller.deadline = Instant::now() + Duration::from_secs(2);
        let pair = Self { first: run(bench, loader, first), second: run(bench, loader, second) };
        held.await.unwrap_err();
        bench.store.inner.faults().next_append(outcome);
        bench.store.unreadable.lock().unwrap().clear();
        wait_for("the first attempt", || bench.attempts_of("acme").len() == 1).await;
        assert_eq!(bench.attempts_of("acme")[0].0.requests.len(), 2, "both are in it");
        bench.store.unreadable.lock().unwrap().insert(stream("acme"));
        pair
    }
}

impl Bench {
    fn attempts_of(&self, tenant: &str) -> Vec<(Append, Instant)> {
        let attempts = self.store.attempts.lock().unwrap();
        let of_tenant = attempts.iter().filter(|(append, ..)| append.stream == stream(tenant));
        of_tenant.map(|(append, begun, _)| (append.clone(), *begun)).collect()
    }
}

async fn with_acme(bench: &Bench) -> Handle {
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    bench.store.attempts.lock().unwrap().clear();
    loader
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_the_deadline_of_anybody_in_it() {
    let bench = Bench::new();
    let loader = with_acme(&bench).await;
    let pair = Pair::sent(&bench, &loader, rename("acme", "kept", "kept"), AppendFault::UnknownAppliedLater).await;
    let refusal = pair.first.await.unwrap_err();
    assert!(matches!(&refusal, Refusal::OutcomeUnknown(id) if id.as_str() == "late"), "{refusal:?}");
    let deadline = Instant::now();
    bench.store.unreadable.lock().unwrap().clear();
    let done = pair.second.await.unwrap();
    assert_eq!((title(&done), done.seq, done.replay), ("kept", 2, false));
    let later = bench.attempts_of("acme").split_off(1);
    assert!(!later.is_empty());
    for (append, begun) in later {
        assert!(begun >= deadline && append.requests.iter().all(|row| row.id.as_str() == "kept"), "{append:?}");
    }
    // The bytes with both expected the head that the others moved.
    assert_eq!(bench.store.inner.faults().release_late(), 0);
    assert_eq!(bench.stored("acme").1, 2);
    // Whoever left learns the rest by asking again.
    let asked_again = loader.tenants().handle(again(rename("acme", "late", "late"))).await.unwrap();
    assert_eq!((title(&asked_again), asked_again.seq, asked_again.replay), ("late", 3, false));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_were_written_after_all_are_found_although_one_of_their_callers_has_left() {
    for outcome in [AppendFault::UnknownApplied, AppendFault::UnknownAppliedLater] {
        let bench = Bench::new();
        let loader = with_acme(&bench).await;
        let pair = Pair::sent(&bench, &loader, rename("acme", "kept", "kept"), outcome).await;
        pair.first.await.unwrap_err();
        bench.store.inner.faults().release_late();
        bench.store.unreadable.lock().unwrap().clear();
        let done = pair.second.await.unwrap();
        assert_eq!((title(&done), done.seq), ("kept", 3));
        assert_eq!((bench.stored("acme").1, bench.attempts_of("acme").len()), (3, 1));
        let asked_again = loader.tenants().handle(again(rename("acme", "late", "late"))).await.unwrap();
        assert_eq!((title(&asked_again), asked_again.seq, asked_again.replay), ("late", 2, true));
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_that_win_over_the_new_attempt_are_found() {
    let bench = Bench::new();
    let loader = with_acme(&bench).await;
    let pair = Pair::sent(&bench, &loader, rename("acme", "kept", "kept"), AppendFault::UnknownAppliedLater).await;
    pair.first.await.unwrap_err();
    // The read shows the head unmoved; the new attempt is not made, and meanwhile the old one is written.
    for _ in 0..3 {
        bench.store.inner.faults().next_append(AppendFault::NotAttempted);
    }
    bench.store.unreadable.lock().unwrap().clear();
    wait_for("the new attempt", || bench.attempts_of("acme").len() > 1).await;
    assert_eq!(bench.store.inner.faults().release_late(), 1);
    let done = pair.second.await.unwrap();
    assert_eq!((title(&done), done.seq), ("kept", 3));
    assert_eq!(bench.stored("acme").1, 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_on_the_way_is_written_down_before_it_is_answered() {
    let bench = Bench::new();
    let loader = with_acme(&bench).await;
    let moving = ask("acme", tenant::Action::ChangePlan { choice: choice("silver"), at: None }, "move");
    let pair = Pair::sent(&bench, &loader, moving, AppendFault::UnknownAppliedLater).await;
    pair.first.await.unwrap_err();
    // While nothing can be resolved the plan is archived: decided again, the command is refused.
    loader.offers().handle(archive("silver")).await.unwrap();
    bench.store.unreadable.lock().unwrap().clear();
    assert_eq!(reason(pair.second.await), "PLAN_ARCHIVED");
    assert_eq!(bench.store.inner.faults().release_late(), 0, "the refusal moved the head, so it stays true");
    let state = bench.stored("acme").0.0.unwrap();
    assert_eq!((state.subscription.choice, state.title.as_str()), (choice("gold"), ""));
    // And so it is remembered.
    let again =
        loader.tenants().handle(again(ask("acme", tenant::Action::ChangePlan { choice: choice("silver"), at: None }, "move")));
    assert_eq!(reason(again.await), "PLAN_ARCHIVED");
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_takes_too_long_leaves_the_late_behind() {
    let bench = Bench::new();
    let loader = with_acme(&bench).await;
    bench.store.unreadable.lock().unwrap().insert(stream("acme"));
    let mut held = rename("acme", "held", "r0");
    held.caller.deadline = Instant::now() + Duration::from_millis(500);
    let held = run(&bench, &loader, held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut late = rename("acme", "late", "late");
    late.caller.deadline = Instant::now() + Duration::from_secs(2);
    let (late, kept) = (run(&bench, &loader, late), run(&bench, &loader, rename("acme", "kept", "kept")));
    held.await.unwrap_err();
    // Both are decided together, and then no hint can be written until the first has left.
    bench.store.inner.faults().fail_next(Operation::PutHint, u32::MAX);
    bench.store.unreadable.lock().unwrap().clear();
    let refusal = late.await.unwrap_err();
    assert!(matches!(refusal, Refusal::StoreUnavailable(_)), "nothing of it was ever sent: {refusal:?}");
    bench.store.inner.faults().calm();
    assert_eq!(kept.await.unwrap().seq, 2);
    let attempts = bench.attempts_of("acme");
    assert!(attempts.iter().all(|(append, _)| append.requests.iter().all(|row| row.id.as_str() == "kept")), "{attempts:?}");
}
