//! One check, batches, streams: answers and their order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tessera_core::stream::StreamId;
use tessera_core::tenant::Event;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Item;
use tessera_server::{Config, Dependencies};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::bench::{Bench, check, item_refused};
use crate::universe::{latest, plan_stream, start, tenant_stream};

/// With tenants `acme` on gold and `gone`, which was deleted.
async fn bench() -> Bench {
    let mut bench = Bench::usual().await;
    for change in [
        bench.universe.create("acme", latest("gold")),
        bench.universe.create("gone", latest("gold")),
        bench.universe.tenant_event("gone", Event::Deleted),
    ] {
        bench.commit(&change).await;
    }
    bench.settled().await;
    bench
}

fn response(item: &v1::CheckResult) -> &v1::CheckEntitlementResponse {
    match &item.result {
        Some(Item::Response(response)) => response,
        other => panic!("expected an answer, found {other:?}"),
    }
}

fn error(item: &v1::CheckResult) -> (Code, String, Vec<String>) {
    match &item.result {
        Some(Item::Error(status)) => item_refused(status),
        other => panic!("expected an error, found {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_everything() {
    let bench = bench().await;
    let asked = v1::CheckEntitlementRequest {
        limit_check: Some(v1::LimitCheck { name: "seats".to_owned(), amount: 3, used: Some(4) }),
        explain: true,
        ..check("acme", "reports", "view")
    };
    let answer = bench.ask(asked).await.unwrap();
    assert!(answer.entitled);
    assert_eq!(answer.reason(), v1::Reason::GrantedByPlan);
    assert_eq!((answer.plan_id.as_str(), answer.plan_version, answer.familiarity_basis_points), ("gold", 1, 5_000));
    let limit = answer.limit.unwrap();
    assert_eq!((limit.name.as_str(), limit.used, limit.remaining), ("seats", 4, Some(6)));
    assert_eq!(limit.value, Some(v1::limit_state::Value::Maximum(10)));
    assert_eq!(answer.evaluated_at.unwrap().seconds, start().seconds());
    assert_eq!((answer.valid_until, answer.grace_until, answer.staleness_ms), (None, None, None));
    assert_eq!(answer.explanation.len(), 11);

    let revision = tessera_core::revision::Revision::parse(&answer.revision).unwrap();
    let named: Vec<_> = revision.streams.iter().map(|named| (named.hash, named.seq)).collect();
    let expected = [(StreamId::Catalog, 2), (tenant_stream("acme"), 1), (plan_stream("gold"), 2)];
    assert_eq!(named, expected.map(|(stream, seq)| (stream.hash(), seq)));
}

#[tokio::test(start_paused = true)]
async fn denials_are_answers() {
    let bench = bench().await;
    assert_eq!(bench.reason("acme", "export").await, v1::Reason::FeatureNotInPlan);
    assert_eq!(bench.reason("gone", "view").await, v1::Reason::TenantDeleted);
}

#[tokio::test(start_paused = true)]
async fn a_batch_keeps_its_order_and_a_bad_item_fails_alone() {
    let mut bench = bench().await;
    let checks = vec![check("acme", "reports", "view"), check("", "reports", "view"), check("acme", "reports", "export")];
    let request = v1::BatchCheckEntitlementRequest { checks, ..Default::default() };
    let answer = bench.client.batch_check_entitlement(request).await.unwrap().into_inner();
    assert_eq!(answer.evaluated_at.unwrap().seconds, start().seconds());
    assert_eq!(response(&answer.results[0]).reason(), v1::Reason::GrantedByPlan);
    let (code, reason, fields) = error(&answer.results[1]);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(fields, ["checks[1].tenant_id"]);
    assert_eq!(response(&answer.results[2]).reason(), v1::Reason::FeatureNotInPlan);
    assert!(response(&answer.results[0]).revision.is_empty(), "left out unless asked for");

    let empty = bench.client.batch_check_entitlement(v1::BatchCheckEntitlementRequest::default()).await.unwrap();
    assert!(empty.into_inner().results.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_answers_every_frame_in_order_and_outlives_bad_ones() {
    let mut bench = bench().await;
    let frame = |id, checks| v1::StreamCheckEntitlementRequest { id, checks, ..Default::default() };
    let frames = vec![
        frame(7, vec![check("acme", "reports", "view"), check("acme", "reports", "export")]),
        frame(8, vec![]),
        frame(9, vec![check("acme", "reports", "view"); 1_001]),
        frame(10, vec![check("", "reports", "view")]),
        v1::StreamCheckEntitlementRequest { with_revisions: true, ..frame(11, vec![check("nobody", "reports", "view")]) },
    ];
    let answers = bench.client.stream_check_entitlement(tokio_stream::iter(frames)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.iter().map(|answer| answer.id).collect::<Vec<_>>(), [7, 8, 9, 10, 11]);
    assert_eq!(response(&answers[0].results[0]).reason(), v1::Reason::GrantedByPlan);
    assert_eq!(response(&answers[0].results[1]).reason(), v1::Reason::FeatureNotInPlan);
    assert!(answers[1].results.is_empty() && answers[1].frame_error.is_none());
    let (code, reason, fields) = item_refused(answers[2].frame_error.as_ref().unwrap());
    assert_eq!((code, reason.as_str(), fields), (Code::InvalidArgument, "TOO_LARGE", vec!["checks".to_owned()]));
    assert_eq!(error(&answers[3].results[0]).2, ["checks[0].tenant_id"]);
    assert!(!response(&answers[4].results[0]).revision.is_empty());
}

/// A clock that is later each time it is asked.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        start().saturating_add(Duration::from_nanos(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// The time that all these were decided for, in nanoseconds of its second.
fn one_time(items: &[v1::CheckResult]) -> i32 {
    let times: BTreeSet<_> = items.iter().map(|item| response(item).evaluated_at.unwrap().nanos).collect();
    assert_eq!((items.len(), times.len()), (100, 1), "{times:?}");
    times.into_iter().next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn all_checks_of_a_message_are_decided_for_one_time() {
    let ticking = |own| Dependencies { clock: Arc::new(Ticking::default()), ..own };
    let mut bench = Bench::started(Config::default(), 1, ticking);
    bench.handle.loaded().await;
    let checks = vec![check("t0", "reports", "view"); 100];
    let request = v1::BatchCheckEntitlementRequest { checks: checks.clone(), ..Default::default() };
    let batch = bench.client.batch_check_entitlement(request).await.unwrap().into_inner();
    assert_eq!(one_time(&batch.results), batch.evaluated_at.unwrap().nanos);

    let frames = [1, 2].map(|id| v1::StreamCheckEntitlementRequest { id, checks: checks.clone(), ..Default::default() });
    let answers = bench.client.stream_check_entitlement(tokio_stream::iter(frames)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    let times: Vec<_> = answers.iter().map(|answer| one_time(&answer.results)).collect();
    assert!(times[0] < times[1], "each frame has a time of its own: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn details_come_when_asked_for() {
    let mut bench = bench().await;
    let reason = tessera_core::value::Reason::parse("a reason", "unpaid").unwrap();
    bench.commit(&bench.universe.clone().tenant_event("acme", Event::Suspended { reason, effective_at: start() })).await;
    bench.settled().await;
    for with_details in [false, true] {
        let checks = vec![check("acme", "reports", "view")];
        let request = v1::BatchCheckEntitlementRequest { checks, with_details, ..Default::default() };
        let answer = bench.client.batch_check_entitlement(request).await.unwrap().into_inner();
        let detail = response(&answer.results[0]).reason_detail.clone();
        let expected = with_details.then(|| {
            let suspension = v1::SuspensionDetail { reasons: vec!["unpaid".to_owned()] };
            v1::ReasonDetail { detail: Some(v1::reason_detail::Detail::Suspension(suspension)) }
        });
        assert_eq!(detail, expected);
    }
}

/// The first age that is told, in ms, once the heartbeats that were sent have come; `None` if they do not.
async fn first_staleness(bench: &Bench) -> Option<i64> {
    for _ in 0..100 {
        let seen = bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms;
        tokio::task::yield_now().await;
        if seen.is_some() {
            return seen;
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn staleness_is_the_age_of_the_newest_heartbeat() {
    let bench = bench().await;
    assert_eq!(bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms, None);
    bench.beat().await;
    bench.clock.advance(Duration::from_millis(1_500));
    assert_eq!(first_staleness(&bench).await, Some(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_a_loader_whose_clock_is_ahead_counts_as_of_now() {
    let bench = bench().await;
    bench.beat_at(start().saturating_add(Duration::from_hours(1)), 2).await;
    assert_eq!(first_staleness(&bench).await, Some(0));
    bench.clock.advance(Duration::from_millis(1_500));
    assert_eq!(bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms, Some(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_decision_in_process_is_that_of_a_call_and_there_is_none_before_the_data_is() {
    let bench = bench().await;
    for (tenant, service, feature) in
        [("acme", "reports", "view"), ("acme", "reports", "nothing"), ("gone", "reports", "view"), ("nobody", "reports", "view")]
    {
        let called = bench.ask(check(tenant, service, feature)).await.unwrap().reason();
        let query = tessera_core::decision::Query { service, feature, limit: None };
        let decided = bench.handle.decide(tenant, query).unwrap();
        assert_eq!(tessera_proto::convert::decision::to_reason(decided), called, "{tenant} {service} {feature}");
    }
    let early = Bench::not_loaded(Config::default());
    let query = tessera_core::decision::Query { service: "reports", feature: "view", limit: None };
    assert_eq!(early.handle.decide("acme", query).unwrap_err().reason(), "NOT_READY");
}
