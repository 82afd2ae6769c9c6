//! Snapshots of the real processes: a server starts while its store cannot be opened, from files that were torn or half written,
//! and says what it did. `tessera-server` over SQLite cannot have the store that `tessera dev` has open: that is the outage here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use rustix::process::Signal;
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Dev, Launch, Running, Start, binary, shop};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tonic::transport::Endpoint;

/// Fail points on the way of a snapshot into its folder, each with how often it is passed before it kills.
const FAIL_POINTS: [(&str, usize); 3] = [("snapshot.block", 5), ("snapshot.renaming", 2), ("snapshot.renamed", 2)];

/// `tessera-server` over that data directory, with these settings of the data plane.
fn start(data: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Start> {
    let mut start = Start::new(Command::new(binary::server()?), &["data", "http"]);
    start.command().env("TESSERA_BACKENDS__KIND", "sqlite").env("TESSERA_BACKENDS__DATA_DIR", data);
    for (name, value) in settings {
        start = start.env(&format!("TESSERA_SERVER__{}", name.to_uppercase()), value);
    }
    Ok(start)
}

async fn check(server: &Running, tenant: &str) -> anyhow::Result<v1::CheckEntitlementResponse> {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address("data")?))?.timeout(PATIENCE);
    let mut client = EntitlementServiceClient::new(endpoint.connect().await?);
    let (service, feature) = (shop::SERVICE.to_owned(), shop::FEATURE.to_owned());
    let request = v1::CheckEntitlementRequest { tenant_id: tenant.to_owned(), service, feature, ..Default::default() };
    Ok(client.check_entitlement(request).await?.into_inner())
}

/// Whether it answers by a snapshot, because it does not have its store.
async fn serves_snapshot(server: &Running) -> anyhow::Result<bool> {
    let metric = server.metric("tessera_snapshot_served").await?;
    Ok(metric.context("no metric of the snapshot that is served")? > 0.5)
}

async fn has_written(server: &Running, count: f64) -> anyhow::Result<()> {
    server.metric_reaches("tessera_snapshots_total{outcome=\"written\"}", count).await
}

fn logged(server: &Running, text: &str) -> bool {
    server.log.all().iter().any(|line| line.contains(text))
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
    let server = start(&data, &OFTEN)?.ready().await?;
    has_written(&server, 2.0).await?;
    assert!(check(&server, "acme").await?.entitled);
    assert!(!serves_snapshot(&server).await?);
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
    let server = start(&data, &OFTEN)?.ready().await?;
    let answer = check(&server, "acme").await?;
    assert!(answer.entitled, "{answer:?}");
    assert!(serves_snapshot(&server).await?);
    assert!(logged(&server, "serving a snapshot") && logged(&server, "in use by another process"), "{:?}", server.log.all());
    assert!(!check(&server, "late").await?.entitled);

    // Back again: nothing is lost that was done meanwhile, and nothing is hydrated.
    other.stop()?;
    let caught_up = async || {
        anyhow::ensure!(!serves_snapshot(&server).await?, "still the snapshot");
        Ok(())
    };
    eventually("the store to be caught up with", caught_up).await?;
    assert_eq!(check(&server, "acme").await?.reason(), v1::Reason::TenantDeleted);
    assert!(check(&server, "late").await?.entitled);
    assert!(!logged(&server, "hydrating"), "{:?}", server.log.all());
    server.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_files_leave_the_one_before_and_then_the_store() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    shop_with_acme(&data).await?;
    let server = start(&data, &OFTEN)?.ready().await?;
    has_written(&server, 2.0).await?;
    server.stop()?;
    let kept = files(&data.join("snapshots"), ".snapshot")?;
    let [older, newer] = kept.as_slice() else { anyhow::bail!("two generations, not {kept:?}") };

    tear(newer)?;
    let other = dev(&data).await?;
    let server = start(&data, &[("snapshot_wait_ms", "300"), ("snapshot_interval_ms", "86400000")])?.ready().await?;
    assert!(check(&server, "acme").await?.entitled);
    server.metric_reaches("tessera_snapshots_refused_total{cause=\"torn\"}", 1.0).await?;
    assert!(logged(&server, &format!("{} ends at byte ", newer.display())), "{:?}", server.log.all());
    server.stop()?;

    // Without any, a process that cannot open its store has nothing to serve, and says why.
    tear(older)?;
    let (status, log) = start(&data, &OFTEN)?.until_it_ends()?;
    assert!(!status.success() && log.contains("in use by another process"), "{status}: {log}");
    other.stop()?;
    let server = start(&data, &OFTEN)?.ready().await?;
    assert!(check(&server, "acme").await?.entitled);
    server.metric_reaches("tessera_snapshots_refused_total{cause=\"torn\"}", 2.0).await?;
    assert!(logged(&server, "hydrating"));
    server.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_while_writing_leaves_a_snapshot_to_start_from() -> anyhow::Result<()> {
    for (point, times) in FAIL_POINTS {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        shop_with_acme(&data).await?;
        let server = start(&data, &OFTEN)?.ready().await?;
        has_written(&server, 1.0).await?;
        server.stop()?;

        let (status, log) = start(&data, &OFTEN)?.fail_point(&format!("{point}:{times}")).until_it_ends()?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(Signal::ABORT.as_raw()), "`{point}` was not reached: {status}\n{log}");

        let other = dev(&data).await?;
        let server = start(&data, &OFTEN)?.ready().await?;
        assert!(check(&server, "acme").await?.entitled, "{point}");
        assert!(serves_snapshot(&server).await?);
        let unfinished = files(&data.join("snapshots"), ".unfinished")?;
        assert!(unfinished.is_empty(), "{point}: {unfinished:?}");
        other.stop()?;
        has_written(&server, 1.0).await?;
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
    let server = start(&data, &[OFTEN[0], ("snapshot_dir", &place)])?.ready().await?;
    server.metric_reaches("tessera_snapshots_total{outcome=\"failed\"}", 2.0).await?;
    assert!(check(&server, "acme").await?.entitled);
    assert!(logged(&server, "a snapshot cannot be written; the ones before stay"), "{:?}", server.log.all());
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
    let server = start(&data, &OFTEN)?.ready().await?;
    has_written(&server, 1.0).await?;
    server.stop()?;
    let place = data.join("snapshots").display().to_string();
    let server = start(&another, &[OFTEN[0], ("snapshot_dir", &place)])?.ready().await?;
    assert_eq!(check(&server, "acme").await?.reason(), v1::Reason::TenantUnknown);
    server.metric_reaches("tessera_snapshots_refused_total{cause=\"foreign\"}", 1.0).await?;
    assert!(logged(&server, ".snapshot is of store "), "{:?}", server.log.all());
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
