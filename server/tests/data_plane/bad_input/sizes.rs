//! How much may be asked at once: checks of a batch, checks of a frame, bytes of a request; and nothing at all.

use bytes::Bytes;
use prost::Message as _;
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Item;
use tessera_server::Config;
use tokio_stream::StreamExt as _;
use tonic::Request;

use super::rpc::{Refusal, Rpc, bench, bench_with};
use crate::bench::{check, check_at_least, without_scan};

/// The most bytes of a request.
const REQUEST_MAX: usize = 2 << 20;
/// The most bytes of an answer.
const ANSWER_MAX: usize = 4 << 20;

fn too_large(description: &str) -> Refusal {
    Refusal::invalid("TOO_LARGE", "checks", description)
}

fn checks(count: usize, explain_last: bool) -> Vec<v1::CheckEntitlementRequest> {
    let mut checks = vec![check("acme", "reports", "view"); count];
    if let Some(last) = checks.last_mut() {
        last.explain = explain_last;
    }
    checks
}

#[tokio::test(start_paused = true)]
async fn batches() {
    let mut bench = bench().await;
    for (count, with_revisions, with_details, explain, refused) in [
        (0, false, false, false, None),
        (10_000, false, false, false, None),
        (10_001, false, false, false, Some("`10001` checks; allowed are at most 10000")),
        (1_000, true, false, false, None),
        (1_001, true, false, false, Some("`1001` checks; allowed are at most 1000 with revisions or details")),
        (1_000, true, true, false, None),
        (1_001, false, true, false, Some("`1001` checks; allowed are at most 1000 with revisions or details")),
        (100, true, true, true, None),
        (101, false, false, true, Some("`101` checks; allowed are at most 100 when one asks to be explained")),
    ] {
        let checks = checks(count, explain);
        let request = v1::BatchCheckEntitlementRequest { checks, with_revisions, with_details, ..Default::default() };
        let answer = bench.client.batch_check_entitlement(request).await;
        match refused {
            None => {
                let answer = answer.unwrap().into_inner();
                assert!(answer.results.len() == count && answer.evaluated_at.is_some(), "{count}");
                assert!(answer.encoded_len() <= ANSWER_MAX);
            }
            Some(description) => assert_eq!(Refusal::of(&answer.unwrap_err()), too_large(description)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_and_the_stream_goes_on() {
    let mut bench = bench().await;
    let table = [
        (0, false, None),
        (1_000, false, None),
        (1_001, false, Some("`1001` checks; allowed are at most 1000 in a frame")),
        (100, true, None),
        (101, true, Some("`101` checks; allowed are at most 100 when one asks to be explained")),
        (1, false, None),
    ];
    let frames = (1..).zip(table).map(|(id, (count, explain, _))| v1::StreamCheckEntitlementRequest {
        id,
        checks: checks(count, explain),
        with_revisions: true,
        with_details: true,
    });
    let answers = bench.client.stream_check_entitlement(tokio_stream::iter(frames)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), table.len());
    for ((id, (count, _, refused)), answer) in (1..).zip(table).zip(answers) {
        assert_eq!(answer.id, id);
        match refused {
            None => assert!(answer.frame_error.is_none() && answer.results.len() == count, "{count}"),
            Some(description) => {
                assert!(answer.results.is_empty());
                assert_eq!(Refusal::of_item(&answer.frame_error.unwrap()), too_large(description));
            }
        }
    }
}

/// Two bytes are a check that says nothing: as many as a request has bytes for.
#[tokio::test(start_paused = true)]
async fn what_is_refused_for_its_size_is_paid_for() {
    const EMPTY: usize = REQUEST_MAX / 2;
    for (rpc, key, allowed) in [(Rpc::Batch, 0x0a, "10000"), (Rpc::Stream, 0x12, "1000 in a frame")] {
        let bench = bench_with(Config { caller_checks_per_second: 1, caller_checks_burst: 5, ..without_scan() }).await;
        let refusal = async || match rpc.send(&bench, [key, 0].repeat(EMPTY).into()).await {
            Err(status) => Refusal::of(&status),
            Ok(answer) => {
                let answer = v1::StreamCheckEntitlementResponse::decode(answer.unwrap()).unwrap();
                Refusal::of_item(&answer.frame_error.unwrap())
            }
        };
        assert_eq!(refusal().await, too_large(&format!("`{EMPTY}` checks; allowed are at most {allowed}")), "{rpc:?}");
        assert_eq!(refusal().await.reason, "RATE_LIMITED", "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_more_than_two_mebibytes() {
    let bench = bench().await;
    for rpc in Rpc::ALL {
        let message = vec![0; REQUEST_MAX + 1];
        let description = "`2097153` bytes; allowed are at most 2097152 bytes";
        let refusal = Refusal::of(&rpc.send(&bench, message.into()).await.unwrap_err());
        assert_eq!(refusal, Refusal::invalid("TOO_LARGE", "request", description), "{rpc:?}");
        // As long as is allowed: read, and found to be no message.
        let refusal = Refusal::of(&rpc.send(&bench, vec![0; REQUEST_MAX].into()).await.unwrap_err());
        assert_eq!(refusal.reason, "INVALID_FIELD", "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_long_ends_its_stream_after_what_came_before() {
    let mut bench = bench().await;
    let long = v1::CheckEntitlementRequest { tenant_id: "x".repeat(REQUEST_MAX), ..Default::default() };
    let frames = [checks(1, false), vec![long]].map(|checks| v1::StreamCheckEntitlementRequest { checks, ..Default::default() });
    let mut answers = bench.client.stream_check_entitlement(tokio_stream::iter(frames)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);
    assert_eq!(Refusal::of(&answers.message().await.unwrap_err()).reason, "TOO_LARGE");
}

/// The most items of each kind that make long answers: errors of fields, of revisions, of unknown streams, and long answers.
#[tokio::test(start_paused = true)]
async fn answers_stay_within_four_mebibytes_and_every_item_has_its_reason() {
    let bench = bench().await;
    let wild = "\u{10ffff}".repeat(11);
    let limit = |name: &str| Some(v1::LimitCheck { name: name.to_owned(), amount: -1, used: Some(-1) });
    let fields = v1::CheckEntitlementRequest { limit_check: limit(&wild), ..check(&wild, &wild, &wild) };
    let future = super::revisions::future_of_acme();
    for (asked, reason) in [
        (fields, "INVALID_FIELD"),
        (check(&wild, "reports", "view"), "INVALID_FIELD"),
        (check_at_least("acme", vec![9; 60]), "INVALID_REVISION"),
        (check_at_least("acme", future), "REVISION_NOT_REACHED"),
    ] {
        let count = (REQUEST_MAX / (asked.encoded_len() + 4)).min(10_000);
        let mut checks = vec![asked; count];
        checks.push(check("acme", "reports", "view"));
        checks.truncate(10_000);
        let request = v1::BatchCheckEntitlementRequest { checks, ..Default::default() };
        let answer = Rpc::Batch.send(&bench, request.encode_to_vec().into()).await.unwrap().unwrap();
        assert!(answer.len() <= ANSWER_MAX, "{} bytes of {reason}", answer.len());
        let answer = v1::BatchCheckEntitlementResponse::decode(answer).unwrap();
        for item in &answer.results[..count] {
            let Some(Item::Error(status)) = &item.result else { panic!("expected an error, found {item:?}") };
            assert_eq!(Refusal::of_item(status).reason, reason);
        }
        if let Some(last) = answer.results.get(count) {
            assert!(matches!(last.result, Some(Item::Response(_))), "good items are answered still: {last:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_of_every_call() {
    let bench = bench().await;
    let say =
        async |rpc: Rpc| rpc.call(&bench, Request::new(Bytes::new())).await.map(|answer| answer.into_inner().unwrap().unwrap());
    let fields = |refusal: Refusal| refusal.violations.into_iter().map(|(field, _)| field).collect::<Vec<_>>();
    let check = Refusal::of(&say(Rpc::Check).await.unwrap_err());
    assert_eq!(fields(check), ["tenant_id", "service"]);
    assert_eq!(fields(Refusal::of(&say(Rpc::List).await.unwrap_err())), ["tenant_id"]);
    let batch = v1::BatchCheckEntitlementResponse::decode(say(Rpc::Batch).await.unwrap()).unwrap();
    assert!(batch.results.is_empty() && batch.evaluated_at.is_some());
    let frame = v1::StreamCheckEntitlementResponse::decode(say(Rpc::Stream).await.unwrap()).unwrap();
    assert_eq!(frame, v1::StreamCheckEntitlementResponse::default());
    let watch = Rpc::Watch.read(Ok(say(Rpc::Watch).await.unwrap())).refusal();
    assert_eq!(watch, Refusal::invalid("INVALID_FIELD", "action", "it is not set; allowed are subscribe and unsubscribe"));
}
