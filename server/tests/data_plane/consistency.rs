//! `at_least` and `fully_consistent`: never an older answer, and a bounded wait.

use std::time::Duration;

use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::tenant::Event;
use tessera_ports::change_feed::{ChangePublisher as _, Heartbeat};
use tessera_ports::memory::{Operation, StoreChances};
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Item;
use tessera_server::Config;
use tokio::time::Instant;
use tonic::Code;

use crate::bench::{Bench, check, check_at_least, fully_consistent, item_refused, refused, revision, revision_of, without_scan};
use crate::universe::{latest, pinned, start, tenant_stream};

fn unreached() -> (Code, String) {
    (Code::Unavailable, "REVISION_NOT_REACHED".to_owned())
}

/// Without the scan, with tenant `acme` on gold.
async fn bench() -> Bench {
    bench_with(without_scan()).await
}

async fn bench_with(config: Config) -> Bench {
    let mut bench = Bench::with(config).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    bench
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_there_is_answered_at_once() {
    let bench = bench().await;
    let begun = Instant::now();
    let first = bench.ask(check_at_least("acme", revision(&bench.universe.change(&tenant_stream("acme"))))).await.unwrap();
    assert_eq!(first.reason(), v1::Reason::GrantedByPlan);
    assert!(bench.ask(check_at_least("acme", first.revision.to_vec())).await.is_ok());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_the_feed_lost_is_read_from_the_store_at_half_the_wait() {
    let mut bench = bench().await;
    let published = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
    bench.lose(&published);
    let begun = Instant::now();
    let answer = bench.ask(check_at_least("acme", revision(&published))).await.unwrap();
    assert_eq!(answer.reason(), v1::Reason::FeatureNotInPlan);
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    for stream in [StreamId::Catalog, tenant_stream("acme")] {
        let change = match &stream {
            StreamId::Catalog => bench.universe.service("billing", &["pay"]),
            _ => bench.universe.tenant_event("acme", Event::Deleted),
        };
        bench.lose(&change);
        assert!(bench.ask(check_at_least("acme", revision(&change))).await.is_ok(), "{stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_seq_does_not_count() {
    let mut bench = bench().await;
    let second = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
    let moved = bench.universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2)));
    bench.commit(&moved).await;
    bench.store.faults().fail_next(Operation::Read, 1_000);
    assert_eq!(refused(bench.ask(check_at_least("acme", revision(&moved))).await), unreached());
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::GrantedByPlan, "the last good row answers");
    bench.commit(&second).await;
    let answer = bench.ask(check_at_least("acme", revision(&moved))).await.unwrap();
    assert_eq!((answer.plan_version, answer.reason()), (2, v1::Reason::FeatureNotInPlan));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_plan_is_missing_is_behind_and_not_unknown() {
    let mut bench = bench().await;
    bench.store.faults().fail_next(Operation::Read, 1_000);
    let silver = bench.universe.publish("silver", &[("reports", &["view"])], &[]);
    let created = bench.universe.create("new", latest("silver"));
    bench.commit(&created).await;
    let behind = (Code::Unavailable, "CATALOG_BEHIND".to_owned());
    let mut result = bench.ask(check("new", "reports", "view")).await;
    while result.as_ref().is_ok_and(|answer| answer.reason() == v1::Reason::TenantUnknown) {
        tokio::task::yield_now().await;
        result = bench.ask(check("new", "reports", "view")).await;
    }
    assert_eq!(refused(result), behind);
    bench.commit(&silver).await;
    bench.settled().await;
    assert_eq!(bench.reason("new", "view").await, v1::Reason::GrantedByPlan);
}

#[tokio::test(start_paused = true)]
async fn frames_that_wait_keep_their_order() {
    let mut bench = bench().await;
    let frame = |id, check| v1::StreamCheckEntitlementRequest { id, checks: vec![check], ..Default::default() };
    let frames = vec![
        frame(1, check_at_least("acme", revision_of(&[(&tenant_stream("acme"), 99)]))),
        frame(2, check("acme", "reports", "view")),
    ];
    let mut answers = bench.client.stream_check_entitlement(tokio_stream::iter(frames)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    let Some(Item::Error(status)) = &first.results[0].result else { panic!("expected an error") };
    assert_eq!((first.id, item_refused(status).1.as_str()), (1, "REVISION_NOT_REACHED"));
    assert_eq!(answers.message().await.unwrap().unwrap().id, 2);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn no_age_is_told_of_an_item_whose_matrix_is_not_served_any_more() {
    let mut bench = bench_with(Config { at_least_wait_ms: 10_000, ..without_scan() }).await;
    let before = bench.universe.change(&tenant_stream("acme"));
    let backup = bench.store.back_up(&StreamKind::ALL);
    bench.store.restore(&backup, "second");
    bench.universe.epoch = 2;
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.lose(&deleted);
    // It takes so long to hydrate the restored store that heartbeats come meanwhile.
    bench.store.faults().seed(1, StoreChances { delay_max: Duration::from_millis(50), ..StoreChances::default() });
    let heartbeat = Heartbeat { epoch: 2, store: "second".to_owned(), at: start(), partitions: 2 };
    let beating = async {
        loop {
            bench.feed.beat(&[0, 1], &heartbeat).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What the first item demands is there at once, and what the second demands in the next life of the store.
    let checks = vec![check_at_least("acme", revision(&before)), check_at_least("acme", revision(&deleted))];
    let batch = v1::BatchCheckEntitlementRequest { checks, ..v1::BatchCheckEntitlementRequest::default() };
    let mut client = bench.client.clone();
    let answer = tokio::select! {
        answer = client.batch_check_entitlement(batch) => answer.unwrap().into_inner(),
        () = beating => unreachable!("heartbeats have no end"),
    };
    let told = answer.results.into_iter().map(|result| match result.result {
        Some(Item::Response(answer)) => (answer.reason(), answer.staleness_ms),
        other => panic!("expected an answer, found {other:?}"),
    });
    let expected = [(v1::Reason::GrantedByPlan, None), (v1::Reason::TenantDeleted, Some(0))];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

fn check_fully(tenant: &str) -> v1::CheckEntitlementRequest {
    v1::CheckEntitlementRequest { consistency: Some(fully_consistent()), ..check(tenant, "reports", "view") }
}

#[tokio::test(start_paused = true)]
async fn fully_consistent_is_never_older_than_the_store() {
    let mut bench = bench().await;
    assert_eq!(bench.ask(check_fully("acme")).await.unwrap().reason(), v1::Reason::GrantedByPlan);
    // Nothing of this is in the feed: the tenant moves to a plan that nobody has heard of, whose version is new, too.
    let silver = bench.universe.publish("silver", &[("reports", &["export"])], &[]);
    bench.lose(&silver);
    let moved = bench.universe.tenant_event("acme", Event::PlanChanged(latest("silver")));
    bench.lose(&moved);
    let begun = Instant::now();
    let answer = bench.ask(check_fully("acme")).await.unwrap();
    assert_eq!((answer.plan_id.as_str(), answer.reason()), ("silver", v1::Reason::FeatureNotInPlan));
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    let published = bench.universe.publish("silver", &[("reports", &["view"])], &[]);
    bench.lose(&published);
    assert_eq!(bench.ask(check_fully("acme")).await.unwrap().reason(), v1::Reason::GrantedByPlan);
    assert_eq!(bench.ask(check_fully("nobody")).await.unwrap().reason(), v1::Reason::TenantUnknown);
}

/// The tenant moves to another plan while the streams that it named before are waited for: what the feed brings of that plan may
/// be older than what the store has.
#[tokio::test(start_paused = true)]
async fn fully_consistent_asks_again_when_another_stream_is_named_meanwhile() {
    let mut bench = bench().await;
    let silver = bench.universe.publish("silver", &[("reports", &["view"])], &[]);
    bench.commit(&silver).await;
    bench.settled().await;
    let mut stale = bench.universe.clone();
    let second = bench.universe.publish("silver", &[("reports", &["view", "export"])], &[]);
    bench.lose(&second);
    // The first round waits for the catalog, until it is read from the store after 100 ms.
    let registered = bench.universe.service("billing", &["pay"]);
    bench.lose(&registered);
    let moving = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.commit(&stale.tenant_event("acme", Event::PlanChanged(latest("silver")))).await;
    };
    let (answer, ()) = tokio::join!(bench.ask(check_fully("acme")), moving);
    let answer = answer.unwrap();
    assert_eq!((answer.plan_id.as_str(), answer.plan_version), ("silver", 2));
}

#[tokio::test(start_paused = true)]
async fn fully_consistent_without_a_store_is_refused_and_others_go_on() {
    let bench = bench().await;
    bench.store.faults().fail_next(Operation::Read, 1_000);
    let unavailable = (Code::Unavailable, "STORE_UNAVAILABLE".to_owned());
    assert_eq!(refused(bench.ask(check_fully("acme")).await), unavailable);
    assert_eq!(bench.reason("acme", "view").await, v1::Reason::GrantedByPlan);
}
