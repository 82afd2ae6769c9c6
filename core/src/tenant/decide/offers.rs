//! Which plans and add-ons a tenant may take: those that exist, are published, and are not archived unless it has them.

use std::fmt::Display;

use crate::aggregate::{Context, World};
use crate::ids::{AddOnId, PlanId};
use crate::plan::Plan;
use crate::rejection::{Rejection, RejectionKind, Violation};
use crate::tenant::{PlanChoice, Tenant};
use crate::value::{Version, VersionChoice};

/// What the tenant has already does not become forbidden by being archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The tenant would take it anew.
    New,
    /// The tenant has it already, or a plan change of the past has replaced it since.
    Kept,
}

impl Standing {
    pub(super) fn kept_if(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::New }
    }

    /// Of a plan, for that tenant: kept if it is on it or is scheduled to move to it.
    pub(super) fn of_plan(tenant: Option<&Tenant>, plan: &PlanId) -> Self {
        Self::kept_if(tenant.is_some_and(|tenant| tenant.named_plans().any(|named| named == plan)))
    }

    /// Of an add-on, for that tenant: kept if it is attached.
    pub(super) fn of_add_on(tenant: Option<&Tenant>, add_on: &AddOnId) -> Self {
        Self::kept_if(tenant.is_some_and(|tenant| tenant.add_ons.contains_key(add_on)))
    }
}

/// Refuses a plan choice that the tenant may not make; `field` is where it was made.
pub(super) fn check_plan(choice: &PlanChoice, standing: Standing, field: &str, context: &Context<'_>) -> Result<(), Rejection> {
    let found = plan(context.world, &choice.plan);
    check(format_args!("plan `{}`", choice.plan), &OF_PLANS, found, (choice.version, standing), field)
}

/// Refuses an add-on that the tenant may not attach; `field` is where it was named.
pub(super) fn check_add_on(
    add_on: &AddOnId,
    version: VersionChoice,
    standing: Standing,
    field: &str,
    context: &Context<'_>,
) -> Result<(), Rejection> {
    let found = context.world.add_ons.get(add_on).and_then(|known| known.1.as_deref());
    check(format_args!("add-on `{add_on}`"), &OF_ADD_ONS, found, (version, standing), field)
}

/// The plan, if it exists.
pub(super) fn plan<'a>(world: &'a World, id: &PlanId) -> Option<&'a Plan> {
    world.plans.get(id)?.1.as_deref()
}

/// `PLAN_NOT_FOUND` for that plan.
pub(super) fn plan_not_found(id: &PlanId, field: &str) -> Rejection {
    refusal(RejectionKind::NotFound, "PLAN_NOT_FOUND", field, format!("plan `{id}` does not exist"))
}

/// `PLAN_VERSION_NOT_FOUND` for that version of a plan.
pub(super) fn plan_version_not_found(id: &PlanId, plan: &Plan, version: VersionChoice, field: &str) -> Rejection {
    let message = no_such_version(format_args!("plan `{id}`"), version, plan.latest());
    refusal(RejectionKind::NotFound, "PLAN_VERSION_NOT_FOUND", field, message)
}

struct Reasons {
    not_found: &'static str,
    not_published: &'static str,
    archived: &'static str,
    version_not_found: &'static str,
}

const OF_PLANS: Reasons = Reasons {
    not_found: "PLAN_NOT_FOUND",
    not_published: "PLAN_NOT_PUBLISHED",
    archived: "PLAN_ARCHIVED",
    version_not_found: "PLAN_VERSION_NOT_FOUND",
};

const OF_ADD_ONS: Reasons = Reasons {
    not_found: "ADD_ON_NOT_FOUND",
    not_published: "ADD_ON_NOT_PUBLISHED",
    archived: "ADD_ON_ARCHIVED",
    version_not_found: "ADD_ON_VERSION_NOT_FOUND",
};

fn check(
    name: impl Display,
    reasons: &Reasons,
    found: Option<&Plan>,
    (version, standing): (VersionChoice, Standing),
    field: &str,
) -> Result<(), Rejection> {
    let Some(plan) = found else {
        return Err(refusal(RejectionKind::NotFound, reasons.not_found, field, format!("{name} does not exist")));
    };
    let Some(latest) = plan.latest() else {
        let message = format!("{name} has no published version; publish its draft first");
        return Err(refusal(RejectionKind::FailedPrecondition, reasons.not_published, field, message));
    };
    if plan.archived && standing == Standing::New {
        let message = format!("{name} is archived and takes no new tenants; those that have it keep it");
        return Err(refusal(RejectionKind::FailedPrecondition, reasons.archived, field, message));
    }
    match version {
        VersionChoice::Pinned(pinned) if plan.version(pinned).is_none() => {
            let message = no_such_version(name, version, Some(latest));
            Err(refusal(RejectionKind::NotFound, reasons.version_not_found, field, message))
        }
        VersionChoice::Latest | VersionChoice::Pinned(_) => Ok(()),
    }
}

fn no_such_version(name: impl Display, version: VersionChoice, latest: Option<Version>) -> String {
    let wanted = match version {
        VersionChoice::Pinned(pinned) => format!("`{pinned}`"),
        VersionChoice::Latest => "latest".to_owned(),
    };
    match latest {
        Some(latest) => format!("{name} has no version {wanted}; published are 1 to {latest}"),
        None => format!("{name} has no version {wanted}; none is published"),
    }
}

fn refusal(kind: RejectionKind, reason: &'static str, field: &str, message: String) -> Rejection {
    let violations = vec![Violation { field: field.to_owned(), description: message.clone() }];
    Rejection { violations, ..Rejection::new(kind, reason, message) }
}
