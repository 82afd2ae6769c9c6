//! The table of errors that clients program against: which reason comes with which code, and which can be tried again.

use std::time::Duration;

use tessera_core::rejection::{Rejection, RejectionKind, Violation};
use tessera_core::revision::RevisionError;
use tessera_proto::status::{DOMAIN, FIELD, Failure, RETRY_AFTER};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn violation() -> Violation {
    Violation { field: "plan_id".to_owned(), description: "`X` is not a plan id; allowed are others".to_owned() }
}

fn revision(error: RevisionError) -> Failure {
    Failure::invalid_revision("consistency.at_least.revision", &[9; 30], error)
}

/// Every row: how it is made, its reason, its code, when to try again.
fn table() -> Vec<(Failure, &'static str, Code, Option<Duration>)> {
    let later = Some(RETRY_AFTER);
    let second = Duration::from_secs(1);
    vec![
        (Failure::invalid_field("plan_id", "`X`"), "INVALID_FIELD", Code::InvalidArgument, None),
        (Failure::invalid(vec![violation()]), "INVALID_FIELD", Code::InvalidArgument, None),
        (revision(RevisionError::Empty), "INVALID_REVISION", Code::InvalidArgument, None),
        (revision(RevisionError::Malformed), "INVALID_REVISION", Code::InvalidArgument, None),
        (revision(RevisionError::OtherTenant), "INVALID_REVISION", Code::InvalidArgument, None),
        (Failure::too_large("checks", "`10001` checks"), "TOO_LARGE", Code::InvalidArgument, None),
        (Rejection::not_found("TENANT_NOT_FOUND", "no").into(), "TENANT_NOT_FOUND", Code::NotFound, None),
        (Rejection::exists("TENANT_EXISTS", "no").into(), "TENANT_EXISTS", Code::AlreadyExists, None),
        (Rejection::precondition("PLAN_ARCHIVED", "no").into(), "PLAN_ARCHIVED", Code::FailedPrecondition, None),
        (Rejection::new(RejectionKind::Aborted, "ETAG_MISMATCH", "no").into(), "ETAG_MISMATCH", Code::Aborted, None),
        (Failure::outcome_unknown("r-1"), "OUTCOME_UNKNOWN", Code::Aborted, None),
        (Failure::request_id_reused("r-1"), "REQUEST_ID_REUSED", Code::AlreadyExists, None),
        (Failure::not_ready(), "NOT_READY", Code::Unavailable, later),
        (Failure::draining(), "DRAINING", Code::Unavailable, later),
        (Failure::connection_ends(), "CONNECTION_ENDS", Code::Unavailable, later),
        (Failure::caller_changed("no"), "CALLER_CHANGED", Code::Unavailable, later),
        (Failure::revision_not_reached(), "REVISION_NOT_REACHED", Code::Unavailable, later),
        (Failure::catalog_behind(), "CATALOG_BEHIND", Code::Unavailable, later),
        (Failure::store_unavailable("no"), "STORE_UNAVAILABLE", Code::Unavailable, later),
        (Failure::reader_too_old("no"), "READER_TOO_OLD", Code::Unavailable, later),
        (Failure::overloaded("no"), "OVERLOADED", Code::ResourceExhausted, later),
        (Failure::disk_full(), "DISK_FULL", Code::ResourceExhausted, Some(Duration::from_secs(5))),
        (Failure::rate_limited("no", second), "RATE_LIMITED", Code::ResourceExhausted, Some(second)),
        (Failure::deadline_exceeded(), "DEADLINE_EXCEEDED", Code::DeadlineExceeded, None),
        (Failure::token_invalid("no"), "TOKEN_INVALID", Code::Unauthenticated, None),
        (Failure::scope_missing("plans.write"), "SCOPE_MISSING", Code::PermissionDenied, None),
        (Failure::internal("no"), "INTERNAL", Code::Internal, None),
    ]
}

#[test]
fn reasons_codes_and_retries() {
    for (failure, reason, code, retry) in table() {
        let status = Status::from(failure);
        assert_eq!(status.code(), code, "{reason}");
        let info = status.get_details_error_info().expect("an error info");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, DOMAIN));
        assert_eq!(status.get_details_retry_info().and_then(|info| info.retry_delay), retry, "{reason}");
        assert_eq!(status.get_details_bad_request().is_some(), code == Code::InvalidArgument, "{reason}");
        let precondition = status.get_details_precondition_failure();
        assert_eq!(precondition.is_some(), code == Code::FailedPrecondition, "{reason}");
        if let Some(precondition) = precondition {
            assert_eq!(precondition.violations[0].r#type, reason);
        }
    }
}

#[test]
fn an_unknown_outcome_names_its_request() {
    let status = Status::from(Failure::outcome_unknown("r-1"));
    assert_eq!(status.get_details_error_info().expect("an error info").metadata["request_id"], "r-1");
}

#[test]
fn every_unmet_precondition_names_its_field() {
    let violations = ["a", "b"].map(|feature| Violation {
        field: format!("draft.services[\"s\"].features[\"{feature}\"]"),
        description: format!("feature `s/{feature}` is archived"),
    });
    let rejection = Rejection::precondition("DRAFT_INVALID", "the draft cannot be published");
    let status = Status::from(Failure::from(Rejection { violations: violations.to_vec(), ..rejection.clone() }));
    let unmet = status.get_details_precondition_failure().expect("violations").violations;
    assert_eq!(unmet.len(), 2);
    for (found, meant) in unmet.iter().zip(violations) {
        assert_eq!(found.r#type, "DRAFT_INVALID");
        assert_eq!((&found.subject, &found.description), (&meant.field, &meant.description));
    }
    assert!(status.get_details_error_info().expect("an error info").metadata.is_empty());

    let status = Status::from(Failure::from(rejection));
    let unmet = status.get_details_precondition_failure().expect("a violation").violations;
    assert_eq!((unmet.len(), unmet[0].subject.as_str(), unmet[0].description.as_str()), (1, "", status.message()));
}

#[test]
fn what_is_not_found_names_the_field_that_asked_for_it() {
    for kind in [RejectionKind::NotFound, RejectionKind::AlreadyExists, RejectionKind::Aborted] {
        let rejection = Rejection { violations: vec![violation()], ..Rejection::new(kind, "SOMETHING", "no") };
        let status = Status::from(Failure::from(rejection).renamed("plan_id", "tenant.plan_id"));
        assert_eq!(status.get_details_error_info().expect("an error info").metadata[FIELD], "tenant.plan_id", "{kind:?}");
        let status = Status::from(Failure::from(Rejection::new(kind, "SOMETHING", "no")));
        assert!(status.get_details_error_info().expect("an error info").metadata.is_empty(), "{kind:?}");
    }
}

#[test]
fn a_bad_revision_is_shown_with_its_field_and_what_is_allowed() {
    let status = Status::from(revision(RevisionError::Malformed));
    let violation = &status.get_details_bad_request().expect("violations").field_violations[0];
    assert_eq!(violation.field, "consistency.at_least.revision");
    let (hex, allowed) = ("09".repeat(24), "allowed are bytes that an earlier answer returned");
    assert_eq!(violation.description, format!("`0x{hex}…` (30 bytes): the revision is malformed; {allowed}"));
    assert_eq!(status.message(), format!("{}: {}", violation.field, violation.description));
}

#[test]
fn a_brief_error_keeps_code_reason_and_when_to_try_again() {
    for (failure, reason, code, retry) in table() {
        let status = Status::from(failure.brief());
        assert_eq!(status.get_details_error_info().expect("an error info").reason, reason);
        assert_eq!(status.get_details_retry_info().and_then(|info| info.retry_delay), retry, "{reason}");
        assert_eq!(status.code(), code);
        assert!(status.get_details_bad_request().is_none_or(|bad| bad.field_violations.is_empty()), "{reason}");
        assert!(status.details().len() + status.message().len() < 300, "{reason}");
    }
}
