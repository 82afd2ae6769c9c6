//! Replays whose first result has to be read from history: they are read beside the queue of their stream, few at a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tessera_core::stream::StreamKind;
use tessera_loader::Handle;
use tessera_loader::refusal::Refusal;
use tessera_runtime::lifecycle::{Ending, Signals};
use tokio::sync::OwnedRwLockWriteGuard;
use tokio::time::Instant;

use crate::bench::{Bench, again, create, rename, suspend, title, wait_for};
use crate::grouping::{Reply, run};

/// A loader with a tenant that was renamed twice.
async fn with_history(bench: &Bench) -> Handle {
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    loader.tenants().handle(rename("acme", "first", "r2")).await.unwrap();
    loader.tenants().handle(rename("acme", "second", "r3")).await.unwrap();
    loader
}

/// A replay of the first renaming that waits for history, and what keeps that back.
async fn under_way(bench: &Bench, loader: &Handle) -> (Reply, OwnedRwLockWriteGuard<()>) {
    let slow = bench.store.history.clone().write_owned().await;
    let before = bench.store.history_reads.load(Ordering::Relaxed);
    let replay = run(bench, loader, rename("acme", "first", "r2"));
    wait_for("the replay", || bench.store.history_reads.load(Ordering::Relaxed) > before).await;
    (replay, slow)
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_reads_history_holds_up_nothing_of_its_stream() {
    let bench = Bench::new();
    let loader = with_history(&bench).await;
    let (replay, slow) = under_way(&bench, &loader).await;
    let suspended = loader.tenants().handle(suspend("acme", "payment", "r4")).await.unwrap();
    assert_eq!((suspended.seq, suspended.changed), (4, true));
    drop(slow);
    let replayed = replay.await.unwrap();
    assert_eq!((replayed.seq, title(&replayed), replayed.replay, replayed.changed), (2, "first", true, true));
    assert!(replayed.state.0.as_ref().unwrap().suspensions.is_empty(), "what came meanwhile is not in it");
}

/// Those that were asked for together with it, as an import asks, are as free.
#[tokio::test(start_paused = true)]
async fn a_replay_in_a_batch_holds_up_nothing_either() {
    let bench = Bench::new();
    let loader = with_history(&bench).await;
    let _slow = bench.store.history.clone().write_owned().await;
    let tenants = loader.tenants().clone();
    let asked = vec![rename("acme", "first", "r2"), create("other", "r5")];
    let batch = bench.tasks.run("test", async move { tenants.handle_many(asked).await });
    wait_for("the other tenant", || bench.stored("other").1 == 1).await;
    assert!(loader.tenants().handle(suspend("acme", "payment", "r4")).await.unwrap().changed);
    let done = batch.await.unwrap();
    assert!(matches!(&done[..], [Err(Refusal::OutcomeUnknown(_)), Ok(_)]), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_for_history_is_never_told_that_nothing_was_applied() {
    let bench = Bench::new();
    let loader = with_history(&bench).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let (replay, slow) = under_way(&bench, &loader).await;
    let refusal = replay.await.unwrap_err();
    assert!(matches!(refusal, Refusal::OutcomeUnknown(_)) && Instant::now() < deadline, "{refusal:?}");
    drop(slow);
    assert!(loader.tenants().handle(rename("acme", "first", "r2")).await.unwrap().replay);
}

/// Nor before it is known what came of the first attempt.
#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_for_the_event_of_a_known_id_is_never_told_that_nothing_was_applied() {
    let bench = Bench::new();
    let loader = with_history(&bench).await;
    for id in ["r2", "r3"] {
        let _slow = bench.store.events.clone().write_owned().await;
        let title = if id == "r2" { "first" } else { "second" };
        let refusal = loader.tenants().handle(rename("acme", title, id)).await.unwrap_err();
        assert!(matches!(refusal, Refusal::OutcomeUnknown(_)), "{id}: {refusal:?}");
    }
    assert!(loader.tenants().handle(rename("acme", "first", "r2")).await.unwrap().replay);
}

#[tokio::test(start_paused = true)]
async fn few_replays_read_history_at_once_and_all_of_them_are_answered() {
    let bench = Bench::new();
    let loader = with_history(&bench).await;
    let slow = bench.store.history.clone().write_owned().await;
    let replays: Vec<Reply> = (0..20).map(|_| run(&bench, &loader, rename("acme", "first", "r2"))).collect();
    let begun = || bench.store.history_reads.load(Ordering::Relaxed);
    wait_for("the first replays", || begun() == 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(begun(), 16);
    drop(slow);
    for replayed in join_all(replays).await {
        assert_eq!(replayed.map(|done| (done.seq, done.replay)), Ok((2, true)));
    }
}

#[tokio::test(start_paused = true)]
async fn replays_that_wait_for_history_count_as_commands_under_way() {
    let mut bench = Bench::new();
    (bench.config.commands_max, bench.config.import_concurrency) = (2, 1);
    let loader = with_history(&bench).await;
    let (replay, slow) = under_way(&bench, &loader).await;
    let other = run(&bench, &loader, rename("acme", "first", "r2"));
    wait_for("the other replay", || bench.store.history_reads.load(Ordering::Relaxed) == 2).await;
    let refusal = loader.tenants().handle(create("other", "r5")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Overloaded(_)), "{refusal:?}");
    drop(slow);
    assert!(replay.await.unwrap().replay && other.await.unwrap().replay);
    assert!(loader.tenants().handle(create("other", "r5")).await.unwrap().changed, "what was counted is given back");
}

/// In the place of what the replay is of stands something else then.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_set_back_meanwhile_gives_no_state_to_a_replay() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let backup = bench.store.inner.back_up(&StreamKind::ALL);
    loader.tenants().handle(rename("acme", "first", "r2")).await.unwrap();
    loader.tenants().handle(rename("acme", "second", "r3")).await.unwrap();
    let (replay, slow) = under_way(&bench, &loader).await;
    bench.store.inner.restore(&backup, "restored");
    let renamed = loader.tenants().handle(rename("acme", "other", "r4")).await.unwrap();
    assert_eq!((renamed.seq, title(&renamed)), (2, "other"));
    drop(slow);
    let refusal = replay.await.unwrap_err();
    assert!(matches!(refusal, Refusal::OutcomeUnknown(_)), "{refusal:?}");
    let decided = loader.tenants().handle(again(rename("acme", "first", "r2"))).await.unwrap();
    assert_eq!((decided.seq, decided.replay), (3, false));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_drains_waits_for_replays() {
    let bench = Bench::new();
    let loader = with_history(&bench).await;
    let (replay, slow) = under_way(&bench, &loader).await;
    bench.tasks.shutdown().close();
    let (_sender, signals) = tokio::sync::mpsc::channel(1);
    let stopped = bench.tasks.clone().run_until_stopped(Signals::of_channel(signals));
    let let_go = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(slow);
    };
    let (ending, replayed, ()) = tokio::join!(stopped, replay, let_go);
    assert_eq!((ending, replayed.unwrap().seq), (Ending::Drained, 2));
}
