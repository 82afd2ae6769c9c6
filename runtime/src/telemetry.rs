//! What a process tells of itself: logs (`telemetry/logs.rs`), metrics, and traces ([`traces`]).
//!
//! Metrics are recorded through the `metrics` facade and rendered on demand for `/metrics`, with the histograms of the hot path
//! (`telemetry/latency.rs`) on the same page.

mod latency;
mod logs;
pub mod traces;

use std::future::Future;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};

pub use latency::Latency;
pub(crate) use logs::lines;
pub use logs::{FILTER_LEN_MAX, LogFilter, LogFormat, init_logs};

use crate::metric_definitions;

/// How often the recorder tidies up after itself.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Upper bounds of latency histograms, in seconds: from 10 µs to 10 s.
const SECONDS_BUCKETS: [f64; 16] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// What can be set of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Spans of calls, sent to a collector. Default: none.
    pub traces: Option<traces::Settings>,
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
    /// A setting is not what it may be.
    #[error("`{field}` is `{given}`; allowed {allowed}")]
    Setting {
        /// Which.
        field: &'static str,
        /// What was given.
        given: String,
        /// What may be.
        allowed: &'static str,
    },
    /// Something else is installed in this process already.
    #[error("{0} are set up already in this process")]
    Twice(&'static str),
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
        assert!(page.contains(&format!("tessera_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{page}");
        assert!(page.contains("\ntessera_log_lines_total{level=\"error\"} "), "{page}");
        if cfg!(target_os = "linux") {
            assert!(page.contains("\ntessera_resident_memory_bytes "), "{page}");
        }
        assert!(matches!(Metrics::install(), Err(Error::Twice("metrics"))));
    }
}
