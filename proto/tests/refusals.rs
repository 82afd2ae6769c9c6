//! Requests that are wrong: every field at fault is named by its path, with what was given and what is allowed, all of them at
//! once; and whatever was sent, the error is short enough to arrive.

use std::collections::BTreeMap;

use prost_types::{Duration, Timestamp as ProtoTimestamp};
use tessera_core::ids::TenantId;
use tessera_core::rejection::{Rejection, RejectionKind, Violation};
use tessera_proto::convert::{Fields, catalog, decision, offer, tenant};
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tonic::codegen::http::Response;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What peers accept of a header list at the least (Java's default), with room for the trailers that others add.
const WIRE_LEN_MAX: usize = 7_000;

/// Bytes of the trailers as HTTP/2 counts them: names, values, and 32 for each.
fn wire_len(failure: Failure) -> usize {
    let response: Response<()> = Status::from(failure).into_http();
    response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The fields at fault, in order; each description says what is allowed.
#[track_caller]
fn fields_at_fault<T: std::fmt::Debug>(refused: Result<T, Failure>) -> Vec<String> {
    let status = Status::from(refused.expect_err("a refusal"));
    assert_eq!(status.code(), Code::InvalidArgument);
    let violations = status.get_details_bad_request().expect("field violations").field_violations;
    for violation in &violations {
        let says = ["allowed", "required"].iter().any(|word| violation.description.contains(word));
        assert!(says, "{}: {}", violation.field, violation.description);
    }
    violations.into_iter().map(|violation| violation.field).collect()
}

fn plan(service: &str, grant: v1::ServiceGrant) -> v1::PlanDocument {
    v1::PlanDocument { services: BTreeMap::from([(service.to_owned(), grant)]), ..v1::PlanDocument::default() }
}

fn tenant_document(document: &v1::TenantDocument) -> Result<(), Failure> {
    tenant::document("document", "", Some(document)).map(|_| ())
}

fn good_tenant() -> v1::TenantDocument {
    v1::TenantDocument { tenant_id: "acme".to_owned(), plan_id: "gold".to_owned(), ..v1::TenantDocument::default() }
}

#[test]
fn all_faults_of_a_question_are_named_at_once() {
    let request = v1::CheckEntitlementRequest {
        tenant_id: String::new(),
        service: "Reporting".to_owned(),
        feature: "-exports".to_owned(),
        limit_check: Some(v1::LimitCheck { name: "max users".to_owned(), amount: -1, used: Some(-1) }),
        ..v1::CheckEntitlementRequest::default()
    };
    let wanted = ["tenant_id", "service", "feature", "limit_check.name", "limit_check.amount", "limit_check.used"];
    assert_eq!(fields_at_fault(decision::query(&(&request).into())), wanted);
}

#[test]
fn ids_that_only_look_right_are_refused() {
    let long = "a".repeat(129);
    let strange = ["", " acme", "acme ", "ac\u{0}me", "ac\nme", "асме", "ａｃｍｅ", "acme\u{200b}", "-acme", "ac/me", &long];
    for tenant_id in strange {
        let request = v1::CheckEntitlementRequest {
            tenant_id: tenant_id.to_owned(),
            service: "reporting".to_owned(),
            ..v1::CheckEntitlementRequest::default()
        };
        assert_eq!(fields_at_fault(decision::query(&(&request).into())), ["tenant_id"], "{tenant_id:?}");
        assert_eq!(fields_at_fault(tenant::tenant_id(tenant_id)), ["tenant_id"], "{tenant_id:?}");
    }
}

#[test]
fn documents_of_plans() {
    assert_eq!(fields_at_fault(offer::plan_document(None)), ["document"]);
    let grant = v1::ServiceGrant {
        features: ["exports", "exports", "no good"].map(str::to_owned).to_vec(),
        familiarity_basis_points: 5_001,
    };
    let path = "document.services[\"reporting\"]";
    let wanted = [".familiarity_basis_points", ".features[1]", ".features[2]"].map(|field| format!("{path}{field}"));
    assert_eq!(fields_at_fault(offer::plan_document(Some(&plan("reporting", grant)))), wanted);
    let key = plan("a\"b", v1::ServiceGrant::default());
    assert_eq!(fields_at_fault(offer::plan_document(Some(&key))), ["document.services[\"a\\\"b\"]"]);
    for (value, field) in [
        (None, ""),
        (Some(v1::limit_grant::Value::Maximum(-1)), ".maximum"),
        (Some(v1::limit_grant::Value::Unlimited(false)), ".unlimited"),
    ] {
        let limits = BTreeMap::from([("users".to_owned(), v1::LimitGrant { value })]);
        let document = v1::AddOnDocument { limits, ..v1::AddOnDocument::default() };
        assert_eq!(fields_at_fault(offer::add_on_document(Some(&document))), [format!("document.limits[\"users\"]{field}")]);
    }
}

#[test]
fn lengths_of_trials() {
    let too_long = 3_653 * 86_400 + 1;
    for (seconds, nanos) in [(0, 0), (-1, 0), (0, -1), (1, 1_000_000_000), (too_long, 0), (i64::MIN, 0), (i64::MAX, i32::MAX)] {
        let document = v1::PlanDocument { trial: Some(Duration { seconds, nanos }), ..v1::PlanDocument::default() };
        assert_eq!(fields_at_fault(offer::plan_document(Some(&document))), ["document.trial"], "{seconds} s {nanos} ns");
    }
    let longest = v1::PlanDocument { trial: Some(Duration { seconds: too_long - 1, nanos: 0 }), ..v1::PlanDocument::default() };
    assert!(offer::plan_document(Some(&longest)).is_ok());
}

#[test]
fn documents_of_tenants() {
    let other = tenant::document("document", "other", Some(&good_tenant()));
    assert_eq!(fields_at_fault(other), ["document.tenant_id"]);
    assert_eq!(fields_at_fault(tenant::document("document", "", None)), ["document"]);

    let outside = ProtoTimestamp { seconds: 253_402_300_800, nanos: 0 };
    let add_on = |quantity| v1::AttachedAddOn { add_on_id: "seats".to_owned(), quantity, pinned_version: 0 };
    let suspension = v1::Suspension { reason: "payment".to_owned(), effective_at: None };
    let document = v1::TenantDocument {
        plan_version: -1,
        starts: Some(outside),
        trial_until: Some(ProtoTimestamp { seconds: -1, nanos: 0 }),
        cancel_at: Some(ProtoTimestamp { seconds: 0, nanos: 1_000_000_000 }),
        scheduled: vec![v1::ScheduledChange { plan_id: "silver".to_owned(), ..v1::ScheduledChange::default() }],
        add_ons: vec![add_on(1_000_001), add_on(-1), add_on(1), add_on(2)],
        familiarity_basis_points: BTreeMap::from([("reporting".to_owned(), 0)]),
        suspensions: vec![suspension.clone(), suspension],
        ..good_tenant()
    };
    let wanted = [
        "plan_version",
        "starts",
        "trial_until",
        "cancel_at",
        "scheduled[0].at",
        "add_ons[0].quantity",
        "add_ons[1].quantity",
        "add_ons",
        "familiarity_basis_points[\"reporting\"]",
        "suspensions",
    ];
    assert_eq!(fields_at_fault(tenant_document(&document)), wanted.map(|field| format!("document.{field}")));

    let labels = (0..33).map(|n| (format!("key-{n}"), "value".to_owned())).collect();
    assert_eq!(fields_at_fault(tenant_document(&v1::TenantDocument { labels, ..good_tenant() })), ["document.labels"]);
}

#[test]
fn overrides() {
    let target = |service: &str, feature: &str, limit: &str| {
        Some(v1::OverrideTarget { service: service.to_owned(), feature: feature.to_owned(), limit: limit.to_owned() })
    };
    let value = Some(v1::LimitGrant { value: Some(v1::limit_grant::Value::Maximum(1)) });
    let grant = v1::OverrideEffect::Grant as i32;
    for (target, effect, value, field) in [
        (None, grant, None, "target"),
        (target("", "", ""), grant, None, "target"),
        (target("reporting", "", "users"), grant, None, "target"),
        (target("", "exports", ""), grant, None, "target"),
        (target("", "exports", "users"), 0, value, "target"),
        (target("Reporting", "", ""), grant, None, "target.service"),
        (target("reporting", "Exports", ""), grant, None, "target.feature"),
        (target("reporting", "", ""), 0, None, "effect"),
        (target("reporting", "", ""), 99, None, "effect"),
        (target("reporting", "", ""), grant, value, "value"),
        (target("", "", "users"), grant, value, "effect"),
        (target("", "", "users"), 0, None, "value"),
    ] {
        let set = v1::Override { target, effect, value, until: None, reason: "pilot".to_owned() };
        let mut fields = Fields::new();
        let read = tenant::read_override(&mut fields, "override", &set);
        assert_eq!(fields_at_fault(fields.finish(read)), [format!("override.{field}")], "{set:?}");
    }
    for reason in [String::new(), "x".repeat(201)] {
        let set = v1::Override { target: target("reporting", "", ""), effect: grant, reason, ..v1::Override::default() };
        let mut fields = Fields::new();
        let read = tenant::read_override(&mut fields, "override", &set);
        assert_eq!(fields_at_fault(fields.finish(read)), ["override.reason"]);
    }
}

#[test]
fn services_and_limits() {
    let feature = |id: &str| v1::FeatureDocument { feature_id: id.to_owned(), ..v1::FeatureDocument::default() };
    let request = |features| v1::UpsertServiceRequest {
        service_id: "reporting".to_owned(),
        features,
        ..v1::UpsertServiceRequest::default()
    };
    let refused = catalog::service_document(&request(vec![feature("exports"), feature("Charts"), feature("exports")]));
    assert_eq!(fields_at_fault(refused), ["features[1].feature_id", "features[2].feature_id"]);

    let many = |count: usize| request((0..count).map(|n| feature(&format!("feature-{n}"))).collect());
    assert_eq!(catalog::service_document(&many(5_000)).map(|document| document.features.len()), Ok(5_000));
    let refused = catalog::service_document(&many(5_001)).expect_err("too many");
    assert_eq!(refused.reason(), "TOO_LARGE");
    assert!(refused.message().contains("`5001`") && refused.message().contains("5000"), "{}", refused.message());

    let limit = v1::UpsertLimitRequest { limit_id: "users".to_owned(), period: 9, ..v1::UpsertLimitRequest::default() };
    assert_eq!(fields_at_fault(catalog::limit_document(&limit)), ["period"]);
    assert_eq!(fields_at_fault(catalog::target("Reporting", "-")), ["service_id", "feature_id"]);
    assert_eq!(fields_at_fault(catalog::reason("")), ["reason"]);
}

#[test]
fn errors_arrive_whatever_was_sent() {
    let wild = "\u{10ffff}".repeat(64);
    let million = "x".repeat(1_000_000);
    let grant = v1::ServiceGrant { features: vec![wild.clone(); 30], ..v1::ServiceGrant::default() };
    let question = v1::CheckEntitlementRequest {
        tenant_id: wild.clone(),
        service: wild.clone(),
        feature: wild.clone(),
        limit_check: Some(v1::LimitCheck { name: wild.clone(), amount: -1, used: Some(-1) }),
        ..v1::CheckEntitlementRequest::default()
    };
    let labels = (0..32).map(|n| (format!("{n}{million}"), wild.clone())).collect();
    let wild_fields = |field: usize, description: usize| {
        let wild = |_| Violation { field: "\u{10ffff}".repeat(field), description: "\u{10ffff}".repeat(description) };
        let violations = (0..20).map(wild).collect();
        Rejection { violations, ..Rejection::precondition("AS_LONG_A_REASON_AS_THERE_WILL_EVER_BE", "ä".repeat(10_000)) }
    };
    let failures = [
        wild_fields(1, 1).into(),
        wild_fields(10, 10).into(),
        wild_fields(100, 100).into(),
        Rejection { kind: RejectionKind::NotFound, ..wild_fields(100, 100) }.into(),
        offer::plan_document(Some(&plan("reporting", grant))).expect_err("wild features"),
        offer::plan_document(Some(&plan(&million, v1::ServiceGrant::default()))).expect_err("a long key"),
        offer::plan_document(Some(&plan(&wild, v1::ServiceGrant::default()))).expect_err("a wild key"),
        tenant_document(&v1::TenantDocument { tenant_id: million.clone(), ..good_tenant() }).expect_err("a long id"),
        tenant::document("document", "acme", Some(&v1::TenantDocument { tenant_id: million, ..good_tenant() }))
            .map(|_: (TenantId, _, _)| ())
            .expect_err("another long id"),
        tenant_document(&v1::TenantDocument { labels, ..good_tenant() }).expect_err("long labels"),
        decision::query(&(&question).into()).expect_err("a wild question"),
        Failure::from(Rejection::precondition("PLAN_ARCHIVED", "ä".repeat(10_000))),
        Failure::internal("ä".repeat(10_000)),
    ];
    for failure in failures {
        let status = failure.to_rpc_status();
        assert!(!status.details.is_empty() && status.message.len() <= 500, "{}", status.message);
        let len = wire_len(failure.clone());
        assert!(len <= WIRE_LEN_MAX, "{len} bytes: {}", failure.reason());
    }
}

#[test]
fn violations_that_no_longer_fit_are_counted() {
    let violations = |count: usize| {
        let violation =
            |n| Violation { field: format!("checks[{n}].tenant_id"), description: format!("`{}` is too long", "x".repeat(300)) };
        (0..count).map(violation).collect::<Vec<_>>()
    };
    let status = Status::from(Failure::invalid(violations(20)));
    let named = status.get_details_bad_request().expect("field violations").field_violations;
    let info = status.get_details_error_info().expect("an error info");
    let left_out: usize = info.metadata["violations_left_out"].parse().expect("a number");
    assert!(!named.is_empty());
    assert_eq!(named.len() + left_out, 20);
    assert_eq!(named[0].field, "checks[0].tenant_id");

    let status = Status::from(Failure::invalid(violations(1)));
    assert!(status.get_details_error_info().expect("an error info").metadata.is_empty());
    let named = status.get_details_bad_request().expect("field violations").field_violations;
    assert_eq!(named[0].description, violations(1)[0].description, "what fits is not cut");
}
