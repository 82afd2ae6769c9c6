//! What every call goes through before it is looked at: the deadline, the request id, the retry flag. Whether the process drains is
//! no question here: the listener takes calls until it tells its connections to go, and what they leave to be published is. Only
//! imports end at the first moment of draining, since they last.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tessera_core::aggregate::Actor;
use tessera_core::ids::{RequestId, TenantId};
use tessera_core::stream::StreamId;
use tessera_ports::hooks::{self, Guard};
use tessera_ports::{Clock, IdSource};
use tessera_proto::status::Failure;
use tessera_proto::time_left::{self, TIMEOUT_HEADER};
use tessera_runtime::identity::Principal;
use tessera_runtime::lifecycle::Shutdown;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Extensions, Response, Status};

use super::failure::bad_id;
use crate::config::Config;
use crate::handler::{Caller, cutoff, until};
use crate::refusal::Refusal;

/// Carries the request id in every answer and error of a mutation.
pub(crate) const REQUEST_ID: &str = "tessera-request-id";
/// `1` when an earlier attempt of the caller may still be on its way.
const RETRY: &str = "tessera-retry";
/// Set by gRPC libraries that retry by themselves.
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// Calls that read history at once: each has up to 8 MiB of events in memory. They take turns read by read, so that a short history
/// does not wait for a long one. Replays have turns of their own, so that commands do not wait for whoever looks into the past.
pub(crate) const HISTORIES_AT_ONCE: usize = 16;

/// What calls are let in by.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) config: Arc<Config>,
    pub(crate) shutdown: Shutdown,
    /// Held for one read of history.
    pub(crate) history: Arc<Semaphore>,
}

impl Gate {
    /// Lets a read in.
    #[expect(clippy::unused_self, reason = "it is the gate that lets calls in, whatever it goes by")]
    pub(crate) fn admit_read(&self, metadata: &MetadataMap) -> Result<(), Failure> {
        if time_left(metadata)? == Some(Duration::ZERO) { Err(Failure::deadline_exceeded()) } else { Ok(()) }
    }

    /// When a call is to be answered at the latest, so that the answer still arrives; `None` when its caller names no deadline.
    pub(crate) fn answer_by(&self, metadata: &MetadataMap) -> Result<Option<Instant>, Failure> {
        let now = Instant::now();
        Ok(time_left(metadata)?.map(|left| cutoff(now, now + left, self.config.deadline_margin())))
    }

    /// When a command is to be answered at the latest: also one whose caller names no deadline, or a very late one.
    pub(crate) fn granted_by(&self, metadata: &MetadataMap) -> Result<Instant, Failure> {
        let now = Instant::now();
        Ok(cutoff(now, now + self.granted(time_left(metadata)?), self.config.deadline_margin()))
    }

    /// The request id that a mutation came with, or one made for it.
    pub(crate) fn request_id(&self, given: &str) -> Result<RequestId, Failure> {
        if given.is_empty() {
            return Ok(self.ids.request_id());
        }
        RequestId::parse(given).map_err(bad_id("request_id"))
    }

    /// Lets a mutation in.
    pub(crate) fn admit(&self, metadata: &MetadataMap, actor: Actor, request_id: RequestId) -> Result<Caller, Failure> {
        let left = time_left(metadata)?;
        if left == Some(Duration::ZERO) {
            // An earlier attempt under the same id may have been applied: only a call with time left can tell.
            return Err(Failure::outcome_unknown(request_id.as_str()));
        }
        Ok(Caller { request_id, actor, retry: is_retry(metadata), deadline: Instant::now() + self.granted(left) })
    }

    /// How long a command may take when its caller waits for `left`.
    pub(crate) fn granted(&self, left: Option<Duration>) -> Duration {
        left.unwrap_or_else(|| self.config.deadline_default()).min(self.config.deadline_max())
    }
}

/// Who asks, as was found before the services; where nobody is asked who they are, everybody is the same.
pub(crate) fn principal(extensions: &Extensions) -> Result<Principal, Failure> {
    let known = extensions.get::<Principal>().cloned().or_else(Principal::local);
    known.ok_or_else(|| Failure::internal("nobody knows who asks"))
}

/// Whether that stream is there for the caller, if it is at all. What is not there is answered like what never was.
pub(crate) fn sees(principal: &Principal, stream: &StreamId) -> bool {
    match stream {
        StreamId::Tenant(tenant) => principal.sees(tenant.as_str()) || !hooks::holds(Guard::TenantsOfCaller),
        StreamId::Catalog | StreamId::Plan(_) | StreamId::AddOn(_) => true,
    }
}

/// The tenants that are there for the caller, as far as there are such; `None` for all there are.
pub(crate) fn own_tenants(principal: &Principal) -> Option<&BTreeSet<TenantId>> {
    principal.tenants().filter(|_| hooks::holds(Guard::TenantsOfCaller))
}

/// What a call finds that reads history, unless it takes longer than `by`.
pub(crate) async fn in_time<T>(by: Option<Instant>, read: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Refusal::StoreUnavailable("the events were not read before the deadline".to_owned());
    until(by, read).await.unwrap_or_else(|| Err(late().into()))
}

/// Whether an earlier attempt of the caller may still be on its way.
pub(crate) fn is_retry(metadata: &MetadataMap) -> bool {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    text(RETRY) == Some("1") || text(PREVIOUS_ATTEMPTS).and_then(|count| count.parse::<u64>().ok()).is_some_and(|n| n > 0)
}

/// The time that the caller still waits; `None` without a deadline.
pub(crate) fn time_left(metadata: &MetadataMap) -> Result<Option<Duration>, Failure> {
    time_left::time_left(metadata.get(TIMEOUT_HEADER).map(MetadataValue::as_bytes))
}

/// Names the command in what goes back, answer or error.
pub(crate) fn named<T>(request_id: &RequestId, result: Result<T, Failure>) -> Result<Response<T>, Status> {
    let value = MetadataValue::try_from(request_id.as_str()).ok();
    match result {
        Ok(message) => {
            let mut response = Response::new(message);
            if let Some(value) = value {
                response.metadata_mut().insert(REQUEST_ID, value);
            }
            Ok(response)
        }
        Err(failure) => {
            let mut status = Status::from(failure);
            if let Some(value) = value {
                status.metadata_mut().insert(REQUEST_ID, value);
            }
            Err(status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &'static str, value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(name, value.parse().unwrap());
        metadata
    }

    #[test]
    fn a_retry_says_so_in_either_way() {
        assert!(is_retry(&metadata(RETRY, "1")));
        assert!(is_retry(&metadata(PREVIOUS_ATTEMPTS, "2")));
        assert!(!is_retry(&metadata(RETRY, "0")));
        assert!(!is_retry(&metadata(PREVIOUS_ATTEMPTS, "0")));
        assert!(!is_retry(&MetadataMap::new()));
    }
}
