//! What can go wrong, by what the caller can do about it. A denial is an answer, not an error: see [`crate::Decision`].

use std::time::Duration;

use crate::failure::Failure;

/// Why there is no answer.
///
/// Everything that came of a call carries a [`Failure`] with the gRPC code, the server's stable reason, the fields at fault,
/// the request id to look for in logs, and the endpoint.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An endpoint of the builder is not usable.
    #[error("endpoint `{endpoint}`: {problem}; {allowed}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
        /// What would be right.
        allowed: &'static str,
    },
    /// A token or a certificate of the builder is not usable. Nothing secret is repeated.
    #[error("`{setting}`: {problem}")]
    Credentials {
        /// Which method of the builder gave it.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting is out of its bounds.
    #[error("`{setting}` is `{given}`; {allowed}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What was given.
        given: String,
        /// What would be right.
        allowed: &'static str,
    },
    /// The client was built outside of a tokio runtime, which its connections need.
    #[error("there is no tokio runtime here; build the client inside of one")]
    NoRuntime,
    /// No endpoint could be connected to in time.
    #[error("cannot connect to any endpoint: {}", .attempts.join("; "))]
    Connect {
        /// What came of each of them.
        attempts: Vec<String>,
    },
    /// The request is wrong and will never be answered: repair it.
    #[error("the request is wrong: {0}")]
    Invalid(Failure),
    /// What was asked about does not exist.
    #[error("not found: {0}")]
    NotFound(Failure),
    /// The servers do not know who asks, or no longer: show them a token or a client certificate that they know. A token in a
    /// file was read again before this was said.
    #[error("not known to the servers: {0}; the client needs a token or a client certificate that they know")]
    Unauthenticated(Failure),
    /// The servers know who asks, and whoever that is may not: ask for the scope that is named (for decisions, `decide`), or
    /// ask as somebody who has it.
    #[error("not allowed: {0}; the token or client certificate of this client lacks what is needed")]
    NotAllowed(Failure),
    /// No server could answer, or a stream fell silent; it may be another one can, later.
    #[error("unavailable: {0}")]
    Unavailable(Failure),
    /// The servers are overloaded, or this caller asks too often.
    #[error("overloaded: {0}")]
    Overloaded(Failure),
    /// There was no answer within the deadline.
    #[error("no answer within {deadline:?}: {failure}")]
    DeadlineExceeded {
        /// How long the call was allowed to take.
        deadline: Duration,
        /// The last thing that went wrong before.
        failure: Failure,
    },
    /// The server answered something that it should not have: a bug, or not a Tessera server.
    #[error("wrong answer: {0}")]
    Server(Failure),
    /// The batch is too large: ask in several, each decided at a time of its own.
    #[error("the batch has `{given}` checks; allowed are {allowed}")]
    TooManyChecks {
        /// How many were given.
        given: usize,
        /// How many may be, with what they ask for.
        allowed: usize,
    },
    /// So many checks wait in the checker that no more are taken: ask less, or give it more streams.
    #[error("`{waiting}` checks wait in the checker; allowed are {allowed}")]
    QueueFull {
        /// How many wait.
        waiting: usize,
        /// How many may.
        allowed: usize,
    },
    /// The watch has as many subscriptions as it may have: open another.
    #[error("the watch has `{subscriptions}` subscriptions; allowed are {allowed}")]
    TooManySubscriptions {
        /// How many there are.
        subscriptions: usize,
        /// How many may be.
        allowed: usize,
    },
}

impl Error {
    /// What is known of the call, where there was one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Invalid(failure)
            | Self::NotFound(failure)
            | Self::Unauthenticated(failure)
            | Self::NotAllowed(failure)
            | Self::Unavailable(failure)
            | Self::Overloaded(failure)
            | Self::Server(failure)
            | Self::DeadlineExceeded { failure, .. } => Some(failure),
            _ => None,
        }
    }

    /// The gRPC code, where there was a call.
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::DeadlineExceeded { .. } => Some(tonic::Code::DeadlineExceeded),
            _ => self.failure().map(Failure::code),
        }
    }

    /// The server's stable reason, such as `TENANT_NOT_FOUND`; empty when it gave none.
    pub fn reason(&self) -> &str {
        self.failure().map_or("", Failure::reason)
    }

    /// The id of the call in the servers' logs.
    pub fn request_id(&self) -> Option<&str> {
        self.failure().map(Failure::request_id).filter(|id| !id.is_empty())
    }

    /// As logs may have it: it names no tenant.
    #[cfg(feature = "local")]
    pub(crate) fn logged(&self) -> String {
        match self {
            Self::DeadlineExceeded { deadline, failure } => format!("no answer within {deadline:?}: {}", failure.logged()),
            _ => self.failure().map_or_else(|| self.to_string(), Failure::logged),
        }
    }

    /// Whether the same call may well be answered a little later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Overloaded(_)
                | Self::DeadlineExceeded { .. }
                | Self::QueueFull { .. }
                | Self::Connect { .. }
        )
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        use tonic::Code;
        if failure.is_connection_trouble() {
            return Self::Unavailable(failure);
        }
        match failure.code() {
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Self::Invalid(failure),
            Code::NotFound => Self::NotFound(failure),
            Code::Unauthenticated => Self::Unauthenticated(failure),
            Code::PermissionDenied => Self::NotAllowed(failure),
            // Late is not wrong. Single calls, which have a deadline, say that it is over before it comes to this.
            Code::Unavailable | Code::DeadlineExceeded => Self::Unavailable(failure),
            Code::ResourceExhausted => Self::Overloaded(failure),
            _ => Self::Server(failure),
        }
    }
}
