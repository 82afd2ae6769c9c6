//! Overrides and familiarity.

use tessera_core::rejection::RejectionKind;
use tessera_core::tenant::{AccessOverride, Action, Command, Effect, Event, OVERRIDES_MAX, TenantState};
use tessera_core::time::Timestamp;
use tessera_core::value::Familiarity;

use crate::harness::{Given, fields, given};
use crate::words::{acme, created, day, grant, id, limit_override, on_access, on_limit, target, world};

fn tenant(events: impl IntoIterator<Item = Event>) -> Given<TenantState> {
    given(&world(), events)
}

fn set(on: &str, until: Option<Timestamp>) -> Command {
    acme(Action::OverrideAccess(target(on), grant(until)))
}

fn was_set(on: &str, until: Option<Timestamp>) -> Event {
    Event::AccessOverridden(target(on), grant(until))
}

fn familiar(service: &str, value: Option<Familiarity>) -> Command {
    acme(Action::SetFamiliarity(id(service), value))
}

#[test]
fn an_override_is_set_and_replaced() {
    let gold = tenant([created("gold")]);
    for on in ["reporting", "reporting/exports"] {
        let granted = gold.when(set(on, None)).then([was_set(on, None)]);
        granted.when(set(on, None)).then_nothing();
        granted.when(set(on, Some(day(1)))).then([was_set(on, Some(day(1)))]);
        let deny = AccessOverride { effect: Effect::Deny, ..grant(None) };
        let denied = granted
            .when(acme(Action::OverrideAccess(target(on), deny.clone())))
            .then([Event::AccessOverridden(target(on), deny)]);
        assert_eq!(denied.get().0.as_ref().unwrap().overrides.access.len(), 1);
    }
    let ten = || acme(Action::OverrideLimit(id("users"), limit_override(10, None)));
    let limited = gold.when(ten()).then([Event::LimitOverridden(id("users"), limit_override(10, None))]);
    limited.when(ten()).then_nothing();
    limited
        .when(acme(Action::OverrideLimit(id("users"), limit_override(0, Some(day(1))))))
        .then([Event::LimitOverridden(id("users"), limit_override(0, Some(day(1))))]);
}

#[test]
fn an_override_ends_in_the_future() {
    let gold = tenant([created("gold")]);
    for over in [day(0), day(-1)] {
        let rejection = gold.when(set("reporting", Some(over))).then_rejected("INVALID_FIELD");
        assert_eq!(fields(&rejection), ["override.until"]);
        let limit = acme(Action::OverrideLimit(id("users"), limit_override(1, Some(over))));
        assert_eq!(fields(&gold.when(limit).then_rejected("INVALID_FIELD")), ["override.until"]);
    }
}

#[test]
fn overrides_name_what_is_registered_and_alive_or_had_already() {
    let gold = tenant([created("gold")]);
    for (on, field) in [
        ("nowhere", "override.target.service"),
        ("nowhere/exports", "override.target.service"),
        ("telex", "override.target.service"),
        ("telex/send", "override.target.feature"),
        ("reporting/fax", "override.target.feature"),
        ("reporting/typo", "override.target.feature"),
    ] {
        let rejection = gold.when(set(on, None)).then_rejected("INVALID_FIELD");
        assert_eq!(fields(&rejection), [field], "{on}");
    }
    for limit in ["typos", "pages"] {
        let command = acme(Action::OverrideLimit(id(limit), limit_override(1, None)));
        assert_eq!(fields(&gold.when(command).then_rejected("INVALID_FIELD")), ["override.target.limit"]);
    }
    let both = gold.when(set("nowhere", Some(day(0)))).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&both), ["override.until", "override.target.service"]);

    let had = gold.and([was_set("telex/send", None), Event::LimitOverridden(id("pages"), limit_override(1, None))]);
    had.when(set("telex/send", Some(day(1)))).then([was_set("telex/send", Some(day(1)))]);
    had.when(set("telex", None)).then_rejected("INVALID_FIELD");
    had.when(acme(Action::OverrideLimit(id("pages"), limit_override(2, None))))
        .then([Event::LimitOverridden(id("pages"), limit_override(2, None))]);
}

#[test]
fn overrides_are_bounded_together() {
    let limits = (1..OVERRIDES_MAX).map(|n| Event::LimitOverridden(id(&format!("l{n}")), limit_override(1, None)));
    let full = tenant([created("gold"), was_set("reporting", None)].into_iter().chain(limits));
    full.when(set("billing", None)).then_rejected("TOO_MANY_OVERRIDES");
    full.when(acme(Action::OverrideLimit(id("users"), limit_override(1, None)))).then_rejected("TOO_MANY_OVERRIDES");
    full.when(set("reporting", Some(day(1)))).then([was_set("reporting", Some(day(1)))]);
}

#[test]
fn an_override_is_removed() {
    let gold = tenant([created("gold")]);
    let remove = |target| acme(Action::RemoveOverride(target));
    for missing in [on_access("reporting"), on_access("reporting/exports"), on_limit("users")] {
        assert_eq!(gold.when(remove(missing)).then_rejected("OVERRIDE_NOT_FOUND").kind, RejectionKind::NotFound);
    }
    let with = gold.clone().and([was_set("reporting", None), Event::LimitOverridden(id("users"), limit_override(1, None))]);
    with.when(remove(on_access("reporting/exports"))).then_rejected("OVERRIDE_NOT_FOUND");
    let without = with
        .when(remove(on_access("reporting")))
        .then([Event::OverrideRemoved(on_access("reporting"))])
        .when(remove(on_limit("users")))
        .then([Event::OverrideRemoved(on_limit("users"))]);
    assert_eq!(without.get(), gold.get());
}

#[test]
fn an_expired_override_is_as_if_absent_but_may_be_removed() {
    let with = tenant([created("gold"), was_set("reporting", Some(day(2))), was_set("billing", Some(day(1)))]).at(day(2));
    let expiries = || [Event::OverrideExpired(on_access("billing")), Event::OverrideExpired(on_access("reporting"))];
    with.when(acme(Action::RemoveOverride(on_access("reporting")))).then(expiries());
    with.when(acme(Action::RemoveOverride(on_limit("users")))).then_rejected("OVERRIDE_NOT_FOUND");
    let [first, second] = expiries();
    with.when(set("reporting", None)).then([first, second, was_set("reporting", None)]);
    let gone = with.when(acme(Action::RecordDue)).then(expiries());
    gone.when(acme(Action::RemoveOverride(on_access("reporting")))).then_rejected("OVERRIDE_NOT_FOUND");
}

#[test]
fn familiarity_is_set_and_removed() {
    let gold = tenant([created("gold")]);
    gold.when(familiar("reporting", None)).then_nothing();
    let full = gold
        .when(familiar("reporting", Some(Familiarity::Full)))
        .then([Event::FamiliaritySet(id("reporting"), Some(Familiarity::Full))]);
    full.when(familiar("reporting", Some(Familiarity::Full))).then_nothing();
    full.when(familiar("reporting", Some(Familiarity::Half)))
        .then([Event::FamiliaritySet(id("reporting"), Some(Familiarity::Half))]);
    let none = full.when(familiar("reporting", None)).then([Event::FamiliaritySet(id("reporting"), None)]);
    assert_eq!(none.get(), gold.get());

    for bad in ["nowhere", "telex"] {
        let rejection = gold.when(familiar(bad, Some(Familiarity::Full))).then_rejected("INVALID_FIELD");
        assert_eq!(fields(&rejection), ["service"]);
    }
    let had = gold.and([Event::FamiliaritySet(id("telex"), Some(Familiarity::Half))]);
    had.when(familiar("telex", Some(Familiarity::Full))).then([Event::FamiliaritySet(id("telex"), Some(Familiarity::Full))]);
}
