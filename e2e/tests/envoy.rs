//! A real Envoy asks a real Tessera: the sample in `deploy/envoy`, what else is told in `docs/ENVOY.md`, and what clients may try
//! against it. Once for each Envoy that is to be had: `envoy`, the newest, and `envoy-before`, an older one.
//!
//! Looked for above all: a request that gets through and must not, and a header of ours that a client wrote.

#[path = "envoy/attacks.rs"]
mod attacks;
#[path = "envoy/callers.rs"]
mod callers;
#[path = "envoy/certificates.rs"]
mod certificates;
#[path = "envoy/exchange.rs"]
mod exchange;
#[path = "envoy/exhausted.rs"]
mod exhausted;
#[path = "envoy/killed.rs"]
mod killed;
#[path = "envoy/proxy.rs"]
mod proxy;
#[path = "envoy/refusals.rs"]
mod refusals;
#[path = "envoy/service.rs"]
mod service;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tessera_e2e::{Dev, Launch, binary, tools};
use tokio::net::TcpListener;

use exchange::{Request, token};
use proxy::{Envoy, Settings};
use service::Service;

/// Envoys that are tried, by the name that `.ci/run` gives them.
const ENVOYS: [&str; 2] = ["envoy", "envoy-before"];

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

/// The only block of `docs/ENVOY.md` with these words.
fn documented(words: &str) -> anyhow::Result<String> {
    let page = std::fs::read_to_string(binary::repository().join("docs/ENVOY.md"))?;
    let blocks: Vec<&str> = page.split("```").skip(1).step_by(2).filter(|block| block.contains(words)).collect();
    let [block] = blocks.as_slice() else { anyhow::bail!("{} blocks with `{words}`", blocks.len()) };
    let (_language, text) = block.split_once('\n').context("a block of one line")?;
    Ok(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_lets_in_who_may_and_nobody_else() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (service, envoys) = (Service::begin().await?, envoys()?);
    let dev = tessera(&binary::repository().join("deploy/envoy/tessera.toml"), folder.path()).await?;
    let settings = Settings::before(service.address)?.asks(dev.addresses().data)?;
    for program in &envoys {
        let envoy = Envoy::begin(program, &settings).await?;
        let context = || program.display().to_string();
        may_and_may_not(envoy.ingress).await.with_context(context)?;
        cannot_be_forged(envoy.ingress).await.with_context(context)?;
        paths_mean_one_thing(envoy.ingress).await.with_context(context)?;
        rates_hang_on_the_plan(envoy.ingress).await.with_context(context)?;
        nothing_of_ours_is_left_where_nobody_judges(envoy.ingress).await.with_context(context)?;
        // Nor does it hang on Envoy's removing it.
        let envoy = Envoy::begin(program, &settings.keeping_what_clients_send()?).await?;
        cannot_be_forged(envoy.ingress).await.with_context(context)?;
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
        request = request.with(&format!("X.Tessera.{}: forged in dots", name.replace('-', ".")));
    }
    let seen = request.send(ingress).await?.seen()?;
    for (name, values) in seen.iter().filter(|(name, _)| is_ours(name)) {
        assert!(values.len() == 1 && !values[0].contains("forged"), "{name}: {values:?}");
    }
    assert_eq!(seen["x-tessera-tenant"], ["acme"]);
    let underscored = Request::get("/exports").of("acme").with("X_Tessera_Tenant: globex");
    assert_eq!(underscored.send(ingress).await?.status, 400);
    // Neither do headers, hosts or targets make somebody else of a client.
    let denied = Request::get("/exports?tenant=acme").of("nobody").with("x-tenant-id: acme").with("x-tessera-tenant: acme");
    assert_eq!(denied.send(ingress).await?.denied()?.1, "TENANT_UNKNOWN");
    Ok(())
}

/// Whether a service that is handed headers as variables, as by CGI and its successors, takes it for one of ours.
fn is_ours(header: &str) -> bool {
    let variable = header.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    variable.to_lowercase().starts_with("x_tessera_")
}

async fn nothing_of_ours_is_left_where_nobody_judges(ingress: SocketAddr) -> anyhow::Result<()> {
    let mut unasked = Request::get("/health").with("x-tessera-tenant: acme").with("X-TESSERA-PLAN: enterprise");
    for between in [".", "!", "~"] {
        unasked = unasked.with(&format!("X{between}Tessera.Tenant: acme")).with(&format!("X-Tessera{between}Plan: enterprise"));
    }
    let seen = unasked.send(ingress).await?.seen()?;
    assert!(!seen.keys().any(|name| is_ours(name)), "{seen:?}");
    for name in ["X_Tessera_Tenant", "X-Tessera_Tenant", "x_tessera-tenant"] {
        assert_eq!(Request::get("/health").with(&format!("{name}: acme")).send(ingress).await?.status, 400, "{name}");
    }
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
    let (service, envoys) = (Service::begin().await?, envoys()?);
    let nobody = TcpListener::bind("127.0.0.1:0").await?;
    let address = nobody.local_addr()?;
    let settings = Settings::before(service.address)?.asks(address)?;
    for program in &envoys {
        let closed = Envoy::begin(program, &settings).await?;
        service.reached();
        assert_eq!(Request::get("/exports").of("acme").send(closed.ingress).await?.status, 503);
        assert!(service.reached().is_empty());
        let open = Envoy::begin(program, &settings.failing_open()?).await?;
        let forged = Request::get("/exports").of("acme").with("x-tessera-tenant: globex").with("X-Tessera-Plan: enterprise");
        let seen = forged.send(open.ingress).await?.seen()?;
        assert_eq!(seen["x-envoy-auth-failure-mode-allowed"], ["true"]);
        assert!(!seen.keys().any(|name| name.starts_with("x-tessera-")), "{seen:?}");
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
    let (service, envoys) = (Service::begin().await?, envoys()?);
    let dev = tessera(&settings, folder.path()).await?;
    // Paths come as they were sent, and no token is asked for.
    let raw = Settings::before(service.address)?.without_tokens_of_users()?.keeping_what_clients_send()?;
    let raw = raw.with("normalize_path: true", "normalize_path: false")?.with("merge_slashes: true", "merge_slashes: false")?;
    let kept = "path_with_escaped_slashes_action: KEEP_UNCHANGED";
    let raw = raw.with("path_with_escaped_slashes_action: REJECT_REQUEST", kept)?;
    let joined = raw.with("encode_raw_headers: true", "encode_raw_headers: false")?;
    for program in &envoys {
        for settings in [&raw, &joined] {
            let envoy = Envoy::begin(program, &settings.asks(dev.addresses().data)?).await?;
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
                (by("/exports/%c0%af", "acme"), "PATH_NOT_NORMAL"),
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
        let envoy = Envoy::begin(program, &raw.asks(dev.addresses().data)?).await?;
        for (target, reason) in [("/exports/7", "DENIED_BY_OVERRIDE"), ("/other", "ROUTE_UNKNOWN")] {
            let request = Request::get(target).with("x-tenant-id: no-exports").with("x-tessera-plan: forged");
            let seen = request.send(envoy.ingress).await?.seen()?;
            assert_eq!(seen["x-tessera-reason"], [reason]);
            assert!(seen.get("x-tessera-plan").is_none_or(|plan| plan == &["enterprise"]), "{seen:?}");
        }
    }
    dev.stop()
}
