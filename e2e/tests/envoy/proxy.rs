//! A real Envoy with the sample in `deploy/envoy`, of which a test replaces what it is about.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use tessera_e2e::binary;
use tessera_e2e::waiting::eventually;

use super::exchange::Request;

/// How the sample says where Tessera is.
const TESSERA: &str = "socket_address: { address: 127.0.0.1, port_value: 7400 }";
/// How it says that nobody passes when Tessera cannot be asked.
const FAILS_CLOSED: &str = "failure_mode_allow: false";
const FAILS_OPEN: &str = "failure_mode_allow: true\n                      failure_mode_allow_header_add: true";

/// The settings of an Envoy.
#[derive(Debug, Clone)]
pub(crate) struct Settings(String);

/// An Envoy, and where it listens.
pub(crate) struct Envoy {
    process: Child,
    pub(crate) ingress: SocketAddr,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

// === impl Settings ===

impl Settings {
    /// The sample before that service, on free ports.
    pub(crate) fn before(service: SocketAddr) -> anyhow::Result<Self> {
        let sample = binary::repository().join("deploy/envoy/envoy.yaml");
        let settings = std::fs::read_to_string(&sample).with_context(|| format!("read {}", sample.display()))?;
        let ports = [("9901", 0), ("10000", 0), ("9000", service.port())];
        let ports = ports.map(|(known, ours)| (format!("port_value: {known}"), format!("port_value: {ours}")));
        ports.iter().try_fold(Self(settings), |settings, (known, ours)| settings.with(known, ours))
    }

    /// That asks a Tessera at that address.
    pub(crate) fn asks(&self, tessera: SocketAddr) -> anyhow::Result<Self> {
        self.with(TESSERA, &TESSERA.replace("7400", &tessera.port().to_string()))
    }

    /// That asks a Tessera at an address as the settings of Envoy have it.
    pub(crate) fn asks_at(&self, address: &str) -> anyhow::Result<Self> {
        self.with(TESSERA, address)
    }

    /// With some words in place of others.
    pub(crate) fn with(&self, known: &str, ours: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(self.0.contains(known), "the sample does not say `{known}`");
        Ok(Self(self.0.replace(known, ours)))
    }

    /// With a block in the place of a line that begins so, indented as that line is.
    pub(crate) fn with_block(&self, line: &str, block: &str) -> anyhow::Result<Self> {
        let found = self.0.lines().find(|known| known.trim_start().starts_with(line));
        let found = found.with_context(|| format!("the sample has no line `{line}`"))?;
        let (indent, _) = found.split_at(found.len() - found.trim_start().len());
        let block: Vec<String> = block.lines().map(|line| format!("{indent}{line}")).collect();
        self.with(found, &block.join("\n"))
    }

    /// Whoever could not be judged passes, with a mark.
    pub(crate) fn failing_open(&self) -> anyhow::Result<Self> {
        self.with(FAILS_CLOSED, FAILS_OPEN)
    }

    /// Without the removal of what clients send under our names, so that Tessera has to overwrite it. What only looks like these
    /// it cannot.
    pub(crate) fn keeping_what_clients_send(&self) -> anyhow::Result<Self> {
        self.with("x[^a-z0-9]tessera", "x[^a-z0-9-]tessera")
    }

    /// Without a look at who sent a request: for tests in which it is said in other ways.
    pub(crate) fn without_tokens_of_users(&self) -> anyhow::Result<Self> {
        self.with("requires: { provider_name: example }", "requires: { allow_missing: {} }")
    }

    /// Tessera has so long to answer that no busy machine is taken for one that is away.
    pub(crate) fn patient(&self) -> anyhow::Result<Self> {
        self.with("timeout: 0.25s", "timeout: 60s")
    }
}

// === impl Envoy ===

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Envoy {
    /// Starts it and waits until it is ready.
    pub(crate) async fn begin(program: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (file, admin) = (folder.path().join("envoy.yaml"), folder.path().join("admin"));
        std::fs::write(&file, &settings.0)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("--admin-address-path").arg(&admin);
        command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"]);
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start envoy")?;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut envoy = Self { process, ingress: nowhere, admin: nowhere, _folder: folder };
        let addresses = eventually("an envoy that is ready", async || {
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
            Ok(Ok((SocketAddr::from(([127, 0, 0, 1], port)), admin)))
        });
        (envoy.ingress, envoy.admin) = addresses.await??;
        Ok(envoy)
    }

    /// One of its own counts.
    pub(crate) async fn count(&self, name: &str) -> anyhow::Result<u64> {
        let said = Request::get(&format!("/stats?filter=^{name}$")).send(self.admin).await?.body;
        let (_, value) = said.trim().split_once(": ").with_context(|| format!("no count `{name}`: {said}"))?;
        Ok(value.parse()?)
    }
}
