//! Generators of tenants, and of what is asked of them and happens to them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::{of, weighted};
use proptest::prelude::*;

use super::value::{self, Names};
use super::world::{references, settled};
use crate::tenant::{
    AccessOverride, Action, AttachedAddOn, ChangeId, Command, Effect, Event, LimitOverride, Overrides, PlanChoice,
    ScheduledChange, StateMode, StatedChange, Subscription, Tenant, TenantDocument,
};
use crate::time::Timestamp;
use crate::value::{LabelKey, LabelValue, VersionChoice};

/// A plan and which version of it.
pub fn plan_choice(names: Names) -> BoxedStrategy<PlanChoice> {
    (value::plan_id(names), prop_oneof![2 => Just(VersionChoice::Latest), 1 => value::version_choice()])
        .prop_map(|(plan, version)| PlanChoice { plan, version })
        .boxed()
}

fn time() -> BoxedStrategy<Option<Timestamp>> {
    weighted(0.3, value::timestamp()).boxed()
}

fn labels() -> BoxedStrategy<BTreeMap<LabelKey, LabelValue>> {
    btree_map(value::label_key(), value::label_value(), 0..3).boxed()
}

fn attached() -> BoxedStrategy<AttachedAddOn> {
    (value::quantity(), prop_oneof![2 => Just(VersionChoice::Latest), 1 => value::version_choice()])
        .prop_map(|(quantity, version)| AttachedAddOn { quantity, version })
        .boxed()
}

/// An override of access.
pub fn access_override() -> BoxedStrategy<AccessOverride> {
    (prop_oneof![Just(Effect::Grant), Just(Effect::Deny)], time(), value::reason())
        .prop_map(|(effect, until, reason)| AccessOverride { effect, until, reason })
        .boxed()
}

/// An override of a limit.
pub fn limit_override() -> BoxedStrategy<LimitOverride> {
    (value::limit_value(), time(), value::reason())
        .prop_map(|(value, until, reason)| LimitOverride { value, until, reason })
        .boxed()
}

fn overrides(names: Names) -> BoxedStrategy<Overrides> {
    let access = btree_map(value::target(names), access_override(), 0..4);
    let limits = btree_map(value::limit_id(names), limit_override(), 0..3);
    (access, limits).prop_map(|(access, limits)| Overrides { access, limits }).boxed()
}

/// A whole tenant as a document states it, with any times, in any order.
pub fn tenant_document(names: Names) -> BoxedStrategy<TenantDocument> {
    let change = (value::timestamp(), plan_choice(names)).prop_map(|(at, choice)| StatedChange { at, choice });
    (
        (value::title(), labels(), proptest::bool::weighted(0.1)),
        plan_choice(names),
        (time(), time(), time()),
        vec(change, 0..3),
        btree_map(value::add_on_id(names), attached(), 0..3),
        overrides(names),
        btree_map(value::service_id(names), value::familiarity(), 0..3),
        btree_map(value::reason(), value::timestamp(), 0..4),
    )
        .prop_map(|(names, choice, times, scheduled, add_ons, overrides, familiarity, suspensions)| {
            let (title, labels, pending) = names;
            let (starts, trial_until, cancel_at) = times;
            TenantDocument {
                title,
                labels,
                pending,
                choice,
                starts,
                trial_until,
                cancel_at,
                scheduled,
                add_ons,
                overrides,
                familiarity,
                suspensions,
            }
        })
        .boxed()
}

/// A tenant, now and then a deleted one. Its times are any: edges may be long over, or never come.
pub fn tenant(names: Names) -> BoxedStrategy<Tenant> {
    let history = (
        btree_set(value::plan_id(names), 0..3),
        0..100_u32,
        (value::timestamp(), value::timestamp(), value::timestamp()),
        proptest::bool::weighted(0.05),
    );
    (tenant_document(names), history, references())
        .prop_map(|(document, (trials_used, ids_before, times, deleted), references)| {
            let (a, b, recorded_through) = times;
            let (scheduled, last_change_id) = number(document.scheduled, ids_before);
            let living = Tenant {
                title: document.title,
                labels: document.labels,
                pending: document.pending,
                deleted_at: None,
                subscription: Subscription {
                    choice: document.choice,
                    starts: document.starts,
                    trial_until: document.trial_until,
                    cancel_at: document.cancel_at,
                    scheduled,
                },
                add_ons: document.add_ons,
                overrides: document.overrides,
                familiarity: document.familiarity,
                suspensions: document.suspensions,
                trials_used,
                last_change_id,
                recorded_through,
                created_at: a.min(b),
                updated_at: a.max(b),
                references,
            };
            if deleted { deleted_tenant(living, a.max(b)) } else { living }
        })
        .boxed()
}

fn number(mut stated: Vec<StatedChange>, ids_before: ChangeId) -> (Vec<ScheduledChange>, ChangeId) {
    stated.sort_by_key(|change| change.at);
    let ids = ids_before.saturating_add(1)..;
    let scheduled: Vec<_> =
        stated.into_iter().zip(ids).map(|(change, id)| ScheduledChange { id, at: change.at, choice: change.choice }).collect();
    let last = scheduled.last().map_or(ids_before, |change| change.id);
    (scheduled, last)
}

fn deleted_tenant(living: Tenant, at: Timestamp) -> Tenant {
    let subscription = Subscription {
        choice: living.subscription.choice,
        starts: None,
        trial_until: None,
        cancel_at: None,
        scheduled: Vec::new(),
    };
    Tenant {
        labels: BTreeMap::new(),
        pending: false,
        deleted_at: Some(at),
        subscription,
        add_ons: BTreeMap::new(),
        overrides: Overrides::default(),
        familiarity: BTreeMap::new(),
        suspensions: BTreeMap::new(),
        trials_used: BTreeSet::new(),
        last_change_id: 0,
        ..living
    }
}

/// Something asked of a tenant.
pub fn tenant_action(names: Names) -> BoxedStrategy<Action> {
    let create =
        ((value::title(), labels()), plan_choice(names), time(), of(value::trial_length_asked()), any::<bool>()).prop_map(
            |((title, labels), choice, starts, trial, pending)| Action::Create { title, labels, choice, starts, trial, pending },
        );
    let mode = prop_oneof![3 => Just(StateMode::Upsert), 1 => Just(StateMode::CreateOnly)];
    let state = (tenant_document(names), btree_set(value::reason(), 0..=2), mode)
        .prop_map(|(document, suspended, mode)| Action::State { document: Box::new(document), suspended, mode });
    let whole = prop_oneof![create, state, Just(Action::RecordDue), Just(Action::Delete)];
    prop_oneof![2 => whole, 3 => subscription_action(names), 3 => extras_action(names), 2 => standing_action()].boxed()
}

fn subscription_action(names: Names) -> BoxedStrategy<Action> {
    prop_oneof![
        3 => (plan_choice(names), time()).prop_map(|(choice, at)| Action::ChangePlan { choice, at }),
        1 => (0..5_u32).prop_map(Action::CancelScheduledChange),
        1 => time().prop_map(Action::CancelSubscription),
        1 => Just(Action::RenewSubscription),
        1 => value::trial_length_asked().prop_map(Action::StartTrial),
        1 => any::<bool>().prop_map(|convert| Action::EndTrial { convert }),
    ]
    .boxed()
}

fn extras_action(names: Names) -> BoxedStrategy<Action> {
    let familiarity = (value::service_id(names), of(value::familiarity()));
    prop_oneof![
        2 => (value::add_on_id(names), attached()).prop_map(|(add_on, attached)| Action::AttachAddOn { add_on, attached }),
        1 => value::add_on_id(names).prop_map(Action::DetachAddOn),
        2 => (value::target(names), access_override()).prop_map(|(target, access)| Action::OverrideAccess(target, access)),
        2 => (value::limit_id(names), limit_override()).prop_map(|(limit, value)| Action::OverrideLimit(limit, value)),
        1 => value::override_target(names).prop_map(Action::RemoveOverride),
        1 => familiarity.prop_map(|(service, value)| Action::SetFamiliarity(service, value)),
    ]
    .boxed()
}

fn standing_action() -> BoxedStrategy<Action> {
    prop_oneof![
        (of(value::title()), of(labels())).prop_map(|(title, labels)| Action::Update { title, labels }),
        Just(Action::Activate),
        (value::reason(), time()).prop_map(|(reason, effective_at)| Action::Suspend { reason, effective_at }),
        btree_set(value::reason(), 0..4).prop_map(Action::Resume),
    ]
    .boxed()
}

/// Something asked of some tenant.
pub fn tenant_command(names: Names) -> BoxedStrategy<Command> {
    (value::tenant_id(), tenant_action(names)).prop_map(|(tenant, action)| Command { tenant, action }).boxed()
}

/// Something that may have happened to some tenant.
pub fn tenant_event(names: Names) -> BoxedStrategy<Event> {
    let created = (value::title(), labels(), plan_choice(names), time(), time(), any::<bool>()).prop_map(
        |(title, labels, choice, starts, trial_until, pending)| Event::Created {
            title,
            labels,
            choice,
            starts,
            trial_until,
            pending,
        },
    );
    let whole = prop_oneof![
        4 => created,
        4 => tenant_document(names).prop_map(|document| Event::Stated(Box::new(document))),
        1 => Just(Event::Deleted),
        1 => settled().prop_map(Event::CommandSettled),
    ];
    prop_oneof![2 => whole, 3 => subscription_event(names), 3 => extras_event(names), 2 => standing_event()].boxed()
}

fn subscription_event(names: Names) -> BoxedStrategy<Event> {
    let change = (1..6_u32, value::timestamp(), plan_choice(names))
        .prop_map(|(id, at, choice)| Event::PlanChangeScheduled(ScheduledChange { id, at, choice }));
    prop_oneof![
        plan_choice(names).prop_map(Event::PlanChanged),
        change,
        (1..6_u32).prop_map(Event::ScheduledChangeCancelled),
        (1..6_u32).prop_map(Event::ScheduledChangeApplied),
        value::timestamp().prop_map(Event::SubscriptionCancelled),
        Just(Event::SubscriptionRenewed),
        Just(Event::SubscriptionStarted),
        Just(Event::SubscriptionEnded),
        value::timestamp().prop_map(|until| Event::TrialStarted { until }),
        Just(Event::TrialConverted),
        Just(Event::TrialEnded),
        Just(Event::TrialLapsed),
    ]
    .boxed()
}

fn extras_event(names: Names) -> BoxedStrategy<Event> {
    let familiarity = (value::service_id(names), of(value::familiarity()));
    prop_oneof![
        (value::add_on_id(names), attached()).prop_map(|(add_on, attached)| Event::AddOnAttached { add_on, attached }),
        value::add_on_id(names).prop_map(Event::AddOnDetached),
        (value::target(names), access_override()).prop_map(|(target, access)| Event::AccessOverridden(target, access)),
        (value::limit_id(names), limit_override()).prop_map(|(limit, value)| Event::LimitOverridden(limit, value)),
        value::override_target(names).prop_map(Event::OverrideRemoved),
        value::override_target(names).prop_map(Event::OverrideExpired),
        familiarity.prop_map(|(service, value)| Event::FamiliaritySet(service, value)),
    ]
    .boxed()
}

fn standing_event() -> BoxedStrategy<Event> {
    prop_oneof![
        (value::title(), labels()).prop_map(|(title, labels)| Event::Updated { title, labels }),
        Just(Event::Activated),
        (value::reason(), value::timestamp()).prop_map(|(reason, effective_at)| Event::Suspended { reason, effective_at }),
        value::reason().prop_map(Event::SuspensionTookEffect),
        btree_set(value::reason(), 0..4).prop_map(Event::Resumed),
    ]
    .boxed()
}
