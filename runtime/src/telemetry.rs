//! Logs and metrics of a process.
//!
//! Logs go to stderr, as text for people or JSON for machines. Metrics are recorded through the `metrics` facade and
//! rendered on demand for `/metrics`, with the histograms of the hot path (`telemetry/latency.rs`) on the same page.

mod latency;

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use latency::Latency;

use crate::metric_definitions;

/// How often the recorder tidies up after itself.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Upper bounds of latency histograms, in seconds: from 10 µs to 10 s.
const SECONDS_BUCKETS: [f64; 16] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

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

/// Why telemetry cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("`{given}` is not a log filter: {reason}; allowed are directives such as `info` or `warn,tessera_server=debug`")]
    Filter {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else is installed in this process already.
    #[error("{0} are set up already in this process")]
    Twice(&'static str),
}

/// Sends logs to stderr. `filter` is in the syntax of `RUST_LOG`.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), Error> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Error::Filter { given: filter.to_owned(), reason: error.to_string() })?;
    let registry = tracing_subscriber::registry().with(filter);
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let initialized = match format {
        LogFormat::Text => registry.with(layer.with_ansi(ansi)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    initialized.map_err(|_| Error::Twice("logs"))
}

/// The metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the recorder of the process; once.
    pub fn install() -> Result<Self, Error> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .map_err(|_| Error::Twice("histogram buckets"))?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| Error::Twice("metrics"))?;
        metric_definitions::describe();
        Ok(Self(handle))
    }

    /// Everything recorded so far, in Prometheus' text format.
    pub fn render(&self) -> String {
        metric_definitions::observe();
        let mut page = self.0.render();
        latency::render(&mut page);
        page
    }

    /// Keeps the recorder small; runs for ever.
    pub fn upkeep(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let handle = self.0.clone();
        async move {
            let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_rendered_and_a_second_recorder_is_refused() {
        let installed = Metrics::install().unwrap();
        metrics::counter!("tessera_test_things_total").increment(3);
        let page = installed.render();
        assert!(page.contains("tessera_test_things_total 3"), "{page}");
        if cfg!(target_os = "linux") {
            assert!(page.contains("\ntessera_resident_memory_bytes "), "{page}");
        }
        assert!(matches!(Metrics::install(), Err(Error::Twice("metrics"))));
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = init_logs(LogFormat::Text, "tessera=loud").unwrap_err().to_string();
        assert!(error.contains("`tessera=loud`") && error.contains("allowed are"), "{error}");
        assert_eq!("yaml".parse::<LogFormat>().unwrap_err(), "`yaml` is not a log format; allowed are text and json");
    }
}
