//! Commands of one stream go together into one append, and none of them is answered before it is committed.

use std::time::Duration;

use futures::FutureExt as _;
use tessera_loader::refusal::Refusal;
use tessera_ports::memory::{AppendFault, StoreChances};

use crate::bench::{Bench, create, reason, rename, stream, title, wait_for};

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
    bench.config.import_concurrency = 5;
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
