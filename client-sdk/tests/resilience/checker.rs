//! Checks of many tasks over shared streams: packed, each with its own deadline, and none lost with a stream.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::join_all;
use tessera_client::fake::{Fake, FakeError};
use tessera_client::{Check, CheckerOptions, Code, Error, Method, Reason, RetryPolicy, Revision, Tessera};
use tessera_proto::status::{Failure, RETRY_AFTER};
use tessera_proto::v1::check_result::Result as Said;
use tokio::sync::Semaphore;

use crate::relay::Relay;
use crate::scripted::{Scripted, entitled};
use crate::server::{PATIENCE, Record, SLACK, Server, client, eventually, nobody};

fn exports() -> Check {
    Check::new("acme", "reporting", "exports")
}

#[tokio::test]
async fn checks_that_come_together_leave_together() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let before = server.fake.calls();
    let checker = tessera.checker();
    let features = ["exports", "dashboards"];
    let checks = (0..3_000).map(|number| checker.check(Check::new("acme", "reporting", features[number % 2])));
    for (number, decision) in join_all(checks).await.into_iter().enumerate() {
        assert_eq!(decision.unwrap().is_entitled(), number % 2 == 0, "{number}");
    }
    let frames = server.fake.calls() - before;
    assert!((3..=30).contains(&frames), "{frames} frames");
}

#[tokio::test]
async fn a_wrong_check_fails_alone_and_revisions_come_when_asked_for() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let options = CheckerOptions { with_revisions: true, ..CheckerOptions::default() };
    let checker = tessera.checker_with(options).unwrap();
    let (good, wrong, long) = tokio::join!(
        checker.check(exports()),
        checker.check(Check::new("", "reporting", "exports")),
        checker.check(Check::new("x".repeat(100_000), "reporting", "exports")),
    );
    assert!(!good.unwrap().revision.is_empty());
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.failure().unwrap().violations()[0].field, "tenant_id");
    assert!(wrong.to_string().contains(&server.endpoint()), "{wrong}");
    assert!(matches!(long.unwrap_err(), Error::Invalid(_)));
    assert!(tessera.checker().check(exports()).await.unwrap().revision.is_empty());
    let wrong = CheckerOptions { frame_checks_max: 1_001, ..CheckerOptions::default() };
    let refused = tessera.checker_with(wrong).unwrap_err().to_string();
    assert_eq!(refused, "`checker.frame_checks_max` is `1001`; allowed are 1 to 1,000");
}

#[tokio::test]
async fn each_check_has_its_own_deadline() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let checker = tessera.checker();
    server.fake.set_delay(Duration::from_millis(400));
    let begun = Instant::now();
    let (hasty, patient) = tokio::join!(checker.check_within(exports(), Duration::from_millis(50)), checker.check(exports()));
    let hasty = hasty.unwrap_err();
    assert!(matches!(hasty, Error::DeadlineExceeded { .. }), "{hasty}");
    assert!(patient.unwrap().is_entitled());
    server.fake.set_delay(Duration::from_mins(10));
    let error = checker.check_within(exports(), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }) && begun.elapsed() < Duration::from_secs(1) + SLACK);
}

#[tokio::test]
async fn a_check_that_has_to_wait_holds_up_nobody_and_speaks_against_no_endpoint() {
    let (waits, released) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
    let (counted, release) = (Arc::clone(&waits), Arc::clone(&released));
    let server = Scripted::start(move |checks| {
        let (counted, release) = (Arc::clone(&counted), Arc::clone(&release));
        async move {
            if checks.iter().any(|check| check.consistency.is_some()) {
                counted.fetch_add(1, Ordering::Relaxed);
                release.acquire().await.unwrap().forget();
            }
            Ok(checks.iter().map(|_| entitled()).collect())
        }
        .boxed()
    })
    .await;
    let record = Record::default();
    let builder = client(std::slice::from_ref(&server.endpoint)).deadline(Duration::from_secs(2)).metrics(record.clone());
    let options = CheckerOptions { streams: Some(1), ..CheckerOptions::default() };
    let checker = builder.connect_lazy().unwrap().checker_with(options).unwrap();
    let revision = Revision::from_bytes("of a write that is on its way");
    for (number, demanding) in [exports().at_least(&revision), exports().fully_consistent()].into_iter().enumerate() {
        let mut waiting = Box::pin(checker.check_within(demanding, PATIENCE));
        eventually("it to wait", async || {
            assert!(futures::poll!(&mut waiting).is_pending());
            waits.load(Ordering::Relaxed) > number
        })
        .await;
        for decision in join_all((0..20).map(|_| checker.check_within(exports(), PATIENCE))).await {
            assert!(decision.unwrap().is_entitled());
        }
        assert!(futures::poll!(&mut waiting).is_pending());
        released.add_permits(1);
        assert!(waiting.await.unwrap().is_entitled());
    }
    assert_eq!(record.put_aside(), 0);
    assert_eq!(record.calls().iter().filter(|(method, ..)| *method == Method::Check).count(), 2);
}

#[tokio::test]
async fn a_full_queue_refuses_by_name_and_whoever_leaves_makes_room() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let options = CheckerOptions { frame_checks_max: 1, frames_in_flight_max: 1, waiting_max: 3, ..CheckerOptions::default() };
    let checker = tessera.checker_with(options).unwrap();
    server.fake.fail_always(FakeError::Silence);
    let calls = server.fake.calls();
    let mut flying = Box::pin(checker.check(exports()));
    eventually("the first to be on its way", async || {
        assert!(futures::poll!(&mut flying).is_pending());
        server.fake.calls() > calls
    })
    .await;
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(checker.check(exports()))).collect();
    for check in &mut waiting {
        assert!(futures::poll!(check).is_pending());
    }
    let refused = checker.check(exports()).await.unwrap_err();
    assert!(matches!(refused, Error::QueueFull { waiting: 3, allowed: 3 }) && refused.is_transient(), "{refused}");
    assert_eq!(refused.to_string(), "`3` checks wait in the checker; allowed are 3");
    waiting.pop();
    let mut taken = Box::pin(checker.check(exports()));
    assert!(futures::poll!(&mut taken).is_pending());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_vanishes_under_load_costs_no_check() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let (first, second) = (Relay::before(one.address).await, Relay::before(two.address).await);
    let tessera = client(&[first.endpoint(), second.endpoint()]).connect().await.unwrap();
    let checker = tessera.checker();
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let checker = checker.clone();
        load.spawn(async move {
            for _ in 0..100 {
                assert!(checker.check(exports()).await.unwrap().is_entitled());
            }
        });
    }
    eventually("both to be asked", async || one.fake.calls() > 5 && two.fake.calls() > 5).await;
    first.cut();
    eventually("the other to be asked", async || two.fake.calls() > 20).await;
    second.cut();
    load.join_all().await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_left_for_another() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let (first, second) = (Relay::before(one.address).await, Relay::before(two.address).await);
    let endpoints = [first.endpoint(), second.endpoint()];
    let builder = client(&endpoints).keepalive(None).deadline(Duration::from_millis(500));
    let tessera = builder.connect().await.unwrap();
    let options = CheckerOptions { streams: Some(1), ..CheckerOptions::default() };
    let checker = tessera.checker_with(options).unwrap();
    let plan = checker.check(exports()).await.unwrap().plan.unwrap().id;
    let (silent, other) = if plan == "one" { (&first, "two") } else { (&second, "one") };
    silent.silence();
    let decision = checker.check_within(exports(), Duration::from_secs(20)).await.unwrap();
    assert_eq!(decision.plan.unwrap().id, other);
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_an_answer_in_time_is_trouble_that_may_pass() {
    let fake = Fake::new();
    fake.fail_always(FakeError::Silence);
    let once = RetryPolicy { attempts_max: 1, ..RetryPolicy::default() };
    let checker = fake.client_with(Tessera::builder().retry(once)).checker();
    let error = checker.check_within(exports(), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.is_transient(), "{error:?}");
    assert_eq!(error.code(), Some(Code::DeadlineExceeded));
    assert!(error.to_string().contains("no answer to a frame within 1s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_frame_is_no_silence_however_short_the_deadline() {
    let fake = Fake::new();
    fake.tenant("acme").grant("reporting", "exports");
    fake.set_delay(Duration::from_millis(90));
    let record = Record::default();
    let builder = Tessera::builder().deadline(Duration::from_millis(20)).metrics(record.clone());
    let checker = fake.client_with(builder).checker();
    let (hasty, patient) = tokio::join!(checker.check(exports()), checker.check_within(exports(), PATIENCE));
    assert!(matches!(hasty.unwrap_err(), Error::DeadlineExceeded { .. }));
    assert!(patient.unwrap().is_entitled());
    // One frame on one stream, which goes on.
    assert_eq!((fake.calls(), record.attempts_at("fake"), record.put_aside()), (1, 0, 0));
    fake.fail_always(FakeError::Silence);
    assert!(checker.check_within(exports(), PATIENCE).await.is_err());
    assert!(record.put_aside() > 0, "silence is noticed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_come_is_no_silence_however_late_it_is_looked_at() {
    let fake = Fake::new();
    fake.tenant("acme").grant("reporting", "exports");
    fake.set_delay(Duration::from_millis(90));
    let record = Record::default();
    let builder = Tessera::builder().deadline(Duration::from_millis(100)).metrics(record.clone());
    let checker = fake.client_with(builder).checker();
    for _ in 0..20 {
        let asked = fake.calls();
        let mut check = Box::pin(checker.check_within(exports(), PATIENCE));
        while fake.calls() == asked {
            assert!(futures::poll!(&mut check).is_pending());
            tokio::task::yield_now().await;
        }
        // The process stands still, and both the answer and the end of patience come meanwhile.
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(check.await.unwrap().is_entitled());
        assert_eq!((fake.calls(), record.attempts_at("fake"), record.put_aside()), (asked + 1, 0, 0));
    }
}

#[tokio::test]
async fn a_draining_server_hands_over_to_another() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let tessera = client(&[one.endpoint(), two.endpoint()]).connect().await.unwrap();
    let checker = tessera.checker();
    for round in 0..10 {
        let (draining, serving) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        serving.fake.recover();
        draining.fake.fail_always(FakeError::Draining);
        draining.fake.break_streams();
        let checks = (0..20).map(|_| checker.check(exports()));
        for decision in join_all(checks).await {
            assert_eq!(decision.unwrap().reason, Reason::GRANTED_BY_PLAN);
        }
    }
}

#[tokio::test]
async fn without_any_server_the_error_says_why() {
    let wrong = nobody().await;
    let tessera = client(std::slice::from_ref(&wrong)).connect_lazy().unwrap();
    let checker = tessera.checker();
    let begun = Instant::now();
    let error = checker.check_within(exports(), Duration::from_millis(300)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(300) + SLACK);
    let said = error.to_string();
    assert!(matches!(error, Error::DeadlineExceeded { .. }) && said.contains(&wrong) && said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_check_whose_frames_are_always_lost_is_sent_as_often_as_the_policy_says() {
    for attempts_max in [1, 3, 5] {
        let server = Server::start("one").await;
        server.fake.fail_always(FakeError::NotReady);
        let record = Record::default();
        let policy = RetryPolicy { attempts_max, ..RetryPolicy::default() };
        let builder = client(&[server.endpoint()]).retry(policy).metrics(record.clone());
        let error = builder.connect_lazy().unwrap().checker().check(exports()).await.unwrap_err();
        assert_eq!((server.fake.calls(), record.retries_refused()), (u64::from(attempts_max), 0));
        assert_eq!((error.reason(), error.failure().unwrap().attempts()), ("NOT_READY", attempts_max));
        assert_eq!(record.calls(), [(Method::StreamCheck, Code::Unavailable, attempts_max)]);
    }
}

#[tokio::test]
async fn a_check_that_is_lost_and_then_refused_alone_is_sent_no_more_often() {
    /// What comes of a frame.
    enum Word {
        Lost,
        Refused,
    }
    let words = Arc::new(Mutex::new(VecDeque::from([Word::Lost, Word::Refused, Word::Refused, Word::Lost])));
    let script = Arc::clone(&words);
    let server = Scripted::start(move |checks| {
        let word = script.lock().unwrap().pop_front();
        let refused = || Said::Error(Failure::rate_limited("`acme` is asked about too often", RETRY_AFTER).to_rpc_status());
        let answers = match word {
            Some(Word::Lost) => Err(Failure::not_ready().into()),
            Some(Word::Refused) => Ok(checks.iter().map(|_| refused()).collect()),
            None => Ok(checks.iter().map(|_| entitled()).collect()),
        };
        futures::future::ready(answers).boxed()
    })
    .await;
    let record = Record::default();
    let builder = client(std::slice::from_ref(&server.endpoint)).metrics(record.clone());
    let checker = builder.connect_lazy().unwrap().checker();
    // What is asked too often may be asked later: it is asked for again.
    let error = checker.check(exports()).await.unwrap_err();
    assert_eq!(words.lock().unwrap().len(), 1, "lost once, refused twice");
    assert_eq!((error.reason(), error.failure().unwrap().attempts()), ("RATE_LIMITED", 3));
    assert!(checker.check(exports()).await.unwrap().is_entitled());
    assert_eq!(record.calls().last(), Some(&(Method::StreamCheck, Code::Ok, 2)));
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_lost_are_sent_again_within_a_budget_of_their_own() {
    let (fake, record) = (Fake::new(), Record::default());
    fake.fail_always(FakeError::NotReady);
    let policy = RetryPolicy { budget_percent: 0, budget_per_second: 0, ..RetryPolicy::default() };
    let checker = fake.client_with(Tessera::builder().retry(policy).deadline(PATIENCE).metrics(record.clone())).checker();
    // Ten retries are saved up: five checks are sent three times each.
    for sent in [3, 3, 3, 3, 3, 1, 1] {
        let error = checker.check(exports()).await.unwrap_err();
        assert_eq!((error.reason(), error.failure().unwrap().attempts()), ("NOT_READY", sent));
    }
    assert_eq!((fake.calls(), record.retries_refused()), (17, 2));
}

#[tokio::test]
async fn what_an_endpoint_lost_does_not_go_there_again_while_another_is_well() {
    let (failing, well) = (Server::start("failing").await, Server::start("well").await);
    let tessera = client(&[failing.endpoint(), well.endpoint()]).connect().await.unwrap();
    let before = (failing.fake.calls(), well.fake.calls());
    let options = CheckerOptions { streams: Some(8), frames_in_flight_max: 1, frame_checks_max: 1, ..Default::default() };
    let checker = tessera.checker_with(options).unwrap();
    // As many checks as there are streams: all open, some of them to each. Those to the one that is well are busy for longer.
    failing.fake.set_delay(Duration::from_millis(100));
    well.fake.set_delay(Duration::from_secs(4));
    let mut slow = Box::pin(join_all((0..8).map(|_| checker.check(exports()))));
    eventually("the streams to the one to be idle", async || {
        assert!(futures::poll!(&mut slow).is_pending());
        let sent = (failing.fake.calls() - before.0, well.fake.calls() - before.1);
        sent.0 + sent.1 == 8 && u64::try_from(failing.fake.checks().len()).unwrap() == sent.0
    })
    .await;
    failing.fake.fail_always(FakeError::NotReady);
    let lost = failing.fake.calls();
    assert_eq!(checker.check(exports()).await.unwrap().plan.unwrap().id, "well");
    assert!(failing.fake.calls() - lost <= 1, "{} times", failing.fake.calls() - lost);
    assert!(slow.await.into_iter().all(|decision| decision.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn who_runs_out_of_time_is_not_told_of_trouble_that_was_over() {
    let fake = Fake::new();
    fake.tenant("acme").grant("reporting", "exports");
    let checker = fake.client().checker();
    fake.fail_next(FakeError::NotReady);
    assert!(checker.check(exports()).await.unwrap().is_entitled());
    fake.set_delay(Duration::from_millis(400));
    let error = checker.check_within(exports(), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }) && !error.to_string().contains("NOT_READY"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_told_when_to_come_again_comes_no_sooner() {
    let fake = Fake::new();
    fake.tenant("acme").grant("reporting", "exports");
    for error in [FakeError::Overloaded, FakeError::NotReady] {
        let checker = fake.client().checker();
        fake.fail_next(error);
        let begun = tokio::time::Instant::now();
        assert!(checker.check(exports()).await.unwrap().is_entitled());
        assert!(begun.elapsed() >= RETRY_AFTER, "{error:?}: {:?}", begun.elapsed());
    }
}
