//! The tenant as a document: what export writes, and what a stated document is compared with.
//!
//! A document may state the past: plan changes and override ends that have gone by. It then means the tenant that these leave
//! behind ([`TenantDocument::as_of`]), so stating the same document again changes nothing, however much later.

use super::{StatedChange, Tenant, TenantDocument};
use crate::time::Timestamp;

impl Tenant {
    /// The whole tenant as a document, as it stands (see [`super::schedule::at`] for how it stands at a time).
    pub fn document(&self) -> TenantDocument {
        let subscription = &self.subscription;
        TenantDocument {
            title: self.title.clone(),
            labels: self.labels.clone(),
            pending: self.pending,
            choice: subscription.choice.clone(),
            starts: subscription.starts,
            trial_until: subscription.trial_until,
            cancel_at: subscription.cancel_at,
            scheduled: subscription.scheduled.iter().map(|c| StatedChange { at: c.at, choice: c.choice.clone() }).collect(),
            add_ons: self.add_ons.clone(),
            overrides: self.overrides.clone(),
            familiarity: self.familiarity.clone(),
            suspensions: self.suspensions.clone(),
        }
    }
}

impl TenantDocument {
    /// What the document means at `now`: plan changes that are due have been made (in order of time, those of one instant in
    /// the order stated; each clears the trial's end), expired overrides are gone, and what is left is in that order.
    #[must_use]
    pub fn as_of(&self, now: Timestamp) -> Self {
        let mut document = self.clone();
        document.scheduled.sort_by_key(|change| change.at);
        let due_count = document.scheduled.partition_point(|change| change.at <= now);
        if let Some(last) = document.scheduled.drain(..due_count).next_back() {
            document.choice = last.choice;
            document.trial_until = None;
        }
        document.overrides.access.retain(|_, o| is_live(o.until, now));
        document.overrides.limits.retain(|_, o| is_live(o.until, now));
        document
    }
}

/// Whether something that ends at `until` is still there at `now`.
pub(super) fn is_live(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_none_or(|until| until > now)
}
