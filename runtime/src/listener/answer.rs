//! The body of an answer on its way out: in slices that a reader can be judged by, ended with a hint when the connection has to,
//! and ended with an error when what makes it panics.
//!
//! HTTP/2 tells a body nothing of its reader: whoever sends it takes a frame, waits until there is room, and asks for the next
//! one. A reader is slow when that takes too long. The task that sends is wrapped ([`Senders`]): after each of its steps
//! it looks whether a frame was taken and none asked for since, and gives up when that stays so. What is left then is
//! `RST_STREAM` (CANCEL): the frame that waits stands before anything else that could be said, trailers too.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper_util::rt::TokioExecutor;
use metrics::counter;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tracing::debug;

use super::call::panicked;
use super::traffic::{Ending, UnderWay};
use crate::metric_definitions::SLOW_READERS;

/// Longest slice that is handed out: what HTTP/2 puts into one frame unless told otherwise. A slice is sent whole as soon as
/// there is room for a byte of it, so it is also what a stream can hold beyond its buffer.
const SLICE_LEN_MAX: usize = 16 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    inner: Body,
    /// What is left of the frame that was made last.
    rest: Bytes,
    /// Listened to once this one waits.
    ending: Ending,
    is_over: bool,
    under_way: Option<UnderWay>,
}

impl Answer {
    pub(super) fn new(inner: Body, under_way: Option<UnderWay>) -> Self {
        Self { inner, rest: Bytes::new(), ending: Ending::default(), is_over: false, under_way }
    }

    /// The next slice of what there is.
    fn slice(&mut self) -> Frame<Bytes> {
        let len = self.rest.len().min(SLICE_LEN_MAX);
        TAKEN.set(Taken::Frame);
        if let Some(UnderWay { traffic, .. }) = &self.under_way {
            traffic.answers_with_a_frame();
        }
        Frame::data(self.rest.split_to(len))
    }

    /// The last thing that is said.
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    /// With what it ends when its connection has to.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Arc<Status>> {
        let Some(UnderWay { traffic, .. }) = &self.under_way else { return Poll::Pending };
        self.ending.poll(traffic, cx)
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        TAKEN.set(Taken::Nothing);
        if self.is_over {
            return Poll::Ready(None);
        }
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.slice())));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_frame(cx)));
        match polled {
            Ok(Poll::Ready(Some(Ok(frame)))) => match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    Poll::Ready(Some(Ok(self.slice())))
                }
                Err(other) => Poll::Ready(Some(Ok(other))),
            },
            Ok(Poll::Ready(last)) => Poll::Ready(last),
            Ok(Poll::Pending) => {
                let status = ready!(self.poll_ending(cx));
                self.end(&status)
            }
            Err(panic) => {
                let status = panicked(&*panic);
                self.end(&status)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || (self.rest.is_empty() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

/// What the sender of the body that was asked last holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Nobody was asked.
    Unknown,
    /// It waits for the body.
    Nothing,
    /// A frame, which waits for the reader.
    Frame,
}

thread_local! {
    /// Of the step that is being made on this thread: a sender and its body are polled together.
    static TAKEN: Cell<Taken> = const { Cell::new(Taken::Unknown) };
}

thread_local! {
    /// The task that is made next on this thread is not to wait for those before it.
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// The call that its connection hands out now is served within the step that the connection's task is making.
pub(super) fn serve_at_once() {
    AT_ONCE.set(true);
}

/// Runs the tasks that send answers, and gives up on slow readers. The tasks end with their connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Senders {
    pub(super) slow_reader: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Senders {
    fn execute(&self, sends: F) {
        let sender = Sender { sends, waits: None, slow_reader: self.slow_reader };
        if !AT_ONCE.take() {
            return TokioExecutor::new().execute(sender);
        }
        let mut sender = Box::pin(sender);
        // What is not done by then is polled again by its task, whose waker counts.
        if sender.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            TokioExecutor::new().execute(sender);
        }
    }
}

pin_project! {
    struct Sender<F> {
        #[pin]
        sends: F,
        // Runs while a frame waits for the reader.
        waits: Option<Pin<Box<Sleep>>>,
        slow_reader: Duration,
    }
}

impl<F: Future<Output = ()>> Future for Sender<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        TAKEN.set(Taken::Unknown);
        if this.sends.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match TAKEN.get() {
            Taken::Nothing => *this.waits = None,
            Taken::Frame => *this.waits = Some(Box::pin(tokio::time::sleep(*this.slow_reader))),
            Taken::Unknown => {}
        }
        let gives_up = this.waits.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if !gives_up {
            return Poll::Pending;
        }
        counter!(SLOW_READERS).increment(1);
        debug!("the reader of a stream takes nothing: the stream is reset");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
