//! Held against the messages that are generated from Envoy's own definitions. Above all: no answer without a status, for Envoy
//! takes that for "allowed".

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::google::protobuf::value::Kind;
use prost::Message as _;
use tessera_core::time::Timestamp;

use super::*;
use crate::wire::encode::{AsOf, LimitAnswer};

const OURS: [&str; 6] = [TENANT, PLAN, PLAN_VERSION, FAMILIARITY, REVISION, REASON];

/// What Envoy reads of a decision with that reason.
fn answered(reason: Reason, plan_id: &str, dry_run: bool) -> CheckResponse {
    let as_of = AsOf::new(None, Timestamp::from_seconds(1).unwrap());
    let limit =
        LimitAnswer { name: "max_users", value: tessera_core::value::LimitValue::Unlimited, used: 1, remaining: Some(41) };
    let answer = Answer {
        reason,
        plan_id,
        plan_version: if plan_id.is_empty() { 0 } else { 3 },
        familiarity_basis_points: if reason.entitles() { 7_500 } else { 0 },
        limit: Some(limit),
        valid_until: None,
        revision: &[1, 2, 3],
        as_of: &as_of,
        grace_until: None,
        detail: None,
        explanation: None,
    };
    let mut out = Vec::new();
    decided(&mut out, &About { tenant: "acme", service: "reporting", feature: "exports" }, &answer, dry_run);
    CheckResponse::decode(&*out).unwrap()
}

fn refusal(denial: Denial, dry_run: bool) -> CheckResponse {
    let mut out = Vec::new();
    refused(&mut out, denial, dry_run);
    CheckResponse::decode(&*out).unwrap()
}

/// By name, all of which overwrite in both ways.
fn headers(options: &[HeaderValueOption]) -> BTreeMap<&str, &str> {
    let all: BTreeMap<&str, &str> = options
        .iter()
        .map(|option| {
            #[expect(deprecated, reason = "Envoys of some ages know nothing else")]
            let appends = option.append.as_ref().map(|append| append.value);
            assert_eq!((appends, option.append_action), (Some(false), 2), "{option:?}");
            let header = option.header.as_ref().unwrap();
            assert_eq!(header.key, header.key.to_lowercase());
            (header.key.as_str(), header.value.as_str())
        })
        .collect();
    assert_eq!(all.len(), options.len(), "a header twice");
    all
}

/// Its code; every name that is ours must be set or removed, and never both.
fn allows(response: &CheckResponse) -> BTreeMap<&str, &str> {
    assert_eq!(response.status.as_ref().expect("a status").code, 0);
    let Some(HttpResponse::OkResponse(ok)) = &response.http_response else { panic!("{response:?}") };
    let (set, removed) = (headers(&ok.headers), ok.headers_to_remove.iter().map(String::as_str).collect::<BTreeSet<_>>());
    assert_eq!(ok.headers_to_remove.len(), removed.len());
    for name in OURS {
        assert!(set.contains_key(name) != removed.contains(name), "{name}: {response:?}");
    }
    set
}

fn denies(response: &CheckResponse) -> (i32, BTreeMap<&str, &str>, serde_json::Value) {
    assert_eq!(response.status.as_ref().expect("a status").code, 7);
    let Some(HttpResponse::DeniedResponse(denied)) = &response.http_response else { panic!("{response:?}") };
    let body = serde_json::from_str(&denied.body).expect("JSON");
    (denied.status.as_ref().expect("a status of HTTP").code, headers(&denied.headers), body)
}

fn in_metadata<'a>(response: &'a CheckResponse, name: &str) -> Option<&'a Kind> {
    response.dynamic_metadata.as_ref().expect("metadata").fields.get(name)?.kind.as_ref()
}

#[test]
fn every_reason_is_an_answer_with_a_status() {
    for reason in Reason::ALL {
        for plan in ["gold", ""] {
            let response = answered(reason, plan, false);
            let name = reason_name(reason);
            assert_eq!(in_metadata(&response, "reason"), Some(&Kind::StringValue(name.to_owned())));
            assert_eq!(in_metadata(&response, "entitled"), Some(&Kind::BoolValue(reason.entitles())));
            assert_eq!(in_metadata(&response, "limit"), Some(&Kind::StringValue("max_users".to_owned())));
            assert_eq!(in_metadata(&response, "limit_remaining"), None, "nobody knows what was used");
            if reason.entitles() {
                let set = allows(&response);
                assert_eq!((set[TENANT], set[FAMILIARITY], set[REVISION], set[REASON]), ("acme", "7500", "AQID", name));
                assert_eq!(
                    (set.get(PLAN).copied(), set.get(PLAN_VERSION).copied()),
                    if plan.is_empty() { (None, None) } else { (Some("gold"), Some("3")) }
                );
            } else {
                let (code, set, body) = denies(&response);
                assert_eq!((set["content-type"], set[REASON]), ("application/problem+json", name));
                assert_eq!((body["status"].as_i64(), body["reason"].as_str()), (Some(i64::from(code)), Some(name)));
                let expected = match reason {
                    Reason::TrialEnded | Reason::SubscriptionEnded | Reason::ServiceNotInPlan | Reason::FeatureNotInPlan => 402,
                    Reason::LimitExceeded => 429,
                    _ => 403,
                };
                assert_eq!(code, expected, "{name}");
            }
            let _ = allows(&answered(reason, plan, true));
        }
    }
}

#[test]
fn a_request_that_asks_nothing_is_denied_and_in_a_dry_run_allowed() {
    for denial in Denial::ALL {
        let response = refusal(denial, false);
        let (code, set, body) = denies(&response);
        assert_eq!((code, set[REASON], body["title"].as_str()), (403, denial.name(), Some("Forbidden")));
        let response = refusal(denial, true);
        assert_eq!(allows(&response), BTreeMap::from([(REASON, denial.name())]));
        assert_eq!(in_metadata(&response, "dry_run"), Some(&Kind::BoolValue(true)));
    }
}

#[test]
fn a_long_answer_has_its_whole_length() {
    let long = "p".repeat(20_000);
    let response = answered(Reason::GrantedByPlan, &long, false);
    assert_eq!(allows(&response)[PLAN], long);
}
