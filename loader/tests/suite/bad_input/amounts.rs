//! Counts, versions, familiarity, lengths and times beyond their bounds, in every field that has one; and sums that would
//! overflow when they are evaluated.

use prost::Message;
use prost_types::{Duration, Timestamp};
use serde_json::{Value, json};
use tessera_proto::v1;

use super::asking::{ask, said, send};
use crate::rig::Rig;

const AMOUNTS: &str = "0 to 9223372036854775807";
const QUANTITIES: &str = "1 to 1000000";
const VERSIONS: &str = "allowed are 1 and above, or 0 for the latest";
const FAMILIARITIES: &str = "one of 5000, 7500, 8750 and 10000 basis points";

fn tenant(more: Value) -> Value {
    merged(json!({ "tenant_id": "acme" }), more)
}

fn merged(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("an object was expected") };
    base.as_object_mut().unwrap().extend(more);
    base
}

/// A whole tenant with that, besides what it needs.
fn stated(more: Value) -> Value {
    json!({ "document": merged(json!({ "tenant_id": "acme", "plan_id": "gold" }), more) })
}

#[tokio::test]
async fn amounts_quantities_versions_and_familiarities_have_bounds() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let plan = |limits: Value| json!({ "plan_id": "new", "document": { "limits": { "max_users": limits } } });
    let add_on = |limits: Value| json!({ "add_on_id": "new", "document": { "limits": { "max_users": limits } } });
    let set = |value: Value| json!({ "target": { "limit": "max_users" }, "value": value, "reason": "r" });
    let in_document = "document.limits[\"max_users\"]";
    // What a limit is given: in a plan, an add-on, an override, and an override of a whole tenant.
    for (value, part, words) in [
        (json!({ "maximum": "-1" }), ".maximum", vec!["`-1`", AMOUNTS]),
        (json!({ "maximum": i64::MIN.to_string() }), ".maximum", vec!["`-9223372036854775808`", AMOUNTS]),
        (json!({ "unlimited": false }), ".unlimited", vec!["`false`", "allowed are `true`, or a maximum"]),
        (json!({}), "", vec!["no value is set", "allowed are a maximum of 0 or more, or `unlimited: true`"]),
    ] {
        for (method, request, field) in [
            ("PlanService/CreatePlan", plan(value.clone()), in_document),
            ("PlanService/UpdatePlan", merged(plan(value.clone()), json!({ "plan_id": "gold" })), in_document),
            ("AddOnService/CreateAddOn", add_on(value.clone()), in_document),
            ("AddOnService/UpdateAddOn", merged(add_on(value.clone()), json!({ "add_on_id": "seats" })), in_document),
            ("TenantService/SetOverride", tenant(json!({ "override": set(value.clone()) })), "override.value"),
            ("TenantService/StateTenant", stated(json!({ "overrides": [set(value.clone())] })), "document.overrides[0].value"),
        ] {
            said(ask(&rig, method, &request).await).is_invalid(&format!("{field}{part}"), &words);
        }
    }
    for quantity in [-1, 1_000_001, i64::MIN, i64::MAX] {
        let attached = json!({ "add_on_id": "seats", "quantity": quantity.to_string() });
        let words = [&*format!("`{quantity}`"), QUANTITIES];
        said(ask(&rig, "TenantService/AttachAddOn", &tenant(json!({ "add_on": attached }))).await)
            .is_invalid("add_on.quantity", &words);
        said(ask(&rig, "TenantService/StateTenant", &stated(json!({ "add_ons": [attached] }))).await)
            .is_invalid("document.add_ons[0].quantity", &words);
    }
    for version in [-1, i32::MIN] {
        let shown = format!("`{version}`");
        let pinned = json!({ "add_on_id": "seats", "pinned_version": version });
        let change = json!({ "at": "2030-01-01T00:00:00Z", "plan_id": "gold", "version": version });
        for (method, request, field) in [
            ("TenantService/CreateTenant", json!({ "plan_id": "gold", "plan_version": version }), "plan_version"),
            ("TenantService/ChangePlan", tenant(json!({ "plan_id": "gold", "plan_version": version })), "plan_version"),
            ("TenantService/AttachAddOn", tenant(json!({ "add_on": pinned })), "add_on.pinned_version"),
            ("TenantService/StateTenant", stated(json!({ "plan_version": version })), "document.plan_version"),
            ("TenantService/StateTenant", stated(json!({ "add_ons": [pinned] })), "document.add_ons[0].pinned_version"),
            ("TenantService/StateTenant", stated(json!({ "scheduled": [change] })), "document.scheduled[0].version"),
        ] {
            said(ask(&rig, method, &request).await).is_invalid(field, &[&shown, VERSIONS]);
        }
        for (method, request, field) in [
            ("PlanService/GetPlanVersion", json!({ "plan_id": "gold", "version": version }), "version"),
            ("AddOnService/GetAddOnVersion", json!({ "add_on_id": "seats", "version": version }), "version"),
            ("PlanService/DiffPlanVersions", json!({ "plan_id": "gold", "from_version": version }), "from_version"),
            ("PlanService/DiffPlanVersions", json!({ "plan_id": "gold", "to_version": version }), "to_version"),
            ("AddOnService/DiffAddOnVersions", json!({ "add_on_id": "seats", "to_version": version }), "to_version"),
        ] {
            said(ask(&rig, method, &request).await).is_invalid(field, &[&shown, "allowed are 0 and more"]);
        }
    }
    for points in [-1, 1, 4_999, 5_001, 9_999, 10_001, i32::MIN, i32::MAX] {
        let words = [&*format!("`{points}`"), FAMILIARITIES];
        let grant = json!({ "services": { "reporting": { "familiarity_basis_points": points } } });
        let own = json!({ "reporting": points });
        for (method, request, field) in [
            (
                "TenantService/SetFamiliarity",
                tenant(json!({ "service": "reporting", "familiarity_basis_points": points })),
                "familiarity_basis_points",
            ),
            (
                "TenantService/StateTenant",
                stated(json!({ "familiarity_basis_points": own })),
                "document.familiarity_basis_points[\"reporting\"]",
            ),
            (
                "PlanService/CreatePlan",
                json!({ "plan_id": "new", "document": grant }),
                "document.services[\"reporting\"].familiarity_basis_points",
            ),
            (
                "AddOnService/CreateAddOn",
                json!({ "add_on_id": "new", "document": grant }),
                "document.services[\"reporting\"].familiarity_basis_points",
            ),
        ] {
            said(ask(&rig, method, &request).await).is_invalid(field, &words);
        }
    }
    // In a map there is no other way to say "none" than to leave it out.
    said(ask(&rig, "TenantService/StateTenant", &stated(json!({ "familiarity_basis_points": { "reporting": 0 } }))).await)
        .is_invalid("document.familiarity_basis_points[\"reporting\"]", &["`0`", FAMILIARITIES]);
    for id in [0, -1, i32::MIN] {
        said(ask(&rig, "TenantService/CancelScheduledChange", &tenant(json!({ "scheduled_change_id": id }))).await)
            .is_invalid("scheduled_change_id", &[&format!("`{id}`"), "allowed are 1 and more"]);
    }
    assert_eq!(rig.bench.stored("acme").1, 1, "nothing was written");
}

#[tokio::test]
async fn lengths_of_trials_have_bounds() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    for (seconds, nanos) in [
        (0, 0),
        (-1, 0),
        (0, -1),
        (i64::MIN, 0),
        (i64::MAX, 999_999_999),
        // One nanosecond beyond ten years.
        (3_653 * 86_400, 1),
        (1, 1_000_000_000),
        (1, i32::MIN),
    ] {
        let length = Some(Duration { seconds, nanos });
        let trial = Some(v1::Trial { length });
        let words = [&*format!("`{seconds}s` and {nanos} ns is not a trial length"), "allowed are above 0 to 3653 days"];
        let document = Some(v1::PlanDocument { trial: length, ..Default::default() });
        let create =
            v1::CreateTenantRequest { tenant_id: "new".to_owned(), plan_id: "gold".to_owned(), trial, ..Default::default() };
        let plan = v1::CreatePlanRequest { plan_id: "new".to_owned(), document, ..Default::default() };
        let start = v1::StartTrialRequest { tenant_id: "acme".to_owned(), trial, ..Default::default() };
        for (method, bytes, field) in [
            ("PlanService/CreatePlan", plan.encode_to_vec(), "document.trial"),
            ("TenantService/CreateTenant", create.encode_to_vec(), "trial.length"),
            ("TenantService/StartTrial", start.encode_to_vec(), "trial.length"),
        ] {
            said(send(&rig, method, bytes).await).is_invalid(field, &words);
        }
    }
    // The longest trial of the latest start ends with the calendar.
    let create = v1::CreateTenantRequest {
        tenant_id: "late".to_owned(),
        plan_id: "gold".to_owned(),
        starts: Some(Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 }),
        trial: Some(v1::Trial { length: Some(Duration { seconds: 3_653 * 86_400, nanos: 0 }) }),
        ..Default::default()
    };
    let late = rig.tenants.create_tenant(create.clone()).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(late.subscription.unwrap().trial_until, create.starts);
}

#[tokio::test]
async fn times_are_from_1970_to_9999() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let id = || "acme".to_owned();
    for (seconds, nanos) in
        [(-1, 0), (253_402_300_800, 0), (i64::MIN, 0), (i64::MAX, 0), (0, -1), (0, 1_000_000_000), (0, i32::MAX)]
    {
        let at = Some(Timestamp { seconds, nanos });
        let words = [
            &*format!("time {seconds} s and {nanos} ns since 1970 is out of range"),
            "allowed are the years 1970 to 9999 and 0 to 999999999 ns",
        ];
        let whole = |document| v1::StateTenantRequest { document: Some(document), ..Default::default() }.encode_to_vec();
        let document = v1::TenantDocument { tenant_id: id(), plan_id: "gold".to_owned(), ..Default::default() };
        let change = v1::ScheduledChange { at, plan_id: "gold".to_owned(), ..Default::default() };
        let suspension = v1::Suspension { reason: "r".to_owned(), effective_at: at };
        let set = v1::Override {
            target: Some(v1::OverrideTarget { service: "reporting".to_owned(), ..Default::default() }),
            effect: v1::OverrideEffect::Deny as i32,
            until: at,
            reason: "r".to_owned(),
            ..Default::default()
        };
        let create = v1::CreateTenantRequest { plan_id: "gold".to_owned(), starts: at, ..Default::default() };
        let change_plan = v1::ChangePlanRequest { tenant_id: id(), plan_id: "gold".to_owned(), at, ..Default::default() };
        let cancel = v1::CancelSubscriptionRequest { tenant_id: id(), at, ..Default::default() };
        let suspend =
            v1::SuspendTenantRequest { tenant_id: id(), reason: "r".to_owned(), effective_at: at, ..Default::default() };
        let override_until = v1::SetOverrideRequest { tenant_id: id(), r#override: Some(set.clone()), ..Default::default() };
        let from = v1::ListAuditEventsRequest { start_time: at, ..Default::default() };
        let until = v1::ListAuditEventsRequest { end_time: at, ..Default::default() };
        let then = v1::GetTenantAtRequest { tenant_id: id(), time: at };
        for (method, bytes, field) in [
            ("TenantService/CreateTenant", create.encode_to_vec(), "starts"),
            ("TenantService/ChangePlan", change_plan.encode_to_vec(), "at"),
            ("TenantService/CancelSubscription", cancel.encode_to_vec(), "at"),
            ("TenantService/SuspendTenant", suspend.encode_to_vec(), "effective_at"),
            ("TenantService/SetOverride", override_until.encode_to_vec(), "override.until"),
            ("TenantService/StateTenant", whole(v1::TenantDocument { starts: at, ..document.clone() }), "document.starts"),
            (
                "TenantService/StateTenant",
                whole(v1::TenantDocument { trial_until: at, ..document.clone() }),
                "document.trial_until",
            ),
            ("TenantService/StateTenant", whole(v1::TenantDocument { cancel_at: at, ..document.clone() }), "document.cancel_at"),
            (
                "TenantService/StateTenant",
                whole(v1::TenantDocument { scheduled: vec![change], ..document.clone() }),
                "document.scheduled[0].at",
            ),
            (
                "TenantService/StateTenant",
                whole(v1::TenantDocument { overrides: vec![set], ..document.clone() }),
                "document.overrides[0].until",
            ),
            (
                "TenantService/StateTenant",
                whole(v1::TenantDocument { suspensions: vec![suspension], ..document }),
                "document.suspensions[0].effective_at",
            ),
            ("AuditService/ListAuditEvents", from.encode_to_vec(), "start_time"),
            ("AuditService/ListAuditEvents", until.encode_to_vec(), "end_time"),
            ("AuditService/GetTenantAt", then.encode_to_vec(), "time"),
        ] {
            said(send(&rig, method, bytes).await).is_invalid(field, &words);
        }
    }
    for (method, request, field) in [
        ("AuditService/GetTenantAt", tenant(json!({})), "time"),
        ("TenantService/StateTenant", stated(json!({ "scheduled": [{ "plan_id": "gold" }] })), "document.scheduled[0].at"),
    ] {
        said(ask(&rig, method, &request).await).is_invalid(field, &["it is not set", "a value is required"]);
    }
    let backwards = json!({ "start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z" });
    said(ask(&rig, "AuditService/ListAuditEvents", &backwards).await).is_invalid(
        "end_time",
        &["`1767225600` s is before `start_time`, 1767312000 s", "allowed is the same time or a later one"],
    );
    let over =
        json!({ "target": { "limit": "max_users" }, "value": { "maximum": 1 }, "until": "2020-01-01T00:00:00Z", "reason": "r" });
    said(ask(&rig, "TenantService/SetOverride", &tenant(json!({ "override": over }))).await)
        .is_invalid("override.until", &["it ended", "ago; allowed are times to come"]);
    assert_eq!(rig.bench.stored("acme").1, 1, "nothing was written");
}

#[tokio::test]
async fn sums_that_would_overflow_saturate() {
    let rig = Rig::furnished().await;
    let most = json!({ "limits": { "max_users": { "maximum": i64::MAX.to_string() } } });
    for (service, id) in [("Plan", "plan_id"), ("AddOn", "add_on_id")] {
        let named = merged(json!({}), json!({ id: "most" }));
        ask(&rig, &format!("{service}Service/Create{service}"), &merged(named.clone(), json!({ "document": most })))
            .await
            .unwrap();
        ask(&rig, &format!("{service}Service/Publish{service}"), &named).await.unwrap();
    }
    let document = json!({ "tenant_id": "acme", "plan_id": "most", "add_ons": [
        { "add_on_id": "most", "quantity": "1000000" }, { "add_on_id": "seats", "quantity": "1000000" },
    ] });
    ask(&rig, "TenantService/StateTenant", &json!({ "document": document })).await.unwrap();
    let mut audit = rig.audit.clone();
    let at = Some(Timestamp { seconds: crate::bench::new_year().seconds(), nanos: 0 });
    let then = audit.get_tenant_at(v1::GetTenantAtRequest { tenant_id: "acme".to_owned(), time: at }).await.unwrap().into_inner();
    let limits = then.entitlements.unwrap().limits;
    let [limit] = limits.as_slice() else { panic!("one limit: {limits:?}") };
    assert!(format!("{limit:?}").contains(&i64::MAX.to_string()), "{limit:?}");
}
