//! Plan, trial and end of a subscription.

use std::collections::BTreeSet;

use tessera_core::aggregate::Aggregate as _;
use tessera_core::rejection::RejectionKind;
use tessera_core::tenant::{
    Action, CHANGE_ID_MAX, Event, PlanChoice, SCHEDULED_MAX, ScheduledChange, StatedChange, Subscription, TenantDocument,
    TenantState, TrialLength,
};
use tessera_core::time::Timestamp;

use crate::harness::{Given, fields, given};
use crate::words::{acme, created, day, days, id, latest, pinned, stated, world};

fn tenant(events: impl IntoIterator<Item = Event>) -> Given<TenantState> {
    given(&world(), events)
}

fn change(choice: PlanChoice, at: Option<Timestamp>) -> tessera_core::tenant::Command {
    acme(Action::ChangePlan { choice, at })
}

fn scheduled(number: u32, at: Timestamp, choice: PlanChoice) -> Event {
    Event::PlanChangeScheduled(ScheduledChange { id: number, at, choice })
}

fn subscription(given: &Given<TenantState>) -> &Subscription {
    &given.get().0.as_ref().unwrap().subscription
}

fn in_trial() -> Given<TenantState> {
    tenant([created("gold")]).when(acme(Action::StartTrial(TrialLength::OfPlan))).then([Event::TrialStarted { until: day(14) }])
}

fn cancelled(at: Timestamp) -> Given<TenantState> {
    tenant([created("gold"), Event::SubscriptionCancelled(at)])
}

#[test]
fn a_plan_is_changed_now() {
    let gold = tenant([created("gold")]);
    for at in [None, Some(day(0)), Some(day(-3))] {
        gold.when(change(latest("silver"), at)).then([Event::PlanChanged(latest("silver"))]);
    }
    gold.when(change(pinned("gold", 2), None)).then([Event::PlanChanged(pinned("gold", 2))]);
    gold.when(change(latest("gold"), None)).then_nothing();
    let after = gold.when(change(latest("silver"), None)).then([Event::PlanChanged(latest("silver"))]);
    let references = &after.get().0.as_ref().unwrap().references;
    assert_eq!(references.plans, [(id("silver"), 11)].into());
}

#[test]
fn a_plan_change_ends_the_trial_even_to_the_same_plan() {
    let paid = in_trial().when(change(latest("gold"), None)).then([Event::PlanChanged(latest("gold"))]);
    assert_eq!(subscription(&paid).trial_until, None);
    paid.when(change(latest("gold"), None)).then_nothing();
}

#[test]
fn a_plan_change_never_revives() {
    let after = cancelled(day(0)).when(change(latest("silver"), None)).then([Event::PlanChanged(latest("silver"))]);
    assert_eq!(subscription(&after).cancel_at, Some(day(0)));
}

#[test]
fn only_open_plans_can_be_changed_to_or_those_the_tenant_has() {
    let gold = tenant([created("gold")]);
    for at in [None, Some(day(3))] {
        gold.when(change(latest("unheard-of"), at)).then_rejected("PLAN_NOT_FOUND");
        gold.when(change(latest("draft"), at)).then_rejected("PLAN_NOT_PUBLISHED");
        gold.when(change(latest("retired"), at)).then_rejected("PLAN_ARCHIVED");
        let rejection = gold.when(change(pinned("silver", 2), at)).then_rejected("PLAN_VERSION_NOT_FOUND");
        assert_eq!(fields(&rejection), ["plan_id"]);
        assert!(rejection.message.contains("1 to 1"), "{rejection}");
    }
    let retired = tenant([created("retired")]);
    retired.when(change(pinned("retired", 1), None)).then([Event::PlanChanged(pinned("retired", 1))]);
    retired.when(change(pinned("retired", 2), None)).then_rejected("PLAN_VERSION_NOT_FOUND");
    let coming = tenant([created("gold"), scheduled(1, day(9), latest("retired"))]);
    coming.when(change(latest("retired"), None)).then([Event::PlanChanged(latest("retired"))]);
}

#[test]
fn a_plan_change_is_scheduled_and_takes_effect_in_order() {
    let one =
        tenant([created("gold")]).when(change(latest("silver"), Some(day(5)))).then([scheduled(1, day(5), latest("silver"))]);
    let two = one.when(change(pinned("gold", 1), Some(day(3)))).then([scheduled(2, day(3), pinned("gold", 1))]);
    let three = two.when(change(pinned("gold", 2), Some(day(5)))).then([scheduled(3, day(5), pinned("gold", 2))]);
    let order: Vec<_> = subscription(&three).scheduled.iter().map(|change| change.id).collect();
    assert_eq!(order, [2, 1, 3]);
    assert_eq!(three.get().0.as_ref().unwrap().references.plans, [(id("gold"), 12), (id("silver"), 11)].into());
    // Repeating the last one of an instant changes nothing; repeating one before it does.
    three.when(change(pinned("gold", 2), Some(day(5)))).then_nothing();
    three.when(change(latest("silver"), Some(day(5)))).then([scheduled(4, day(5), latest("silver"))]);
    // The plan of today may be scheduled: something else may come before.
    three.when(change(latest("gold"), Some(day(6)))).then([scheduled(4, day(6), latest("gold"))]);
}

#[test]
fn scheduled_changes_are_bounded_and_their_ids_never_used_again() {
    let changes = (1..=SCHEDULED_MAX).map(|n| scheduled(u32::try_from(n).unwrap(), day(9), latest("gold")));
    let full = tenant(std::iter::once(created("gold")).chain(changes));
    let rejection = full.when(change(latest("gold"), Some(day(3)))).then_rejected("TOO_MANY_SCHEDULED_CHANGES");
    assert_eq!(rejection.kind, RejectionKind::FailedPrecondition);

    let one = tenant([created("gold"), scheduled(1, day(5), latest("silver"))]);
    let none = one.when(acme(Action::CancelScheduledChange(1))).then([Event::ScheduledChangeCancelled(1)]);
    assert_eq!(subscription(&none).scheduled, []);
    none.when(change(latest("silver"), Some(day(5)))).then([scheduled(2, day(5), latest("silver"))]);

    let last = tenant([created("gold"), scheduled(CHANGE_ID_MAX, day(5), latest("silver"))]);
    last.when(change(latest("gold"), Some(day(3)))).then_rejected("TOO_MANY_SCHEDULED_CHANGES");
    let document = TenantDocument { scheduled: vec![StatedChange { at: day(3), choice: latest("gold") }], ..stated("gold") };
    let state =
        Action::State { document: Box::new(document), suspended: BTreeSet::new(), mode: tessera_core::tenant::StateMode::Upsert };
    last.when(acme(state)).then_rejected("TOO_MANY_SCHEDULED_CHANGES");
}

#[test]
fn a_scheduled_change_is_cancelled_before_it_is_due() {
    let one = tenant([created("gold"), scheduled(1, day(5), latest("silver"))]);
    let rejection = one.when(acme(Action::CancelScheduledChange(2))).then_rejected("SCHEDULED_CHANGE_NOT_FOUND");
    assert_eq!(rejection.kind, RejectionKind::NotFound);
    one.clone().at(day(5)).when(acme(Action::CancelScheduledChange(1))).then_rejected("SCHEDULED_CHANGE_NOT_FOUND");
    let none = one.when(acme(Action::CancelScheduledChange(1))).then([Event::ScheduledChangeCancelled(1)]);
    none.when(acme(Action::CancelScheduledChange(1))).then_rejected("SCHEDULED_CHANGE_NOT_FOUND");
    assert_eq!(none.get().0.as_ref().unwrap().references.plans, [(id("gold"), 12)].into());
}

#[test]
fn a_subscription_is_cancelled_now_or_later() {
    let gold = tenant([created("gold")]);
    for at in [None, Some(day(0)), Some(day(-9))] {
        let ended = gold.when(acme(Action::CancelSubscription(at))).then([Event::SubscriptionCancelled(day(0))]);
        let later = ended.at(day(2));
        later.when(acme(Action::CancelSubscription(None))).then_nothing();
        later.when(acme(Action::CancelSubscription(Some(day(1))))).then_nothing();
        later.when(acme(Action::CancelSubscription(Some(day(3))))).then_rejected("SUBSCRIPTION_ENDED");
    }
    let ending = gold.when(acme(Action::CancelSubscription(Some(day(7))))).then([Event::SubscriptionCancelled(day(7))]);
    ending.when(acme(Action::CancelSubscription(Some(day(7))))).then_nothing();
    ending.when(acme(Action::CancelSubscription(Some(day(9))))).then([Event::SubscriptionCancelled(day(9))]);
    ending.when(acme(Action::CancelSubscription(None))).then([Event::SubscriptionCancelled(day(0))]);
}

#[test]
fn a_cancellation_is_undone_coming_or_past() {
    tenant([created("gold")]).when(acme(Action::RenewSubscription)).then_rejected("NOT_CANCELLED");
    for at in [day(0), day(7)] {
        let renewed = cancelled(at).when(acme(Action::RenewSubscription)).then([Event::SubscriptionRenewed]);
        assert_eq!(subscription(&renewed).cancel_at, None);
        renewed.when(acme(Action::RenewSubscription)).then_rejected("NOT_CANCELLED");
    }
}

#[test]
fn a_trial_is_started_once_per_plan() {
    in_trial().when(acme(Action::StartTrial(TrialLength::OfPlan))).then_rejected("TRIAL_USED");
    let for_three = Action::StartTrial(TrialLength::For(days(3)));
    tenant([created("silver")]).when(acme(for_three.clone())).then([Event::TrialStarted { until: day(3) }]);
    tenant([created("silver")]).when(acme(Action::StartTrial(TrialLength::OfPlan))).then_rejected("NO_TRIAL_LENGTH");

    let converted = in_trial().when(acme(Action::EndTrial { convert: true })).then([Event::TrialConverted]);
    converted.when(acme(for_three.clone())).then_rejected("TRIAL_USED");
    let elsewhere = converted.and([Event::PlanChanged(latest("silver"))]);
    elsewhere.when(acme(for_three.clone())).then([Event::TrialStarted { until: day(3) }]);
    let back = elsewhere.and([Event::PlanChanged(latest("gold"))]);
    back.when(acme(for_three)).then_rejected("TRIAL_USED");
}

#[test]
fn a_trial_has_a_length_within_bounds() {
    for bad in [days(0), days(3_654)] {
        let rejection =
            tenant([created("gold")]).when(acme(Action::StartTrial(TrialLength::For(bad)))).then_rejected("INVALID_FIELD");
        assert_eq!(fields(&rejection), ["trial"]);
    }
}

#[test]
fn no_trial_of_an_ended_subscription() {
    let start = || acme(Action::StartTrial(TrialLength::OfPlan));
    cancelled(day(0)).when(start()).then_rejected("SUBSCRIPTION_ENDED");
    cancelled(day(1)).when(start()).then([Event::TrialStarted { until: day(14) }]);
    cancelled(day(1)).at(day(1)).when(start()).then_rejected("SUBSCRIPTION_ENDED");
}

#[test]
fn a_trial_follows_the_version_of_the_plan_that_is_due() {
    let due = tenant([created("silver"), scheduled(1, day(2), latest("gold"))]).at(day(2));
    let start = acme(Action::StartTrial(TrialLength::OfPlan));
    let plans = due.get().references(&start);
    assert_eq!(plans.len(), 2, "{plans:?}");
    due.when(start).then([Event::ScheduledChangeApplied(1), Event::TrialStarted { until: day(16) }]);

    let of_first = tenant([created("gold"), Event::PlanChanged(pinned("gold", 1))]);
    of_first.when(acme(Action::StartTrial(TrialLength::OfPlan))).then_rejected("NO_TRIAL_LENGTH");
}

#[test]
fn a_trial_is_converted_also_after_it_lapsed() {
    let convert = || acme(Action::EndTrial { convert: true });
    let paid = in_trial().when(convert()).then([Event::TrialConverted]);
    assert_eq!(subscription(&paid).trial_until, None);
    paid.when(convert()).then_rejected("NOT_IN_TRIAL");
    in_trial().at(day(20)).when(convert()).then([Event::TrialLapsed, Event::TrialConverted]);
}

#[test]
fn a_trial_is_ended_now() {
    let end = || acme(Action::EndTrial { convert: false });
    tenant([created("gold")]).when(end()).then_rejected("NOT_IN_TRIAL");
    let ended = in_trial().at(day(3)).when(end()).then([Event::TrialEnded]);
    assert_eq!(subscription(&ended).trial_until, Some(day(3)));
    ended.when(end()).then_nothing();
    ended.at(day(30)).when(acme(Action::RecordDue)).then_nothing();
    in_trial().at(day(14)).when(end()).then_nothing();
}
