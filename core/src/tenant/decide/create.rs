//! How a tenant comes to be: created with a plan, or stated as a whole document, which also replaces an existing one.
//!
//! A document may name what the tenant it meets names already, even if archived, and so may its past: plan changes that are
//! due and overrides that have expired only need what they name to exist.

use std::collections::{BTreeMap, BTreeSet};

use super::exceptions::Names;
use super::offers::{self, Standing};
use super::standing::{check_labels, suspended_since};
use super::subscription;
use crate::aggregate::Context;
use crate::ids::PlanId;
use crate::rejection::{Rejection, Violations};
use crate::tenant::{
    ADD_ONS_MAX, Event, OVERRIDES_MAX, PlanChoice, SCHEDULED_MAX, SUSPENSIONS_MAX, Tenant, TenantDocument, TrialLength,
};
use crate::time::Timestamp;
use crate::value::{LabelKey, LabelValue, Reason, Title};

/// What `Create` asks for.
pub(super) struct Asked<'a> {
    pub(super) title: &'a Title,
    pub(super) labels: &'a BTreeMap<LabelKey, LabelValue>,
    pub(super) choice: &'a PlanChoice,
    pub(super) starts: Option<Timestamp>,
    pub(super) trial: Option<TrialLength>,
    pub(super) pending: bool,
}

pub(super) fn create(asked: &Asked<'_>, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    let mut violations = Violations::default();
    check_labels(asked.labels, "labels", &mut violations);
    violations.into_result()?;
    offers::check_plan(asked.choice, Standing::New, "plan_id", context)?;
    let trial_until = match asked.trial {
        None => None,
        Some(length) => Some(subscription::trial_end(asked.choice, asked.starts, length, context)?),
    };
    Ok(vec![Event::Created {
        title: asked.title.clone(),
        labels: asked.labels.clone(),
        choice: asked.choice.clone(),
        starts: asked.starts,
        trial_until,
        pending: asked.pending,
    }])
}

/// `tenant`: the one that exists, as it stands at the event time.
pub(super) fn state(
    tenant: Option<&Tenant>,
    (document, suspended): (&TenantDocument, &BTreeSet<Reason>),
    context: &Context<'_>,
) -> Result<Vec<Event>, Rejection> {
    let mut document = document.clone();
    for reason in suspended {
        let known = tenant.and_then(|tenant| tenant.suspensions.get(reason)).copied();
        document.suspensions.insert(reason.clone(), suspended_since(known, context.now));
    }
    let meant = document.as_of(context.now);
    // A trial of the past that has left nothing else behind is used all the same.
    let is_used = |tenant: &Tenant| document.trial_until.is_none() || tenant.trials_used.contains(&document.choice.plan);
    if tenant.is_some_and(|tenant| tenant.document() == *meant && is_used(tenant)) {
        return Ok(Vec::new());
    }
    let mut violations = Violations::default();
    check_sizes(&document, &mut violations);
    check_names(tenant, &document, context, &mut violations);
    violations.into_result()?;
    check_offers(tenant, &document, &meant, context)?;
    subscription::check_change_ids(tenant.map_or(0, |tenant| tenant.last_change_id), meant.scheduled.len())?;
    Ok(vec![Event::Stated(Box::new(document))])
}

fn check_sizes(document: &TenantDocument, violations: &mut Violations) {
    check_labels(&document.labels, "document.labels", violations);
    let overrides = document.overrides.access.len().saturating_add(document.overrides.limits.len());
    for (field, what, count, max) in [
        ("document.scheduled", "scheduled changes", document.scheduled.len(), SCHEDULED_MAX),
        ("document.add_ons", "add-ons", document.add_ons.len(), ADD_ONS_MAX),
        ("document.overrides", "overrides", overrides, OVERRIDES_MAX),
        ("document.suspensions", "suspension reasons", document.suspensions.len(), SUSPENSIONS_MAX),
    ] {
        if count > max {
            violations.add(field, format!("{count} {what}; allowed are at most {max}"));
        }
    }
}

fn check_names(tenant: Option<&Tenant>, document: &TenantDocument, context: &Context<'_>, violations: &mut Violations) {
    let names = Names { catalog: &context.world.catalog.1, kept: tenant, now: context.now };
    for (target, access) in &document.overrides.access {
        names.check_target(target, access.until, &format!("document.overrides[\"{target}\"]"), violations);
    }
    for (limit, value) in &document.overrides.limits {
        names.check_limit(limit, value.until, &format!("document.overrides[\"{limit}\"]"), violations);
    }
    for service in document.familiarity.keys() {
        names.check_familiarity(service, &format!("document.familiarity_basis_points[\"{service}\"]"), violations);
    }
}

fn check_offers(
    tenant: Option<&Tenant>,
    document: &TenantDocument,
    meant: &TenantDocument,
    context: &Context<'_>,
) -> Result<(), Rejection> {
    // A plan that only the document's past names is not taken by anybody.
    let comes = |plan: &PlanId| meant.choice.plan == *plan || meant.scheduled.iter().any(|change| change.choice.plan == *plan);
    let standing = |plan: &PlanId| if comes(plan) { Standing::of_plan(tenant, plan) } else { Standing::Kept };
    offers::check_plan(&document.choice, standing(&document.choice.plan), "document.plan_id", context)?;
    for (position, change) in document.scheduled.iter().enumerate() {
        let field = format!("document.scheduled[{position}].plan_id");
        offers::check_plan(&change.choice, standing(&change.choice.plan), &field, context)?;
    }
    for (add_on, attached) in &document.add_ons {
        let field = format!("document.add_ons[\"{add_on}\"]");
        offers::check_add_on(add_on, attached.version, Standing::of_add_on(tenant, add_on), &field, context)?;
    }
    Ok(())
}
