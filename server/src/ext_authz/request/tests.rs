//! Held against the messages that are generated from Envoy's own definitions.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request as Around, TlsSession};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn texts() -> impl Strategy<Value = HashMap<String, String>> {
    proptest::collection::hash_map("[a-c]{1,2}", "[a-z,é]{0,3}", 0..4)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[a-z]{0,3}".prop_map(Kind::StringValue),
        any::<bool>().prop_map(Kind::BoolValue),
        any::<f64>().prop_map(Kind::NumberValue),
    ];
    let kind = leaf.prop_recursive(2, 8, 3, |inner| {
        proptest::collection::hash_map("[a-b]", inner, 0..3).prop_map(|fields| {
            let fields = fields.into_iter().map(|(name, kind)| (name, Value { kind: Some(kind) })).collect();
            Kind::StructValue(Struct { fields })
        })
    });
    kind.prop_map(|kind| Value { kind: Some(kind) })
}

fn metadata() -> impl Strategy<Value = Option<Metadata>> {
    let structs = proptest::collection::hash_map("[a-b]", value(), 0..3).prop_map(|fields| Struct { fields });
    let all = proptest::collection::hash_map("[m-n]", structs, 0..3);
    proptest::option::of(all.prop_map(|filter_metadata| Metadata { filter_metadata, ..Metadata::default() }))
}

prop_compose! {
    fn http()(
        method in "[A-Z]{0,4}", path in "[/a?%]{0,5}", host in "[a-z.:0-9]{0,6}", headers in texts(),
        raw in proptest::collection::vec(("[a-cA-C]{1,2}", "[a-z,]{0,3}", any::<bool>()), 0..4), body in "[a-z]{0,4}", size: i64,
    ) -> HttpRequest {
        let raw = raw.into_iter().map(|(key, value, bytes)| {
            if bytes { HeaderValue { key, raw_value: value.into_bytes(), ..HeaderValue::default() } } else { HeaderValue { key, value, ..HeaderValue::default() } }
        });
        let header_map = Some(HeaderMap { headers: raw.collect() });
        HttpRequest { method, path, host, headers, header_map, body, size, ..HttpRequest::default() }
    }
}

prop_compose! {
    fn check()(
        http in proptest::option::of(http()), extensions in texts(), principal in "[a-z:/]{0,5}", sni in "[a-z.]{0,5}",
        metadata_context in metadata(), route_metadata_context in metadata(),
    ) -> CheckRequest {
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(Peer { principal, service: "s".to_owned(), ..Peer::default() }),
                request: Some(Around { time: None, http }),
                context_extensions: extensions,
                metadata_context,
                route_metadata_context,
                tls_session: Some(TlsSession { sni }),
                ..AttributeContext::default()
            }),
        }
    }
}

/// What a look-up of a header must say.
fn expected_header<'a>(http: &'a HttpRequest, name: &str) -> Found<'a> {
    let raw = http.header_map.iter().flat_map(|map| &map.headers).filter(|header| header.key.eq_ignore_ascii_case(name));
    let raw: Vec<&str> = raw
        .map(
            |header| if header.raw_value.is_empty() { header.value.as_str() } else { str::from_utf8(&header.raw_value).unwrap() },
        )
        .collect();
    if raw.len() > 1 {
        return Err(Trouble::Ambiguous);
    }
    let mut all: Vec<&str> = http.headers.get(name).map(String::as_str).into_iter().chain(raw).collect();
    all.dedup();
    match all.as_slice() {
        [] => Ok(None),
        [one] if !one.contains(',') => Ok(Some(one)),
        _ => Err(Trouble::Ambiguous),
    }
}

/// What a look-up in metadata must say.
fn expected_metadata<'a>(metadata: Option<&'a Metadata>, namespace: &str, path: &[String]) -> Found<'a> {
    let Some(mut inner) = metadata.and_then(|metadata| metadata.filter_metadata.get(namespace)) else { return Ok(None) };
    for (place, name) in path.iter().enumerate() {
        let Some(value) = inner.fields.get(name) else { return Ok(None) };
        match (&value.kind, place + 1 == path.len()) {
            (Some(Kind::StringValue(text)), true) => return Ok(Some(text)),
            (Some(Kind::StructValue(fields)), false) => inner = fields,
            _ => return Err(Trouble::Ambiguous),
        }
    }
    Ok(None)
}

proptest! {
    #[test]
    fn reads_what_was_generated(check in check()) {
        let bytes = check.encode_to_vec();
        let read = Request::read(&bytes).expect("a good message");
        let attributes = check.attributes.as_ref().unwrap();
        let http = attributes.request.as_ref().unwrap().http.clone().unwrap_or_default();
        prop_assert_eq!((read.method, read.target, read.host), (&*http.method, &*http.path, &*http.host));
        prop_assert_eq!(read.principal, &attributes.source.as_ref().unwrap().principal);
        prop_assert_eq!(read.sni, &attributes.tls_session.as_ref().unwrap().sni);
        for name in ["a", "b", "c", "aa", "ab"] {
            let extension = attributes.context_extensions.get(name).map(String::as_str);
            prop_assert_eq!(read.extension(name), Ok(extension));
            prop_assert_eq!(read.header(name), expected_header(&http, name));
            for path in [vec![name.to_owned()], vec![name.to_owned(), "b".to_owned()]] {
                let expected = expected_metadata(attributes.metadata_context.as_ref(), "m", &path);
                prop_assert_eq!(read.metadata("m", &path), expected);
                let expected = expected_metadata(attributes.route_metadata_context.as_ref(), "n", &path);
                prop_assert_eq!(read.route_metadata("n", &path), expected);
            }
        }
    }

    /// No bytes make it panic, and what Envoy's own definitions do not take is not taken either, as far as it is looked at.
    #[test]
    fn anything_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..80), check in check(), at: usize, bit in 0..8_u32) {
        let mut flipped = check.encode_to_vec();
        if !flipped.is_empty() {
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
        }
        for bytes in [bytes, flipped] {
            if let Some(read) = Request::read(&bytes) {
                let path = ["a".to_owned(), "b".to_owned()];
                let _ = (read.extension("a"), read.header("a"), read.metadata("m", &path), read.path(), read.host_name());
            }
        }
    }
}

#[test]
fn a_part_that_comes_twice_is_no_message_of_envoy() {
    let check =
        CheckRequest { attributes: Some(AttributeContext { source: Some(Peer::default()), ..AttributeContext::default() }) };
    let bytes = check.encode_to_vec();
    assert!(Request::read(&bytes).is_some());
    assert_eq!(Request::read(&[bytes.clone(), bytes].concat()), None);
}

#[test]
fn hosts_lose_their_port_and_the_dot_of_the_root() {
    for (host, name) in [
        ("api.example.com", "api.example.com"),
        ("api.example.com:8080", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ] {
        assert_eq!(Request { host, ..Request::default() }.host_name(), name);
    }
}
