//! A disk that fills up under a running process: writes are refused and say why, checks go on, and once there is room
//! everything goes on by itself.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use tessera_e2e::commands::{Change, Command};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Launch, Planes, shop};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_goes_on_deciding() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(launch) = Launch::mounted(folder.path(), "size=8m")? else { return Ok(()) };
    let dev = launch.ready().await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    create("before", &planes).await?;

    let ballast = dev.sees(folder.path()).join("ballast");
    fill(&ballast)?;
    // What SQLite has reserved already may still be written to.
    let refusal = eventually("a refusal", async || match create_many(&planes).await {
        Err(status) => Ok(status),
        Ok(()) => anyhow::bail!("writes go on on a full disk"),
    });
    let refusal = refusal.await?;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    let details = refusal.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("DISK_FULL"), "{refusal:?}");
    assert!(details.retry_info().is_some(), "no hint when to try again: {refusal:?}");
    assert!(planes.check("before", shop::SERVICE, shop::FEATURE).await?.entitled);
    assert_eq!(dev.page("/readyz").await?.status, 200);

    std::fs::remove_file(&ballast).context("make room")?;
    eventually("writes on a disk with room", async || Ok(create("after", &planes).await?)).await?;
    assert!(planes.check("after", shop::SERVICE, shop::FEATURE).await?.entitled);
    planes.verify_audit().await?;

    dev.signal(rustix::process::Signal::TERM)?;
    assert_eq!(dev.ended()?.code(), Some(0));
    Ok(())
}

/// There is no room for the files that an open database needs: the start says so, and what is there stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_says_so() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let small = folder.path().join("small");
    std::fs::create_dir(&small)?;
    // Four KiB: a directory and an empty file need none of them, a database more.
    let Some(launch) = Launch::mounted(&small, "size=4k")? else { return Ok(()) };
    let (status, said) = launch.until_it_ends()?;
    assert_eq!(status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains("the disk is full") && last.contains("make room"), "{said}");
    assert!(last.contains(&small.display().to_string()) && !said.contains("panicked"), "{said}");
    Ok(())
}

async fn create(tenant: &str, planes: &Planes) -> Result<(), Status> {
    let command = Command { tenant: tenant.to_owned(), request_id: format!("create-{tenant}"), change: Change::Create };
    command.send(planes, true).await.map(drop)
}

async fn create_many(planes: &Planes) -> Result<(), Status> {
    for number in 0..500 {
        create(&format!("more-{number}"), planes).await?;
    }
    Ok(())
}

/// Writes until nothing more fits.
fn fill(path: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    for size in [64 * 1024, 4 * 1024, 1] {
        while file.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
    }
    Ok(())
}
