//! The body of an answer that lasts as long as its caller would be let in: who shows a token that expires or is revoked, or a
//! certificate that ends, is told so at the end of the stream, and comes again.
//!
//! Nothing is remembered of why somebody was let in: they are asked again with what they showed, as if they called now. So whatever
//! refuses a call ends a stream, too: an entry that is gone or has other scopes, a key that its issuer has withdrawn.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, http};

use super::super::authenticator::Identified;
use super::super::{Principal, Refused, metric_definitions as metrics};
use super::{Rules, Shown};

/// Callers are looked at again after so long, and when their credentials end: who revokes a token waits no longer, besides the
/// time in which its file is read. Thousands of streams are nothing to look at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// And not sooner: what tells when credentials end may tell it in whole seconds.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(10);

/// The answer to a call by `known`, who was let in with what is `shown`.
pub(super) async fn answer(
    answering: impl Future<Output = Result<http::Response<Body>, Infallible>>,
    rules: Arc<Rules>,
    shown: Shown,
    known: Identified,
) -> Result<http::Response<Body>, Infallible> {
    let look = Box::pin(tokio::time::sleep(pause(&known)));
    Ok(answering.await?.map(|inner| {
        let lasting = Lasting { inner, rules, shown, principal: known.principal, look, is_over: false };
        Body::new(lasting)
    }))
}

fn pause(known: &Identified) -> Duration {
    known.good_for.clamp(LOOK_PAUSE_MIN, LOOK_INTERVAL)
}

/// The body.
#[derive(Debug)]
pub(super) struct Lasting {
    inner: Body,
    rules: Arc<Rules>,
    shown: Shown,
    /// As whom the caller was let in.
    principal: Principal,
    /// Runs until the next look.
    look: Pin<Box<Sleep>>,
    is_over: bool,
}

impl Lasting {
    /// Why the caller would not be let in any more, once that is so; whoever asks is woken then.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<Refused> {
        loop {
            ready!(self.look.as_mut().poll(cx));
            match self.rules.admit_again(&self.shown) {
                Ok(known) if known.principal == self.principal => self.look.as_mut().reset(Instant::now() + pause(&known)),
                // What the service was told of its caller stays what it was.
                Ok(_) => return Poll::Ready(Refused::Changed),
                Err(refused) => return Poll::Ready(refused),
            }
        }
    }

    /// The last thing that is said. What the service has to say is dropped with it.
    fn end(&mut self, refused: &Refused) -> Result<Frame<Bytes>, Status> {
        metrics::stream_ended(refused);
        self.is_over = true;
        self.inner = Body::empty();
        let mut trailers = http::HeaderMap::new();
        (self.rules.refusal)(refused).add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl http_body::Body for Lasting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        // First: a stream that always has something to say ends, too.
        if let Poll::Ready(refused) = self.poll_refused(cx) {
            return Poll::Ready(Some(self.end(&refused)));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
