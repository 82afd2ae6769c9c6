//! Every command of the catalog.

use tessera_core::aggregate::{Aggregate as _, Settled, World};
use tessera_core::catalog::{Catalog, Command, Event, FEATURES_MAX, LIMITS_MAX, LimitDocument, SERVICES_MAX, ServiceDocument};
use tessera_core::rejection::RejectionKind;
use tessera_core::testing::fold;
use tessera_core::value::{Period, Target};

use crate::harness::{Given, fields, given};
use crate::words::{day, feature, id, limit, service, target, text};

fn catalog(events: impl IntoIterator<Item = Event>) -> Given<Catalog> {
    given(&World::default(), events)
}

fn reporting() -> Event {
    Event::ServiceUpserted(service("reporting", &["exports", "charts"]))
}

fn thrown(on: &str, reason: &str) -> Event {
    Event::Disabled { target: target(on), reason: text(reason) }
}

fn throw(on: &str, reason: &str) -> Command {
    Command::Disable { target: target(on), reason: text(reason) }
}

#[test]
fn services_are_registered_with_their_features() {
    let after = catalog([]).when(Command::UpsertService(service("reporting", &["exports", "charts"]))).then([reporting()]);
    let registered = after.get().service(&id("reporting")).unwrap();
    let ordinals: Vec<_> = registered.features.iter().map(|f| (f.id.as_str(), f.ordinal)).collect();
    assert_eq!(ordinals, [("exports", 0), ("charts", 1)]);
    assert_eq!(after.get().feature_count, 2);
}

#[test]
fn registering_the_same_again_changes_nothing() {
    let catalog = catalog([reporting()]);
    catalog.when(Command::UpsertService(service("reporting", &["exports", "charts"]))).then_nothing();
    catalog.when(Command::UpsertService(service("reporting", &["charts"]))).then_nothing();
    catalog.when(Command::UpsertService(service("reporting", &[]))).then_nothing();
}

#[test]
fn what_an_upsert_leaves_out_stays() {
    let more = service("reporting", &["mail"]);
    let after = catalog([reporting()]).when(Command::UpsertService(more.clone())).then([Event::ServiceUpserted(more)]);
    let ids: Vec<_> = after.get().services[0].features.iter().map(|f| (f.id.as_str(), f.ordinal)).collect();
    assert_eq!(ids, [("exports", 0), ("charts", 1), ("mail", 2)]);
}

#[test]
fn titles_and_descriptions_change_and_switches_stay() {
    let retitled = ServiceDocument { title: text("Reports"), ..service("reporting", &[]) };
    let after = catalog([reporting(), thrown("reporting", "outage")])
        .when(Command::UpsertService(retitled.clone()))
        .then([Event::ServiceUpserted(retitled)]);
    assert_eq!(after.get().services[0].title, text("Reports"));
    assert_eq!(after.get().services[0].disabled, Some(text("outage")));

    let mut described = service("reporting", &[]);
    described.features.push(feature("exports"));
    described.features[0].description = text("as CSV");
    catalog([reporting()]).when(Command::UpsertService(described.clone())).then([Event::ServiceUpserted(described)]);
}

#[test]
fn a_feature_stated_twice_is_refused_with_its_path() {
    let twice = Command::UpsertService(service("reporting", &["exports", "exports"]));
    let rejection = catalog([]).when(twice).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&rejection), ["features[\"exports\"]"]);
}

#[test]
fn registering_again_revives_what_it_names() {
    let archived = [
        reporting(),
        Event::FeatureArchived(id("reporting"), id("exports")),
        Event::FeatureArchived(id("reporting"), id("charts")),
        Event::ServiceArchived(id("reporting")),
    ];
    let revival = service("reporting", &["exports"]);
    let after = catalog(archived).when(Command::UpsertService(revival.clone())).then([Event::ServiceUpserted(revival)]);
    assert!(!after.get().services[0].archived);
    let flags: Vec<_> = after.get().services[0].features.iter().map(|f| f.archived).collect();
    assert_eq!(flags, [false, true]);
    assert_eq!(after.get().feature_count, 2);
}

#[test]
fn reviving_alone_is_a_change() {
    let same = || service("reporting", &["exports", "charts"]);
    for archived in [Event::ServiceArchived(id("reporting")), Event::FeatureArchived(id("reporting"), id("charts"))] {
        let revived = catalog([reporting(), archived]).when(Command::UpsertService(same())).then([reporting()]);
        assert_eq!(*revived.get(), *catalog([reporting()]).get());
    }
}

#[test]
fn archiving_is_idempotent_and_needs_something_registered() {
    let archived =
        catalog([reporting()]).when(Command::ArchiveService(id("reporting"))).then([Event::ServiceArchived(id("reporting"))]);
    archived.when(Command::ArchiveService(id("reporting"))).then_nothing();
    let missing = archived.when(Command::ArchiveService(id("billing"))).then_rejected("SERVICE_NOT_FOUND");
    assert_eq!(missing.kind, RejectionKind::NotFound);

    let archived = catalog([reporting()])
        .when(Command::ArchiveFeature(id("reporting"), id("exports")))
        .then([Event::FeatureArchived(id("reporting"), id("exports"))]);
    archived.when(Command::ArchiveFeature(id("reporting"), id("exports"))).then_nothing();
    archived.when(Command::ArchiveFeature(id("billing"), id("exports"))).then_rejected("SERVICE_NOT_FOUND");
    archived.when(Command::ArchiveFeature(id("reporting"), id("fax"))).then_rejected("FEATURE_NOT_FOUND");
}

#[test]
fn a_kill_switch_is_thrown_moved_and_taken_back() {
    for on in ["reporting", "reporting/exports"] {
        let off = catalog([reporting()]).when(throw(on, "outage")).then([thrown(on, "outage")]);
        off.when(throw(on, "outage")).then_nothing();
        let moved = off.when(throw(on, "breach")).then([thrown(on, "breach")]);
        let on_again = moved.when(Command::Enable(target(on))).then([Event::Enabled(target(on))]);
        on_again.when(Command::Enable(target(on))).then_nothing();
        assert_eq!(*on_again.get(), *catalog([reporting()]).get());
    }
}

#[test]
fn a_kill_switch_needs_something_registered() {
    let catalog = catalog([reporting()]);
    catalog.when(throw("billing", "outage")).then_rejected("SERVICE_NOT_FOUND");
    catalog.when(throw("billing/exports", "outage")).then_rejected("SERVICE_NOT_FOUND");
    catalog.when(throw("reporting/fax", "outage")).then_rejected("FEATURE_NOT_FOUND");
    catalog.when(Command::Enable(target("billing"))).then_rejected("SERVICE_NOT_FOUND");
    catalog.when(Command::Enable(target("reporting/fax"))).then_rejected("FEATURE_NOT_FOUND");
}

#[test]
fn the_switch_of_a_feature_is_its_own() {
    let after = catalog([reporting()]).when(throw("reporting/charts", "slow")).then([thrown("reporting/charts", "slow")]);
    let whole = Target { service: id("reporting"), feature: None };
    after.when(Command::Enable(whole)).then_nothing();
    assert_eq!(after.get().feature(&id("reporting"), &id("charts")).unwrap().disabled, Some(text("slow")));
    assert_eq!(after.get().feature(&id("reporting"), &id("exports")).unwrap().disabled, None);
}

#[test]
fn limits_are_registered_changed_archived_and_revived() {
    let users = catalog([]).when(Command::UpsertLimit(limit("users"))).then([Event::LimitUpserted(limit("users"))]);
    users.when(Command::UpsertLimit(limit("users"))).then_nothing();
    let monthly = LimitDocument { period: Period::Month, ..limit("users") };
    users.when(Command::UpsertLimit(monthly.clone())).then([Event::LimitUpserted(monthly)]);
    users.when(Command::ArchiveLimit(id("calls"))).then_rejected("LIMIT_NOT_FOUND");
    let archived = users.when(Command::ArchiveLimit(id("users"))).then([Event::LimitArchived(id("users"))]);
    archived.when(Command::ArchiveLimit(id("users"))).then_nothing();
    let revived = archived.when(Command::UpsertLimit(limit("users"))).then([Event::LimitUpserted(limit("users"))]);
    assert_eq!(revived.get(), users.get());
}

#[test]
fn sizes_are_bounded_and_archived_ones_count() {
    let services = (0..SERVICES_MAX).map(|n| Event::ServiceUpserted(service(&format!("s{n}"), &[])));
    let full: Catalog = fold(services.chain([Event::ServiceArchived(id("s7"))]));
    let full = Given::state(&World::default(), full, day(0));
    full.when(Command::UpsertService(service("one-more", &[]))).then_rejected("CATALOG_FULL");
    full.when(Command::UpsertService(service("s7", &["a"]))).then([Event::ServiceUpserted(service("s7", &["a"]))]);

    let limits = (0..LIMITS_MAX).map(|n| Event::LimitUpserted(limit(&format!("l{n}"))));
    let full = Given::state(&World::default(), fold::<Catalog>(limits), day(0));
    full.when(Command::UpsertLimit(limit("one-more"))).then_rejected("CATALOG_FULL");
    full.when(Command::UpsertLimit(limit("l1"))).then_nothing();

    let names: Vec<String> = (0..FEATURES_MAX).map(|n| format!("f{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = service("reporting", &names);
    let full = catalog([]).when(Command::UpsertService(all.clone())).then([Event::ServiceUpserted(all)]);
    let rejection = full.when(Command::UpsertService(service("billing", &["one-more"]))).then_rejected("CATALOG_FULL");
    assert_eq!(rejection.kind, RejectionKind::FailedPrecondition);
    full.when(Command::UpsertService(service("billing", &[]))).then([Event::ServiceUpserted(service("billing", &[]))]);
    names.push("one-more");
    catalog([]).when(Command::UpsertService(service("reporting", &names))).then_rejected("CATALOG_FULL");
}

#[test]
fn settling_changes_nothing() {
    let settled = Event::CommandSettled(Settled::NoChange);
    assert_eq!(Catalog::settle(Settled::NoChange), settled);
    assert_eq!(Catalog::settled(&settled), Some(&Settled::NoChange));
    catalog([reporting(), settled]);
}
