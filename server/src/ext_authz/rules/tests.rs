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
    let mut room = String::new();
    let asked = rules.question(&bytes, &mut room).map_err(|error| match error {
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

/// Every source of a tenant that a client writes, and none beside.
fn by_clients() -> Rules {
    rules(json!({
        "tenant": [
            {"from": "header", "name": "x-tenant-id"},
            {"from": "host", "names": {"acme.example.com": "acme"}},
            {"from": "sni", "names": {"acme.example.com": "acme"}},
        ],
        "service": [{"from": "fixed", "value": "reporting"}],
    }))
}

/// Whose certificate it is.
#[expect(clippy::unnecessary_wraps, reason = "messages have it so")]
fn principal(name: &str) -> Option<Peer> {
    Some(Peer { principal: name.to_owned(), ..Peer::default() })
}

/// A verified claim.
fn claim(tenant: &str) -> Option<Metadata> {
    claims(&[("tenant", Kind::StringValue(tenant.to_owned()))])
}

/// The tenant acme in each place that a client writes.
fn said_by_clients() -> [AttributeContext; 3] {
    let tls_session = Some(TlsSession { sni: "acme.example.com".to_owned() });
    [
        attributes(HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), ..get("/") }),
        attributes(HttpRequest { host: "ACME.example.com:8443".to_owned(), ..get("/") }),
        AttributeContext { tls_session, ..attributes(get("/")) },
    ]
}

#[test]
fn a_tenant_is_taken_from_whichever_verified_source_has_one() {
    let rules = of_tenants();
    let acme = || question("acme", "reporting", "");
    let bare = || attributes(get("/"));
    assert_eq!(ask(&rules, bare()), Err(Denial::TenantMissing));
    assert_eq!(ask(&rules, AttributeContext { context_extensions: texts(&[("tenant", "acme")]), ..bare() }), acme());
    assert_eq!(ask(&rules, AttributeContext { metadata_context: claim("acme"), ..bare() }), acme());
    let source = principal("spiffe://mesh.example/tenant/acme");
    assert_eq!(ask(&rules, AttributeContext { source, ..bare() }), acme());
}

#[test]
fn what_a_client_says_decides_where_nothing_else_could_and_is_only_compared_elsewhere() {
    let (clients, all) = (by_clients(), of_tenants());
    assert_eq!(ask(&clients, attributes(get("/"))), Err(Denial::TenantMissing));
    for said in said_by_clients() {
        assert_eq!(ask(&clients, said.clone()), question("acme", "reporting", ""));
        assert_eq!(ask(&all, said.clone()), Err(Denial::TenantMissing), "{said:?}");
        let agreeing = AttributeContext { metadata_context: claim("acme"), ..said.clone() };
        assert_eq!(ask(&all, agreeing), question("acme", "reporting", ""));
        let spoofed = AttributeContext { metadata_context: claim("globex"), ..said };
        assert_eq!(ask(&all, spoofed), Err(Denial::SourcesConflict));
    }
}

#[test]
fn the_order_of_sources_makes_nothing_of_what_a_client_says() {
    let verified = json!({"from": "metadata", "namespace": "envoy.filters.http.jwt_authn", "path": ["payload", "tenant"]});
    let said = json!({"from": "header", "name": "x-tenant-id"});
    let service = json!([{"from": "fixed", "value": "reporting"}]);
    let with = |metadata_context| {
        let http = HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), ..get("/") };
        AttributeContext { metadata_context, ..attributes(http) }
    };
    for tenant in [json!([verified, said]), json!([said, verified])] {
        let rules = rules(json!({"tenant": tenant, "service": service}));
        assert_eq!(ask(&rules, with(None)), Err(Denial::TenantMissing), "{tenant}");
        assert_eq!(ask(&rules, with(claims(&[]))), Err(Denial::TenantMissing), "{tenant}");
        assert_eq!(ask(&rules, with(claim("globex"))), Err(Denial::SourcesConflict), "{tenant}");
        assert_eq!(ask(&rules, with(claim("acme"))), question("acme", "reporting", ""), "{tenant}");
    }
}

#[test]
fn what_is_verified_and_of_no_use_is_not_passed_over_for_another_source() {
    let rules = of_tenants();
    // Somebody else would say who it is.
    let with = |change: &dyn Fn(&mut AttributeContext)| {
        let mut context = AttributeContext { context_extensions: texts(&[("tenant", "acme")]), ..attributes(get("/")) };
        change(&mut context);
        ask(&rules, context)
    };
    assert_eq!(with(&|_| ()), question("acme", "reporting", ""));
    assert_eq!(with(&|context| context.metadata_context = claim("")), Err(Denial::TenantMissing));
    let number = || claims(&[("tenant", Kind::NumberValue(7.0))]);
    assert_eq!(with(&|context| context.metadata_context = number()), Err(Denial::SourceAmbiguous));
    for unknown in [
        "spiffe://other.example/tenant/acme",
        "spiffe://mesh.example/tenant/",
        "spiffe://mesh.example/service/acme",
        "CN=acme",
        "acme",
    ] {
        assert_eq!(with(&|context| context.source = principal(unknown)), Err(Denial::TenantMissing), "{unknown}");
    }
    let context_extensions = texts(&[("tenant", "")]);
    let empty = AttributeContext { context_extensions, metadata_context: claim("acme"), ..attributes(get("/")) };
    assert_eq!(ask(&rules, empty), Err(Denial::TenantMissing));
    // A client that writes nothing into a header has written nothing.
    let headers = texts(&[("x-tenant-id", "")]);
    let context = AttributeContext { metadata_context: claim("acme"), ..attributes(HttpRequest { headers, ..get("/") }) };
    assert_eq!(ask(&rules, context), question("acme", "reporting", ""));
}

#[test]
fn a_certificate_may_be_of_any_of_several_domains() {
    let of = |domain: &str| json!({"from": "principal", "prefix": format!("spiffe://{domain}/tenant/")});
    let rules = rules(json!({
        "tenant": [of("mesh.example"), of("other.example")],
        "service": [{"from": "fixed", "value": "reporting"}],
    }));
    let by = |name: &str| ask(&rules, AttributeContext { source: principal(name), ..attributes(get("/")) });
    for domain in ["mesh.example", "other.example"] {
        assert_eq!(by(&format!("spiffe://{domain}/tenant/acme")), question("acme", "reporting", ""));
    }
    assert_eq!(by("spiffe://third.example/tenant/acme"), Err(Denial::TenantMissing));
}

#[test]
fn what_is_said_twice_or_is_no_text_denies() {
    let rules = by_clients();
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
        assert_eq!(ask(&of_tenants(), context), Err(Denial::SourceAmbiguous));
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
    assert_eq!(ask(&rules, post("/t/acme/exports", &[("x-amount", "1")])), Err(Denial::AmountInvalid), "the client's word alone");
    assert_eq!(ask(&rules, post("/t/acme/invite", &[])), limited("people", "", "max_users", 3));
    assert_eq!(ask(&rules, post("/t/acme/invite", &[("x-amount", "3")])), limited("people", "", "max_users", 3));
    assert_eq!(ask(&rules, post("/t/acme/invite", &[("x-amount", "1")])), Err(Denial::SourcesConflict));
    assert_eq!(ask(&rules, post("/t/acme/reports/7", &[])), Err(Denial::RouteUnknown));
    assert_eq!(ask(&rules, attributes(get("/"))), Err(Denial::RouteUnknown));
    assert_eq!(ask(&rules, attributes(get("/free"))), Err(Denial::TenantMissing));
    for path in ["/t/acme//exports", "/free/../t/acme/exports", "/t/%61cme/exports", "*", "", "http://x/free"] {
        assert_eq!(ask(&rules, attributes(get(path))), Err(Denial::PathNotNormal), "{path}");
    }
}

/// Somebody behind an Envoy that routes by decoded paths serves the export for each of these.
#[test]
fn all_spellings_of_a_path_are_judged_alike() {
    let rules = rules(json!({
        "tenant": [{"from": "header", "name": "x-tenant-id"}],
        "service": [{"from": "fixed", "value": "reporting"}],
        "feature": [{"from": "route"}],
        "routes": [
            {"method": "GET", "path": "/v1/reports:export", "feature": "exports"},
            {"method": "GET", "path": "/v1/{name}", "feature": "basic"},
        ],
    }));
    let by = |path: &str| ask(&rules, attributes(HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), ..get(path) }));
    for path in ["/v1/reports:export", "/v1/reports%3Aexport", "/v1/reports%3aexport?a=%c0%af"] {
        assert_eq!(by(path), question("acme", "reporting", "exports"), "{path}");
    }
    for path in ["/v1/reports", "/v1/reports%40export", "/v1/caf%C3%A9"] {
        assert_eq!(by(path), question("acme", "reporting", "basic"), "{path}");
    }
    for path in ["/v1/reports%c0%ba", "/v1/reports%BAexport", "/v1/%72eports:export"] {
        assert_eq!(by(path), Err(Denial::PathNotNormal), "{path}");
    }
}

/// Clients that escape what they need not are understood.
#[test]
fn a_part_of_a_path_is_taken_for_what_its_escapes_stand_for() {
    let rules = of_routes();
    for path in ["/t/sales@acme/reports/7", "/t/sales%40acme/reports/7"] {
        assert_eq!(ask(&rules, attributes(get(path))), question("sales@acme", "reporting", "custom-reports"), "{path}");
    }
}

/// Where the table has the limits alone, what it does not know would have none.
#[test]
fn what_no_route_is_for_is_denied_whatever_else_names_service_and_feature() {
    let of = |rest: serde_json::Value| {
        let mut routes = vec![json!({"method": "POST", "path": "/exports", "limit": "max_exports"})];
        routes.extend(rest.as_array().unwrap().iter().cloned());
        rules(json!({
            "tenant": [{"from": "header", "name": "x-tenant-id"}],
            "service": [{"from": "fixed", "value": "reporting"}],
            "feature": [{"from": "context_extension", "key": "feature"}],
            "limit": [{"from": "route"}],
            "routes": routes,
        }))
    };
    let by = |rules: &Rules, method: &str, path: &str| {
        let headers = texts(&[("x-tenant-id", "acme")]);
        let http = HttpRequest { method: method.to_owned(), headers, ..get(path) };
        ask(rules, AttributeContext { context_extensions: texts(&[("feature", "exports")]), ..attributes(http) })
    };
    let limited = Ok(("acme".to_owned(), "reporting".to_owned(), "exports".to_owned(), Some(("max_exports".to_owned(), 1))));
    let closed = of(json!([]));
    assert_eq!(by(&closed, "POST", "/exports"), limited);
    for (method, path) in [("GET", "/exports"), ("POST", "/exports/"), ("POST", "/other"), ("POST", "/")] {
        assert_eq!(by(&closed, method, path), Err(Denial::RouteUnknown), "{method} {path}");
    }
    let open = of(json!([{"method": "*", "path": "/"}, {"method": "*", "path": "/{*rest}"}]));
    assert_eq!(by(&open, "POST", "/exports"), limited);
    for (method, path) in [("POST", "/exports/"), ("POST", "/other"), ("POST", "/")] {
        assert_eq!(by(&open, method, path), question("acme", "reporting", "exports"), "{method} {path}");
    }
    assert_eq!(by(&open, "GET", "/exports"), Err(Denial::RouteUnknown), "a template is one place");
}

/// A limit that a route may have, and a client may name beside it.
fn of_limits(amount: &serde_json::Value) -> Rules {
    rules(json!({
        "tenant": [{"from": "header", "name": "x-tenant-id"}],
        "service": [{"from": "fixed", "value": "reporting"}],
        "limit": [{"from": "context_extension", "key": "limit"}, {"from": "header", "name": "x-limit"}],
        "amount": amount,
    }))
}

#[test]
fn a_limit_and_an_amount_are_not_the_clients_to_choose_unless_settings_say_so() {
    let asked = |rules: &Rules, extensions: &[(&str, &str)], headers: &[(&str, &str)]| {
        let headers = [&[("x-tenant-id", "acme")][..], headers].concat();
        let http = HttpRequest { headers: texts(&headers), ..get("/") };
        ask(rules, AttributeContext { context_extensions: texts(extensions), ..attributes(http) }).map(|question| question.3)
    };
    let max_users = |amount: i64| Ok(Some(("max_users".to_owned(), amount)));
    let header = of_limits(&json!([{"from": "header", "name": "x-amount"}]));
    assert_eq!(asked(&header, &[], &[]), Ok(None));
    assert_eq!(asked(&header, &[], &[("x-limit", "max_users")]), Err(Denial::LimitMissing));
    assert_eq!(asked(&header, &[("limit", "")], &[]), Err(Denial::LimitMissing));
    let limited = [("limit", "max_users")];
    assert_eq!(asked(&header, &limited, &[]), max_users(1));
    assert_eq!(asked(&header, &limited, &[("x-limit", "max_users")]), max_users(1));
    assert_eq!(asked(&header, &limited, &[("x-limit", "max_teams")]), Err(Denial::SourcesConflict));
    assert_eq!(asked(&header, &limited, &[("x-amount", "12")]), max_users(12));
    for wrong in ["-1", "1.5", "9223372036854775808", "+1", "٣"] {
        assert_eq!(asked(&header, &limited, &[("x-amount", wrong)]), Err(Denial::AmountInvalid), "{wrong}");
    }
    let fixed = of_limits(&json!([{"from": "fixed", "value": "7"}, {"from": "header", "name": "x-amount"}]));
    assert_eq!(asked(&fixed, &limited, &[]), max_users(7));
    assert_eq!(asked(&fixed, &limited, &[("x-amount", "12")]), Err(Denial::SourcesConflict));
    let great = of_limits(&json!([{"from": "fixed", "value": "5000000000"}]));
    assert_eq!(asked(&great, &limited, &[]), max_users(5_000_000_000));
    let amount = json!([{"from": "context_extension", "key": "amount"}, {"from": "header", "name": "x-amount"}]);
    let extension = of_limits(&amount);
    assert_eq!(asked(&extension, &limited, &[("x-amount", "12")]), Err(Denial::AmountInvalid));
    assert_eq!(asked(&extension, &[("limit", "max_users"), ("amount", "")], &[]), Err(Denial::AmountInvalid));
}

/// Only a table that is asked for features says that a route needs none.
#[test]
fn a_missing_feature_is_forgiven_by_who_is_asked_for_features() {
    let of = |feature: serde_json::Value| {
        rules(json!({
            "tenant": [{"from": "header", "name": "x-tenant-id"}],
            "service": [{"from": "route"}],
            "feature": feature,
            "routes": [{"method": "GET", "path": "/reports", "service": "reporting"}],
        }))
    };
    let by = |headers: &[(&str, &str)]| attributes(HttpRequest { headers: texts(headers), ..get("/reports") });
    let acme = || by(&[("x-tenant-id", "acme")]);
    let extension = json!({"from": "context_extension", "key": "feature"});
    let header = json!({"from": "header", "name": "x-feature"});
    assert_eq!(ask(&of(json!([{"from": "route"}])), acme()), question("acme", "reporting", ""));
    assert_eq!(ask(&of(json!([{"from": "route"}, extension])), acme()), question("acme", "reporting", ""));
    assert_eq!(ask(&of(json!([extension])), acme()), Err(Denial::FeatureMissing));
    assert_eq!(ask(&of(json!([header])), acme()), Err(Denial::FeatureMissing));
    let naming = by(&[("x-tenant-id", "acme"), ("x-feature", "exports")]);
    assert_eq!(ask(&of(json!([{"from": "route"}, header])), naming), Err(Denial::FeatureMissing));
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
    assert_eq!(rules.question(&bytes, &mut String::new()).unwrap_err(), NoQuestion::Denied(Denial::PathNotNormal));
    let rules = by_clients();
    assert_eq!(rules.question(&bytes, &mut String::new()).unwrap_err(), NoQuestion::Denied(Denial::PathNotNormal));
    let http = HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), host: "ZZ".to_owned(), ..get("/") };
    let mut bytes = CheckRequest { attributes: Some(attributes(http)) }.encode_to_vec();
    no_text(&mut bytes);
    assert_eq!(rules.question(&bytes, &mut String::new()).map(|asked| asked.tenant_id), Ok("acme"));
    let rules = of_tenants();
    let context = AttributeContext { metadata_context: claim("ZZ"), ..attributes(get("/")) };
    let mut bytes = CheckRequest { attributes: Some(context) }.encode_to_vec();
    no_text(&mut bytes);
    assert_eq!(rules.question(&bytes, &mut String::new()).unwrap_err(), NoQuestion::Denied(Denial::SourceAmbiguous));
}

#[test]
fn a_service_or_a_feature_that_nobody_names_denies() {
    let rules = rules(json!({
        "tenant": [{"from": "context_extension", "key": "tenant"}],
        "service": [{"from": "context_extension", "key": "service"}],
        "feature": [{"from": "route_metadata", "namespace": "tessera", "path": ["feature"]}],
    }));
    let with = |entries: &[(&str, &str)]| AttributeContext { context_extensions: texts(entries), ..attributes(get("/")) };
    assert_eq!(ask(&rules, with(&[("tenant", "acme")])), Err(Denial::ServiceMissing));
    assert_eq!(ask(&rules, with(&[("tenant", "acme"), ("service", "")])), Err(Denial::ServiceMissing));
    assert_eq!(ask(&rules, with(&[("tenant", "acme"), ("service", "reporting")])), Err(Denial::FeatureMissing));
    let fields = HashMap::from([("feature".to_owned(), Value { kind: Some(Kind::StringValue("exports".to_owned())) })]);
    let filter_metadata = HashMap::from([("tessera".to_owned(), Struct { fields })]);
    let route_metadata_context = Some(Metadata { filter_metadata, ..Metadata::default() });
    let context = AttributeContext { route_metadata_context, ..with(&[("tenant", "acme"), ("service", "reporting")]) };
    assert_eq!(ask(&rules, context), question("acme", "reporting", "exports"));
}

/// Envoy has found its route by the path as it came, and the service may take it for another one.
#[test]
fn a_path_that_is_not_normal_denies_without_a_table_too() {
    let rules = by_clients();
    let by = |path: &str| ask(&rules, attributes(HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), ..get(path) }));
    for path in ["/custom-reports/../exports", "//exports", "/custom-reports/..%2Fexports", "/%65xports", "/a;b", "*", "?x"] {
        assert_eq!(by(path), Err(Denial::PathNotNormal), "{path}");
    }
    // CONNECT has none.
    for path in ["/custom-reports?of=//../us", "/", ""] {
        assert_eq!(by(path), question("acme", "reporting", ""), "{path}");
    }
}

#[test]
fn what_routes_say_and_nobody_asks_is_refused() {
    let refused = |column: &str, value: serde_json::Value, more: serde_json::Value| {
        let mut all = json!({
            "tenant": [{"from": "header", "name": "x-tenant-id"}],
            "service": [{"from": "path_parameter", "name": "service"}],
            "routes": [{"method": "GET", "path": "/{service}"}],
        });
        assert!(settings(all.clone()).rules().is_ok());
        for (field, sources) in more.as_object().unwrap() {
            all[field] = sources.clone();
        }
        all["routes"][0][column] = value;
        refusal(all)
    };
    let header = json!([{"from": "header", "name": "x-other"}]);
    for column in ["service", "feature", "limit"] {
        let expected = format!(
            "`ext_authz.routes.{column} of `GET /{{service}}`` is `exports`; allowed is none, or a source `route` of \
             `ext_authz.{column}`"
        );
        assert_eq!(refused(column, json!("exports"), json!({})), expected);
        if column != "service" {
            assert_eq!(refused(column, json!("exports"), json!({column: header})), expected);
        }
    }
    assert!(refused("amount", json!(3), json!({})).contains("is `3`; allowed is none, or a source `route` of `ext_authz.limit`"));
    let asked_elsewhere = refused("amount", json!(3), json!({"limit": header, "amount": header}));
    assert!(asked_elsewhere.contains("is `3`; allowed is none, or a source `route` of `ext_authz.amount`"), "{asked_elsewhere}");
    // Where a limit is asked for, and nobody else says how much of it, the table does.
    let rules = rules(json!({
        "tenant": [{"from": "header", "name": "x-tenant-id"}],
        "service": [{"from": "fixed", "value": "reporting"}],
        "limit": [{"from": "route"}],
        "routes": [{"method": "GET", "path": "/", "limit": "max_users", "amount": 3}],
    }));
    let http = HttpRequest { headers: texts(&[("x-tenant-id", "acme")]), ..get("/") };
    assert_eq!(ask(&rules, attributes(http)).unwrap().3, Some(("max_users".to_owned(), 3)));
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
    for wrong in ["", "+5", "-5", "1.5", "9223372036854775808"] {
        let amounts = [json!([{"from": "fixed", "value": wrong}]), json!([{"from": "host", "names": {"a.example": wrong}}])];
        for amount in amounts {
            let refusal = with("amount", amount);
            assert!(refusal.contains(&format!("is `{wrong}`; allowed is a good name or number: digits alone")), "{refusal}");
        }
    }
    let unknown = serde_json::from_value::<Settings>(json!({"tenant": [{"from": "cookie"}]})).unwrap_err().to_string();
    assert!(unknown.contains("unknown variant `cookie`"), "{unknown}");
    assert!(
        serde_json::from_value::<Settings>(json!({"allow": true})).unwrap_err().to_string().contains("unknown field `allow`")
    );
}
