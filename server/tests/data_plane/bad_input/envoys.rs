//! What an Envoy is told when something is wrong. It takes a message without a status for "allowed", so that whatever happens to a
//! call, what comes back is an error or a message with a status; and it may be told to let requests pass on errors, so that nothing
//! that a client can write is one.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Around};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use serde_json::json;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tessera_ports::clock::ManualClock;
use tessera_runtime::lifecycle::Tasks;
use tessera_runtime::listener::{ListenerConfig, bind, serve_on_threads};
use tessera_server::{Config, Dependencies, build};
use tonic::client::GrpcService;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use super::rpc::{BytesCodec, Refusal, bench_with};
use crate::bench::{Bench, without_scan};
use crate::universe::start;

const CHECK: PathAndQuery = PathAndQuery::from_static("/envoy.service.auth.v3.Authorization/Check");
/// What Envoy takes for "allowed", and what we say when we deny.
const OK: i32 = 0;
const DENIED: i32 = Code::PermissionDenied as i32;

/// By context extensions, with a header beside that has to agree.
fn config(dry_run: bool) -> Config {
    let settings = json!({
        "dry_run": dry_run,
        "tenant": [{"from": "context_extension", "key": "tenant"}, {"from": "header", "name": "x-tenant-id"}],
        "service": [{"from": "context_extension", "key": "service"}],
        "feature": [{"from": "context_extension", "key": "feature"}],
    });
    Config { ext_authz: Some(serde_json::from_value(settings).unwrap()), ..without_scan() }
}

fn entries(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A request of that tenant for reports/`feature`.
fn request(tenant: &str, feature: &str) -> CheckRequest {
    let http = HttpRequest { method: "GET".to_owned(), path: "/".to_owned(), ..HttpRequest::default() };
    let context_extensions = entries(&[("tenant", tenant), ("service", "reports"), ("feature", feature)]);
    let request = Some(Around { time: None, http: Some(http) });
    CheckRequest { attributes: Some(AttributeContext { request, context_extensions, ..AttributeContext::default() }) }
}

fn message(request: &CheckRequest) -> Request<Bytes> {
    Request::new(request.encode_to_vec().into())
}

/// Calls with messages, of which there should be one.
async fn call<T: GrpcService<tonic::body::Body>>(way: T, request: Request<Vec<Bytes>>) -> Result<Bytes, Status>
where
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = Bytes> + Send + 'static,
    T::Error: Into<tonic::codegen::StdError> + std::fmt::Debug,
{
    let mut grpc = tonic::client::Grpc::new(way);
    grpc.ready().await.unwrap();
    let answer = grpc.client_streaming(request.map(tokio_stream::iter), CHECK, BytesCodec).await?;
    Ok(answer.into_inner())
}

async fn ask(bench: &Bench, request: Request<Bytes>) -> Result<Bytes, Status> {
    call(bench.services.clone(), request.map(|bytes| vec![bytes])).await
}

/// The status in a message, which has to have one, with what belongs to it.
#[track_caller]
fn told(answer: &Bytes) -> i32 {
    let answer = CheckResponse::decode(answer.clone()).unwrap();
    let status = answer.status.unwrap_or_else(|| panic!("Envoy takes this for allowed: {:?}", answer.http_response));
    match answer.http_response {
        Some(HttpResponse::OkResponse(_)) => assert_eq!(status.code, OK),
        Some(HttpResponse::DeniedResponse(denied)) => {
            assert_eq!(status.code, DENIED);
            assert!(denied.status.is_some_and(|status| (400..500).contains(&status.code)), "denied with what?");
        }
        other => panic!("neither allowed nor denied: {other:?}"),
    }
    status.code
}

#[tokio::test(start_paused = true)]
async fn who_may_is_allowed_and_who_may_not_is_denied() {
    let bench = bench_with(config(false)).await;
    assert_eq!(told(&ask(&bench, message(&request("acme", "view"))).await.unwrap()), OK);
    for denied in [request("acme", "export"), request("nobody", "view"), request("no good", "view"), CheckRequest::default()] {
        assert_eq!(told(&ask(&bench, message(&denied)).await.unwrap()), DENIED, "{denied:?}");
    }
    // An empty message is one: it names nobody.
    assert_eq!(told(&ask(&bench, Request::new(Bytes::new())).await.unwrap()), DENIED);
}

#[tokio::test(start_paused = true)]
async fn before_the_data_is_there_an_envoy_hears_an_error() {
    let bench = Bench::not_loaded(config(false));
    for request in [message(&request("acme", "view")), Request::new(Bytes::from_static(&[0xff]))] {
        let refusal = Refusal::of(&ask(&bench, request).await.unwrap_err());
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unavailable, "NOT_READY"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_time_is_an_error() {
    let bench = bench_with(config(false)).await;
    for (timeout, code) in [("0m", Code::DeadlineExceeded), ("999n", Code::DeadlineExceeded), ("soon", Code::InvalidArgument)] {
        let mut request = message(&request("acme", "view"));
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        assert_eq!(ask(&bench, request).await.unwrap_err().code(), code, "{timeout}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_process_ends_requests_are_judged() {
    let bench = bench_with(config(false)).await;
    bench.tasks.shutdown().drain();
    assert_eq!(told(&ask(&bench, message(&request("acme", "view"))).await.unwrap()), OK);
    assert_eq!(told(&ask(&bench, message(&request("acme", "export"))).await.unwrap()), DENIED);
}

#[tokio::test(start_paused = true)]
async fn what_no_envoy_sends_is_an_error() {
    let bench = bench_with(config(false)).await;
    let good = Bytes::from(request("acme", "view").encode_to_vec());
    let cut = good.slice(..good.len() - 1);
    let twice = Bytes::from([good.clone(), good.clone()].concat());
    for (what, wrong) in [("garbage", Bytes::from_static(&[0xff])), ("cut short", cut), ("everything twice", twice)] {
        let refusal = Refusal::of(&ask(&bench, Request::new(wrong)).await.unwrap_err());
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{what}");
    }
    let large = request(&"a".repeat(2 << 20), "view");
    let refusal = Refusal::of(&ask(&bench, message(&large)).await.unwrap_err());
    assert!(refusal.message.contains("2097152"), "{refusal:?}");
    let none = call(bench.services.clone(), Request::new(Vec::new())).await;
    assert!(none.is_err(), "an answer to nothing");
    // What follows the one message is not looked at, and changes nothing.
    let denied = Bytes::from(request("acme", "export").encode_to_vec());
    if let Ok(answer) = call(bench.services.clone(), Request::new(vec![denied, good])).await {
        assert_eq!(told(&answer), DENIED);
    }
}

/// Whatever arrives: an error of which we say what is wrong, or a message with a status, and never "allowed".
#[test]
fn nothing_that_does_not_ask_is_allowed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let bench = runtime.block_on(bench_with(config(false)));
    let answered = |bytes: Vec<u8>| match runtime.block_on(ask(&bench, Request::new(bytes.into()))) {
        Ok(answer) => assert_eq!(told(&answer), DENIED),
        Err(status) => assert_eq!(Refusal::of(&status).code, Code::InvalidArgument),
    };
    // Every bit of a message by which somebody is denied.
    let denied = request("acme", "export").encode_to_vec();
    for bit in 0..denied.len() * 8 {
        let mut altered = denied.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        answered(altered);
    }
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() });
    let result = runner.run(&prop::collection::vec(any::<u8>(), 0..200), |bytes| {
        answered(bytes);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// The name of the setting, wherever an Envoy or a client could put it.
fn asking_for_a_dry_run(value: &str) -> Vec<Request<Bytes>> {
    let asking = |change: &dyn Fn(&mut AttributeContext)| {
        let mut asking = request("acme", "export");
        asking.attributes.iter_mut().for_each(change);
        message(&asking)
    };
    let fields = HashMap::from([
        ("dry_run".to_owned(), Value { kind: Some(Kind::BoolValue(value == "true")) }),
        ("dry-run".to_owned(), Value { kind: Some(Kind::StringValue(value.to_owned())) }),
    ]);
    let namespaces = ["envoy.filters.http.ext_authz", "envoy.filters.http.jwt_authn", "tessera", "dry_run"];
    let filter_metadata = namespaces.map(|namespace| (namespace.to_owned(), Struct { fields: fields.clone() })).into();
    let metadata = Some(Metadata { filter_metadata, ..Metadata::default() });
    let raw = |key: &str| HeaderValue { key: key.to_owned(), raw_value: value.into(), ..HeaderValue::default() };
    let http = HttpRequest {
        path: format!("/?dry_run={value}"),
        query: format!("dry_run={value}"),
        body: format!("{{\"dry_run\":{value}}}"),
        headers: entries(&[("dry_run", value), ("x-dry-run", value), ("x-tessera-dry-run", value)]),
        header_map: Some(HeaderMap { headers: ["Dry-Run", "x-tessera-dry-run"].map(raw).into() }),
        ..HttpRequest::default()
    };
    let mut all = vec![
        asking(&|attributes| drop(attributes.context_extensions.insert("dry_run".to_owned(), value.to_owned()))),
        asking(&|attributes| attributes.metadata_context.clone_from(&metadata)),
        asking(&|attributes| attributes.route_metadata_context.clone_from(&metadata)),
        asking(&|attributes| attributes.request = Some(Around { time: None, http: Some(http.clone()) })),
    ];
    let mut by_the_call = message(&request("acme", "export"));
    for name in ["dry_run", "dry-run", "x-tessera-dry-run", "tessera-dry-run"] {
        by_the_call.metadata_mut().insert(name, value.parse().unwrap());
    }
    all.push(by_the_call);
    all
}

#[tokio::test(start_paused = true)]
async fn no_request_reaches_the_dry_run() {
    for (dry_run, expected) in [(false, DENIED), (true, OK)] {
        let bench = bench_with(config(dry_run)).await;
        for value in ["true", "1", "false", "0", ""] {
            for request in asking_for_a_dry_run(value) {
                assert_eq!(told(&ask(&bench, request).await.unwrap()), expected, "`{value}` where it is {dry_run}");
            }
        }
    }
}

/// A clock that panics for whoever serves calls, once it is told to.
#[derive(Debug)]
struct Trap {
    clock: ManualClock,
    is_set: AtomicBool,
}

impl Clock for Trap {
    fn now(&self) -> Timestamp {
        let serves = std::thread::current().name().is_some_and(|name| name.starts_with("calls-"));
        assert!(!(serves && self.is_set.load(Ordering::SeqCst)), "the trap");
        self.clock.now()
    }
}

#[tokio::test]
async fn a_call_that_panics_is_an_error_and_hurts_nobody_else() {
    let bench = Bench::with(config(false)).await;
    let trap = Arc::new(Trap { clock: ManualClock::new(start()), is_set: AtomicBool::new(false) });
    let (tasks, clock) = (Tasks::new(), Arc::clone(&trap) as Arc<dyn Clock>);
    let dependencies = Dependencies { store: Arc::new(bench.store.clone()), feed: Arc::new(bench.feed.clone()), clock };
    let server = build(config(false), dependencies, &tasks).unwrap();
    let (services, shutdown) = (server.services(), tasks.shutdown());
    let handle = server.start(&tasks);
    handle.loaded().await;
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let threads = NonZeroUsize::MIN;
    tasks.spawn("test.listener", async move {
        serve_on_threads(listener, services, &ListenerConfig::default(), threads, shutdown).await
    });
    let channel = endpoint.connect().await.unwrap();
    let ask = async |tenant: &str| call(channel.clone(), message(&request(tenant, "view")).map(|bytes| vec![bytes])).await;

    assert_eq!(told(&ask("nobody").await.unwrap()), DENIED);
    trap.is_set.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let status = ask("nobody").await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status:?}");
    }
    trap.is_set.store(false, Ordering::SeqCst);
    assert_eq!(told(&ask("nobody").await.unwrap()), DENIED, "on the same connection");
}
