//! Where a tenant stands at a time: everything that does not depend on what is asked. Steps 4 and 5, the plan in force, the
//! next instant at which any of it changes.

use super::offer_table::VersionTable;
use super::row::{AccessRow, AddOnRow, Extras, FollowedOffer, TenantRow};
use super::tables::Tables;
use crate::decision::{Reason, Step, TenantStatus};
use crate::time::Timestamp;
use crate::value::Version;

/// A tenant at one time.
#[derive(Debug)]
pub(super) struct Standing<'t> {
    pub(super) tables: &'t Tables,
    pub(super) extras: Option<&'t Extras>,
    pub(super) now: Timestamp,
    /// The plan in force.
    pub(super) plan: FollowedOffer,
    /// Its version; `None` only when row and tables are of different lineages.
    pub(super) version: Option<(Version, &'t VersionTable)>,
    pub(super) status: TenantStatus,
    /// The step that denies everything, when 4 or 5 does.
    pub(super) gate: Option<(Step, Reason)>,
    pub(super) grace_until: Option<Timestamp>,
    /// The trial end that a plan change has not cleared.
    pub(super) trial_until: Option<Timestamp>,
    /// The next plan change.
    pub(super) next_change: Option<(Timestamp, FollowedOffer)>,
    /// The next instant at which any of the above changes.
    pub(super) edge: Option<Timestamp>,
}

impl<'t> Standing<'t> {
    pub(super) fn of(tables: &'t Tables, row: &'t TenantRow, now: Timestamp) -> Self {
        let status = match (row.is_deleted(), row.is_pending()) {
            (true, _) => TenantStatus::Deleted,
            (false, true) => TenantStatus::Pending,
            (false, false) => TenantStatus::Active,
        };
        let mut standing = Self {
            tables,
            extras: row.extras(),
            now,
            plan: row.plan(),
            version: None,
            status,
            gate: None,
            grace_until: None,
            trial_until: None,
            next_change: None,
            edge: None,
        };
        if let Some(extras) = row.extras() {
            standing.apply_due_changes(extras);
            standing.suspend(extras);
            standing.look_ahead(extras);
        }
        let plan = tables.plan_table().get(standing.plan.index);
        standing.version = plan.and_then(|plan| plan.version(standing.plan.choice()));
        standing.gate = standing.gate();
        standing
    }

    fn apply_due_changes(&mut self, extras: &Extras) {
        let due = extras.scheduled.partition_point(|change| change.at <= self.now);
        let (past, coming) = extras.scheduled.split_at_checked(due).unwrap_or((&[], &[]));
        self.trial_until = extras.trial_until;
        if let Some(last) = past.last() {
            self.plan = last.plan;
            self.trial_until = None;
        }
        self.next_change = coming.first().map(|change| (change.at, change.plan));
    }

    fn suspend(&mut self, extras: &Extras) {
        for (_, effective_at) in &extras.suspensions {
            if *effective_at > self.now {
                self.grace_until = earlier(self.grace_until, Some(*effective_at));
            } else if self.status == TenantStatus::Active {
                self.status = TenantStatus::Suspended;
            }
        }
    }

    fn look_ahead(&mut self, extras: &Extras) {
        let edges = [extras.starts, extras.cancel_at, self.trial_until, self.next_change.map(|(at, _)| at), self.grace_until];
        self.edge = edges.into_iter().flatten().filter(|at| *at > self.now).min();
    }

    fn gate(&self) -> Option<(Step, Reason)> {
        match self.status {
            TenantStatus::Deleted => return Some((Step::TenantStatus, Reason::TenantDeleted)),
            TenantStatus::Pending => return Some((Step::TenantStatus, Reason::TenantPending)),
            TenantStatus::Suspended => return Some((Step::TenantStatus, Reason::TenantSuspended)),
            TenantStatus::Active => {}
        }
        let extras = self.extras?;
        let reached = |at: Option<Timestamp>| at.is_some_and(|at| at <= self.now);
        if extras.starts.is_some_and(|starts| starts > self.now) {
            Some((Step::Subscription, Reason::NotStarted))
        } else if reached(extras.cancel_at) {
            Some((Step::Subscription, Reason::SubscriptionEnded))
        } else if reached(self.trial_until) {
            Some((Step::Subscription, Reason::TrialEnded))
        } else {
            None
        }
    }

    /// The attached add-ons by id, each with the version in force.
    pub(super) fn add_ons(&self) -> impl Iterator<Item = (&'t AddOnRow, &'t VersionTable)> + use<'t> {
        let table = self.tables.add_on_table();
        self.extras.map_or(&[][..], |extras| &extras.add_ons).iter().filter_map(|row| {
            let (_, version) = table.get(row.add_on.index)?.version(row.add_on.choice())?;
            Some((row, version))
        })
    }

    /// The access overrides on `service` and its features, that on the service itself first.
    pub(super) fn overrides_of(&self, service: u32) -> &'t [AccessRow] {
        let all = self.extras.map_or(&[][..], |extras| &extras.access);
        let from = all.partition_point(|row| row.service < service);
        let rest = all.get(from..).unwrap_or(&[]);
        rest.get(..rest.partition_point(|row| row.service == service)).unwrap_or(&[])
    }
}

/// The earlier of two instants, where `None` is never.
pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
