//! `tessera-request-id` comes back with every answer and every error.

use bytes::Bytes;
use tokio_stream::StreamExt as _;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::rpc::{BytesCodec, Rpc, bench};
use crate::bench::{Bench, check};

const NAME: &str = "tessera-request-id";

fn named(message: Vec<u8>, id: Option<&[u8]>) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(message));
    if let Some(id) = id {
        request.metadata_mut().insert(NAME, id.try_into().unwrap());
    }
    request
}

fn id_of(metadata: &MetadataMap) -> String {
    let ids: Vec<_> = metadata.get_all(NAME).iter().collect();
    let [id] = &ids[..] else { panic!("one id in {metadata:?}") };
    id.to_str().unwrap().to_owned()
}

/// The id that came back with the answer, and the one with the error that ended the call.
async fn ids(bench: &Bench, rpc: Rpc, request: Request<Bytes>) -> (Option<String>, Option<String>) {
    match rpc.call(bench, request).await {
        Ok(answer) => {
            let ending = answer.get_ref().as_ref().err().map(|status: &Status| id_of(status.metadata()));
            (Some(id_of(answer.metadata())), ending)
        }
        Err(status) => (None, Some(id_of(status.metadata()))),
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_comes_back() {
    let bench = bench().await;
    let mine = || Some("mine 1/a".to_owned());
    for rpc in Rpc::ALL {
        let good = rpc.encode(check("acme", "reports", "view"));
        assert_eq!(ids(&bench, rpc, named(good, Some(b"mine 1/a"))).await, (mine(), None), "{rpc:?}");
        // No message: the call fails, a stream after it has begun.
        let begun = if rpc.streams() { mine() } else { None };
        assert_eq!(ids(&bench, rpc, named(vec![0x0f], Some(b"mine 1/a"))).await, (begun, mine()), "{rpc:?}");
        // Refused on arrival: an answer of trailers only.
        let mut late = named(vec![], Some(b"mine 1/a"));
        late.metadata_mut().insert("grpc-timeout", "0n".parse().unwrap());
        assert_eq!(ids(&bench, rpc, late).await, (None, mine()), "{rpc:?}");
        // Too long: tonic refuses before we see it.
        let long = named(vec![0; (2 << 20) + 1], Some(b"mine 1/a"));
        let begun = if rpc.streams() { mine() } else { None };
        assert_eq!(ids(&bench, rpc, long).await, (begun, mine()), "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_names_none_gets_one_and_no_two_are_alike() {
    let bench = bench().await;
    let mut seen = std::collections::HashSet::new();
    for rpc in Rpc::ALL {
        // None, one that is too long, one that is empty, one that is not ASCII: the name of a call is no reason to refuse it.
        for given in [None, Some(&[b'x'; 65][..]), Some(b""), Some("\u{430}".as_bytes())] {
            let good = rpc.encode(check("acme", "reports", "view"));
            let (Some(id), None) = ids(&bench, rpc, named(good, given)).await else { panic!("{rpc:?} of {given:?}") };
            let (process, call) = id.split_once('-').unwrap();
            assert!(process.len() == 13 && process.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
            assert!(u64::from_str_radix(call, 16).is_ok(), "{id}");
            assert!(seen.insert(id.clone()), "{id} comes twice");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_drains_names_its_call_again() {
    for rpc in [Rpc::Stream, Rpc::Watch] {
        let bench = bench().await;
        let mut grpc = tonic::client::Grpc::new(bench.services.clone());
        grpc.ready().await.unwrap();
        let request = named(rpc.encode(check("acme", "reports", "view")), Some(b"mine"));
        let request = request.map(|message| tokio_stream::once(message).chain(tokio_stream::pending()));
        let mut answers = grpc.streaming(request, rpc.path(), BytesCodec).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());
        bench.tasks.shutdown().close();
        assert_eq!(id_of(answers.message().await.unwrap_err().metadata()), "mine");
    }
}
