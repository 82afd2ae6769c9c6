//! Bytes that are no message, and messages that say more than this version knows.

use bytes::Bytes;
use tessera_proto::v1;
use tonic::body::Body;
use tonic::codegen::{Service as _, http};
use tonic::{Code, Status};

use super::rpc::{Refusal, Rpc, Said, bench};
use crate::bench::{Bench, check};

#[tokio::test(start_paused = true)]
async fn garbage_is_refused_as_no_message() {
    let bench = bench().await;
    for (what, bytes) in [
        ("text", b"GET / HTTP/1.1\r\n".to_vec()),
        ("field 0", vec![0, 0]),
        ("a wire type that there is not", vec![0x0f, 1]),
        ("a length beyond the end", vec![0x0a, 0x7f, 0x61]),
        ("a number without end", vec![0xff; 11]),
        ("the end of a group that did not begin", vec![0x0c]),
    ] {
        for rpc in Rpc::ALL {
            let refusal = Refusal::of(&rpc.send(&bench, bytes.clone().into()).await.unwrap_err());
            assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{rpc:?} of {what}");
            let [(field, description)] = &refusal.violations[..] else { panic!("{refusal:?}") };
            assert_eq!(field, "request");
            assert!(description.starts_with("the bytes are not the message of this method: "), "{description}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn text_that_is_not_utf_8_is_refused_with_its_field() {
    let bench = bench().await;
    for (rpc, bytes, field) in [
        (Rpc::Check, vec![0x0a, 1, 0xff], "CheckEntitlementRequest.tenant_id"),
        (Rpc::Check, vec![0x12, 2, 0xc3, 0x28], "CheckEntitlementRequest.service"),
        (Rpc::Batch, vec![0x0a, 3, 0x0a, 1, 0x80], "CheckEntitlementRequest.tenant_id"),
        (Rpc::Stream, vec![0x12, 3, 0x0a, 1, 0x80], "CheckEntitlementRequest.tenant_id"),
        (Rpc::List, vec![0x0a, 1, 0xfe], "ListEntitlementsRequest.tenant_id"),
        (Rpc::Watch, vec![0x0a, 3, 0x0a, 1, 0xfe], "Subscribe.tenant_id"),
    ] {
        let refusal = Refusal::of(&rpc.send(&bench, bytes.into()).await.unwrap_err());
        assert_eq!(refusal.reason, "INVALID_FIELD", "{rpc:?}");
        assert!(refusal.message.contains(field) && refusal.message.contains("UTF-8"), "{rpc:?}: {}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn fields_that_nobody_knows_are_ignored() {
    let bench = bench().await;
    // A number, a text and a message in field 15, and a text in field 536,870,911, the last there can be.
    let more = [&[0x78, 1][..], &[0x7a, 1, 0xff], &[0x7a, 2, 8, 1], &[0xfa, 0xff, 0xff, 0xff, 0x0f, 1, 0xff]].concat();
    for rpc in Rpc::ALL {
        let known = rpc.ask(&bench, check("acme", "reports", "view")).await;
        let mut message = rpc.encode(check("acme", "reports", "view"));
        message.extend(&more);
        assert_eq!(rpc.read(rpc.send(&bench, message.into()).await.map(Option::unwrap)), known, "{rpc:?}");
        assert!(!matches!(known, Said::Refused(_)), "{known:?}");
    }
}

/// A request without a number that has names: nothing can be an unknown one.
#[test]
fn no_request_has_an_enum() {
    let set = tessera_proto::public_file_descriptor_set();
    let messages = set.file.iter().filter(|file| file.package() == "tessera.v1").flat_map(|file| &file.message_type);
    let requests = ["CheckEntitlementRequest", "LimitCheck", "Consistency", "AtLeast", "Subscribe", "Unsubscribe"];
    let asked = |name: &str| requests.contains(&name) || Rpc::ALL.iter().any(|rpc| name == format!("{}Request", rpc.name()));
    let mut seen = 0;
    for message in messages.filter(|message| asked(message.name())) {
        seen += 1;
        for field in &message.field {
            assert_ne!(field.r#type(), prost_types::field_descriptor_proto::Type::Enum, "{}.{}", message.name(), field.name());
        }
    }
    assert_eq!(seen, 10);
}

/// Calls with these bytes as the whole body, framing included. All are below 128, so that a text can hold them.
async fn framed(bench: &Bench, rpc: Rpc, body: &[u8], encoding: Option<&'static str>) -> http::Response<Body> {
    let mut request = http::Request::post(rpc.path()).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let body = Body::new(String::from_utf8(body.to_vec()).unwrap());
    bench.services.clone().call(request.body(body).unwrap()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_no_frames_are_refused() {
    let bench = bench().await;
    for (what, body, words) in [
        ("nothing", &[][..], "Missing request message"),
        ("a header that is cut", &[0, 0, 0][..], "Unexpected EOF"),
        ("a message that is cut", &[0, 0, 0, 0, 9, 0x0a][..], "Unexpected EOF"),
        ("an unknown flag", &[7, 0, 0, 0, 0][..], "invalid compression flag: 7"),
        ("compressed by nothing that was named", &[1, 0, 0, 0, 0][..], "no grpc-encoding was specified"),
    ] {
        for rpc in [Rpc::Check, Rpc::Batch, Rpc::List] {
            let response = framed(&bench, rpc, body, None).await;
            let refusal = Refusal::of(&Status::from_header_map(response.headers()).unwrap());
            assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{rpc:?} of {what}");
            let [(field, description)] = &refusal.violations[..] else { panic!("{refusal:?}") };
            assert_eq!(field, "request");
            assert!(description.contains(words), "{rpc:?} of {what}: {description}");
            assert!(description.ends_with("; allowed is one whole message at a time"), "{description}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_encoding_that_is_not_spoken_is_unimplemented_as_grpc_says() {
    let bench = bench().await;
    for rpc in Rpc::ALL {
        let response = framed(&bench, rpc, &[1, 0, 0, 0, 0], Some("gzip")).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Unimplemented, "{rpc:?}: {status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn paths_that_lead_nowhere_are_unimplemented() {
    let bench = bench().await;
    let long = format!("/{}", "x".repeat(60_000));
    for path in ["/", "/nothing", "/tessera.v1.EntitlementService/", "/tessera.v1.EntitlementService/Nothing", "/a/b/c", &long] {
        for method in ["POST", "GET", "DELETE"] {
            let request = http::Request::builder().method(method).uri(path).body(Body::new(String::new())).unwrap();
            let response = bench.services.clone().call(request).await.unwrap();
            assert_eq!(response.status(), http::StatusCode::OK, "{method} {path}");
            assert_eq!(response.headers()["grpc-status"], "12", "{method} {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_garbage_after_answering_what_came_before() {
    let bench = bench().await;
    let mut grpc = tonic::client::Grpc::new(bench.services.clone());
    grpc.ready().await.unwrap();
    let good = Bytes::from(Rpc::Stream.encode(check("acme", "reports", "view")));
    let sent = tokio_stream::iter([good, Bytes::from_static(&[0x0f])]);
    let request = tonic::Request::new(sent);
    let mut answers = grpc.streaming(request, Rpc::Stream.path(), super::rpc::BytesCodec).await.unwrap().into_inner();
    let first = Rpc::Stream.read(answers.message().await.map(Option::unwrap));
    assert_eq!(first, Said::Decision(v1::Reason::GrantedByPlan));
    assert_eq!(Refusal::of(&answers.message().await.unwrap_err()).reason, "INVALID_FIELD");
}
