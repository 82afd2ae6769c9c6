//! `dev`: data plane and control plane in one process over the embedded database. The same code as in production, other
//! backends.
//!
//! The process is ready (`/readyz`) when the data is loaded, the control plane has reached the store, and what `--apply` names
//! is visible to checks. It never asks. The database is opened before anything listens, so that a second process on the
//! directory hears that, and not that a port is taken.

mod greeting;
mod inside;
mod visible;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use tessera_backends::{Backends, Opening, Purpose};
use tessera_ports::Clock;
use tessera_runtime::clock::{SystemClock, SystemIds};
use tessera_runtime::exposure::Exposure;
use tessera_runtime::http::{self, Pages};
use tessera_runtime::identity::settings::IdentityConfig;
use tessera_runtime::lifecycle::{Signals, Tasks};
use tessera_runtime::listener::{self, ListenerConfig};
use tessera_runtime::process::{self, open_files};
use tessera_runtime::telemetry::traces::Traces;
use tessera_runtime::telemetry::{self, LogFormat, Metrics, init_logs};
use tokio::net::TcpListener;

use super::{apply, store};
use crate::apply::{Action, Step, compare};
use crate::connection::{Addresses, Planes};
use crate::console::{Console, Format};
use crate::document::Located;
use crate::files;
use greeting::Needs;

/// Where to listen, where to keep data, what to begin with.
#[derive(Debug, Args)]
pub struct DevArguments {
    /// Where data is kept; made if it is not there [default: `backends.data_dir` of the settings, or .tessera]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Documents to apply at every start: files, or directories (their *.yaml); what was changed since is set back to what they
    /// say, and deleted tenants stay deleted
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
    /// Settings in TOML, with the sections [server], [loader], [listener], [identity], [telemetry] and [backends]
    #[arg(long, value_name = "FILE", env = "TESSERA_SETTINGS", hide_env_values = true)]
    settings: Option<PathBuf>,
    /// What to log, in the syntax of `RUST_LOG`
    #[arg(long, value_name = "FILTER", env = "TESSERA_LOG", default_value = "warn,tessera=info", hide_env_values = true)]
    log: String,
    /// Form of log lines: text or json
    #[arg(long, value_name = "FORMAT", env = "TESSERA_LOG_FORMAT", default_value = "text", hide_env_values = true)]
    log_format: LogFormat,
}

/// Everything that can be set: what server and loader have. Each section is documented where it is defined.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How checks are answered.
    #[serde(default)]
    pub server: tessera_server::Config,
    /// How commands are decided.
    #[serde(default)]
    pub loader: tessera_loader::config::Config,
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
    pub backends: tessera_backends::Config,
}

impl Settings {
    fn load(file: Option<&Path>, environment: &[(String, String)], data: Option<&Path>) -> anyhow::Result<Self> {
        let settings: Self = store::load(file, environment, data)?;
        settings.listener.validate().context("settings of the listener")?;
        settings.backends.validate().map_err(anyhow::Error::msg).context("settings of the backends")?;
        settings.server.validate().context("settings of the server")?;
        Ok(settings)
    }

    fn data_dir(&self) -> anyhow::Result<&Path> {
        self.backends.data_dir().context(
            "backends.kind is `cluster`; `tessera dev` is one process over its own database, kind `sqlite`: on a cluster run \
             `tessera-loader` and `tessera-server`",
        )
    }
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
    let documents = if arguments.apply.is_empty() { Vec::new() } else { files::read_all(&arguments.apply)? };
    let settings = Settings::load(arguments.settings.as_deref(), &store::environment(), arguments.data.as_deref())?;
    let data = settings.data_dir()?.to_owned();
    init_logs(arguments.log_format, &arguments.log)?;
    let metrics = Metrics::install()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let needs = Needs::of(&settings.listener, settings.identity.as_ref());
    let addresses = [("--data-listen", arguments.data_listen), ("--control-listen", arguments.control_listen)];
    let exposure = Exposure::open(settings.listener, settings.identity, &addresses, tessera_server::access::policy(), &clock)?;
    let signals = Signals::of_process().context("listen to signals")?;
    let tasks = Tasks::new();
    process::bound_the_end(&tasks)?;
    let doors = if exposure.listener().unix_socket.is_some() { 3 } else { 2 };
    open_files::check(exposure.listener().connections_max.saturating_mul(doors));

    let traces = Traces::start(&settings.telemetry, "tessera-dev", &tasks)?;
    let opening = Opening { purpose: Purpose::Loading, ids: Arc::new(SystemIds), clock: Arc::new(SystemClock) };
    let Backends { ports, fatal } = tessera_backends::open(&settings.backends, &opening).await?;
    tasks.die_when("dev.store", fatal);

    let threads = settings.server.serving_threads();
    let snapshots = settings.server.snapshot_folder(Some(&data));
    let server = tessera_server::build(
        settings.server,
        tessera_server::Dependencies { store: Arc::clone(&ports.store), feed: Arc::clone(&ports.feed), clock: clock.clone() },
        &tasks,
    )?;
    let server = match snapshots {
        Some(folder) => server.with_snapshots(Arc::new(folder)),
        None => server,
    };
    let loader = tessera_loader::build(
        settings.loader,
        tessera_loader::Dependencies {
            store: Arc::clone(&ports.store),
            publisher: Arc::clone(&ports.publisher),
            events: ports.events.clone(),
            hints: Arc::clone(&ports.hints),
            leases: Arc::clone(&ports.leases),
            clock,
            ids: Arc::new(SystemIds),
        },
        &tasks,
    )?;
    drop(ports);

    let listeners = listen(&arguments).await?;
    let addresses = listeners.addresses.clone();
    let planes = inside::planes(addresses.clone(), (server.services(), loader.routes().prepare()), &tasks);
    let (data_plane, control_plane) = (traces.over(server.services()), traces.over(loader.routes().prepare()));
    drop(traces);
    let (server, loader) = (server.start(&tasks), loader.start(&tasks));
    exposure.start(&tasks);
    let (sockets, config, shutdown) =
        (exposure.sockets_with_unix(listeners.data)?, exposure.listener().clone(), tasks.shutdown());
    let service = exposure.guard(data_plane, tessera_server::access::rules);
    tasks.spawn("data.listener", async move { listener::serve_on_threads(sockets, service, &config, threads, shutdown).await });
    let (sockets, config, shutdown) = (exposure.sockets(listeners.control), exposure.listener().clone(), tasks.shutdown());
    let service = exposure.guard(control_plane, tessera_loader::access::rules);
    tasks.spawn("control.listener", async move { listener::serve(sockets, service, &config, shutdown).await });
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
            begun = begin(&planes, server, documents, (&data, needs), applied) => begun,
            () = shutdown.soft.cancelled() => Ok(()),
        };
        if begun.is_err() {
            shutdown.drain();
        }
        begun
    };
    let (begun, ending) = tokio::join!(beginning, tasks.run_until_stopped(signals));
    begun?;
    Ok(process::exit_code(ending))
}

async fn listen(arguments: &DevArguments) -> anyhow::Result<Listeners> {
    let data = listener::bind(arguments.data_listen).await.context("--data-listen")?;
    let control = listener::bind(arguments.control_listen).await.context("--control-listen")?;
    let http = listener::bind(arguments.http_listen).await.context("--http-listen")?;
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
            let applied = seen.load(Ordering::Acquire);
            let applied = if applied { Ok(Vec::new()) } else { Err(vec!["what is to be applied is not visible yet".to_owned()]) };
            all_of([server.ready(), loader.ready(), applied])
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

/// Ready when all are. Then what any of them says is wrong all the same, else what is missing; they may say the same.
fn all_of(parts: impl IntoIterator<Item = Result<Vec<String>, Vec<String>>>) -> Result<Vec<String>, Vec<String>> {
    let (mut wrong, mut missing) = (BTreeSet::new(), BTreeSet::new());
    for part in parts {
        match part {
            Ok(lines) => wrong.extend(lines),
            Err(lines) => missing.extend(lines),
        }
    }
    if missing.is_empty() { Ok(wrong.into_iter().collect()) } else { Err(missing.into_iter().collect()) }
}

/// Applies, waits until checks see it, and says what to try.
async fn begin(
    planes: &Planes,
    server: tessera_server::Handle,
    documents: Vec<Located>,
    (data, needs): (&Path, Needs),
    applied: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let steps = compare(planes, documents, SystemClock.now()).await.context("--apply")?;
    let (deleted, steps): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| step.action == Action::Deleted);
    for step in deleted {
        // Whoever deleted it knew better than documents that stay as they are.
        tracing::warn!(document = %step.located.document, "left out of what is applied: it was deleted, for ever");
    }
    let changed = steps.iter().filter(|step| step.changes()).count();
    // Nobody looks on at a bar here: progress belongs to the log.
    let silent = Console { format: Format::Json };
    let done = apply::perform(planes, &silent, &steps, 0).await.context("--apply")?;
    server.loaded().await;
    visible::wait(planes, done).await.context("--apply")?;
    if !steps.is_empty() {
        tracing::info!(changed, unchanged = steps.len() - changed, "the documents are applied");
    }
    applied.store(true, Ordering::Release);
    let documents: Vec<Located> = steps.into_iter().map(|step| step.located).collect();
    silent.print(&greeting::compose(planes.addresses(), needs, data, &documents))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)], data: Option<&str>) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("a file");
        let environment: Vec<_> = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::load(Some(file.path()), &environment, data.map(Path::new)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn both_planes_say_what_is_wrong_and_what_is_missing() {
        let lines = |text: &[&str]| text.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let (fine, slow, away) =
            (|| Ok(Vec::new()), || Ok(lines(&["the feed: slow"])), |what| Err(lines(&[what, "the store: away"])));
        assert_eq!(all_of([fine(), fine()]), fine());
        assert_eq!(all_of([fine(), slow(), slow()]), slow());
        assert_eq!(
            all_of([slow(), away("loading"), away("recording")]),
            Err(lines(&["loading", "recording", "the store: away"]))
        );
    }

    #[test]
    fn the_store_is_set_as_that_of_the_processes_is() {
        let of = |text: &str, environment: &[(&str, &str)], data: Option<&str>| {
            let tessera_backends::Config::Sqlite(config) = load(text, environment, data).expect(text).backends else {
                panic!("{text}")
            };
            (config.data_dir.display().to_string(), config.readers)
        };
        let file = "[backends]\nkind = \"sqlite\"\ndata_dir = \"of-the-file\"\nreaders = 2\n";
        let environment = [("TESSERA_BACKENDS__READERS", "3")];
        assert_eq!(of("", &[], None), (".tessera".to_owned(), 4));
        assert_eq!(of("[backends]\nreaders = 2", &[], None), (".tessera".to_owned(), 2));
        assert_eq!(of("", &environment, None), (".tessera".to_owned(), 3));
        assert_eq!(of(file, &[], None), ("of-the-file".to_owned(), 2));
        assert_eq!(of(file, &environment, None), ("of-the-file".to_owned(), 3));
        assert_eq!(of(file, &environment, Some("said")), ("said".to_owned(), 3));
    }

    #[test]
    fn mistakes_name_key_value_and_what_is_allowed() {
        for (text, environment, expected) in [
            ("[backends]\nreaders = 0", &[][..], &["readers", "`0`", "1 to 64"][..]),
            ("", &[("TESSERA_BACKENDS__READERS", "65")], &["readers", "`65`", "1 to 64"]),
            ("", &[("TESSERA_BACKENDS__READERS", "many")], &["backends", "readers", "many"]),
            ("[backends]\nreaders = \"many\"", &[], &["backends", "readers", "many"]),
            ("[backends]\nreaders = -1", &[], &["backends", "readers", "-1"]),
            ("[backends]\nchange_rows_max = 999", &[], &["change_rows_max", "`999`", "1000 and more"]),
            ("[backends]\nreader = 1", &[], &["`reader`", "readers"]),
            ("[backends]\nkind = \"sqlight\"", &[], &["sqlight", "`sqlite`"]),
            ("[backend]\nreaders = 1", &[], &["`backend`", "`backends`"]),
            ("[listener]\nage_max_s = 1", &[], &["age_max_s", "`1`", "10 to 2592000"]),
            ("[listener]\nunix_socket_mode = \"rw\"", &[], &["unix_socket_mode", "`rw`", "`600` to `777`"]),
            ("[listener.tls]\ncertificate = \"a\"", &[], &["key"]),
        ] {
            let error = load(text, environment, None).expect_err(text);
            assert!(expected.iter().all(|word| error.contains(word)), "{text} {environment:?}: {error}");
        }
    }
}
