//! What holds for the catalog and for plans, whatever is asked of them, and of differences of documents.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use tessera_core::aggregate::{Aggregate, References, World};
use tessera_core::catalog::Catalog;
use tessera_core::plan::{self, Kind, PlanDiff, PlanState};
use tessera_core::rejection::{Rejection, VIOLATIONS_MAX};
use tessera_core::testing::{self, Fold, Names};

use crate::harness::{Decided, Given};
use crate::words::day;

/// A refusal that a client can work with.
pub(crate) fn well_formed(rejection: &Rejection) -> Result<(), TestCaseError> {
    prop_assert!(!rejection.reason.is_empty());
    prop_assert!(rejection.reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{}", rejection.reason);
    prop_assert!(!rejection.message.is_empty());
    prop_assert!(rejection.violations.len() <= VIOLATIONS_MAX);
    prop_assert!(rejection.reason != "INVALID_FIELD" || !rejection.violations.is_empty());
    Ok(())
}

/// After `command`, the same command changes nothing or is refused.
pub(crate) fn once_is_enough<A: Aggregate>(
    given: &Given<A>,
    command: &A::Command,
) -> Result<(Decided<A>, Given<A>), TestCaseError> {
    let (result, after) = given.when(command.clone()).carry_on();
    if let Err(rejection) = &result {
        well_formed(rejection)?;
    }
    let (again, _) = after.when(command.clone()).carry_on();
    prop_assert!(again.as_ref().map_or(true, Vec::is_empty), "{:?} again: {:?}", command, again);
    Ok((result, after))
}

/// The state carried on, and that events leave nothing but settled ones without trace in it.
fn follow<A: Aggregate>(fold: Fold<A>, event: &A::Event) -> Result<Fold<A>, TestCaseError> {
    let before = fold.state.clone();
    let after = fold.then(day(0), &References::default(), event.clone());
    if A::settled(event).is_some() {
        prop_assert_eq!(&after.state, &before);
    }
    Ok(after)
}

fn check_catalog(catalog: &Catalog) -> Result<(), TestCaseError> {
    let features = || catalog.services.iter().flat_map(|service| &service.features);
    let ordinals: BTreeSet<u32> = features().map(|feature| feature.ordinal).collect();
    prop_assert_eq!(ordinals.len(), features().count(), "an ordinal is given twice");
    prop_assert_eq!(usize::try_from(catalog.feature_count).unwrap(), ordinals.len());
    prop_assert!(ordinals.iter().next_back().is_none_or(|last| *last < catalog.feature_count));
    for service in &catalog.services {
        let ids: BTreeSet<_> = service.features.iter().map(|feature| &feature.id).collect();
        prop_assert_eq!(ids.len(), service.features.len());
    }
    let ids: BTreeSet<_> = catalog.services.iter().map(|service| &service.id).collect();
    prop_assert_eq!(ids.len(), catalog.services.len());
    Ok(())
}

/// What `before` has registered stands at the same place in `after`.
fn check_nothing_moved(before: &Catalog, after: &Catalog) -> Result<(), TestCaseError> {
    for (old, new) in before.services.iter().zip(&after.services) {
        prop_assert_eq!(&old.id, &new.id);
        for (old, new) in old.features.iter().zip(&new.features) {
            prop_assert_eq!((&old.id, old.ordinal), (&new.id, new.ordinal));
        }
        prop_assert!(old.features.len() <= new.features.len());
    }
    prop_assert!(before.services.len() <= after.services.len());
    prop_assert!(before.limits.iter().zip(&after.limits).all(|(old, new)| old.id == new.id));
    prop_assert!(before.limits.len() <= after.limits.len());
    Ok(())
}

proptest! {
    #[test]
    fn any_events_make_a_catalog(events in vec(testing::catalog_event(Names::Any), 0..30)) {
        let mut fold = Fold::<Catalog>::default();
        for event in &events {
            let after = follow(fold.clone(), event)?;
            check_catalog(&after.state)?;
            check_nothing_moved(&fold.state, &after.state)?;
            fold = after;
        }
    }

    #[test]
    fn catalog_commands_are_idempotent(
        catalog in testing::catalog(Names::Pool),
        command in testing::catalog_command(Names::Pool),
    ) {
        let given = Given::state(&World::default(), catalog, day(0));
        let (result, after) = once_is_enough(&given, &command)?;
        prop_assert_eq!(result.is_ok_and(|events| !events.is_empty()), after.get() != given.get());
    }

    #[test]
    fn any_events_make_a_plan(events in vec(testing::plan_event(Names::Any), 0..30)) {
        let mut fold = Fold::<PlanState>::default();
        for event in &events {
            let after = follow(fold.clone(), event)?;
            if let (Some(before), Some(plan)) = (&fold.state.0, &after.state.0) {
                prop_assert!(plan.versions.starts_with(&before.versions), "a version changed");
                prop_assert!(plan.updated_at >= plan.created_at);
            }
            prop_assert!(after.state.0.is_some() || fold.state.0.is_none_or(|plan| plan.versions.is_empty()));
            fold = after;
        }
    }

    #[test]
    fn plan_commands_are_idempotent(
        world in testing::world(),
        commands in vec(testing::plan_command(Names::Pool), 1..8),
    ) {
        let mut given = Given::state(&world, PlanState::default(), day(0));
        for command in &commands {
            given = once_is_enough(&given, command)?.1;
        }
    }

    #[test]
    fn a_difference_leads_from_one_document_to_the_other(
        from in testing::document(Names::Any, Kind::Plan),
        to in testing::document(Names::Any, Kind::Plan),
    ) {
        let difference = plan::diff(&from, &to);
        prop_assert_eq!(&plan::apply(&from, &difference), &to);
        prop_assert_eq!(difference.is_empty(), from == to);
        prop_assert_eq!(plan::apply(&to, &PlanDiff::default()), to);
        // Any difference can be applied to any document.
        let _ = plan::apply(&plan::Document::default(), &difference);
    }
}
