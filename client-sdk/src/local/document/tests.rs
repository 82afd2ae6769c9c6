//! Documents that answer, documents that cannot be used, and what is kept once.

use bytes::Bytes;
use tessera_proto::v1;
use tessera_proto::v1::limit_entitlement::Value;

use super::*;

fn service(service: &str, reason: v1::Reason, features: &[(&str, v1::Reason)]) -> v1::ServiceEntitlement {
    let entitles = |reason| matches!(reason, v1::Reason::GrantedByPlan | v1::Reason::GrantedByOverride);
    let feature = |(feature, reason): &(&str, v1::Reason)| v1::FeatureEntitlement {
        feature: (*feature).to_owned(),
        entitled: entitles(*reason),
        reason: (*reason).into(),
        add_on_id: String::new(),
    };
    v1::ServiceEntitlement {
        service: service.to_owned(),
        entitled: entitles(reason),
        reason: reason.into(),
        familiarity_basis_points: if entitles(reason) { 7_500 } else { 0 },
        add_on_id: String::new(),
        features: features.iter().map(feature).collect(),
    }
}

fn limit(limit: &str, value: Value) -> v1::LimitEntitlement {
    v1::LimitEntitlement { limit: limit.to_owned(), value: Some(value) }
}

pub(in crate::local) fn message(tenant: &str) -> v1::TenantEntitlements {
    use v1::Reason::{Disabled, FeatureNotInPlan, GrantedByPlan, ServiceNotInPlan};
    v1::TenantEntitlements {
        tenant_id: tenant.to_owned(),
        plan_id: "gold".to_owned(),
        plan_version: 3,
        status: v1::TenantStatus::Active.into(),
        services: vec![
            service("reporting", GrantedByPlan, &[("charts", FeatureNotInPlan), ("exports", GrantedByPlan), ("mail", Disabled)]),
            service("billing", ServiceNotInPlan, &[]),
        ],
        limits: vec![limit("calls", Value::Unlimited(true)), limit("users", Value::Maximum(10))],
        revision: Bytes::from_static(b"\x01r1"),
        staleness_ms: Some(40),
        ..Default::default()
    }
}

fn compile(compiler: &mut Compiler, message: v1::TenantEntitlements) -> Result<Document, Unusable> {
    compiler.compile(&Message::of_wire(message))
}

fn document() -> Document {
    compile(&mut Compiler::default(), message("acme")).unwrap()
}

fn ask<'a>(service: &'a str, feature: &'a str, limit: Option<(&'a str, i64, Option<i64>)>) -> Asked<'a> {
    let limit = limit.map(|(name, amount, used)| AskedLimit { name, amount, used });
    Asked { tenant_id: "acme", service, feature, limit }
}

#[test]
fn limits_are_decided_exactly() {
    let document = document();
    let table = [
        ("users", 0, None, true, Some(Some(10))),
        ("users", 10, None, true, Some(Some(10))),
        ("users", 11, None, false, Some(Some(10))),
        ("users", 0, Some(10), true, Some(Some(0))),
        ("users", 1, Some(10), false, Some(Some(0))),
        ("users", 0, Some(11), false, Some(Some(0))),
        ("users", i64::MAX, Some(i64::MAX), false, Some(Some(0))),
        ("calls", i64::MAX, Some(i64::MAX), true, Some(None)),
        ("seats", 0, None, false, None),
    ];
    for (name, amount, used, entitled, remaining) in table {
        let verdict = document.verdict(&ask("reporting", "exports", Some((name, amount, used)))).unwrap();
        assert_eq!(verdict.entitled, entitled, "{name} {amount} {used:?}");
        assert_eq!(verdict.limit.map(|limit| limit.remaining()), remaining, "{name} {amount} {used:?}");
        assert_eq!(verdict.familiarity.basis_points, if entitled { 7_500 } else { 0 });
        if let Some(limit) = verdict.limit {
            assert_eq!((document.limit_name(&limit), limit.used), (name, used.unwrap_or(0)));
        }
    }
    // A thrown switch comes before the subscription: nothing is said of limits.
    assert_eq!(document.verdict(&ask("reporting", "mail", Some(("users", 1, None)))).unwrap().limit, None);
    // A denial after it tells the limit, and is not about it.
    let denied = document.verdict(&ask("reporting", "charts", Some(("users", 11, None)))).unwrap();
    assert_eq!(denied.reason, Reason::FEATURE_NOT_IN_PLAN);
    assert_eq!(denied.limit.unwrap().maximum, Some(10));
}

#[test]
fn a_question_that_a_server_would_refuse_is_not_answered() {
    let document = document();
    let bad = [
        ask("Reporting", "", None),
        ask("", "", None),
        ask("reporting", "no such feature", None),
        ask("reporting", "exports", Some(("users", -1, None))),
        ask("reporting", "exports", Some(("users", 1, Some(-1)))),
        ask("reporting", "exports", Some(("", 1, None))),
        ask("reporting", "mail", Some(("NOT A LIMIT", 1, None))),
        ask("nothing", "", Some(("users", -1, None))),
    ];
    for asked in bad {
        assert_eq!(document.verdict(&asked), None, "{asked:?}");
    }
    for (asked, reason) in [
        (ask("nothing", "exports", Some(("users", 1, None))), Reason::SERVICE_UNKNOWN),
        (ask("reporting", "nothing", None), Reason::FEATURE_UNKNOWN),
    ] {
        let verdict = document.verdict(&asked).unwrap();
        assert_eq!((verdict.entitled, verdict.reason, verdict.limit), (false, reason, None));
    }
}

#[test]
fn a_reason_of_a_later_version_is_passed_on_but_says_nothing_of_limits() {
    let mut message = message("acme");
    message.services[0].features[1].reason = 4_711;
    let document = compile(&mut Compiler::default(), message).unwrap();
    let verdict = document.verdict(&ask("reporting", "exports", None)).unwrap();
    assert_eq!((verdict.entitled, verdict.reason), (true, Reason::of_wire(4_711)));
    assert_eq!(document.verdict(&ask("reporting", "exports", Some(("users", 1, None)))), None);
}

#[test]
fn what_is_no_document_is_refused_with_the_reason() {
    type Breaking = fn(&mut v1::TenantEntitlements);
    let broken: [(Breaking, &str); 7] = [
        (|m| m.revision = Bytes::new(), "no revision"),
        (|m| m.services[1].service = "reporting".to_owned(), "a service twice"),
        (|m| m.services[1].service = String::new(), "a service"),
        (|m| m.services[0].features[1].feature = "charts".to_owned(), "a feature twice"),
        (|m| m.services[0].entitled = false, "does not entitle"),
        (|m| m.limits[1].limit = "calls".to_owned(), "a limit twice"),
        (|m| m.limits[1].value = Some(Value::Maximum(-1)), "below zero"),
    ];
    for (break_it, problem) in broken {
        let mut message = message("acme");
        break_it(&mut message);
        let error = compile(&mut Compiler::default(), message).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn tenants_with_the_same_rights_share_them_and_others_do_not() {
    let mut compiler = Compiler::default();
    let first = compile(&mut compiler, message("acme")).unwrap();
    let second = compile(&mut compiler, message("globex")).unwrap();
    assert!(Arc::ptr_eq(&first.entitlements, &second.entitlements));
    let mut other = message("initech");
    other.limits[1].value = Some(Value::Maximum(11));
    let third = compile(&mut compiler, other).unwrap();
    assert!(!Arc::ptr_eq(&first.entitlements, &third.entitlements));
    assert!(Arc::ptr_eq(&first.entitlements.names, &third.entitlements.names));
}

#[test]
fn what_nobody_has_any_more_is_not_kept() {
    let mut compiler = Compiler::default();
    let kept = compile(&mut compiler, message("acme")).unwrap();
    for maximum in 0..10_000 {
        let mut message = message("globex");
        message.limits[1].value = Some(Value::Maximum(maximum));
        message.limits[0].limit = format!("calls-{maximum}");
        drop(compile(&mut compiler, message).unwrap());
    }
    assert!(compiler.entitlements.len() <= 2 * SWEEP_FROM, "{}", compiler.entitlements.len());
    assert!(compiler.names.len() <= 2 * SWEEP_FROM, "{}", compiler.names.len());
    let again = compile(&mut compiler, message("initech")).unwrap();
    assert!(Arc::ptr_eq(&kept.entitlements, &again.entitlements));
}
