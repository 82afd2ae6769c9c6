//! What time alone does to a tenant: the edges in its state, in which order they are passed, and when the next one comes.
//!
//! Readers pass an edge by their own clock at its instant; here it is recorded afterwards. **Every append of a tenant begins
//! with the records of all edges up to its time** ([`due`]), whatever the command: so no command can overwrite an edge that
//! was passed but not yet recorded (renewing a subscription after its end still leaves `SubscriptionEnded` in the audit
//! log), and `recorded_through` simply moves with every event to the event's time. An edge that a command itself puts at or
//! before its own time (suspend now, cancel now, a start in the past) is told by that command's event and gets no record of
//! its own. Two kinds of edge change the state besides being recorded, so they are due for as long as they stand in it: a
//! scheduled change is applied, an expired override is removed.
//!
//! Edges of one instant are passed in the order of [`Rank`]: a plan change that takes effect when a trial ends clears the
//! trial first, so that it never lapses.

use std::borrow::Cow;

use super::evolve::follow;
use super::{Event, ScheduledChange, Tenant};
use crate::ids::LimitId;
use crate::time::Timestamp;
use crate::value::{OverrideTarget, Reason, Target};

/// The order of edges of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    PlanChange,
    Start,
    TrialEnd,
    End,
    OverrideEnd,
    Suspension,
}

/// One edge that has not been recorded.
#[derive(Debug, Clone, Copy)]
enum Edge<'a> {
    PlanChange(&'a ScheduledChange),
    Start,
    TrialEnd,
    End,
    AccessOverrideEnd(&'a Target),
    LimitOverrideEnd(&'a LimitId),
    Suspension(&'a Reason),
}

impl Edge<'_> {
    fn rank(self) -> Rank {
        match self {
            Self::PlanChange(_) => Rank::PlanChange,
            Self::Start => Rank::Start,
            Self::TrialEnd => Rank::TrialEnd,
            Self::End => Rank::End,
            Self::AccessOverrideEnd(_) | Self::LimitOverrideEnd(_) => Rank::OverrideEnd,
            Self::Suspension(_) => Rank::Suspension,
        }
    }

    fn record(self) -> Event {
        match self {
            Self::PlanChange(change) => Event::ScheduledChangeApplied(change.id),
            Self::Start => Event::SubscriptionStarted,
            Self::TrialEnd => Event::TrialLapsed,
            Self::End => Event::SubscriptionEnded,
            Self::AccessOverrideEnd(target) => Event::OverrideExpired(OverrideTarget::Access(target.clone())),
            Self::LimitOverrideEnd(limit) => Event::OverrideExpired(OverrideTarget::Limit(limit.clone())),
            Self::Suspension(reason) => Event::SuspensionTookEffect(reason.clone()),
        }
    }
}

/// The events that record what is due at `now`, in the order in which it happened; none when nothing is.
pub fn due(tenant: &Tenant, now: Timestamp) -> Vec<Event> {
    let mut passed: Vec<(Timestamp, Edge<'_>)> = unrecorded(tenant).filter(|(at, _)| *at <= now).collect();
    // Stable: changes of one instant stay in the order of their ids.
    passed.sort_by_key(|(at, edge)| (*at, edge.rank()));
    passed.into_iter().map(|(_, edge)| edge.record()).collect()
}

/// The first instant from `after` on at which [`due`] is not empty: `after` itself when something is due then, `None` when
/// time alone will never record anything again. For the timer that records.
pub fn next_due(tenant: &Tenant, after: Timestamp) -> Option<Timestamp> {
    unrecorded(tenant).map(|(at, _)| at.max(after)).min()
}

/// The tenant as it stands at `now`, with everything due applied: plan changes made, expired overrides gone. What time did to it
/// updated it at the instant of the edge, not when somebody looks.
pub fn at(tenant: &Tenant, now: Timestamp) -> Cow<'_, Tenant> {
    let stands = with(tenant, &due(tenant, now), now);
    let Cow::Owned(mut stands) = stands else { return stands };
    let last_edge = unrecorded(tenant).map(|(at, _)| at).filter(|at| *at <= now).max();
    stands.updated_at = last_edge.map_or(tenant.updated_at, |at| at.max(tenant.updated_at));
    Cow::Owned(stands)
}

/// The tenant after the records `due` at `now`.
pub(super) fn with<'a>(tenant: &'a Tenant, due: &[Event], now: Timestamp) -> Cow<'a, Tenant> {
    if due.is_empty() {
        return Cow::Borrowed(tenant);
    }
    let mut tenant = tenant.clone();
    for event in due {
        follow(&mut tenant, event, now);
    }
    Cow::Owned(tenant)
}

/// Every edge that has no record yet, in no order.
fn unrecorded(tenant: &Tenant) -> impl Iterator<Item = (Timestamp, Edge<'_>)> {
    let subscription = &tenant.subscription;
    let overrides = &tenant.overrides;
    let changes = subscription.scheduled.iter().map(|change| (change.at, Edge::PlanChange(change)));
    let ends_of_access = overrides.access.iter().filter_map(|(target, o)| Some((o.until?, Edge::AccessOverrideEnd(target))));
    let ends_of_limits = overrides.limits.iter().filter_map(|(limit, o)| Some((o.until?, Edge::LimitOverrideEnd(limit))));

    let start = subscription.starts.map(|at| (at, Edge::Start));
    let trial_end = subscription.trial_until.filter(|at| !cleared_before(tenant, *at)).map(|at| (at, Edge::TrialEnd));
    let end = subscription.cancel_at.map(|at| (at, Edge::End));
    let suspensions = tenant.suspensions.iter().map(|(reason, at)| (*at, Edge::Suspension(reason)));
    let markers = [start, trial_end, end].into_iter().flatten().chain(suspensions);

    let living = tenant.deleted_at.is_none();
    changes
        .chain(ends_of_access)
        .chain(ends_of_limits)
        .chain(markers.filter(|(at, _)| *at > tenant.recorded_through))
        .filter(move |_| living)
}

/// Whether a scheduled plan change clears the trial's end before, or when, it is reached.
fn cleared_before(tenant: &Tenant, trial_until: Timestamp) -> bool {
    tenant.subscription.scheduled.iter().any(|change| change.at <= trial_until)
}
