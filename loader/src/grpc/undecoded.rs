//! Requests that never became messages, because they are too long or are no protobuf: refused in our words, with the reason and
//! the field that every other refusal has, where tonic's own error says neither.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_proto::status::Failure;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// Longest request, in bytes.
pub(crate) const REQUEST_LEN_MAX: usize = 2 * 1024 * 1024;

/// A service whose undecodable requests are refused in our words.
#[derive(Debug, Clone)]
pub(crate) struct Undecoded<S>(pub(crate) S);

impl<S: NamedService> NamedService for Undecoded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Undecoded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        async move {
            let response = answer.await?;
            let Some(status) = Status::from_header_map(response.headers()) else { return Ok(response) };
            let ours = in_our_words(status.clone());
            Ok(if ours.code() == status.code() { response } else { ours.into_http() })
        }
        .boxed()
    }
}

/// The error of a message that could not be read, as ours; any other stays as it is. Ours have details, tonic's have none.
pub(crate) fn in_our_words(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    match status.code() {
        Code::OutOfRange => {
            let allowed = format!("the message is longer than {REQUEST_LEN_MAX} bytes, the most that is allowed");
            Failure::too_large("request", allowed).into()
        }
        Code::Internal => {
            let allowed = "the message cannot be decoded; allowed is the request message of this method, as protobuf";
            Failure::invalid_field("request", allowed).into()
        }
        _ => status,
    }
}
