//! Calls through the layer, a collector that is one, and one that is away.

use std::sync::Mutex;

use axum::Router;
use axum::routing::any;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tessera_core::time::Timestamp;
use tessera_ports::clock::ManualClock;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn settings(endpoint: &str) -> Settings {
    Settings {
        endpoint: endpoint.to_owned(),
        sample_ratio: 1.0,
        follow_callers: true,
        tenant_ids: false,
        queue_max: 100,
        export_timeout_ms: 1_000,
    }
}

/// Routes with spans, and where these come out.
fn traced(settings: &Settings) -> (Traced<Routes>, mpsc::Receiver<Span>) {
    let (sender, receiver) = mpsc::channel(settings.queue_max);
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(7).unwrap()));
    let recorder = Recorder::new(settings, sender, clock, SystemIds::bytes);
    let answer = async || {
        note_tenant("acme");
        Status::not_found("x").into_http::<Body>()
    };
    let named = async || ([("grpc-status", "0"), ("tessera-request-id", "import 7")], "");
    // Whose fallback says that there is no such method.
    let nothing = Routes::default().into_axum_router();
    let router = nothing.route("/a.B/C", any(answer)).route("/a.B/Named", any(named)).route("/grpc.health/Check", any(named));
    (Traces(Some(Arc::new(recorder))).over(Routes::from(router)), receiver)
}

async fn call(routes: &Traced<Routes>, path: &str, parent: Option<&str>) {
    let mut request = http::Request::builder().uri(path);
    if let Some(parent) = parent {
        request = request.header("traceparent", parent);
    }
    let answer = routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1_000).await.unwrap();
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

#[tokio::test]
async fn a_span_says_what_was_called_by_whom_and_what_came_of_it() {
    let (routes, mut spans) = traced(&settings("http://127.0.0.1:1"));
    call(&routes, "/a.B/C", Some(PARENT)).await;
    let span = spans.try_recv().unwrap();
    assert_eq!((span.name.as_str(), span.kind), ("a.B/C", 2));
    assert_eq!(span.trace_id.first_chunk(), Some(&[0x4b, 0xf9, 0x2f, 0x35]));
    assert_eq!(span.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_ne!(span.span_id, span.parent_span_id);
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (7_000_000_000, 7_000_000_000));
    assert_eq!(attribute(&span, "rpc.service").as_deref(), Some("a.B"));
    assert_eq!(attribute(&span, "rpc.method").as_deref(), Some("C"));
    assert_eq!(attribute(&span, "rpc.grpc.status_code").as_deref(), Some("5"));
    assert_eq!(span.status, None, "not found is no fault of the server");
    assert_eq!(attribute(&span, "tessera.tenant_id"), None, "nobody asked for it");

    call(&routes, "/a.B/Named", None).await;
    let span = spans.try_recv().unwrap();
    assert_eq!(attribute(&span, "tessera.request_id").as_deref(), Some("import 7"));
    assert_eq!((span.trace_id.len(), span.span_id.len(), span.parent_span_id.len()), (16, 8, 0));

    call(&routes, "/nothing/There", None).await;
    let span = spans.try_recv().unwrap();
    assert_eq!(attribute(&span, "rpc.grpc.status_code").as_deref(), Some("12"));
    assert_eq!(span.status.unwrap().code, 2, "unimplemented is one");
    call(&routes, "/grpc.health/Check", Some(PARENT)).await;
    assert!(spans.try_recv().is_err(), "health checks have none");
    call(&routes, &format!("/{}", "é".repeat(200).replace('é', "%C3%A9")), None).await;
    assert!(spans.try_recv().unwrap().name.len() <= 128);
}

#[tokio::test]
async fn callers_decide_about_their_calls_and_chance_about_the_others() {
    let unsampled = PARENT.replace("-01", "-00");
    let counted = async |settings: Settings, parent: Option<&str>| {
        let (routes, mut spans) = traced(&Settings { queue_max: 2_000, ..settings });
        for _ in 0..1_000 {
            call(&routes, "/a.B/C", parent).await;
        }
        std::iter::from_fn(|| spans.try_recv().ok()).count()
    };
    let of = |sample_ratio| Settings { sample_ratio, ..settings("http://127.0.0.1:1") };
    assert_eq!(counted(of(1.0), Some(&unsampled)).await, 0);
    assert_eq!(counted(of(0.0), Some(PARENT)).await, 1_000);
    assert_eq!(counted(of(0.0), None).await, 0);
    assert_eq!(counted(of(1.0), None).await, 1_000);
    // Beyond these bounds by chance less than once in 10^20 runs.
    let half = counted(of(0.5), None).await;
    assert!((350..650).contains(&half), "{half}");
    let alone = Settings { follow_callers: false, ..of(0.0) };
    assert_eq!(counted(alone, Some(PARENT)).await, 0, "callers are not followed");
}

#[tokio::test]
async fn a_full_queue_drops_and_holds_nobody_up() {
    let (routes, mut spans) = traced(&Settings { queue_max: 2, ..settings("http://127.0.0.1:1") });
    for _ in 0..5 {
        call(&routes, "/a.B/C", None).await;
    }
    assert_eq!(std::iter::from_fn(|| spans.try_recv().ok()).count(), 2);
}

#[test]
fn mistakes_name_the_field_the_value_and_what_is_allowed() {
    for endpoint in
        ["https://collector:4317", "collector:4317", "http://", "http://collector", "http://collector:4317/v1", "", "ftp://a:1"]
    {
        let error = settings(endpoint).validate().unwrap_err().to_string();
        assert!(error.contains("telemetry.traces.endpoint") && error.contains("http://host:port"), "{endpoint}: {error}");
    }
    let good = settings("http://collector:4317");
    assert!(good.validate().is_ok());
    for (bad, named) in [
        (Settings { sample_ratio: 1.5, ..good.clone() }, ["sample_ratio", "`1.5`", "0 to 1"]),
        (Settings { sample_ratio: f64::NAN, ..good.clone() }, ["sample_ratio", "`NaN`", "0 to 1"]),
        (Settings { queue_max: 0, ..good.clone() }, ["queue_max", "`0`", "1 to 1000000"]),
        (Settings { export_timeout_ms: 1, ..good }, ["export_timeout_ms", "`1`", "10 to 60000"]),
    ] {
        let error = bad.validate().unwrap_err().to_string();
        assert!(named.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// Takes spans.
#[derive(Debug, Default, Clone)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn what_waits_when_the_process_drains_is_sent_before_it_ends() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = Tasks::new();
    let routes = Routes::new(TraceServiceServer::new(collector.clone()));
    let shutdown = serving.shutdown();
    serving.spawn("collector", async move {
        crate::listener::serve(listener, routes, &crate::listener::ListenerConfig::default(), shutdown).await
    });

    let tasks = Tasks::new();
    let config = crate::telemetry::Config { traces: Some(settings(&endpoint)) };
    let traces = Traces::start(&config, "tessera-test", &tasks).unwrap();
    let routes = traces.over(Routes::from(Router::new().route("/a.B/C", any(async || ""))));
    drop(traces);
    for _ in 0..3 {
        call(&routes, "/a.B/C", None).await;
    }
    drop(routes);
    let (_sender, signals) = mpsc::channel(1);
    tasks.shutdown().drain();
    let ending = tasks.run_until_stopped(crate::lifecycle::Signals::of_channel(signals)).await;
    assert_eq!(ending, crate::lifecycle::Ending::Drained);
    let taken = collector.0.lock().unwrap();
    let spans: usize = taken.iter().flat_map(|r| &r.resource_spans).flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
    assert_eq!(spans, 3);
    let resource = taken[0].resource_spans[0].resource.as_ref().unwrap();
    let keys: Vec<&str> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "service.version"]);
}

#[tokio::test]
async fn a_collector_that_is_away_does_not_hold_up_the_end() {
    let tasks = Tasks::new();
    // Nobody listens on a port that was just given back.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let config = crate::telemetry::Config { traces: Some(settings(&endpoint)) };
    let traces = Traces::start(&config, "tessera-test", &tasks).unwrap();
    let routes = traces.over(Routes::from(Router::new().route("/a.B/C", any(async || ""))));
    call(&routes, "/a.B/C", None).await;
    let (_sender, signals) = mpsc::channel(1);
    tasks.shutdown().drain();
    // The routes are still there, and with them whoever may make spans.
    let ending = tasks.run_until_stopped(crate::lifecycle::Signals::of_channel(signals)).await;
    assert_eq!(ending, crate::lifecycle::Ending::Drained);
    drop((traces, routes));
}

#[tokio::test(start_paused = true)]
async fn a_slow_collector_costs_spans_and_does_not_make_the_end_an_abort() {
    // In memory, since time is not real: nothing is on its way when nobody has anything to do.
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let serving = Tasks::new();
    let theirs = futures::stream::once(async { std::io::Result::Ok(theirs) });
    serving.spawn("collector", async move {
        Server::builder().add_service(TraceServiceServer::new(Slow)).serve_with_incoming(theirs).await.map_err(Into::into)
    });
    let mut ours = Some(TokioIo::new(ours));
    let connect = tower::service_fn(move |_| {
        std::future::ready(ours.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionRefused)))
    });
    let channel = Endpoint::from_static("http://collector:4317").connect_with_connector_lazy(connect);

    let recorder = PrometheusBuilder::new().build_recorder();
    let tasks = Tasks::new();
    let settings = Settings { queue_max: 8_192, export_timeout_ms: 3_000, ..settings("http://collector:4317") };
    let traces = ::metrics::with_local_recorder(&recorder, || Traces::sent_through(channel, &settings, "tessera-test", &tasks));
    let routes = traces.over(Routes::from(Router::new().route("/a.B/C", any(async || ""))));
    for _ in 0..8_192 {
        call(&routes, "/a.B/C", None).await;
    }
    let (_sender, signals) = mpsc::channel(1);
    tasks.shutdown().drain();
    let began = tokio::time::Instant::now();
    let ending = tasks.run_until_stopped(crate::lifecycle::Signals::of_channel(signals)).await;
    assert_eq!(ending, crate::lifecycle::Ending::Drained);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let page = recorder.handle().render();
    let counted = |what: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    let sent = counted("tessera_trace_spans_sent_total");
    let lost = counted("tessera_trace_spans_dropped_total{cause=\"export\"}");
    assert!(sent > 0 && sent + lost == 8_192, "{sent} and {lost}: all are accounted for");
}

/// Takes spans, after almost as long as an outlet may take.
struct Slow;

#[tonic::async_trait]
impl TraceService for Slow {
    async fn export(&self, _: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        tokio::time::sleep(Duration::from_millis(1_900)).await;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
