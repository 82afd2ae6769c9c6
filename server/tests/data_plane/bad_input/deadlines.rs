//! Deadlines: over on arrival, malformed, short.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

use super::revisions::future_of_acme;
use super::rpc::{BytesCodec, Refusal, Rpc, Said, bench};
use crate::bench::{Bench, check, check_at_least};

/// Calls with that timeout and a message that never comes.
async fn without_message(bench: &Bench, rpc: Rpc, timeout: MetadataValue<Ascii>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(bench.services.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::pending::<Bytes>());
    request.metadata_mut().insert("grpc-timeout", timeout);
    grpc.streaming(request, rpc.path(), BytesCodec).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_is_told_before_the_message_is_read() {
    let bench = bench().await;
    for timeout in ["0n", "1n", "999n", "0u", "0m", "0S", "0M", "0H", "00000000n"] {
        for rpc in Rpc::ALL {
            let status = without_message(&bench, rpc, timeout.parse().unwrap()).await.unwrap_err();
            let expected = Refusal {
                code: Code::DeadlineExceeded,
                reason: "DEADLINE_EXCEEDED".to_owned(),
                message: "the deadline had passed when the request arrived".to_owned(),
                violations: vec![],
                retry: false,
            };
            assert_eq!(Refusal::of(&status), expected, "{rpc:?} within {timeout}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_says_nothing_is_refused() {
    let bench = bench().await;
    for (sent, shown) in [
        ("", ""),
        ("S", "S"),
        ("7", "7"),
        ("7s", "7s"),
        ("7 S", "7 S"),
        ("-1S", "-1S"),
        ("+1S", "+1S"),
        ("1.5S", "1.5S"),
        ("soon", "soon"),
        ("123456789n", "123456789n"),
        ("99999999999999999999S", "99999999999999999999S"),
        ("\u{431}S", "\\u{431}S"),
    ] {
        for rpc in Rpc::ALL {
            let timeout = MetadataValue::<Ascii>::try_from(sent.as_bytes()).unwrap();
            let status = without_message(&bench, rpc, timeout).await.unwrap_err();
            let description = format!("`{shown}` is not a timeout; allowed are 1 to 8 digits and one of H M S m u n");
            let expected = Refusal::invalid("INVALID_FIELD", "grpc-timeout", &description);
            assert_eq!(Refusal::of(&status), expected, "{rpc:?} within {sent}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_to_come_is_kept() {
    let bench = bench().await;
    for (timeout, longest) in [("50m", 50), ("1S", 200), ("99999999H", 200)] {
        for rpc in Rpc::ALL {
            let mut request = Request::new(Bytes::from(rpc.encode(check_at_least("acme", future_of_acme()))));
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
            let begun = Instant::now();
            let answer = rpc.call(&bench, request).await.and_then(|answer| answer.into_inner().map(Option::unwrap));
            assert_eq!(rpc.read(answer).refusal().reason, "REVISION_NOT_REACHED", "{rpc:?}");
            // A watch goes on for as long as it is open: its waits are bounded by the setting alone.
            let longest = if rpc == Rpc::Watch { 200 } else { longest };
            assert!(begun.elapsed() <= Duration::from_millis(longest), "{rpc:?} waited {:?}", begun.elapsed());
        }
    }
    assert!(matches!(Rpc::List.ask(&bench, check("acme", "", "")).await, Said::Document(_)));
}
