//! Spans of calls, for collectors of OpenTelemetry. Off unless `[telemetry.traces]` is set; the services are wrapped either way
//! ([`Traces::over`]), and a call of which there is no span costs nothing more.
//!
//! One span per sampled call: method, code, request id, and, only if asked for, the tenant. Whether a call is sampled its caller
//! says (`traceparent`, W3C Trace Context), else chance. Spans wait in a bounded queue for one task that sends them (`export.rs`);
//! what does not fit, or what the collector does not take, is dropped and counted. No call ever waits for any of it.

mod context;
mod export;
mod layer;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_ports::Clock;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use super::Error;
use crate::clock::{SystemClock, SystemIds};
use crate::lifecycle::Tasks;
use export::Exporter;
pub use layer::Traced;
use span::{NOTED, Recorder};

/// Which calls have spans, and where these go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where a collector takes OTLP over gRPC: `http://host:port`. Not encrypted: let it be one on the same machine.
    pub endpoint: String,
    /// How many of the calls whose callers do not say are sampled: 0 to 1; default 0.01, one in a hundred.
    #[serde(default = "sample_ratio")]
    pub sample_ratio: f64,
    /// Whether callers may say that a call is sampled, or is not. Default yes; where they are not trusted to be modest, no.
    #[serde(default = "yes")]
    pub follow_callers: bool,
    /// Whether spans name the tenant. Default no: they leave the deployment, and collectors keep them.
    #[serde(default)]
    pub tenant_ids: bool,
    /// Most spans that wait to be sent; further ones are dropped. 1 to 1,000,000; default 8,192, some 4 MiB.
    #[serde(default = "queue_max")]
    pub queue_max: usize,
    /// A collector that takes longer, in ms, has not taken them. 10 to 60,000; default 3,000.
    #[serde(default = "export_timeout_ms")]
    pub export_timeout_ms: u64,
}

fn sample_ratio() -> f64 {
    0.01
}

fn yes() -> bool {
    true
}

fn queue_max() -> usize {
    8_192
}

fn export_timeout_ms() -> u64 {
    3_000
}

impl Settings {
    /// Checks every field against what it may be.
    pub fn validate(&self) -> Result<(), Error> {
        self.target()?;
        let refused = |field, given: String, allowed| Err(Error::Setting { field, given, allowed });
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return refused("telemetry.traces.sample_ratio", self.sample_ratio.to_string(), "are 0 to 1");
        }
        if !(1..=1_000_000).contains(&self.queue_max) {
            return refused("telemetry.traces.queue_max", self.queue_max.to_string(), "are 1 to 1000000");
        }
        if !(10..=60_000).contains(&self.export_timeout_ms) {
            return refused("telemetry.traces.export_timeout_ms", self.export_timeout_ms.to_string(), "are 10 to 60000");
        }
        Ok(())
    }

    fn target(&self) -> Result<Endpoint, Error> {
        let refused = || Error::Setting {
            field: "telemetry.traces.endpoint",
            given: self.endpoint.clone(),
            allowed: "is http://host:port, without TLS: a collector on the same machine, which may encrypt from there on",
        };
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).map_err(|_| refused())?;
        let uri = endpoint.uri();
        let is_plain = uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
        if is_plain && uri.port().is_some() && uri.path() == "/" { Ok(endpoint) } else { Err(refused()) }
    }
}

/// The spans of a process, if it has any. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Traces(Option<Arc<Recorder>>);

impl Traces {
    /// Begins to send spans as `service`, if that is set. Within a runtime. Spans of what drains are still sent, for a moment and as
    /// long as the collector takes them.
    pub fn start(config: &super::Config, service: &'static str, tasks: &Tasks) -> Result<Self, Error> {
        let Some(settings) = &config.traces else { return Ok(Self(None)) };
        settings.validate()?;
        let timeout = Duration::from_millis(settings.export_timeout_ms);
        let channel = settings.target()?.connect_timeout(timeout).timeout(timeout).connect_lazy();
        Ok(Self::sent_through(channel, settings, service, tasks))
    }

    fn sent_through(channel: Channel, settings: &Settings, service: &'static str, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(settings.queue_max);
        let exporter = Exporter::new(receiver, channel, service, Duration::from_millis(settings.export_timeout_ms));
        tasks.spawn_outlet("traces.export", |work_done| exporter.run(work_done));
        if settings.tenant_ids {
            TENANTS.store(true, Ordering::Relaxed);
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Self(Some(Arc::new(Recorder::new(settings, sender, clock, SystemIds::bytes))))
    }

    /// The same services, with spans of their calls if there are any.
    #[must_use]
    pub fn over<S>(&self, services: S) -> Traced<S> {
        Traced::new(services, self.0.clone())
    }
}

/// Whether spans of this process name tenants.
static TENANTS: AtomicBool = AtomicBool::new(false);

/// Says which tenant the call of this task is about. Without spans that name tenants it costs one load.
#[inline]
pub fn note_tenant(id: &str) {
    if TENANTS.load(Ordering::Relaxed) {
        // Outside of a sampled call nobody wants to know.
        drop(NOTED.try_with(|noted| noted.replace(Some(id.to_owned()))));
    }
}

#[cfg(test)]
mod tests;
