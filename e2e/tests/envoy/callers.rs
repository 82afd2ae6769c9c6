//! Envoys that Tessera knows and those that it does not: by a token, by a certificate, and over a Unix socket. An Envoy that is not
//! known has no judgement, so that its failure mode says what becomes of requests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tessera_e2e::authority::Authority;
use tessera_e2e::{Dev, binary};

use super::exchange::Request;
use super::proxy::{Envoy, Settings};
use super::service::Service;
use super::{documented, envoys, tessera};

/// A folder of a test, with a file of tokens.
struct Place(tempfile::TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        std::fs::write(self.path(name), text)?;
        Ok(self.path(name).display().to_string())
    }

    /// A new token.
    fn token(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(binary::tessera()?);
        command.args(["token", "create", name]).args(arguments).arg("--tokens-file").arg(self.path("tokens.toml"));
        Ok(binary::run(&mut command)?.success()?.trim().to_owned())
    }

    /// A Tessera with the settings of the sample and these.
    async fn tessera(&self, more: &str) -> anyhow::Result<Dev> {
        let sample = std::fs::read_to_string(binary::repository().join("deploy/envoy/tessera.toml"))?;
        let settings = self.write("tessera.toml", &format!("{sample}\n{more}"))?;
        tessera(Path::new(&settings), self.0.path()).await
    }

    /// The settings that ask callers for tokens.
    fn by_token(&self) -> String {
        format!("[identity]\ntokens_file = \"{}\"\n", self.path("tokens.toml").display())
    }
}

/// An Envoy that is known: what it lets in, it lets in by a judgement.
async fn judges(envoy: &Envoy) -> anyhow::Result<()> {
    let seen = Request::get("/exports").of("acme").send(envoy.ingress).await?.seen()?;
    assert_eq!(seen["x-tessera-tenant"], ["acme"]);
    let denied = Request::get("/exports").of("no-exports").send(envoy.ingress).await?.denied()?;
    assert_eq!(denied, (403, "DENIED_BY_OVERRIDE".to_owned()));
    Ok(())
}

/// An Envoy that is not known lets in nobody, or where its settings say so everybody, with a mark and without a word of ours.
async fn goes_by_its_failure_mode(program: &Path, settings: &Settings, service: &Service) -> anyhow::Result<()> {
    let closed = Envoy::begin(program, settings).await?;
    service.reached();
    for tenant in ["acme", "no-exports"] {
        let answer = Request::get("/exports").of(tenant).with("x-tessera-tenant: acme").send(closed.ingress).await?;
        assert_eq!(answer.status, 503, "{tenant}: {}", answer.body);
    }
    assert!(service.reached().is_empty(), "somebody was let in");
    let open = Envoy::begin(program, &settings.failing_open()?).await?;
    let seen = Request::get("/exports").of("acme").with("x-tessera-tenant: acme").send(open.ingress).await?.seen()?;
    assert_eq!(seen["x-envoy-auth-failure-mode-allowed"], ["true"]);
    assert!(!seen.keys().any(|name| name.starts_with("x-tessera-")), "{seen:?}");
    Ok(())
}

/// Settings of an Envoy that shows this token, as `docs/ENVOY.md` tells.
fn showing(settings: &Settings, token: &str) -> anyhow::Result<Settings> {
    let block = documented("initial_metadata")?;
    let shown = block.replace("tessera_…", token);
    anyhow::ensure!(shown != block, "the page shows no token: {block}");
    let whole = settings.with_block("grpc_service:", shown.trim_end())?;
    // The line of the sample that names the cluster has come twice by that.
    let again = "                        envoy_grpc: { cluster_name: tessera }\n                        timeout";
    whole.with(again, "                        timeout")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_is_known_by_its_token() -> anyhow::Result<()> {
    let (place, service, envoys) = (Place(tempfile::tempdir()?), Service::begin().await?, envoys()?);
    let known = place.token("envoy", &["--scope", "decide"])?;
    let bound = place.token("bound", &["--scope", "decide", "--tenant", "globex"])?;
    let without_scope = place.token("reader", &["--scope", "read"])?;
    let wrong = known.replace("tessera_", "tessera_A");
    let dev = place.tessera(&place.by_token()).await?;
    let settings = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?;
    for program in &envoys {
        let context = || program.display().to_string();
        judges(&Envoy::begin(program, &showing(&settings, &known)?).await?).await.with_context(context)?;
        for unknown in [settings.clone(), showing(&settings, &wrong)?, showing(&settings, &without_scope)?] {
            goes_by_its_failure_mode(program, &unknown, &service).await.with_context(context)?;
        }
        // A token that is bound to tenants has a judgement of all others: they are not there.
        let envoy = Envoy::begin(program, &showing(&settings, &bound)?.failing_open()?).await?;
        let denied = Request::get("/exports").of("acme").send(envoy.ingress).await?.denied()?;
        assert_eq!(denied, (403, "TENANT_UNKNOWN".to_owned()));
        // What a client shows is not what its Envoy shows.
        let envoy = Envoy::begin(program, &settings.with("provider_name: example", "allow_missing_or_failed: {}")?).await?;
        service.reached();
        let shows = Request::get("/exports").with(&format!("authorization: Bearer {known}"));
        assert_eq!(shows.send(envoy.ingress).await?.status, 503);
        assert!(service.reached().is_empty(), "a client has lent its token");
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_is_known_by_its_certificate() -> anyhow::Result<()> {
    let (place, service, envoys) = (Place(tempfile::tempdir()?), Service::begin().await?, envoys()?);
    let [servers, workloads, strangers] = [Authority::new()?, Authority::new()?, Authority::new()?];
    let server = servers.server(&["tessera.example"])?;
    let mut identity = documented("[[identity.workloads]]")?;
    for (known, text) in [("tls.crt", &server.certificate), ("tls.key", &server.key), ("workloads.crt", &workloads.pem)] {
        identity = identity.replace(&format!("/etc/tessera/tls/{known}"), &place.write(&format!("server-{known}"), text)?);
    }
    let dev = place.tessera(&identity).await?;
    let base = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?;
    let by = |name: &str, authority: &Authority, id: &str, trusted: &Authority| {
        let signed = authority.workload(id)?;
        let mut block = documented("UpstreamTlsContext")?;
        for (known, text) in [("workload.crt", &signed.certificate), ("workload.key", &signed.key), ("servers.crt", &trusted.pem)]
        {
            block = block.replace(&format!("/etc/envoy/tls/{known}"), &place.write(&format!("{name}-{known}"), text)?);
        }
        let block: Vec<String> = block.lines().map(|line| format!("  {line}")).collect();
        base.with_block("- name: tessera", &format!("- name: tessera\n{}", block.join("\n")))
    };
    let known = by("known", &workloads, "spiffe://mesh.example/gateway", &servers)?;
    let unknown = [
        by("other", &workloads, "spiffe://mesh.example/other", &servers)?,
        by("stranger", &strangers, "spiffe://mesh.example/gateway", &servers)?,
        // It is Tessera that is not known here.
        by("deceived", &workloads, "spiffe://mesh.example/gateway", &strangers)?,
        base.clone(),
    ];
    for program in &envoys {
        let context = || program.display().to_string();
        judges(&Envoy::begin(program, &known).await?).await.with_context(context)?;
        for settings in &unknown {
            goes_by_its_failure_mode(program, settings, &service).await.with_context(context)?;
        }
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_asks_over_the_unix_socket() -> anyhow::Result<()> {
    let (place, service, envoys) = (Place(tempfile::tempdir()?), Service::begin().await?, envoys()?);
    let socket = place.path("data.sock").display().to_string();
    let address = documented("pipe:")?.trim_end().replace("/run/tessera/data.sock", &socket);
    anyhow::ensure!(address.contains(&socket), "{address}");
    let settings = Settings::before(service.address)?.asks_at(&address)?.patient()?;
    let listener = format!("[listener]\nunix_socket = \"{socket}\"\n");
    let dev = place.tessera(&listener).await?;
    for program in &envoys {
        judges(&Envoy::begin(program, &settings).await?).await.with_context(|| program.display().to_string())?;
    }
    dev.stop()?;
    // It goes with its process.
    for program in &envoys {
        goes_by_its_failure_mode(program, &settings, &service).await.with_context(|| program.display().to_string())?;
    }

    let token = place.token("sidecar", &["--scope", "decide"])?;
    let dev = place.tessera(&format!("{listener}{}", place.by_token())).await?;
    for program in &envoys {
        let context = || program.display().to_string();
        judges(&Envoy::begin(program, &showing(&settings, &token)?).await?).await.with_context(context)?;
        goes_by_its_failure_mode(program, &settings, &service).await.with_context(context)?;
    }
    dev.stop()
}
