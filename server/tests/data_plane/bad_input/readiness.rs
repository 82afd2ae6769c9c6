//! Before the data is there and when the process ends: `NOT_READY` and `DRAINING` of every call.

use bytes::Bytes;
use tessera_server::Config;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status};

use super::revisions::future_of_acme;
use super::rpc::{BytesCodec, Refusal, Rpc, Said, bench};
use crate::bench::{Bench, check, check_at_least};

fn unavailable(reason: &str, message: &str) -> Refusal {
    Refusal { code: Code::Unavailable, reason: reason.to_owned(), message: message.to_owned(), violations: vec![], retry: true }
}

/// The refusal of a call that is not even begun.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> Refusal {
    Refusal::of(&result.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn no_call_is_answered_before_the_data_is_there() {
    let bench = Bench::not_loaded(Config::default());
    let not_ready = unavailable("NOT_READY", "the data is still being loaded");
    for rpc in Rpc::ALL {
        let good = Request::new(Bytes::from(rpc.encode(check("acme", "reports", "view"))));
        assert_eq!(refused(rpc.call(&bench, good).await), not_ready, "{rpc:?}");
        // It does not matter what was asked: nothing of it is read.
        let garbage = Request::new(Bytes::from_static(&[0xff]));
        assert_eq!(refused(rpc.call(&bench, garbage).await), not_ready, "{rpc:?}");
    }
    assert_eq!(bench.handle.ready().unwrap_err(), ["the data is still being loaded"]);
    bench.handle.loaded().await;
    assert_eq!(bench.handle.ready(), Ok(Vec::new()));
    assert_eq!(Rpc::List.ask(&bench, check("acme", "", "")).await.refusal().reason, "TENANT_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn no_stream_begins_while_the_process_ends_and_single_calls_are_answered() {
    let bench = bench().await;
    bench.tasks.shutdown().close();
    assert_eq!(bench.handle.ready().unwrap_err(), ["the server is draining"]);
    for rpc in Rpc::ALL {
        let good = Request::new(Bytes::from(rpc.encode(check("acme", "reports", "view"))));
        if rpc.streams() {
            let draining = unavailable("DRAINING", "the process is shutting down; connect again");
            assert_eq!(refused(rpc.call(&bench, good).await), draining, "{rpc:?}");
        } else {
            let said = rpc.ask(&bench, check("acme", "reports", "view")).await;
            assert!(!matches!(said, Said::Refused(_)), "{rpc:?}: {said:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_was_ready_and_ends_says_so() {
    let bench = Bench::not_loaded(Config::default());
    bench.tasks.shutdown().close();
    for rpc in Rpc::ALL {
        let good = Request::new(Bytes::from(rpc.encode(check("acme", "reports", "view"))));
        let expected = if rpc.streams() { "DRAINING" } else { "NOT_READY" };
        assert_eq!(refused(rpc.call(&bench, good).await).reason, expected, "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_under_way_end_with_draining() {
    for rpc in [Rpc::Stream, Rpc::Watch] {
        let bench = bench().await;
        let draining = unavailable("DRAINING", "the process is shutting down; connect again");
        let mut grpc = tonic::client::Grpc::new(bench.services.clone());
        grpc.ready().await.unwrap();
        let requests = tokio_stream::once(Bytes::from(rpc.encode(check("acme", "reports", "view"))));
        let requests = Request::new(requests.chain(tokio_stream::pending()));
        let mut answers = grpc.streaming(requests, rpc.path(), BytesCodec).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());
        let (ended, ()) = tokio::join!(answers.message(), async { bench.tasks.shutdown().close() });
        assert_eq!(refused(ended), draining, "{rpc:?}");
        assert!(answers.message().await.unwrap().is_none(), "nothing comes after the end");
    }
}

#[tokio::test(start_paused = true)]
async fn while_calls_are_still_taken_streams_begin_and_go_on() {
    let bench = bench().await;
    let mut grpc = tonic::client::Grpc::new(bench.services.clone());
    let mut streams = Vec::new();
    for _ in 0..2 {
        grpc.ready().await.unwrap();
        let (asks, asked) = tokio::sync::mpsc::unbounded_channel();
        let requests = Request::new(tokio_stream::wrappers::UnboundedReceiverStream::new(asked));
        let answers = grpc.streaming(requests, Rpc::Stream.path(), BytesCodec).await.unwrap().into_inner();
        streams.push((asks, answers));
        bench.tasks.shutdown().drain();
        for (asks, answers) in &mut streams {
            asks.send(Bytes::from(Rpc::Stream.encode(check("acme", "reports", "view")))).unwrap();
            assert!(answers.message().await.unwrap().is_some());
        }
    }
    bench.tasks.shutdown().close();
    for (_, answers) in &mut streams {
        assert_eq!(refused(answers.message().await).reason, "DRAINING");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_waits_is_answered_before_its_stream_ends() {
    let bench = bench().await;
    let mut grpc = tonic::client::Grpc::new(bench.services.clone());
    grpc.ready().await.unwrap();
    let waits = Rpc::Stream.encode(check_at_least("acme", future_of_acme()));
    let requests = tokio_stream::once(Bytes::from(waits)).chain(tokio_stream::pending());
    let mut answers = grpc.streaming(Request::new(requests), Rpc::Stream.path(), BytesCodec).await.unwrap().into_inner();
    let (first, ()) = tokio::join!(answers.message(), async { bench.tasks.shutdown().close() });
    assert_eq!(Rpc::Stream.read(first.map(Option::unwrap)).refusal().reason, "REVISION_NOT_REACHED");
    assert_eq!(refused(answers.message().await).reason, "DRAINING");
}
