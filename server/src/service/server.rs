//! From HTTP to the calls and back: what tonic would generate, but with the codec of `wire/codec.rs`, and with our own errors
//! where tonic has its own (a message that is too large or cannot be decoded).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use prost::Message as _;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{ANSWER_LEN_MAX, Entitlements, REQUEST_LEN_MAX};
use crate::wire::codec::{Encoded, EncodedCodec};

/// The full name of the service.
pub(crate) const NAME: &str = "tessera.v1.EntitlementService";

/// Serves [`Entitlements`] over HTTP. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EntitlementServer(Entitlements);

impl EntitlementServer {
    pub(crate) fn new(service: Entitlements) -> Self {
        Self(service)
    }
}

impl NamedService for EntitlementServer {
    const NAME: &'static str = NAME;
}

type Answers = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

impl Service<http::Request<Body>> for EntitlementServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.0.clone();
        match method(request.uri().path()) {
            Some("CheckEntitlement") => unary(Check(service), request),
            Some("BatchCheckEntitlement") => unary(Batch(service), request),
            Some("ListEntitlements") => unary(List(service), request),
            Some("StreamCheckEntitlement") => streaming(CheckStream(service), request),
            Some("WatchEntitlements") => streaming(Watch(service), request),
            _ => async { Ok(Status::unimplemented("there is no such method").into_http()) }.boxed(),
        }
    }
}

/// The method of a path `/tessera.v1.EntitlementService/<method>`.
fn method(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(NAME)?.strip_prefix('/')
}

fn unary<S, R>(service: S, request: http::Request<Body>) -> BoxFuture<'static, Result<http::Response<Body>, Infallible>>
where
    S: UnaryService<R, Response = Encoded> + Send + 'static,
    S::Future: Send,
    R: prost::Message + Default + 'static,
{
    async move {
        let mut grpc = Grpc::new(EncodedCodec::<R>::default());
        grpc = grpc.apply_max_message_size_config(Some(REQUEST_LEN_MAX), Some(ANSWER_LEN_MAX));
        let response = grpc.unary(service, request).await;
        // The calls themselves never answer so: the request did not get as far.
        let refused = response.headers().get("grpc-status").is_some_and(|code| code == "11");
        Ok(if refused { input_error(Status::out_of_range("")).into_http() } else { response })
    }
    .boxed()
}

fn streaming<S, R>(service: S, request: http::Request<Body>) -> BoxFuture<'static, Result<http::Response<Body>, Infallible>>
where
    S: StreamingService<R, Response = Encoded, ResponseStream = Answers> + Send + 'static,
    S::Future: Send,
    R: prost::Message + Default + 'static,
{
    async move {
        let mut grpc = Grpc::new(EncodedCodec::<R>::default());
        grpc = grpc.apply_max_message_size_config(Some(REQUEST_LEN_MAX), Some(ANSWER_LEN_MAX));
        Ok(grpc.streaming(service, request).await)
    }
    .boxed()
}

/// What the input of a stream ended with, in our words where tonic's tell a caller less.
pub(super) fn input_error(status: Status) -> Status {
    if status.code() == Code::OutOfRange {
        return Failure::too_large("request", format!("the message is longer than {REQUEST_LEN_MAX} bytes, the most allowed"))
            .into();
    }
    status
}

struct Check(Entitlements);

impl UnaryService<v1::CheckEntitlementRequest> for Check {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<Response<Encoded>, Status>>;

    fn call(&mut self, request: Request<v1::CheckEntitlementRequest>) -> Self::Future {
        let service = self.0.clone();
        async move { Ok(Response::new(service.check(request).await?)) }.boxed()
    }
}

struct Batch(Entitlements);

impl UnaryService<v1::BatchCheckEntitlementRequest> for Batch {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<Response<Encoded>, Status>>;

    fn call(&mut self, request: Request<v1::BatchCheckEntitlementRequest>) -> Self::Future {
        let service = self.0.clone();
        async move { Ok(Response::new(service.batch(request).await?)) }.boxed()
    }
}

struct List(Entitlements);

impl UnaryService<v1::ListEntitlementsRequest> for List {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<Response<Encoded>, Status>>;

    fn call(&mut self, request: Request<v1::ListEntitlementsRequest>) -> Self::Future {
        let service = self.0.clone();
        async move { Ok(Response::new(Bytes::from(service.list(request).await?.encode_to_vec()))) }.boxed()
    }
}

struct CheckStream(Entitlements);

impl StreamingService<v1::StreamCheckEntitlementRequest> for CheckStream {
    type Response = Encoded;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<v1::StreamCheckEntitlementRequest>>) -> Self::Future {
        let answers = self.0.stream(request);
        async move { Ok(Response::new(Box::pin(answers?) as Answers)) }.boxed()
    }
}

struct Watch(Entitlements);

impl StreamingService<v1::WatchEntitlementsRequest> for Watch {
    type Response = Encoded;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<v1::WatchEntitlementsRequest>>) -> Self::Future {
        let answers = self.0.watch(request);
        async move { Ok(Response::new(Box::pin(answers?) as Answers)) }.boxed()
    }
}
