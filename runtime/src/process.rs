//! A process of one plane: what its command line, its start and its end are, whichever plane it serves.
//!
//! `tessera dev`, which serves both planes and more, has a command line of its own.

pub mod open_files;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::exposure::Exposure;
use crate::http::{self, Pages};
use crate::lifecycle::{Ending, Signals, Tasks};
use crate::listener::{self, Calls};
use crate::settings::{self, Sources};
use crate::telemetry::{LogFormat, Metrics, init_logs};

/// The exit code of a process that was cut short, by a second signal or since draining took too long: it was asked to stop, and
/// what was under way then did not finish.
pub const CUT_SHORT: u8 = 4;

/// As [`ExitCode::FAILURE`]: a part of the process died.
const DIED: u8 = 1;

/// How long what blocks a thread may go on when all tasks have ended: the last bytes of a snapshot on a slow disk.
const LEFT_OVER_MAX: Duration = Duration::from_secs(10);

/// How long the end may take once draining has begun: draining, outlets, [`LEFT_OVER_MAX`], and a little more than is needed for that.
const END_MAX: Duration = Duration::from_secs(45);

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
    open_files::raise();
    let arguments = match A::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. A closed standard error is nobody's business here.
            drop(error.print());
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    serve(&arguments).unwrap_or_else(|error| {
        // As above: a panic would be another exit code.
        drop(writeln!(io::stderr(), "error: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Runs `serve` on a runtime of its own, and drops what it leaves behind before it returns: connections that nobody waits for have
/// hold of the store, which closes with the last of them.
pub fn block_on<T>(serve: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let served = runtime.block_on(serve);
    // To drop it would be to wait for threads that block, however long.
    runtime.shutdown_timeout(LEFT_OVER_MAX);
    served
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

    /// Takes the addresses of the plane (`data`, `control`) and of the pages, and prints them if asked to. From here on there are
    /// signals, and an end that is held up has a limit.
    pub async fn bind(&self, plane: &'static str, address: SocketAddr, tasks: &Tasks) -> anyhow::Result<Bound> {
        let signals = Signals::of_process().context("listen to signals")?;
        bound_the_end(tasks)?;
        let calls = listener::bind(address).await.with_context(|| format!("--{plane}-listen"))?;
        let pages = listener::bind(self.http_listen).await.context("--http-listen")?;
        if self.print_addresses {
            let (calls, http) = (calls.local_addr()?.to_string(), pages.local_addr()?.to_string());
            print_line(io::stdout(), &serde_json::json!({ plane: calls, "http": http })).context("print the addresses")?;
        }
        Ok(Bound { signals, calls, pages })
    }
}

/// Somebody who does not read it any more is no error: the addresses are taken all the same.
fn print_line(mut out: impl Write, line: &serde_json::Value) -> io::Result<()> {
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
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
        // The Unix socket has as many connections of its own.
        open_files::check(config.connections_max.saturating_mul(if config.unix_socket.is_some() { 2 } else { 1 }));
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
        Ok(exit_code(tasks.run_until_stopped(signals).await))
    }
}

/// What a process says at its end.
pub fn exit_code(ending: Ending) -> ExitCode {
    match ending {
        Ending::Aborted => ExitCode::from(CUT_SHORT),
        Ending::Drained | Ending::Died => ending.into(),
    }
}

/// From here on a second signal ends the process at once, with [`CUT_SHORT`], whatever it is doing; and so does time, when more
/// than 45 s have passed since the first one, or since `tasks` began to drain without one: then the code is that of a task that has
/// died. To be called within a runtime, where signals are begun to be listened to.
///
/// Tasks are told to stop by [`Tasks::run_until_stopped`], but a thread that is in the middle of a write to a disk that hangs, or
/// that waits for such a thread, hears nothing; so this has a thread to itself.
pub fn bound_the_end(tasks: &Tasks) -> anyhow::Result<()> {
    end_within(END_MAX, tasks.shutdown().soft)
}

fn end_within(end_max: Duration, soft: CancellationToken) -> anyhow::Result<()> {
    let signals = Signals::of_process().context("listen to signals")?;
    // Its own, since it is what wakes whoever waits for a signal, and all threads of the other one may block.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime for signals")?;
    let waiting = std::thread::Builder::new().name("signals".to_owned());
    waiting.spawn(move || wait_and_end(&runtime, signals, end_max, &soft)).context("a thread for signals")?;
    Ok(())
}

/// Does not return. Nothing is lost by ending here that a SIGKILL would not lose: what was acknowledged is in the store.
fn wait_and_end(runtime: &tokio::runtime::Runtime, mut signals: Signals, end_max: Duration, soft: &CancellationToken) {
    let code = runtime.block_on(async {
        let mut signalled = tokio::select! {
            // A signal is heard here no later than by whoever drains at it.
            biased;
            _ = signals.next() => true,
            () = soft.cancelled() => false,
        };
        // Or the end is held up where no task hears of time: by a disk that hangs, or by whoever reads the log.
        let mut too_long = pin!(tokio::time::sleep(end_max));
        loop {
            tokio::select! {
                _ = signals.next() => if std::mem::replace(&mut signalled, true) { break CUT_SHORT },
                () = &mut too_long => break if signalled { CUT_SHORT } else { DIED },
            }
        }
    });
    // Without a word: whoever reads the log may be what everybody waits for.
    std::process::exit(i32::from(code));
}

#[cfg(test)]
mod tests;
