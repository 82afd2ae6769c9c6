//! Round the services: begins the span of a call, and ends it with the last thing that is said, be that headers, trailers, or
//! nothing because the caller has left.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::{Bytes, http};
use tower::Service;

use super::span::{NOTED, Open, Recorder};

/// A service whose calls have spans, if there are any.
#[derive(Debug, Clone)]
pub struct Traced<S> {
    inner: S,
    recorder: Option<Arc<Recorder>>,
}

impl<S> Traced<S> {
    pub(super) fn new(inner: S, recorder: Option<Arc<Recorder>>) -> Self {
        Self { inner, recorder }
    }
}

type Answer = Result<http::Response<Body>, Infallible>;

impl<S> Service<http::Request<Body>> for Traced<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Answer>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let open = self.recorder.as_ref().and_then(|recorder| recorder.begin(&request));
        let answering = self.inner.call(request);
        let Some(mut open) = open else { return Either::Left(answering) };
        let traced = NOTED.scope(RefCell::new(None), async move {
            let answer = answering.await?;
            if let Ok(Some(tenant)) = NOTED.try_with(RefCell::take) {
                open.about(&tenant);
            }
            open.see(answer.headers());
            Ok(answer.map(|body| Body::new(TracedBody { inner: body, open: Some(open) })))
        });
        Either::Right(traced.boxed())
    }
}

/// What is said, with the span that ends with it.
#[derive(Debug)]
struct TracedBody {
    inner: Body,
    open: Option<Open>,
}

impl http_body::Body for TracedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(open), Some(trailers)) = (&mut self.open, frame.trailers_ref()) {
                    open.see(trailers);
                }
            }
            Some(Err(_)) | None => self.open = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
