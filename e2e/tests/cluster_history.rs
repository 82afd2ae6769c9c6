//! `tessera export --history | tessera import --history`, as the README has it: the database of a stopped `tessera dev` becomes the
//! store of a cluster, here with servers that run already and hear of it by the feed alone.
//!
//! Looked for: a store that is another one afterwards, a server that does not hear of what came, a check that is answered otherwise
//! than before, a command that is done again although its request id was moved, a chain that does not hold.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tessera_e2e::cluster::{Cluster, Place};
use tessera_e2e::load::{self, Load};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Launch, Planes, binary, shop};
use tessera_engines::{shared_cassandra, shared_kafka};

const SERVERS: usize = 2;
const WRITERS: usize = 4;
const TENANTS: usize = 3;
/// More events for each tenant than one append of an import has.
const COMMANDS: usize = 240;
/// The newest of them.
const REPLAYS: usize = 40;

/// The README's words, with the programs that were built for the suites.
const WORDS: &str = r#""$0" export --history --data "$1" | "$0" import --history --settings "$2" --yes -o json"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_becomes_what_a_stopped_dev_was() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let dev = Launch::over(&data)?.ready().await?;
    let old = dev.planes().await?;
    let tenants = load::tenants(TENANTS);
    let mut ledger = load::prepare(&old, WRITERS, &tenants).await?;
    let load = Load::begin("old", WRITERS, &tenants, std::slice::from_ref(&old), 0);
    load.goes_on(COMMANDS).await.with_context(|| dev.account())?;
    ledger.append(load.stop().await?.ledger);
    let (decided, events) = (decisions(&old, &tenants).await?, old.verify_audit().await?);
    assert!(decided.iter().any(|(entitled, _)| *entitled), "{decided:?}");
    let was: Value = serde_json::from_str(&dev.tessera(&["digest", "-o", "json"])?.success()?)?;
    dev.stop()?;

    let mut place = Place::made(&cassandra, &kafka)?;
    "repair_scan = false\n".clone_into(&mut place.server);
    let mut cluster = Cluster::start(place, 1, SERVERS).await?;
    cluster.loaders[0].stop()?;
    let moved = move_history(&data, &cluster.place)?;
    assert_eq!(moved["events"], events, "{moved}");
    assert_eq!(cluster.place.digest()?, was);
    for server in &cluster.servers {
        let heard = eventually("all that was imported", async || {
            let matrix = server.digest().await?;
            anyhow::ensure!(matrix == was, "{server} has {matrix}, the store {was}");
            Ok(())
        });
        heard.await.with_context(|| cluster.account())?;
    }

    cluster.loaders[0].start(&cluster.place).await?;
    let new = cluster.all_planes()?;
    for planes in &new {
        assert_eq!(decisions(planes, &tenants).await?, decided);
    }
    ledger.check_streams(&new[0]).await?;
    ledger.check_replays(&new[0], REPLAYS).await?;
    load::check_all_servers(&ledger, &new).await?;
    assert_eq!(new[0].verify_audit().await?, events, "something was done again");
    cluster.ends_well().await
}

/// Runs [`WORDS`]; what the import says.
fn move_history(data: &Path, place: &Place) -> anyhow::Result<Value> {
    let mut shell = std::process::Command::new("bash");
    shell.args(["-o", "pipefail", "-c", WORDS]).arg(binary::tessera()?).arg(data).arg(place.command_settings()?);
    serde_json::from_str(&binary::run(&mut shell)?.success()?).context("what was moved")
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
