//! What holds for tenants, whatever is asked of them and whenever.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use tessera_core::aggregate::{References, World};
use tessera_core::tenant::{Action, Event, StateMode, StatedChange, Tenant, TenantDocument, TenantState, schedule};
use tessera_core::testing::{self, Fold, Names};
use tessera_core::time::Timestamp;

use crate::harness::{Given, references_of};
use crate::laws::once_is_enough;
use crate::words::{acme, day, set};

fn check(tenant: &Tenant) -> Result<(), TestCaseError> {
    let scheduled = &tenant.subscription.scheduled;
    prop_assert!(scheduled.is_sorted_by_key(|change| (change.at, change.id)), "{:?}", scheduled);
    let ids: BTreeSet<u32> = scheduled.iter().map(|change| change.id).collect();
    prop_assert_eq!(ids.len(), scheduled.len());
    prop_assert!(ids.iter().all(|id| (1..=tenant.last_change_id).contains(id)));
    let named: BTreeSet<_> = tenant.named_plans().collect();
    prop_assert!(tenant.references.plans.keys().all(|plan| named.contains(plan)));
    prop_assert!(tenant.references.add_ons.keys().all(|add_on| tenant.add_ons.contains_key(add_on)));
    prop_assert!(tenant.created_at <= tenant.updated_at);
    Ok(())
}

/// Every name has the newest seq there is of it, as every one was read from the same world.
fn check_references(tenant: &Tenant, world: &World) -> Result<(), TestCaseError> {
    let all = references_of(world);
    prop_assert_eq!(tenant.references.catalog, all.catalog);
    for plan in tenant.named_plans() {
        prop_assert_eq!(tenant.references.plans.get(plan), all.plans.get(plan), "{:?}", plan);
    }
    for add_on in tenant.add_ons.keys() {
        prop_assert_eq!(tenant.references.add_ons.get(add_on), all.add_ons.get(add_on), "{:?}", add_on);
    }
    Ok(())
}

fn sorted(mut times: Vec<Timestamp>) -> Vec<Timestamp> {
    times.sort();
    times
}

fn state(document: &TenantDocument) -> Action {
    Action::State { document: Box::new(document.clone()), suspended: BTreeSet::new(), mode: StateMode::Upsert }
}

/// A stream that a stated document began, refusals and all: what a random command meets most.
fn begun(world: &World, document: &TenantDocument) -> Given<TenantState> {
    let empty = Given::state(world, TenantState::default(), day(0));
    empty.when(acme(state(document))).carry_on().1
}

proptest! {
    #[test]
    fn any_events_make_a_tenant(
        events in vec(testing::recorded(testing::tenant_event(Names::Any)), 0..40),
    ) {
        use tessera_core::aggregate::Aggregate as _;
        let mut state = TenantState::default();
        for recorded in &events {
            let before = state.clone();
            state = state.evolve(recorded);
            if matches!(recorded.event, Event::CommandSettled(_)) {
                prop_assert_eq!(&state, &before);
            }
            if let Some(tenant) = &before.0 && tenant.deleted_at.is_some() {
                prop_assert_eq!(&state, &before, "something followed a deletion");
            }
            if let Some(tenant) = &state.0 {
                check(tenant)?;
            }
        }
    }

    #[test]
    fn histories_keep_what_holds(
        world in testing::world(),
        document in testing::tenant_document(Names::Pool),
        actions in vec(testing::tenant_action(Names::Pool), 1..12),
        times in vec(testing::grid_time(), 12),
    ) {
        let mut given = begun(&world, &document);
        for (action, now) in actions.into_iter().zip(sorted(times)) {
            let now = now.max(given.now());
            let (result, after) = once_is_enough(&given.at(now), &acme(action))?;
            given = after;
            let Some(tenant) = &given.get().0 else { continue };
            check(tenant)?;
            check_references(tenant, &world)?;
            if result.is_ok_and(|events| !events.is_empty()) {
                prop_assert_eq!(tenant.recorded_through, now);
                prop_assert_eq!(tenant.updated_at, now);
                prop_assert_eq!(schedule::due(tenant, now), vec![], "left after an append");
            }
        }
    }

    #[test]
    fn a_command_records_what_the_timer_would_have(
        world in testing::world(),
        document in testing::tenant_document(Names::Pool),
        action in testing::tenant_action(Names::Pool),
        now in testing::grid_time(),
    ) {
        let unrecorded = begun(&world, &document).at(now.max(day(0)));
        let (due, recorded) = unrecorded.when(acme(Action::RecordDue)).carry_on();
        let due = due.unwrap();
        let command = acme(action);
        let at_once = unrecorded.when(command.clone()).carry_on().0;
        let after = recorded.when(command.clone()).carry_on().0;
        let removed_by_time = matches!(&command.action, Action::RemoveOverride(target)
            if due.contains(&Event::OverrideExpired(target.clone())));
        if removed_by_time || matches!(command.action, Action::RecordDue) {
            prop_assert_eq!(at_once, Ok(due));
        } else {
            let expected = after.map(|own| if own.is_empty() { own } else { [due, own].concat() });
            prop_assert_eq!(at_once, expected);
        }
    }

    #[test]
    fn recording_in_steps_or_at_once_is_the_same(
        tenant in testing::tenant(Names::Any),
        times in vec(testing::timestamp(), 1..6),
    ) {
        let times = sorted(times);
        let last = times[times.len() - 1];
        let at_once = schedule::due(&tenant, last);
        let mut stepwise = Fold { state: TenantState(Some(tenant.clone())), seq: 1 };
        let mut events = Vec::new();
        for now in &times {
            for event in schedule::due(stepwise.state.0.as_ref().unwrap(), *now) {
                events.push(event.clone());
                stepwise = stepwise.then(*now, &References::default(), event);
            }
        }
        prop_assert_eq!(&events, &at_once);
        let whole = schedule::at(&tenant, last);
        let stepwise = stepwise.state.0.unwrap();
        prop_assert_eq!(whole.document(), stepwise.document());
        prop_assert_eq!(whole.status(last), stepwise.status(last));
    }

    #[test]
    fn the_timer_wakes_when_something_is_due_and_not_before(
        tenant in testing::tenant(Names::Any),
        after in testing::timestamp(),
        probe in testing::timestamp(),
    ) {
        match schedule::next_due(&tenant, after) {
            None => prop_assert_eq!(schedule::due(&tenant, Timestamp::MAX), vec![]),
            Some(at) => {
                prop_assert!(at >= after);
                prop_assert!(!schedule::due(&tenant, at).is_empty());
                if after <= probe && probe < at {
                    prop_assert_eq!(schedule::due(&tenant, probe), vec![]);
                }
                let just_before = Timestamp::from_nanos(at.as_nanos() - 1);
                if let Ok(before) = just_before && before >= after {
                    prop_assert_eq!(schedule::due(&tenant, before), vec![]);
                }
            }
        }
    }

    #[test]
    fn a_document_means_the_same_as_the_tenant_it_describes(
        tenant in testing::tenant(Names::Any),
        now in testing::timestamp(),
    ) {
        prop_assume!(tenant.deleted_at.is_none());
        let later = schedule::at(&tenant, now).document();
        prop_assert_eq!(&tenant.document().as_of(now).into_owned(), &later);
        prop_assert_eq!(&later.as_of(now).into_owned(), &later);
    }

    #[test]
    fn a_stated_tenant_is_its_document(
        world in testing::world(),
        before in testing::tenant_document(Names::Pool),
        document in testing::tenant_document(Names::Pool),
        now in testing::grid_time(),
    ) {
        let now = now.max(day(0));
        let (result, after) = begun(&world, &before).at(now).when(acme(state(&document))).carry_on();
        if result.is_err() {
            return Ok(());
        }
        // A refused first document leaves nothing; an equal one leaves what it means.
        let tenant = schedule::at(after.get().0.as_ref().unwrap(), now).into_owned();
        prop_assert_eq!(tenant.document(), document.as_of(now).into_owned());
        if tenant.document().scheduled.len() == document.scheduled.len() {
            let stated: BTreeSet<Timestamp> = set(document.scheduled.iter().map(|StatedChange { at, .. }| *at));
            prop_assert_eq!(set(tenant.subscription.scheduled.iter().map(|change| change.at)), stated);
            prop_assert_eq!(&tenant.subscription.choice, &document.choice);
            prop_assert_eq!(tenant.subscription.trial_until, document.trial_until);
        }
        prop_assert_eq!(&tenant.subscription.cancel_at, &document.cancel_at);
        prop_assert_eq!(&tenant.suspensions, &document.suspensions);
    }
}
