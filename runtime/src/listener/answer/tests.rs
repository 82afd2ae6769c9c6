//! Bodies on their way out, without a connection.

use std::collections::VecDeque;
use std::sync::Arc;

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::listener::traffic::Traffic;
use crate::overload::limiter::Limiter;

/// A body that says these, then waits for ever, or ends.
#[derive(Debug)]
pub(in super::super) struct Says {
    frames: VecDeque<Bytes>,
    waits: bool,
}

impl Says {
    pub(in super::super) fn these(frames: &[Vec<u8>]) -> Self {
        Self { frames: frames.iter().cloned().map(Bytes::from).collect(), waits: false }
    }
}

impl http_body::Body for Says {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame)))),
            None if self.waits => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

fn traffic() -> Arc<Traffic> {
    let limiter = Limiter::new(Duration::from_secs(1), Instant::now());
    Arc::new(Traffic::new(limiter, Arc::new(Status::unavailable("come again"))))
}

fn answer(frames: &[Vec<u8>], waits: bool, traffic: &Arc<Traffic>) -> Answer {
    Answer::new(Body::new(Says { waits, ..Says::these(frames) }), Some(UnderWay::on(traffic)))
}

fn next(answer: &mut Answer) -> Poll<Option<Frame<Bytes>>> {
    let mut context = Context::from_waker(std::task::Waker::noop());
    answer.poll_frame(&mut context)
}

#[test]
fn a_call_is_answered_when_its_answer_begins_and_under_way_until_its_end() {
    let (traffic, seen) = (traffic(), |traffic: &Traffic| (traffic.seen().unanswered, traffic.seen().under_way));
    let (first, second) = (UnderWay::on(&traffic), UnderWay::on(&traffic));
    let answer = Answer::new(Body::empty(), Some(first));
    assert_eq!(seen(&traffic), (true, true));
    drop(second);
    assert_eq!(seen(&traffic), (false, true));
    drop(answer);
    assert_eq!(seen(&traffic), (false, false));
}

#[test]
fn a_waiting_answer_is_ended_with_the_connection_and_one_that_speaks_is_not() {
    let traffic = traffic();
    let mut answer = answer(&[b"first".to_vec(), b"second".to_vec()], true, &traffic);
    assert!(next(&mut answer).is_ready());
    traffic.end_streams();
    let Poll::Ready(Some(second)) = next(&mut answer) else { panic!("what is there is said") };
    assert!(second.is_data());
    let Poll::Ready(Some(last)) = next(&mut answer) else { panic!("it has an end") };
    let trailers = last.into_trailers().unwrap();
    assert_eq!((&trailers["grpc-status"], &trailers["grpc-message"]), (&"14".parse().unwrap(), &"come%20again".parse().unwrap()));
    assert!(matches!(next(&mut answer), Poll::Ready(None)));
    assert!(answer.is_end_stream());
}
