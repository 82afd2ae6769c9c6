//! The first instant at which time alone changes an answer, by trying every one that the tenant mentions.

use std::collections::BTreeSet;

use crate::tenant::Tenant;
use crate::time::Timestamp;

/// The first time after `now`, of all that stand anywhere in `tenant`, at which `differs` says so.
pub(super) fn first_change(tenant: &Tenant, now: Timestamp, differs: impl Fn(Timestamp) -> bool) -> Option<Timestamp> {
    times_of(tenant).into_iter().filter(|time| *time > now).find(|time| differs(*time))
}

fn times_of(tenant: &Tenant) -> BTreeSet<Timestamp> {
    let mut times = BTreeSet::new();
    times.extend(tenant.subscription.starts);
    times.extend(tenant.subscription.trial_until);
    times.extend(tenant.subscription.cancel_at);
    times.extend(tenant.subscription.scheduled.iter().map(|change| change.at));
    times.extend(tenant.suspensions.values());
    times.extend(tenant.overrides.access.values().filter_map(|access| access.until));
    times.extend(tenant.overrides.limits.values().filter_map(|limit| limit.until));
    times
}
