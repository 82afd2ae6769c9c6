//! The effective document, one check after the other.

use std::collections::BTreeMap;

use super::World;
use super::in_force::{in_force, plan_document};
use super::steps::{decide, grace_until, limit_value};
use super::valid_until::first_change;
use crate::decision::{Decision, Detail, EffectiveDocument, FeatureEntitlement, Query, Reason, ServiceEntitlement, TenantStatus};
use crate::ids::AddOnId;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// What checks would say of everything that is registered. `None` when the world lacks the plan in force.
pub fn document(world: &World<'_>, tenant: &Tenant, now: Timestamp) -> Option<EffectiveDocument> {
    let mut document = at(world, tenant, now)?;
    document.valid_until = first_change(tenant, now, |time| at(world, tenant, time).as_ref() != Some(&document));
    Some(document)
}

fn at(world: &World<'_>, tenant: &Tenant, now: Timestamp) -> Option<EffectiveDocument> {
    let deleted = tenant.deleted_at.is_some();
    let in_force = in_force(tenant, now);
    let (version, _) = plan_document(world, &in_force)?;
    let status = if deleted {
        TenantStatus::Deleted
    } else if tenant.pending {
        TenantStatus::Pending
    } else if tenant.suspensions.values().any(|effective_at| *effective_at <= now) {
        TenantStatus::Suspended
    } else {
        TenantStatus::Active
    };
    let mut limits = BTreeMap::new();
    if status == TenantStatus::Active {
        for limit in &world.catalog.limits {
            limits.insert(limit.id.clone(), limit_value(world, tenant, &limit.id, now));
        }
    }
    let mut services = BTreeMap::new();
    for service in &world.catalog.services {
        let ask = |feature| decide(world, Some(tenant), &Query { service: service.id.as_str(), feature, limit: None }, now);
        let mut features = BTreeMap::new();
        for feature in &service.features {
            let answer = ask(feature.id.as_str());
            let add_on = add_on(&answer);
            features.insert(feature.id.clone(), FeatureEntitlement { entitled: answer.entitled, reason: answer.reason, add_on });
        }
        let answer = ask("");
        let add_on = add_on(&answer);
        let Decision { entitled, reason, familiarity, .. } = answer;
        services.insert(service.id.clone(), ServiceEntitlement { entitled, reason, familiarity, add_on, features });
    }
    Some(EffectiveDocument {
        plan: (in_force.plan, version),
        status,
        grace_until: grace_until(tenant, now),
        starts: tenant.subscription.starts.filter(|_| !deleted),
        trial_until: in_force.trial_until,
        cancel_at: tenant.subscription.cancel_at.filter(|_| !deleted),
        next_change: in_force.coming.into_iter().next().map(|change| (change.at, change.choice.plan)),
        services,
        limits,
        valid_until: None,
    })
}

fn add_on(answer: &Decision) -> Option<AddOnId> {
    match (&answer.reason, &answer.detail) {
        (Reason::GrantedByAddOn, Some(Detail::AddOn(id))) => Some(id.clone()),
        _ => None,
    }
}
