//! Every source and every way in which a request can fail to ask.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request as Around, TlsSession};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::ext_authz::settings::Refused;

fn settings(settings: serde_json::Value) -> Settings {
    serde_json::from_value(settings).unwrap()
}

fn rules(settings: serde_json::Value) -> Rules {
    self::settings(settings).rules().unwrap()
}

fn refusal(settings: serde_json::Value) -> String {
    match self::settings(settings).rules() {
        Err(refused @ (Refused::NoSource(_) | Refused::Field { .. } | Refused::SameRoute { .. } | Refused::Table(_))) => {
            refused.to_string()
        }
        Ok(_) => panic!("settings that are not refused"),
    }
}

/// A GET of that path on api.example.com.
fn get(path: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".to_owned(),
        path: path.to_owned(),
        host: "API.example.com:443".to_owned(),
        ..HttpRequest::default()
    }
}

fn attributes(http: HttpRequest) -> AttributeContext {
    AttributeContext { request: Some(Around { time: None, http: Some(http) }), ..AttributeContext::default() }
}

/// Tenant, service, feature, limit and amount that are asked for.
type Question = (String, String, String, Option<(String, i64)>);

fn ask(rules: &Rules, attributes: AttributeContext) -> Result<Question, Denial> {
    let bytes = CheckRequest { attributes: Some(attributes) }.encode_to_vec();
    let asked = rules.question(&bytes).map_err(|error| match error {
        NoQuestion::Denied(denial) => denial,
        NoQuestion::Malformed => panic!("a generated message is not malformed"),
    })?;
    let limit = asked.limit.map(|limit| (limit.name.to_owned(), limit.amount));
    Ok((asked.tenant_id.to_owned(), asked.service.to_owned(), asked.feature.to_owned(), limit))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may be a denial")]
fn question(tenant: &str, service: &str, feature: &str) -> Result<Question, Denial> {
    Ok((tenant.to_owned(), service.to_owned(), feature.to_owned(), None))
}

fn texts(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "messages have it so")]
fn claims(entries: &[(&str, Kind)]) -> Option<Metadata> {
    let value = |kind: &Kind| Value { kind: Some(kind.clone()) };
    let payload = Struct { fields: entries.iter().map(|(name, kind)| ((*name).to_owned(), value(kind))).collect() };
    let fields = HashMap::from([("payload".to_owned(), value(&Kind::StructValue(payload)))]);
    let filter_metadata = HashMap::from([("envoy.filters.http.jwt_authn".to_owned(), Struct { fields })]);
    Some(Metadata { filter_metadata, ..Metadata::default() })
}

/// Every source of a tenant, and a fixed service.
fn of_tenants() -> Rules {
    rules(json!({
        "tenant": [
            {"from": "context_extension", "key": "tenant"},
            {"from": "metadata", "namespace": "envoy.filters.http.jwt_authn", "path": ["payload", "tenant"]},
            {"from": "principal", "prefix": "spiffe://mesh.example/tenant/"},
            {"from": "header", "name": "x-tenant-id"},
            {"from": "host", "names": {"acme.example.com": "acme"}},
            {"from": "sni", "names": {"acme.example.com": "acme"}},
        ],
        "service": [{"from": "fixed", "value": "reporting"}],
    }))
}

#[test]
fn a_tenant_is_taken_from_whichever_source_has_one() {
    let rules = of_tenants();
    let acme = || question("acme", "reporting", "");
    let bare = || attributes(get("/"));
    assert_eq!(ask(&rules, bare()), Err(Denial::TenantMissing));
    assert_eq!(ask(&rules, AttributeContext { context_extensions: texts(&[("tenant", "acme")]), ..bare() }), acme());
    let verified = claims(&[("tenant", Kind::StringValue("acme".to_owned()))]);
    assert_eq!(ask(&rules, AttributeContext { metadata_context: verified, ..bare() }), acme());
    let source = Some(Peer { principal: "spiffe://mesh.example/tenant/acme".to_owned(), ..Peer::default() });
    assert_eq!(ask(&rules, AttributeContext { source, ..bare() }), acme());
    let other = Some(Peer { principal: "spiffe://other.example/tenant/acme".to_owned(), ..Peer::default() });
    assert_eq!(ask(&rules, AttributeContext { source: other, ..bare() }), Err(Denial::TenantMissing));
    assert_eq!(ask(&rules, attributes(HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), ..get("/") })), acme());
    assert_eq!(ask(&rules, attributes(HttpRequest { host: "ACME.example.com:8443".to_owned(), ..get("/") })), acme());
    let tls_session = Some(TlsSession { sni: "acme.example.com".to_owned() });
    assert_eq!(ask(&rules, AttributeContext { tls_session, ..bare() }), acme());
}

#[test]
fn sources_that_contradict_each_other_deny() {
    let rules = of_tenants();
    let spoofed = HttpRequest { headers: texts(&[("x-tenant-id", "globex")]), ..get("/") };
    let verified = || claims(&[("tenant", Kind::StringValue("acme".to_owned()))]);
    let context = AttributeContext { metadata_context: verified(), ..attributes(spoofed) };
    assert_eq!(ask(&rules, context), Err(Denial::SourcesConflict));
    let agreeing = HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), ..get("/") };
    assert_eq!(
        ask(&rules, AttributeContext { metadata_context: verified(), ..attributes(agreeing) }),
        question("acme", "reporting", "")
    );
}

#[test]
fn what_is_said_twice_or_is_no_text_denies() {
    let rules = of_tenants();
    let joined = HttpRequest { headers: texts(&[("x-tenant-id", "acme,globex")]), ..get("/") };
    assert_eq!(ask(&rules, attributes(joined)), Err(Denial::SourceAmbiguous));
    let raw = |values: &[&[u8]]| {
        let header =
            |value: &&[u8]| HeaderValue { key: "X-Tenant-Id".to_owned(), raw_value: value.to_vec(), ..HeaderValue::default() };
        let header_map = Some(HeaderMap { headers: values.iter().map(header).collect() });
        attributes(HttpRequest { header_map, ..get("/") })
    };
    assert_eq!(ask(&rules, raw(&[b"acme"])), question("acme", "reporting", ""));
    assert_eq!(ask(&rules, raw(&[b"acme", b"globex"])), Err(Denial::SourceAmbiguous));
    assert_eq!(ask(&rules, raw(&[b"acme", b"acme"])), Err(Denial::SourceAmbiguous));
    assert_eq!(ask(&rules, raw(&[b"ac\xffme"])), Err(Denial::SourceAmbiguous));
    for kind in [Kind::NumberValue(7.0), Kind::BoolValue(true)] {
        let context = AttributeContext { metadata_context: claims(&[("tenant", kind)]), ..attributes(get("/")) };
        assert_eq!(ask(&rules, context), Err(Denial::SourceAmbiguous));
    }
}

/// A table, and the tenant in the path.
fn of_routes() -> Rules {
    rules(json!({
        "tenant": [{"from": "path_parameter", "name": "tenant"}, {"from": "header", "name": "x-tenant-id"}],
        "service": [{"from": "route"}],
        "feature": [{"from": "route"}],
        "limit": [{"from": "route"}],
        "amount": [{"from": "route"}, {"from": "header", "name": "x-amount"}],
        "routes": [
            {"method": "GET", "path": "/t/{tenant}/reports/{id}", "service": "reporting", "feature": "custom-reports"},
            {"method": "POST", "path": "/t/{tenant}/exports", "service": "reporting", "feature": "exports", "limit": "max_exports"},
            {"method": "*", "path": "/t/{tenant}/invite", "service": "people", "limit": "max_users", "amount": 3},
            {"method": "*", "path": "/free", "service": "people"},
        ],
    }))
}

#[test]
fn a_table_says_what_a_method_and_a_path_ask_for() {
    let rules = of_routes();
    assert_eq!(ask(&rules, attributes(get("/t/acme/reports/7?x=/../y"))), question("acme", "reporting", "custom-reports"));
    let post = |path: &str, headers: &[(&str, &str)]| {
        attributes(HttpRequest { method: "POST".to_owned(), headers: texts(headers), ..get(path) })
    };
    let limited = |service: &str, feature: &str, limit: &str, amount: i64| {
        Ok(("acme".to_owned(), service.to_owned(), feature.to_owned(), Some((limit.to_owned(), amount))))
    };
    assert_eq!(ask(&rules, post("/t/acme/exports", &[])), limited("reporting", "exports", "max_exports", 1));
    assert_eq!(ask(&rules, post("/t/acme/exports", &[("x-amount", "12")])), limited("reporting", "exports", "max_exports", 12));
    assert_eq!(ask(&rules, post("/t/acme/invite", &[])), limited("people", "", "max_users", 3));
    assert_eq!(ask(&rules, post("/t/acme/invite", &[("x-amount", "1")])), Err(Denial::SourcesConflict));
    for wrong in ["-1", "1.5", "9223372036854775808", "+1", "٣"] {
        assert_eq!(ask(&rules, post("/t/acme/exports", &[("x-amount", wrong)])), Err(Denial::AmountInvalid), "{wrong}");
    }
    assert_eq!(ask(&rules, post("/t/acme/reports/7", &[])), Err(Denial::RouteUnknown));
    assert_eq!(ask(&rules, attributes(get("/"))), Err(Denial::RouteUnknown));
    assert_eq!(ask(&rules, attributes(get("/free"))), Err(Denial::TenantMissing));
    for path in ["/t/acme//exports", "/free/../t/acme/exports", "/t/%61cme/exports", "*", "", "http://x/free"] {
        assert_eq!(ask(&rules, attributes(get(path))), Err(Denial::PathNotNormal), "{path}");
    }
}

/// Puts bytes that are no text where two letters stand.
fn no_text(bytes: &mut [u8]) {
    while let Some(place) = bytes.windows(2).position(|two| two == b"ZZ") {
        bytes[place..place + 2].fill(0xff);
    }
}

/// An Envoy that passes on what a client wrote, byte by byte, must not get an error for it.
#[test]
fn what_is_no_text_denies_and_does_not_fail() {
    let rules = of_routes();
    let http = HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), host: "ZZ".to_owned(), ..get("/free/ZZ") };
    let mut bytes = CheckRequest { attributes: Some(attributes(http)) }.encode_to_vec();
    no_text(&mut bytes);
    assert_eq!(rules.question(&bytes).unwrap_err(), NoQuestion::Denied(Denial::PathNotNormal));
    let rules = of_tenants();
    assert_eq!(rules.question(&bytes).map(|asked| asked.tenant_id), Ok("acme"));
    let claim = claims(&[("tenant", Kind::StringValue("ZZ".to_owned()))]);
    let mut bytes =
        CheckRequest { attributes: Some(AttributeContext { metadata_context: claim, ..attributes(get("/")) }) }.encode_to_vec();
    no_text(&mut bytes);
    assert_eq!(rules.question(&bytes).unwrap_err(), NoQuestion::Denied(Denial::SourceAmbiguous));
}

#[test]
fn a_service_or_a_feature_that_nobody_names_denies() {
    let rules = rules(json!({
        "tenant": [{"from": "context_extension", "key": "tenant"}],
        "service": [{"from": "context_extension", "key": "service"}],
        "feature": [{"from": "route_metadata", "namespace": "tessera", "path": ["feature"]}],
    }));
    let with =
        |entries: &[(&str, &str)]| AttributeContext { context_extensions: texts(entries), ..attributes(get("//not-looked-at")) };
    assert_eq!(ask(&rules, with(&[("tenant", "acme")])), Err(Denial::ServiceMissing));
    assert_eq!(ask(&rules, with(&[("tenant", "acme"), ("service", "")])), Err(Denial::ServiceMissing));
    assert_eq!(ask(&rules, with(&[("tenant", "acme"), ("service", "reporting")])), Err(Denial::FeatureMissing));
    let fields = HashMap::from([("feature".to_owned(), Value { kind: Some(Kind::StringValue("exports".to_owned())) })]);
    let filter_metadata = HashMap::from([("tessera".to_owned(), Struct { fields })]);
    let route_metadata_context = Some(Metadata { filter_metadata, ..Metadata::default() });
    let context = AttributeContext { route_metadata_context, ..with(&[("tenant", "acme"), ("service", "reporting")]) };
    assert_eq!(ask(&rules, context), question("acme", "reporting", "exports"));
}

#[test]
fn wrong_settings_are_refused_by_field_value_and_what_is_allowed() {
    let header = json!([{"from": "header", "name": "x-tenant-id"}]);
    let service = json!([{"from": "fixed", "value": "reporting"}]);
    let with = |field: &str, value: serde_json::Value| {
        let mut all = json!({"tenant": header, "service": service});
        all[field] = value;
        refusal(all)
    };
    assert_eq!(refusal(json!({"service": service})), "`ext_authz.tenant` has no source; allowed is one at least");
    assert_eq!(refusal(json!({"tenant": header})), "`ext_authz.service` has no source; allowed is one at least");
    let upper = json!([{"from": "header", "name": "X-Tenant"}]);
    assert_eq!(with("tenant", upper), "`ext_authz.tenant.name` is `X-Tenant`; allowed is a header in lower case");
    assert!(
        with("service", json!([{"from": "fixed", "value": "No Such"}]))
            .starts_with("`ext_authz.service.value` is `No Such`; allowed is a good name")
    );
    assert!(
        with("tenant", json!([{"from": "route"}])).contains("`ext_authz.tenant.from` is `route`; allowed is any other source")
    );
    assert!(with("feature", json!([{"from": "route"}])).contains("`ext_authz.routes` is empty, and a source asks it"));
    let table = json!([{"method": "GET", "path": "/a", "service": "reporting"}]);
    assert!(with("routes", table).contains("`ext_authz.routes` is asked by no source"));
    assert!(
        with("feature", json!([{"from": "path_parameter", "name": "id"}]))
            .contains("`ext_authz.feature.name` is `id`; allowed is the name of a `{…}`")
    );
    assert!(with("tenant", json!([{"from": "metadata", "namespace": "n", "path": []}])).contains("allowed is one name at least"));
    assert!(with("tenant", json!([{"from": "host", "names": {"A.example": "acme"}}])).contains("names in lower case"));
    let unknown = serde_json::from_value::<Settings>(json!({"tenant": [{"from": "cookie"}]})).unwrap_err().to_string();
    assert!(unknown.contains("unknown variant `cookie`"), "{unknown}");
    assert!(
        serde_json::from_value::<Settings>(json!({"allow": true})).unwrap_err().to_string().contains("unknown field `allow`")
    );
}
