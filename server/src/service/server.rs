//! From HTTP to the calls and back: what tonic would generate, but with the codec of `wire/codec.rs`, and with our own errors
//! where tonic has its own (a message that is too large or cannot be decoded). Deadline and readiness are looked at before the
//! message is: whoever is refused costs nothing more.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, TryStreamExt as _};
use prost::Message as _;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_runtime::identity::Principal;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::HeaderValue;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Code, Request, Response, Status, Streaming};

use super::request_id::HEADER;
use super::{ANSWER_LEN_MAX, Entitlements, REQUEST_LEN_MAX};
use crate::consistency::Caller;
use crate::decision_log::CALL;
use crate::metric_definitions::{CheckCounters, Metrics};
use crate::wire::codec::{Encoded, EncodedCodec, Incoming};

/// The full name of the service.
pub(crate) const NAME: &str = "tessera.v1.EntitlementService";
/// The call that is made most.
pub(crate) const CHECK: &str = "/tessera.v1.EntitlementService/CheckEntitlement";

/// Serves [`Entitlements`] over HTTP. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EntitlementServer(Entitlements);

impl EntitlementServer {
    pub(crate) fn new(service: Entitlements) -> Self {
        Self(service)
    }
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
            Some("CheckEntitlement") => unary(service, request, Check),
            Some("BatchCheckEntitlement") => unary(service, request, Batch),
            Some("ListEntitlements") => unary(service, request, List),
            Some("StreamCheckEntitlement") => streaming(service, request, CheckStream),
            Some("WatchEntitlements") => streaming(service, request, Watch),
            _ => async { Ok(Status::unimplemented("there is no such method").into_http()) }.boxed(),
        }
    }
}

/// The method of a path `/tessera.v1.EntitlementService/<method>`.
fn method(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(NAME)?.strip_prefix('/')
}

/// What a call is made with besides its message.
pub(super) struct Call {
    pub(super) service: Entitlements,
    deadline: Option<Instant>,
    request_id: HeaderValue,
}

impl Call {
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Caller {
        Caller {
            principal: request.extensions().get::<Principal>().cloned(),
            address: request.remote_addr().map(|address| address.ip()),
            deadline: self.deadline,
        }
    }
}

pub(super) type Answering = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

pub(super) fn unary<S, R>(service: Entitlements, request: http::Request<Body>, method: impl FnOnce(Call) -> S) -> Answering
where
    S: UnaryService<R, Response = Encoded> + Counted + Send + 'static,
    S::Future: Send,
    R: Incoming,
{
    let request_id = service.0.request_ids.of(request.headers());
    let deadline = match service.0.admit(request.headers()) {
        Ok(deadline) => deadline,
        Err(failure) => return refused::<S>(&service, failure, request_id),
    };
    let named_in_log = service.0.shared.decision_log.is_on().then(|| request_id.clone());
    let call = method(Call { service, deadline, request_id: request_id.clone() });
    let answering = async move {
        let mut grpc = Grpc::new(EncodedCodec::<R>::default());
        grpc = grpc.apply_max_message_size_config(Some(REQUEST_LEN_MAX), Some(ANSWER_LEN_MAX));
        let mut response = grpc.unary(call, request).await;
        if let Some(status) = not_ours(response.headers()) {
            response = input_error(status).into_http();
        }
        Ok(named(response, request_id))
    };
    match named_in_log {
        Some(id) => CALL.scope(id, answering).boxed(),
        None => answering.boxed(),
    }
}

fn streaming<S, R>(service: Entitlements, request: http::Request<Body>, method: impl FnOnce(Call) -> S) -> Answering
where
    S: StreamingService<R, Response = Encoded, ResponseStream = Answers> + Counted + Send + 'static,
    S::Future: Send,
    R: Incoming,
{
    let request_id = service.0.request_ids.of(request.headers());
    let deadline = match service.0.admit_stream(request.headers()) {
        Ok(deadline) => deadline,
        Err(failure) => return refused::<S>(&service, failure, request_id),
    };
    let call = method(Call { service, deadline, request_id: request_id.clone() });
    async move {
        let mut grpc = Grpc::new(EncodedCodec::<R>::default());
        grpc = grpc.apply_max_message_size_config(Some(REQUEST_LEN_MAX), Some(ANSWER_LEN_MAX));
        Ok(named(grpc.streaming(call, request).await, request_id))
    }
    .boxed()
}

/// Answers before anything of the message is read.
fn refused<S: Counted>(service: &Entitlements, failure: Failure, request_id: HeaderValue) -> Answering {
    if let Some(counters) = S::counters(&service.0.shared.metrics) {
        counters.answered(counters.request());
        counters.error(failure.reason());
    }
    async { Ok(named(Status::from(failure).into_http(), request_id)) }.boxed()
}

fn named(mut response: http::Response<Body>, request_id: HeaderValue) -> http::Response<Body> {
    response.headers_mut().insert(HEADER, request_id);
    response
}

/// The error that tonic answered with before the call was reached: all of ours say more of themselves.
fn not_ours(headers: &http::HeaderMap) -> Option<Status> {
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    Status::from_header_map(headers)
}

/// What the input ended with, in our words where tonic's tell a caller less.
pub(super) fn input_error(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => {
            let found = status.message().split(' ').find_map(|word| word.parse::<u64>().ok());
            let found = found.map_or_else(|| "the message".to_owned(), |len| format!("`{len}` bytes"));
            Failure::too_large("request", format!("{found}; allowed are at most {REQUEST_LEN_MAX} bytes")).into()
        }
        // Nothing of ours has run yet: it is what came that is wrong.
        Code::Internal => {
            let problem = status.message().trim_end_matches('.');
            Failure::invalid_field("request", format!("{problem}; allowed is one whole message at a time")).into()
        }
        _ => status,
    }
}

/// Where refusals of a method are counted, if it is one that checks.
pub(super) trait Counted {
    fn counters(metrics: &Metrics) -> Option<&CheckCounters>;
}

struct Check(Call);

impl Counted for Check {
    fn counters(metrics: &Metrics) -> Option<&CheckCounters> {
        Some(&metrics.unary)
    }
}

impl UnaryService<Encoded> for Check {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<Response<Encoded>, Status>>;

    fn call(&mut self, request: Request<Encoded>) -> Self::Future {
        let (service, caller) = (self.0.service.clone(), self.0.caller(&request));
        async move { Ok(Response::new(service.check(request.into_inner(), caller).await?)) }.boxed()
    }
}

struct Batch(Call);

impl Counted for Batch {
    fn counters(metrics: &Metrics) -> Option<&CheckCounters> {
        Some(&metrics.batch)
    }
}

impl UnaryService<Encoded> for Batch {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<Response<Encoded>, Status>>;

    fn call(&mut self, request: Request<Encoded>) -> Self::Future {
        let (service, caller) = (self.0.service.clone(), self.0.caller(&request));
        async move { Ok(Response::new(service.batch(request.into_inner(), caller).await?)) }.boxed()
    }
}

struct List(Call);

impl Counted for List {
    fn counters(_: &Metrics) -> Option<&CheckCounters> {
        None
    }
}

impl UnaryService<v1::ListEntitlementsRequest> for List {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<Response<Encoded>, Status>>;

    fn call(&mut self, request: Request<v1::ListEntitlementsRequest>) -> Self::Future {
        let (service, caller) = (self.0.service.clone(), self.0.caller(&request));
        async move {
            let answer = service.list(request.into_inner(), caller).await?;
            Ok(Response::new(Bytes::from(answer.encode_to_vec())))
        }
        .boxed()
    }
}

struct CheckStream(Call);

impl Counted for CheckStream {
    fn counters(metrics: &Metrics) -> Option<&CheckCounters> {
        Some(&metrics.stream)
    }
}

impl StreamingService<Encoded> for CheckStream {
    type Response = Encoded;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Encoded>>) -> Self::Future {
        let caller = self.0.caller(&request);
        let answers = self.0.service.stream(request.into_inner(), caller);
        let answers = ending_named(answers, self.0.request_id.clone());
        async move { Ok(Response::new(answers)) }.boxed()
    }
}

struct Watch(Call);

impl Counted for Watch {
    fn counters(_: &Metrics) -> Option<&CheckCounters> {
        None
    }
}

impl StreamingService<v1::WatchEntitlementsRequest> for Watch {
    type Response = Encoded;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<v1::WatchEntitlementsRequest>>) -> Self::Future {
        let caller = self.0.caller(&request);
        let answers = self.0.service.watch(request.into_inner(), caller);
        let request_id = self.0.request_id.clone();
        async move { Ok(Response::new(ending_named(answers?, request_id))) }.boxed()
    }
}

/// The error that a stream ends with carries the request id, too: not every client shows the headers it began with.
fn ending_named(answers: impl Stream<Item = Result<Encoded, Status>> + Send + 'static, request_id: HeaderValue) -> Answers {
    Box::pin(answers.map_err(move |mut status| {
        let mut headers = std::mem::take(status.metadata_mut()).into_headers();
        headers.insert(HEADER, request_id.clone());
        *status.metadata_mut() = MetadataMap::from_headers(headers);
        status
    }))
}
