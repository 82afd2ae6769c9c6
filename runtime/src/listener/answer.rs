//! The body of an answer on its way out: ended with a hint when its connection has to end, and with an error when what makes it fails or
//! panics. `http2.rs` sends it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

use super::call::panicked;
use super::traffic::{Ending, UnderWay};

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    inner: Body,
    /// Listened to once this one waits.
    ending: Ending,
    is_over: bool,
    under_way: Option<UnderWay>,
}

impl Answer {
    pub(super) fn new(inner: Body, mut under_way: Option<UnderWay>) -> Self {
        if let Some(under_way) = &mut under_way {
            under_way.answer();
        }
        Self { inner, ending: Ending::default(), is_over: false, under_way }
    }

    /// What is said next; trailers are the last, and [`None`] says that nothing comes any more.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_frame(cx)));
        let status = match polled {
            Ok(Poll::Ready(Some(Err(status)))) => status,
            Ok(Poll::Ready(frame)) => return Poll::Ready(frame.and_then(Result::ok)),
            Ok(Poll::Pending) => Status::clone(&*ready!(self.poll_ending(cx))),
            Err(panic) => panicked(&*panic),
        };
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        let said = status.add_header(&mut trailers);
        Poll::Ready(said.is_ok().then(|| Frame::trailers(trailers)))
    }

    /// Whether nothing comes any more, as far as that is known.
    pub(super) fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    /// A part of it leaves.
    pub(super) fn leaves(&self) {
        if let Some(UnderWay { traffic, .. }) = &self.under_way {
            traffic.answers_with_a_frame();
        }
    }

    /// With what it ends when its connection has to.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Arc<Status>> {
        let Some(UnderWay { traffic, .. }) = &self.under_way else { return Poll::Pending };
        self.ending.poll(traffic, cx)
    }
}

#[cfg(test)]
pub(super) mod tests;
