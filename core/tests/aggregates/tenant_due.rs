//! What time alone does, and that no record of it is lost or doubled.

use tessera_core::tenant::{Action, Event, ScheduledChange, StatedChange, TenantDocument, TenantState, schedule};
use tessera_core::time::Timestamp;

use crate::harness::{Given, given};
use crate::words::{acme, created, day, grant, id, latest, limit_override, on_access, on_limit, stated, target, text, world};

fn tenant(events: impl IntoIterator<Item = Event>) -> Given<TenantState> {
    given(&world(), events)
}

/// A tenant with an edge of every kind, all on different days but two plan changes.
fn busy() -> Given<TenantState> {
    let mut document = TenantDocument {
        starts: Some(day(1)),
        trial_until: Some(day(2)),
        cancel_at: Some(day(6)),
        scheduled: vec![
            StatedChange { at: day(3), choice: latest("silver") },
            StatedChange { at: day(3), choice: latest("gold") },
        ],
        ..stated("gold")
    };
    document.overrides.access.insert(target("reporting"), grant(Some(day(4))));
    document.overrides.limits.insert(id("users"), limit_override(1, Some(day(5))));
    document.suspensions.insert(text("payment"), day(7));
    tenant([Event::Stated(Box::new(document))])
}

fn records() -> Vec<(Timestamp, Event)> {
    vec![
        (day(1), Event::SubscriptionStarted),
        (day(2), Event::TrialLapsed),
        (day(3), Event::ScheduledChangeApplied(1)),
        (day(3), Event::ScheduledChangeApplied(2)),
        (day(4), Event::OverrideExpired(on_access("reporting"))),
        (day(5), Event::OverrideExpired(on_limit("users"))),
        (day(6), Event::SubscriptionEnded),
        (day(7), Event::SuspensionTookEffect(text("payment"))),
    ]
}

fn record_due() -> tessera_core::tenant::Command {
    acme(Action::RecordDue)
}

fn retitle(title: &str) -> tessera_core::tenant::Command {
    acme(Action::Update { title: Some(text(title)), labels: None })
}

fn retitled(title: &str) -> Event {
    Event::Updated { title: text(title), labels: [].into() }
}

#[test]
fn everything_due_is_recorded_in_order_and_once() {
    busy().when(record_due()).then_nothing();
    let late = busy().at(day(30)).when(record_due()).then(records().into_iter().map(|(_, event)| event));
    late.when(record_due()).then_nothing();
    late.at(day(60)).when(record_due()).then_nothing();
}

#[test]
fn edges_of_one_instant_are_passed_in_a_fixed_order() {
    let mut document = TenantDocument {
        starts: Some(day(1)),
        cancel_at: Some(day(1)),
        scheduled: vec![StatedChange { at: day(1), choice: latest("silver") }],
        ..stated("gold")
    };
    document.suspensions.insert(text("payment"), day(1));
    document.overrides.access.insert(target("reporting"), grant(Some(day(1))));
    let due = [
        Event::ScheduledChangeApplied(1),
        Event::SubscriptionStarted,
        Event::SubscriptionEnded,
        Event::OverrideExpired(on_access("reporting")),
        Event::SuspensionTookEffect(text("payment")),
    ];
    tenant([Event::Stated(Box::new(document))]).at(day(1)).when(record_due()).then(due);

    let lapsing = TenantDocument { starts: Some(day(1)), trial_until: Some(day(1)), cancel_at: Some(day(1)), ..stated("gold") };
    let due = [Event::SubscriptionStarted, Event::TrialLapsed, Event::SubscriptionEnded];
    tenant([Event::Stated(Box::new(lapsing))]).at(day(1)).when(record_due()).then(due);
}

#[test]
fn each_is_recorded_at_its_instant_and_not_before() {
    let mut given = busy();
    for at in (1..=7).map(day) {
        let before = Timestamp::from_nanos(at.as_nanos() - 1).unwrap();
        given = given.at(before);
        given.when(record_due()).then_nothing();
        let due = records().into_iter().filter(|(when, _)| *when == at).map(|(_, event)| event);
        given = given.at(at).when(record_due()).then(due);
    }
}

#[test]
fn a_command_records_first_what_is_due() {
    let due = records().into_iter().filter(|(when, _)| *when <= day(4)).map(|(_, event)| event);
    let after = busy().at(day(4)).when(retitle("Acme Ltd")).then(due.chain([retitled("Acme Ltd")]));
    after.when(record_due()).then_nothing();
    let rest = records().into_iter().filter(|(when, _)| *when > day(4)).map(|(_, event)| event);
    after.at(day(9)).when(record_due()).then(rest);
}

#[test]
fn a_command_cannot_overwrite_an_edge_that_has_passed() {
    let ended = tenant([created("gold"), Event::SubscriptionCancelled(day(3))]).at(day(5));
    let renewed = ended.when(acme(Action::RenewSubscription)).then([Event::SubscriptionEnded, Event::SubscriptionRenewed]);
    // Another end is another record.
    let again = renewed.and([Event::SubscriptionCancelled(day(8))]);
    again.at(day(8)).when(record_due()).then([Event::SubscriptionEnded]);

    let suspended = Event::Suspended { reason: text("payment"), effective_at: day(3) };
    tenant([created("gold"), suspended])
        .at(day(5))
        .when(acme(Action::Resume([].into())))
        .then([Event::SuspensionTookEffect(text("payment")), Event::Resumed([text("payment")].into())]);
}

#[test]
fn a_command_that_changes_nothing_or_is_refused_leaves_recording_to_the_timer() {
    let given = busy().at(day(2));
    given.when(retitle("Acme")).then_nothing();
    given.when(acme(Action::Activate)).then_rejected("NOT_PENDING");
    given.when(record_due()).then([Event::SubscriptionStarted, Event::TrialLapsed]);
}

#[test]
fn a_settled_command_records_nothing_and_hides_nothing() {
    let settled = Event::CommandSettled(tessera_core::aggregate::Settled::NoChange);
    let given = busy().at(day(1)).and([settled]);
    given.when(record_due()).then([Event::SubscriptionStarted]);
}

#[test]
fn a_command_is_decided_on_what_is_due() {
    let change = ScheduledChange { id: 1, at: day(3), choice: latest("silver") };
    let given = tenant([created("gold"), Event::PlanChangeScheduled(change)]).at(day(3));
    given.when(acme(Action::ChangePlan { choice: latest("silver"), at: None })).then_nothing();
    given
        .when(acme(Action::ChangePlan { choice: latest("gold"), at: None }))
        .then([Event::ScheduledChangeApplied(1), Event::PlanChanged(latest("gold"))]);
}

#[test]
fn a_plan_change_at_or_before_the_end_of_a_trial_keeps_it_from_lapsing() {
    for (changes_at, lapses) in [(day(2), false), (day(3), false), (day(4), true)] {
        let document = TenantDocument {
            trial_until: Some(day(3)),
            scheduled: vec![StatedChange { at: changes_at, choice: latest("silver") }],
            ..stated("gold")
        };
        let (result, after) = tenant([Event::Stated(Box::new(document))]).at(day(9)).when(record_due()).carry_on();
        assert_eq!(result.unwrap().contains(&Event::TrialLapsed), lapses, "{changes_at:?}");
        let subscription = &after.get().0.as_ref().unwrap().subscription;
        assert_eq!((&subscription.choice, subscription.trial_until), (&latest("silver"), None));
    }
}

#[test]
fn what_a_command_puts_at_its_own_time_has_no_record_of_its_own() {
    let given = tenant([created("gold")]);
    let ended = given.when(acme(Action::CancelSubscription(None))).then([Event::SubscriptionCancelled(day(0))]);
    ended.at(day(3)).when(record_due()).then_nothing();
}

#[test]
fn the_timer_knows_the_next_instant() {
    let state = busy();
    let tenant = state.get().0.as_ref().unwrap();
    assert_eq!(schedule::next_due(tenant, day(0)), Some(day(1)));
    // Something is due already: at once.
    assert_eq!(schedule::next_due(tenant, day(5)), Some(day(5)));
    let late = busy().at(day(7)).when(record_due()).carry_on().1;
    assert_eq!(schedule::next_due(late.get().0.as_ref().unwrap(), day(7)), None);
    let deleted = busy().when(acme(Action::Delete)).then([Event::Deleted]);
    assert_eq!(schedule::next_due(deleted.get().0.as_ref().unwrap(), day(0)), None);
}
