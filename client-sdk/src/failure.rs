//! One attempt that failed: what the server said, or what became of the connection. Says what it is, not what to do about it.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tessera_proto::status::code_name;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, RpcStatusExt as _, StatusExt as _, pb};

use crate::endpoint::shown;

/// A field that is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it, and what is allowed.
    pub description: String,
}

/// What is known of a call that failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(Box<Known>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    code: Code,
    reason: String,
    message: String,
    words: Words,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    /// It came of the connection, not of a server that answered.
    connection: bool,
    /// The time that this attempt was given was over.
    timed_out: bool,
    /// No server has looked at the request.
    unseen: bool,
    request_id: String,
    endpoint: String,
    attempts: u32,
}

/// Whose words a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    /// Of this process or its transport: they repeat nothing of what was asked, and so name no tenant.
    Own,
    /// Of a server or a caller.
    Foreign,
}

impl Failure {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The server's stable reason, such as `NOT_READY`; empty when it gave none.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields at fault.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// When the server wishes to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The id of the call in the servers' logs; empty when nothing was sent, and for one item of a batch or tenant of a watch.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Which endpoint was asked last; empty when none was, and for one item of a batch or tenant of a watch.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// How often the call was tried.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether the connection failed, rather than a server having said so.
    pub fn is_connection_trouble(&self) -> bool {
        self.0.connection
    }

    /// Whether a server does not know who asks.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.0.code == Code::Unauthenticated && !self.0.connection
    }

    /// Whether a server does not know who asks, or knows that they may not: no other server knows better.
    pub(crate) fn is_refusal(&self) -> bool {
        self.is_unauthenticated() || (self.0.code == Code::PermissionDenied && !self.0.connection)
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.0.timed_out
    }

    /// Whether it is certain that no server has looked at the request: the connection ended before.
    pub(crate) fn unseen(&self) -> bool {
        self.0.unseen
    }

    /// What a call ended with.
    pub(crate) fn of_status(status: &Status) -> Self {
        let details = status.get_error_details();
        // What the transport made up has its cause as source; what a server said has none. A server of ours always says
        // why, so an answer that breaks off without a word is a broken connection too.
        let from_transport = status.source().is_some();
        let told = details.error_info().is_some();
        let broke_off = matches!(status.code(), Code::Unknown | Code::Cancelled) && !told;
        let mut failure = Self::new(status.code(), status.message(), &details);
        failure.0.words = if from_transport { Words::Own } else { Words::Foreign };
        failure.0.connection = from_transport || broke_off;
        failure.0.timed_out = from_transport && has_cause(status, <dyn std::error::Error>::is::<tonic::TimeoutExpired>);
        failure.0.unseen = from_transport && has_cause(status, says_unseen);
        if failure.0.connection && !failure.0.timed_out {
            failure.0.message = causes(status);
        }
        failure
    }

    /// What an item of a batch, a frame or a watch ended with.
    pub(crate) fn of_item(status: &pb::Status) -> Self {
        let details = status.get_error_details();
        Self::new(Code::from_i32(status.code), &status.message, &details)
    }

    /// The time for an attempt was over.
    pub(crate) fn no_answer_in_time(message: impl Into<String>) -> Self {
        let mut failure = Self::local(Code::DeadlineExceeded, message);
        failure.0.timed_out = true;
        failure
    }

    /// The connection or the stream ended before the answer.
    pub(crate) fn broken(message: impl Into<String>) -> Self {
        let mut failure = Self::local(Code::Unavailable, message);
        failure.0.connection = true;
        failure
    }

    /// Something that no server had to say.
    pub(crate) fn local(code: Code, message: impl Into<String>) -> Self {
        let mut failure = Self::new(code, "", &ErrorDetails::new());
        failure.0.message = message.into();
        failure.0.words = Words::Own;
        failure
    }

    /// A request that no server needs to see.
    pub(crate) fn invalid(field: &str, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.to_owned(), description: description.into() };
        let mut failure = Self::local(Code::InvalidArgument, format!("{}: {}", violation.field, violation.description));
        failure.0.words = Words::Foreign;
        "INVALID_FIELD".clone_into(&mut failure.0.reason);
        failure.0.violations.push(violation);
        failure
    }

    /// As logs may have it: foreign words are left out, since they may name a tenant.
    pub(crate) fn logged(&self) -> String {
        match self.0.words {
            Words::Own => self.to_string(),
            Words::Foreign => Facts(&self.0).to_string(),
        }
    }

    pub(crate) fn at(mut self, endpoint: &str, request_id: &str, attempts: u32) -> Self {
        endpoint.clone_into(&mut self.0.endpoint);
        request_id.clone_into(&mut self.0.request_id);
        self.0.attempts = attempts;
        self
    }

    /// It ended a call after so many attempts.
    pub(crate) fn tried(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    fn new(code: Code, message: &str, details: &ErrorDetails) -> Self {
        let violations = details.bad_request().map(|wrong| wrong.field_violations.as_slice()).unwrap_or_default();
        let violation =
            |v: &tonic_types::FieldViolation| Violation { field: v.field.clone(), description: v.description.clone() };
        Self(Box::new(Known {
            code,
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            message: message.to_owned(),
            words: Words::Foreign,
            violations: violations.iter().map(violation).collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            connection: false,
            timed_out: false,
            unseen: false,
            request_id: String::new(),
            endpoint: String::new(),
            attempts: 0,
        }))
    }
}

/// Whether one of the causes is such.
fn has_cause(status: &Status, is_such: fn(&(dyn std::error::Error + 'static)) -> bool) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if is_such(error) {
            return true;
        }
        source = error.source();
    }
    false
}

/// It was never sent; or the peer refused the stream, or said goodbye in order before it came to it. (It lets those finish that
/// it came to.)
fn says_unseen(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
        return true;
    }
    error.downcast_ref::<h2::Error>().is_some_and(|error| {
        let goodbye = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        goodbye || error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// The chain of causes, each once.
fn causes(status: &Status) -> String {
    let mut told = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
        source = error.source();
    }
    told
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, Facts(&self.0))
    }
}

/// All but the message.
struct Facts<'a>(&'a Known);

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0;
        f.write_str(code_name(known.code))?;
        if !known.reason.is_empty() {
            write!(f, " {}", known.reason)?;
        }
        if !known.endpoint.is_empty() {
            write!(f, ", endpoint `{}`", known.endpoint)?;
        }
        if !known.request_id.is_empty() {
            write!(f, ", request `{}`", shown(&known.request_id))?;
        }
        if known.attempts > 1 {
            write!(f, ", {} attempts", known.attempts)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use tessera_proto::status as server;

    use super::*;

    #[test]
    fn everything_a_server_says_is_kept() {
        let status = Status::from(server::Failure::invalid_field("tenant_id", "`` is empty"));
        let failure = Failure::of_status(&status).at("http://a:1", "r-1", 2);
        assert_eq!((failure.code(), failure.reason()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(failure.violations()[0].field, "tenant_id");
        assert_eq!(
            failure.to_string(),
            "tenant_id: `` is empty (INVALID_ARGUMENT INVALID_FIELD, endpoint `http://a:1`, request `r-1`, 2 attempts)"
        );
        let item = Failure::of_item(&server::Failure::overloaded("the queue is full").to_rpc_status());
        assert_eq!((item.reason(), item.retry_after()), ("OVERLOADED", Some(server::RETRY_AFTER)));
        assert!(!item.is_connection_trouble());
    }

    #[test]
    fn logs_have_the_words_of_the_transport_and_not_those_of_servers_and_callers() {
        let of_server = server::Failure::internal("the row of tenant `acme` is damaged");
        let failure = Failure::of_status(&Status::from(of_server.clone())).at("http://a:1", "r-1", 2);
        assert_eq!(failure.logged(), "INTERNAL INTERNAL, endpoint `http://a:1`, request `r-1`, 2 attempts");
        assert_eq!(Failure::of_item(&of_server.to_rpc_status()).logged(), "INTERNAL INTERNAL");
        assert_eq!(Failure::of_status(&Status::unknown("tenant `acme`, said a proxy")).logged(), "UNKNOWN");
        assert_eq!(Failure::invalid("tenant", "`no tenant` is not a tenant id").logged(), "INVALID_ARGUMENT INVALID_FIELD");
        let of_transport = Status::from_error(std::io::Error::other("connection refused").into());
        assert!(Failure::of_status(&of_transport).logged().contains("connection refused"));
        assert_eq!(Failure::broken("the stream ended").logged(), "the stream ended (UNAVAILABLE)");
    }

    #[test]
    fn an_answer_that_breaks_off_without_a_word_is_a_broken_connection() {
        assert!(Failure::of_status(&Status::unknown("missing grpc-status trailer")).is_connection_trouble());
        assert!(!Failure::of_status(&Status::internal("a bug")).is_connection_trouble());
        assert!(!Failure::of_status(&Status::from(server::Failure::not_ready())).is_connection_trouble());
    }
}
