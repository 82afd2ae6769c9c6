//! Why a command was refused: a stable reason for programs, a sentence for people, the fields at fault.

use std::borrow::Cow;
use std::fmt;

/// What a caller can do about a rejection; one gRPC code each. Numbers are stored: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RejectionKind {
    /// The request itself is wrong: correct it.
    InvalidArgument = 1,
    /// What it names does not exist.
    NotFound = 2,
    /// What it would create exists.
    AlreadyExists = 3,
    /// The state does not allow it.
    FailedPrecondition = 4,
    /// Somebody changed the resource meanwhile: read again.
    Aborted = 5,
}

impl RejectionKind {
    /// The kind with that stored number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::InvalidArgument, Self::NotFound, Self::AlreadyExists, Self::FailedPrecondition, Self::Aborted]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, such as `document.services["reporting"].features`.
    pub field: String,
    /// What was given and what is allowed.
    pub description: String,
}

/// Most violations that one rejection lists; more would help nobody and could fill an answer.
pub const VIOLATIONS_MAX: usize = 20;

/// Collects the fields at fault, at most [`VIOLATIONS_MAX`] of them, so that a caller can correct all at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Adds one, unless there are enough already.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(Violation { field: field.into(), description: description.into() });
        }
    }

    /// Those collected, in the order in which they were added.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }

    /// `INVALID_FIELD` with those collected, if there are any.
    pub fn into_result(self) -> Result<(), Rejection> {
        if self.0.is_empty() { Ok(()) } else { Err(Rejection::invalid(self.0)) }
    }
}

/// A refused command. Its stream is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What the caller can do.
    pub kind: RejectionKind,
    /// Stable name in upper snake case, such as `PLAN_NOT_FOUND`.
    pub reason: Cow<'static, str>,
    /// For people: names the value and what is allowed.
    pub message: String,
    /// The fields at fault, when there are any to name.
    pub violations: Vec<Violation>,
}

impl Rejection {
    /// A rejection without field violations.
    pub fn new(kind: RejectionKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason: Cow::Borrowed(reason), message: message.into(), violations: Vec::new() }
    }

    /// `INVALID_FIELD`: the request is wrong in these fields (at least one).
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let message = in_words(&violations);
        Self { kind: RejectionKind::InvalidArgument, reason: Cow::Borrowed("INVALID_FIELD"), message, violations }
    }

    /// `NotFound` with that reason.
    pub fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(RejectionKind::NotFound, reason, message)
    }

    /// `AlreadyExists` with that reason.
    pub fn exists(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(RejectionKind::AlreadyExists, reason, message)
    }

    /// `FailedPrecondition` with that reason.
    pub fn precondition(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(RejectionKind::FailedPrecondition, reason, message)
    }
}

/// The violations in one sentence for people.
pub fn in_words(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Rejection {}
