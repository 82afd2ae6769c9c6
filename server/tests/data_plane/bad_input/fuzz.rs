//! Whatever is sent, something is said: an answer that can be read and is not too long, or a status with our reason; no panic.

use std::future::Future;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use tessera_proto::v1;
use tonic::Status;

use super::rpc::{Refusal, Rpc, bench};
use crate::bench::Bench;

/// The most bytes of an answer.
const ANSWER_MAX: usize = 4 << 20;
/// Bytes of an answer to a small question: no question makes a long one of itself.
const SMALL_MAX: usize = 64 << 10;

/// Runs `test` on many values of `strategy` over one bench, in time that stands still; what failed is shrunk and printed.
fn many<S: Strategy, F: Future<Output = ()>>(strategy: S, test: impl Fn(std::sync::Arc<Bench>, S::Value) -> F)
where
    S::Value: Clone,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let bench = std::sync::Arc::new(runtime.block_on(bench()));
    let result = TestRunner::new(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() }).run(
        &strategy,
        |value| {
            runtime.block_on(test(std::sync::Arc::clone(&bench), value));
            Ok(())
        },
    );
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn rpc() -> impl Strategy<Value = Rpc> {
    prop::sample::select(&Rpc::ALL[..])
}

#[track_caller]
fn sound(rpc: Rpc, answer: Result<Option<Bytes>, Status>) {
    let answer = match answer {
        Ok(Some(answer)) => answer,
        Ok(None) => panic!("{rpc:?} ends without a word"),
        Err(status) => return drop(Refusal::of(&status)),
    };
    assert!(answer.len() <= ANSWER_MAX, "{} bytes of {rpc:?}", answer.len());
    let items = match rpc {
        Rpc::Check => return drop(v1::CheckEntitlementResponse::decode(answer).unwrap()),
        Rpc::List => return drop(v1::ListEntitlementsResponse::decode(answer).unwrap()),
        Rpc::Batch => v1::BatchCheckEntitlementResponse::decode(answer).unwrap().results,
        Rpc::Stream => {
            let answer = v1::StreamCheckEntitlementResponse::decode(answer).unwrap();
            answer.frame_error.iter().for_each(|error| drop(Refusal::of_item(error)));
            answer.results
        }
        Rpc::Watch => {
            let event = v1::WatchEntitlementsResponse::decode(answer).unwrap().event;
            if let Some(v1::watch_entitlements_response::Event::Error(error)) = &event {
                Refusal::of_item(error.status.as_ref().unwrap());
            }
            assert!(event.is_some());
            return;
        }
    };
    for item in items {
        if let v1::check_result::Result::Error(status) = item.result.unwrap() {
            Refusal::of_item(&status);
        }
    }
}

#[test]
fn arbitrary_bytes() {
    many((rpc(), prop::collection::vec(any::<u8>(), 0..200)), |bench, (rpc, bytes)| async move {
        let answer = rpc.send(&bench, bytes.into()).await;
        sound(rpc, answer);
    });
}

/// Texts as people and machines send them: anything, and anything of what is likely to hurt.
fn text() -> impl Strategy<Value = String> {
    let sharp = prop::sample::select(
        &['\0', '\n', '\u{1b}', '`', '"', '\\', '\u{202e}', '\u{200b}', '\u{430}', '\u{10ffff}', 'a', '-'][..],
    );
    prop_oneof![
        3 => any::<String>(),
        3 => prop::collection::vec(sharp, 0..80).prop_map(|all| all.into_iter().collect()),
        2 => "[a-z0-9._-]{0,70}",
        1 => Just("acme".to_owned()),
        1 => Just("reports".to_owned()),
        1 => Just("seats".to_owned()),
        1 => (0_usize..100_000).prop_map(|len| "x".repeat(len)),
    ]
}

fn consistency() -> impl Strategy<Value = Option<v1::Consistency>> {
    use v1::consistency::Requirement;
    let real = super::revisions::future_of_acme();
    let revision = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        (0..real.len(), any::<u8>()).prop_map(move |(at, byte)| {
            let mut bytes = real.clone();
            bytes[at] = byte;
            bytes
        }),
    ];
    let requirement = prop_oneof![
        Just(None),
        Just(Some(Requirement::MinimizeLatency(v1::MinimizeLatency {}))),
        Just(Some(Requirement::FullyConsistent(v1::FullyConsistent {}))),
        revision.prop_map(|revision| Some(Requirement::AtLeast(v1::AtLeast { revision: revision.into() }))),
    ];
    prop::option::of(requirement.prop_map(|requirement| v1::Consistency { requirement }))
}

fn question() -> impl Strategy<Value = v1::CheckEntitlementRequest> {
    let limit =
        (text(), any::<i64>(), any::<Option<i64>>()).prop_map(|(name, amount, used)| v1::LimitCheck { name, amount, used });
    (text(), text(), text(), prop::option::of(limit), consistency(), any::<bool>()).prop_map(
        |(tenant_id, service, feature, limit_check, consistency, explain)| v1::CheckEntitlementRequest {
            tenant_id,
            service,
            feature,
            limit_check,
            consistency,
            explain,
        },
    )
}

#[test]
fn arbitrary_questions() {
    many((rpc(), question()), |bench, (rpc, question)| async move {
        let answer = rpc.send(&bench, rpc.encode(question).into()).await;
        if let Ok(Some(answer)) = &answer {
            assert!(answer.len() <= SMALL_MAX, "{} bytes of {rpc:?}", answer.len());
        }
        sound(rpc, answer);
    });
}

#[test]
fn good_messages_with_a_byte_changed_cut_or_put_in() {
    let damage = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    many((rpc(), question(), prop::collection::vec(damage, 1..4)), |bench, (rpc, question, damages)| async move {
        let mut bytes = rpc.encode(question);
        for (at, byte, kind) in damages {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|changed| *changed = byte),
            }
        }
        let answer = rpc.send(&bench, bytes.into()).await;
        sound(rpc, answer);
    });
}

#[test]
fn arbitrary_metadata() {
    let value =
        || prop::collection::vec(any::<u8>().prop_filter("bytes of a header", |byte| *byte >= 0x20 && *byte != 0x7f), 0..80);
    many((rpc(), value(), value()), |bench, (rpc, timeout, id)| async move {
        let mut request = tonic::Request::new(Bytes::from(rpc.encode(crate::bench::check("acme", "reports", "view"))));
        request.metadata_mut().insert("grpc-timeout", timeout.as_slice().try_into().unwrap());
        request.metadata_mut().insert("tessera-request-id", id.as_slice().try_into().unwrap());
        let answer = rpc.call(&bench, request).await.and_then(tonic::Response::into_inner);
        sound(rpc, answer);
    });
}
