//! What of a tenant's subscription is in force at a time, and the documents it then stands on.

use super::World;
use crate::ids::{AddOnId, PlanId};
use crate::plan::{Document, Plan};
use crate::tenant::{ScheduledChange, Tenant};
use crate::time::Timestamp;
use crate::value::{Version, VersionChoice};

/// A subscription with every due change applied.
pub(super) struct InForce {
    pub(super) plan: PlanId,
    pub(super) version: VersionChoice,
    pub(super) trial_until: Option<Timestamp>,
    /// Changes that are not due, in the order in which they will take effect.
    pub(super) coming: Vec<ScheduledChange>,
}

/// Applies the changes with `at <= now`, one after the other: each moves the plan and clears the trial's end. A deleted
/// tenant keeps its plan and nothing else.
pub(super) fn in_force(tenant: &Tenant, now: Timestamp) -> InForce {
    let mut result = InForce {
        plan: tenant.subscription.choice.plan.clone(),
        version: tenant.subscription.choice.version,
        trial_until: tenant.subscription.trial_until,
        coming: Vec::new(),
    };
    if tenant.deleted_at.is_some() {
        result.trial_until = None;
        return result;
    }
    let mut pending = tenant.subscription.scheduled.clone();
    pending.sort_by(|a, b| a.at.cmp(&b.at).then(a.id.cmp(&b.id)));
    for change in pending {
        if change.at <= now {
            result.plan = change.choice.plan;
            result.version = change.choice.version;
            result.trial_until = None;
        } else {
            result.coming.push(change);
        }
    }
    result
}

/// The published version that `choice` means, with its document.
pub(super) fn published(plan: Option<&Plan>, choice: VersionChoice) -> Option<(Version, &Document)> {
    let plan = plan?;
    let number = match choice {
        VersionChoice::Latest => plan.latest()?,
        VersionChoice::Pinned(number) => number,
    };
    plan.version(number).map(|version| (number, &*version.document))
}

/// The plan's document in force.
pub(super) fn plan_document<'a>(world: &World<'a>, in_force: &InForce) -> Option<(Version, &'a Document)> {
    published(world.plans.get(&in_force.plan), in_force.version)
}

/// Every attached add-on by id: its quantity and the document in force.
pub(super) fn add_on_documents<'a>(world: &World<'a>, tenant: &'a Tenant) -> Vec<(&'a AddOnId, i128, &'a Document)> {
    let mut documents = Vec::new();
    for (id, attached) in &tenant.add_ons {
        if let Some((_, document)) = published(world.add_ons.get(id), attached.version) {
            documents.push((id, i128::from(attached.quantity.get()), document));
        }
    }
    documents
}
