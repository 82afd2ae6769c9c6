//! `tessera-loader`: the control plane as a process of its own. Which backends there are is `main.rs`'s business: it hands over
//! how to open them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tessera_ports::{ChangePublisher, Clock, EventPublisher, EventStore, HintStore, IdSource, LeaseStore};
use tessera_runtime::clock::{SystemClock, SystemIds};
use tessera_runtime::exposure::Exposure;
use tessera_runtime::http::Pages;
use tessera_runtime::identity::settings::IdentityConfig;
use tessera_runtime::lifecycle::Tasks;
use tessera_runtime::listener::ListenerConfig;
use tessera_runtime::process::{self, ProcessArguments};
use tessera_runtime::telemetry::traces::Traces;
use tessera_runtime::telemetry::{self, Metrics};

use crate::{Config, Dependencies, Handle, access, build};

/// Where to listen and where settings are.
#[derive(Debug, Parser)]
#[command(name = "tessera-loader", version, about = "The control plane of Tessera")]
struct Arguments {
    /// Where the control plane listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7401")]
    control_listen: SocketAddr,
    #[command(flatten)]
    process: ProcessArguments,
}

/// Everything that can be set. `B` is what the backends are opened by.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings<B> {
    /// How commands are decided.
    #[serde(default)]
    pub loader: Config,
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

/// Open backends, as far as the control plane needs them.
pub struct Opened {
    /// The store of all streams.
    pub store: Arc<dyn EventStore>,
    /// Where changes are published.
    pub publisher: Arc<dyn ChangePublisher>,
    /// Where others are told of events, if they are.
    pub events: Option<Arc<dyn EventPublisher>>,
    /// Where hints are kept.
    pub hints: Arc<dyn HintStore>,
    /// Which loaders are at work.
    pub leases: Arc<dyn LeaseStore>,
    /// What they need beside the calls; completes when the process must end because they cannot be relied on any more.
    pub fatal: BoxFuture<'static, String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Backends that are being opened.
pub type Opening = BoxFuture<'static, anyhow::Result<Opened>>;

/// Runs the process that `arguments` (with the program's name) ask for.
pub fn run<B: DeserializeOwned>(
    arguments: impl IntoIterator<Item = OsString>,
    open: fn(B, Arc<dyn IdSource>) -> Opening,
) -> ExitCode {
    process::run(arguments, |arguments: &Arguments| {
        let settings: Settings<B> = arguments.process.settings()?;
        let metrics = arguments.process.observe()?;
        let addresses = [("--control-listen", arguments.control_listen)];
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let exposure = Exposure::open(settings.listener, settings.identity, &addresses, access::policy(), &clock)?;
        process::block_on(async {
            let tasks = Tasks::new();
            let traces = Traces::start(&settings.telemetry, "tessera-loader", &tasks)?;
            let opened = open(settings.backends, Arc::new(SystemIds)).await.context("open the backends")?;
            serve(arguments, settings.loader, &exposure, opened, metrics, (tasks, traces)).await
        })
    })
}

async fn serve(
    arguments: &Arguments,
    config: Config,
    exposure: &Exposure,
    opened: Opened,
    metrics: Metrics,
    (tasks, traces): (Tasks, Traces),
) -> anyhow::Result<ExitCode> {
    tasks.die_when("loader.backends", opened.fatal);
    let dependencies = Dependencies {
        store: opened.store,
        publisher: opened.publisher,
        events: opened.events,
        hints: opened.hints,
        leases: opened.leases,
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
    };
    let loader = build(config, dependencies, &tasks)?;
    let bound = arguments.process.bind("control", arguments.control_listen, &tasks).await?;
    let service = exposure.guard(traces.over(loader.routes().prepare()), access::rules);
    drop(traces);
    let pages = shown(&metrics, loader.start(&tasks));
    bound.serve(tasks, service, exposure, None, pages, metrics).await
}

fn shown(metrics: &Metrics, handle: Handle) -> Pages {
    let metrics = metrics.clone();
    let (readiness, start) = (handle.clone(), handle.clone());
    Pages {
        metrics: Arc::new(move || metrics.render()),
        ready: Arc::new(move || readiness.ready()),
        started: Arc::new(move || start.started()),
        digest: None,
        store_digest: Some(Arc::new(move || {
            let handle = handle.clone();
            Box::pin(async move { Ok(handle.digest().await?) })
        })),
    }
}
