//! The real process, killed fifty times under concurrent writers: at every named fail point, and at random.
//!
//! After each death it is started again over the same data, and then: every acknowledged write is in its stream exactly once;
//! what was under way is sent again and settles; replays return the first result; hash chains are whole; the matrix equals
//! the store. Failures that are looked for: lost, doubled, reordered or invented writes, a database that does not open. Not
//! looked for: lost power (the system's page cache survives a killed process). The seed is printed; `TESSERA_SEED` sets it.
//! Which writes meet in one commit is up to the scheduler and differs between runs of one seed.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tessera_e2e::commands::{Change, Command, Ledger};
use tessera_e2e::waiting::PATIENCE;
use tessera_e2e::{Dev, Launch, Planes, binary, shop};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::Status;

const KILLS: usize = 50;
const WRITERS: usize = 8;
/// A writer that has done so many commands in one life stops; then the process is killed from outside.
const COMMANDS_MAX: usize = 60;
/// The tenant that all writers change, so that their commands meet in one stream.
const SHARED: &str = "shared";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_and_double_nothing() -> anyhow::Result<()> {
    let seed = tessera_e2e::seed()?;
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");

    let points = fail_points()?;
    let (at_start, under_load): (Vec<_>, Vec<_>) = points.iter().partition(|point| is_reached_at_start(point));
    let mut reached: BTreeSet<&String> = BTreeSet::new();
    for point in &at_start {
        dies_while_starting(point, &folder.path().join(point.as_str())).await?;
        reached.insert(point);
    }

    let mut ledger = Ledger::default();
    let dev = Launch::over(&data)?.ready().await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    let create = Command { tenant: SHARED.to_owned(), request_id: "create-shared".to_owned(), change: Change::Create };
    ledger.note(create.clone(), create.send(&planes, false).await?);
    dev.stop()?;

    for life in at_start.len()..KILLS {
        // Every other life ends at a fail point, in turn; the others at a random moment.
        let point = if life % 2 == 0 { under_load.get(life / 2 % under_load.len().max(1)).copied() } else { None };
        let after = random.random_range(1..=if point.is_some() { 20 } else { WRITERS * COMMANDS_MAX / 2 });
        let ending = Ending { life, point, after };
        let died_there = live_and_die(&data, &ending, &mut ledger).await.with_context(|| format!("seed {seed}, {ending:?}"))?;
        if died_there {
            reached.extend(point);
        }
    }

    let missed: Vec<&&String> = under_load.iter().filter(|point| !reached.contains(**point)).collect();
    assert!(missed.is_empty(), "fail points that no life reached: {missed:?}");
    let dev = Launch::over(&data)?.ready().await?;
    let planes = dev.planes().await?;
    ledger.check_streams(&planes).await?;
    let events = planes.verify_audit().await?;
    println!("{} acknowledged commands, {events} events, fail points reached: {reached:?}", ledger.len());
    assert!(ledger.len() > KILLS * WRITERS, "hardly anything was written: {}", ledger.len());
    dev.stop()
}

/// How a life ends.
#[derive(Debug)]
struct Ending<'a> {
    life: usize,
    /// At this fail point …
    point: Option<&'a String>,
    /// … when it is reached for that many times; without one, after so many acknowledgements.
    after: usize,
}

/// Starts the process, writes until it dies, and checks what that left. Returns whether it died at its fail point.
async fn live_and_die(data: &Path, ending: &Ending<'_>, ledger: &mut Ledger) -> anyhow::Result<bool> {
    let mut launch = Launch::over(data)?;
    if let Some(point) = ending.point {
        launch = launch.env("TESSERA_TEST_FAIL_POINT", &format!("{point}:{}", ending.after));
    }
    // The life before is settled: nothing is written, and no fail point reached, before there are writers.
    let dev = launch.ready().await?;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let enough = Arc::new(Notify::new());
    let mut writers = JoinSet::new();
    let planes = dev.planes().await?;
    for writer in 0..WRITERS {
        let name = format!("{}-{writer}", ending.life);
        writers.spawn(write_until_it_dies(planes.clone(), name, Arc::clone(&acknowledged), ending.after, Arc::clone(&enough)));
    }
    let mut all_end = pin!(writers.join_all());
    if ending.point.is_none() {
        tokio::select! {
            biased;
            () = enough.notified() => dev.signal(Signal::KILL)?,
            outcomes = &mut all_end => {
                let errors: Vec<Status> = outcomes.into_iter().filter_map(|(_, pending)| Some(pending?.1)).collect();
                anyhow::bail!("all writers ended before it was killed: {errors:?}\n{}", dev.account());
            }
        }
    }
    let outcomes = all_end.await;
    let log = dev.log.clone();
    let signal = dev.kill()?;

    let (mut unknown, mut errors) = (Vec::new(), Vec::new());
    for (written, pending) in outcomes {
        ledger.append(written);
        if let Some((command, error)) = pending {
            unknown.push(command);
            errors.push(error);
        }
    }
    let died_there = ending.point.is_some() && signal == Some(Signal::ABORT.as_raw());
    // Otherwise we have killed it, and in a life with a fail point that was when all writers had done all they had to do.
    let killed_here = signal == Some(Signal::KILL.as_raw()) && (ending.point.is_none() || errors.is_empty());
    anyhow::ensure!(
        died_there || killed_here,
        "it ended by signal {signal:?}, writers with {errors:?}\n{}",
        log.whole(PATIENCE).join("\n")
    );
    settle(data, &unknown, ledger).await?;
    Ok(died_there)
}

/// Writes one command after the other; ends with what was acknowledged, and the command whose fate is unknown and why.
async fn write_until_it_dies(
    planes: Planes,
    name: String,
    acknowledged: Arc<AtomicUsize>,
    enough_at: usize,
    enough: Arc<Notify>,
) -> (Ledger, Option<(Command, Status)>) {
    let mut ledger = Ledger::default();
    for number in 0..COMMANDS_MAX {
        let request_id = format!("life-{name}-{number}");
        let own = format!("tenant-{name}");
        let (tenant, change) = match number {
            0 => (own, Change::Create),
            _ if number % 3 == 0 => (SHARED.to_owned(), Change::Title(request_id.clone())),
            _ => (own, Change::Title(request_id.clone())),
        };
        let command = Command { tenant, request_id, change };
        match command.send(&planes, false).await {
            Ok(answer) => ledger.note(command, answer),
            Err(error) => return (ledger, Some((command, error))),
        }
        if acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == enough_at {
            enough.notify_one();
        }
    }
    (ledger, None)
}

/// Starts the process again and checks everything that must hold after a death.
async fn settle(data: &Path, unknown: &[Command], ledger: &mut Ledger) -> anyhow::Result<()> {
    let dev = Launch::over(data)?.ready().await.context("start again")?;
    let planes = dev.planes().await?;
    for command in unknown {
        let answer = command.send(&planes, true).await.with_context(|| format!("send {command:?} again"))?;
        ledger.note(command.clone(), answer);
    }
    ledger.check_replays(&planes, 2 * WRITERS).await?;
    ledger.check_streams(&planes).await?;
    planes.verify_audit().await?;
    same_digests(&dev).await?;
    dev.stop()
}

/// `/digest` of the matrix and `tessera digest` of the store say the same once nothing is under way.
async fn same_digests(dev: &Dev) -> anyhow::Result<()> {
    tessera_e2e::waiting::eventually("equal digests", async || {
        let matrix: serde_json::Value = serde_json::from_str(&dev.page("/digest").await?.body).context("the page's digest")?;
        let store: serde_json::Value = serde_json::from_str(&dev.tessera(&["digest", "-o", "json"])?.success()?)?;
        anyhow::ensure!(matrix == store, "the matrix has {matrix}, the store {store}");
        Ok(())
    })
    .await
}

/// A process that dies at `point` on its first start leaves something that the next start completes.
async fn dies_while_starting(point: &str, data: &Path) -> anyhow::Result<()> {
    let (status, log) = Launch::over(data)?.env("TESSERA_TEST_FAIL_POINT", point).until_it_ends()?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    anyhow::ensure!(signal == Some(Signal::ABORT.as_raw()), "`{point}` was not reached: {status}\n{log}");
    let dev = Launch::over(data)?.ready().await.with_context(|| format!("start after a death at `{point}`"))?;
    shop::open(&dev.planes().await?).await?;
    dev.stop()
}

fn is_reached_at_start(point: &str) -> bool {
    ["schema", "migrat", "open", "create"].iter().any(|word| point.contains(word))
}

/// The names of all fail points of the code that ships, read from the code, so that none is forgotten here. Those of hints
/// and publishing are left to the simulation: over SQLite the append feeds the feed, and they rest. Those of a restore are
/// reached by a command of its own: see the suite `restore`; those of snapshots by what is no write at all: see `snapshot`.
fn fail_points() -> anyhow::Result<BTreeSet<String>> {
    let folders = ["backends/src", "backends/sqlite/src", "loader/src", "server/src", "cli/src", "runtime/src"];
    let points = binary::fail_points(&folders)?;
    anyhow::ensure!(!points.is_empty(), "the code has no fail points");
    let rests =
        |name: &String| ["hint", "publish", "sweep", "swept", "restore", "snapshot"].iter().any(|word| name.contains(word));
    Ok(points.into_iter().filter(|name| !rests(name)).collect())
}
