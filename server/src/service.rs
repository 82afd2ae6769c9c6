//! `tessera.v1.EntitlementService`: one file per call, and what every call goes through first.
//!
//! - `service/server.rs`: from HTTP to the calls and back;
//! - `service/check.rs`, `service/batch.rs`, `service/stream.rs`: checks, alone and many at a time;
//! - `service/list.rs`, `service/watch.rs`: documents.

mod batch;
mod check;
mod list;
pub(crate) mod server;
mod stream;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tessera_proto::status::Failure;
use tessera_runtime::lifecycle::Shutdown;
use tokio::time::Instant;
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::Config;
use crate::consistency::{Caller, Consistency};
use crate::shared::Shared;

/// Longest request, in bytes: 10,000 checks of ordinary ids.
pub(crate) const REQUEST_LEN_MAX: usize = 2 << 20;
/// Longest answer, in bytes. Kept by construction: see `batch.rs`.
pub(crate) const ANSWER_LEN_MAX: usize = 4 << 20;

/// The calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Entitlements(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    shared: Arc<Shared>,
    consistency: Consistency,
    config: Arc<Config>,
    shutdown: Shutdown,
    watches: Arc<AtomicUsize>,
}

impl Entitlements {
    pub(crate) fn new(shared: Arc<Shared>, consistency: Consistency, config: Arc<Config>, shutdown: Shutdown) -> Self {
        Self(Arc::new(Parts { shared, consistency, config, shutdown, watches: Arc::default() }))
    }
}

impl Parts {
    /// Lets a call in: the data is there, and the caller still waits.
    fn admit<T>(&self, request: &Request<T>) -> Result<Caller, Failure> {
        if !self.shared.is_ready() {
            return Err(Failure::not_ready());
        }
        let left = time_left(request.metadata());
        if left.is_some_and(|left| left < LEAST_TIME) {
            return Err(Failure::deadline_exceeded());
        }
        let deadline = left.map(|left| Instant::now() + left);
        Ok(Caller { address: request.remote_addr().map(|address| address.ip()), deadline })
    }

    /// Lets a stream in: not when it would be ended at once.
    fn admit_stream<T>(&self, request: &Request<T>) -> Result<Caller, Failure> {
        if self.shutdown.is_draining() {
            return Err(Failure::draining());
        }
        self.admit(request)
    }
}

/// Nobody can be answered in less.
const LEAST_TIME: Duration = Duration::from_micros(1);
/// No call is waited for longer: a day.
const MOST_TIME: Duration = Duration::from_hours(24);

/// The time that the caller still waits; `None` without a deadline.
fn time_left(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    let left = match unit {
        "H" => Duration::from_secs(count.saturating_mul(3_600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(left.min(MOST_TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        let left = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            time_left(&metadata)
        };
        assert_eq!(left("0n"), Some(Duration::ZERO));
        assert_eq!(left("999n"), Some(Duration::from_nanos(999)));
        assert_eq!(left("7m"), Some(Duration::from_millis(7)));
        assert_eq!(left("2S"), Some(Duration::from_secs(2)));
        assert_eq!(left("99999999H"), Some(MOST_TIME));
        assert_eq!((left("7"), left("S"), left("x7S")), (None, None, None));
        assert_eq!(time_left(&MetadataMap::new()), None);
    }
}
