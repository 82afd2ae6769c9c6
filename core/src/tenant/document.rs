//! The tenant as a document: what export writes, and what a stated document is compared with.
//!
//! A document may state the past: plan changes and override ends that have gone by. It then means the tenant that these leave
//! behind ([`TenantDocument::as_of`]), so stating the same document again changes nothing, however much later.

use std::borrow::Cow;

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
    /// the order stated; each clears the trial's end), expired overrides are gone, and what is left is in that order. Most
    /// documents state nothing of the past, and mean what they say.
    #[must_use]
    pub fn as_of(&self, now: Timestamp) -> Cow<'_, Self> {
        if self.is_of(now) {
            return Cow::Borrowed(self);
        }
        let mut document = self.clone();
        document.scheduled.sort_by_key(|change| change.at);
        let due_count = document.scheduled.partition_point(|change| change.at <= now);
        if let Some(last) = document.scheduled.drain(..due_count).next_back() {
            document.choice = last.choice;
            document.trial_until = None;
        }
        document.overrides.access.retain(|_, o| is_live(o.until, now));
        document.overrides.limits.retain(|_, o| is_live(o.until, now));
        Cow::Owned(document)
    }

    /// Whether it states nothing that has gone by at `now`, and its changes in their order.
    fn is_of(&self, now: Timestamp) -> bool {
        self.scheduled.is_sorted_by_key(|change| change.at)
            && self.scheduled.first().is_none_or(|change| change.at > now)
            && self.overrides.access.values().all(|o| is_live(o.until, now))
            && self.overrides.limits.values().all(|o| is_live(o.until, now))
    }
}

/// Whether something that ends at `until` is still there at `now`.
pub(super) fn is_live(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_none_or(|until| until > now)
}
