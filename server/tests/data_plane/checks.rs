//! One check, batches, streams: answers, order, limits and bad input.

use std::time::Duration;

use prost::Message as _;
use tessera_core::stream::StreamId;
use tessera_core::tenant::Event;
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Item;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::bench::{Bench, check, item_refused, refused};
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
    assert_eq!(bench.reason("nobody", "view").await, v1::Reason::TenantUnknown);
    assert_eq!(bench.reason("acme", "nothing").await, v1::Reason::FeatureUnknown);
    assert_eq!(bench.reason("acme", "export").await, v1::Reason::FeatureNotInPlan);
    assert_eq!(bench.reason("gone", "view").await, v1::Reason::TenantDeleted);
    let over = v1::CheckEntitlementRequest {
        limit_check: Some(v1::LimitCheck { name: "seats".to_owned(), amount: i64::MAX, used: Some(i64::MAX) }),
        ..check("acme", "reports", "view")
    };
    let answer = bench.ask(over).await.unwrap();
    assert_eq!((answer.reason(), answer.entitled), (v1::Reason::LimitExceeded, false));
}

#[tokio::test(start_paused = true)]
async fn bad_questions_name_their_fields() {
    let bench = bench().await;
    let limit = |name: &str, amount, used| v1::CheckEntitlementRequest {
        limit_check: Some(v1::LimitCheck { name: name.to_owned(), amount, used: Some(used) }),
        ..check("acme", "reports", "view")
    };
    for (asked, field) in [
        (check("", "reports", "view"), "tenant_id"),
        (check("a b", "reports", "view"), "tenant_id"),
        (check(&"x".repeat(129), "reports", "view"), "tenant_id"),
        (check("аcme", "reports", "view"), "tenant_id"),
        (check("acme", "", "view"), "service"),
        (check("acme", "Reports", "view"), "service"),
        (check("acme", "reports", "view\n"), "feature"),
        (check("acme", "reports", &"x".repeat(64)), "feature"),
        (limit("", 1, 0), "limit_check.name"),
        (limit("seats", -1, 0), "limit_check.amount"),
        (limit("seats", 1, i64::MIN), "limit_check.used"),
    ] {
        let status = bench.ask(asked).await.unwrap_err();
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((status.code(), fields[0].field.as_str()), (Code::InvalidArgument, field), "{status:?}");
        assert!(fields[0].description.contains("allowed") || fields[0].description.contains("0 to"), "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn expired_deadlines_are_refused_before_any_work() {
    let mut bench = bench().await;
    let mut request = Request::new(check("acme", "reports", "view"));
    request.metadata_mut().insert("grpc-timeout", "0n".parse().unwrap());
    let result = bench.client.check_entitlement(request).await;
    assert_eq!(refused(result), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    let mut request = Request::new(check("acme", "reports", "view"));
    request.set_timeout(Duration::from_secs(1));
    assert!(bench.client.check_entitlement(request).await.is_ok());
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
async fn batches_have_limits() {
    let mut bench = bench().await;
    let request = |count: usize, with_revisions, explain| {
        let mut checks = vec![check("acme", "reports", "view"); count];
        checks[0].explain = explain;
        v1::BatchCheckEntitlementRequest { checks, with_revisions, ..Default::default() }
    };
    for (count, with_revisions, explain, allowed) in [
        (10_000, false, false, true),
        (10_001, false, false, false),
        (1_000, true, false, true),
        (1_001, true, false, false),
        (100, false, true, true),
        (101, false, true, false),
    ] {
        let result = bench.client.batch_check_entitlement(request(count, with_revisions, explain)).await;
        if allowed {
            assert_eq!(result.unwrap().into_inner().results.len(), count);
        } else {
            let status = result.unwrap_err();
            assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "checks");
            assert_eq!(refused(Err::<(), _>(status)), (Code::InvalidArgument, "TOO_LARGE".to_owned()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_errors_alone_stays_within_its_limit() {
    let mut bench = bench().await;
    let bad = check(&"\u{10ffff}".repeat(30), "\u{10ffff}\u{10ffff}\u{10ffff}", "\u{10ffff}\u{10ffff}");
    let request = v1::BatchCheckEntitlementRequest { checks: vec![bad; 10_000], ..Default::default() };
    assert!(request.encoded_len() < 2 << 20);
    let answer = bench.client.batch_check_entitlement(request).await.unwrap().into_inner();
    assert!(answer.encoded_len() < 4 << 20, "{} bytes", answer.encoded_len());
    let Some(Item::Error(last)) = &answer.results[9_999].result else { panic!("expected an error") };
    assert_eq!((last.code, last.message.as_str()), (3, "INVALID_FIELD: too many errors to tell more"));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_too_long_or_no_messages_are_refused_in_our_words() {
    let mut bench = bench().await;
    let long = v1::CheckEntitlementRequest { tenant_id: "x".repeat(3 << 20), ..check("acme", "reports", "view") };
    assert_eq!(refused(bench.ask(long.clone()).await), (Code::InvalidArgument, "TOO_LARGE".to_owned()));
    let frame = v1::StreamCheckEntitlementRequest { checks: vec![long], ..Default::default() };
    let mut answers = bench.client.stream_check_entitlement(tokio_stream::iter([frame])).await.unwrap().into_inner();
    assert_eq!(refused(answers.message().await), (Code::InvalidArgument, "TOO_LARGE".to_owned()));
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

#[tokio::test(start_paused = true)]
async fn staleness_is_the_age_of_the_newest_heartbeat() {
    let bench = bench().await;
    assert_eq!(bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms, None);
    bench.beat().await;
    bench.clock.advance(Duration::from_millis(1_500));
    let mut seen = None;
    for _ in 0..100 {
        seen = bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms;
        tokio::task::yield_now().await;
        if seen.is_some() {
            break;
        }
    }
    assert_eq!(seen, Some(1_500));
}
