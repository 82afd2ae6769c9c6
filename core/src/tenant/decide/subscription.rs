//! Plan, trial and end of a subscription.
//!
//! Times that are over mean now: only a stated document may rewrite the past. A subscription that has ended comes back by
//! renewal alone, so neither a trial nor a later end can revive it.

use super::offers::{self, Standing};
use crate::aggregate::Context;
use crate::plan::TRIAL_MAX;
use crate::rejection::{Rejection, Violations};
use crate::tenant::{CHANGE_ID_MAX, ChangeId, Event, PlanChoice, SCHEDULED_MAX, ScheduledChange, Tenant, TrialLength};
use crate::time::Timestamp;
use crate::value::VersionChoice;

pub(super) fn change_plan(
    tenant: &Tenant,
    choice: &PlanChoice,
    at: Option<Timestamp>,
    context: &Context<'_>,
) -> Result<Vec<Event>, Rejection> {
    let subscription = &tenant.subscription;
    let later = at.filter(|at| *at > context.now);
    let changes_nothing = match later {
        None => subscription.choice == *choice && subscription.trial_until.is_none(),
        // Only the last change of an instant counts, so repeating that one changes nothing.
        Some(at) => subscription.scheduled.iter().rfind(|c| c.at == at).is_some_and(|c| c.choice == *choice),
    };
    if changes_nothing {
        return Ok(Vec::new());
    }
    offers::check_plan(choice, Standing::of_plan(Some(tenant), &choice.plan), "plan_id", context)?;
    let Some(at) = later else { return Ok(vec![Event::PlanChanged(choice.clone())]) };
    let count = subscription.scheduled.len();
    if count >= SCHEDULED_MAX {
        return Err(too_many_changes(format!("the tenant has {count} scheduled changes; allowed are at most {SCHEDULED_MAX}")));
    }
    check_change_ids(tenant.last_change_id, 1)?;
    let id = tenant.last_change_id.saturating_add(1);
    Ok(vec![Event::PlanChangeScheduled(ScheduledChange { id, at, choice: choice.clone() })])
}

/// Refuses when `count` new changes would need ids beyond the last there is: ids are never used again.
pub(super) fn check_change_ids(last: ChangeId, count: usize) -> Result<(), Rejection> {
    match u32::try_from(count).ok().and_then(|count| last.checked_add(count)).filter(|last| *last <= CHANGE_ID_MAX) {
        Some(_) => Ok(()),
        None => Err(too_many_changes(format!("the tenant has used {last} change ids and has none left for {count} more"))),
    }
}

fn too_many_changes(message: String) -> Rejection {
    Rejection::precondition("TOO_MANY_SCHEDULED_CHANGES", message)
}

pub(super) fn cancel_scheduled_change(tenant: &Tenant, id: ChangeId) -> Result<Vec<Event>, Rejection> {
    if tenant.subscription.scheduled.iter().any(|change| change.id == id) {
        return Ok(vec![Event::ScheduledChangeCancelled(id)]);
    }
    Err(Rejection::not_found(
        "SCHEDULED_CHANGE_NOT_FOUND",
        format!("the tenant has no scheduled change `{id}` to come; it may have taken effect or been cancelled"),
    ))
}

pub(super) fn cancel(tenant: &Tenant, at: Option<Timestamp>, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let at = at.map_or(now, |at| at.max(now));
    match tenant.subscription.cancel_at {
        Some(known) if known == at => Ok(Vec::new()),
        Some(ended) if ended <= now && at <= now => Ok(Vec::new()),
        Some(ended) if ended <= now => Err(ended_already("its end cannot be moved; renew it first")),
        _ => Ok(vec![Event::SubscriptionCancelled(at)]),
    }
}

pub(super) fn renew(tenant: &Tenant) -> Result<Vec<Event>, Rejection> {
    if tenant.subscription.cancel_at.is_none() {
        return Err(Rejection::precondition("NOT_CANCELLED", "the subscription is not cancelled"));
    }
    Ok(vec![Event::SubscriptionRenewed])
}

pub(super) fn start_trial(tenant: &Tenant, length: TrialLength, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    let subscription = &tenant.subscription;
    let choice = &subscription.choice;
    if subscription.cancel_at.is_some_and(|ended| ended <= context.now) {
        return Err(ended_already("renew it before starting a trial"));
    }
    if tenant.trials_used.contains(&choice.plan) {
        let message = format!("the tenant has had a trial of plan `{}`; allowed is one trial of each plan", choice.plan);
        return Err(Rejection::precondition("TRIAL_USED", message));
    }
    let until = trial_end(choice, subscription.starts, length, context)?;
    Ok(vec![Event::TrialStarted { until }])
}

/// When a trial of `choice` that is asked for now ends. It is counted from the subscription's start when that is to come.
pub(super) fn trial_end(
    choice: &PlanChoice,
    starts: Option<Timestamp>,
    length: TrialLength,
    context: &Context<'_>,
) -> Result<Timestamp, Rejection> {
    let duration = match length {
        TrialLength::For(duration) => {
            let mut violations = Violations::default();
            if duration.is_zero() || duration > TRIAL_MAX {
                violations.add("trial", format!("a trial of {duration:?}; allowed is more than 0 and at most 3653 days"));
            }
            violations.into_result()?;
            duration
        }
        TrialLength::OfPlan => {
            let plan =
                offers::plan(context.world, &choice.plan).ok_or_else(|| offers::plan_not_found(&choice.plan, "plan_id"))?;
            let version = match choice.version {
                VersionChoice::Latest => plan.latest(),
                VersionChoice::Pinned(version) => Some(version),
            };
            let published = version
                .and_then(|version| plan.version(version))
                .ok_or_else(|| offers::plan_version_not_found(&choice.plan, plan, choice.version, "plan_id"))?;
            published.document.trial.ok_or_else(|| {
                let message = format!("plan `{}` states no trial length; name one", choice.plan);
                Rejection::precondition("NO_TRIAL_LENGTH", message)
            })?
        }
    };
    let begins = starts.map_or(context.now, |starts| starts.max(context.now));
    Ok(begins.saturating_add(duration))
}

/// A trial that has lapsed can still be converted; ending it again changes nothing.
pub(super) fn end_trial(tenant: &Tenant, convert: bool, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    match tenant.subscription.trial_until {
        None => Err(Rejection::precondition("NOT_IN_TRIAL", "the subscription has no trial to convert or end")),
        Some(_) if convert => Ok(vec![Event::TrialConverted]),
        Some(until) if until <= now => Ok(Vec::new()),
        Some(_) => Ok(vec![Event::TrialEnded]),
    }
}

fn ended_already(hint: &str) -> Rejection {
    Rejection::precondition("SUBSCRIPTION_ENDED", format!("the subscription has ended; {hint}"))
}
