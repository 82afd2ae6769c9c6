//! The same questions as an Envoy asks them: about a kilobyte of a request that a browser might send, with the tenant in a claim
//! that was verified and the feature at the route.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use crate::scenario::Question;

/// What a server is to be told, behind its other settings.
pub const SETTINGS: &str = r#"
[server.ext_authz]
tenant = [{ from = "metadata", namespace = "envoy.filters.http.jwt_authn", path = ["payload", "tenant"] }]
service = [{ from = "context_extension", key = "service" }]
feature = [{ from = "context_extension", key = "feature" }]
"#;

/// Where it is asked.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Headers of a request, as a browser sends them.
const HEADERS: [(&str, &str); 13] = [
    (":authority", "reports.shop.example"),
    (":method", "GET"),
    (":path", "/reports/2026/07?columns=region,amount&sort=amount"),
    (":scheme", "https"),
    ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("referer", "https://reports.shop.example/reports/2026/06?columns=region,amount&sort=amount"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-request-id", "0f5a2c1e-8f3b-4a38-9d5e-2b7a9c1d6e40"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
];

/// The question as a message of Envoy.
pub fn request(question: &Question) -> CheckRequest {
    let text = |text: String| Value { kind: Some(Kind::StringValue(text)) };
    let asked = question.message();
    let claims = [("iss", "https://idp.example".to_owned()), ("sub", "user-4711".to_owned()), ("tenant", asked.tenant_id)];
    let payload = Struct { fields: claims.into_iter().map(|(name, claim)| (name.to_owned(), text(claim))).collect() };
    let payload = HashMap::from([("payload".to_owned(), Value { kind: Some(Kind::StructValue(payload)) })]);
    let verified = HashMap::from([("envoy.filters.http.jwt_authn".to_owned(), Struct { fields: payload })]);
    let header = |(key, value): (&str, &str)| HeaderValue {
        key: key.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let http = HttpRequest {
        id: "12994837462553".to_owned(),
        method: "GET".to_owned(),
        path: HEADERS[2].1.to_owned(),
        host: HEADERS[0].1.to_owned(),
        scheme: "https".to_owned(),
        protocol: "HTTP/2".to_owned(),
        header_map: Some(HeaderMap { headers: HEADERS.into_iter().map(header).collect() }),
        ..HttpRequest::default()
    };
    let extensions = [("service", asked.service), ("feature", asked.feature)];
    let attributes = AttributeContext {
        source: Some(Peer { principal: "spiffe://mesh.example/ns/edge/sa/gateway".to_owned(), ..Peer::default() }),
        request: Some(Request { time: None, http: Some(http) }),
        context_extensions: extensions.map(|(name, value)| (name.to_owned(), value)).into(),
        metadata_context: Some(Metadata { filter_metadata: verified, ..Metadata::default() }),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

/// Whether Envoy would let the request pass.
pub fn allows(response: &CheckResponse) -> bool {
    response.status.as_ref().is_none_or(|status| status.code == 0)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tessera_ports::memory::SplitMix64;

    use super::*;

    #[test]
    fn a_request_is_about_a_kilobyte() {
        let question = Question::draw(&mut SplitMix64::new(1), 1_000);
        let len = request(&question).encoded_len();
        assert!((950..1_100).contains(&len), "{len}");
    }
}
