//! A worker and a server that refuses everything, over a connection in memory and in time that stands still until all wait.

use h2::server::SendResponse;
use prost::Message as _;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tokio::io::DuplexStream;
use tokio::task::spawn_local;
use tonic::Status;

use super::*;
use crate::credentials::Credentials;
use crate::wire::Head;

const DEADLINE: Duration = Duration::from_secs(5);
/// So long after it was due a message is sent.
const LATE: Duration = Duration::from_secs(1);

/// What became of one message in that mode that a server refuses after so long.
async fn refused(mode: Mode, after: Duration) -> Account {
    let way = Credentials::default().way(&"127.0.0.1:1".parse().unwrap(), "--data-addr").unwrap();
    let questions = Questions::new(1, Popularity::uniform(10), mode).unwrap();
    let desk = Rc::new(Desk::new(questions, mode, DEADLINE, 1, std::sync::Arc::default()).unwrap());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let work = async {
        spawn_local(refuse_all(theirs, mode, after));
        let (sender, connection) = h2::client::handshake(ours).await.unwrap();
        spawn_local(connection);
        let line = Line::over(sender, Head::new(&way, mode, DEADLINE).unwrap());
        let lanes = match mode {
            Mode::Unary | Mode::Batch => Lanes::Calls(calls::Calls::over(vec![line])),
            Mode::Stream => Lanes::Streams(streams::Streams::over(&[line], 1, &desk)),
        };
        let (_never, mut stop) = watch::channel(false);
        let worker = Worker {
            desk: Rc::clone(&desk),
            lanes,
            size: 1,
            alarm: Alarm::new().unwrap(),
            stop: stop.clone(),
            backlog: Cell::default(),
        };
        let due = Instant::now();
        worker.ready_until(due + LATE).await;
        tokio::time::sleep_until(due + LATE).await;
        worker.message(due, &mut stop).await.unwrap();
        desk.idle().await;
        desk.begin().unwrap()
    };
    LocalSet::new().run_until(work).await
}

async fn refuse_all(socket: DuplexStream, mode: Mode, after: Duration) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((request, answer))) = connection.accept().await {
        spawn_local(refuse(request.into_body(), answer, mode, after));
    }
}

async fn refuse(mut asked: h2::RecvStream, mut answer: SendResponse<bytes::Bytes>, mode: Mode, after: Duration) {
    let failure = Failure::overloaded("too much");
    if mode == Mode::Stream {
        let mut answers = answer.send_response(http::Response::new(()), false).unwrap();
        asked.data().await.unwrap().unwrap();
        tokio::time::sleep(after).await;
        let frame_error = Some(failure.to_rpc_status());
        let frame = v1::StreamCheckEntitlementResponse { id: 1, frame_error, ..Default::default() }.encode_to_vec();
        let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
        answers.send_data([&[0][..], &len, &frame].concat().into(), false).unwrap();
        // The stream lasts.
        asked.data().await;
    } else {
        tokio::time::sleep(after).await;
        answer.send_response(Status::from(failure).into_http(), true).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_as_late_as_its_message_and_its_server() {
    for mode in [Mode::Unary, Mode::Batch, Mode::Stream] {
        for after in [Duration::ZERO, Duration::from_millis(300)] {
            let account = refused(mode, after).await;
            assert_eq!((account.due, account.failed, account.answered), (1, 1, 0), "{mode:?}: {account:?}");
            let (cause, _) = account.errors.first_key_value().unwrap();
            assert_eq!((cause.code.as_str(), cause.reason.as_str()), ("RESOURCE_EXHAUSTED", "OVERLOADED"), "{mode:?}");
            for (told, expected) in [(&account.refusal, LATE + after), (&account.refusal_since_sent, after)] {
                assert_eq!(told.len(), 1, "{mode:?}");
                // Timers know milliseconds, the histogram three digits.
                let (told, most) = (Duration::from_nanos(told.max()), expected + Duration::from_millis(5));
                assert!((expected..=most).contains(&told), "{mode:?}: {told:?} instead of {expected:?}");
            }
            assert_eq!(account.latency.len(), 0, "{mode:?}: latencies are those of answers");
        }
    }
}
