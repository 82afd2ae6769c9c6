//! What a process tells of itself: spans to a collector that is one, and to one that is away; the decision log, also of a dry run;
//! the log filter, changed while it runs.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Around};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use tempfile::TempDir;
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Dev, Launch, Planes, binary, http, shop};
use tessera_proto::v1;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Takes spans, and keeps them.
#[derive(Debug, Default, Clone)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().map_err(|_| Status::internal("a test has failed"))?.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves on a port of its own; ends with the test.
    async fn serving(&self) -> anyhow::Result<(String, JoinHandle<Result<(), tonic::transport::Error>>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let service = TraceServiceServer::new(self.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        let serving = serving.serve_with_incoming(TcpListenerStream::new(listener));
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        Ok((endpoint, tokio::spawn(serving)))
    }

    fn spans(&self) -> Vec<Span> {
        let taken = self.0.lock().expect("no test has failed");
        let scopes = taken.iter().flat_map(|request| &request.resource_spans).flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    fn of_resource(&self, key: &str) -> Vec<String> {
        let taken = self.0.lock().expect("no test has failed");
        let resources = taken.iter().flat_map(|request| &request.resource_spans).filter_map(|spans| spans.resource.as_ref());
        resources.filter_map(|resource| text(&resource.attributes, key)).collect()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// A Tessera with these settings and something to sell.
async fn tessera(folder: &TempDir, settings: &str) -> anyhow::Result<(Dev, Planes)> {
    let file = folder.path().join("tessera.toml");
    std::fs::write(&file, settings)?;
    let mut launch = Launch::over(&folder.path().join("data"))?;
    launch.command().arg("--settings").arg(file);
    let dev = launch.ready().await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    Ok((dev, planes))
}

fn named<T>(message: T, id: &str, parent: Option<&str>) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("tessera-request-id", id.parse()?);
    if let Some(parent) = parent {
        request.metadata_mut().insert("traceparent", parent.parse()?);
    }
    Ok(request)
}

async fn create(planes: &Planes, tenant: &str, parent: Option<&str>) -> anyhow::Result<()> {
    let message = v1::CreateTenantRequest {
        tenant_id: tenant.to_owned(),
        plan_id: shop::PLAN.to_owned(),
        request_id: format!("create-{tenant}"),
        ..Default::default()
    };
    planes.tenants().create_tenant(named(message, "of-create", parent)?).await.context("create a tenant")?;
    planes.check(tenant, shop::SERVICE, shop::FEATURE).await?;
    Ok(())
}

fn check(tenant: &str) -> v1::CheckEntitlementRequest {
    let (service, feature) = (shop::SERVICE.to_owned(), shop::FEATURE.to_owned());
    v1::CheckEntitlementRequest { tenant_id: tenant.to_owned(), service, feature, ..Default::default() }
}

/// The decision log so far.
fn lines(file: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read `{line}`"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_both_planes_belong_to_the_traces_of_their_callers() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let collector = Collector::default();
    let (endpoint, serving) = collector.serving().await?;
    let settings = format!("[telemetry.traces]\nendpoint = \"{endpoint}\"\nsample_ratio = 0.0\ntenant_ids = true\n");
    let (dev, planes) = tessera(&folder, &settings).await?;

    create(&planes, "acme", Some(PARENT)).await?;
    planes.entitlements().check_entitlement(named(check("acme"), "of-check", Some(PARENT))?).await?;
    planes.entitlements().check_entitlement(named(check("acme"), "unsampled", None)?).await?;
    let refused = planes.entitlements().check_entitlement(named(check("a b"), "refused", Some(PARENT))?).await;
    ensure!(refused.is_err(), "`a b` is no tenant");

    let spans = eventually("three spans", async || {
        let spans = collector.spans();
        ensure!(spans.len() >= 3, "{} spans", spans.len());
        Ok(spans)
    })
    .await?;
    assert_eq!(spans.len(), 3, "only calls whose caller samples have one: {spans:?}");
    let of = |id: &str| {
        let span = spans.iter().find(|span| text(&span.attributes, "tessera.request_id").as_deref() == Some(id));
        span.with_context(|| format!("no span of `{id}` in {spans:?}"))
    };
    // A mutation is named by the field of its message.
    let (created, checked, refused) = (of("create-acme")?, of("of-check")?, of("refused")?);
    for (span, name, code) in [
        (created, "tessera.v1.TenantService/CreateTenant", "0"),
        (checked, "tessera.v1.EntitlementService/CheckEntitlement", "0"),
        (refused, "tessera.v1.EntitlementService/CheckEntitlement", "3"),
    ] {
        assert_eq!(span.name, name);
        assert_eq!(text(&span.attributes, "rpc.grpc.status_code").as_deref(), Some(code), "{span:?}");
        assert_eq!(span.trace_id.first_chunk(), Some(&[0x4b, 0xf9, 0x2f, 0x35]), "the trace of the caller");
        assert_eq!(span.parent_span_id.last(), Some(&0xb7), "the span of the caller");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    }
    for span in [created, checked] {
        assert_eq!(text(&span.attributes, "tessera.tenant_id").as_deref(), Some("acme"));
    }
    assert!(collector.of_resource("service.name").iter().all(|name| name == "tessera-dev"));
    assert!(!collector.of_resource("service.version").is_empty());
    dev.metric_reaches("tessera_trace_spans_sent_total", 3.0).await?;

    // What is sampled at the very end is not lost.
    planes.entitlements().check_entitlement(named(check("acme"), "the-last", Some(PARENT))?).await?;
    drop(planes);
    dev.stop()?;
    let last = collector.spans().iter().filter_map(|span| text(&span.attributes, "tessera.request_id")).next_back();
    assert_eq!(last.as_deref(), Some("the-last"));
    serving.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Nobody listens on a port that was just given back.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    drop(listener);
    let settings = format!("[telemetry.traces]\nendpoint = \"{endpoint}\"\nsample_ratio = 1.0\n");
    let (dev, planes) = tessera(&folder, &settings).await?;
    create(&planes, "acme", None).await?;
    assert!(planes.check("acme", shop::SERVICE, shop::FEATURE).await?.entitled);
    dev.metric_reaches("tessera_trace_spans_dropped_total{cause=\"export\"}", 1.0).await?;
    // Which is said after it is counted.
    eventually("a word of the collector", async || {
        anyhow::ensure!(dev.account().contains("the collector does not take spans"), "{}", dev.account());
        Ok(())
    })
    .await?;
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_decision_log_says_what_was_answered_and_follows_a_rename() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, moved) = (folder.path().join("decisions.jsonl"), folder.path().join("decisions.jsonl.1"));
    let settings =
        format!("[server.decision_log]\nfile = \"{}\"\nallow_per_million = 1000000\ndeny_per_million = 0\n", file.display());
    let (dev, planes) = tessera(&folder, &settings).await?;
    create(&planes, "acme", None).await?;
    let answer = planes.entitlements().check_entitlement(named(check("acme"), "of-check", None)?).await?.into_inner();
    planes.entitlements().check_entitlement(named(check("nobody"), "denied", None)?).await?;
    let batch = v1::BatchCheckEntitlementRequest { checks: vec![check("acme"), check("nobody")], ..Default::default() };
    planes.entitlements().batch_check_entitlement(named(batch, "of-batch", None)?).await?;

    // The one of `create`, the check, and one of the batch.
    let written = eventually("three lines", async || {
        let lines = lines(&file)?;
        ensure!(lines.len() >= 3, "{lines:?}");
        Ok(lines)
    })
    .await?;
    assert_eq!(written.len(), 3, "denials are not sampled: {written:?}");
    let of = |id: &str| written.iter().find(|line| line.get("request_id").is_some_and(|found| found == id)).context("no line");
    for (id, mode) in [("of-check", "unary"), ("of-batch", "batch")] {
        let line = of(id)?;
        for (field, value) in [
            ("mode", Value::from(mode)),
            ("tenant", "acme".into()),
            ("service", shop::SERVICE.into()),
            ("feature", shop::FEATURE.into()),
            ("entitled", true.into()),
            ("reason", "GRANTED_BY_PLAN".into()),
            ("plan", shop::PLAN.into()),
            ("plan_version", 1.into()),
        ] {
            assert_eq!(line.get(field), Some(&value), "{line}");
        }
        let revision = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &answer.revision);
        assert_eq!(line.get("revision"), Some(&Value::from(revision)), "also where the answer does not say it");
    }
    std::fs::rename(&file, &moved)?;
    planes.entitlements().check_entitlement(named(check("acme"), "after", None)?).await?;
    drop(planes);
    dev.stop()?;
    let after = lines(&file)?;
    assert_eq!(after.iter().filter_map(|line| line.get("request_id")?.as_str()).collect::<Vec<_>>(), ["after"]);
    assert_eq!(lines(&moved)?.len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_decision_log_may_go_to_the_standard_output_and_is_whole_when_the_process_has_ended() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = "[server.decision_log]\nfile = \"stdout\"\nallow_per_million = 1000000\n";
    let (dev, planes) = tessera(&folder, settings).await?;
    create(&planes, "acme", None).await?;
    planes.entitlements().check_entitlement(named(check("nobody"), "denied", None)?).await?;
    dev.metric_reaches("tessera_decision_log_lines_total", 2.0).await?;
    planes.entitlements().check_entitlement(named(check("acme"), "the-last", None)?).await?;
    drop(planes);
    let stdout = dev.stdout.clone();
    dev.stop()?;
    // Beside it stands what the process prints anyhow, such as where it listens.
    let printed = stdout.whole(PATIENCE);
    let lines = printed.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let decisions: Vec<Value> = lines.filter(|line| line.get("entitled").is_some()).collect();
    let of = |field: &str| decisions.iter().map(|line| line.get(field).and_then(Value::as_str)).collect::<Vec<_>>();
    assert_eq!(of("tenant"), [Some("acme"), Some("nobody"), Some("acme")], "{printed:?}");
    assert_eq!(of("reason"), [Some("GRANTED_BY_PLAN"), Some("TENANT_UNKNOWN"), Some("GRANTED_BY_PLAN")], "{printed:?}");
    assert_eq!(of("request_id").into_iter().skip(1).collect::<Vec<_>>(), [Some("denied"), Some("the-last")], "{printed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_allows_and_logs_what_it_would_have_denied() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = "[server.ext_authz]\ndry_run = true\ntenant = [{ from = \"header\", name = \"x-tenant-id\" }]\n\
                    service = [{ from = \"context_extension\", key = \"service\" }]\n";
    let (dev, planes) = tessera(&folder, settings).await?;
    create(&planes, "acme", None).await?;
    let mut envoy = AuthorizationClient::new(planes.data.clone());
    for tenant in ["acme", "nobody", ""] {
        let http = HttpRequest { headers: [("x-tenant-id".to_owned(), tenant.to_owned())].into(), ..Default::default() };
        let attributes = AttributeContext {
            request: Some(Around { http: Some(http), ..Default::default() }),
            context_extensions: [("service".to_owned(), shop::SERVICE.to_owned())].into(),
            ..Default::default()
        };
        let answer = envoy.check(CheckRequest { attributes: Some(attributes) }).await?.into_inner();
        assert_eq!(answer.status.context("a status")?.code, 0, "`{tenant}` is allowed");
    }
    let said = eventually("lines of what would be denied", async || {
        let said = dev.account();
        ensure!(said.matches("a dry run has allowed what is to be denied").count() >= 2, "{said}");
        Ok(said)
    })
    .await?;
    assert!(said.contains("TENANT_UNKNOWN") && said.contains("nobody"), "{said}");
    assert_eq!(said.matches("a dry run has allowed what is to be denied").count(), 2, "{said}");
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_filter_changes_while_the_process_runs_and_the_log_says_who_wanted_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (dev, _planes) = tessera(&folder, "").await?;
    let pages = dev.addresses().http;
    assert_eq!(dev.page("/log-filter").await?.body, "warn,tessera=info\n");
    let refused = http::put(pages, "/log-filter", "tessera=loud").await?;
    assert!(refused.status == 400 && refused.body.contains("`tessera=loud`"), "{refused:?}");
    let changed = http::put(pages, "/log-filter", "off\n").await?;
    assert_eq!((changed.status, changed.body.as_str()), (200, "off\n"));
    eventually("the line about it", async || {
        let said = dev.account();
        ensure!(said.contains("the log filter was changed") && said.contains("127.0.0.1"), "{said}");
        Ok(())
    })
    .await?;
    let version = dev.page("/version").await?.body;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    dev.stop()
}

#[tokio::test]
async fn settings_that_cannot_be_end_the_start_by_name() -> anyhow::Result<()> {
    for (settings, named) in [
        (
            "[telemetry.traces]\nendpoint = \"https://collector:4317\"\n",
            ["telemetry.traces.endpoint", "`https://collector:4317`"],
        ),
        ("[telemetry.traces]\nendpoint = \"http://c:1\"\nsample_ratio = 2.0\n", ["telemetry.traces.sample_ratio", "`2`"]),
        ("[telemetry.traces]\nendpont = \"http://c:1\"\n", ["endpont", "endpoint"]),
        ("[server.decision_log]\nfile = \"/nonexistent/log\"\n", ["decision_log.file", "`/nonexistent/log`"]),
        ("[server.decision_log]\nfile = \"x\"\nqueue_max = 0\n", ["decision_log.queue_max", "`0`"]),
    ] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("tessera.toml");
        std::fs::write(&file, settings)?;
        let mut launch = Launch::over(&folder.path().join("data"))?;
        launch.command().arg("--settings").arg(&file);
        let (status, log) = launch.until_it_ends()?;
        assert!(!status.success() && named.iter().all(|word| log.contains(word)), "{settings}: {log}");
    }
    Ok(())
}

#[test]
fn the_processes_of_a_cluster_have_the_same_settings() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tessera.toml");
    let data = folder.path().join("data");
    let backends = format!("[backends]\nkind = \"sqlite\"\ndata_dir = \"{}\"\n", data.display());
    std::fs::write(&file, format!("[telemetry.traces]\nendpoint = \"https://collector:4317\"\n{backends}"))?;
    for program in [binary::server()?, binary::loader()?] {
        let refused = binary::run(Command::new(&program).arg("--settings").arg(&file))?.success();
        let said = format!("{:#}", refused.err().context("it started")?);
        assert!(said.contains("`telemetry.traces.endpoint` is `https://collector:4317`"), "{}: {said}", program.display());
        assert!(!data.exists(), "refused before anything is opened");
    }
    Ok(())
}
