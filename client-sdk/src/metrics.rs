//! What a client tells whoever measures it. Nothing here names a tenant.

use std::fmt;
use std::time::Duration;

use tonic::Code;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// One check in a call of its own, which a check of a checker that demands a revision or full consistency is, too.
    Check,
    /// A check through a checker: its attempts are the frames that it was sent in; those on endpoints are streams, which many
    /// checks share.
    StreamCheck,
    /// Many checks at one time.
    Batch,
    /// The document of a tenant.
    List,
    /// A watch; its attempts are streams.
    Watch,
}

impl Method {
    /// A label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::StreamCheck => "stream_check",
            Self::Batch => "batch",
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Told of what a client does, on the task that does it: must not block. Every method does nothing unless it is written.
pub trait Metrics: fmt::Debug + Send + Sync + 'static {
    /// A call ended after so many attempts; `code` is [`Code::Ok`] for every answer, denials too.
    fn call_ended(&self, method: Method, code: Code, attempts: u32, took: Duration) {
        let _ = (method, code, attempts, took);
    }

    /// An attempt on one endpoint ended.
    fn attempt_ended(&self, method: Method, endpoint: &str, code: Code, took: Duration) {
        let _ = (method, endpoint, code, took);
    }

    /// A call that could have been tried again was not: the budget is used up.
    fn retry_refused(&self, method: Method) {
        let _ = method;
    }

    /// An endpoint failed and is not asked for so long.
    fn endpoint_put_aside(&self, endpoint: &str, time: Duration) {
        let _ = (endpoint, time);
    }

    /// An endpoint that was aside answers again.
    fn endpoint_returned(&self, endpoint: &str) {
        let _ = endpoint;
    }
}

/// Measures nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMetrics;

impl Metrics for NoMetrics {}
