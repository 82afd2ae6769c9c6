//! What changed from one document to the next: how versions are stored, and what people are shown.
//!
//! A difference holds new values only; the old ones stand in the document it starts from. Every difference can be applied to
//! every document, so that reading a stored one cannot fail here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Document, ServiceGrant};
use crate::ids::{FeatureId, LimitId, ServiceId};
use crate::value::{Description, Familiarity, LimitValue, Title};

/// The difference of two documents. Nothing in it means that they are equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanDiff {
    /// The new title, if it changed.
    pub title: Option<Title>,
    /// The new description, if it changed.
    pub description: Option<Description>,
    /// The new trial length, if it changed; `Some(None)` is "no trial any more".
    pub trial: Option<Option<Duration>>,
    /// Services that are new, with all that is granted of them.
    pub services_added: BTreeMap<ServiceId, Arc<ServiceGrant>>,
    /// Services that are gone.
    pub services_removed: BTreeSet<ServiceId>,
    /// Services of which something else is granted.
    pub services_changed: BTreeMap<ServiceId, GrantDiff>,
    /// Limits that are new.
    pub limits_added: BTreeMap<LimitId, LimitValue>,
    /// Limits that are gone.
    pub limits_removed: BTreeSet<LimitId>,
    /// Limits with another value, and that value.
    pub limits_changed: BTreeMap<LimitId, LimitValue>,
}

/// The difference of what two documents grant of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrantDiff {
    /// Features that are new.
    pub features_added: BTreeSet<FeatureId>,
    /// Features that are gone.
    pub features_removed: BTreeSet<FeatureId>,
    /// The new familiarity, if it changed; `Some(None)` is "none stated any more".
    pub familiarity: Option<Option<Familiarity>>,
}

impl PlanDiff {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What leads from `from` to `to`: `apply(from, &diff(from, to)) == to`.
pub fn diff(from: &Document, to: &Document) -> PlanDiff {
    let mut difference = PlanDiff {
        title: (from.title != to.title).then(|| to.title.clone()),
        description: (from.description != to.description).then(|| to.description.clone()),
        trial: (from.trial != to.trial).then_some(to.trial),
        services_removed: missing(&from.services, &to.services),
        limits_removed: missing(&from.limits, &to.limits),
        ..PlanDiff::default()
    };
    for (service, grant) in &to.services {
        match from.services.get(service) {
            None => {
                difference.services_added.insert(service.clone(), Arc::clone(grant));
            }
            Some(before) if before == grant => {}
            Some(before) => {
                difference.services_changed.insert(service.clone(), diff_grant(before, grant));
            }
        }
    }
    for (limit, value) in &to.limits {
        match from.limits.get(limit) {
            None => {
                difference.limits_added.insert(limit.clone(), *value);
            }
            Some(before) if before == value => {}
            Some(_) => {
                difference.limits_changed.insert(limit.clone(), *value);
            }
        }
    }
    difference
}

/// `from` with `difference` applied, sharing with it what stays. What it removes may be absent and what it changes may be new.
pub fn apply(from: &Document, difference: &PlanDiff) -> Document {
    let mut document = from.clone();
    if let Some(title) = &difference.title {
        document.title = title.clone();
    }
    if let Some(description) = &difference.description {
        document.description = description.clone();
    }
    if let Some(trial) = difference.trial {
        document.trial = trial;
    }
    document.services.retain(|service, _| !difference.services_removed.contains(service));
    document.services.extend(difference.services_added.iter().map(|(service, grant)| (service.clone(), Arc::clone(grant))));
    for (service, change) in &difference.services_changed {
        apply_grant(Arc::make_mut(document.services.entry(service.clone()).or_default()), change);
    }
    document.limits.retain(|limit, _| !difference.limits_removed.contains(limit));
    let values = difference.limits_added.iter().chain(&difference.limits_changed);
    document.limits.extend(values.map(|(limit, value)| (limit.clone(), *value)));
    document
}

fn diff_grant(from: &ServiceGrant, to: &ServiceGrant) -> GrantDiff {
    GrantDiff {
        features_added: to.features.difference(&from.features).cloned().collect(),
        features_removed: from.features.difference(&to.features).cloned().collect(),
        familiarity: (from.familiarity != to.familiarity).then_some(to.familiarity),
    }
}

fn apply_grant(grant: &mut ServiceGrant, change: &GrantDiff) {
    grant.features.retain(|feature| !change.features_removed.contains(feature));
    grant.features.extend(change.features_added.iter().cloned());
    if let Some(familiarity) = change.familiarity {
        grant.familiarity = familiarity;
    }
}

/// The keys of `from` that `to` does not have.
fn missing<K: Ord + Clone, V>(from: &BTreeMap<K, V>, to: &BTreeMap<K, V>) -> BTreeSet<K> {
    from.keys().filter(|key| !to.contains_key(*key)).cloned().collect()
}
