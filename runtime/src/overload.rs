//! What keeps a process useful when more is asked of it than it can do: whoever cannot be served soon is told so at once, and
//! what is not even read costs nothing (docs/adr/0024).
//!
//! - [`limiter`]: whether a thread has more to do than it can, and what each connection has of it then;
//! - [`line`]: connections that wait for their turn;
//! - [`memory`]: how much of the memory that the process may have is in use;
//! - [`buckets`]: how much one caller or tenant may ask for.
//!
//! Connections are run by [`crate::listener`], which goes by the first two; what a call costs, and whose bucket pays, is the
//! business of the services.

pub mod buckets;
pub(crate) mod limiter;
pub(crate) mod line;
pub(crate) mod memory;

use std::sync::Arc;

use http::{HeaderMap, Response};
use metrics::{Counter, counter};
use tonic::Status;
use tonic::body::Body;

use crate::listener::ListenerConfig;
use crate::metric_definitions::CALLS_REFUSED;
use memory::Memory;

/// What begins the paths of health, which anybody may ask for.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/";
/// Answered whatever happens: who asks decides whether the process lives. A watch of it is a stream like any other.
pub(crate) const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// What a plane says of its calls to whoever refuses some.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What is answered to a call that cannot be served now.
    pub overloaded: Status,
    /// With what streams end when their connection has to, and what is answered to calls that still come then.
    pub connection_ends: Status,
    /// Whether calls to a path need so little memory that they are served when others are not.
    pub is_small: fn(&str) -> bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            overloaded: Status::resource_exhausted("too much is asked at a time"),
            connection_ends: Status::unavailable("the connection ends; open another"),
            is_small: |_| false,
        }
    }
}

/// Refuses calls: the same answer each time, made once.
#[derive(Debug)]
pub(crate) struct Refusals {
    headers: HeaderMap,
    overloaded: Status,
    connection_ends: Arc<Status>,
    is_small: fn(&str) -> bool,
    memory: Memory,
    percent_max: u64,
    for_wait: Counter,
    for_memory: Counter,
    for_health: Counter,
}

impl Refusals {
    pub(crate) fn new(policy: Policy, memory: Memory, config: &ListenerConfig) -> Self {
        let counted = |cause| counter!(CALLS_REFUSED, "cause" => cause);
        Self {
            overloaded: policy.overloaded.clone(),
            headers: policy.overloaded.into_http::<Body>().into_parts().0.headers,
            connection_ends: Arc::new(policy.connection_ends),
            is_small: policy.is_small,
            memory,
            percent_max: config.memory_percent_max,
            for_wait: counted("wait"),
            for_memory: counted("memory"),
            for_health: counted("health"),
        }
    }

    /// Whether memory is too short for a call to `path`; counted if it is.
    pub(crate) fn lacks_memory(&self, path: &str) -> bool {
        let used = self.memory.percent();
        if used < self.percent_max || path == HEALTH_CHECK {
            return false;
        }
        // Small ones have a third of what is left for themselves.
        let small_max = self.percent_max + (100 - self.percent_max) * 2 / 3;
        if used < small_max && (self.is_small)(path) {
            return false;
        }
        self.for_memory.increment(1);
        true
    }

    /// What is said in the middle of a message of which there is much already, if memory is too short for more of it.
    pub(crate) fn lacks_memory_for_more(&self) -> Option<Status> {
        if self.memory.percent() < self.percent_max {
            return None;
        }
        self.for_memory.increment(1);
        Some(self.overloaded.clone())
    }

    /// Whether a call to that path needs next to nothing.
    pub(crate) fn is_small(&self, path: &str) -> bool {
        (self.is_small)(path) || path == HEALTH_CHECK
    }

    /// Takes note of a call that would have waited too long.
    pub(crate) fn waits_too_long(&self) {
        self.for_wait.increment(1);
    }

    /// Takes note of a call to health beyond those that a connection may have under way.
    pub(crate) fn asks_health_too_often(&self) {
        self.for_health.increment(1);
    }

    /// With what the streams of a connection end that has to, and its calls.
    pub(crate) fn connection_ends(&self) -> Arc<Status> {
        Arc::clone(&self.connection_ends)
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = self.headers.clone();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_calls_are_refused_last_and_checks_of_health_never() {
        let (policy, memory) = (Policy { is_small: |path| path == "/small", ..Policy::default() }, Memory::default());
        let refusals = Refusals::new(policy, memory.clone(), &ListenerConfig::default());
        let refused = |percent| {
            memory.set(percent);
            let health = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/Checks"];
            ["/large", "/small"].into_iter().chain(health).map(|path| refusals.lacks_memory(path)).collect::<Vec<_>>()
        };
        assert_eq!(refused(0), [false; 5]);
        assert_eq!(refused(84), [false; 5]);
        assert_eq!(refused(85), [true, false, false, true, true]);
        assert_eq!(refused(94), [true, false, false, true, true]);
        assert_eq!(refused(95), [true, true, false, true, true]);
        assert_eq!(refused(101), [true, true, false, true, true]);
        assert_eq!(refusals.response().headers()["grpc-status"], "8");
    }

    #[test]
    fn a_hundred_percent_is_as_good_as_never() {
        let memory = Memory::default();
        let config = ListenerConfig { memory_percent_max: 100, ..ListenerConfig::default() };
        let refusals = Refusals::new(Policy::default(), memory.clone(), &config);
        memory.set(99);
        assert!(!refusals.lacks_memory("/any"));
    }
}
