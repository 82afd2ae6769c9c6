//! The reference evaluator: what a decision means, written as the design states it, step by step, over the plain state of the
//! domain. Slow on purpose, for tests to hold [`crate::evaluator`] against; it shares types with it and no code.
//!
//! Nothing here is clever: names are looked up one by one, every question works everything out again, and `valid_until` is
//! found by asking again at every time the tenant knows. No server uses this module.

mod document;
mod in_force;
mod steps;
mod valid_until;

use std::collections::BTreeMap;

pub use document::document;

use crate::catalog::Catalog;
use crate::decision::{Decision, Query};
use crate::ids::{AddOnId, PlanId};
use crate::plan::Plan;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// Everything but the tenant that an answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The registry.
    pub catalog: &'a Catalog,
    /// Plans by id.
    pub plans: &'a BTreeMap<PlanId, Plan>,
    /// Add-ons by id.
    pub add_ons: &'a BTreeMap<AddOnId, Plan>,
}

/// Answers `query` for `tenant` (`None`: there is no such tenant) as of `now`. Its `valid_until` is exact: the first instant
/// at which another field of the answer differs.
pub fn check(world: &World<'_>, tenant: Option<&Tenant>, query: &Query<'_>, now: Timestamp) -> Decision {
    let mut decision = steps::decide(world, tenant, query, now);
    decision.valid_until = tenant.and_then(|tenant| {
        valid_until::first_change(tenant, now, |time| steps::decide(world, Some(tenant), query, time) != decision)
    });
    decision
}
