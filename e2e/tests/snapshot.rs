//! Snapshots of the real processes: a server starts while its store cannot be opened, from files that were torn or half written,
//! and says what it did. `tessera-server` over SQLite cannot have the store that `tessera dev` has open: that is the outage here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tessera_e2e::lines::Lines;
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Dev, Launch, binary, http, shop};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;

/// Fail points on the way of a snapshot into its folder, each with how often it is passed before it kills.
const FAIL_POINTS: [(&str, usize); 3] = [("snapshot.block", 5), ("snapshot.renaming", 2), ("snapshot.renamed", 2)];

/// A `tessera-server` that runs. Dropping it kills it.
struct Server {
    child: Child,
    log: Lines,
    data: std::net::SocketAddr,
    http: std::net::SocketAddr,
}

/// How to start one.
struct Start {
    command: Command,
}

impl Start {
    /// Over that data directory, with these settings of the data plane.
    fn over(data: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary::tessera()?.with_file_name("tessera-server"));
        command.args(["--print-addresses", "--data-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.env("TESSERA_BACKENDS__KIND", "sqlite").env("TESSERA_BACKENDS__DATA_DIR", data);
        for (name, value) in settings {
            command.env(format!("TESSERA_SERVER__{}", name.to_uppercase()), value);
        }
        command.current_dir(binary::repository()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self { command })
    }

    fn fail_point(mut self, point: &str) -> Self {
        self.command.env("TESSERA_TEST_FAIL_POINT", point);
        self
    }

    /// Waits until it has said where it listens.
    fn listening(mut self) -> anyhow::Result<Server> {
        let mut child = self.command.spawn().context("start `tessera-server`")?;
        let stdout = Lines::follow(child.stdout.take().context("no standard output")?);
        let log = Lines::follow(child.stderr.take().context("no standard error")?);
        let addresses = stdout.wait_for(PATIENCE, |line| {
            let said: serde_json::Value = serde_json::from_str(line).ok()?;
            let address = |name: &str| said.get(name)?.as_str()?.parse().ok();
            Some((address("data")?, address("http")?))
        });
        let Some((data, http)) = addresses else {
            drop(child.kill());
            anyhow::bail!("it does not listen:\n{}", log.whole(PATIENCE).join("\n"));
        };
        Ok(Server { child, log, data, http })
    }

    async fn ready(self) -> anyhow::Result<Server> {
        let server = self.listening()?;
        let is_ready = async || {
            let page = http::get(server.http, "/readyz").await?;
            anyhow::ensure!(page.status == 200, "not ready: {}", page.body);
            Ok(())
        };
        eventually("readiness", is_ready).await.with_context(|| server.log.all().join("\n"))?;
        Ok(server)
    }

    /// Waits for its end: how it ended, and its log.
    fn until_it_ends(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let output = self.command.output()?;
        Ok((output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

impl Server {
    async fn check(&self, tenant: &str) -> anyhow::Result<v1::CheckEntitlementResponse> {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", self.data))?.connect().await?;
        let mut client = EntitlementServiceClient::new(channel);
        let (service, feature) = (shop::SERVICE.to_owned(), shop::FEATURE.to_owned());
        let request = v1::CheckEntitlementRequest { tenant_id: tenant.to_owned(), service, feature, ..Default::default() };
        Ok(client.check_entitlement(request).await?.into_inner())
    }

    async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let page = http::get(self.http, "/metrics").await?.body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric `{name}`"))?.parse()?)
    }

    /// Waits until the metric has at least that value.
    async fn metric_reaches(&self, name: &str, least: f64) -> anyhow::Result<()> {
        let reached = async || {
            let value = self.metric(name).await?;
            anyhow::ensure!(value >= least, "{name} is {value}");
            Ok(())
        };
        eventually(name, reached).await.with_context(|| self.log.all().join("\n"))
    }

    async fn has_written(&self, count: f64) -> anyhow::Result<()> {
        self.metric_reaches("tessera_snapshots_total{outcome=\"written\"}", count).await
    }

    fn logged(&self, text: &str) -> bool {
        self.log.all().iter().any(|line| line.contains(text))
    }

    /// Asks it to end, and insists on exit code 0 and a log without errors.
    fn stop(mut self) -> anyhow::Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        let log = self.log.whole(PATIENCE).join("\n");
        anyhow::ensure!(status.success() && !log.contains("ERROR"), "ended with {status}\n{log}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const OFTEN: [(&str, &str); 2] = [("snapshot_interval_ms", "200"), ("snapshot_wait_ms", "300")];

/// `tessera dev` that leaves snapshots alone.
async fn dev(data: &Path) -> anyhow::Result<Dev> {
    Launch::over(data)?.env("TESSERA_SERVER__SNAPSHOTS", "false").ready().await
}

/// A store with tenant `acme` on the shop's plan.
async fn shop_with_acme(data: &Path) -> anyhow::Result<()> {
    let dev = dev(data).await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    create(&dev, "acme").await?;
    dev.stop()
}

async fn create(dev: &Dev, tenant: &str) -> anyhow::Result<()> {
    let request = v1::CreateTenantRequest {
        tenant_id: tenant.to_owned(),
        plan_id: shop::PLAN.to_owned(),
        request_id: format!("create-{tenant}"),
        ..Default::default()
    };
    dev.planes().await?.tenants().create_tenant(request).await?;
    Ok(())
}

async fn delete(dev: &Dev, tenant: &str) -> anyhow::Result<()> {
    let (tenant_id, request_id) = (tenant.to_owned(), format!("delete-{tenant}"));
    let request = v1::DeleteTenantRequest { tenant_id, request_id, ..Default::default() };
    dev.planes().await?.tenants().delete_tenant(request).await?;
    Ok(())
}

/// Files of the folder of snapshots whose names end so, oldest first.
fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    Ok(files)
}

fn tear(file: &Path) -> anyhow::Result<()> {
    let length = std::fs::metadata(file)?.len();
    Ok(std::fs::OpenOptions::new().write(true).open(file)?.set_len(length / 2)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_store_cannot_be_opened_serves_its_snapshot_and_catches_up_later() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    shop_with_acme(&data).await?;
    let server = Start::over(&data, &OFTEN)?.ready().await?;
    server.has_written(2.0).await?;
    assert!(server.check("acme").await?.entitled);
    assert!(server.metric("tessera_snapshot_served").await? < 0.5);
    server.stop()?;
    let kept = files(&data.join("snapshots"), ".snapshot")?;
    assert_eq!(kept.len(), 2, "{kept:?}");
    for file in &kept {
        assert_eq!(std::fs::metadata(file)?.permissions().mode() & 0o777, 0o600);
    }

    // The store belongs to another process now, which changes it.
    let other = dev(&data).await?;
    delete(&other, "acme").await?;
    create(&other, "late").await?;
    let server = Start::over(&data, &OFTEN)?.ready().await?;
    let answer = server.check("acme").await?;
    assert!(answer.entitled, "{answer:?}");
    assert!(server.metric("tessera_snapshot_served").await? > 0.5);
    assert!(server.logged("serving a snapshot") && server.logged("in use by another process"), "{:?}", server.log.all());
    assert!(!server.check("late").await?.entitled);

    // Back again: nothing is lost that was done meanwhile, and nothing is hydrated.
    other.stop()?;
    let caught_up = async || {
        anyhow::ensure!(server.metric("tessera_snapshot_served").await? < 0.5, "still the snapshot");
        Ok(())
    };
    eventually("the store to be caught up with", caught_up).await?;
    assert_eq!(server.check("acme").await?.reason(), v1::Reason::TenantDeleted);
    assert!(server.check("late").await?.entitled);
    assert!(!server.logged("hydrating"), "{:?}", server.log.all());
    server.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_files_leave_the_one_before_and_then_the_store() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    shop_with_acme(&data).await?;
    let server = Start::over(&data, &OFTEN)?.ready().await?;
    server.has_written(2.0).await?;
    server.stop()?;
    let kept = files(&data.join("snapshots"), ".snapshot")?;
    let [older, newer] = kept.as_slice() else { anyhow::bail!("two generations, not {kept:?}") };

    tear(newer)?;
    let other = dev(&data).await?;
    let server = Start::over(&data, &[("snapshot_wait_ms", "300"), ("snapshot_interval_ms", "86400000")])?.ready().await?;
    assert!(server.check("acme").await?.entitled);
    server.metric_reaches("tessera_snapshots_refused_total{cause=\"torn\"}", 1.0).await?;
    assert!(server.logged(&format!("{} ends at byte ", newer.display())), "{:?}", server.log.all());
    server.stop()?;

    // Without any, a process that cannot open its store has nothing to serve, and says why.
    tear(older)?;
    let (status, log) = Start::over(&data, &OFTEN)?.until_it_ends()?;
    assert!(!status.success() && log.contains("in use by another process"), "{status}: {log}");
    other.stop()?;
    let server = Start::over(&data, &OFTEN)?.ready().await?;
    assert!(server.check("acme").await?.entitled);
    server.metric_reaches("tessera_snapshots_refused_total{cause=\"torn\"}", 2.0).await?;
    assert!(server.logged("hydrating"));
    server.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_while_writing_leaves_a_snapshot_to_start_from() -> anyhow::Result<()> {
    for (point, times) in FAIL_POINTS {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        shop_with_acme(&data).await?;
        let server = Start::over(&data, &OFTEN)?.ready().await?;
        server.has_written(1.0).await?;
        server.stop()?;

        let (status, log) = Start::over(&data, &OFTEN)?.fail_point(&format!("{point}:{times}")).until_it_ends()?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(Signal::ABORT.as_raw()), "`{point}` was not reached: {status}\n{log}");

        let other = dev(&data).await?;
        let server = Start::over(&data, &OFTEN)?.ready().await?;
        assert!(server.check("acme").await?.entitled, "{point}");
        assert!(server.metric("tessera_snapshot_served").await? > 0.5);
        let unfinished = files(&data.join("snapshots"), ".unfinished")?;
        assert!(unfinished.is_empty(), "{point}: {unfinished:?}");
        other.stop()?;
        server.has_written(1.0).await?;
        server.stop()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fail_point_of_snapshots_is_passed_here() -> anyhow::Result<()> {
    let code = std::fs::read_to_string(binary::repository().join("server/src/snapshot/folder.rs"))?;
    let points = code.split("fail_point(\"").skip(1).filter_map(|rest| rest.split_once('"'));
    let mut points: Vec<&str> = points.map(|(name, _)| name).collect();
    points.sort_unstable();
    let mut known = FAIL_POINTS.map(|(name, _)| name);
    known.sort_unstable();
    assert_eq!(points, known);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_to_is_told_and_harms_nobody() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    shop_with_acme(&data).await?;
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder")?;
    let place = file.display().to_string();
    let server = Start::over(&data, &[OFTEN[0], ("snapshot_dir", &place)])?.ready().await?;
    server.metric_reaches("tessera_snapshots_total{outcome=\"failed\"}", 2.0).await?;
    assert!(server.check("acme").await?.entitled);
    assert!(server.logged("a snapshot cannot be written; the ones before stay"), "{:?}", server.log.all());
    server.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_another_store_is_refused_by_name() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, another) = (folder.path().join("data"), folder.path().join("another"));
    shop_with_acme(&data).await?;
    let dev = dev(&another).await?;
    shop::open(&dev.planes().await?).await?;
    dev.stop()?;
    let server = Start::over(&data, &OFTEN)?.ready().await?;
    server.has_written(1.0).await?;
    server.stop()?;
    let place = data.join("snapshots").display().to_string();
    let server = Start::over(&another, &[OFTEN[0], ("snapshot_dir", &place)])?.ready().await?;
    assert_eq!(server.check("acme").await?.reason(), v1::Reason::TenantUnknown);
    server.metric_reaches("tessera_snapshots_refused_total{cause=\"foreign\"}", 1.0).await?;
    assert!(server.logged("the snapshot is of store "), "{:?}", server.log.all());
    server.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_starts_from_its_snapshot_too() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let launch = || Launch::over(&data).map(|launch| launch.env("TESSERA_SERVER__SNAPSHOT_INTERVAL_MS", "200"));
    let dev = launch()?.ready().await?;
    shop::open(&dev.planes().await?).await?;
    create(&dev, "acme").await?;
    let newest = || files(&data.join("snapshots"), ".snapshot").map(|files| files.last().cloned());
    let before = newest().unwrap_or_default();
    let another = async || {
        let now = newest()?;
        anyhow::ensure!(now.is_some() && now != before, "no snapshot since");
        Ok(())
    };
    eventually("a snapshot", another).await?;
    dev.stop()?;

    let dev = launch()?.ready().await?;
    let planes = dev.planes().await?;
    assert!(planes.check("acme", shop::SERVICE, shop::FEATURE).await?.entitled);
    let log = dev.log.all().join("\n");
    assert!(log.contains("a snapshot is loaded") && !log.contains("hydrating"), "{log}");
    delete(&dev, "acme").await?;
    assert_eq!(planes.check("acme", shop::SERVICE, shop::FEATURE).await?.reason(), v1::Reason::TenantDeleted);
    dev.stop()
}
