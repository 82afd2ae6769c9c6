//! `dev`: data plane and control plane in one process over the embedded database. The same code as in production, other
//! backends.
//!
//! The process is ready (`/readyz`) when the data is loaded, the control plane has reached the store, and what `--apply` names
//! is visible to checks. It never asks. The database is opened before anything listens, so that a second process on the
//! directory hears that, and not that a port is taken.

mod greeting;
mod visible;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use tessera_backends::SqliteConfig;
use tessera_runtime::clock::{SystemClock, SystemIds};
use tessera_runtime::http::{self, Pages};
use tessera_runtime::lifecycle::{Signals, Tasks};
use tessera_runtime::listener::{self, ListenerConfig};
use tessera_runtime::settings::{self, Sources};
use tessera_runtime::telemetry::{LogFormat, Metrics, init_logs};
use tokio::net::TcpListener;

use super::apply;
use crate::apply::compare;
use crate::connection::{Addresses, Planes};
use crate::console::{Console, Format};
use crate::document::Located;
use crate::files;

/// How long one command of `--apply` may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to listen, where to keep data, what to begin with.
#[derive(Debug, Args)]
pub struct DevArguments {
    /// Where data is kept; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".tessera")]
    data: PathBuf,
    /// Documents to apply at every start: files, or directories (their *.yaml); equal ones change nothing
    #[arg(long, value_name = "FILES", num_args = 1..)]
    apply: Vec<PathBuf>,
    /// Where the data plane listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    data_listen: SocketAddr,
    /// Where the control plane listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7401")]
    control_listen: SocketAddr,
    /// Where metrics, health and digest pages are
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7402")]
    http_listen: SocketAddr,
    /// Print the chosen addresses as one line of JSON as soon as they are taken
    #[arg(long)]
    print_addresses: bool,
    /// Settings in TOML, with the sections [server], [loader] and [listener]
    #[arg(long, value_name = "FILE", env = "TESSERA_SETTINGS", hide_env_values = true)]
    settings: Option<PathBuf>,
    /// What to log, in the syntax of `RUST_LOG`
    #[arg(long, value_name = "FILTER", env = "TESSERA_LOG", default_value = "warn,tessera=info", hide_env_values = true)]
    log: String,
    /// Form of log lines: text or json
    #[arg(long, value_name = "FORMAT", env = "TESSERA_LOG_FORMAT", default_value = "text", hide_env_values = true)]
    log_format: LogFormat,
}

/// Everything that can be set; each section is documented where it is defined.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    server: tessera_server::Config,
    loader: tessera_loader::config::Config,
    listener: ListenerConfig,
}

/// The three listeners and where they are.
struct Listeners {
    data: TcpListener,
    control: TcpListener,
    http: TcpListener,
    addresses: Addresses,
}

/// `tessera dev`.
pub async fn run(console: &Console, arguments: DevArguments) -> anyhow::Result<ExitCode> {
    listener::permit(arguments.data_listen).context("--data-listen")?;
    listener::permit(arguments.control_listen).context("--control-listen")?;
    let documents = if arguments.apply.is_empty() { Vec::new() } else { files::read_all(&arguments.apply, |_| true)? };
    // A variable that is not text is nobody's setting.
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = variables.collect();
    let sources = Sources { file: arguments.settings.as_deref(), environment, flags: Vec::new() };
    let settings: Settings = settings::load(sources).context("settings")?;
    settings.listener.validate().context("settings of the listeners")?;
    init_logs(arguments.log_format, &arguments.log)?;
    let metrics = Metrics::install()?;
    let signals = Signals::of_process().context("listen to signals")?;

    let tasks = Tasks::new();
    let store_config = tessera_backends::Config::Sqlite(SqliteConfig::new(&arguments.data));
    let backends = tokio::task::block_in_place(|| tessera_backends::open(&store_config, &SystemIds))?;
    tasks.die_when("dev.store", backends.fatal.clone().wait());

    let clock = Arc::new(SystemClock);
    let threads = settings.server.serving_threads();
    let server = tessera_server::build(
        settings.server,
        tessera_server::Dependencies {
            store: Arc::clone(&backends.store),
            feed: Arc::clone(&backends.feed),
            clock: clock.clone(),
        },
        &tasks,
    )?;
    let loader = tessera_loader::build(
        settings.loader,
        tessera_loader::Dependencies {
            store: Arc::clone(&backends.store),
            publisher: Arc::clone(&backends.publisher),
            hints: Arc::clone(&backends.hints),
            clock,
            ids: Arc::new(SystemIds),
        },
        &tasks,
    )?;
    drop(backends);

    let listeners = listen(&arguments).await?;
    let addresses = listeners.addresses.clone();
    let (data_routes, control_routes) = (server.routes(), loader.routes());
    let (server, loader) = (server.start(&tasks), loader.start(&tasks));
    let (config, shutdown) = (settings.listener.clone(), tasks.shutdown());
    tasks.spawn("data.listener", async move {
        listener::serve_on_threads(listeners.data, data_routes, &config, threads, shutdown).await
    });
    let (config, shutdown) = (settings.listener, tasks.shutdown());
    tasks.spawn("control.listener", async move { listener::serve(listeners.control, control_routes, &config, shutdown).await });
    let applied = Arc::new(AtomicBool::new(false));
    let pages = pages(&metrics, server.clone(), loader, &applied);
    tasks.spawn_behind("http.listener", http::serve(listeners.http, pages, tasks.shutdown()));
    tasks.spawn_behind("metrics.upkeep", metrics.upkeep());

    if arguments.print_addresses {
        let Addresses { data, control, http } = &addresses;
        let line = serde_json::json!({ "data": data, "control": control, "http": http });
        console.print(&format!("{line}\n"))?;
    }
    let shutdown = tasks.shutdown();
    let beginning = async {
        let begun = tokio::select! {
            begun = begin(server, documents, addresses, arguments.data, applied) => begun,
            () = shutdown.soft.cancelled() => Ok(()),
        };
        if begun.is_err() {
            shutdown.drain();
        }
        begun
    };
    let (begun, ending) = tokio::join!(beginning, tasks.run_until_stopped(signals));
    begun?;
    Ok(ending.into())
}

async fn listen(arguments: &DevArguments) -> anyhow::Result<Listeners> {
    let data = listener::bind(arguments.data_listen).await.context("--data-listen")?;
    let control = listener::bind(arguments.control_listen).await.context("--control-listen")?;
    let http = listener::bind_anywhere(arguments.http_listen).await.context("--http-listen")?;
    let addresses = Addresses {
        data: data.local_addr()?.to_string(),
        control: control.local_addr()?.to_string(),
        http: http.local_addr()?.to_string(),
    };
    Ok(Listeners { data, control, http, addresses })
}

fn pages(metrics: &Metrics, server: tessera_server::Handle, loader: tessera_loader::Handle, applied: &Arc<AtomicBool>) -> Pages {
    let metrics = metrics.clone();
    let (matrix, started, seen) = (server.clone(), server.clone(), Arc::clone(applied));
    let store = loader.clone();
    Pages {
        metrics: Arc::new(move || metrics.render()),
        ready: Arc::new(move || {
            let mut missing = server.ready().err().unwrap_or_default();
            missing.extend(loader.ready().err().unwrap_or_default());
            if !seen.load(Ordering::Acquire) {
                missing.push("what is to be applied is not visible yet".to_owned());
            }
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        }),
        started: Arc::new(move || started.started()),
        digest: Some(Arc::new(move || {
            let digest = matrix.digest();
            Box::pin(async move { Ok(digest) })
        })),
        store_digest: Some(Arc::new(move || {
            let store = store.clone();
            Box::pin(async move { Ok(store.digest().await?) })
        })),
    }
}

/// Applies, waits until checks see it, and says what to try.
async fn begin(
    server: tessera_server::Handle,
    documents: Vec<Located>,
    addresses: Addresses,
    data: PathBuf,
    applied: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let planes = Planes::new(addresses.clone(), COMMAND_TIMEOUT)?;
    let greeting = greeting::compose(&addresses, &data, &documents);
    let steps = compare(&planes, documents).await.context("--apply")?;
    let changed = steps.iter().filter(|step| step.changes()).count();
    // Nobody looks on at a bar here: progress belongs to the log.
    let silent = Console { format: Format::Json };
    let done = apply::perform(&planes, &silent, &steps).await.context("--apply")?;
    server.loaded().await;
    visible::wait(&planes, done).await.context("--apply")?;
    if !steps.is_empty() {
        tracing::info!(changed, unchanged = steps.len() - changed, "the documents are applied");
    }
    applied.store(true, Ordering::Release);
    silent.print(&greeting)
}
