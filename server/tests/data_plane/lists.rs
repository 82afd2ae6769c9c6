//! `ListEntitlements`: the whole document and its tag.

use tessera_core::tenant::Event;
use tessera_ports::memory::Operation;
use tessera_proto::v1;
use tessera_server::Config;
use tonic::Code;

use crate::bench::{Bench, at_least, check, fully_consistent, refused, revision, without_scan};
use crate::universe::latest;

fn list(tenant: &str) -> v1::ListEntitlementsRequest {
    v1::ListEntitlementsRequest { tenant_id: tenant.to_owned(), ..Default::default() }
}

async fn document(bench: &Bench, request: v1::ListEntitlementsRequest) -> v1::TenantEntitlements {
    bench.client.clone().list_entitlements(request).await.unwrap().into_inner().document.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_document_says_what_checks_say() {
    let mut bench = Bench::usual().await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    let document = document(&bench, list("acme")).await;
    assert_eq!((document.tenant_id.as_str(), document.plan_id.as_str(), document.plan_version), ("acme", "gold", 1));
    assert_eq!(document.status(), v1::TenantStatus::Active);
    let [service] = &document.services[..] else { panic!("{document:?}") };
    for feature in &service.features {
        let answer = bench.ask(check("acme", "reports", &feature.feature)).await.unwrap();
        assert_eq!((answer.entitled, answer.reason()), (feature.entitled, feature.reason()));
        assert_eq!(answer.revision, document.revision);
    }
    assert_eq!(document.limits[0].value, Some(v1::limit_entitlement::Value::Maximum(10)));
    assert!(document.evaluated_at.is_some() && !document.document_tag.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_known_document_is_not_sent_again() {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    let tag = document(&bench, list("acme")).await.document_tag;
    let known = v1::ListEntitlementsRequest { if_document_tag_differs_from: tag.clone(), ..list("acme") };
    let answer = bench.client.list_entitlements(known.clone()).await.unwrap().into_inner();
    assert!(answer.not_modified && answer.document.is_none());

    let published = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
    bench.lose(&published);
    let newer = v1::ListEntitlementsRequest { consistency: Some(at_least(revision(&published))), ..known };
    let answer = bench.client.list_entitlements(newer).await.unwrap().into_inner();
    assert!(!answer.not_modified);
    assert_ne!(answer.document.unwrap().document_tag, tag);
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.lose(&deleted);
    let newest = v1::ListEntitlementsRequest { consistency: Some(fully_consistent()), ..list("acme") };
    assert_eq!(document(&bench, newest).await.status(), v1::TenantStatus::Deleted);
}

/// With tenant `acme` on gold. A document of two features is two checks: where there is a bucket it has enough for one.
async fn limited(config: Config) -> Bench {
    let mut bench = Bench::with(Config { caller_checks_burst: 3, tenant_checks_burst: 3, ..config }).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    bench
}

#[tokio::test(start_paused = true)]
async fn whoever_has_nothing_left_has_nothing_read() {
    let of_caller = Config { caller_checks_per_second: 1, ..without_scan() };
    let of_tenant = Config { tenant_checks_per_second: 1, ..without_scan() };
    for config in [of_caller, of_tenant] {
        let bench = limited(config).await;
        let newest = v1::ListEntitlementsRequest { consistency: Some(fully_consistent()), ..list("acme") };
        document(&bench, newest.clone()).await;
        // Whoever read now would say so.
        bench.store.faults().fail_next(Operation::Read, 1);
        let answer = bench.client.clone().list_entitlements(newest).await;
        assert_eq!(refused(answer), (Code::ResourceExhausted, "RATE_LIMITED".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_not_there_has_no_bucket() {
    let bench = limited(Config { tenant_checks_per_second: 1, ..without_scan() }).await;
    for _ in 0..5 {
        let answer = bench.client.clone().list_entitlements(list("nobody")).await;
        assert_eq!(refused(answer), (Code::NotFound, "TENANT_NOT_FOUND".to_owned()));
    }
}
