//! What went wrong on the other side, in plain words.

use std::fmt::Write as _;

use tessera_core::rejection::Violation;
use tessera_proto::status::{DOMAIN, FIELD, VIOLATIONS_LEFT_OUT, code_name};
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

/// Whether somebody was reached who does not know such a call, and has no words for it: the other plane, or another version.
pub fn is_unknown_call(status: &Status) -> bool {
    status.code() == Code::Unimplemented && status.message().is_empty()
}

/// The error for people: the sentence, the stable reason, the fields at fault.
pub fn explain(status: &Status) -> String {
    let Some(reason) = reason(status) else {
        return format!("{} ({})", without_name(status), code_name(status.code()));
    };
    let mut text = format!("{} ({reason})", status.message());
    for Violation { field, description } in violations(status) {
        // A single violation is often the whole message, with its field or without.
        if description == status.message() {
            write!(text, " in {field}").unwrap_or_default();
        } else if !status.message().contains(&description) || !status.message().contains(&field) {
            write!(text, "\n  {field}: {description}").unwrap_or_default();
        }
    }
    if let Some(count) = metadata(status, VIOLATIONS_LEFT_OUT) {
        write!(text, "\n  and {count} more").unwrap_or_default();
    }
    text
}

/// The fields at fault, wherever errors of that code name them.
fn violations(status: &Status) -> Vec<Violation> {
    let invalid = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let invalid = invalid.into_iter().map(|v| Violation { field: v.field, description: v.description });
    let unmet = status.get_details_precondition_failure().map(|failure| failure.violations).unwrap_or_default();
    let unmet = unmet.into_iter().map(|v| Violation { field: v.subject, description: v.description });
    let other = metadata(status, FIELD).map(|field| Violation { field, description: status.message().to_owned() });
    invalid.chain(unmet).chain(other).filter(|violation| !violation.field.is_empty()).collect()
}

fn metadata(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.remove(key)
}

/// The cause of a failed connection is the last of a chain of sentences.
fn without_name(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut said = status.message().to_owned();
    while let Some(error) = cause {
        said = error.to_string();
        cause = error.source();
    }
    if said.is_empty() { "no reason was given".to_owned() } else { said }
}

#[cfg(test)]
mod tests {
    use tessera_core::rejection::Rejection;
    use tessera_proto::status::Failure;

    use super::*;

    fn violation(field: &str, description: &str) -> Violation {
        Violation { field: field.into(), description: description.into() }
    }

    fn said(rejection: Rejection, violations: Vec<Violation>) -> String {
        explain(&Failure::from(Rejection { violations, ..rejection }).into())
    }

    #[test]
    fn every_field_at_fault_is_named() {
        let failure = Failure::invalid(vec![violation("tenant_id", "`` is empty"), violation("plan_id", "`X` is no plan id")]);
        let said = explain(&failure.into());
        assert!(said.contains("tenant_id") && said.contains("`` is empty"), "{said}");
        assert!(said.contains("plan_id") && said.contains("`X` is no plan id"), "{said}");
        assert!(said.contains("(INVALID_FIELD)"), "{said}");
    }

    #[test]
    fn fields_are_named_whatever_the_code() {
        let draft = Rejection::precondition("DRAFT_INVALID", "the draft is no good: `a` is archived; `b` is archived");
        assert_eq!(
            said(draft.clone(), vec![violation("draft.a", "`a` is archived"), violation("draft.b", "`b` is archived")]),
            format!("{} (DRAFT_INVALID)\n  draft.a: `a` is archived\n  draft.b: `b` is archived", draft.message)
        );
        let many = vec![violation("draft.a", &"x".repeat(390)); 20];
        assert!(said(draft, many).ends_with("\n  and 15 more"));
        for rejection in [Rejection::not_found("NO", "`p` is not there"), Rejection::precondition("NO", "`p` is not there")] {
            assert_eq!(said(rejection.clone(), Vec::new()), "`p` is not there (NO)");
            let named = said(rejection, vec![violation("document.plan_id", "`p` is not there")]);
            assert_eq!(named, "`p` is not there (NO) in document.plan_id");
        }
    }

    #[test]
    fn errors_that_are_not_ours_say_their_code() {
        assert_eq!(explain(&Status::unimplemented("no such method")), "no such method (UNIMPLEMENTED)");
        assert_eq!(explain(&Status::aborted("")), "no reason was given (ABORTED)");
        assert!(unreachable(&Status::unavailable("connection refused")));
        assert!(!unreachable(&Status::from(Failure::not_ready())));
    }
}
