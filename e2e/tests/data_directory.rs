//! A data directory that is not as it should be: each case ends with a message that names the directory and what is wrong,
//! and nothing in it is changed or lost.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tessera_e2e::commands::{Change, Command};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Launch, binary, shop};
use tessera_proto::v1;

/// Anybody but root.
const NOBODY: u32 = 65_534;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_and_the_first_goes_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let said = refused(Launch::over(folder.path())?, folder.path())?;
    assert!(said.contains("another process"), "{said}");
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    dev.stop()?;
    // The lock goes with the process.
    Launch::over(folder.path())?.ready().await?.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_a_killed_process_does_not_stay() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    Launch::over(folder.path())?.ready().await?.kill()?;
    Launch::over(folder.path())?.ready().await?.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_untouched() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    one_tenant(folder.path()).await?;
    let database = database_in(folder.path())?;
    let connection = rusqlite::Connection::open(&database)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    assert!(version > 0, "the schema has no version");
    connection.pragma_update(None, "user_version", version + 1)?;
    drop(connection);
    let said = refused(Launch::over(folder.path())?, folder.path())?;
    assert!(said.contains(&(version + 1).to_string()) && said.contains("newer"), "{said}");
    let connection = rusqlite::Connection::open(&database)?;
    connection.pragma_update(None, "user_version", version)?;
    drop(connection);
    tenant_is_there(folder.path()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_database_is_refused_untouched() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    one_tenant(folder.path()).await?;
    let database = database_in(folder.path())?;
    let noise = b"this is not a database, and long enough to be looked at twice by whoever opens it as one".repeat(64);
    std::fs::write(&database, &noise)?;
    refused(Launch::over(folder.path())?, folder.path())?;
    assert_eq!(std::fs::read(&database)?, noise, "a damaged file was changed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_somebody_else_is_refused_untouched() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let theirs = folder.path().join("tessera.db");
    rusqlite::Connection::open(&theirs)?.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1")?;
    let said = refused(Launch::over(folder.path())?, folder.path())?;
    assert!(said.contains("is not a database of Tessera"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_database_is_refused_untouched() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    one_tenant(folder.path()).await?;
    let database = database_in(folder.path())?;
    let length = std::fs::metadata(&database)?.len();
    std::fs::OpenOptions::new().write(true).open(&database)?.set_len(length / 2)?;
    let said = refused(Launch::over(folder.path())?, folder.path())?;
    assert!(said.contains("damaged") && said.contains("tessera restore"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_state_is_found_at_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    one_tenant(folder.path()).await?;
    damage_state_of(folder.path(), "acme")?;
    let said = refused(Launch::over(folder.path())?, folder.path())?;
    assert!(said.contains("stream `tenant/acme`, seq 3: head and state do not match their checksum"), "{said}");
    Ok(())
}

/// A state that is damaged under a running process is named, is not served, and stops nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_state_while_it_runs_stops_nobody_else() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    one_tenant(folder.path()).await?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    damage_state_of(folder.path(), "acme")?;
    eventually("the damaged row in the metrics", async || {
        let metrics = dev.page("/metrics").await?.body;
        anyhow::ensure!(metrics.lines().any(|line| line == "tessera_bad_streams 1"), "not yet");
        Ok(())
    })
    .await?;
    let named = |line: &&String| line.contains("a row of the database is damaged") && line.contains("tenant/acme");
    assert_eq!(dev.errors().iter().filter(named).count(), 1, "{:?}", dev.errors());

    // Its last good state answers; others are written and read.
    let request = v1::CheckEntitlementRequest {
        tenant_id: "acme".into(),
        service: shop::SERVICE.into(),
        feature: shop::FEATURE.into(),
        ..Default::default()
    };
    assert!(planes.entitlements().check_entitlement(request).await?.into_inner().entitled);
    let create = Command { tenant: "globex".into(), request_id: "globex".into(), change: Change::Create };
    create.send(&planes, false).await?;
    assert!(planes.check("globex", shop::SERVICE, shop::FEATURE).await?.entitled);
    // Nothing is written on what nobody can read.
    let rename = Command { tenant: "acme".into(), request_id: "rename".into(), change: Change::Title("A".into()) };
    assert!(rename.send(&planes, false).await.is_err());
    // What is left out of an export is not left out in silence.
    let export = dev.tessera(&["export"])?;
    assert!(export.stdout.contains("globex") && !export.stdout.contains("acme"), "{}", export.stdout);
    assert!(export.stderr.contains("this export is not whole: 1 plans, add-ons or tenants cannot be read"), "{}", export.stderr);
    assert_eq!(export.code, Some(1));
    // Nor does it take the place of one that was whole.
    let last = folder.path().join("export.yaml");
    std::fs::write(&last, "whole")?;
    let export = dev.tessera(&["export", "--out", last.to_str().context("a path")?])?;
    assert!(export.code == Some(1) && export.stderr.contains("is left as it was"), "{}", export.stderr);
    assert_eq!(std::fs::read_to_string(&last)?, "whole");
    let listed = dev.tessera(&["tenant", "list"])?;
    assert!(listed.stderr.contains("left out since it cannot be read: 1 × tenant"), "{}", listed.stderr);
    assert_eq!(dev.page("/readyz").await?.status, 200);
    assert_ne!(dev.page("/digest").await?.body, dev.page("/digest/store").await?.body, "nobody sees that they differ");
    dev.signal(rustix::process::Signal::TERM)?;
    assert_eq!(dev.ended()?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_last_event_is_found_at_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    one_tenant(folder.path()).await?;
    flip_a_bit(folder.path(), "ORDER BY stream DESC, seq DESC")?;
    let said = refused(Launch::over(folder.path())?, folder.path())?;
    assert!(said.contains("damaged") && said.contains("acme"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_an_older_event_is_found_by_the_audit() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    one_tenant(folder.path()).await?;
    // The tenant was created and given a title twice; at the end of a stream the last two events are compared.
    flip_a_bit(folder.path(), "WHERE seq = 1 ORDER BY stream DESC")?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    assert!(planes.check("acme", shop::SERVICE, shop::FEATURE).await?.entitled, "the state is whole");
    let problems = planes.audit().verify_audit(v1::VerifyAuditRequest::default()).await?.into_inner().problems;
    let problem = problems.first().context("no problem found")?;
    let stream = problem.stream.clone().unwrap_or_default();
    assert_eq!((stream.id.as_str(), problem.seq, problems.len()), ("acme", 1, 1), "{problems:?}");
    // What is found is logged: a human must look.
    dev.signal(rustix::process::Signal::TERM)?;
    assert_eq!(dev.ended()?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_may_not_be_written_is_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let program = binary::for_everybody(folder.path())?;
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o555))?;
    let mut launch = Launch::of(&program, &data);
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere.
        launch.command().uid(NOBODY);
    }
    let said = refused(launch, &data)?;
    assert!(said.to_lowercase().contains("permission denied") || said.contains("read-only"), "{said}");
    assert_eq!(std::fs::read_dir(&data)?.count(), 0);
    Ok(())
}

/// The files may be written, but none can be made beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_a_directory_that_may_not_be_written_is_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    one_tenant(&data).await?;
    let program = binary::for_everybody(folder.path())?;
    let mut launch = Launch::of(&program, &data);
    if rustix::process::geteuid().is_root() {
        for path in [data.clone(), data.join("tessera.db"), data.join("tessera.lock")] {
            std::os::unix::fs::chown(path, Some(NOBODY), None)?;
        }
        launch.command().uid(NOBODY);
    }
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o555))?;
    let said = refused(launch, &data)?;
    assert!(said.contains("cannot write in it: Permission denied"), "{said}");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755))?;
    tenant_is_there(&data).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_file_system_is_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(launch) = Launch::mounted(folder.path(), "ro,size=1m")? else { return Ok(()) };
    let said = refused(launch, folder.path())?;
    assert!(said.to_lowercase().contains("read-only"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_place_of_the_directory_is_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    std::fs::write(&data, "a file")?;
    refused(Launch::over(&data)?, &data)?;
    assert_eq!(std::fs::read_to_string(&data)?, "a file");
    Ok(())
}

/// Starts what must not start: it ends with 1 and says in its last line why, naming the directory; the database is as it was.
/// Returns that line.
fn refused(launch: Launch, data: &Path) -> anyhow::Result<String> {
    let database = data.join("tessera.db");
    let before = std::fs::read(&database).ok();
    let (status, said) = launch.until_it_ends()?;
    anyhow::ensure!(status.code() == Some(1), "ended with {status}\n{said}");
    anyhow::ensure!(!said.contains("panicked"), "{said}");
    let last = said.lines().last().unwrap_or_default();
    anyhow::ensure!(last.starts_with("error: "), "the last line does not say why: {said}");
    anyhow::ensure!(last.contains(&data.display().to_string()), "does not name the directory: {said}");
    anyhow::ensure!(std::fs::read(&database).ok() == before, "the database was changed: {said}");
    Ok(last.to_owned())
}

async fn one_tenant(data: &Path) -> anyhow::Result<()> {
    let dev = Launch::over(data)?.ready().await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    for change in [Change::Create, Change::Title("A".into()), Change::Title("Acme".into())] {
        let command = Command { tenant: "acme".into(), request_id: format!("{change:?}"), change };
        command.send(&planes, false).await?;
    }
    dev.stop()?;
    // A log could be the whole database, whatever then becomes of the file.
    anyhow::ensure!(!data.join("tessera.db-wal").exists(), "a stop has left the log beside the database");
    Ok(())
}

async fn tenant_is_there(data: &Path) -> anyhow::Result<()> {
    let dev = Launch::over(data)?.ready().await?;
    let answer = dev.planes().await?.check("acme", shop::SERVICE, shop::FEATURE).await?;
    assert!(answer.entitled, "{answer:?}");
    dev.stop()
}

/// The one file that begins as databases do.
fn database_in(data: &Path) -> anyhow::Result<PathBuf> {
    for entry in std::fs::read_dir(data)? {
        let path = entry?.path();
        if path.is_file() && std::fs::read(&path)?.starts_with(b"SQLite format 3\0") {
            return Ok(path);
        }
    }
    anyhow::bail!("no database in {}", data.display())
}

/// Flips one bit in the middle of a tenant's current state.
fn damage_state_of(data: &Path, tenant: &str) -> anyhow::Result<()> {
    let connection = rusqlite::Connection::open(database_in(data)?)?;
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
    let (number, mut state) = connection.query_row("SELECT number, state FROM stream WHERE key = ?1", [tenant], columns)?;
    let middle = state.len() / 2;
    *state.get_mut(middle).context("an empty state")? ^= 1;
    connection.execute("UPDATE stream SET state = ?1 WHERE number = ?2", rusqlite::params![state, number])?;
    Ok(())
}

/// Flips one bit in the middle of the first event that `choice` selects.
fn flip_a_bit(data: &Path, choice: &str) -> anyhow::Result<()> {
    let connection = rusqlite::Connection::open(database_in(data)?)?;
    let query = format!("SELECT stream, seq, cell FROM event {choice} LIMIT 1");
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?));
    let (stream, seq, mut cell) = connection.query_row(&query, [], columns)?;
    let middle = cell.len() / 2;
    *cell.get_mut(middle).context("an empty cell")? ^= 1;
    let update = "UPDATE event SET cell = ?1 WHERE stream = ?2 AND seq = ?3";
    let changed = connection.execute(update, rusqlite::params![cell, stream, seq])?;
    anyhow::ensure!(changed == 1, "{changed} events changed");
    Ok(())
}
