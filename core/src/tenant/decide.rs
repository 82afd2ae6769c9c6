//! What a command makes happen to a tenant, or why it is refused. The topics have a file each.
//!
//! Every command is decided on the tenant as it stands at the event time: what is due is recorded first (see `schedule.rs`),
//! then come the command's own events. A command that changes nothing is an empty list even when something is due; the
//! timer records that. An edge that has passed is as if applied for every rule: an expired override is absent (removing it is
//! allowed all the same, and records its end), and a plan change that is due can no longer be cancelled.

mod add_on;
mod create;
mod exceptions;
mod offers;
mod standing;
mod subscription;

use std::collections::BTreeSet;

use super::{Action, Command, Event, StateMode, Tenant, TenantState, TrialLength, schedule};
use crate::aggregate::Context;
use crate::ids::{AddOnId, PlanId, TenantId};
use crate::rejection::Rejection;
use crate::stream::StreamId;
use crate::value::OverrideTarget;

/// The plans and add-ons that [`decide`] looks up.
pub(super) fn references(state: &TenantState, action: &Action) -> BTreeSet<StreamId> {
    let plan = |id: &PlanId| StreamId::Plan(id.clone());
    let add_on = |id: &AddOnId| StreamId::AddOn(id.clone());
    match action {
        Action::Create { choice, .. } | Action::ChangePlan { choice, .. } => BTreeSet::from([plan(&choice.plan)]),
        Action::State { document, .. } => {
            let mut names = BTreeSet::from([plan(&document.choice.plan)]);
            names.extend(document.scheduled.iter().map(|change| plan(&change.choice.plan)));
            names.extend(document.add_ons.keys().map(add_on));
            names
        }
        Action::AttachAddOn { add_on: id, .. } => BTreeSet::from([add_on(id)]),
        // Which plan it is on when the trial starts depends on the time.
        Action::StartTrial(TrialLength::OfPlan) => state.0.iter().flat_map(Tenant::named_plans).map(plan).collect(),
        _ => BTreeSet::new(),
    }
}

pub(super) fn decide(state: &TenantState, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    let id = &command.tenant;
    match &state.0 {
        None => decide_unborn(id, &command.action, context),
        Some(tenant) if tenant.deleted_at.is_some() => decide_deleted(id, &command.action),
        Some(tenant) => decide_living(tenant, id, &command.action, context),
    }
}

fn decide_unborn(id: &TenantId, action: &Action, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    match action {
        Action::Create { title, labels, choice, starts, trial, pending } => {
            let asked = create::Asked { title, labels, choice, starts: *starts, trial: *trial, pending: *pending };
            create::create(&asked, context)
        }
        Action::State { document, suspended, .. } => create::state(None, (document, suspended), context),
        Action::RecordDue => Ok(Vec::new()),
        _ => Err(Rejection::not_found("TENANT_NOT_FOUND", format!("tenant `{id}` does not exist"))),
    }
}

fn decide_deleted(id: &TenantId, action: &Action) -> Result<Vec<Event>, Rejection> {
    let message = format!("tenant `{id}` was deleted; tenant ids are never used again");
    match action {
        Action::Create { .. } | Action::State { mode: StateMode::CreateOnly, .. } => {
            Err(Rejection::exists("TENANT_EXISTS", message))
        }
        Action::RecordDue => Ok(Vec::new()),
        _ => Err(Rejection::not_found("TENANT_NOT_FOUND", message)),
    }
}

fn decide_living(tenant: &Tenant, id: &TenantId, action: &Action, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    let mut events = schedule::due(tenant, context.now);
    if matches!(action, Action::RecordDue) || removes_expired(action, &events) {
        return Ok(events);
    }
    let current = schedule::with(tenant, &events, context.now);
    let own = decide_action(&current, id, action, context)?;
    if own.is_empty() {
        return Ok(Vec::new());
    }
    events.extend(own);
    Ok(events)
}

/// Whether the command asks to remove an override whose end is about to be recorded: that is what it wants.
fn removes_expired(action: &Action, due: &[Event]) -> bool {
    let Action::RemoveOverride(wanted) = action else { return false };
    due.iter().any(|event| matches!(event, Event::OverrideExpired(expired) if expired == wanted))
}

fn decide_action(tenant: &Tenant, id: &TenantId, action: &Action, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    match action {
        Action::Create { .. } | Action::State { mode: StateMode::CreateOnly, .. } => {
            Err(Rejection::exists("TENANT_EXISTS", format!("tenant `{id}` exists already")))
        }
        Action::State { document, suspended, mode: StateMode::Upsert } => {
            create::state(Some(tenant), (document, suspended), context)
        }

        Action::ChangePlan { choice, at } => subscription::change_plan(tenant, choice, *at, context),
        Action::CancelScheduledChange(change) => subscription::cancel_scheduled_change(tenant, *change),
        Action::CancelSubscription(at) => subscription::cancel(tenant, *at, context.now),
        Action::RenewSubscription => subscription::renew(tenant),
        Action::StartTrial(length) => subscription::start_trial(tenant, *length, context),
        Action::EndTrial { convert } => subscription::end_trial(tenant, *convert, context.now),

        Action::AttachAddOn { add_on, attached } => add_on::attach(tenant, add_on, attached, context),
        Action::DetachAddOn(add_on) => add_on::detach(tenant, add_on),

        Action::OverrideAccess(target, access) => exceptions::override_access(tenant, target, access, context),
        Action::OverrideLimit(limit, value) => exceptions::override_limit(tenant, limit, value, context),
        Action::RemoveOverride(OverrideTarget::Access(target)) => exceptions::remove_access(tenant, target),
        Action::RemoveOverride(OverrideTarget::Limit(limit)) => exceptions::remove_limit(tenant, limit),
        Action::SetFamiliarity(service, value) => exceptions::set_familiarity(tenant, service, *value, context),

        Action::Update { title, labels } => standing::update(tenant, title.as_ref(), labels.as_ref()),
        Action::Activate => standing::activate(tenant),
        Action::Suspend { reason, effective_at } => standing::suspend(tenant, reason, *effective_at, context.now),
        Action::Resume(reasons) => standing::resume(tenant, reasons),
        Action::Delete => Ok(vec![Event::Deleted]),
        // Answered before: what is due has been found already.
        Action::RecordDue => Ok(Vec::new()),
    }
}
