//! The steps of section 6 of the design, in its order and its words.

use super::World;
use super::in_force::{InForce, add_on_documents, in_force, plan_document};
use crate::catalog::{Feature, Service};
use crate::decision::{Decision, Detail, LimitState, Query, Reason, Step, StepOutcome};
use crate::ids::LimitId;
use crate::plan::Document;
use crate::tenant::{AccessOverride, Effect, Tenant};
use crate::time::Timestamp;
use crate::value::{Amount, Familiarity, LimitValue, Target};

/// The reason, the facts behind it.
type Finding = (Reason, Option<Detail>);

/// The whole answer but for `valid_until`, which is left empty.
pub(super) fn decide(world: &World<'_>, tenant: Option<&Tenant>, query: &Query<'_>, now: Timestamp) -> Decision {
    let mut explanation = [StepOutcome::NotReached; Step::ALL.len()];
    let (step, (mut reason, mut detail)) = first_match(world, tenant, query, now);
    for (outcome, each) in explanation.iter_mut().zip(Step::ALL) {
        *outcome = match each.cmp(&step) {
            std::cmp::Ordering::Less => StepOutcome::NotMatched,
            std::cmp::Ordering::Equal => StepOutcome::Matched,
            std::cmp::Ordering::Greater => StepOutcome::NotReached,
        };
    }
    let mut limit = None;
    if let (Some(tenant), Some(asked)) = (tenant, query.limit) {
        let registered = world.catalog.limits.iter().find(|limit| limit.id.as_str() == asked.name);
        if let Some(registered) = registered.filter(|_| reaches_step_five(step)) {
            let value = limit_value(world, tenant, &registered.id, now);
            let remaining = match value {
                LimitValue::Unlimited => None,
                LimitValue::Maximum(maximum) => Some(clamp(i128::from(maximum.get()) - i128::from(asked.used.get()))),
            };
            limit = Some(LimitState { name: registered.id.clone(), value, used: asked.used, remaining });
        }
        // 11. An entitled answer whose check names a limit.
        if reason.entitles() {
            let matched = match limit.as_ref().map(|limit| limit.value) {
                None => Some(Reason::LimitUnknown),
                Some(LimitValue::Unlimited) => None,
                Some(LimitValue::Maximum(maximum)) => {
                    let left = i128::from(maximum.get()) - i128::from(asked.used.get());
                    (i128::from(asked.amount.get()) > left).then_some(Reason::LimitExceeded)
                }
            };
            if let Some(last) = explanation.last_mut() {
                *last = if matched.is_some() { StepOutcome::Matched } else { StepOutcome::NotMatched };
            }
            if let Some(refusal) = matched {
                (reason, detail) = (refusal, None);
            }
        }
    }
    let entitled = reason.entitles();
    Decision {
        entitled,
        reason,
        plan: tenant.and_then(|tenant| {
            let in_force = in_force(tenant, now);
            plan_document(world, &in_force).map(|(version, _)| (in_force.plan.clone(), version))
        }),
        familiarity: tenant.filter(|_| entitled).map(|tenant| familiarity(world, tenant, query.service, now)),
        limit,
        valid_until: None,
        grace_until: tenant.and_then(|tenant| grace_until(tenant, now)),
        detail,
        explanation,
    }
}

fn reaches_step_five(step: Step) -> bool {
    !matches!(step, Step::TenantUnknown | Step::NotRegistered | Step::KillSwitch | Step::TenantStatus)
}

/// Steps 1 to 10: the first that matches.
fn first_match(world: &World<'_>, tenant: Option<&Tenant>, query: &Query<'_>, now: Timestamp) -> (Step, Finding) {
    // 1. No such tenant.
    let Some(tenant) = tenant else { return (Step::TenantUnknown, (Reason::TenantUnknown, None)) };
    // 2. Service or feature not registered.
    let Some(service) = world.catalog.services.iter().find(|service| service.id.as_str() == query.service) else {
        return (Step::NotRegistered, (Reason::ServiceUnknown, None));
    };
    let feature = match query.feature {
        "" => None,
        name => match service.features.iter().find(|feature| feature.id.as_str() == name) {
            None => return (Step::NotRegistered, (Reason::FeatureUnknown, None)),
            found => found,
        },
    };
    // 3. Kill switch on the service or the feature.
    if let Some(finding) = kill_switch(service, feature) {
        return (Step::KillSwitch, finding);
    }
    // 4. Tenant status is not active.
    if let Some(finding) = status(tenant, now) {
        return (Step::TenantStatus, finding);
    }
    // 5. The subscription is not running at this time.
    let in_force = in_force(tenant, now);
    if let Some(reason) = not_running(tenant, &in_force, now) {
        return (Step::Subscription, (reason, None));
    }
    // 6. A live deny override on the service or on the feature.
    if let Some(detail) = deny(tenant, service, feature, now) {
        return (Step::DenyOverride, (Reason::DeniedByOverride, Some(detail)));
    }
    // 7. A live grant override on what is asked, or on a feature of it when the feature is empty.
    if let Some(detail) = grant(tenant, service, feature, now) {
        return (Step::GrantOverride, (Reason::GrantedByOverride, Some(detail)));
    }
    // 8. An add-on has it.
    let add_ons = add_on_documents(world, tenant);
    for (id, _, document) in &add_ons {
        if lists(document, service, feature) {
            return (Step::AddOn, (Reason::GrantedByAddOn, Some(Detail::AddOn((*id).clone()))));
        }
    }
    // 9. The plan version has it.
    let plan = plan_document(world, &in_force).map(|(_, document)| document);
    if plan.is_some_and(|document| lists(document, service, feature)) {
        return (Step::Plan, (Reason::GrantedByPlan, None));
    }
    // 10. Otherwise denied.
    let mut documents = add_ons.iter().map(|(_, _, document)| *document).chain(plan);
    let has_service = documents.any(|document| lists(document, service, None));
    let reason = if has_service { Reason::FeatureNotInPlan } else { Reason::ServiceNotInPlan };
    (Step::NotGranted, (reason, None))
}

fn kill_switch(service: &Service, feature: Option<&Feature>) -> Option<Finding> {
    let (reason, feature) = match (&service.disabled, feature) {
        (Some(reason), _) => (reason, None),
        (None, Some(Feature { id, disabled: Some(reason), .. })) => (reason, Some(id.clone())),
        (None, _) => return None,
    };
    let target = Target { service: service.id.clone(), feature };
    Some((Reason::Disabled, Some(Detail::KillSwitch { target, reason: reason.clone() })))
}

fn status(tenant: &Tenant, now: Timestamp) -> Option<Finding> {
    if tenant.deleted_at.is_some() {
        return Some((Reason::TenantDeleted, None));
    }
    if tenant.pending {
        return Some((Reason::TenantPending, None));
    }
    let mut in_effect = Vec::new();
    for (reason, effective_at) in &tenant.suspensions {
        if *effective_at <= now {
            in_effect.push(reason.clone());
        }
    }
    if in_effect.is_empty() { None } else { Some((Reason::TenantSuspended, Some(Detail::Suspensions(in_effect)))) }
}

fn not_running(tenant: &Tenant, in_force: &InForce, now: Timestamp) -> Option<Reason> {
    // `from` is in, `until` is out.
    let starts = tenant.subscription.starts.unwrap_or(Timestamp::MIN);
    if now < starts {
        return Some(Reason::NotStarted);
    }
    if tenant.subscription.cancel_at.is_some_and(|end| now >= end) {
        return Some(Reason::SubscriptionEnded);
    }
    in_force.trial_until.is_some_and(|end| now >= end).then_some(Reason::TrialEnded)
}

fn live(access: &AccessOverride, now: Timestamp) -> bool {
    match access.until {
        None => true,
        Some(until) => now < until,
    }
}

fn deny(tenant: &Tenant, service: &Service, feature: Option<&Feature>, now: Timestamp) -> Option<Detail> {
    let on_service = Target { service: service.id.clone(), feature: None };
    let on_feature = feature.map(|feature| Target { feature: Some(feature.id.clone()), ..on_service.clone() });
    [Some(on_service), on_feature].into_iter().flatten().find_map(|target| {
        let access = tenant.overrides.access.get(&target)?;
        (access.effect == Effect::Deny && live(access, now)).then(|| detail(&target, access))
    })
}

fn grant(tenant: &Tenant, service: &Service, feature: Option<&Feature>, now: Timestamp) -> Option<Detail> {
    for (target, access) in &tenant.overrides.access {
        let asked = match feature {
            Some(feature) => target.feature.as_ref() == Some(&feature.id),
            None => true,
        };
        if target.service == service.id && asked && access.effect == Effect::Grant && live(access, now) {
            return Some(detail(target, access));
        }
    }
    None
}

fn detail(target: &Target, access: &AccessOverride) -> Detail {
    Detail::Override { target: target.clone(), until: access.until, reason: access.reason.clone() }
}

fn lists(document: &Document, service: &Service, feature: Option<&Feature>) -> bool {
    match (document.services.get(&service.id), feature) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(grant), Some(feature)) => grant.features.contains(&feature.id),
    }
}

/// A live override is the whole value; otherwise plan plus each add-on times its quantity, unlimited absorbing, saturating.
pub(super) fn limit_value(world: &World<'_>, tenant: &Tenant, limit: &LimitId, now: Timestamp) -> LimitValue {
    if let Some(limit) = tenant.overrides.limits.get(limit)
        && limit.until.is_none_or(|until| now < until)
    {
        return limit.value;
    }
    let mut sum = 0_i128;
    let plan = plan_document(world, &in_force(tenant, now)).map(|(_, document)| (1, document));
    let add_ons = add_on_documents(world, tenant).into_iter().map(|(_, quantity, document)| (quantity, document));
    for (quantity, document) in plan.into_iter().chain(add_ons) {
        match document.limits.get(limit) {
            None => {}
            Some(LimitValue::Unlimited) => return LimitValue::Unlimited,
            // At most 65 documents of at most 2^63 times 10^6 each: far below what 128 bits count.
            Some(LimitValue::Maximum(amount)) => sum += i128::from(amount.get()) * quantity,
        }
    }
    LimitValue::Maximum(clamp(sum))
}

/// The nearest amount.
fn clamp(count: i128) -> Amount {
    if count < 0 {
        return Amount::ZERO;
    }
    i64::try_from(count).ok().and_then(|count| Amount::new(count).ok()).unwrap_or(Amount::MAX)
}

/// The tenant's own value for the service if set, else the highest of plan and add-ons, else the least.
fn familiarity(world: &World<'_>, tenant: &Tenant, service: &str, now: Timestamp) -> Familiarity {
    if let Some(own) = tenant.familiarity.iter().find(|(id, _)| id.as_str() == service) {
        return *own.1;
    }
    let mut highest = Familiarity::Half;
    let plan = plan_document(world, &in_force(tenant, now)).map(|(_, document)| document);
    let add_ons = add_on_documents(world, tenant).into_iter().map(|(_, _, document)| document);
    for document in plan.into_iter().chain(add_ons) {
        for (id, grant) in &document.services {
            if id.as_str() == service {
                highest = highest.max(grant.familiarity.unwrap_or(Familiarity::Half));
            }
        }
    }
    highest
}

/// The earliest suspension that is still to come; a deleted tenant keeps none.
pub(super) fn grace_until(tenant: &Tenant, now: Timestamp) -> Option<Timestamp> {
    if tenant.deleted_at.is_some() {
        return None;
    }
    tenant.suspensions.values().copied().filter(|effective_at| *effective_at > now).min()
}
