//! `TenantService`: every rpc, its success and its errors; paging and filters.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{Duration, FieldMask};
use tessera_core::access::Scopes;
use tessera_core::aggregate::Actor;
use tessera_proto::v1;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_runtime::identity::{Grant, Principal};
use tonic::{Code, Request};

use crate::bench::Bench;
use crate::rig::{Rig, create_tenant, day, fields, refused};

fn id() -> String {
    "acme".to_owned()
}

#[tokio::test]
async fn a_tenant_is_created_changed_and_deleted() {
    let mut rig = Rig::furnished().await;
    let created = rig.create("acme").await;
    assert_eq!((created.status(), created.etag.as_str()), (v1::TenantStatus::Active, "1-1"));
    assert_eq!(
        refused(rig.tenants.create_tenant(create_tenant("acme")).await),
        (Code::AlreadyExists, "TENANT_EXISTS".to_owned())
    );
    let get = v1::GetTenantRequest { tenant_id: id(), show_deleted: false };
    let got = rig.tenants.get_tenant(get.clone()).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(got.subscription.unwrap().effective_version, 1);

    let labels: BTreeMap<_, _> = [("region".to_owned(), "eu".to_owned())].into();
    let update = v1::UpdateTenantRequest { tenant_id: id(), title: "Acme".to_owned(), labels, ..Default::default() };
    let masked = v1::UpdateTenantRequest { update_mask: Some(FieldMask { paths: vec!["labels".to_owned()] }), ..update.clone() };
    let updated = rig.tenants.update_tenant(masked.clone()).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!((updated.title.as_str(), updated.labels.len()), ("", 1));
    assert_eq!(rig.tenants.update_tenant(update).await.unwrap().into_inner().tenant.unwrap().title, "Acme");
    let wrong = v1::UpdateTenantRequest { update_mask: Some(FieldMask { paths: vec!["plan".to_owned()] }), ..masked };
    assert_eq!(fields(rig.tenants.update_tenant(wrong).await), ["update_mask"]);

    let delete = v1::DeleteTenantRequest { tenant_id: id(), ..Default::default() };
    let deleted = rig.tenants.delete_tenant(delete.clone()).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(deleted.status(), v1::TenantStatus::Deleted);
    assert_eq!(refused(rig.tenants.delete_tenant(delete).await), (Code::NotFound, "TENANT_NOT_FOUND".to_owned()));
    assert_eq!(refused(rig.tenants.get_tenant(get).await), (Code::NotFound, "TENANT_NOT_FOUND".to_owned()));
    let get = v1::GetTenantRequest { tenant_id: id(), show_deleted: true };
    assert!(rig.tenants.get_tenant(get).await.unwrap().into_inner().tenant.unwrap().delete_time.is_some());
    let (code, _) = refused(rig.tenants.create_tenant(create_tenant("acme")).await);
    assert!(matches!(code, Code::AlreadyExists | Code::NotFound | Code::FailedPrecondition), "ids are never used again");
}

#[tokio::test]
async fn an_id_that_is_made_is_the_same_for_the_same_request() {
    let mut rig = Rig::furnished().await;
    let asked = v1::CreateTenantRequest { request_id: "r1".to_owned(), ..create_tenant("") };
    let first = rig.tenants.create_tenant(asked.clone()).await.unwrap().into_inner();
    let again = rig.tenants.create_tenant(asked).await.unwrap().into_inner();
    assert_eq!((first.tenant.clone(), again.idempotent_replay), (again.tenant, true));
    let other = v1::CreateTenantRequest { request_id: "r2".to_owned(), ..create_tenant("") };
    assert_ne!(rig.tenants.create_tenant(other).await.unwrap().into_inner().tenant, first.tenant);
    // Without a request id one is made and told.
    let answer = rig.tenants.create_tenant(create_tenant("")).await.unwrap();
    assert!(!answer.metadata().get("tessera-request-id").unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_made_is_another_for_another_caller() {
    let bench = Bench::new();
    bench.furnished().await;
    // What stands before the services says who calls.
    let mut tenants = TenantServiceClient::new(bench.loader().routes());
    let mut made = BTreeSet::new();
    for actor in ["alice", "bob"] {
        let actor = Actor::parse("an actor", actor).unwrap();
        let mut asked = Request::new(v1::CreateTenantRequest { request_id: "r1".to_owned(), ..create_tenant("") });
        asked.extensions_mut().insert(Principal::new(Grant { actor, scopes: Scopes::all(), tenants: None }));
        let answer = tenants.create_tenant(asked).await.unwrap().into_inner();
        assert!(made.insert(answer.tenant.unwrap().tenant_id), "the tenant of another caller");
        assert!(!answer.idempotent_replay);
    }
}

#[tokio::test]
async fn a_subscription_changes_is_cancelled_and_renewed() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let change = |plan: &str, at| v1::ChangePlanRequest { tenant_id: id(), plan_id: plan.to_owned(), at, ..Default::default() };
    let scheduled = rig.tenants.change_plan(change("silver", day(10))).await.unwrap().into_inner().tenant.unwrap();
    let subscription = scheduled.subscription.unwrap();
    assert_eq!((subscription.plan_id.as_str(), subscription.scheduled.len()), ("gold", 1));
    let cancel =
        |scheduled_change_id| v1::CancelScheduledChangeRequest { tenant_id: id(), scheduled_change_id, ..Default::default() };
    let cancelled = rig.tenants.cancel_scheduled_change(cancel(subscription.scheduled[0].id)).await.unwrap().into_inner();
    assert!(cancelled.tenant.unwrap().subscription.unwrap().scheduled.is_empty());
    assert_eq!(refused(rig.tenants.cancel_scheduled_change(cancel(9)).await).0, Code::NotFound);
    assert_eq!(fields(rig.tenants.cancel_scheduled_change(cancel(0)).await), ["scheduled_change_id"]);

    // The resource shows what is in force now, recorded or not.
    rig.tenants.change_plan(change("silver", day(10))).await.unwrap();
    let then = v1::GetTenantAtRequest { tenant_id: id(), time: day(20) };
    let then = rig.audit.get_tenant_at(then).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(then.subscription.unwrap().plan_id, "silver");
    assert_eq!(then.update_time, day(10), "the instant of the change, not the one that is looked at");
    rig.advance(11);
    let get = v1::GetTenantRequest { tenant_id: id(), show_deleted: false };
    let now = rig.tenants.get_tenant(get).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(now.subscription.unwrap().plan_id, "silver");
    assert_eq!(refused(rig.tenants.change_plan(change("nothing", None)).await), (Code::NotFound, "PLAN_NOT_FOUND".to_owned()));
    assert_eq!(fields(rig.tenants.change_plan(change("Bad", None)).await), ["plan_id"]);

    let cancel = v1::CancelSubscriptionRequest { tenant_id: id(), at: day(20), ..Default::default() };
    let cancelled = rig.tenants.cancel_subscription(cancel).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(cancelled.subscription.unwrap().cancel_at, day(20));
    let renew = v1::RenewSubscriptionRequest { tenant_id: id(), ..Default::default() };
    let renewed = rig.tenants.renew_subscription(renew).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(renewed.subscription.unwrap().cancel_at, None);
}

#[tokio::test]
async fn standing_changes_by_activation_suspension_and_trials() {
    let mut rig = Rig::furnished().await;
    let pending = v1::CreateTenantRequest { pending: true, ..create_tenant("acme") };
    let created = rig.tenants.create_tenant(pending).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(created.status(), v1::TenantStatus::Pending);
    let activate = v1::ActivateTenantRequest { tenant_id: id(), ..Default::default() };
    let active = rig.tenants.activate_tenant(activate).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(active.status(), v1::TenantStatus::Active);

    let suspend = |reason: &str, effective_at| v1::SuspendTenantRequest {
        tenant_id: id(),
        reason: reason.to_owned(),
        effective_at,
        ..Default::default()
    };
    let grace = rig.tenants.suspend_tenant(suspend("payment", day(5))).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!((grace.status(), grace.suspensions.len()), (v1::TenantStatus::Active, 1));
    let suspended = rig.tenants.suspend_tenant(suspend("abuse", None)).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(suspended.status(), v1::TenantStatus::Suspended);
    assert_eq!(fields(rig.tenants.suspend_tenant(suspend("", None)).await), ["reason"]);
    let resume = |reasons: &[&str]| v1::ResumeTenantRequest {
        tenant_id: id(),
        reasons: reasons.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let resumed = rig.tenants.resume_tenant(resume(&["abuse"])).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!((resumed.status(), resumed.suspensions.len()), (v1::TenantStatus::Active, 1));
    assert!(rig.tenants.resume_tenant(resume(&[])).await.unwrap().into_inner().tenant.unwrap().suspensions.is_empty());
    assert_eq!(refused(rig.tenants.resume_tenant(resume(&[])).await), (Code::FailedPrecondition, "NOT_SUSPENDED".to_owned()));

    let start = |length| v1::StartTrialRequest { tenant_id: id(), trial: Some(v1::Trial { length }), ..Default::default() };
    let fortnight = Some(Duration { seconds: 14 * 86_400, nanos: 0 });
    let trial = rig.tenants.start_trial(start(fortnight)).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(trial.subscription.unwrap().trial_until, day(14));
    assert_eq!(refused(rig.tenants.start_trial(start(fortnight)).await).0, Code::FailedPrecondition);
    assert_eq!(fields(rig.tenants.start_trial(start(Some(Duration::default()))).await), ["trial.length"]);
    let end = |end: v1::TrialEnd| v1::EndTrialRequest { tenant_id: id(), end: end as i32, ..Default::default() };
    assert_eq!(fields(rig.tenants.end_trial(end(v1::TrialEnd::Unspecified)).await), ["end"]);
    let converted = rig.tenants.end_trial(end(v1::TrialEnd::Convert)).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!((converted.subscription.unwrap().trial_until, converted.trials_used), (None, vec!["gold".to_owned()]));
}

#[tokio::test]
async fn add_ons_overrides_and_familiarity_are_set_and_removed() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let attach = |add_on: &str, quantity| v1::AttachAddOnRequest {
        tenant_id: id(),
        add_on: Some(v1::AttachedAddOn { add_on_id: add_on.to_owned(), quantity, pinned_version: 0 }),
        ..Default::default()
    };
    let attached = rig.tenants.attach_add_on(attach("seats", 0)).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(attached.add_ons[0].quantity, 1);
    let attached = rig.tenants.attach_add_on(attach("seats", 3)).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!((attached.add_ons.len(), attached.add_ons[0].quantity), (1, 3));
    assert_eq!(refused(rig.tenants.attach_add_on(attach("nothing", 1)).await), (Code::NotFound, "ADD_ON_NOT_FOUND".to_owned()));
    assert_eq!(fields(rig.tenants.attach_add_on(attach("seats", 1_000_001)).await), ["add_on.quantity"]);
    let missing = v1::AttachAddOnRequest { add_on: None, ..attach("seats", 1) };
    assert_eq!(fields(rig.tenants.attach_add_on(missing).await), ["add_on"]);
    let detach = v1::DetachAddOnRequest { tenant_id: id(), add_on_id: "seats".to_owned(), ..Default::default() };
    assert!(rig.tenants.detach_add_on(detach.clone()).await.unwrap().into_inner().tenant.unwrap().add_ons.is_empty());
    let (code, _) = refused(rig.tenants.detach_add_on(detach).await);
    assert!(matches!(code, Code::NotFound | Code::FailedPrecondition), "{code:?}");

    let target = v1::OverrideTarget { service: "reporting".to_owned(), feature: "charts".to_owned(), limit: String::new() };
    let set = v1::SetOverrideRequest {
        tenant_id: id(),
        r#override: Some(v1::Override {
            target: Some(target.clone()),
            effect: v1::OverrideEffect::Grant as i32,
            reason: "pilot".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(rig.tenants.set_override(set.clone()).await.unwrap().into_inner().tenant.unwrap().overrides.len(), 1);
    let on_limit = v1::SetOverrideRequest {
        r#override: Some(v1::Override {
            target: Some(v1::OverrideTarget { limit: "max_users".to_owned(), ..Default::default() }),
            value: Some(v1::LimitGrant { value: Some(v1::limit_grant::Value::Maximum(7)) }),
            reason: "contract".to_owned(),
            ..Default::default()
        }),
        ..set.clone()
    };
    assert_eq!(rig.tenants.set_override(on_limit).await.unwrap().into_inner().tenant.unwrap().overrides.len(), 2);
    assert_eq!(fields(rig.tenants.set_override(v1::SetOverrideRequest { r#override: None, ..set }).await), ["override"]);
    let remove = v1::RemoveOverrideRequest { tenant_id: id(), target: Some(target), ..Default::default() };
    assert_eq!(rig.tenants.remove_override(remove.clone()).await.unwrap().into_inner().tenant.unwrap().overrides.len(), 1);
    assert_eq!(refused(rig.tenants.remove_override(remove).await), (Code::NotFound, "OVERRIDE_NOT_FOUND".to_owned()));

    let familiarity = |familiarity_basis_points| v1::SetFamiliarityRequest {
        tenant_id: id(),
        service: "reporting".to_owned(),
        familiarity_basis_points,
        ..Default::default()
    };
    let set = rig.tenants.set_familiarity(familiarity(8_750)).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(set.familiarity_basis_points["reporting"], 8_750);
    let removed = rig.tenants.set_familiarity(familiarity(0)).await.unwrap().into_inner().tenant.unwrap();
    assert!(removed.familiarity_basis_points.is_empty());
    assert_eq!(fields(rig.tenants.set_familiarity(familiarity(1)).await), ["familiarity_basis_points"]);
}

#[tokio::test]
async fn a_whole_tenant_is_stated() {
    let mut rig = Rig::furnished().await;
    let document = v1::TenantDocument { tenant_id: id(), plan_id: "gold".to_owned(), ..Default::default() };
    let state = v1::StateTenantRequest { document: Some(document.clone()), ..Default::default() };
    let stated = rig.tenants.state_tenant(state.clone()).await.unwrap().into_inner().tenant.unwrap();
    let again = rig.tenants.state_tenant(state.clone()).await.unwrap().into_inner();
    assert_eq!((again.tenant.unwrap().etag, again.idempotent_replay), (stated.etag.clone(), false));
    let create_only = v1::StateTenantRequest { create_only: true, ..state.clone() };
    assert_eq!(refused(rig.tenants.state_tenant(create_only).await), (Code::AlreadyExists, "TENANT_EXISTS".to_owned()));
    let moved = v1::StateTenantRequest {
        document: Some(v1::TenantDocument { plan_id: "silver".to_owned(), ..document }),
        etag: stated.etag.clone(),
        ..state
    };
    let moved = rig.tenants.state_tenant(moved).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(moved.subscription.unwrap().plan_id, "silver");
    assert_eq!(fields(rig.tenants.state_tenant(v1::StateTenantRequest::default()).await), ["document"]);
}

/// Every tenant that a listing shows, page by page.
async fn all(rig: &mut Rig, filter: v1::ListTenantsRequest) -> BTreeSet<String> {
    let (mut found, mut token) = (BTreeSet::new(), String::new());
    loop {
        let asked = v1::ListTenantsRequest { page_token: token, ..filter.clone() };
        let page = rig.tenants.list_tenants(asked).await.unwrap().into_inner();
        assert!(page.tenants.len() <= 7);
        for tenant in page.tenants {
            assert!(found.insert(tenant.tenant_id), "listed twice");
        }
        token = page.next_page_token;
        if token.is_empty() {
            return found;
        }
    }
}

#[tokio::test]
async fn listings_page_and_filter() {
    let mut rig = Rig::furnished().await;
    for n in 0..60 {
        let mut asked = create_tenant(&format!("t{n:02}"));
        asked.plan_id = if n % 3 == 0 { "silver" } else { "gold" }.to_owned();
        asked.pending = n % 4 == 0;
        asked.labels = [("region".to_owned(), if n % 2 == 0 { "eu" } else { "us" }.to_owned())].into();
        rig.tenants.create_tenant(asked).await.unwrap();
    }
    let delete = v1::DeleteTenantRequest { tenant_id: "t01".to_owned(), ..Default::default() };
    rig.tenants.delete_tenant(delete).await.unwrap();
    // A stream that holds a settled command only was never a tenant.
    let mut retried = tonic::Request::new(v1::DeleteTenantRequest { tenant_id: "never".to_owned(), ..Default::default() });
    retried.metadata_mut().insert("tessera-retry", "1".parse().unwrap());
    assert_eq!(refused(rig.tenants.delete_tenant(retried).await).0, Code::NotFound);

    let filter = v1::ListTenantsRequest { page_size: 7, ..Default::default() };
    assert_eq!(all(&mut rig, filter.clone()).await.len(), 59);
    assert_eq!(all(&mut rig, v1::ListTenantsRequest { show_deleted: true, ..filter.clone() }).await.len(), 60);
    assert_eq!(all(&mut rig, v1::ListTenantsRequest { plan_id: "silver".to_owned(), ..filter.clone() }).await.len(), 20);
    let pending = v1::ListTenantsRequest { status: v1::TenantStatus::Pending as i32, ..filter.clone() };
    assert_eq!(all(&mut rig, pending).await.len(), 15);
    let labels: BTreeMap<_, _> = [("region".to_owned(), "us".to_owned())].into();
    assert_eq!(all(&mut rig, v1::ListTenantsRequest { labels: labels.clone(), ..filter.clone() }).await.len(), 29);

    let page = rig.tenants.list_tenants(filter.clone()).await.unwrap().into_inner();
    assert!(page.tenants.iter().all(|tenant| tenant.subscription.as_ref().unwrap().effective_version == 1), "{page:?}");
    let other = v1::ListTenantsRequest { page_token: page.next_page_token, labels, ..filter };
    assert_eq!(fields(rig.tenants.list_tenants(other).await), ["page_token"]);
}
