//! Does what its argument says, an order as JSON, by the adapters of a cluster and by bare drivers in turns: prints a line of JSON
//! with what each turn of every round took. A process of its own, so that its CPU time is theirs alone, with the allocator of the
//! processes.

use anyhow::Context as _;
use tessera_backends::Config;
use tessera_benches::cluster::turns::{Job, Order};
use tessera_benches::cluster::{append, replay, scan};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let order = std::env::args().nth(1).context("usage: cluster-adapters ORDER")?;
    let Order { job, backends, tenants } = serde_json::from_str(&order).context("read the order")?;
    let Config::Cluster(config) = backends else { anyhow::bail!("these backends are no cluster") };
    let rounds = match job {
        Job::Scan => many_threads()?.block_on(scan::rounds(&config, tenants))?,
        Job::Replay => many_threads()?.block_on(replay::rounds(&config))?,
        // One writer, one after the other: a second thread would only be woken in between.
        Job::Append => Builder::new_current_thread().enable_all().build()?.block_on(append::rounds(&config))?,
    };
    println!("{}", serde_json::to_string(&rounds)?);
    Ok(())
}

/// As many as there are cores.
fn many_threads() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}
