//! Every command of plans and add-ons.

use std::sync::Arc;
use std::time::Duration;

use tessera_core::aggregate::{References, World};
use tessera_core::catalog::{self, Catalog};
use tessera_core::plan::{Action, Command, Document, Event, PLAN_FEATURES_MAX, PlanState, TRIAL_MAX, VERSIONS_MAX};
use tessera_core::rejection::{RejectionKind, VIOLATIONS_MAX};
use tessera_core::testing::fold;
use tessera_core::value::Offer;

use crate::harness::{Given, fields, given};
use crate::words::{self, day, document, id, maximum, service, text, version, world};

fn plan(action: Action) -> Command {
    Command { offer: Offer::Plan(id("gold")), action }
}

fn add_on(action: Action) -> Command {
    Command { offer: Offer::AddOn(id("seats")), action }
}

fn stream(events: impl IntoIterator<Item = Event>) -> Given<PlanState> {
    given(&world(), events)
}

fn published(number: u32) -> Event {
    Event::Published { version: version(number) }
}

fn small() -> Document {
    document(&[("reporting", &["exports"])], &["users"])
}

fn big() -> Document {
    document(&[("reporting", &["exports", "charts"]), ("billing", &[])], &["users", "calls"])
}

/// The world after archiving everything that `small` names.
fn later() -> World {
    let events = [
        catalog::Event::ServiceUpserted(service("reporting", &["exports", "charts"])),
        catalog::Event::LimitUpserted(words::limit("users")),
        catalog::Event::ServiceArchived(id("reporting")),
        catalog::Event::LimitArchived(id("users")),
    ];
    World { catalog: (30, Arc::new(fold::<Catalog>(events))), ..world() }
}

#[test]
fn a_plan_is_created_once() {
    let created = stream([]).when(plan(Action::Create(small()))).then([Event::Created(small())]);
    let gold = created.get().0.as_ref().unwrap();
    assert_eq!((gold.created_at, gold.updated_at, gold.latest()), (day(0), day(0), None));
    let rejection = created.when(plan(Action::Create(big()))).then_rejected("PLAN_EXISTS");
    assert_eq!(rejection.kind, RejectionKind::AlreadyExists);
    created.when(add_on(Action::Create(small()))).then_rejected("ADD_ON_EXISTS");
}

#[test]
fn what_does_not_exist_is_not_found() {
    for action in [Action::Update(small()), Action::Publish, Action::Archive, Action::Delete] {
        let rejection = stream([]).when(plan(action.clone())).then_rejected("PLAN_NOT_FOUND");
        assert_eq!(rejection.kind, RejectionKind::NotFound);
        stream([]).when(add_on(action)).then_rejected("ADD_ON_NOT_FOUND");
    }
}

#[test]
fn names_must_be_registered_and_alive() {
    let bad = document(
        &[("nowhere", &["a", "b"]), ("reporting", &["exports", "fax", "typo"]), ("telex", &["send"])],
        &["pages", "typos", "users"],
    );
    let rejection = stream([]).when(plan(Action::Create(bad.clone()))).then_rejected("INVALID_FIELD");
    let paths = [
        "document.services[\"nowhere\"]",
        "document.services[\"reporting\"].features[\"fax\"]",
        "document.services[\"reporting\"].features[\"typo\"]",
        "document.services[\"telex\"]",
        "document.limits[\"pages\"]",
        "document.limits[\"typos\"]",
    ];
    assert_eq!(fields(&rejection), paths);
    let update = stream([Event::Created(small())]).when(plan(Action::Update(bad))).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&update), paths);
}

#[test]
fn many_features_of_one_service_are_all_looked_at() {
    let names: Vec<String> = (0..30).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bad = document(&[("reporting", &names)], &[]);
    let rejection = stream([]).when(plan(Action::Create(bad))).then_rejected("INVALID_FIELD");
    assert_eq!(rejection.violations.len(), VIOLATIONS_MAX);
}

#[test]
fn a_document_has_so_many_features_at_most() {
    let names: Vec<String> = (0..=PLAN_FEATURES_MAX).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let events =
        [catalog::Event::ServiceUpserted(service("a", &names[1..])), catalog::Event::ServiceUpserted(service("b", &names[..1]))];
    let world = World { catalog: (1, Arc::new(fold::<Catalog>(events))), ..World::default() };
    let fits = document(&[("a", &names[1..])], &[]);
    given::<PlanState>(&world, []).when(plan(Action::Create(fits.clone()))).then([Event::Created(fits)]);
    let too_many = document(&[("a", &names[1..]), ("b", &names[..1])], &[]);
    let rejection = given::<PlanState>(&world, []).when(plan(Action::Create(too_many))).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&rejection), ["document.services"]);
}

#[test]
fn trials_have_bounds_and_add_ons_have_none() {
    let with = |trial| Document { trial: Some(trial), ..small() };
    for good in [Duration::from_nanos(1), TRIAL_MAX] {
        stream([]).when(plan(Action::Create(with(good)))).then([Event::Created(with(good))]);
    }
    for bad in [Duration::ZERO, TRIAL_MAX + Duration::from_nanos(1)] {
        let rejection = stream([]).when(plan(Action::Create(with(bad)))).then_rejected("INVALID_FIELD");
        assert_eq!(fields(&rejection), ["document.trial"]);
    }
    let rejection = stream([]).when(add_on(Action::Create(with(TRIAL_MAX)))).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&rejection), ["document.trial"]);
}

#[test]
fn a_draft_is_replaced_and_the_same_draft_changes_nothing() {
    let created = stream([Event::Created(small())]);
    created.when(plan(Action::Update(small()))).then_nothing();
    let updated = created.at(day(1)).when(plan(Action::Update(big()))).then([Event::DraftUpdated(big())]);
    let gold = updated.get().0.as_ref().unwrap();
    assert_eq!((gold.created_at, gold.updated_at), (day(0), day(1)));
}

#[test]
fn a_draft_keeps_archived_names_that_it_or_the_newest_version_has() {
    let kept = Document { title: text("Gold"), ..small() };
    let draft_only = stream([Event::Created(small())]).in_world(&later());
    draft_only.when(plan(Action::Update(kept.clone()))).then([Event::DraftUpdated(kept.clone())]);

    let emptied = stream([Event::Created(small()), published(1), Event::DraftUpdated(Document::default())]).in_world(&later());
    emptied.when(plan(Action::Update(kept.clone()))).then([Event::DraftUpdated(kept)]);

    let new_feature = document(&[("reporting", &["exports", "charts"])], &["users"]);
    let rejection = emptied.when(plan(Action::Update(new_feature))).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&rejection), ["document.services[\"reporting\"].features[\"charts\"]"]);

    let twice_removed = stream([Event::Created(small()), published(1), Event::DraftUpdated(Document::default()), published(2)])
        .in_world(&later());
    twice_removed.when(plan(Action::Update(small()))).then_rejected("INVALID_FIELD");
}

#[test]
fn versions_are_numbered_and_never_change() {
    let first = stream([Event::Created(small())]).when(plan(Action::Publish)).then([published(1)]);
    first.when(plan(Action::Publish)).then_rejected("DRAFT_UNCHANGED");
    let second = first.and([Event::DraftUpdated(big())]).at(day(3)).when(plan(Action::Publish)).then([published(2)]);
    let gold = second.get().0.as_ref().unwrap();
    assert_eq!(gold.latest(), Some(version(2)));
    assert_eq!(*gold.version(version(1)).unwrap().document, small());
    assert_eq!(*gold.version(version(2)).unwrap().document, big());
    assert_eq!(gold.version(version(2)).unwrap().published_at, day(3));
    assert_eq!(gold.version(version(3)), None);
    // Back to what an older version says is a change.
    second.and([Event::DraftUpdated(small())]).when(plan(Action::Publish)).then([published(3)]);
}

/// A stream with so many versions, each with a title of its own, and a draft that is another one.
fn with_versions(count: u32) -> Given<PlanState> {
    let titled = |n: u32| Document { title: text(&format!("title {n}")), ..big() };
    let versions = (1..=count).flat_map(|n| [published(n), Event::DraftUpdated(titled(n))]);
    stream([Event::Created(titled(0))].into_iter().chain(versions))
}

#[test]
fn there_are_so_many_versions_at_most() {
    let last = with_versions(VERSIONS_MAX - 1).when(plan(Action::Publish)).then([published(VERSIONS_MAX)]);
    // A state of before there was a bound has more.
    for (full, count) in [(with_versions(VERSIONS_MAX), "1000"), (with_versions(VERSIONS_MAX + 1), "1001")] {
        let rejection = full.when(plan(Action::Publish)).then_rejected("TOO_MANY_VERSIONS");
        assert_eq!(rejection.kind, RejectionKind::FailedPrecondition);
        let message = format!("plan `gold` has {count} published versions; allowed are at most 1000: go on with another one");
        assert_eq!(rejection.message, message);
        full.when(add_on(Action::Publish)).then_rejected("TOO_MANY_VERSIONS");
        full.when(plan(Action::Archive)).then([Event::Archived]);
    }
    last.when(plan(Action::Publish)).then_rejected("DRAFT_UNCHANGED");
}

#[test]
fn versions_share_what_did_not_change() {
    let billed = document(&[("reporting", &["exports", "charts"]), ("billing", &["invoices"])], &[]);
    let twice = with_versions(2).and([Event::DraftUpdated(billed), published(3)]);
    let versions = &twice.get().0.as_ref().unwrap().versions;
    let same = |service: &str, one: usize, other: usize| {
        Arc::ptr_eq(&versions[one].document.services[service], &versions[other].document.services[service])
    };
    assert!(same("reporting", 0, 1) && same("billing", 0, 1));
    assert!(same("reporting", 1, 2) && !same("billing", 1, 2));
}

#[test]
fn events_that_cannot_follow_are_passed_over() {
    let ahead: PlanState = fold([Event::Created(small()), published(2)]);
    assert_eq!(ahead, fold([Event::Created(small())]));
    let twice: PlanState = fold([Event::Created(small()), published(1), published(1), Event::Deleted]);
    assert_eq!(twice, fold([Event::Created(small()), published(1)]));
    assert_eq!(fold::<PlanState>([Event::Archived, published(1)]), PlanState(None));
}

#[test]
fn an_empty_draft_may_be_published() {
    stream([Event::Created(Document::default())]).when(plan(Action::Publish)).then([published(1)]);
}

#[test]
fn publishing_refuses_archived_names_that_the_version_before_lacks() {
    let never = stream([Event::Created(small())]).in_world(&later());
    let rejection = never.when(plan(Action::Publish)).then_rejected("DRAFT_INVALID");
    assert_eq!(rejection.kind, RejectionKind::FailedPrecondition);
    assert_eq!(fields(&rejection), ["draft.services[\"reporting\"]", "draft.limits[\"users\"]"]);

    let cheaper = Document { limits: [(id("users"), maximum(5))].into(), ..small() };
    let before = stream([Event::Created(small()), published(1), Event::DraftUpdated(cheaper)]).in_world(&later());
    before.when(plan(Action::Publish)).then([published(2)]);
}

#[test]
fn archived_ones_stay_as_they_are() {
    let archived = stream([Event::Created(small()), published(1)]).when(plan(Action::Archive)).then([Event::Archived]);
    archived.when(plan(Action::Archive)).then_nothing();
    archived.when(plan(Action::Update(small()))).then_nothing();
    let rejection = archived.when(plan(Action::Update(big()))).then_rejected("PLAN_ARCHIVED");
    assert_eq!(rejection.kind, RejectionKind::FailedPrecondition);
    archived.when(plan(Action::Publish)).then_rejected("PLAN_ARCHIVED");
    archived.when(add_on(Action::Publish)).then_rejected("ADD_ON_ARCHIVED");
    archived.when(add_on(Action::Update(big()))).then_rejected("ADD_ON_ARCHIVED");
    archived.when(plan(Action::Create(big()))).then_rejected("PLAN_EXISTS");
    archived.when(plan(Action::Delete)).then_rejected("ALREADY_PUBLISHED");
}

#[test]
fn only_what_was_never_published_is_deleted_and_its_id_is_free_again() {
    let deleted = stream([Event::Created(small())]).when(plan(Action::Delete)).then([Event::Deleted]);
    assert_eq!(*deleted.get(), PlanState(None));
    deleted.when(plan(Action::Delete)).then_rejected("PLAN_NOT_FOUND");
    let again = deleted.at(day(2)).when(plan(Action::Create(big()))).then([Event::Created(big())]);
    assert_eq!(again.get().0.as_ref().unwrap().created_at, day(2));

    stream([Event::Created(small()), Event::Archived]).when(plan(Action::Delete)).then([Event::Deleted]);
    let published = stream([Event::Created(small()), published(1)]);
    let rejection = published.when(plan(Action::Delete)).then_rejected("ALREADY_PUBLISHED");
    assert_eq!(rejection.kind, RejectionKind::FailedPrecondition);
    published.when(add_on(Action::Delete)).then_rejected("ALREADY_PUBLISHED");
}

#[test]
fn a_plan_refers_to_the_catalog_while_it_names_anything_of_it() {
    let seq = |given: &Given<PlanState>| given.get().0.as_ref().unwrap().references.clone();
    let catalog_at = |catalog| References { catalog, ..References::default() };
    let empty = stream([Event::Created(Document::default())]);
    assert_eq!(seq(&empty), catalog_at(0));
    let named = empty.and([Event::DraftUpdated(small())]);
    assert_eq!(seq(&named), catalog_at(9));
    let newer = named.in_world(&later()).and([Event::DraftUpdated(Document { title: text("Gold"), ..small() })]);
    assert_eq!(seq(&newer), catalog_at(30));
    assert_eq!(seq(&newer.clone().and([Event::DraftUpdated(Document::default())])), catalog_at(0));
    let kept_by_version = newer.and([published(1), Event::DraftUpdated(Document::default())]);
    assert_eq!(seq(&kept_by_version), catalog_at(30));
    // Another loader may have read an older catalog for the next event.
    assert_eq!(seq(&kept_by_version.in_world(&world()).and([Event::Archived])), catalog_at(30));
}
