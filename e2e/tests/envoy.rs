//! A real Envoy asks a real Tessera: the sample in `deploy/envoy`, and what clients may try against it. Once for each Envoy that is
//! to be had: `envoy`, the newest, and `envoy-before`, an older one.
//!
//! Looked for above all: a request that gets through and must not, and a header of ours that a client wrote.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Dev, Launch, binary, tools};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The key in `deploy/envoy/envoy.yaml`.
const KEY: &[u8] = b"an-example-key-that-everybody-knows";
/// Envoys that are tried, by the name that `.ci/run` gives them.
const ENVOYS: [&str; 2] = ["envoy", "envoy-before"];

/// An Envoy, and where it listens.
struct Envoy {
    process: Child,
    ingress: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Envoy {
    /// Begins with the sample, with its ports and these words replaced.
    async fn begin(program: &Path, service: SocketAddr, tessera: SocketAddr, replaced: &[(&str, &str)]) -> anyhow::Result<Self> {
        let sample = binary::repository().join("deploy/envoy/envoy.yaml");
        let mut settings = std::fs::read_to_string(&sample).with_context(|| format!("read {}", sample.display()))?;
        let ports = [("9901", 0), ("10000", 0), ("9000", service.port()), ("7400", tessera.port())];
        let ports = ports.map(|(known, ours)| (format!("port_value: {known}"), format!("port_value: {ours}")));
        let ports = ports.iter().map(|(known, ours)| (known.as_str(), ours.as_str()));
        for (known, ours) in ports.chain(replaced.iter().copied()) {
            anyhow::ensure!(settings.contains(known), "the sample does not say `{known}`");
            settings = settings.replace(known, ours);
        }
        let folder = tempfile::tempdir()?;
        let (file, admin) = (folder.path().join("envoy.yaml"), folder.path().join("admin"));
        std::fs::write(&file, settings)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("--admin-address-path").arg(&admin);
        command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"]);
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start envoy")?;
        let mut envoy = Self { process, ingress: tessera, _folder: folder };
        let ingress = eventually("an envoy that is ready", async || {
            if let Some(status) = envoy.process.try_wait()? {
                let log = std::fs::read_to_string(file.with_file_name("log")).unwrap_or_default();
                return Ok(Err(anyhow::anyhow!("envoy ended with {status}\n{log}")));
            }
            let admin: SocketAddr = std::fs::read_to_string(&admin)?.trim().parse()?;
            let listeners = Request::get("/listeners?format=json").send(admin).await?.body;
            let listeners: serde_json::Value = serde_json::from_str(&listeners)?;
            let port = &listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
            let port = port.as_u64().and_then(|port| u16::try_from(port).ok()).context("it does not listen yet")?;
            anyhow::ensure!(Request::get("/ready").send(admin).await?.status == 200, "it is not ready");
            Ok(Ok(SocketAddr::from(([127, 0, 0, 1], port))))
        });
        envoy.ingress = ingress.await??;
        Ok(envoy)
    }
}

/// A request, written as it is told.
struct Request {
    target: String,
    headers: Vec<String>,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Request {
    fn get(target: &str) -> Self {
        Self { target: target.to_owned(), headers: Vec::new() }
    }

    /// With a token for that tenant.
    fn of(self, tenant: &str) -> Self {
        self.with(&format!(
            "authorization: Bearer {}",
            token(&serde_json::json!({"iss": "https://idp.example", "tenant": tenant}))
        ))
    }

    /// With another line.
    fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    async fn send(&self, address: SocketAddr) -> anyhow::Result<Answer> {
        let first = format!("GET {} HTTP/1.1\r\nhost: shop.example\r\nconnection: close", self.target);
        let lines: Vec<&str> = std::iter::once(first.as_str()).chain(self.headers.iter().map(String::as_str)).collect();
        let request = format!("{}\r\n\r\n", lines.join("\r\n"));
        let mut stream = TcpStream::connect(address).await.context("connect")?;
        stream.write_all(request.as_bytes()).await.context("send")?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.context("receive")?;
        let said = String::from_utf8(said)?;
        let (head, body) = said.split_once("\r\n\r\n").context("no end of the headers")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = headers.collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked");
        let body = if chunked { whole(body)? } else { body.to_owned() };
        Ok(Answer { status, headers, body })
    }
}

/// A body that came in chunks (RFC 9112, section 7.1).
fn whole(mut chunks: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(length, 16).context("the length of a chunk")?;
        if length == 0 {
            return Ok(body);
        }
        let (chunk, rest) = rest.split_at_checked(length).context("a chunk that is cut short")?;
        body.push_str(chunk);
        chunks = rest.strip_prefix("\r\n").context("a chunk without an end")?;
    }
}

impl Answer {
    /// The headers that the service saw, if the request reached it.
    fn seen(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        anyhow::ensure!(self.status == 200, "answered {}: {}", self.status, self.body);
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in self.body.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            seen.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
        }
        Ok(seen)
    }

    /// Status and reason of a denial, whose body says the same.
    fn denied(&self) -> anyhow::Result<(u16, String)> {
        let reason = self.headers.get("x-tessera-reason").with_context(|| format!("no reason: {} {}", self.status, self.body))?;
        anyhow::ensure!(
            self.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json"),
            "{:?}",
            self.headers
        );
        let problem: serde_json::Value = serde_json::from_str(&self.body).with_context(|| self.body.clone())?;
        anyhow::ensure!(problem["status"] == self.status && problem["reason"] == **reason, "{problem}");
        Ok((self.status, reason.clone()))
    }
}

/// A service that says which request reached it; goes on until the set is dropped.
async fn service() -> anyhow::Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", head.len());
                // Whoever has gone does not want it.
                let _ = stream.write_all(&[answer.as_bytes(), &head].concat()).await;
            });
        }
    });
    Ok((address, tasks))
}

/// A JWT (RFC 7519) with those claims, signed with the key of the sample (HS256, RFC 2104).
fn token(claims: &serde_json::Value) -> String {
    let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&serde_json::json!({"alg": "HS256", "kid": "example"})), part(claims));
    let padded = |with: u8| -> Vec<u8> { (0..64).map(|place| KEY.get(place).unwrap_or(&0) ^ with).collect() };
    let inner = Sha256::digest([padded(0x36), signed.clone().into_bytes()].concat());
    let outer = Sha256::digest([padded(0x5c), inner.to_vec()].concat());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(outer))
}

/// A Tessera with the quickstart's tenants and these settings.
async fn tessera(settings: &Path, folder: &Path) -> anyhow::Result<Dev> {
    let mut launch = Launch::over(&folder.join("data"))?.apply(&binary::repository().join("examples/quickstart"));
    launch.command().arg("--settings").arg(settings);
    launch.ready().await
}

/// Envoys that are there; an error in CI where one is not.
fn envoys() -> anyhow::Result<Vec<PathBuf>> {
    let found: Result<Vec<_>, _> = ENVOYS.into_iter().map(tools::find).collect();
    Ok(found?.into_iter().flatten().collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_lets_in_who_may_and_nobody_else() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ((service, _tasks), envoys) = (service().await?, envoys()?);
    let dev = tessera(&binary::repository().join("deploy/envoy/tessera.toml"), folder.path()).await?;
    for program in &envoys {
        let envoy = Envoy::begin(program, service, dev.addresses().data, &[]).await?;
        let context = || program.display().to_string();
        may_and_may_not(envoy.ingress).await.with_context(context)?;
        cannot_be_forged(envoy.ingress).await.with_context(context)?;
        paths_mean_one_thing(envoy.ingress).await.with_context(context)?;
        rates_hang_on_the_plan(envoy.ingress).await.with_context(context)?;
    }
    dev.stop()
}

async fn may_and_may_not(ingress: SocketAddr) -> anyhow::Result<()> {
    let seen = Request::get("/exports").of("acme").send(ingress).await?.seen()?;
    let ours = |name: &str| seen.get(name).map(Vec::as_slice).unwrap_or_default();
    assert_eq!(ours("x-tessera-tenant"), ["acme"]);
    assert_eq!(ours("x-tessera-plan"), ["gold"]);
    assert_eq!(
        (ours("x-tessera-plan-version"), ours("x-tessera-familiarity")),
        (&["1".to_owned()][..], &["8750".to_owned()][..])
    );
    assert_eq!(ours("x-tessera-reason"), ["GRANTED_BY_PLAN"]);
    assert!(!ours("x-tessera-revision").is_empty());
    let reports = Request::get("/custom-reports?of=us").of("acme").send(ingress).await?.seen()?;
    assert_eq!(reports["x-tessera-reason"], ["GRANTED_BY_OVERRIDE"]);
    for (tenant, target, status, reason) in [
        ("corner-shop", "/exports", 402, "FEATURE_NOT_IN_PLAN"),
        ("hooli", "/exports", 402, "TRIAL_ENDED"),
        ("shut-down", "/exports", 403, "TENANT_SUSPENDED"),
        ("no-exports", "/exports", 403, "DENIED_BY_OVERRIDE"),
        ("nobody", "/exports", 403, "TENANT_UNKNOWN"),
        ("not a tenant!", "/exports", 403, "NAME_INVALID"),
        ("", "/exports", 403, "TENANT_MISSING"),
        // No route says what it is for.
        ("acme", "/", 403, "FEATURE_MISSING"),
    ] {
        let denied =
            Request::get(target).of(tenant).send(ingress).await?.denied().with_context(|| format!("{tenant} {target}"))?;
        assert_eq!(denied, (status, reason.to_owned()), "{tenant} {target}");
    }
    // Who is not asked for is open, and who has no token is not even asked about.
    assert_eq!(Request::get("/health").send(ingress).await?.status, 200);
    assert_eq!(Request::get("/exports").send(ingress).await?.status, 401);
    let forged = token(&serde_json::json!({"iss": "https://idp.example", "tenant": "acme"})).replace('.', ".e30");
    assert_eq!(Request::get("/exports").with(&format!("authorization: Bearer {forged}")).send(ingress).await?.status, 401);
    Ok(())
}

async fn cannot_be_forged(ingress: SocketAddr) -> anyhow::Result<()> {
    let mut request = Request::get("/exports").of("acme");
    for name in ["tenant", "plan", "plan-version", "familiarity", "revision", "reason"] {
        request = request.with(&format!("x-tessera-{name}: forged")).with(&format!("X-Tessera-{name}: forged twice"));
    }
    let seen = request.send(ingress).await?.seen()?;
    for (name, values) in seen.iter().filter(|(name, _)| name.starts_with("x-tessera-")) {
        assert!(values.len() == 1 && !values[0].contains("forged"), "{name}: {values:?}");
    }
    assert_eq!(seen["x-tessera-tenant"], ["acme"]);
    // Neither do headers, hosts or targets make somebody else of a client.
    let denied = Request::get("/exports?tenant=acme").of("nobody").with("x-tenant-id: acme").with("x-tessera-tenant: acme");
    assert_eq!(denied.send(ingress).await?.denied()?.1, "TENANT_UNKNOWN");
    Ok(())
}

async fn paths_mean_one_thing(ingress: SocketAddr) -> anyhow::Result<()> {
    // Envoy makes them one before anybody judges them: as the route says, so is it judged.
    for target in ["/health/../exports", "//exports", "/./exports", "/custom-reports/../exports", "/%65xports"] {
        let answer = Request::get(target).of("no-exports").send(ingress).await?;
        assert_eq!(answer.denied().with_context(|| target.to_owned())?.1, "DENIED_BY_OVERRIDE", "{target}");
    }
    for target in ["/custom-reports/..%2Fexports", "/custom-reports/%2e%2e%5Cexports", "/custom-reports/..%5cexports"] {
        let answer = Request::get(target).of("acme").send(ingress).await?;
        assert_eq!(answer.status, 400, "{target}: {}", answer.body);
    }
    Ok(())
}

/// The plan that Tessera found limits the rate: five an hour for silver.
async fn rates_hang_on_the_plan(ingress: SocketAddr) -> anyhow::Result<()> {
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(Request::get("/exports").of("late-payer").send(ingress).await?.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(Request::get("/exports").of("acme").send(ingress).await?.status, 200);
    Ok(())
}

/// Whoever cannot be asked is not taken for one that agrees, unless an operator says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tessera_that_is_away_lets_in_nobody_unless_envoy_is_told_so() -> anyhow::Result<()> {
    let ((service, _tasks), envoys) = (service().await?, envoys()?);
    let nobody = TcpListener::bind("127.0.0.1:0").await?;
    let address = nobody.local_addr()?;
    for program in &envoys {
        let closed = Envoy::begin(program, service, address, &[]).await?;
        assert_eq!(Request::get("/exports").of("acme").send(closed.ingress).await?.status, 503);
        let open = [(
            "failure_mode_allow: false",
            "failure_mode_allow: true\n                      failure_mode_allow_header_add: true",
        )];
        let open = Envoy::begin(program, service, address, &open).await?;
        let seen = Request::get("/exports").of("acme").send(open.ingress).await?.seen()?;
        assert_eq!(seen["x-envoy-auth-failure-mode-allowed"], ["true"]);
        assert!(!seen.contains_key("x-tessera-tenant"));
    }
    Ok(())
}

/// A table of routes, and a tenant in a header that somebody before Envoy is trusted to set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_routes_judges_and_a_dry_run_only_tells() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = folder.path().join("tessera.toml");
    let table = "[server.ext_authz]\ndry_run = false\ntenant = [{ from = \"header\", name = \"x-tenant-id\" }]\n\
                 service = [{ from = \"route\" }]\nfeature = [{ from = \"route\" }]\n\
                 [[server.ext_authz.routes]]\nmethod = \"GET\"\npath = \"/exports/{id}\"\nservice = \"reporting\"\nfeature = \"exports\"\n";
    std::fs::write(&settings, table)?;
    let ((service, _tasks), envoys) = (service().await?, envoys()?);
    let dev = tessera(&settings, folder.path()).await?;
    // Paths come as they were sent, and no token is asked for.
    let raw = [
        ("normalize_path: true", "normalize_path: false"),
        ("merge_slashes: true", "merge_slashes: false"),
        ("path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED"),
        ("requires: { provider_name: example }", "requires: { allow_missing: {} }"),
    ];
    let joined = [&raw[..], &[("encode_raw_headers: true", "encode_raw_headers: false")]].concat();
    for program in &envoys {
        for settings in [&raw[..], &joined] {
            let envoy = Envoy::begin(program, service, dev.addresses().data, settings).await?;
            let by = |target: &str, tenant: &str| Request::get(target).with(&format!("X-Tenant-Id: {tenant}"));
            assert_eq!(by("/exports/7?x", "acme").send(envoy.ingress).await?.seen()?["x-tessera-tenant"], ["acme"]);
            for (request, reason) in [
                (by("/exports/7", "no-exports"), "DENIED_BY_OVERRIDE"),
                (by("/exports/7", "acme").with("x-tenant-id: no-exports"), "SOURCE_AMBIGUOUS"),
                (by("/exports/7", "acme").with("x-tenant-id: acme"), "SOURCE_AMBIGUOUS"),
                (by("/exports/7", "acme, no-exports"), "SOURCE_AMBIGUOUS"),
                (Request::get("/exports/7"), "TENANT_MISSING"),
                (by("/exports", "acme"), "ROUTE_UNKNOWN"),
                (by("/exports/7/8", "acme"), "ROUTE_UNKNOWN"),
                (by("/exports//7", "acme"), "PATH_NOT_NORMAL"),
                (by("/other/../exports/7", "acme"), "PATH_NOT_NORMAL"),
                (by("/exports/%2e%2e", "acme"), "PATH_NOT_NORMAL"),
                (by("/exports/a%2Fb", "acme"), "PATH_NOT_NORMAL"),
                (by("/exports/7;x=1", "acme"), "PATH_NOT_NORMAL"),
            ] {
                let denied = request.send(envoy.ingress).await?.denied().with_context(|| request.target.clone())?;
                assert_eq!(denied, (403, reason.to_owned()), "{} {:?}", request.target, request.headers);
            }
        }
    }
    dev.stop()?;

    std::fs::write(&settings, table.replace("dry_run = false", "dry_run = true"))?;
    let dev = tessera(&settings, folder.path()).await?;
    for program in &envoys {
        let envoy = Envoy::begin(program, service, dev.addresses().data, &raw).await?;
        for (target, reason) in [("/exports/7", "DENIED_BY_OVERRIDE"), ("/other", "ROUTE_UNKNOWN")] {
            let request = Request::get(target).with("x-tenant-id: no-exports").with("x-tessera-plan: forged");
            let seen = request.send(envoy.ingress).await?.seen()?;
            assert_eq!(seen["x-tessera-reason"], [reason]);
            assert!(seen.get("x-tessera-plan").is_none_or(|plan| plan == &["enterprise"]), "{seen:?}");
        }
    }
    dev.stop()
}
