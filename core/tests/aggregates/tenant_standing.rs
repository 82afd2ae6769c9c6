//! Title and labels, activation, suspension.

use std::collections::BTreeMap;

use tessera_core::decision::TenantStatus;
use tessera_core::rejection::RejectionKind;
use tessera_core::tenant::{Action, Command, Event, SUSPENSIONS_MAX, TenantDocument, TenantState};
use tessera_core::time::Timestamp;
use tessera_core::value::LABELS_MAX;

use crate::harness::{Given, fields, given};
use crate::words::{acme, created, day, set, stated, text, world};

fn tenant(events: impl IntoIterator<Item = Event>) -> Given<TenantState> {
    given(&world(), events)
}

fn suspend(reason: &str, effective_at: Option<Timestamp>) -> Command {
    acme(Action::Suspend { reason: text(reason), effective_at })
}

fn suspended(reason: &str, effective_at: Timestamp) -> Event {
    Event::Suspended { reason: text(reason), effective_at }
}

fn resume(reasons: &[&str]) -> Command {
    acme(Action::Resume(set(reasons.iter().copied().map(text))))
}

fn resumed(reasons: &[&str]) -> Event {
    Event::Resumed(set(reasons.iter().copied().map(text)))
}

fn status(given: &Given<TenantState>, at: Timestamp) -> TenantStatus {
    given.get().0.as_ref().unwrap().status(at)
}

#[test]
fn title_and_labels_change_apart() {
    let gold = tenant([created("gold")]);
    let labels: BTreeMap<_, _> = [(text("region"), text("eu"))].into();
    gold.when(acme(Action::Update { title: None, labels: None })).then_nothing();
    gold.when(acme(Action::Update { title: Some(text("Acme")), labels: Some(BTreeMap::new()) })).then_nothing();
    let renamed = gold
        .when(acme(Action::Update { title: Some(text("Acme Ltd")), labels: None }))
        .then([Event::Updated { title: text("Acme Ltd"), labels: BTreeMap::new() }]);
    renamed
        .when(acme(Action::Update { title: None, labels: Some(labels.clone()) }))
        .then([Event::Updated { title: text("Acme Ltd"), labels }]);
    let many = (0..=LABELS_MAX).map(|n| (text(&format!("k{n}")), text(""))).collect();
    let rejection = gold.when(acme(Action::Update { title: None, labels: Some(many) })).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&rejection), ["labels"]);
}

#[test]
fn only_a_pending_tenant_is_activated() {
    let pending = TenantDocument { pending: true, ..stated("gold") };
    let pending = tenant([Event::Stated(Box::new(pending))]);
    assert_eq!(status(&pending, day(0)), TenantStatus::Pending);
    let active = pending.when(acme(Action::Activate)).then([Event::Activated]);
    assert_eq!(status(&active, day(0)), TenantStatus::Active);
    let rejection = active.when(acme(Action::Activate)).then_rejected("NOT_PENDING");
    assert_eq!(rejection.kind, RejectionKind::FailedPrecondition);
}

#[test]
fn a_tenant_is_suspended_now_or_after_grace() {
    let gold = tenant([created("gold")]);
    for at in [None, Some(day(0)), Some(day(-5))] {
        let out = gold.when(suspend("payment", at)).then([suspended("payment", day(0))]);
        assert_eq!(status(&out, day(0)), TenantStatus::Suspended);
        out.when(suspend("payment", at)).then_nothing();
        out.at(day(3)).when(suspend("payment", None)).then_nothing();
    }
    let grace = gold.when(suspend("payment", Some(day(7)))).then([suspended("payment", day(7))]);
    assert_eq!(status(&grace, day(6)), TenantStatus::Active);
    assert_eq!(status(&grace, day(7)), TenantStatus::Suspended);
    grace.when(suspend("payment", Some(day(7)))).then_nothing();
    grace.when(suspend("payment", Some(day(9)))).then([suspended("payment", day(9))]);
    grace.when(suspend("payment", Some(day(3)))).then([suspended("payment", day(3))]);
    for at in [None, Some(day(0)), Some(day(-5))] {
        grace.when(suspend("payment", at)).then([suspended("payment", day(0))]);
    }
}

#[test]
fn what_is_in_effect_is_not_put_off() {
    let out = tenant([created("gold"), suspended("payment", day(7))]).at(day(7));
    for at in [None, Some(day(3)), Some(day(7)), Some(day(8)), Some(day(14))] {
        let still = out.when(suspend("payment", at)).then_nothing();
        assert_eq!(status(&still, day(7)), TenantStatus::Suspended);
    }
    // Another reason has a grace of its own, and one that was taken back begins anew.
    let took_effect = Event::SuspensionTookEffect(text("payment"));
    let both = out.when(suspend("abuse", Some(day(9)))).then([took_effect, suspended("abuse", day(9))]);
    both.when(suspend("payment", Some(day(14)))).then_nothing();
    let resumed = both.when(resume(&["payment"])).then([resumed(&["payment"])]);
    resumed.when(suspend("payment", Some(day(14)))).then([suspended("payment", day(14))]);
}

#[test]
fn suspension_reasons_are_bounded() {
    let reasons = (0..SUSPENSIONS_MAX).map(|n| suspended(&format!("r{n}"), day(1)));
    let full = tenant(std::iter::once(created("gold")).chain(reasons));
    full.when(suspend("one more", None)).then_rejected("TOO_MANY_SUSPENSIONS");
    full.when(suspend("r1", Some(day(4)))).then([suspended("r1", day(4))]);
}

#[test]
fn named_reasons_are_removed_or_all() {
    let gold = tenant([created("gold")]);
    assert_eq!(gold.when(resume(&[])).then_rejected("NOT_SUSPENDED").kind, RejectionKind::FailedPrecondition);
    gold.when(resume(&["payment"])).then_rejected("NOT_SUSPENDED");

    let twice = gold.and([suspended("payment", day(0)), suspended("abuse", day(4))]);
    twice.when(resume(&["fraud"])).then_rejected("NOT_SUSPENDED");
    twice.when(resume(&[])).then([resumed(&["abuse", "payment"])]);
    let once = twice.when(resume(&["payment", "fraud"])).then([resumed(&["payment"])]);
    assert_eq!(status(&once, day(3)), TenantStatus::Active);
    assert_eq!(status(&once, day(4)), TenantStatus::Suspended);
    once.when(resume(&["payment"])).then_rejected("NOT_SUSPENDED");
}
