//! How events make the next tenant. Total: an event that cannot follow leaves the state as it is, and nothing follows a
//! deletion.
//!
//! `recorded_through` moves with every event to the event's time, because every append records first what is due (see
//! `schedule.rs`). References are kept for what the next state names: the newest seq known of each, from this event or
//! from before; what is no longer named is dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Overrides, PlanChoice, ScheduledChange, StatedChange, Subscription, Tenant, TenantDocument, TenantState};
use crate::aggregate::{Recorded, References};
use crate::ids::PlanId;
use crate::stream::Seq;
use crate::time::Timestamp;
use crate::value::{LabelKey, LabelValue, OverrideTarget, Reason, Title};

pub(super) fn evolve(state: TenantState, recorded: &Recorded<Event>) -> TenantState {
    let at = recorded.at;
    let mut tenant = match (state.0, &recorded.event) {
        (None, Event::Created { title, labels, choice, starts, trial_until, pending }) => {
            let mut tenant = blank(title, labels, choice, at);
            tenant.pending = *pending;
            tenant.subscription.starts = *starts;
            tenant.subscription.trial_until = *trial_until;
            note_trial(&mut tenant);
            tenant
        }
        (None, Event::Stated(document)) => {
            let mut tenant = blank(&document.title, &document.labels, &document.choice, at);
            state_document(&mut tenant, document, at);
            tenant
        }
        (None, _) => return TenantState(None),
        (Some(mut tenant), event) => {
            if tenant.deleted_at.is_some() || !follow(&mut tenant, event, at) {
                return TenantState(Some(tenant));
            }
            tenant
        }
    };
    refer(&mut tenant, &recorded.references);
    TenantState(Some(tenant))
}

/// Changes `tenant` as `event` at `at` says. `false`: it cannot follow, and nothing changed. References are not touched.
pub(super) fn follow(tenant: &mut Tenant, event: &Event, at: Timestamp) -> bool {
    let followed = match event {
        Event::Created { .. } | Event::CommandSettled(_) => false,
        Event::Stated(document) => {
            state_document(tenant, document, at);
            true
        }
        Event::Updated { title, labels } => {
            tenant.title = title.clone();
            tenant.labels = labels.clone();
            true
        }
        Event::Activated => std::mem::replace(&mut tenant.pending, false),
        Event::Suspended { reason, effective_at } => {
            tenant.suspensions.insert(reason.clone(), *effective_at);
            true
        }
        Event::Resumed(reasons) => resume(tenant, reasons),
        Event::Deleted => {
            delete(tenant, at);
            true
        }
        // Markers: the edge stands in the state, only `recorded_through` moves.
        Event::SubscriptionStarted | Event::SubscriptionEnded | Event::TrialLapsed | Event::SuspensionTookEffect(_) => true,
        Event::PlanChanged(_)
        | Event::PlanChangeScheduled(_)
        | Event::ScheduledChangeCancelled(_)
        | Event::ScheduledChangeApplied(_)
        | Event::SubscriptionCancelled(_)
        | Event::SubscriptionRenewed
        | Event::TrialStarted { .. }
        | Event::TrialConverted
        | Event::TrialEnded => follow_subscription(tenant, event, at),
        Event::AddOnAttached { .. }
        | Event::AddOnDetached(_)
        | Event::AccessOverridden(..)
        | Event::LimitOverridden(..)
        | Event::OverrideRemoved(_)
        | Event::OverrideExpired(_)
        | Event::FamiliaritySet(..) => follow_extras(tenant, event),
    };
    if followed {
        tenant.updated_at = tenant.updated_at.max(at);
        tenant.recorded_through = tenant.recorded_through.max(at);
    }
    followed
}

/// The events about plan, trial and end.
fn follow_subscription(tenant: &mut Tenant, event: &Event, at: Timestamp) -> bool {
    let subscription = &mut tenant.subscription;
    match event {
        Event::PlanChanged(choice) => {
            change_plan(subscription, choice.clone());
            true
        }
        Event::PlanChangeScheduled(change) => {
            let fresh = change.id > tenant.last_change_id;
            if fresh {
                tenant.last_change_id = change.id;
                let position = subscription.scheduled.partition_point(|known| known.at <= change.at);
                subscription.scheduled.insert(position, change.clone());
            }
            fresh
        }
        Event::ScheduledChangeCancelled(id) => take_change(subscription, *id).is_some(),
        Event::ScheduledChangeApplied(id) => match take_change(subscription, *id) {
            Some(change) => {
                change_plan(subscription, change.choice);
                true
            }
            None => false,
        },
        Event::SubscriptionCancelled(cancel_at) => {
            subscription.cancel_at = Some(*cancel_at);
            true
        }
        Event::SubscriptionRenewed => subscription.cancel_at.take().is_some(),
        Event::TrialStarted { until } => {
            subscription.trial_until = Some(*until);
            note_trial(tenant);
            true
        }
        Event::TrialConverted => subscription.trial_until.take().is_some(),
        Event::TrialEnded => {
            let in_trial = subscription.trial_until.is_some();
            if in_trial {
                subscription.trial_until = Some(at);
            }
            in_trial
        }
        _ => false,
    }
}

/// The events about add-ons, overrides and familiarity.
fn follow_extras(tenant: &mut Tenant, event: &Event) -> bool {
    match event {
        Event::AddOnAttached { add_on, attached } => {
            tenant.add_ons.insert(add_on.clone(), attached.clone());
            true
        }
        Event::AddOnDetached(add_on) => tenant.add_ons.remove(add_on).is_some(),
        Event::AccessOverridden(target, access) => {
            tenant.overrides.access.insert(target.clone(), access.clone());
            true
        }
        Event::LimitOverridden(limit, value) => {
            tenant.overrides.limits.insert(limit.clone(), value.clone());
            true
        }
        Event::OverrideRemoved(target) | Event::OverrideExpired(target) => match target {
            OverrideTarget::Access(target) => tenant.overrides.access.remove(target).is_some(),
            OverrideTarget::Limit(limit) => tenant.overrides.limits.remove(limit).is_some(),
        },
        Event::FamiliaritySet(service, Some(familiarity)) => {
            tenant.familiarity.insert(service.clone(), *familiarity);
            true
        }
        Event::FamiliaritySet(service, None) => tenant.familiarity.remove(service).is_some(),
        _ => false,
    }
}

fn blank(title: &Title, labels: &BTreeMap<LabelKey, LabelValue>, choice: &PlanChoice, at: Timestamp) -> Tenant {
    Tenant {
        title: title.clone(),
        labels: labels.clone(),
        pending: false,
        deleted_at: None,
        subscription: blank_subscription(choice.clone()),
        add_ons: BTreeMap::new(),
        overrides: Overrides::default(),
        familiarity: BTreeMap::new(),
        suspensions: BTreeMap::new(),
        trials_used: BTreeSet::new(),
        last_change_id: 0,
        recorded_through: at,
        created_at: at,
        updated_at: at,
        references: References::default(),
    }
}

fn blank_subscription(choice: PlanChoice) -> Subscription {
    Subscription { choice, starts: None, trial_until: None, cancel_at: None, scheduled: Vec::new() }
}

/// Makes the tenant what `stated` means at `at`. What no document has (used trials, change ids) goes on.
fn state_document(tenant: &mut Tenant, stated: &TenantDocument, at: Timestamp) {
    if stated.trial_until.is_some() {
        // Also when a stated plan change of the past has cleared it since.
        tenant.trials_used.insert(stated.choice.plan.clone());
    }
    let document = stated.as_of(at).into_owned();
    let scheduled = number_changes(tenant, document.scheduled);
    tenant.title = document.title;
    tenant.labels = document.labels;
    tenant.pending = document.pending;
    tenant.subscription = Subscription {
        choice: document.choice,
        starts: document.starts,
        trial_until: document.trial_until,
        cancel_at: document.cancel_at,
        scheduled,
    };
    tenant.add_ons = document.add_ons;
    tenant.overrides = document.overrides;
    tenant.familiarity = document.familiarity;
    tenant.suspensions = document.suspensions;
}

/// Gives stated changes their ids: the ones they have when they are the changes the tenant has, new ones otherwise.
fn number_changes(tenant: &mut Tenant, stated: Vec<StatedChange>) -> Vec<ScheduledChange> {
    let known = &tenant.subscription.scheduled;
    let same = known.len() == stated.len() && known.iter().zip(&stated).all(|(k, s)| k.at == s.at && k.choice == s.choice);
    if same {
        return known.clone();
    }
    let mut changes = Vec::with_capacity(stated.len());
    for StatedChange { at, choice } in stated {
        tenant.last_change_id = tenant.last_change_id.saturating_add(1);
        changes.push(ScheduledChange { id: tenant.last_change_id, at, choice });
    }
    changes
}

fn change_plan(subscription: &mut Subscription, choice: PlanChoice) {
    subscription.choice = choice;
    subscription.trial_until = None;
}

fn take_change(subscription: &mut Subscription, id: u32) -> Option<ScheduledChange> {
    let position = subscription.scheduled.iter().position(|change| change.id == id)?;
    Some(subscription.scheduled.remove(position))
}

fn note_trial(tenant: &mut Tenant) {
    if tenant.subscription.trial_until.is_some() {
        tenant.trials_used.insert(tenant.subscription.choice.plan.clone());
    }
}

fn resume(tenant: &mut Tenant, reasons: &BTreeSet<Reason>) -> bool {
    let before = tenant.suspensions.len();
    tenant.suspensions.retain(|reason, _| !reasons.contains(reason));
    tenant.suspensions.len() < before
}

/// Leaves the title, the plan and the stream's times, nothing else.
fn delete(tenant: &mut Tenant, at: Timestamp) {
    let remains = blank(&tenant.title, &BTreeMap::new(), &tenant.subscription.choice, at);
    *tenant = Tenant {
        deleted_at: Some(at),
        recorded_through: tenant.recorded_through,
        created_at: tenant.created_at,
        updated_at: tenant.updated_at,
        references: std::mem::take(&mut tenant.references),
        ..remains
    };
}

/// Keeps the newest known seq of what `tenant` names, with those that came with an event.
fn refer(tenant: &mut Tenant, came: &References) {
    let before = std::mem::take(&mut tenant.references);
    let newest_plan =
        |id: &PlanId| -> Option<(PlanId, Seq)> { Some((id.clone(), *before.plans.get(id).max(came.plans.get(id))?)) };
    // One by one: whoever collects sorts first, and hardly any tenant names a second.
    let (mut plans, mut add_ons) = (BTreeMap::new(), BTreeMap::new());
    plans.extend(tenant.named_plans().filter_map(newest_plan));
    let newest_add_on = |id| Some((Clone::clone(id), *before.add_ons.get(id).max(came.add_ons.get(id))?));
    add_ons.extend(tenant.add_ons.keys().filter_map(newest_add_on));
    tenant.references = References { catalog: before.catalog.max(came.catalog), plans, add_ons };
}
