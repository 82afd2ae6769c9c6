//! A backup that is made while `tessera dev` runs, and `tessera restore`: the restored store is in the next epoch, so that what
//! callers remember of the time after the backup is not mistaken for what happens next; and a restore that dies at any point
//! leaves the old store or the new one.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Dev, Launch, Planes, binary};
use tessera_proto::v1;
use tessera_proto::v1::consistency::Requirement;
use tessera_proto::v1::watch_entitlements_request::Action;
use tessera_proto::v1::watch_entitlements_response::Event;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_is_in_the_next_epoch() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup.db"));
    let dev = Launch::over(&data)?.apply(&binary::repository().join("examples/quickstart")).ready().await?;
    let planes = dev.planes().await?;
    let in_backup = give_title(&planes, "before", "Before").await?;
    back_up(&data, &backup)?;
    let after_backup = give_title(&planes, "after", "After").await?;
    let late = create_late(&planes).await?;
    assert!(check(&planes, "late", &late).await?.entitled, "it was acknowledged");
    dev.stop()?;

    let asks = restore(&backup, &data, &[])?;
    assert_eq!(asks.code, Some(1), "{asks:?}");
    assert!(asks.stderr.contains("epoch 2") && asks.stderr.contains("--yes"), "{asks:?}");
    assert_eq!(epoch_of(&data)?, 1, "nobody said yes");
    let said: serde_json::Value = serde_json::from_str(&restore(&backup, &data, &["--yes", "-o", "json"])?.success()?)?;
    assert_eq!((&said["epoch"], &said["backup"]["epoch"]), (&2.into(), &1.into()), "{said}");
    let kept = PathBuf::from(said["replaced"].as_str().context("nothing is kept")?);
    assert!(kept.is_file(), "{said}");

    let dev = Launch::over(&data)?.ready().await?;
    let planes = dev.planes().await?;
    assert_eq!(same_digests(&dev).await?["epoch"], 2);
    assert_eq!(title(&planes).await?, "Before");

    // Revisions of the epoch before: answered as fully consistent with what is there now, whether it was restored or not.
    let answer = check(&planes, "acme", &in_backup).await?;
    assert!(answer.entitled && is_of_epoch(2, &answer.revision), "{answer:?}");
    let answer = check(&planes, "acme", &after_backup).await?;
    assert!(answer.entitled && is_of_epoch(2, &answer.revision), "{answer:?}");
    let answer = check(&planes, "late", &late).await?;
    assert_eq!((answer.entitled, answer.reason()), (false, v1::Reason::TenantUnknown), "{answer:?}");
    let document = watch(&planes, &after_backup).await?.map_err(anyhow::Error::msg)?;
    assert!(is_of_epoch(2, &document.revision), "{document:?}");

    // What was acknowledged after the backup never happened: its request id is free, and its seq is given again.
    let request = title_request("after", "Another");
    let answer = planes.tenants().update_tenant(request).await?.into_inner();
    assert!(!answer.idempotent_replay, "{answer:?}");
    assert!(is_of_epoch(2, &answer.revision) && answer.revision != after_backup, "{answer:?}");
    assert!(check(&planes, "acme", &answer.revision).await?.entitled);
    assert_eq!(title(&planes).await?, "Another");
    // What came before it did.
    let replay = planes.tenants().update_tenant(title_request("before", "Before")).await?.into_inner();
    assert!(replay.idempotent_replay && is_of_epoch(2, &replay.revision), "{replay:?}");
    planes.verify_audit().await?;

    let newer = write_in_epoch_3(folder.path(), &backup).await?;
    refuses_a_newer_epoch(&planes, &newer).await?;
    dev.stop()
}

/// The same backup restored elsewhere in epoch 3, and a write there.
async fn write_in_epoch_3(folder: &Path, backup: &Path) -> anyhow::Result<Vec<u8>> {
    let elsewhere = folder.join("elsewhere");
    restore(backup, &elsewhere, &["--yes", "--epoch", "3"])?.success()?;
    let dev = Launch::over(&elsewhere)?.ready().await?;
    let revision = give_title(&dev.planes().await?, "elsewhere", "Elsewhere").await?;
    assert!(is_of_epoch(3, &revision), "{revision:?}");
    dev.stop()?;
    Ok(revision)
}

/// Whoever has seen a newer epoch is never answered from an older one.
async fn refuses_a_newer_epoch(planes: &Planes, revision: &[u8]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let error = check(planes, "acme", revision).await.expect_err("an answer from an older epoch");
    assert_not_reached(&error);
    assert!(begun.elapsed() >= Duration::from_millis(150), "it was not waited for: {:?}", begun.elapsed());
    let error = watch(planes, revision).await?.expect_err("a document of an older epoch");
    assert!(error.contains(&format!("code: {}", Code::Unavailable as i32)), "{error}");
    Ok(())
}

fn assert_not_reached(error: &Status) {
    let reason = error.get_details_error_info().map(|info| info.reason);
    assert_eq!((error.code(), reason.as_deref()), (Code::Unavailable, Some("REVISION_NOT_REACHED")), "{error:?}");
}

/// Whatever a restore has done when it dies, the next start finds one store, whole, and the next restore comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_dies_leaves_the_old_store_or_the_new() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (origin, backup) = (folder.path().join("origin"), folder.path().join("backup.db"));
    let dev = Launch::over(&origin)?.apply(&binary::repository().join("examples/quickstart")).ready().await?;
    let planes = dev.planes().await?;
    back_up(&origin, &backup)?;
    create_late(&planes).await?;
    // What was acknowledged last is in the log alone.
    dev.kill()?;

    let mut found = Vec::new();
    for (point, epoch) in
        [("sqlite.restore.copied", 1), ("sqlite.restore.kept", 1), ("sqlite.restore.cleared", 1), ("sqlite.restore.placed", 2)]
    {
        let data = folder.path().join(point);
        std::fs::create_dir(&data)?;
        for name in ["tessera.db", "tessera.db-wal"] {
            std::fs::copy(origin.join(name), data.join(name)).context("copy what a killed process left")?;
        }
        let mut command = restore_command(&backup, &data, &["--yes"])?;
        let status = command.env("TESSERA_TEST_FAIL_POINT", point).output()?.status;
        assert_eq!(status.signal(), Some(rustix::process::Signal::ABORT.as_raw()), "`{point}` was not reached: {status}");
        check_store(&data, epoch).await.with_context(|| format!("after a death at {point}"))?;
        restore(&backup, &data, &["--yes"])?.success()?;
        check_store(&data, epoch + 1).await.with_context(|| format!("restored again after a death at {point}"))?;
        found.push(kept_in(&data)?);
    }
    // Where the old store was still in place the second restore keeps it under the name that the first one chose.
    let (once, twice) = (vec!["tessera-before-epoch-2.db"], vec!["tessera-before-epoch-2.db", "tessera-before-epoch-3.db"]);
    assert_eq!(found, [once.clone(), once.clone(), once, twice]);
    Ok(())
}

/// The store is in this epoch and whole; what came after the backup is in it only in the first.
async fn check_store(data: &Path, epoch: u64) -> anyhow::Result<()> {
    let dev = Launch::over(data)?.ready().await?;
    let planes = dev.planes().await?;
    let digest = same_digests(&dev).await?;
    anyhow::ensure!(digest["epoch"] == epoch, "{digest}");
    let late = planes.check("late", "reporting", "exports").await?;
    anyhow::ensure!(late.entitled == (epoch == 1), "epoch {epoch}: {late:?}");
    anyhow::ensure!(planes.check("acme", "reporting", "exports").await?.entitled);
    planes.verify_audit().await?;
    dev.stop()
}

fn kept_in(data: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("tessera-before") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_restored_says_why() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup.db"));
    let dev = Launch::over(&data)?.ready().await?;
    back_up(&data, &backup)?;
    refused(&backup, &data, &[], "in use by another process")?;
    // The database of a process that runs is no backup.
    let running = data.join("tessera.db");
    refused(&running, &folder.path().join("other"), &[], "VACUUM INTO")?;
    dev.stop()?;

    refused(&backup, &data, &["--epoch", "1"], "epoch `1` is not allowed")?;
    refused(&backup, &data, &["--epoch", "none"], "'none'")?;
    refused(&folder.path().join("absent.db"), &data, &[], "absent.db")?;
    refused(&running, &data, &[], "itself")?;
    let noise = folder.path().join("noise.db");
    std::fs::write(&noise, "noise".repeat(1_000))?;
    refused(&noise, &data, &[], "not a SQLite database")?;
    assert_eq!(epoch_of(&data)?, 1, "something was restored");

    // A database in place that is noise does not say which epoch comes next.
    std::fs::copy(&noise, &running)?;
    refused(&backup, &data, &[], "--epoch N")?;
    assert_eq!(std::fs::read(&running)?, std::fs::read(&noise)?);
    restore(&backup, &data, &["--yes", "--epoch", "2"])?.success()?;
    assert_eq!(epoch_of(&data)?, 2);
    assert_eq!(std::fs::read(data.join("tessera-before-epoch-2.db"))?, std::fs::read(&noise)?);
    Ok(())
}

fn refused(from: &Path, data: &Path, more: &[&str], expected: &str) -> anyhow::Result<()> {
    let said = restore(from, data, &[&["--yes"], more].concat())?;
    anyhow::ensure!(said.code == Some(1) && said.stderr.contains(expected), "expected `{expected}`: {said:?}");
    anyhow::ensure!(!said.stderr.contains("panicked"), "{said:?}");
    Ok(())
}

fn restore_command(from: &Path, data: &Path, more: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary::tessera()?);
    command.arg("restore").arg("--from").arg(from).arg("--data").arg(data).args(more);
    Ok(command)
}

fn restore(from: &Path, data: &Path, more: &[&str]) -> anyhow::Result<binary::Finished> {
    binary::run(&mut restore_command(from, data, more)?)
}

/// As docs/OPERATING.md says, while the process runs.
fn back_up(data: &Path, backup: &Path) -> anyhow::Result<()> {
    let connection = rusqlite::Connection::open(data.join("tessera.db"))?;
    connection.execute("VACUUM INTO ?1", [backup.to_str().context("a path that is text")?])?;
    Ok(())
}

/// Of the store in the directory of a process that does not run.
fn epoch_of(data: &Path) -> anyhow::Result<u64> {
    let mut command = Command::new(binary::tessera()?);
    command.args(["digest", "-o", "json", "--data"]).arg(data);
    let digest: serde_json::Value = serde_json::from_str(&binary::run(&mut command)?.success()?)?;
    digest["epoch"].as_u64().with_context(|| digest.to_string())
}

async fn same_digests(dev: &Dev) -> anyhow::Result<serde_json::Value> {
    eventually("equal digests", async || {
        let matrix: serde_json::Value = serde_json::from_str(&dev.page("/digest").await?.body).context("the page's digest")?;
        let store: serde_json::Value = serde_json::from_str(&dev.tessera(&["digest", "-o", "json"])?.success()?)?;
        anyhow::ensure!(matrix == store, "the matrix has {matrix}, the store {store}");
        Ok(matrix)
    })
    .await
}

fn title_request(request_id: &str, title: &str) -> v1::UpdateTenantRequest {
    v1::UpdateTenantRequest {
        tenant_id: "acme".to_owned(),
        title: title.to_owned(),
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

/// Gives the title to the tenant `acme`; the write's revision.
async fn give_title(planes: &Planes, request_id: &str, title: &str) -> anyhow::Result<Vec<u8>> {
    Ok(planes.tenants().update_tenant(title_request(request_id, title)).await?.into_inner().revision.to_vec())
}

async fn title(planes: &Planes) -> anyhow::Result<String> {
    let request = v1::GetTenantRequest { tenant_id: "acme".to_owned(), ..Default::default() };
    let answer = planes.tenants().get_tenant(request).await?.into_inner();
    Ok(answer.tenant.context("no tenant")?.title)
}

/// Creates a tenant that the backup does not have; the write's revision.
async fn create_late(planes: &Planes) -> anyhow::Result<Vec<u8>> {
    let request = v1::CreateTenantRequest {
        tenant_id: "late".to_owned(),
        plan_id: "gold".to_owned(),
        request_id: "late".to_owned(),
        ..Default::default()
    };
    Ok(planes.tenants().create_tenant(request).await?.into_inner().revision.to_vec())
}

/// A decision that is not older than the revision.
async fn check(planes: &Planes, tenant: &str, revision: &[u8]) -> Result<v1::CheckEntitlementResponse, Status> {
    let requirement = Requirement::AtLeast(v1::AtLeast { revision: revision.to_vec().into() });
    let request = v1::CheckEntitlementRequest {
        tenant_id: tenant.to_owned(),
        service: "reporting".to_owned(),
        feature: "exports".to_owned(),
        consistency: Some(v1::Consistency { requirement: Some(requirement) }),
        ..Default::default()
    };
    Ok(planes.entitlements().check_entitlement(request).await?.into_inner())
}

/// The first thing that a watch says of `acme` to somebody who has seen the revision.
async fn watch(planes: &Planes, revision: &[u8]) -> anyhow::Result<Result<v1::TenantEntitlements, String>> {
    let subscribe = v1::Subscribe { tenant_id: "acme".to_owned(), last_revision: revision.to_vec().into() };
    let request = v1::WatchEntitlementsRequest { action: Some(Action::Subscribe(subscribe)) };
    let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut answers = planes.entitlements().watch_entitlements(requests).await?.into_inner();
    loop {
        match answers.next().await.context("the watch ended")??.event {
            Some(Event::Document(document)) => return Ok(Ok(document)),
            Some(Event::Error(error)) => return Ok(Err(format!("{error:?}"))),
            Some(Event::Heartbeat(_)) | None => {}
        }
    }
}

/// Revisions are opaque to callers; ours begin with the number of their format, 1, and the epoch.
fn is_of_epoch(epoch: u8, revision: &[u8]) -> bool {
    revision.starts_with(&[1, epoch])
}
