//! The real grpcurl against the real binary: a client that knows nothing of us but what reflection tells it.

#[path = "grpcurl/authorization.rs"]
mod authorization;
#[path = "grpcurl/identified.rs"]
mod identified;

use std::path::PathBuf;
use std::process::Command;

use tessera_e2e::binary::{self, Finished};
use tessera_e2e::{Dev, Launch, tools};

/// A running process with the examples, and the grpcurl to ask it with.
struct Fixture {
    dev: Dev,
    grpcurl: PathBuf,
    _data: tempfile::TempDir,
}

impl Fixture {
    /// `None` when there is no grpcurl.
    async fn start() -> anyhow::Result<Option<Self>> {
        Self::start_with(&[]).await
    }

    /// With more arguments.
    async fn start_with(arguments: &[&str]) -> anyhow::Result<Option<Self>> {
        let Some(grpcurl) = tools::find("grpcurl")? else { return Ok(None) };
        let data = tempfile::tempdir()?;
        let mut launch = Launch::over(data.path())?.apply("examples/quickstart".as_ref());
        launch.command().args(arguments);
        Ok(Some(Self { dev: launch.ready().await?, grpcurl, _data: data }))
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        binary::run(Command::new(&self.grpcurl).arg("-plaintext").args(arguments))
    }

    /// Runs a command in which `grpcurl` is ours.
    fn with_grpcurl(&self, command: &mut Command) -> anyhow::Result<Finished> {
        let folder = self.grpcurl.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&folders)))?;
        binary::run(command.env("PATH", path))
    }

    fn shell(&self, script: &str) -> anyhow::Result<Finished> {
        self.with_grpcurl(Command::new("sh").arg("-c").arg(script))
    }

    fn data(&self) -> String {
        self.dev.addresses().data.to_string()
    }

    fn control(&self) -> String {
        self.dev.addresses().control.to_string()
    }
}

fn json(text: &str) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::from_str(text)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_describes_both_planes() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    let data = fixture.run(&[&fixture.data(), "list"])?.success()?;
    for service in ["tessera.v1.EntitlementService", "grpc.health.v1.Health"] {
        assert!(data.lines().any(|line| line == service), "{service} is missing in:\n{data}");
    }
    assert!(!data.contains("TenantService"), "the data plane offers the control plane's services:\n{data}");
    let control = fixture.run(&[&fixture.control(), "list"])?.success()?;
    for service in ["TenantService", "PlanService", "AddOnService", "CatalogService", "AuditService"] {
        assert!(control.lines().any(|line| line == format!("tessera.v1.{service}")), "{service} is missing in:\n{control}");
    }
    for (address, services) in [(fixture.data(), data), (fixture.control(), control)] {
        for service in services.lines() {
            let described = fixture.run(&[&address, "describe", service])?.success()?;
            assert!(described.contains("is a service"), "{service}: {described}");
        }
    }
    for address in [fixture.data(), fixture.control()] {
        let hidden = fixture.run(&[&address, "describe", "tessera.storage.v1.Event"])?;
        anyhow::ensure!(hidden.code != Some(0), "the stored form is shown: {}", hidden.stdout);
    }
    let request = fixture.run(&[&fixture.data(), "describe", ".tessera.v1.CheckEntitlementRequest"])?.success()?;
    assert!(request.contains("tenant_id") && request.contains("limit_check"), "{request}");
    fixture.dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    let body = r#"{"tenant_id":"acme","service":"reporting","feature":"custom-reports","explain":true}"#;
    let answer = fixture.run(&["-d", body, &fixture.data(), "tessera.v1.EntitlementService/CheckEntitlement"])?.success()?;
    let answer = json(&answer)?;
    assert_eq!(answer["entitled"], true, "{answer}");
    assert_eq!(answer["reason"], "REASON_GRANTED_BY_OVERRIDE", "{answer}");
    assert_eq!(answer["familiarityBasisPoints"], 8_750, "{answer}");
    assert!(answer["explanation"].as_array().is_some_and(|steps| steps.len() >= 10), "{answer}");
    fixture.dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_a_tenant_that_is_entitled_at_its_revision() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    let body = r#"{"tenant_id":"new-one","title":"New","plan_id":"gold","request_id":"once"}"#;
    let create = ["-d", body, &fixture.control(), "tessera.v1.TenantService/CreateTenant"];
    let created = json(&fixture.run(&create)?.success()?)?;
    let again = json(&fixture.run(&create)?.success()?)?;
    assert_eq!(again["idempotentReplay"], true, "{again}");
    assert_eq!((&again["tenant"], &again["revision"]), (&created["tenant"], &created["revision"]));
    let revision = created["revision"].as_str().unwrap_or_default();
    let body = format!(
        r#"{{"tenant_id":"new-one","service":"reporting","feature":"exports","consistency":{{"at_least":{{"revision":"{revision}"}}}}}}"#
    );
    let answer = fixture.run(&["-d", &body, &fixture.data(), "tessera.v1.EntitlementService/CheckEntitlement"])?.success()?;
    assert_eq!(json(&answer)?["entitled"], true, "{answer}");
    fixture.dev.stop()
}

/// A call that must fail: its code, and the types and contents of its details as grpcurl decodes them by reflection.
fn failure(fixture: &Fixture, address: &str, method: &str, body: &str) -> anyhow::Result<serde_json::Value> {
    let finished = fixture.run(&["-format-error", "-d", body, address, method])?;
    anyhow::ensure!(finished.code != Some(0), "it succeeded: {}", finished.stdout);
    json(&finished.stderr).map_err(|error| error.context(finished.stderr))
}

#[track_caller]
fn assert_reason(error: &serde_json::Value, reason: &str) {
    let details = error["details"].as_array().cloned().unwrap_or_default();
    let info = details.iter().find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo");
    let info = info.cloned().unwrap_or_default();
    assert_eq!((info["reason"].as_str(), info["domain"].as_str()), (Some(reason), Some("tessera")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_details_are_decoded() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    let check = "tessera.v1.EntitlementService/CheckEntitlement";
    let error = failure(&fixture, &fixture.data(), check, r#"{"tenant_id":"no spaces","service":"reporting"}"#)?;
    assert_eq!(error["code"], 3, "{error}");
    assert_reason(&error, "INVALID_FIELD");
    let text = error.to_string();
    assert!(text.contains("google.rpc.BadRequest") && text.contains("tenant_id") && text.contains("no spaces"), "{error}");

    let create = "tessera.v1.TenantService/CreateTenant";
    let error = failure(&fixture, &fixture.control(), create, r#"{"tenant_id":"acme","plan_id":"gold"}"#)?;
    assert_eq!(error["code"], 6, "{error}");
    assert_reason(&error, "TENANT_EXISTS");

    let error = failure(&fixture, &fixture.control(), create, r#"{"tenant_id":"x","plan_id":"platinum"}"#)?;
    assert!(error.to_string().contains("platinum"), "{error}");

    let update = "tessera.v1.TenantService/UpdateTenant";
    let error = failure(&fixture, &fixture.control(), update, r#"{"tenant_id":"acme","title":"x","etag":"stale"}"#)?;
    assert!(error["code"] == 10 || error["code"] == 3, "{error}");

    let get = "tessera.v1.TenantService/GetTenant";
    let error = failure(&fixture, &fixture.control(), get, r#"{"tenant_id":"nobody"}"#)?;
    assert_eq!(error["code"], 5, "{error}");
    assert_reason(&error, "TENANT_NOT_FOUND");
    fixture.dev.stop()
}

/// Method, body, code, reason, and what of the field at fault a person must read.
const BAD: [(&str, &str, i64, &str, &[&str]); 9] = [
    ("CheckEntitlement", r#"{"service":"reporting"}"#, 3, "INVALID_FIELD", &["tenant_id", "it is empty", "1 to 128 bytes"]),
    (
        "CheckEntitlement",
        r#"{"tenant_id":"\u0430cme","service":"reporting"}"#,
        3,
        "INVALID_FIELD",
        &["tenant_id", r"\\u{430}cme"],
    ),
    (
        "CheckEntitlement",
        r#"{"tenant_id":"\u202eacme\u0000","service":"reporting"}"#,
        3,
        "INVALID_FIELD",
        &[r"\\u{202e}acme\\u{0}"],
    ),
    (
        "CheckEntitlement",
        r#"{"tenant_id":"acme","service":"reporting","limit_check":{"name":"max_users","amount":"-1"}}"#,
        3,
        "INVALID_FIELD",
        &["limit_check.amount", "`-1`", "0 to 9223372036854775807"],
    ),
    (
        "CheckEntitlement",
        r#"{"tenant_id":"acme","service":"reporting","consistency":{"at_least":{"revision":"AQE="}}}"#,
        3,
        "INVALID_REVISION",
        &["consistency.at_least.revision", "0x0101", "bytes that an earlier answer returned"],
    ),
    ("ListEntitlements", r#"{"tenant_id":"nobody"}"#, 5, "TENANT_NOT_FOUND", &["nobody"]),
    ("ListEntitlements", r#"{"tenant_id":"no spaces"}"#, 3, "INVALID_FIELD", &["tenant_id", "no spaces", "1 to 128 bytes"]),
    (
        "BatchCheckEntitlement",
        r#"{"checks":[],"consistency":{"at_least":{}}}"#,
        3,
        "INVALID_REVISION",
        &["consistency.at_least.revision", "is empty"],
    ),
    (
        "CheckEntitlement",
        r#"{"tenant_id":"acme","service":"reporting","consistency":{"at_least":{"revision":"AQIBA2dvgsywxU0B"}}}"#,
        14,
        "REVISION_NOT_REACHED",
        &["google.rpc.RetryInfo"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_with_field_value_and_what_is_allowed() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    for (method, body, code, reason, words) in BAD {
        let error = failure(&fixture, &fixture.data(), &format!("tessera.v1.EntitlementService/{method}"), body)?;
        assert_eq!(error["code"], code, "{method} {body}: {error}");
        assert_reason(&error, reason);
        for word in words {
            assert!(error.to_string().contains(word), "{method} {body} does not say `{word}`: {error}");
        }
    }
    fixture.dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_and_error_carries_the_request_id() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    for tenant in ["acme", "no spaces"] {
        let body = format!(r#"{{"tenant_id":"{tenant}"}}"#);
        let method = "tessera.v1.EntitlementService/ListEntitlements";
        let said = fixture.run(&["-v", "-rpc-header", "tessera-request-id: mine-1", "-d", &body, &fixture.data(), method])?;
        // Once as it is sent, once as it comes back.
        let count = said.stdout.matches("tessera-request-id: mine-1").count();
        assert_eq!(count, 2, "{tenant}: {}", said.stdout);
        let said = fixture.run(&["-v", "-d", &body, &fixture.data(), method])?;
        assert_eq!(said.stdout.matches("tessera-request-id: ").count(), 1, "{tenant}: {}", said.stdout);
    }
    fixture.dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_request_is_answered() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    let mut answered = 0;
    for entry in std::fs::read_dir(binary::repository().join("examples/grpcurl"))? {
        let script = entry?.path();
        let mut command = Command::new(&script);
        command.env("TESSERA_DATA_ADDR", fixture.data()).env("TESSERA_CONTROL_ADDR", fixture.control());
        let answer =
            fixture.with_grpcurl(&mut command)?.success().map_err(|error| error.context(script.display().to_string()))?;
        assert!(json(&answer)?.as_object().is_some_and(|fields| !fields.is_empty()), "{}: {answer}", script.display());
        answered += 1;
    }
    assert!(answered >= 5, "{answered} requests");
    fixture.dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_readme_work() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    let readme = std::fs::read_to_string(binary::repository().join("README.md"))?;
    let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with("grpcurl ")).collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        let line = line.replace("127.0.0.1:7400", &fixture.data()).replace("127.0.0.1:7401", &fixture.control());
        let rest = line.trim_start_matches("grpcurl ");
        let script = format!("exec \"$0\" {rest}");
        let said = binary::run(Command::new("sh").arg("-c").arg(&script).arg(&fixture.grpcurl))?.success()?;
        assert!(!said.trim().is_empty(), "`{line}` says nothing");
    }
    fixture.dev.stop()
}
