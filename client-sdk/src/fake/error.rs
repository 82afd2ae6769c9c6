//! What can be made to fail.

use tessera_proto::status::{DOMAIN, Failure};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// How a call of a [`super::Fake`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeError {
    /// UNAVAILABLE `NOT_READY`: tried again.
    NotReady,
    /// UNAVAILABLE `DRAINING`: tried again.
    Draining,
    /// `RESOURCE_EXHAUSTED` `OVERLOADED`: tried again after a moment.
    Overloaded,
    /// UNAUTHENTICATED `TOKEN_INVALID`: not tried again.
    Unauthenticated,
    /// `PERMISSION_DENIED` `SCOPE_MISSING`: not tried again.
    NotAllowed,
    /// INTERNAL: not tried again.
    Bug,
    /// No answer at all, until the deadline.
    Silence,
}

impl FakeError {
    /// As a server would say it; comes never for silence.
    pub(super) async fn happen(self) -> Status {
        match self {
            Self::NotReady => Failure::not_ready().into(),
            Self::Draining => Failure::draining().into(),
            Self::Overloaded => Failure::overloaded("the fake was told to be overloaded").into(),
            Self::Unauthenticated => Failure::token_invalid("the fake was told to know nobody").into(),
            Self::NotAllowed => Failure::scope_missing("decide").into(),
            Self::Bug => Failure::internal("the fake was told to have a bug").into(),
            Self::Silence => futures::future::pending().await,
        }
    }
}

/// What a server says of a tenant that it does not know, where that is an error.
pub(super) fn unknown_tenant(id: &str) -> Status {
    let details = ErrorDetails::with_error_info("TENANT_NOT_FOUND", DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(Code::NotFound, format!("tenant `{id}` does not exist"), details)
}
