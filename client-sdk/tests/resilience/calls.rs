//! Single calls: they end in time with an answer or an error that says what happened, whatever servers do.

use std::time::{Duration, Instant};

use tessera_client::fake::FakeError;
use tessera_client::{Check, Code, Decision, Error, Keepalive, Method, RetryPolicy, Staleness, Tessera};

use crate::relay::Relay;
use crate::server::{PATIENCE, Record, SLACK, Server, client, eventually, mute, nobody};

async fn plan_that_answers(tessera: &Tessera) -> String {
    tessera.check("acme", "reporting", "exports").await.unwrap().plan.unwrap().id
}

#[tokio::test]
async fn a_decision_carries_everything_and_the_call_its_name_and_time() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let short = Duration::from_secs(9);
    let decision = tessera.check("acme", "reporting", "exports").limit("max_users", 10).used(91).deadline(short).await.unwrap();
    assert!(!decision.is_entitled());
    assert_eq!(decision.reason.to_string(), "LIMIT_EXCEEDED");
    assert_eq!(decision.limit.as_ref().unwrap().remaining, Some(9));
    assert_eq!(decision.staleness, Staleness::AtMost(Duration::ZERO));
    assert!(!decision.revision.is_empty());
    server.fake.set_staleness(None);
    let again = tessera.check("acme", "reporting", "exports").at_least(&decision.revision).await.unwrap();
    assert_eq!(again.staleness, Staleness::Unknown);
    assert!(again.require().is_ok());
    let seen = server.seen.lock().unwrap().clone();
    let (request_id, timeout) = &seen[1];
    assert_eq!(request_id.len(), 32);
    let timeout = timeout.as_ref().unwrap();
    let micros: u64 = timeout.trim_end_matches('u').parse().unwrap();
    assert!(timeout.ends_with('u') && (1..=9_000_000).contains(&micros), "{timeout}");
    assert_ne!(seen[1].0, seen[2].0);
}

#[tokio::test]
async fn connecting_to_what_is_no_server_says_why_of_each() {
    let (_listener, mute) = mute();
    let nobody = nobody().await;
    let begun = Instant::now();
    let builder = client(&[mute.clone(), nobody.clone()]).connect_timeout(Duration::from_millis(300));
    let error = builder.connect().await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(300) + SLACK);
    let said = error.to_string();
    assert!(said.contains(&format!("`{mute}`: no answer within 300ms")), "{said}");
    assert!(said.contains(&format!("`{nobody}`: ")) && said.contains("refused"), "{said}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_wrong_endpoint_costs_little_and_no_call() {
    let server = Server::start("good").await;
    let wrong = nobody().await;
    let record = Record::default();
    let tessera = client(&[wrong.clone(), server.endpoint()]).metrics(record.clone()).connect().await.unwrap();
    for _ in 0..300 {
        assert_eq!(plan_that_answers(&tessera).await, "good");
    }
    // It is aside for most of them: probed, not asked.
    assert!(record.attempts_at(&wrong) < 50, "asked {} times", record.attempts_at(&wrong));
    assert!(record.calls().iter().all(|(method, code, _)| (*method, *code) == (Method::Check, Code::Ok)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_with_endpoint_and_request() {
    let wrong = nobody().await;
    let tessera = client(std::slice::from_ref(&wrong)).connect_lazy().unwrap();
    let error = tessera.check("acme", "reporting", "exports").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(&wrong) && said.contains("3 attempts") && said.contains("refused"), "{said}");
    assert!(said.contains(error.request_id().unwrap()), "{said}");
}

#[tokio::test]
async fn a_listener_that_never_answers_does_not_outlast_the_deadline() {
    let (_listener, mute) = mute();
    let tessera = client(&[mute]).connect_lazy().unwrap();
    let deadline = Duration::from_millis(250);
    let begun = Instant::now();
    let error = tessera.check("acme", "reporting", "exports").deadline(deadline).await.unwrap_err();
    assert!(begun.elapsed() >= deadline && begun.elapsed() < deadline + SLACK, "{:?}", begun.elapsed());
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert_eq!(error.code(), Some(Code::DeadlineExceeded));
}

#[tokio::test]
async fn beside_a_listener_that_never_answers_every_call_is_answered() {
    let server = Server::start("good").await;
    let (_listener, mute) = mute();
    let tessera = client(&[mute, server.endpoint()]).connect_lazy().unwrap();
    for _ in 0..20 {
        let check = tessera.check("acme", "reporting", "exports").deadline(Duration::from_secs(2));
        assert!(check.await.unwrap().is_entitled());
    }
}

#[tokio::test]
async fn a_slow_server_is_given_up_in_time_and_another_one_asked() {
    let (slow, fast) = (Server::start("slow").await, Server::start("fast").await);
    slow.fake.set_delay(PATIENCE);
    let alone = client(&[slow.endpoint()]).connect_lazy().unwrap();
    let deadline = Duration::from_millis(250);
    let begun = Instant::now();
    let error = alone.check("acme", "reporting", "exports").deadline(deadline).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert!(begun.elapsed() < deadline + SLACK);
    let both = client(&[slow.endpoint(), fast.endpoint()]).connect_lazy().unwrap();
    for _ in 0..10 {
        let check = both.check("acme", "reporting", "exports").deadline(Duration::from_secs(2));
        assert_eq!(check.await.unwrap().plan.unwrap().id, "fast");
    }
}

#[tokio::test]
async fn a_half_open_connection_is_found_by_deadlines_and_replaced() {
    let server = Server::start("good").await;
    let relay = Relay::before(server.address).await;
    let tessera = client(&[relay.endpoint()]).keepalive(None).connect().await.unwrap();
    assert_eq!(plan_that_answers(&tessera).await, "good");
    relay.silence();
    let deadline = Duration::from_millis(100);
    let begun = Instant::now();
    let error = tessera.check("acme", "reporting", "exports").deadline(deadline).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert!(begun.elapsed() < deadline + SLACK);
    eventually("a new connection", async || tessera.check("acme", "reporting", "exports").deadline(deadline).await.is_ok()).await;
}

#[tokio::test]
async fn keepalive_finds_a_half_open_connection_within_the_call() {
    let server = Server::start("good").await;
    let relay = Relay::before(server.address).await;
    let keepalive = Keepalive { interval: Duration::from_millis(100), timeout: Duration::from_millis(200) };
    let tessera = client(&[relay.endpoint()]).keepalive(keepalive).connect().await.unwrap();
    relay.silence();
    assert_eq!(plan_that_answers(&tessera).await, "good");
}

#[tokio::test]
async fn an_unready_server_is_left_alone_until_it_is_ready() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    one.fake.fail_always(FakeError::NotReady);
    let tessera = client(&[one.endpoint(), two.endpoint()]).connect().await.unwrap();
    for _ in 0..50 {
        assert_eq!(plan_that_answers(&tessera).await, "two");
    }
    one.fake.recover();
    eventually("the first to be asked again", async || plan_that_answers(&tessera).await == "one").await;
    two.fake.fail_always(FakeError::Draining);
    for _ in 0..50 {
        assert_eq!(plan_that_answers(&tessera).await, "one");
    }
}

#[tokio::test]
async fn when_nobody_is_ready_the_error_says_so() {
    let server = Server::start("one").await;
    server.fake.fail_always(FakeError::NotReady);
    let record = Record::default();
    let tessera = client(&[server.endpoint()]).metrics(record.clone()).connect_lazy().unwrap();
    let error = tessera.check("acme", "reporting", "exports").await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(Code::Unavailable), "NOT_READY"));
    assert!(error.is_transient() && error.to_string().contains("(UNAVAILABLE NOT_READY, "), "{error}");
    assert_eq!(record.calls(), [(Method::Check, Code::Unavailable, 3)]);
    let error = client(&[server.endpoint()]).connect().await.unwrap_err();
    assert!(error.to_string().contains("NOT_READY"), "{error}");
}

#[tokio::test]
async fn what_another_attempt_cannot_mend_is_asked_once() {
    let server = Server::start("one").await;
    let record = Record::default();
    let tessera = client(&[server.endpoint()]).metrics(record.clone()).connect_lazy().unwrap();
    let error = tessera.check("", "reporting", "exports").await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    assert_eq!(error.failure().unwrap().violations()[0].field, "tenant_id");
    server.fake.fail_next(FakeError::Bug);
    assert!(matches!(tessera.check("acme", "reporting", "").await.unwrap_err(), Error::Server(_)));
    server.fake.fail_next(FakeError::Unauthenticated);
    assert!(matches!(tessera.check("acme", "reporting", "").await.unwrap_err(), Error::Unauthenticated(_)));
    server.fake.fail_next(FakeError::NotAllowed);
    assert!(matches!(tessera.check("acme", "reporting", "").await.unwrap_err(), Error::NotAllowed(_)));
    assert_eq!(server.fake.calls(), 4);
    assert!(record.calls().iter().all(|(_, _, attempts)| *attempts == 1));
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_when_it_wishes_and_not_before() {
    let server = Server::start("one").await;
    let tessera = client(&[server.endpoint()]).connect_lazy().unwrap();
    server.fake.fail_next(FakeError::Overloaded);
    let begun = Instant::now();
    assert_eq!(plan_that_answers(&tessera).await, "one");
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    // What cannot come in time is told at once.
    server.fake.fail_next(FakeError::Overloaded);
    let deadline = Duration::from_millis(90);
    let error = tessera.check("acme", "reporting", "exports").deadline(deadline).await.unwrap_err();
    assert!(matches!(error, Error::Overloaded(_) | Error::DeadlineExceeded { .. }), "{error}");
    assert_eq!(server.fake.calls(), 3);
}

#[tokio::test]
async fn the_budget_bounds_what_an_outage_is_asked() {
    let server = Server::start("one").await;
    server.fake.fail_always(FakeError::NotReady);
    let record = Record::default();
    let retry = RetryPolicy { budget_per_second: 0, pause_min: Duration::from_millis(1), ..RetryPolicy::default() };
    let tessera = client(&[server.endpoint()]).retry(retry).metrics(record.clone()).connect_lazy().unwrap();
    for _ in 0..300 {
        assert!(tessera.check("acme", "reporting", "exports").await.is_err());
    }
    // 10 to begin with, and a fifth of 300.
    assert_eq!(server.fake.calls(), 300 + 70);
    assert!(record.retries_refused() > 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_under_load_cost_no_call() {
    let (mut servers, mut relays) = (Vec::new(), Vec::new());
    for plan in ["one", "two"] {
        let ageing = tonic::transport::Server::builder().max_connection_age(Duration::from_millis(50));
        let server = Server::with(plan, ageing).await;
        relays.push(Relay::before(server.address).await);
        servers.push(server);
    }
    let endpoints: Vec<String> = relays.iter().map(Relay::endpoint).collect();
    let retry = RetryPolicy { attempts_max: 5, ..RetryPolicy::default() };
    let tessera = client(&endpoints).retry(retry).connect().await.unwrap();
    let begun = Instant::now();
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let tessera = tessera.clone();
        load.spawn(async move {
            let mut calls = 0u32;
            while calls < 40 || begun.elapsed() < Duration::from_millis(300) {
                assert!(tessera.check("acme", "reporting", "exports").await.unwrap().is_entitled());
                calls += 1;
            }
        });
    }
    load.join_all().await;
    // Each ended several times meanwhile.
    assert!(relays.iter().all(|relay| relay.connections() >= 3));
}

#[tokio::test]
async fn a_server_that_vanishes_is_found_gone_and_found_again() {
    let mut server = Server::start("one").await;
    let relay = Relay::before(server.address).await;
    let tessera = client(&[relay.endpoint()]).connect().await.unwrap();
    relay.cut();
    // The next attempt makes a connection of its own.
    assert_eq!(plan_that_answers(&tessera).await, "one");
    server.stop_listening().await;
    relay.cut();
    let error = tessera.check("acme", "reporting", "exports").deadline(Duration::from_secs(2)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn batches_keep_their_order_and_wrong_items_fail_alone() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let checks = ["exports", "dashboards", "exports"].map(|feature| Check::new("acme", "reporting", feature));
    let wrong = Check::new("", "reporting", "exports");
    let answer = tessera.batch(checks.into_iter().chain([wrong])).with_revisions().await.unwrap();
    let entitled: Vec<Option<bool>> =
        answer.results.iter().map(|result| result.as_ref().ok().map(Decision::is_entitled)).collect();
    assert_eq!(entitled, [Some(true), Some(false), Some(true), None]);
    assert!(matches!(answer.results[3], Err(Error::Invalid(_))));
    assert!(!answer.results[0].as_ref().unwrap().revision.is_empty());
    let many = |count: usize| vec![Check::new("acme", "reporting", "exports"); count];
    assert_eq!(tessera.batch(many(10_000)).await.unwrap().results.len(), 10_000);
    let refused = tessera.batch(many(10_001)).await.unwrap_err().to_string();
    assert_eq!(refused, "the batch has `10001` checks; allowed are 10000");
    assert!(matches!(
        tessera.batch(many(1_001)).with_details().await.unwrap_err(),
        Error::TooManyChecks { given: 1_001, allowed: 1_000 }
    ));
    let explained = vec![Check::new("acme", "reporting", "exports").explain(); 101];
    assert!(matches!(tessera.batch(explained).await.unwrap_err(), Error::TooManyChecks { allowed: 100, .. }));
    assert!(tessera.batch([]).await.unwrap().results.is_empty());
}

#[tokio::test]
async fn a_document_comes_once_and_again_when_it_changed() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let document = tessera.list("acme").await.unwrap();
    assert!(document.is_entitled("reporting", "exports") && document.is_entitled("reporting", ""));
    assert!(!document.is_entitled("reporting", "dashboards") && !document.is_entitled("files", ""));
    assert!(tessera.list("acme").if_changed_from(&document.tag).await.unwrap().is_none());
    server.fake.tenant("acme").deny("reporting", "exports");
    let changed = tessera.list("acme").if_changed_from(&document.tag).await.unwrap().unwrap();
    assert!(!changed.is_entitled("reporting", "exports"));
    let error = tessera.list("nobody").await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)) && error.reason() == "TENANT_NOT_FOUND", "{error}");
}
