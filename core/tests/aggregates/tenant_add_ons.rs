//! Attaching and detaching add-ons.

use std::collections::BTreeMap;

use tessera_core::rejection::RejectionKind;
use tessera_core::tenant::{ADD_ONS_MAX, Action, AttachedAddOn, Command, Event, TenantState};
use tessera_core::value::VersionChoice;

use crate::harness::{Given, fields, given};
use crate::words::{acme, attached, created, id, version, world};

fn tenant(events: impl IntoIterator<Item = Event>) -> Given<TenantState> {
    given(&world(), events)
}

fn attach(add_on: &str, attached: AttachedAddOn) -> Command {
    acme(Action::AttachAddOn { add_on: id(add_on), attached })
}

fn attached_event(add_on: &str, attached: AttachedAddOn) -> Event {
    Event::AddOnAttached { add_on: id(add_on), attached }
}

#[test]
fn attaching_again_sets_quantity_and_version() {
    let two = tenant([created("gold")]).when(attach("seats", attached(2))).then([attached_event("seats", attached(2))]);
    assert_eq!(two.get().0.as_ref().unwrap().references.add_ons, [(id("seats"), 21)].into());
    two.when(attach("seats", attached(2))).then_nothing();
    let three = two.when(attach("seats", attached(3))).then([attached_event("seats", attached(3))]);
    assert_eq!(three.get().0.as_ref().unwrap().add_ons, [(id("seats"), attached(3))].into());
    let first = AttachedAddOn { version: VersionChoice::Pinned(version(1)), ..attached(3) };
    three.when(attach("seats", first.clone())).then([attached_event("seats", first)]);
}

#[test]
fn add_ons_must_be_there_published_and_open() {
    let gold = tenant([created("gold")]);
    assert_eq!(gold.when(attach("unheard-of", attached(1))).then_rejected("ADD_ON_NOT_FOUND").kind, RejectionKind::NotFound);
    gold.when(attach("draft", attached(1))).then_rejected("ADD_ON_NOT_PUBLISHED");
    gold.when(attach("vintage", attached(1))).then_rejected("ADD_ON_ARCHIVED");
    let second = AttachedAddOn { version: VersionChoice::Pinned(version(2)), ..attached(1) };
    let rejection = gold.when(attach("seats", second)).then_rejected("ADD_ON_VERSION_NOT_FOUND");
    assert_eq!(fields(&rejection), ["add_on.add_on_id"]);

    let had = tenant([created("gold"), attached_event("vintage", attached(1))]);
    had.when(attach("vintage", attached(2))).then([attached_event("vintage", attached(2))]);
}

#[test]
fn add_ons_are_bounded() {
    let others = (1..ADD_ONS_MAX).map(|n| attached_event(&format!("a{n}"), attached(1)));
    let full = tenant([created("gold"), attached_event("vintage", attached(1))].into_iter().chain(others));
    full.when(attach("seats", attached(1))).then_rejected("TOO_MANY_ADD_ONS");
    full.when(attach("vintage", attached(9))).then([attached_event("vintage", attached(9))]);
}

#[test]
fn detaching_needs_it_attached() {
    let gold = tenant([created("gold")]);
    let detach = || acme(Action::DetachAddOn(id("seats")));
    assert_eq!(gold.when(detach()).then_rejected("ADD_ON_NOT_ATTACHED").kind, RejectionKind::FailedPrecondition);
    let with = gold.and([attached_event("seats", attached(1))]);
    let without = with.when(detach()).then([Event::AddOnDetached(id("seats"))]);
    assert_eq!(without.get().0.as_ref().unwrap().add_ons, BTreeMap::new());
    assert_eq!(without.get().0.as_ref().unwrap().references.add_ons, BTreeMap::new());
}
