//! How much one caller may have under way, and all together: `RATE_LIMITED` is about the caller, `OVERLOADED` about everybody.

use std::time::Duration;

use prost::Message as _;
use tessera_ports::memory::StoreChances;
use tessera_proto::v1;
use tessera_server::Config;
use tokio::time::Instant;
use tonic::{Code, Request};

use super::rpc::{Refusal, Rpc, bench_with};
use crate::bench::{Bench, check, fully_consistent, without_scan};

fn refusal(reason: &str, message: &str) -> Refusal {
    Refusal {
        code: Code::ResourceExhausted,
        reason: reason.to_owned(),
        message: message.to_owned(),
        violations: vec![],
        retry: true,
    }
}

/// What a fully consistent check is told while another one is under way that the store does not answer.
async fn while_another_is_under_way(config: Config) -> Refusal {
    let bench = bench_with(config).await;
    bench.store.faults().seed(1, StoreChances { delay_max: Duration::from_hours(1), ..StoreChances::default() });
    let question = || {
        let consistency = Some(fully_consistent());
        Request::new(v1::CheckEntitlementRequest { consistency, ..check("acme", "reports", "view") })
    };
    let mut second = question();
    second.set_timeout(Duration::from_millis(100));
    let (mut one, mut other) = (bench.client.clone(), bench.client.clone());
    let begun = Instant::now();
    let second = async {
        let status = other.check_entitlement(second).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_millis(100), "told while the caller still waits");
        Refusal::of(&status)
    };
    let (first, second) = tokio::join!(one.check_entitlement(question()), second);
    assert_eq!(Refusal::of(&first.unwrap_err()).reason, "STORE_UNAVAILABLE");
    second
}

#[tokio::test(start_paused = true)]
async fn strong_reads_of_one_caller() {
    let refusal_of_caller = while_another_is_under_way(Config { fully_consistent_per_caller_max: 1, ..without_scan() }).await;
    let words = "`1` fully consistent reads of this caller are under way, the most allowed";
    assert_eq!(refusal_of_caller, refusal("RATE_LIMITED", words));
}

#[tokio::test(start_paused = true)]
async fn strong_reads_of_everybody() {
    let refusal_of_all = while_another_is_under_way(Config { fully_consistent_at_once_max: 1, ..without_scan() }).await;
    let words = "`1` fully consistent reads are under way, the most allowed";
    assert_eq!(refusal_of_all, refusal("OVERLOADED", words));
}

#[tokio::test(start_paused = true)]
async fn watches_of_everybody() {
    let bench = bench_with(Config { watch_streams_max: 1, ..without_scan() }).await;
    let _open = bench.client.clone().watch_entitlements(tokio_stream::pending()).await.unwrap();
    let message = Rpc::Watch.encode(check("acme", "", ""));
    let status = Rpc::Watch.send(&bench, message.into()).await.unwrap_err();
    assert_eq!(Refusal::of(&status), refusal("OVERLOADED", "`1` watches are open; allowed are 1"));
}

#[tokio::test(start_paused = true)]
async fn watches_of_one_caller() {
    let bench = bench_with(Config { watch_streams_per_caller_max: 1, ..without_scan() }).await;
    let _open = bench.client.clone().watch_entitlements(tokio_stream::pending()).await.unwrap();
    let message = Rpc::Watch.encode(check("acme", "", ""));
    let status = Rpc::Watch.send(&bench, message.into()).await.unwrap_err();
    assert_eq!(Refusal::of(&status), refusal("RATE_LIMITED", "`1` watches of this caller are open; allowed are 1"));
}

/// What a watch says to these requests, until it says `last`.
async fn watch(bench: &Bench, requests: Vec<v1::WatchEntitlementsRequest>, count: usize) -> Vec<(String, Refusal)> {
    use tokio_stream::StreamExt as _;
    let requests = tokio_stream::iter(requests).chain(tokio_stream::pending());
    let mut answers = bench.client.clone().watch_entitlements(requests).await.unwrap().into_inner();
    let mut said = Vec::new();
    while said.len() < count {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(answer.encoded_len() < 10_000);
        if let Some(v1::watch_entitlements_response::Event::Error(error)) = answer.event {
            said.push((error.tenant_id, Refusal::of_item(&error.status.unwrap())));
        }
    }
    said
}

fn subscribe(tenant: &str, last_revision: Vec<u8>) -> v1::WatchEntitlementsRequest {
    let subscribe = v1::Subscribe { tenant_id: tenant.to_owned(), last_revision: last_revision.into() };
    v1::WatchEntitlementsRequest { action: Some(v1::watch_entitlements_request::Action::Subscribe(subscribe)) }
}

#[tokio::test(start_paused = true)]
async fn subscriptions_of_one_watch() {
    let bench = bench_with(Config { watch_subscriptions_max: 1, ..without_scan() }).await;
    let requests = vec![subscribe("acme", vec![]), subscribe("other", vec![]), subscribe("acme", vec![])];
    let expected = refusal("RATE_LIMITED", "this watch has `1` subscriptions, the most allowed; open another");
    assert_eq!(watch(&bench, requests, 1).await, [("other".to_owned(), expected)]);
}

#[tokio::test(start_paused = true)]
async fn waits_of_one_watch() {
    let bench = bench_with(Config { watch_subscriptions_max: 2, ..without_scan() }).await;
    // Again and again the same tenant: one subscription, and each time a wait.
    let requests = vec![subscribe("acme", super::revisions::future_of_acme()); 3];
    let expected = refusal("RATE_LIMITED", "`2` subscriptions of this watch wait for their revision, the most allowed");
    let said = watch(&bench, requests, 2).await;
    assert_eq!(said[0], ("acme".to_owned(), expected));
    // The newest that was taken is told its own end; the one before it was replaced and is not spoken of.
    assert_eq!((said[1].0.as_str(), said[1].1.reason.as_str()), ("acme", "REVISION_NOT_REACHED"));
}
