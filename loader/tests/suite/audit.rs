//! `AuditService`: events as facts, chains that hold or do not, tenants as of a time.

use std::time::Duration;

use bytes::Bytes;
use prost_types::Timestamp;
use prost_types::value::Kind;
use tessera_core::stream::StreamId;
use tessera_proto::v1;
use tonic::Code;

use crate::bench::{new_year, stream};
use crate::rig::{Rig, create_tenant, day, fields, plan_document, refused, service, users};

#[expect(clippy::unnecessary_wraps, reason = "it fills optional fields of requests")]
fn of(kind: v1::StreamKind, id: &str) -> Option<v1::Stream> {
    Some(v1::Stream { kind: kind as i32, id: id.to_owned() })
}

/// The instant before.
fn just_before(time: Option<Timestamp>) -> Option<Timestamp> {
    time.map(|time| Timestamp { seconds: time.seconds - 1, nanos: 999_999_999 })
}

async fn rename(rig: &mut Rig, title: &str) {
    let update = v1::UpdateTenantRequest { tenant_id: "acme".to_owned(), title: title.to_owned(), ..Default::default() };
    rig.tenants.update_tenant(update).await.unwrap();
}

#[tokio::test]
async fn events_are_listed_by_stream_actor_and_time() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    for n in 0..10 {
        rig.advance(1);
        rename(&mut rig, &format!("title {n}")).await;
    }
    let mut list = v1::ListAuditEventsRequest { stream: of(v1::StreamKind::Tenant, "acme"), page_size: 4, ..Default::default() };
    let mut events = Vec::new();
    loop {
        let page = rig.audit.list_audit_events(list.clone()).await.unwrap().into_inner();
        assert!(page.events.len() <= 4);
        events.extend(page.events);
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    assert_eq!((events[0].r#type.as_str(), events[0].actor.as_str()), ("Created", "local"));
    assert_eq!(events[0].previous_hash, Bytes::from(vec![0; 32]));
    for pair in events.windows(2) {
        assert_eq!(pair[0].hash, pair[1].previous_hash);
    }
    let title = &events[10].payload.as_ref().unwrap().fields["title"];
    assert_eq!(title.kind, Some(Kind::StringValue("title 9".to_owned())));

    // Both bounds are instants of events: the first is in, the second is out.
    list.start_time = day(2);
    list.end_time = day(5);
    for (actor, seqs) in [("", &[3, 4, 5][..]), ("local", &[3, 4, 5]), ("nobody", &[])] {
        list.actor = actor.to_owned();
        let page = rig.audit.list_audit_events(list.clone()).await.unwrap().into_inner();
        assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), seqs, "actor `{actor}`");
    }

    // All streams: the furniture (2 + 3 × 2) and the tenant.
    let mut all = v1::ListAuditEventsRequest { page_size: 5, ..Default::default() };
    let mut count = 0;
    loop {
        let page = rig.audit.list_audit_events(all.clone()).await.unwrap().into_inner();
        count += page.events.len();
        all.page_token = page.next_page_token;
        if all.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(count, 8 + 11);
    let plans = v1::ListAuditEventsRequest { stream: of(v1::StreamKind::Plan, ""), ..Default::default() };
    assert_eq!(rig.audit.list_audit_events(plans).await.unwrap().into_inner().events.len(), 4);
    let bad = v1::ListAuditEventsRequest { stream: of(v1::StreamKind::Plan, "Bad Id"), ..Default::default() };
    assert_eq!(fields(rig.audit.list_audit_events(bad).await), ["stream.id"]);
}

#[tokio::test]
async fn verification_names_the_event_of_every_flipped_byte() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    for n in 0..4 {
        rename(&mut rig, &format!("title {n}")).await;
    }
    let verify = v1::VerifyAuditRequest::default();
    let whole = rig.audit.verify_audit(verify.clone()).await.unwrap().into_inner();
    assert_eq!((whole.streams, whole.events, whole.problems), (5, 13, vec![]));

    let tenant = v1::VerifyAuditRequest { stream: of(v1::StreamKind::Tenant, "acme"), ..Default::default() };
    let cells = rig.bench.store.inner.cells(&stream("acme"));
    for (seq, cell) in (1..).zip(&cells) {
        for at in 0..cell.len() {
            let mut flipped = cell.to_vec();
            flipped[at] ^= 0x10;
            *rig.bench.store.altered.lock().unwrap() = [((stream("acme"), seq), Bytes::from(flipped))].into();
            let found = rig.audit.verify_audit(tenant.clone()).await.unwrap().into_inner();
            let named: Vec<i64> = found.problems.iter().map(|problem| problem.seq).collect();
            let seq = i64::try_from(seq).unwrap();
            assert_eq!(named, [seq], "byte {at} of event {seq}: {:?}", found.problems);
        }
    }
    rig.bench.store.altered.lock().unwrap().clear();

    // A state that is not the fold of its events.
    let (_, state) = rig.bench.store.inner.current(&stream("acme")).unwrap();
    let older = rig.bench.store.inner.states(&stream("acme"))[&2].clone();
    assert!(rig.bench.store.inner.faults().overwrite_state(&stream("acme"), older));
    let found = rig.audit.verify_audit(tenant.clone()).await.unwrap().into_inner();
    assert_eq!(found.problems.iter().map(|problem| problem.seq).collect::<Vec<_>>(), [0]);
    assert!(rig.bench.store.inner.faults().overwrite_state(&stream("acme"), state));
    assert!(rig.audit.verify_audit(tenant).await.unwrap().into_inner().problems.is_empty());

    let mut paged = v1::VerifyAuditRequest { page_size: 2, ..verify };
    let mut streams = 0;
    loop {
        let page = rig.audit.verify_audit(paged.clone()).await.unwrap().into_inner();
        streams += page.streams;
        paged.page_token = page.next_page_token;
        if paged.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(streams, 5);
}

async fn at(rig: &mut Rig, time: Option<Timestamp>) -> (v1::Tenant, v1::TenantEntitlements) {
    let asked = v1::GetTenantAtRequest { tenant_id: "acme".to_owned(), time };
    let answer = rig.audit.get_tenant_at(asked).await.unwrap().into_inner();
    (answer.tenant.unwrap(), answer.entitlements.unwrap())
}

/// What a service, a feature and the limit were said to be.
fn said(document: &v1::TenantEntitlements) -> (bool, String, i64) {
    let exports = document
        .services
        .iter()
        .find(|service| service.service == "reporting")
        .and_then(|service| service.features.iter().find(|feature| feature.feature == "exports"))
        .map_or((false, String::new()), |feature| (feature.entitled, feature.reason().as_str_name().to_owned()));
    let users = document.limits.iter().find(|limit| limit.limit == "max_users").and_then(|limit| limit.value);
    let users = match users {
        Some(v1::limit_entitlement::Value::Maximum(maximum)) => maximum,
        _ => -1,
    };
    (exports.0, exports.1, users)
}

#[tokio::test]
async fn a_tenant_is_shown_as_everything_stood_then() {
    let mut rig = Rig::furnished().await;
    rig.advance(1);
    rig.create("acme").await; // day 1
    rig.advance(1);
    // Day 2: the plan's next version.
    let update = v1::UpdatePlanRequest { plan_id: "gold".to_owned(), document: Some(plan_document(2_000)), ..Default::default() };
    rig.plans.update_plan(update).await.unwrap();
    rig.plans.publish_plan(v1::PublishPlanRequest { plan_id: "gold".to_owned(), ..Default::default() }).await.unwrap();
    rig.advance(1);
    // Day 3: an add-on.
    let attach = v1::AttachAddOnRequest {
        tenant_id: "acme".to_owned(),
        add_on: Some(v1::AttachedAddOn { add_on_id: "seats".to_owned(), quantity: 2, pinned_version: 0 }),
        ..Default::default()
    };
    rig.tenants.attach_add_on(attach).await.unwrap();
    rig.advance(1);
    // Day 4: the kill switch, in the catalog.
    let disable = v1::DisableFeatureRequest {
        service_id: "reporting".to_owned(),
        feature_id: "exports".to_owned(),
        reason: "incident".to_owned(),
        ..Default::default()
    };
    rig.catalog.disable_feature(disable).await.unwrap();
    rig.advance(1);
    // Day 5: another plan from day 10 on, and a service nobody had before.
    let change =
        v1::ChangePlanRequest { tenant_id: "acme".to_owned(), plan_id: "silver".to_owned(), at: day(10), ..Default::default() };
    rig.tenants.change_plan(change).await.unwrap();
    rig.catalog.upsert_service(service("orders", &[])).await.unwrap();
    rig.catalog
        .enable_feature(v1::EnableFeatureRequest {
            service_id: "reporting".to_owned(),
            feature_id: "exports".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    rig.advance(1);
    // Day 6: suspended.
    let suspend = v1::SuspendTenantRequest { tenant_id: "acme".to_owned(), reason: "payment".to_owned(), ..Default::default() };
    rig.tenants.suspend_tenant(suspend).await.unwrap();
    rig.advance(1);
    // Day 7: resumed.
    rig.tenants.resume_tenant(v1::ResumeTenantRequest { tenant_id: "acme".to_owned(), ..Default::default() }).await.unwrap();
    rig.advance(1);

    // From the instant of an event on, and not before it.
    let asked = v1::GetTenantAtRequest { tenant_id: "acme".to_owned(), time: just_before(day(1)) };
    assert_eq!(refused(rig.audit.get_tenant_at(asked).await), (Code::NotFound, "TENANT_NOT_FOUND".to_owned()));
    let plan = "REASON_GRANTED_BY_PLAN".to_owned();
    let (tenant, document) = at(&mut rig, day(1)).await;
    assert_eq!((said(&document), document.plan_version), ((true, plan.clone(), 1_000), 1));
    assert_eq!((tenant.etag.as_str(), document.services.len()), ("1-1", 1));
    assert_eq!(said(&at(&mut rig, just_before(day(2))).await.1), (true, plan.clone(), 1_000));
    assert_eq!(said(&at(&mut rig, day(2)).await.1), (true, plan.clone(), 2_000));
    assert_eq!(said(&at(&mut rig, day(3)).await.1), (true, plan.clone(), 2_020));
    let (_, document) = at(&mut rig, day(4)).await;
    assert_eq!((said(&document).0, said(&document).1.as_str()), (false, "REASON_DISABLED"));
    let (tenant, document) = at(&mut rig, day(5)).await;
    assert_eq!((tenant.subscription.unwrap().scheduled.len(), document.services.len()), (1, 2));
    let (tenant, document) = at(&mut rig, day(6)).await;
    assert_eq!((tenant.status(), said(&document).0), (v1::TenantStatus::Suspended, false));
    assert_eq!(said(&at(&mut rig, day(7)).await.1), (true, plan.clone(), 2_020));
    // The future: today's state, the clock set forward.
    let (tenant, document) = at(&mut rig, day(11)).await;
    assert_eq!((document.plan_id.as_str(), said(&document)), ("silver", (true, plan, 120)));
    assert!(tenant.subscription.unwrap().scheduled.is_empty());

    rig.tenants.delete_tenant(v1::DeleteTenantRequest { tenant_id: "acme".to_owned(), ..Default::default() }).await.unwrap();
    assert_eq!(at(&mut rig, day(9)).await.0.status(), v1::TenantStatus::Deleted);
    let asked = v1::GetTenantAtRequest { tenant_id: "acme".to_owned(), time: None };
    assert_eq!(fields(rig.audit.get_tenant_at(asked).await), ["time"]);
}

#[tokio::test]
async fn a_tenant_is_shown_with_what_it_was_decided_against_even_where_that_is_dated_later() {
    let mut rig = Rig::furnished().await;
    rig.advance(2);
    // Day 2, by a clock that is ahead: a service, and versions of a plan with it and of an add-on.
    rig.catalog.upsert_service(service("orders", &[])).await.unwrap();
    let mut document = plan_document(2_000);
    document.services.insert("orders".to_owned(), v1::ServiceGrant::default());
    let update = v1::UpdatePlanRequest { plan_id: "gold".to_owned(), document: Some(document), ..Default::default() };
    rig.plans.update_plan(update).await.unwrap();
    rig.plans.publish_plan(v1::PublishPlanRequest { plan_id: "gold".to_owned(), ..Default::default() }).await.unwrap();
    let document = Some(v1::AddOnDocument { limits: users(20), ..Default::default() });
    let update = v1::UpdateAddOnRequest { add_on_id: "seats".to_owned(), document, ..Default::default() };
    rig.add_ons.update_add_on(update).await.unwrap();
    rig.add_ons.publish_add_on(v1::PublishAddOnRequest { add_on_id: "seats".to_owned(), ..Default::default() }).await.unwrap();
    // Day 1, by a clock that is not: a tenant of those versions.
    rig.bench.clock.set(new_year().saturating_add(Duration::from_hours(24)));
    let create = v1::CreateTenantRequest { plan_version: 2, ..create_tenant("acme") };
    rig.tenants.create_tenant(create).await.unwrap();
    let attach = v1::AttachAddOnRequest {
        tenant_id: "acme".to_owned(),
        add_on: Some(v1::AttachedAddOn { add_on_id: "seats".to_owned(), quantity: 1, pinned_version: 2 }),
        ..Default::default()
    };
    rig.tenants.attach_add_on(attach).await.unwrap();
    rig.advance(2);

    let (_, document) = at(&mut rig, day(1)).await;
    assert_eq!(said(&document), (true, "REASON_GRANTED_BY_PLAN".to_owned(), 2_020));
    assert_eq!((document.plan_version, document.services.len()), (2, 2));
}

#[tokio::test]
async fn a_plan_deleted_and_made_again_keeps_its_chain() {
    let mut rig = Rig::furnished().await;
    let plan_id = || "bronze".to_owned();
    for _ in 0..2 {
        rig.plans.create_plan(crate::rig::create_plan("bronze", 1)).await.unwrap();
        rig.plans.delete_plan(v1::DeletePlanRequest { plan_id: plan_id(), ..Default::default() }).await.unwrap();
    }
    rig.tenants.create_tenant(create_tenant("acme")).await.unwrap();
    let verify = v1::VerifyAuditRequest { stream: of(v1::StreamKind::Plan, "bronze"), ..Default::default() };
    let found = rig.audit.verify_audit(verify).await.unwrap().into_inner();
    assert_eq!((found.events, found.problems), (4, vec![]));
    assert!(rig.bench.store.inner.streams().contains(&StreamId::Catalog));
}
