//! `tessera-server`: the data plane as a process of its own. Which backends there are is `main.rs`'s business: it hands over
//! how to open them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tessera_ports::{ChangeFeed, Clock, EventStore, IdSource};
use tessera_runtime::clock::{SystemClock, SystemIds};
use tessera_runtime::exposure::Exposure;
use tessera_runtime::http::Pages;
use tessera_runtime::identity::settings::IdentityConfig;
use tessera_runtime::lifecycle::Tasks;
use tessera_runtime::listener::ListenerConfig;
use tessera_runtime::process::{self, ProcessArguments};
use tessera_runtime::telemetry::traces::Traces;
use tessera_runtime::telemetry::{self, Metrics};

use crate::snapshot::folder::Directory;
use crate::{Config, Dependencies, Handle, access, build, snapshot};

/// Where to listen and where settings are.
#[derive(Debug, Parser)]
#[command(name = "tessera-server", version, about = "The data plane of Tessera")]
struct Arguments {
    /// Where the data plane listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    data_listen: SocketAddr,
    #[command(flatten)]
    process: ProcessArguments,
}

/// Everything that can be set. `B` is what the backends are opened by.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings<B> {
    /// How checks are answered.
    #[serde(default)]
    pub server: Config,
    /// Connections and calls.
    #[serde(default)]
    pub listener: ListenerConfig,
    /// Who may call; nobody is asked without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityConfig>,
    /// What is told of calls and decisions.
    #[serde(default)]
    pub telemetry: telemetry::Config,
    /// Which backends.
    pub backends: B,
}

/// Open backends, as far as the data plane needs them.
pub struct Opened {
    /// The store of all streams.
    pub store: Arc<dyn EventStore>,
    /// The feed of changes.
    pub feed: Arc<dyn ChangeFeed>,
    /// What they need beside the calls; completes when the process must end because they cannot be relied on any more.
    pub fatal: BoxFuture<'static, String>,
}

/// Backends that are being opened.
pub type Opening = BoxFuture<'static, anyhow::Result<Opened>>;

/// What the process knows of its backends without naming them.
pub struct Backends<B> {
    /// Says what is out of bounds in their settings.
    pub check: fn(&B) -> anyhow::Result<()>,
    /// Opens them. A process that `can_wait` has something to serve without them, and gets them whether or not they can be
    /// reached yet.
    pub open: fn(B, Arc<dyn IdSource>, can_wait: bool) -> Opening,
    /// Where an embedded database is, with room for files of this process beside it.
    pub data_dir: fn(&B) -> Option<PathBuf>,
}

impl<B> std::fmt::Debug for Backends<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backends")
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("store", &self.store).field("feed", &self.feed).finish_non_exhaustive()
    }
}

/// Runs the process that `arguments` (with the program's name) ask for.
pub fn run<B: DeserializeOwned>(arguments: impl IntoIterator<Item = OsString>, backends: &Backends<B>) -> ExitCode {
    let Backends { check, open, data_dir } = *backends;
    process::run(arguments, |arguments: &Arguments| {
        let settings: Settings<B> = arguments.process.settings()?;
        let metrics = arguments.process.observe()?;
        let addresses = [("--data-listen", arguments.data_listen)];
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let exposure = Exposure::open(settings.listener, settings.identity, &addresses, access::policy(), &clock)?;
        check(&settings.backends).context("settings of the backends")?;
        settings.server.validate().context("settings of the server")?;
        let snapshots = settings.server.snapshot_folder(data_dir(&settings.backends).as_deref());
        let can_wait = snapshots.as_ref().is_some_and(|folder| snapshot::load::is_there(folder, &settings.server, &SystemClock));
        process::block_on(async {
            let tasks = Tasks::new();
            let traces = Traces::start(&settings.telemetry, "tessera-server", &tasks)?;
            let opened = open(settings.backends, Arc::new(SystemIds), can_wait).await.context("open the backends")?;
            serve(arguments, settings.server, &exposure, opened, snapshots, metrics, (tasks, traces)).await
        })
    })
}

async fn serve(
    arguments: &Arguments,
    config: Config,
    exposure: &Exposure,
    opened: Opened,
    snapshots: Option<Directory>,
    metrics: Metrics,
    (tasks, traces): (Tasks, Traces),
) -> anyhow::Result<ExitCode> {
    let Opened { store, feed, fatal } = opened;
    tasks.die_when("server.backends", fatal);
    let threads = config.serving_threads();
    let mut server = build(config, Dependencies { store, feed, clock: Arc::new(SystemClock) }, &tasks)?;
    if let Some(folder) = snapshots {
        server = server.with_snapshots(Arc::new(folder));
    }
    let bound = arguments.process.bind("data", arguments.data_listen, &tasks).await?;
    let service = exposure.guard(traces.over(server.services()), access::rules);
    drop(traces);
    let pages = shown(&metrics, server.start(&tasks));
    bound.serve(tasks, service, exposure, Some(threads), pages, metrics).await
}

fn shown(metrics: &Metrics, handle: Handle) -> Pages {
    let metrics = metrics.clone();
    let (readiness, start) = (handle.clone(), handle.clone());
    Pages {
        metrics: Arc::new(move || metrics.render()),
        ready: Arc::new(move || readiness.ready()),
        started: Arc::new(move || start.started()),
        digest: Some(Arc::new(move || {
            let digest = handle.digest();
            Box::pin(async move { Ok(digest) })
        })),
        store_digest: None,
    }
}
