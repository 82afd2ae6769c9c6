//! What a tenant is called, whether it is active, and for which reasons it is suspended.

use std::collections::{BTreeMap, BTreeSet};

use crate::rejection::{Rejection, Violations};
use crate::tenant::{Event, SUSPENSIONS_MAX, Tenant};
use crate::time::Timestamp;
use crate::value::{LABELS_MAX, LabelKey, LabelValue, Reason, Title};

pub(super) fn update(
    tenant: &Tenant,
    title: Option<&Title>,
    labels: Option<&BTreeMap<LabelKey, LabelValue>>,
) -> Result<Vec<Event>, Rejection> {
    let title = title.unwrap_or(&tenant.title);
    let labels = labels.unwrap_or(&tenant.labels);
    if *title == tenant.title && *labels == tenant.labels {
        return Ok(Vec::new());
    }
    let mut violations = Violations::default();
    check_labels(labels, "labels", &mut violations);
    violations.into_result()?;
    Ok(vec![Event::Updated { title: title.clone(), labels: labels.clone() }])
}

/// Adds a violation when there are too many labels at `field`.
pub(super) fn check_labels(labels: &BTreeMap<LabelKey, LabelValue>, field: &str, violations: &mut Violations) {
    let count = labels.len();
    if count > LABELS_MAX {
        violations.add(field, format!("{count} labels; allowed are at most {LABELS_MAX}"));
    }
}

pub(super) fn activate(tenant: &Tenant) -> Result<Vec<Event>, Rejection> {
    if !tenant.pending {
        return Err(Rejection::precondition("NOT_PENDING", "the tenant is not pending; only a pending one can be activated"));
    }
    Ok(vec![Event::Activated])
}

/// Since when a reason is in effect that is stated without a time: if it is already, since when it was, else from now.
/// `known`: what was said of it before.
pub(super) fn suspended_since(known: Option<Timestamp>, now: Timestamp) -> Timestamp {
    known.filter(|since| *since <= now).unwrap_or(now)
}

/// A time that is over means now. Of a reason in effect nothing changes: only grace that still runs can be moved, or whoever
/// warns again and again would lift the suspension that the first warning led to.
pub(super) fn suspend(
    tenant: &Tenant,
    reason: &Reason,
    effective_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let known = tenant.suspensions.get(reason).copied();
    let effective_at = effective_at.map_or(now, |at| at.max(now));
    if known.is_some_and(|since| since <= now || since == effective_at) {
        return Ok(Vec::new());
    }
    let count = tenant.suspensions.len();
    if known.is_none() && count >= SUSPENSIONS_MAX {
        return Err(Rejection::precondition(
            "TOO_MANY_SUSPENSIONS",
            format!("the tenant has {count} suspension reasons; allowed are at most {SUSPENSIONS_MAX}"),
        ));
    }
    Ok(vec![Event::Suspended { reason: reason.clone(), effective_at }])
}

/// Removes those of `reasons` that are there (all, when none is named); refused when that removes nothing.
pub(super) fn resume(tenant: &Tenant, reasons: &BTreeSet<Reason>) -> Result<Vec<Event>, Rejection> {
    let removed: BTreeSet<Reason> =
        tenant.suspensions.keys().filter(|reason| reasons.is_empty() || reasons.contains(*reason)).cloned().collect();
    if removed.is_empty() {
        let message = if tenant.suspensions.is_empty() {
            "the tenant is not suspended for any reason"
        } else {
            "the tenant is suspended, but for none of the named reasons"
        };
        return Err(Rejection::precondition("NOT_SUSPENDED", message));
    }
    Ok(vec![Event::Resumed(removed)])
}
