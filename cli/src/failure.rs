//! What went wrong on the other side, in plain words.

use std::fmt::Write as _;

use tessera_proto::status::{DOMAIN, code_name};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The stable reason, if the error is one of Tessera's own.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.reason)
}

/// Whether nobody was reached: no process listens there, or the way to it is broken.
pub fn unreachable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown) && reason(status).is_none()
}

/// The error for people: the sentence, the stable reason, the fields at fault.
pub fn explain(status: &Status) -> String {
    let Some(reason) = reason(status) else {
        return format!("{} ({})", without_name(status), code_name(status.code()));
    };
    let mut text = format!("{} ({reason})", status.message());
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    for violation in violations {
        // A single violation is often the whole message.
        if !status.message().contains(&violation.description) || !status.message().contains(&violation.field) {
            write!(text, "\n  {}: {}", violation.field, violation.description).unwrap_or_default();
        }
    }
    text
}

/// The cause of a failed connection is the last of a chain of sentences.
fn without_name(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut said = status.message().to_owned();
    while let Some(error) = cause {
        said = error.to_string();
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use tessera_core::rejection::Violation;
    use tessera_proto::status::Failure;

    use super::*;

    #[test]
    fn every_field_at_fault_is_named() {
        let violation = |field: &str, description: &str| Violation { field: field.into(), description: description.into() };
        let failure = Failure::invalid(vec![violation("tenant_id", "`` is empty"), violation("plan_id", "`X` is no plan id")]);
        let said = explain(&failure.into());
        assert!(said.contains("tenant_id") && said.contains("`` is empty"), "{said}");
        assert!(said.contains("plan_id") && said.contains("`X` is no plan id"), "{said}");
        assert!(said.contains("(INVALID_FIELD)"), "{said}");
    }

    #[test]
    fn errors_that_are_not_ours_say_their_code() {
        assert_eq!(explain(&Status::unimplemented("no such method")), "no such method (UNIMPLEMENTED)");
        assert!(unreachable(&Status::unavailable("connection refused")));
        assert!(!unreachable(&Status::from(Failure::not_ready())));
    }
}
