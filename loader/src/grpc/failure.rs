//! Refusals as clients see them. `UNAVAILABLE` and `RESOURCE_EXHAUSTED` promise that the call applied nothing, which every
//! refusal but an unknown outcome does.

use tessera_core::ids::IdError;
use tessera_proto::status::Failure;

use crate::refusal::Refusal;
use crate::unreadable;

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Rejected(rejection) => rejection.into(),
            Refusal::RequestIdReused(id) => Self::request_id_reused(id.as_str()),
            Refusal::OutcomeUnknown(id) => Self::outcome_unknown(id.as_str()),
            Refusal::StoreUnavailable(_) => Self::store_unavailable(message),
            // What is damaged is for the log, not for callers.
            Refusal::StoreDamaged(why) => {
                unreadable::tell(&why);
                Self::internal("what is stored cannot be read; the operator's log says more")
            }
            Refusal::ReaderTooOld { .. } => Self::reader_too_old(message),
            Refusal::DiskFull => Self::disk_full(),
            Refusal::Overloaded(_) => Self::overloaded(message),
            Refusal::Draining => Self::draining(),
            Refusal::DeadlineExceeded => Self::deadline_exceeded(),
        }
    }
}

/// An id in a field does not follow its grammar.
pub(crate) fn bad_id(field: &'static str) -> impl FnOnce(IdError) -> Failure {
    move |error| Failure::invalid_field(field, error.to_string())
}
