//! What every call goes through before its message is read: its deadline, whether the data is there, whether the process ends.

use std::time::Duration;

use tessera_proto::status::Failure;
use tessera_proto::time_left::{TIMEOUT_HEADER, time_left};
use tokio::time::Instant;
use tonic::codegen::http::{HeaderMap, HeaderValue};

use super::Parts;

/// Nobody can be answered in less.
const LEAST_TIME: Duration = Duration::from_micros(1);

impl Parts {
    /// Lets a call in. Gives the caller's deadline.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Option<Instant>, Failure> {
        let left = still_waits(headers)?;
        if !self.shared.is_ready() {
            return Err(Failure::not_ready());
        }
        Ok(left.map(|left| Instant::now() + left))
    }

    /// Lets a stream in: not when it would be ended at once.
    pub(super) fn admit_stream(&self, headers: &HeaderMap) -> Result<Option<Instant>, Failure> {
        still_waits(headers)?;
        if self.shutdown.is_closing() {
            return Err(Failure::draining());
        }
        self.admit(headers)
    }
}

/// How long the caller waits, if not for ever; `Err` when it has ceased to.
fn still_waits(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let left = time_left(headers.get(TIMEOUT_HEADER).map(HeaderValue::as_bytes))?;
    if left.is_some_and(|left| left < LEAST_TIME) { Err(Failure::deadline_exceeded()) } else { Ok(left) }
}
