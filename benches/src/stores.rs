//! The scenario in a store on disk, imported once through the control plane and kept below `target/bench/` for later runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_ports::{EventStore, IdSource};
use tessera_proto::v1;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::import_tenants_request::Item;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_runtime::clock::SystemClock;
use tessera_server::process::{Backends, Opened};
use tonic::transport::Channel;

use crate::child::{self, Running};
use crate::envoy;
use crate::miscounted::Miscounted;
use crate::scenario::{self, Tenant};

/// Where everything is put that a run leaves behind.
#[derive(Debug, Clone)]
pub struct Workshop(PathBuf);

/// How long an import took.
#[derive(Debug, Clone, Copy)]
pub struct Imported {
    /// Rows.
    pub tenants: u64,
    /// From the first row sent to the last one acknowledged.
    pub elapsed: Duration,
    /// CPU time of the importing process.
    pub cpu: Duration,
}

impl Workshop {
    /// Below that folder, which is made.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make `{}`", folder.display()))?;
        Ok(Self(folder.canonicalize()?))
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A data directory with that many tenants.
    pub fn store(&self, tenants: u64) -> anyhow::Result<PathBuf> {
        let kept = self.path(&format!("store-{}-{tenants}", scenario::VERSION));
        if !kept.is_dir() {
            eprintln!("bench: importing {tenants} tenants into {}", kept.display());
            let fresh = self.path("store-in-the-making");
            self.import(&fresh, tenants)?;
            std::fs::rename(&fresh, &kept)?;
        }
        Ok(kept)
    }

    /// Makes a new store in `folder`, replacing what is there.
    pub fn import(&self, folder: &Path, tenants: u64) -> anyhow::Result<Imported> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        let mut dev = self.dev(folder)?;
        dev.ready()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let imported = runtime.block_on(fill(&dev, tenants))?;
        // With its connections.
        drop(runtime);
        dev.stop()?;
        Ok(imported)
    }

    /// `tessera dev` over that directory, on any core.
    pub fn dev(&self, folder: &Path) -> anyhow::Result<Running> {
        let mut command = Command::new(child::beside("tessera")?);
        // What it would leave in a store is no part of the store.
        command.env("TESSERA_SERVER__SNAPSHOTS", "false");
        command.arg("dev").arg("--data").arg(folder).arg("--print-addresses");
        for listen in ["--data-listen", "--control-listen", "--http-listen"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        Running::start(command, &self.path("dev.log"))
    }

    /// `binary` (`tessera-server`, or one that is like it) over that directory, with one serving thread; it answers Envoys too.
    pub fn server(&self, command: Command, folder: &Path) -> anyhow::Result<Running> {
        self.server_with(command, folder, &format!("snapshots = false\n{}", envoy::SETTINGS))
    }

    /// As [`Self::server`], with these settings of the data plane besides.
    pub fn server_with(&self, mut command: Command, folder: &Path, more: &str) -> anyhow::Result<Running> {
        let settings = self.path("server.toml");
        let folder = folder.display().to_string();
        let text = format!("[server]\nthreads = 1\n{more}[backends]\nkind = \"sqlite\"\ndata_dir = {folder:?}\n");
        std::fs::write(&settings, text)?;
        command.arg("--settings").arg(settings).args(["--print-addresses", "--log", "warn"]);
        command.args(["--data-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        Running::start(command, &self.path("server.log"))
    }
}

async fn fill(dev: &Running, tenants: u64) -> anyhow::Result<Imported> {
    let channel = Channel::from_shared(format!("http://{}", dev.address("control")?))?.connect().await?;
    for service in scenario::services() {
        CatalogServiceClient::new(channel.clone()).upsert_service(service).await?;
    }
    for plan in scenario::plans() {
        let plan_id = plan.plan_id.clone();
        let mut plans = PlanServiceClient::new(channel.clone());
        plans.create_plan(plan).await?;
        plans.publish_plan(v1::PublishPlanRequest { plan_id, ..Default::default() }).await?;
    }
    let before = dev.cpu()?;
    let began = Instant::now();
    let start = v1::ImportStart { import_id: "scenario".to_owned(), mode: v1::ImportMode::CreateOnly.into() };
    let rows = (0..tenants).map(|number| {
        let row = i64::try_from(number + 1).unwrap_or(i64::MAX);
        Item::Row(v1::ImportRow { row, tenant: Some(Tenant(number).document()) })
    });
    let items = std::iter::once(Item::Start(start)).chain(rows);
    let requests = tokio_stream::iter(items.map(|item| v1::ImportTenantsRequest { item: Some(item) }));
    let mut answers = TenantServiceClient::new(channel).import_tenants(requests).await?.into_inner();
    let mut through = 0;
    while let Some(answer) = answers.message().await? {
        anyhow::ensure!(answer.errors.is_empty(), "a row was refused: {:?}", answer.errors.first());
        through = answer.applied_through_row;
    }
    anyhow::ensure!(u64::try_from(through) == Ok(tenants), "{through} of {tenants} rows were imported");
    Ok(Imported { tenants, elapsed: began.elapsed(), cpu: dev.cpu()?.saturating_sub(before) })
}

/// Set to a number: `counted-server`'s store tells of that many in a hundred of its streams.
pub const COUNTED_PER_CENT: &str = "TESSERA_BENCH_COUNTED_PER_CENT";

/// Opens the backends of a server's settings, as `tessera-server` does.
pub const BACKENDS: Backends<tessera_backends::Config> = Backends { check, open, data_dir };

fn check(config: &tessera_backends::Config) -> anyhow::Result<()> {
    config.validate().map_err(anyhow::Error::msg)
}

fn data_dir(config: &tessera_backends::Config) -> Option<PathBuf> {
    config.data_dir().map(Path::to_owned)
}

/// A process that reads.
pub fn opening(ids: Arc<dyn IdSource>) -> tessera_backends::Opening {
    tessera_backends::Opening { purpose: tessera_backends::Purpose::Serving, ids, clock: Arc::new(SystemClock) }
}

fn open(config: tessera_backends::Config, ids: Arc<dyn IdSource>, _can_wait: bool) -> BoxFuture<'static, anyhow::Result<Opened>> {
    async move {
        let tessera_backends::Backends { ports, fatal } = tessera_backends::open(&config, &opening(ids)).await?;
        let store = match std::env::var(COUNTED_PER_CENT) {
            Ok(per_cent) => {
                let per_cent = per_cent.parse().context(COUNTED_PER_CENT)?;
                Arc::new(Miscounted { store: ports.store, per_cent }) as Arc<dyn EventStore>
            }
            Err(_) => ports.store,
        };
        Ok(Opened { store, feed: ports.feed, fatal })
    }
    .boxed()
}
