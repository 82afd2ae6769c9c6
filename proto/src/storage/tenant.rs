//! Stored tenants and their events.

use std::collections::BTreeMap;

use tessera_core::ids::{AddOnId, LimitId, PlanId, ServiceId};
use tessera_core::tenant::{
    AccessOverride, AttachedAddOn, Effect, Event, LimitOverride, Overrides, PlanChoice, ScheduledChange, StatedChange,
    Subscription, Tenant, TenantDocument,
};
use tessera_core::time::Timestamp;
use tessera_core::value::{Familiarity, LabelKey, LabelValue, OverrideTarget, Quantity, Reason, Target, Title};

use super::{StorageError, value};
use crate::generated::storage::{self as stored, override_target, tenant_event};

type Labels = BTreeMap<LabelKey, LabelValue>;

pub(super) fn to_state(tenant: &Tenant) -> stored::Tenant {
    let subscription = &tenant.subscription;
    stored::Tenant {
        title: tenant.title.as_str().to_owned(),
        labels: to_labels(&tenant.labels),
        pending: tenant.pending,
        deleted_at: value::to_optional_instant(tenant.deleted_at),
        choice: Some(to_choice(&subscription.choice)),
        starts: value::to_optional_instant(subscription.starts),
        trial_until: value::to_optional_instant(subscription.trial_until),
        cancel_at: value::to_optional_instant(subscription.cancel_at),
        scheduled: subscription.scheduled.iter().map(to_scheduled).collect(),
        add_ons: tenant.add_ons.iter().map(to_add_on).collect(),
        access_overrides: tenant.overrides.access.iter().map(to_access).collect(),
        limit_overrides: tenant.overrides.limits.iter().map(to_limit).collect(),
        familiarity: tenant.familiarity.iter().map(to_familiarity).collect(),
        suspensions: tenant.suspensions.iter().map(to_suspension).collect(),
        trials_used: tenant.trials_used.iter().map(|plan| plan.as_str().to_owned()).collect(),
        last_change_id: tenant.last_change_id,
        recorded_through: Some(value::to_instant(tenant.recorded_through)),
        created_at: Some(value::to_instant(tenant.created_at)),
        updated_at: Some(value::to_instant(tenant.updated_at)),
        references: value::to_references(&tenant.references),
    }
}

pub(super) fn state(tenant: stored::Tenant) -> Result<Tenant, StorageError> {
    Ok(Tenant {
        title: title(&tenant.title)?,
        labels: labels(tenant.labels)?,
        pending: tenant.pending,
        deleted_at: value::optional_instant(tenant.deleted_at.as_ref(), "deleted_at")?,
        subscription: Subscription {
            choice: choice(tenant.choice)?,
            starts: value::optional_instant(tenant.starts.as_ref(), "starts")?,
            trial_until: value::optional_instant(tenant.trial_until.as_ref(), "trial_until")?,
            cancel_at: value::optional_instant(tenant.cancel_at.as_ref(), "cancel_at")?,
            scheduled: tenant.scheduled.into_iter().map(scheduled).collect::<Result<_, _>>()?,
        },
        add_ons: tenant.add_ons.iter().map(add_on).collect::<Result<_, _>>()?,
        overrides: Overrides {
            access: tenant.access_overrides.into_iter().map(access).collect::<Result<_, _>>()?,
            limits: tenant.limit_overrides.into_iter().map(limit).collect::<Result<_, _>>()?,
        },
        familiarity: familiarities(tenant.familiarity)?,
        suspensions: tenant.suspensions.iter().map(suspension).collect::<Result<_, _>>()?,
        trials_used: tenant.trials_used.iter().map(|plan| PlanId::parse(plan)).collect::<Result<_, _>>()?,
        last_change_id: tenant.last_change_id,
        recorded_through: value::instant(tenant.recorded_through.as_ref(), "recorded_through")?,
        created_at: value::instant(tenant.created_at.as_ref(), "created_at")?,
        updated_at: value::instant(tenant.updated_at.as_ref(), "updated_at")?,
        references: value::references(tenant.references)?,
    })
}

pub(super) fn to_event(event: &Event) -> stored::TenantEvent {
    use tenant_event::Event as Stored;
    let event = match event {
        Event::Created { title, labels, choice, starts, trial_until, pending } => Stored::Created(stored::TenantCreated {
            title: title.as_str().to_owned(),
            labels: to_labels(labels),
            choice: Some(to_choice(choice)),
            starts: value::to_optional_instant(*starts),
            trial_until: value::to_optional_instant(*trial_until),
            pending: *pending,
        }),
        Event::Stated(document) => Stored::Stated(to_document(document)),
        Event::Updated { title, labels } => {
            Stored::Updated(stored::TenantUpdated { title: title.as_str().to_owned(), labels: to_labels(labels) })
        }
        Event::PlanChanged(choice) => Stored::PlanChanged(to_choice(choice)),
        Event::PlanChangeScheduled(change) => Stored::PlanChangeScheduled(to_scheduled(change)),
        Event::ScheduledChangeCancelled(id) => Stored::ScheduledChangeCancelled(*id),
        Event::ScheduledChangeApplied(id) => Stored::ScheduledChangeApplied(*id),
        Event::SubscriptionCancelled(at) => Stored::SubscriptionCancelled(value::to_instant(*at)),
        Event::SubscriptionRenewed => Stored::SubscriptionRenewed(true),
        Event::SubscriptionStarted => Stored::SubscriptionStarted(true),
        Event::SubscriptionEnded => Stored::SubscriptionEnded(true),
        Event::Activated => Stored::Activated(true),
        Event::AddOnAttached { add_on, attached } => Stored::AddOnAttached(to_add_on((add_on, attached))),
        Event::AddOnDetached(id) => Stored::AddOnDetached(id.as_str().to_owned()),
        Event::AccessOverridden(target, set) => Stored::AccessOverridden(to_access((target, set))),
        Event::LimitOverridden(id, set) => Stored::LimitOverridden(to_limit((id, set))),
        Event::OverrideRemoved(target) => Stored::OverrideRemoved(to_override_target(target)),
        Event::OverrideExpired(target) => Stored::OverrideExpired(to_override_target(target)),
        Event::Suspended { reason, effective_at } => Stored::Suspended(to_suspension((reason, effective_at))),
        Event::SuspensionTookEffect(reason) => Stored::SuspensionTookEffect(reason.as_str().to_owned()),
        Event::Resumed(reasons) => {
            Stored::Resumed(stored::Reasons { reasons: reasons.iter().map(|reason| reason.as_str().to_owned()).collect() })
        }
        Event::TrialStarted { until } => Stored::TrialStarted(value::to_instant(*until)),
        Event::TrialConverted => Stored::TrialConverted(true),
        Event::TrialEnded => Stored::TrialEnded(true),
        Event::TrialLapsed => Stored::TrialLapsed(true),
        Event::Deleted => Stored::Deleted(true),
        Event::FamiliaritySet(service, familiarity) => Stored::FamiliaritySet(stored::Familiarity {
            service: service.as_str().to_owned(),
            basis_points: value::to_familiarity(*familiarity),
        }),
        Event::CommandSettled(settled) => Stored::CommandSettled(value::to_settled(settled)),
    };
    stored::TenantEvent { event: Some(event) }
}

pub(super) fn event(event: stored::TenantEvent) -> Result<Event, StorageError> {
    use tenant_event::Event as Stored;
    Ok(match event.event.ok_or_else(|| StorageError::missing("event"))? {
        Stored::Created(created) => Event::Created {
            title: title(&created.title)?,
            labels: labels(created.labels)?,
            choice: choice(created.choice)?,
            starts: value::optional_instant(created.starts.as_ref(), "starts")?,
            trial_until: value::optional_instant(created.trial_until.as_ref(), "trial_until")?,
            pending: created.pending,
        },
        Stored::Stated(stated) => Event::Stated(Box::new(document(stated)?)),
        Stored::Updated(updated) => Event::Updated { title: title(&updated.title)?, labels: labels(updated.labels)? },
        Stored::PlanChanged(changed) => Event::PlanChanged(choice(Some(changed))?),
        Stored::PlanChangeScheduled(change) => Event::PlanChangeScheduled(scheduled(change)?),
        Stored::ScheduledChangeCancelled(id) => Event::ScheduledChangeCancelled(id),
        Stored::ScheduledChangeApplied(id) => Event::ScheduledChangeApplied(id),
        Stored::SubscriptionCancelled(at) => Event::SubscriptionCancelled(value::instant(Some(&at), "subscription_cancelled")?),
        Stored::SubscriptionRenewed(_) => Event::SubscriptionRenewed,
        Stored::SubscriptionStarted(_) => Event::SubscriptionStarted,
        Stored::SubscriptionEnded(_) => Event::SubscriptionEnded,
        Stored::Activated(_) => Event::Activated,
        Stored::AddOnAttached(attached) => {
            let (add_on, attached) = add_on(&attached)?;
            Event::AddOnAttached { add_on, attached }
        }
        Stored::AddOnDetached(id) => Event::AddOnDetached(AddOnId::parse(&id)?),
        Stored::AccessOverridden(set) => {
            let (target, set) = access(set)?;
            Event::AccessOverridden(target, set)
        }
        Stored::LimitOverridden(set) => {
            let (id, set) = limit(set)?;
            Event::LimitOverridden(id, set)
        }
        Stored::OverrideRemoved(target) => Event::OverrideRemoved(override_target(target)?),
        Stored::OverrideExpired(target) => Event::OverrideExpired(override_target(target)?),
        Stored::Suspended(suspended) => {
            let (reason, effective_at) = suspension(&suspended)?;
            Event::Suspended { reason, effective_at }
        }
        Stored::SuspensionTookEffect(text) => Event::SuspensionTookEffect(reason(&text)?),
        Stored::Resumed(resumed) => Event::Resumed(resumed.reasons.iter().map(|text| reason(text)).collect::<Result<_, _>>()?),
        Stored::TrialStarted(until) => Event::TrialStarted { until: value::instant(Some(&until), "trial_started")? },
        Stored::TrialConverted(_) => Event::TrialConverted,
        Stored::TrialEnded(_) => Event::TrialEnded,
        Stored::TrialLapsed(_) => Event::TrialLapsed,
        Stored::Deleted(_) => Event::Deleted,
        Stored::FamiliaritySet(set) => {
            Event::FamiliaritySet(ServiceId::parse(&set.service)?, value::familiarity(set.basis_points)?)
        }
        Stored::CommandSettled(settled) => Event::CommandSettled(value::settled(settled)?),
    })
}

fn to_document(document: &TenantDocument) -> stored::TenantDocument {
    stored::TenantDocument {
        title: document.title.as_str().to_owned(),
        labels: to_labels(&document.labels),
        pending: document.pending,
        choice: Some(to_choice(&document.choice)),
        starts: value::to_optional_instant(document.starts),
        trial_until: value::to_optional_instant(document.trial_until),
        cancel_at: value::to_optional_instant(document.cancel_at),
        scheduled: document
            .scheduled
            .iter()
            .map(|change| stored::ScheduledChange {
                id: 0,
                at: Some(value::to_instant(change.at)),
                choice: Some(to_choice(&change.choice)),
            })
            .collect(),
        add_ons: document.add_ons.iter().map(to_add_on).collect(),
        access_overrides: document.overrides.access.iter().map(to_access).collect(),
        limit_overrides: document.overrides.limits.iter().map(to_limit).collect(),
        familiarity: document.familiarity.iter().map(to_familiarity).collect(),
        suspensions: document.suspensions.iter().map(to_suspension).collect(),
    }
}

fn document(document: stored::TenantDocument) -> Result<TenantDocument, StorageError> {
    let stated = |change: stored::ScheduledChange| -> Result<StatedChange, StorageError> {
        Ok(StatedChange { at: value::instant(change.at.as_ref(), "at")?, choice: choice(change.choice)? })
    };
    Ok(TenantDocument {
        title: title(&document.title)?,
        labels: labels(document.labels)?,
        pending: document.pending,
        choice: choice(document.choice)?,
        starts: value::optional_instant(document.starts.as_ref(), "starts")?,
        trial_until: value::optional_instant(document.trial_until.as_ref(), "trial_until")?,
        cancel_at: value::optional_instant(document.cancel_at.as_ref(), "cancel_at")?,
        scheduled: document.scheduled.into_iter().map(stated).collect::<Result<_, _>>()?,
        add_ons: document.add_ons.iter().map(add_on).collect::<Result<_, _>>()?,
        overrides: Overrides {
            access: document.access_overrides.into_iter().map(access).collect::<Result<_, _>>()?,
            limits: document.limit_overrides.into_iter().map(limit).collect::<Result<_, _>>()?,
        },
        familiarity: familiarities(document.familiarity)?,
        suspensions: document.suspensions.iter().map(suspension).collect::<Result<_, _>>()?,
    })
}

fn title(text: &str) -> Result<Title, StorageError> {
    Ok(Title::parse("a title", text)?)
}

fn reason(text: &str) -> Result<Reason, StorageError> {
    Ok(Reason::parse("a reason", text)?)
}

fn to_labels(labels: &Labels) -> Vec<stored::Label> {
    let label =
        |(key, value): (&LabelKey, &LabelValue)| stored::Label { key: key.as_str().to_owned(), value: value.as_str().to_owned() };
    labels.iter().map(label).collect()
}

fn labels(labels: Vec<stored::Label>) -> Result<Labels, StorageError> {
    let label = |label: stored::Label| -> Result<(LabelKey, LabelValue), StorageError> {
        Ok((LabelKey::parse("a label key", &label.key)?, LabelValue::parse("a label value", &label.value)?))
    };
    labels.into_iter().map(label).collect()
}

fn to_choice(choice: &PlanChoice) -> stored::PlanChoice {
    stored::PlanChoice { plan: choice.plan.as_str().to_owned(), version: value::to_version(choice.version) }
}

fn choice(choice: Option<stored::PlanChoice>) -> Result<PlanChoice, StorageError> {
    let choice = choice.ok_or_else(|| StorageError::missing("choice"))?;
    Ok(PlanChoice { plan: PlanId::parse(&choice.plan)?, version: value::version(choice.version) })
}

fn to_scheduled(change: &ScheduledChange) -> stored::ScheduledChange {
    stored::ScheduledChange { id: change.id, at: Some(value::to_instant(change.at)), choice: Some(to_choice(&change.choice)) }
}

fn scheduled(change: stored::ScheduledChange) -> Result<ScheduledChange, StorageError> {
    Ok(ScheduledChange { id: change.id, at: value::instant(change.at.as_ref(), "at")?, choice: choice(change.choice)? })
}

fn to_add_on((id, attached): (&AddOnId, &AttachedAddOn)) -> stored::AddOn {
    stored::AddOn { id: id.as_str().to_owned(), quantity: attached.quantity.get(), version: value::to_version(attached.version) }
}

fn add_on(add_on: &stored::AddOn) -> Result<(AddOnId, AttachedAddOn), StorageError> {
    let quantity = Quantity::new(i64::from(add_on.quantity))?;
    Ok((AddOnId::parse(&add_on.id)?, AttachedAddOn { quantity, version: value::version(add_on.version) }))
}

fn to_access((target, set): (&Target, &AccessOverride)) -> stored::AccessOverride {
    stored::AccessOverride {
        target: Some(value::to_target(target)),
        grant: set.effect == Effect::Grant,
        until: value::to_optional_instant(set.until),
        reason: set.reason.as_str().to_owned(),
    }
}

fn access(set: stored::AccessOverride) -> Result<(Target, AccessOverride), StorageError> {
    let effect = if set.grant { Effect::Grant } else { Effect::Deny };
    let until = value::optional_instant(set.until.as_ref(), "until")?;
    Ok((value::target(set.target)?, AccessOverride { effect, until, reason: reason(&set.reason)? }))
}

fn to_limit((id, set): (&LimitId, &LimitOverride)) -> stored::LimitOverride {
    stored::LimitOverride {
        value: Some(value::to_limit(id, set.value)),
        until: value::to_optional_instant(set.until),
        reason: set.reason.as_str().to_owned(),
    }
}

fn limit(set: stored::LimitOverride) -> Result<(LimitId, LimitOverride), StorageError> {
    let (id, given) = value::limit(&set.value.ok_or_else(|| StorageError::missing("value"))?)?;
    let until = value::optional_instant(set.until.as_ref(), "until")?;
    Ok((id, LimitOverride { value: given, until, reason: reason(&set.reason)? }))
}

fn to_override_target(target: &OverrideTarget) -> stored::OverrideTarget {
    let target = match target {
        OverrideTarget::Access(target) => override_target::Target::Access(value::to_target(target)),
        OverrideTarget::Limit(id) => override_target::Target::Limit(id.as_str().to_owned()),
    };
    stored::OverrideTarget { target: Some(target) }
}

fn override_target(target: stored::OverrideTarget) -> Result<OverrideTarget, StorageError> {
    Ok(match target.target.ok_or_else(|| StorageError::missing("target"))? {
        override_target::Target::Access(target) => OverrideTarget::Access(value::target(Some(target))?),
        override_target::Target::Limit(id) => OverrideTarget::Limit(LimitId::parse(&id)?),
    })
}

fn to_familiarity((service, familiarity): (&ServiceId, &Familiarity)) -> stored::Familiarity {
    stored::Familiarity { service: service.as_str().to_owned(), basis_points: value::to_familiarity(Some(*familiarity)) }
}

fn familiarities(list: Vec<stored::Familiarity>) -> Result<BTreeMap<ServiceId, Familiarity>, StorageError> {
    let entry = |entry: stored::Familiarity| -> Result<(ServiceId, Familiarity), StorageError> {
        let familiarity =
            value::familiarity(entry.basis_points)?.ok_or_else(|| StorageError::field("basis_points", "it is 0"))?;
        Ok((ServiceId::parse(&entry.service)?, familiarity))
    };
    list.into_iter().map(entry).collect()
}

fn to_suspension((reason, effective_at): (&Reason, &Timestamp)) -> stored::Suspension {
    stored::Suspension { reason: reason.as_str().to_owned(), effective_at: Some(value::to_instant(*effective_at)) }
}

fn suspension(suspension: &stored::Suspension) -> Result<(Reason, Timestamp), StorageError> {
    Ok((reason(&suspension.reason)?, value::instant(suspension.effective_at.as_ref(), "effective_at")?))
}
