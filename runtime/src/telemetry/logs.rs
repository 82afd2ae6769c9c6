//! What is logged, and changing that while the process runs.
//!
//! Logs go to stderr, as text for people or JSON for machines. One filter says what is logged; [`LogFilter::change`] puts another
//! in its place. Our lines at ERROR and WARN are counted. Who may change the filter is the business of the pages (`http/log_filter.rs`).

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Subscriber, info};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::Error;

/// Longest filter, in bytes: some dozens of directives.
pub const FILTER_LEN_MAX: usize = 1_024;
/// Where lines about the filter itself come from; no filter keeps them out.
const AUDIT: &str = "tessera_runtime::audit";
/// What may stand alone in a filter; any other word alone would be the name of a module, of which everything is logged, and of
/// everything else nothing: rarely meant.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Put before any filter, which may say otherwise: HTTP/2 warns of what peers do, in their words and as often as they like.
const QUIET: &str = "h2=error";

/// Lines so far.
static LINES: Lines = Lines { errors: AtomicU64::new(0), warnings: AtomicU64::new(0) };
/// The filter of this process.
static FILTER: OnceLock<LogFilter> = OnceLock::new();

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is not a log format; allowed are text and json")),
        }
    }
}

/// Sends logs to stderr. `filter` is in the syntax of `RUST_LOG`, but for names of modules without a level.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), Error> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(layer).with(Counting(&LINES));
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let initialized = match format {
        LogFormat::Text => registry.with(layer.with_ansi(ansi)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    initialized.map_err(|_| Error::Twice("logs"))?;
    let shown = Mutex::new(filter.to_owned());
    FILTER.set(LogFilter { handle, shown }).map_err(|_| Error::Twice("logs"))
}

/// What this process logs.
#[derive(Debug)]
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
    /// As it was given last. Held while the filter changes, so that both change together.
    shown: Mutex<String>,
}

impl LogFilter {
    /// That of this process; `None` before [`init_logs`].
    pub fn of_process() -> Option<&'static Self> {
        FILTER.get()
    }

    /// The filter, as it was given.
    pub fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs by another filter from now on, and logs that `peer` wanted it.
    pub fn change(&self, filter: &str, peer: SocketAddr) -> Result<(), Error> {
        let parsed = parse(filter)?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |error: reload::Error| Error::Filter { given: filter.to_owned(), reason: error.to_string() };
        self.handle.reload(parsed).map_err(refused)?;
        let before = std::mem::replace(&mut *shown, filter.to_owned());
        info!(target: AUDIT, %peer, before, after = filter, "the log filter was changed");
        Ok(())
    }
}

fn parse(given: &str) -> Result<EnvFilter, Error> {
    let refused = |reason: String| Error::Filter { given: given.chars().take(64).collect(), reason };
    if given.len() > FILTER_LEN_MAX {
        return Err(refused(format!("it has {} bytes; allowed are at most {FILTER_LEN_MAX}", given.len())));
    }
    // What has brackets names spans and their fields.
    let alone = given.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ']', '{', '}']));
    if let Some(word) = alone.into_iter().find(|word| !LEVELS.contains(&word.to_ascii_lowercase().as_str())) {
        return Err(refused(format!("`{word}` is not a level; allowed are {}", LEVELS.join(", "))));
    }
    let filter = EnvFilter::try_new(format!("{QUIET},{given}")).map_err(|error| refused(error.to_string()))?;
    let audit = format!("{AUDIT}=info").parse();
    audit.map(|directive| filter.add_directive(directive)).map_err(|error| refused(error.to_string()))
}

struct Lines {
    errors: AtomicU64,
    warnings: AtomicU64,
}

/// How many lines of ours were logged at ERROR and at WARN, of those that the filter lets through.
pub(crate) fn lines() -> (u64, u64) {
    (LINES.errors.load(Ordering::Relaxed), LINES.warnings.load(Ordering::Relaxed))
}

/// Counts what is logged by us.
struct Counting(&'static Lines);

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What libraries take for an error, as the driver does each try to reach a store that is away, may be none of ours.
        if !event.metadata().target().starts_with("tessera") {
            return;
        }
        let lines = match *event.metadata().level() {
            Level::ERROR => &self.0.errors,
            Level::WARN => &self.0.warnings,
            _ => return,
        };
        lines.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let error = init_logs(LogFormat::Text, "tessera=loud").unwrap_err().to_string();
        assert!(error.contains("`tessera=loud`") && error.contains("allowed are"), "{error}");
        assert_eq!("yaml".parse::<LogFormat>().unwrap_err(), "`yaml` is not a log format; allowed are text and json");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_not_taken_for_a_module() {
        for (given, named) in [("inof", "`inof`"), ("warn,tessera_server", "`tessera_server`"), ("", "``"), ("info,", "``")] {
            let error = parse(given).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("off, error, warn"), "{given}: {error}");
        }
        let long = "info,".repeat(300);
        assert!(parse(&long).unwrap_err().to_string().contains("at most 1024"));
        for good in ["info", "WARN", "warn,tessera=debug", "off", "tessera_server[check{tenant=a}]=debug", "[check]"] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    /// Counts whatever is logged.
    struct Seen(Arc<AtomicU64>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn lines_of_ours_are_counted_and_those_of_libraries_are_not() {
        static COUNTED: Lines = Lines { errors: AtomicU64::new(0), warnings: AtomicU64::new(0) };
        let subscriber = tracing_subscriber::registry().with(parse("info").unwrap()).with(Counting(&COUNTED));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "tessera_server::follower", "ours");
            tracing::error!(target: "scylla::cluster", "theirs");
            tracing::warn!(target: "scylla::cluster", "theirs");
        });
        assert_eq!((COUNTED.errors.load(Ordering::Relaxed), COUNTED.warnings.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn what_peers_have_http2_say_is_logged_only_where_that_is_asked_for() {
        let filters = [("info", 1), ("trace", 1), ("warn,tessera=debug", 1), ("info,h2=warn", 2), ("off,h2::proto=warn", 1)];
        for (filter, expected) in filters {
            let seen = Arc::new(AtomicU64::new(0));
            let subscriber = tracing_subscriber::registry().with(parse(filter).unwrap()).with(Seen(Arc::clone(&seen)));
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "tessera_runtime::listener", "ours");
                tracing::warn!(target: "h2::proto::ping_pong", "theirs");
            });
            assert_eq!(seen.load(Ordering::Relaxed), expected, "{filter}");
        }
    }

    #[test]
    fn no_filter_keeps_out_what_is_said_of_the_filter() {
        for filter in ["off", "tessera_runtime=off", "tessera_runtime::audit=off,warn"] {
            let seen = Arc::new(AtomicU64::new(0));
            let (layer, handle) = reload::Layer::new(parse("off").unwrap());
            let log = LogFilter { handle, shown: Mutex::new("off".to_owned()) };
            let subscriber = tracing_subscriber::registry().with(layer).with(Seen(Arc::clone(&seen)));
            tracing::subscriber::with_default(subscriber, || {
                tracing::error!("not seen");
                log.change(filter, ([127, 0, 0, 1], 9).into()).unwrap();
            });
            assert_eq!((seen.load(Ordering::Relaxed), log.shown().as_str()), (1, filter));
        }
    }
}
