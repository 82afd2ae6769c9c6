//! A process of one plane: what its command line, its start and its end are, whichever plane it serves.
//!
//! `tessera dev`, which serves both planes and more, has a command line of its own.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

use crate::exposure::Exposure;
use crate::http::{self, Pages};
use crate::lifecycle::{Signals, Tasks};
use crate::listener::{self, Calls};
use crate::settings::{self, Sources};
use crate::telemetry::{LogFormat, Metrics, init_logs};

/// What every process can be told on its command line.
#[derive(Debug, Args)]
pub struct ProcessArguments {
    /// Settings in TOML; the sections are listener, identity, telemetry, backends and the plane's own
    #[arg(long, value_name = "FILE", env = "TESSERA_SETTINGS", hide_env_values = true)]
    settings: Option<PathBuf>,
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

/// Reads the command line (with the program's name) and runs `serve`; says on standard error what went wrong.
pub fn run<A: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    serve: impl FnOnce(&A) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    let arguments = match A::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. A closed standard error is nobody's business here.
            drop(error.print());
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    serve(&arguments).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

impl ProcessArguments {
    /// The settings of file and environment.
    pub fn settings<S: DeserializeOwned>(&self) -> anyhow::Result<S> {
        // A variable that is not text is nobody's setting.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let sources = Sources { file: self.settings.as_deref(), environment: variables.collect(), flags: Vec::new() };
        settings::load(sources).context("settings")
    }

    /// Begins to log and to count. Once per process, before anything else is built.
    pub fn observe(&self) -> anyhow::Result<Metrics> {
        init_logs(self.log_format, &self.log)?;
        Ok(Metrics::install()?)
    }

    /// Runs `serve` on a runtime of its own.
    pub fn block_on<T>(&self, serve: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
        runtime.block_on(serve)
    }

    /// Takes the addresses of the plane (`data`, `control`) and of the pages, and prints them if asked to.
    pub async fn bind(&self, plane: &'static str, address: SocketAddr) -> anyhow::Result<Bound> {
        let signals = Signals::of_process().context("listen to signals")?;
        let calls = listener::bind(address).await.with_context(|| format!("--{plane}-listen"))?;
        let pages = listener::bind(self.http_listen).await.context("--http-listen")?;
        if self.print_addresses {
            let (calls, http) = (calls.local_addr()?.to_string(), pages.local_addr()?.to_string());
            println!("{}", serde_json::json!({ plane: calls, "http": http }));
        }
        Ok(Bound { signals, calls, pages })
    }
}

/// The addresses are taken; nothing is served yet.
#[derive(Debug)]
pub struct Bound {
    signals: Signals,
    calls: TcpListener,
    pages: TcpListener,
}

impl Bound {
    /// Serves until a signal has drained it or a task has died: calls on that many threads of their own, or, with `None`, on the
    /// runtime of the process, where a command goes on when its caller has left.
    pub async fn serve(
        self,
        tasks: Tasks,
        service: impl Calls,
        exposure: &Exposure,
        threads: Option<NonZeroUsize>,
        pages: Pages,
        metrics: Metrics,
    ) -> anyhow::Result<ExitCode> {
        let Self { signals, calls, pages: page_listener } = self;
        let (config, shutdown) = (exposure.listener().clone(), tasks.shutdown());
        let sockets = exposure.sockets_with_unix(calls)?;
        exposure.start(&tasks);
        tasks.spawn("calls.listener", async move {
            match threads {
                Some(threads) => listener::serve_on_threads(sockets, service, &config, threads, shutdown).await,
                None => listener::serve(sockets, service, &config, shutdown).await,
            }
        });
        tasks.spawn_behind("http.listener", http::serve(page_listener, pages, tasks.shutdown()));
        tasks.spawn_behind("metrics.upkeep", metrics.upkeep());
        Ok(tasks.run_until_stopped(signals).await.into())
    }
}
