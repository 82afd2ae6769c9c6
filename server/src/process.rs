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
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tessera_ports::{ChangeFeed, EventStore, IdSource};
use tessera_runtime::clock::{SystemClock, SystemIds};
use tessera_runtime::http::{self, Pages};
use tessera_runtime::lifecycle::{Signals, Tasks};
use tessera_runtime::listener::{self, ListenerConfig};
use tessera_runtime::settings::{self, Sources};
use tessera_runtime::telemetry::{LogFormat, Metrics, init_logs};

use crate::{Config, Dependencies, Handle, build};

/// Where to listen and where settings are.
#[derive(Debug, Parser)]
#[command(name = "tessera-server", version, about = "The data plane of Tessera")]
struct Arguments {
    /// Settings in TOML, with the sections [server], [listener] and [backends]
    #[arg(long, value_name = "FILE", env = "TESSERA_SETTINGS", hide_env_values = true)]
    settings: Option<PathBuf>,
    /// Where the data plane listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    data_listen: SocketAddr,
    /// Where metrics, health and digest pages are
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7402")]
    http_listen: SocketAddr,
    /// Print the chosen addresses as one line of JSON as soon as they are taken
    #[arg(long)]
    print_addresses: bool,
    /// What to log, in the syntax of `RUST_LOG`
    #[arg(long, value_name = "FILTER", env = "TESSERA_LOG", default_value = "info", hide_env_values = true)]
    log: String,
    /// Form of log lines: text or json
    #[arg(long, value_name = "FORMAT", env = "TESSERA_LOG_FORMAT", default_value = "text", hide_env_values = true)]
    log_format: LogFormat,
}

/// Everything that can be set. `B` is what the backends are opened by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings<B> {
    #[serde(default)]
    server: Config,
    #[serde(default)]
    listener: ListenerConfig,
    backends: B,
}

/// Open backends, as far as the data plane needs them.
pub struct Opened {
    /// The store of all streams.
    pub store: Arc<dyn EventStore>,
    /// The feed of changes.
    pub feed: Arc<dyn ChangeFeed>,
    /// Completes when the process must end because they cannot be relied on any more.
    pub fatal: BoxFuture<'static, String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("store", &self.store).field("feed", &self.feed).finish_non_exhaustive()
    }
}

/// Runs the process that `arguments` (with the program's name) ask for.
pub fn run<B: DeserializeOwned>(
    arguments: impl IntoIterator<Item = OsString>,
    open: impl FnOnce(&B, &dyn IdSource) -> anyhow::Result<Opened>,
) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. A closed standard error is nobody's business here.
            drop(error.print());
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    serve(&arguments, open).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn serve<B: DeserializeOwned>(
    arguments: &Arguments,
    open: impl FnOnce(&B, &dyn IdSource) -> anyhow::Result<Opened>,
) -> anyhow::Result<ExitCode> {
    listener::permit(arguments.data_listen).context("--data-listen")?;
    let environment = std::env::vars().collect();
    let sources = Sources { file: arguments.settings.as_deref(), environment, flags: Vec::new() };
    let settings: Settings<B> = settings::load(sources).context("settings")?;
    settings.listener.validate().context("settings of the listener")?;
    init_logs(arguments.log_format, &arguments.log)?;
    let metrics = Metrics::install()?;
    let opened = open(&settings.backends, &SystemIds).context("open the backends")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve_until_stopped(arguments, settings.server, settings.listener, opened, metrics))
}

async fn serve_until_stopped(
    arguments: &Arguments,
    config: Config,
    listener_config: ListenerConfig,
    opened: Opened,
    metrics: Metrics,
) -> anyhow::Result<ExitCode> {
    let signals = Signals::of_process().context("listen to signals")?;
    let tasks = Tasks::new();
    tasks.die_when("server.backends", opened.fatal);
    let dependencies = Dependencies { store: opened.store, feed: opened.feed, clock: Arc::new(SystemClock) };
    let server = build(config, dependencies, &tasks)?;
    let data = listener::bind(arguments.data_listen).await.context("--data-listen")?;
    let pages = listener::bind_anywhere(arguments.http_listen).await.context("--http-listen")?;
    if arguments.print_addresses {
        let (data, http) = (data.local_addr()?.to_string(), pages.local_addr()?.to_string());
        println!("{}", serde_json::json!({ "data": data, "http": http }));
    }
    let routes = server.routes();
    let handle = server.start(&tasks);
    let shutdown = tasks.shutdown();
    tasks.spawn("data.listener", async move { listener::serve(data, routes, &listener_config, shutdown).await });
    tasks.spawn_behind("http.listener", http::serve(pages, shown(&metrics, handle), tasks.shutdown()));
    tasks.spawn_behind("metrics.upkeep", metrics.upkeep());
    Ok(tasks.run_until_stopped(signals).await.into())
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
