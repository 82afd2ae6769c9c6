//! Errors as clients see them: the one place that builds `tonic::Status` and `google.rpc.Status`.
//!
//! A denial is data and never comes here. What comes here is a malformed request, a refused command, an unready or
//! overloaded process, an unknown outcome, or a bug; each carries `google.rpc.ErrorInfo` with a stable reason and the domain
//! `tessera`. `UNAVAILABLE` on a mutation with our `ErrorInfo` promises that this call applied nothing; when that cannot be
//! promised, the answer is [`Failure::outcome_unknown`].

mod bounds;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use tessera_core::rejection::{Rejection, RejectionKind, Violation};
use tessera_core::revision::RevisionError;
use tessera_core::shown::shown_bytes;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _, pb};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "tessera";

/// In the metadata of an `ErrorInfo`: the field at fault, of errors that have no list of them, such as `PLAN_NOT_FOUND`.
pub const FIELD: &str = "field";

/// In the metadata of an `ErrorInfo`: how many more fields are at fault than are listed.
pub const VIOLATIONS_LEFT_OUT: &str = "violations_left_out";

/// How soon a caller may try again when nothing better is known.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    reason: Cow<'static, str>,
    message: String,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    metadata: Vec<(&'static str, String)>,
}

impl Failure {
    /// `INVALID_FIELD`: the request is wrong in these fields (at least one).
    pub fn invalid(violations: Vec<Violation>) -> Self {
        Rejection::invalid(violations).into()
    }

    /// `INVALID_FIELD` in one field.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// `INVALID_REVISION`: what was given in `field` is no revision that can be asked for.
    pub fn invalid_revision(field: &str, given: &[u8], error: RevisionError) -> Self {
        let description = format!("`{}` ({} bytes): {error}", shown_bytes(given), given.len());
        let message = format!("{field}: {description}");
        let violation = Violation { field: field.to_owned(), description };
        Self { violations: vec![violation], ..Self::new(Code::InvalidArgument, "INVALID_REVISION", message) }
    }

    /// `TOO_LARGE`: a batch, frame or document is over its limit; the message names size and limit.
    pub fn too_large(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.into(), description: description.into() };
        let message = format!("{}: {}", violation.field, violation.description);
        Self { violations: vec![violation], ..Self::new(Code::InvalidArgument, "TOO_LARGE", message) }
    }

    /// `NOT_READY`: the process has not loaded its data yet.
    pub fn not_ready() -> Self {
        Self::unavailable("NOT_READY", "the data is still being loaded")
    }

    /// `DRAINING`: the process is about to end; another one serves.
    pub fn draining() -> Self {
        Self::unavailable("DRAINING", "the process is shutting down; connect again")
    }

    /// `CONNECTION_ENDS`: a stream ends with its connection, or a call comes when it is too late; nothing is wrong with the process.
    pub fn connection_ends() -> Self {
        Self::unavailable("CONNECTION_ENDS", "the connection ends, since it is old or the process drains; call again on another")
    }

    /// `REVISION_NOT_REACHED`: what the revision names did not arrive in time.
    pub fn revision_not_reached() -> Self {
        Self::unavailable("REVISION_NOT_REACHED", "the revision asked for has not arrived yet")
    }

    /// `CATALOG_BEHIND`: the tenant exists, but a stream it rests on has not arrived yet.
    pub fn catalog_behind() -> Self {
        Self::unavailable("CATALOG_BEHIND", "a plan, an add-on or the catalog that the tenant rests on has not arrived yet")
    }

    /// `STORE_UNAVAILABLE`: nothing was applied.
    pub fn store_unavailable(message: impl Into<String>) -> Self {
        Self::unavailable("STORE_UNAVAILABLE", message)
    }

    /// `READER_TOO_OLD`: the stream was written for newer software.
    pub fn reader_too_old(message: impl Into<String>) -> Self {
        Self::unavailable("READER_TOO_OLD", message)
    }

    /// `OVERLOADED`: a queue is full; nothing was applied.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::exhausted("OVERLOADED", message, RETRY_AFTER)
    }

    /// `OVERLOADED`: the process can do no more at the moment; nothing was looked at.
    pub fn too_much_asked() -> Self {
        Self::overloaded("more is asked than can be served at the moment; try again later, or elsewhere")
    }

    /// `DISK_FULL`: nothing was applied; reads go on.
    pub fn disk_full() -> Self {
        Self::exhausted("DISK_FULL", "the disk of the store is full; decisions go on, changes do not", Duration::from_secs(5))
    }

    /// `RATE_LIMITED`: this caller asks too often; nothing was applied.
    pub fn rate_limited(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::exhausted("RATE_LIMITED", message, retry_after)
    }

    /// `TOKEN_INVALID`: who asks is not known. The message repeats nothing of the token.
    pub fn token_invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, "TOKEN_INVALID", message)
    }

    /// `SCOPE_MISSING`: who asks is known and may not do this.
    pub fn scope_missing(scope: &'static str) -> Self {
        let message = format!("the token lacks the scope `{scope}`, which this needs");
        Self { metadata: vec![("scope", scope.to_owned())], ..Self::new(Code::PermissionDenied, "SCOPE_MISSING", message) }
    }

    /// `CALLER_CHANGED`: who opened the stream is known and may do other things than before.
    pub fn caller_changed(message: impl Into<String>) -> Self {
        Self::unavailable("CALLER_CHANGED", message)
    }

    /// `DEADLINE_EXCEEDED`: the deadline was over when a read arrived.
    pub fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline had passed when the request arrived")
    }

    /// `OUTCOME_UNKNOWN`: the command may have been applied, or may still be; ask again with the same request id.
    pub fn outcome_unknown(request_id: &str) -> Self {
        let message = format!("the outcome of request `{request_id}` is not known; send it again with the same request id");
        Self { metadata: vec![("request_id", request_id.to_owned())], ..Self::new(Code::Aborted, "OUTCOME_UNKNOWN", message) }
    }

    /// `REQUEST_ID_REUSED`: the request id stands for another command.
    pub fn request_id_reused(request_id: &str) -> Self {
        let message = format!("request id `{request_id}` was used for another command; allowed is a new id");
        Self::new(Code::AlreadyExists, "REQUEST_ID_REUSED", message)
    }

    /// `INTERNAL`: a bug or damaged data; the message says nothing that the caller may not know.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, "INTERNAL", message)
    }

    /// The same in few bytes: code and reason stay, and when to try again; which fields are at fault does not.
    #[must_use]
    pub fn brief(self) -> Self {
        let message = format!("{}: too many errors to tell more", self.reason);
        Self { message, violations: Vec::new(), metadata: Vec::new(), ..self }
    }

    /// The same about an item of a list: `path`, such as `checks[3].`, comes before every field at fault, in the message too.
    #[must_use]
    pub fn within(mut self, path: &str) -> Self {
        for violation in &mut self.violations {
            violation.field.insert_str(0, path);
        }
        if !self.violations.is_empty() {
            self.message = tessera_core::rejection::in_words(&self.violations);
        }
        self
    }

    /// The same of a request whose field `to` is what is called `from` here.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        for violation in &mut self.violations {
            let inside = violation.field.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            if let Some(path) = inside.map(|rest| format!("{to}{rest}")) {
                violation.field = path;
            }
        }
        if self.code == Code::InvalidArgument && !self.violations.is_empty() {
            self.message = tessera_core::rejection::in_words(&self.violations);
        }
        self
    }

    /// The stable reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// As the `google.rpc.Status` of an item in a batch, a stream or a watch.
    pub fn to_rpc_status(&self) -> pb::Status {
        let status = Status::from(self.clone());
        // Every status built here carries encoded details, whose form is google.rpc.Status itself.
        pb::Status::decode(status.details()).unwrap_or_else(|_| pb::Status {
            code: self.code as i32,
            message: self.message.clone(),
            details: Vec::new(),
        })
    }

    fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            metadata: Vec::new(),
        }
    }

    fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(Code::Unavailable, reason, message) }
    }

    fn exhausted(reason: &'static str, message: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Code::ResourceExhausted, reason, message) }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.kind {
            RejectionKind::InvalidArgument => Code::InvalidArgument,
            RejectionKind::NotFound => Code::NotFound,
            RejectionKind::AlreadyExists => Code::AlreadyExists,
            RejectionKind::FailedPrecondition => Code::FailedPrecondition,
            RejectionKind::Aborted => Code::Aborted,
        };
        Self {
            code,
            reason: rejection.reason,
            message: rejection.message,
            violations: rejection.violations,
            retry_after: None,
            metadata: Vec::new(),
        }
    }
}

impl From<Failure> for Status {
    fn from(mut failure: Failure) -> Self {
        bounds::keep(&mut failure);
        let mut details = ErrorDetails::new();
        match failure.code {
            Code::InvalidArgument if !failure.violations.is_empty() => {
                let violations = failure.violations.into_iter().map(|v| FieldViolation::new(v.field, v.description));
                details.set_bad_request(violations.collect::<Vec<_>>());
            }
            Code::FailedPrecondition => {
                if failure.violations.is_empty() {
                    failure.violations.push(Violation { field: String::new(), description: failure.message.clone() });
                }
                let reason = &failure.reason;
                let unmet = failure.violations.into_iter();
                let unmet = unmet.map(|v| PreconditionViolation::new(reason.clone(), v.field, v.description));
                details.set_precondition_failure(unmet.collect::<Vec<_>>());
            }
            // There is no list of fields for the others, and the message says what is wrong with it.
            _ => failure.metadata.extend(failure.violations.into_iter().next().map(|v| (FIELD, v.field))),
        }
        let metadata: HashMap<String, String> =
            failure.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        details.set_error_info(failure.reason, DOMAIN, metadata);
        if let Some(retry_after) = failure.retry_after {
            details.set_retry_info(Some(retry_after));
        }
        Self::with_error_details(failure.code, failure.message, details)
    }
}

/// The name of a code as documents and other languages write it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_carries_its_reason_and_domain() {
        for failure in [
            Failure::not_ready(),
            Failure::draining(),
            Failure::overloaded("the queue of `acme` is full"),
            Failure::disk_full(),
            Failure::deadline_exceeded(),
            Failure::outcome_unknown("r-1"),
            Failure::request_id_reused("r-1"),
            Failure::invalid_field("tenant_id", "`` is empty"),
            Failure::too_large("checks", "10001 checks; allowed are 10000"),
            Failure::invalid_revision("consistency.at_least.revision", &[1, 2], RevisionError::OtherTenant),
            Failure::from(Rejection::precondition("PLAN_ARCHIVED", "plan `gold` is archived")),
        ] {
            let status = Status::from(failure.clone());
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (failure.reason(), DOMAIN));
            let item = failure.to_rpc_status();
            assert_eq!((item.code, item.message.as_str()), (failure.code() as i32, failure.message()));
            assert!(!item.details.is_empty());
        }
    }

    #[test]
    fn what_can_be_tried_again_says_when() {
        let status = Status::from(Failure::not_ready());
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_AFTER));
        assert!(Status::from(Failure::deadline_exceeded()).get_details_retry_info().is_none());
    }

    #[test]
    fn fields_at_fault_are_named() {
        let status = Status::from(Failure::invalid_field("tenant_id", "`` is not a tenant id"));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "tenant_id");
        let status = Status::from(Failure::invalid_field("tenant_id", "`` is not a tenant id").within("checks[3]."));
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "checks[3].tenant_id");
        assert_eq!(status.message(), "checks[3].tenant_id: `` is not a tenant id");
        let status = Status::from(Failure::from(Rejection::precondition("NOT_SUSPENDED", "tenant `a` is not suspended")));
        assert_eq!(status.get_details_precondition_failure().unwrap().violations[0].r#type, "NOT_SUSPENDED");
    }
}
