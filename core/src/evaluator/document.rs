//! The effective document: every check of a tenant at once.

use std::collections::BTreeMap;

use super::catalog_table::{ServiceEntry, ServiceOrdinal};
use super::row::TenantRow;
use super::standing::{Standing, earlier};
use super::steps::{self, Outcome, Source};
use super::tables::Tables;
use crate::decision::{EffectiveDocument, FeatureEntitlement, ServiceEntitlement, TenantStatus};
use crate::ids::AddOnId;
use crate::time::Timestamp;

/// Everything the tenant may use as of `now`: what checks would say. Limits are listed when a check would tell them, that is
/// while the tenant is active. `None` only when row and tables are of different lineages: then the row cannot be answered from.
pub fn document(tables: &Tables, row: &TenantRow, now: Timestamp) -> Option<EffectiveDocument> {
    let standing = Standing::of(tables, row, now);
    let plans = tables.plan_table();
    let (number, _) = standing.version?;
    let next_change = match standing.next_change {
        Some((at, followed)) => Some((at, plans.get(followed.index)?.id.clone())),
        None => None,
    };
    let mut limits = BTreeMap::new();
    if standing.status == TenantStatus::Active {
        limits = tables.catalog().limits().map(|(o, id)| (id.clone(), steps::limit_value(&standing, o).0)).collect();
    }
    let services = tables.catalog().services();
    Some(EffectiveDocument {
        plan: (plans.get(standing.plan.index)?.id.clone(), number),
        status: standing.status,
        grace_until: standing.grace_until,
        starts: standing.extras.and_then(|extras| extras.starts),
        trial_until: standing.trial_until,
        cancel_at: standing.extras.and_then(|extras| extras.cancel_at),
        next_change,
        services: services.map(|(o, entry)| (entry.id.clone(), service(&standing, o, entry))).collect(),
        limits,
        valid_until: edge(&standing),
    })
}

/// The `valid_until` of [`document`] without making it: not later than the first instant at which time alone changes the
/// document, or any check of this tenant.
pub fn next_edge(tables: &Tables, row: &TenantRow, now: Timestamp) -> Option<Timestamp> {
    edge(&Standing::of(tables, row, now))
}

fn edge(standing: &Standing<'_>) -> Option<Timestamp> {
    let Some(extras) = standing.extras else { return standing.edge };
    let access = extras.access.iter().map(|row| row.until);
    let limits = extras.limits.iter().map(|row| row.until);
    let ends = access.chain(limits).flatten().filter(|until| *until > standing.now).min();
    earlier(standing.edge, ends)
}

fn service(standing: &Standing<'_>, ordinal: ServiceOrdinal, entry: &ServiceEntry) -> ServiceEntitlement {
    let outcome = steps::access(standing, ordinal, None);
    let mut features = BTreeMap::new();
    for feature in &entry.features {
        let Some(id) = standing.tables.catalog().feature(*feature).map(|feature| feature.id.clone()) else { continue };
        let outcome = steps::access(standing, ordinal, Some(*feature));
        let (entitled, reason) = (outcome.reason.entitles(), outcome.reason);
        features.insert(id, FeatureEntitlement { entitled, reason, add_on: add_on(standing, &outcome) });
    }
    let entitled = outcome.reason.entitles();
    ServiceEntitlement {
        entitled,
        reason: outcome.reason,
        familiarity: entitled.then(|| steps::familiarity(standing, ordinal)),
        add_on: add_on(standing, &outcome),
        features,
    }
}

fn add_on(standing: &Standing<'_>, outcome: &Outcome) -> Option<AddOnId> {
    match outcome.source {
        Source::AddOn(index) => standing.tables.add_on_table().get(index).map(|offer| offer.id.clone()),
        Source::Nothing | Source::Override(_) => None,
    }
}
