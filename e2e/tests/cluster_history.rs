//! Imports into a cluster. `tessera export --history | tessera import --history`, as the README has it: the database of a stopped
//! `tessera dev` becomes the store of a cluster, here with servers that run already and hear of it by the feed alone, and once
//! with an import that dies between two writes and is run again. `tessera tenant import`, through a loader that dies over it.
//!
//! Looked for: a store that is another one afterwards, a server that does not hear of what came, a check that is answered
//! otherwise than before, a command that is done again although its request id was moved, a row that is done twice or not at all,
//! a chain that does not hold.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tessera_e2e::binary::Finished;
use tessera_e2e::cluster::{Cluster, Place};
use tessera_e2e::commands::Ledger;
use tessera_e2e::load::{self, Load};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Launch, Planes, binary, shop};
use tessera_engines::{shared_cassandra, shared_kafka};
use tokio::sync::Mutex;

/// One cluster at a time, so that servers have the machine for themselves when it is looked at how soon they have everything.
static TURN: Mutex<()> = Mutex::const_new(());

const SERVERS: usize = 2;
const WRITERS: usize = 4;
const TENANTS: usize = 3;
/// More events for each tenant than one append of an import has.
const COMMANDS: usize = 240;
/// The newest of them.
const REPLAYS: usize = 40;
/// Where an import of a history dies, one run after the other. Each tenant needs more than one append, so that each point is
/// reached whatever the runs before have written.
const DEATHS: [&str; 3] = ["scylla.hint.registered", "scylla.batch.appended", "scylla.batch.appended:2"];
/// What a shell says of a process that ended by abort.
const ABORTED: i32 = 128 + Signal::ABORT.as_raw();
/// Tenants of one import by rows.
const ROWS: usize = 100;
/// Where a loader dies over them.
const DEATHS_OVER_ROWS: [&str; 3] = ["scylla.hint.registered:10", "scylla.batch.appended", "scylla.batch.appended:50"];

/// The README's words, with the programs that were built for the suites.
const WORDS: &str = r#""$0" export --history --data "$1" | "$0" import --history --settings "$2" --yes -o json"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_becomes_what_a_stopped_dev_was() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let _turn = TURN.lock().await;
    let dev = Stopped::after_writes().await?;
    let mut cluster = without_loader(&cassandra, &kafka).await?;
    dev.moves_to(&cluster.place)?;
    for server in &cluster.servers {
        let heard = eventually("all that was imported", async || {
            let matrix = server.digest().await?;
            anyhow::ensure!(matrix == dev.digest, "{server} has {matrix}, the store {}", dev.digest);
            Ok(())
        });
        heard.await.with_context(|| cluster.account())?;
    }
    cluster.loaders[0].start(&cluster.place).await?;
    dev.goes_on_in(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_dies_between_two_writes_is_run_again() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let _turn = TURN.lock().await;
    let dev = Stopped::after_writes().await?;
    let mut cluster = without_loader(&cassandra, &kafka).await?;
    for point in DEATHS {
        let died = move_history(&dev.data, &cluster.place, Some(point))?;
        anyhow::ensure!(died.code == Some(ABORTED), "`{point}` was not reached: {died:?}");
    }
    dev.moves_to(&cluster.place)?;
    // What those that died have written and not published has its hints.
    cluster.loaders[0].start(&cluster.place).await?;
    cluster.heals().await?;
    dev.goes_on_in(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_an_import_are_done_once_though_the_loader_dies() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let _turn = TURN.lock().await;
    let mut cluster = Cluster::start(Place::made(&cassandra, &kafka)?, 1, SERVERS).await?;
    let planes = cluster.planes(0, 0)?;
    shop::open(&planes).await?;
    let folder = tempfile::tempdir()?;
    let mut became = BTreeSet::new();
    for (number, point) in DEATHS_OVER_ROWS.into_iter().enumerate() {
        let tenants: Vec<String> = (0..ROWS).map(|row| format!("row-{number}-{row}")).collect();
        let file = folder.path().join(format!("{number}.yaml"));
        let documents = tenants.iter().map(|tenant| format!("---\ntenant: {tenant}\nplan: {}\n", shop::PLAN));
        std::fs::write(&file, documents.collect::<String>())?;

        let loader = &mut cluster.loaders[0];
        loader.kill()?;
        loader.begin(&cluster.place, Some(point))?;
        loader.process()?.is_ready().await?;
        let import = Rows { loader: loader.address(), file, id: format!("import-{number}") };
        let first = import.clone();
        let first = tokio::task::spawn_blocking(move || first.run());
        let dies = eventually("the end of the loader", async || {
            anyhow::ensure!(!loader.is_up(), "`{point}` was not reached");
            Ok(())
        });
        dies.await?;
        let signal = loader.kill()?;
        anyhow::ensure!(signal == Some(Signal::ABORT.as_raw()), "it ended by signal {signal:?}, not at `{point}`");
        cluster.revive().await?;
        // It goes on by itself if the loader is back soon.
        println!("the import over which the loader died at `{point}`: {:?}", first.await??.code);
        import.run()?.success().with_context(|| format!("again after `{point}`"))?;
        let again: Value = serde_json::from_str(&import.run()?.success()?)?;
        let all = Value::from(ROWS.to_string());
        anyhow::ensure!((&again["appliedThroughRow"], &again["unchanged"]) == (&all, &all), "done again: {again}");

        for tenant in &tenants {
            let events = planes.events_of(tenant).await?;
            let requests: BTreeSet<&str> = events.iter().map(|event| event.request_id.as_str()).collect();
            anyhow::ensure!(requests.len() == 1, "`{tenant}` became what it is by {requests:?}");
            became.insert(events.into_iter().map(|event| event.r#type).collect::<Vec<_>>());
        }
        cluster.heals().await.with_context(|| format!("after `{point}`"))?;
    }
    // All of them asked for the same.
    assert_eq!(became.len(), 1, "{became:?}");
    planes.verify_audit().await?;
    cluster.ends_well().await
}

/// What a `tessera dev` was when it was stopped.
struct Stopped {
    data: PathBuf,
    tenants: Vec<String>,
    ledger: Ledger,
    decided: Vec<(bool, i32)>,
    events: i64,
    digest: Value,
    _folder: TempDir,
}

impl Stopped {
    async fn after_writes() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let dev = Launch::over(&data)?.ready().await?;
        let planes = dev.planes().await?;
        let tenants = load::tenants(TENANTS);
        let mut ledger = load::prepare(&planes, WRITERS, &tenants).await?;
        let load = Load::begin("old", WRITERS, &tenants, std::slice::from_ref(&planes), 0);
        load.goes_on(COMMANDS).await.with_context(|| dev.account())?;
        ledger.append(load.stop().await?.ledger);
        let (decided, events) = (decisions(&planes, &tenants).await?, planes.verify_audit().await?);
        assert!(decided.iter().any(|(entitled, _)| *entitled), "{decided:?}");
        let digest = serde_json::from_str(&dev.tessera(&["digest", "-o", "json"])?.success()?)?;
        dev.stop()?;
        Ok(Self { data, tenants, ledger, decided, events, digest, _folder: folder })
    }

    /// The store becomes what it was.
    fn moves_to(&self, place: &Place) -> anyhow::Result<()> {
        let moved: Value = serde_json::from_str(&move_history(&self.data, place, None)?.success()?).context("what was moved")?;
        assert_eq!(moved["events"], self.events, "{moved}");
        assert_eq!(place.digest()?, self.digest);
        Ok(())
    }

    /// Everybody there says what it would have said, and does nothing again.
    async fn goes_on_in(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let all = cluster.all_planes()?;
        for planes in &all {
            assert_eq!(decisions(planes, &self.tenants).await?, self.decided);
        }
        self.ledger.check_streams(&all[0]).await?;
        self.ledger.check_replays(&all[0], REPLAYS).await?;
        load::check_all_servers(&self.ledger, &all).await?;
        assert_eq!(all[0].verify_audit().await?, self.events, "something was done again");
        cluster.ends_well().await
    }
}

/// A cluster whose loader is stopped, and whose servers look for nothing by themselves.
async fn without_loader(cassandra: &str, kafka: &str) -> anyhow::Result<Cluster> {
    let mut place = Place::made(cassandra, kafka)?;
    "repair_scan = false\n".clone_into(&mut place.server);
    let mut cluster = Cluster::start(place, 1, SERVERS).await?;
    cluster.loaders[0].stop()?;
    Ok(cluster)
}

/// Runs [`WORDS`], to a fail point if there is one.
fn move_history(data: &Path, place: &Place, fail_point: Option<&str>) -> anyhow::Result<Finished> {
    let mut shell = std::process::Command::new("bash");
    shell.args(["-o", "pipefail", "-c", WORDS]).arg(binary::tessera()?).arg(data).arg(place.command_settings()?);
    if let Some(point) = fail_point {
        shell.env("TESSERA_TEST_FAIL_POINT", point);
    }
    binary::run(&mut shell)
}

/// An import by rows.
#[derive(Clone)]
struct Rows {
    loader: SocketAddr,
    file: PathBuf,
    id: String,
}

impl Rows {
    fn run(&self) -> anyhow::Result<Finished> {
        let mut command = std::process::Command::new(binary::tessera()?);
        command.args(["tenant", "import"]).arg(&self.file).args(["--import-id", &self.id, "--yes", "-o", "json"]);
        binary::run(command.env("TESSERA_CONTROL_ADDR", self.loader.to_string()))
    }
}

/// Whether each may use the feature that the plan has and one that it does not have, and why.
async fn decisions(planes: &Planes, tenants: &[String]) -> anyhow::Result<Vec<(bool, i32)>> {
    let mut decided = Vec::new();
    for tenant in tenants {
        for feature in [shop::FEATURE, "share"] {
            let answer = planes.check(tenant, shop::SERVICE, feature).await?;
            decided.push((answer.entitled, answer.reason));
        }
    }
    Ok(decided)
}
