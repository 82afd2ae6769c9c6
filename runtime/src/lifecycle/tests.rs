//! Draining, aborting, dying; on paused time.

use tokio::sync::{mpsc, watch};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use super::*;

fn signals() -> (mpsc::Sender<&'static str>, Signals) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Signals::of_channel(receiver))
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_lets_work_finish_and_keeps_company_until_then() {
    let tasks = Tasks::new();
    let (sender, signals) = signals();
    let (company_alive, alive) = watch::channel(());
    let seen = Arc::new(Mutex::new(None));
    let (shutdown, noted) = (tasks.shutdown(), Arc::clone(&seen));
    tasks.spawn("work", async move {
        shutdown.soft.cancelled().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        *noted.lock().unwrap() = Some(company_alive.receiver_count());
        Ok(())
    });
    tasks.spawn_behind("company", async move {
        let _alive = alive;
        std::future::pending().await
    });
    sender.send("SIGTERM").await.unwrap();
    assert_eq!(tasks.run_until_stopped(signals).await, Ending::Drained);
    assert_eq!(*seen.lock().unwrap(), Some(1), "company was there while work finished");
}

#[tokio::test(start_paused = true)]
async fn an_outlet_has_a_moment_for_what_work_has_left_it() {
    let tasks = Tasks::new();
    let (sender, signals) = signals();
    let (left, mut taken) = mpsc::channel(1);
    let (company_alive, alive) = watch::channel(());
    let seen = Arc::new(Mutex::new(None));
    let (shutdown, noted) = (tasks.shutdown(), Arc::clone(&seen));
    tasks.spawn("work", async move {
        shutdown.soft.cancelled().await;
        left.send("the last of it").await?;
        Ok(())
    });
    tasks.spawn_outlet("outlet", |work_done| async move {
        work_done.await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        *noted.lock().unwrap() = Some((taken.recv().await, company_alive.receiver_count()));
        Ok(())
    });
    tasks.spawn_behind("company", async move {
        let _alive = alive;
        std::future::pending().await
    });
    sender.send("SIGTERM").await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(tasks.run_until_stopped(signals).await, Ending::Drained);
    assert_eq!(*seen.lock().unwrap(), Some((Some("the last of it"), 1)), "with company");
    assert_eq!(began.elapsed(), Duration::from_secs(1), "nobody waits longer than it takes");
}

#[tokio::test(start_paused = true)]
async fn an_outlet_that_is_stuck_is_dropped_and_at_once_when_there_is_haste() {
    for (haste, seconds) in [(false, 2), (true, 1)] {
        let tasks = Tasks::new();
        let (sender, signals) = signals();
        tasks.spawn_outlet("stuck", |_| std::future::pending());
        sender.send("SIGTERM").await.unwrap();
        let again = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if haste {
                sender.send("SIGTERM").await.unwrap();
            }
        };
        let began = tokio::time::Instant::now();
        let ((ending, took), ()) = tokio::join!(async { (tasks.run_until_stopped(signals).await, began.elapsed()) }, again);
        assert_eq!((ending, took), (Ending::Drained, Duration::from_secs(seconds)), "what it leaves is safe");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outlet_has_its_moment_when_draining_took_too_long_but_none_when_there_is_haste() {
    for (signals_sent, has_it) in [(1, true), (2, false)] {
        let (tasks, heard) = (Tasks::new(), Arc::new(Mutex::new(false)));
        let (sender, signals) = signals();
        let noted = Arc::clone(&heard);
        tasks.spawn("stuck", std::future::pending());
        tasks.spawn_outlet("outlet", |work_done| async move {
            work_done.await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            *noted.lock().unwrap() = true;
            Ok(())
        });
        for _ in 0..signals_sent {
            sender.send("SIGTERM").await.unwrap();
        }
        assert_eq!(tasks.run_until_stopped(signals).await, Ending::Aborted);
        assert_eq!(*heard.lock().unwrap(), has_it);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_aborts() {
    let tasks = Tasks::new();
    let (sender, signals) = signals();
    tasks.spawn("stuck", std::future::pending());
    sender.send("SIGTERM").await.unwrap();
    sender.send("SIGINT").await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(tasks.run_until_stopped(signals).await, Ending::Aborted);
    assert!(began.elapsed() < DRAIN_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_signal_after_a_death_is_the_first_one() {
    for signals_sent in [1, 2] {
        let tasks = Tasks::new();
        let (sender, signals) = signals();
        let (shutdown, finished) = (tasks.shutdown(), Arc::new(Mutex::new(false)));
        let noted = Arc::clone(&finished);
        tasks.spawn("work", async move {
            shutdown.soft.cancelled().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            *noted.lock().unwrap() = true;
            Ok(())
        });
        tasks.die_when("store", async { "disk I/O error" });
        let sending = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for _ in 0..signals_sent {
                sender.send("SIGTERM").await.unwrap();
            }
        };
        let (ended, ()) = tokio::join!(tasks.run_until_stopped(signals), sending);
        assert_eq!((ended, *finished.lock().unwrap()), (Ending::Died, signals_sent == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_at_the_end_for_an_errand_of_company() {
    let tasks = Tasks::new();
    let (sender, signals) = signals();
    assert_eq!(tasks.run_behind("decode", async { 7 }).await, Ok(7));
    let endless = tasks.run_behind("decode", std::future::pending::<()>());
    sender.send("SIGTERM").await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(tasks.run_until_stopped(signals).await, Ending::Drained);
    assert_eq!((began.elapsed(), endless.await), (Duration::ZERO, Err(Lost { name: "decode" })));
}

#[tokio::test(start_paused = true)]
async fn draining_has_a_time_limit() {
    let tasks = Tasks::new();
    let (_sender, signals) = signals();
    tasks.spawn("stuck", std::future::pending());
    tasks.shutdown().drain();
    let began = tokio::time::Instant::now();
    assert_eq!(tasks.run_until_stopped(signals).await, Ending::Aborted);
    assert!(began.elapsed() >= DRAIN_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_dead_task_stops_the_process_with_a_failure() {
    for panics in [false, true] {
        let tasks = Tasks::new();
        let (_sender, signals) = signals();
        let shutdown = tasks.shutdown();
        tasks.spawn("healthy", async move {
            shutdown.soft.cancelled().await;
            Ok(())
        });
        tasks.spawn_behind("dying", async move {
            assert!(!panics, "on purpose");
            anyhow::bail!("on purpose")
        });
        assert_eq!(tasks.run_until_stopped(signals).await, Ending::Died);
    }
}

/// A log that notes for each ERROR whether draining had begun.
struct Noting(Shutdown, Arc<Mutex<Vec<bool>>>);

impl<S: tracing::Subscriber> Layer<S> for Noting {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::ERROR {
            self.1.lock().unwrap().push(self.0.is_draining());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_is_told_when_draining_has_begun() {
    for panics in [false, true] {
        let (tasks, told) = (Tasks::new(), Arc::new(Mutex::new(Vec::new())));
        let noting = tracing_subscriber::registry().with(Noting(tasks.shutdown(), Arc::clone(&told)));
        let _noting = tracing::subscriber::set_default(noting);
        // With one log alone, whether a line is wanted may be settled by a thread of another test, which has none.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        let (_sender, signals) = signals();
        tasks.spawn("dying", async move {
            assert!(!panics, "on purpose");
            anyhow::bail!("on purpose")
        });
        assert_eq!(tasks.run_until_stopped(signals).await, Ending::Died);
        assert_eq!(*told.lock().unwrap(), [true], "whoever reads the log may have stopped to");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fatal_reason_stops_the_process_with_a_failure() {
    let tasks = Tasks::new();
    let (_sender, signals) = signals();
    tasks.die_when("store", async { "disk I/O error" });
    assert_eq!(tasks.run_until_stopped(signals).await, Ending::Died);
}

#[tokio::test(start_paused = true)]
async fn an_errand_outlives_its_caller_and_its_panic_is_the_callers_alone() {
    let tasks = Tasks::new();
    let (sender, signals) = signals();
    let done = Arc::new(Mutex::new(false));
    let noted = Arc::clone(&done);
    drop(tasks.run("append", async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        *noted.lock().unwrap() = true;
    }));
    assert_eq!(tasks.run("answer", async { 7 }).await, Ok(7));
    let lost = tasks.run("panic", async { assert_eq!(1, 2, "on purpose") }).await;
    assert_eq!(lost, Err(Lost { name: "panic" }));
    sender.send("SIGTERM").await.unwrap();
    assert_eq!(tasks.run_until_stopped(signals).await, Ending::Drained);
    assert!(*done.lock().unwrap(), "draining waited for the errand");
}
