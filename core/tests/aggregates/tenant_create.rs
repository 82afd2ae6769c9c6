//! Creating, stating and deleting tenants.

use std::collections::{BTreeMap, BTreeSet};

use tessera_core::aggregate::{Aggregate as _, References, Settled, World};
use tessera_core::decision::TenantStatus;
use tessera_core::rejection::RejectionKind;
use tessera_core::tenant::{
    ADD_ONS_MAX, Action, Event, OVERRIDES_MAX, SCHEDULED_MAX, SUSPENSIONS_MAX, StateMode, StatedChange, TenantDocument,
    TenantState, TrialLength,
};
use tessera_core::value::{Familiarity, LABELS_MAX};

use crate::harness::{Given, fields, given};
use crate::words::{
    acme, attached, created, day, days, grant, id, latest, limit_override, pinned, stated, target, text, version, world,
};

fn tenant(events: impl IntoIterator<Item = Event>) -> Given<TenantState> {
    given(&world(), events)
}

fn create(plan: &str) -> Action {
    creation(latest(plan), None, None)
}

fn creation(
    choice: tessera_core::tenant::PlanChoice,
    starts: Option<tessera_core::time::Timestamp>,
    trial: Option<TrialLength>,
) -> Action {
    Action::Create { title: text("Acme"), labels: BTreeMap::new(), choice, starts, trial, pending: false }
}

fn state(document: &TenantDocument) -> Action {
    Action::State { document: Box::new(document.clone()), suspended: BTreeSet::new(), mode: StateMode::Upsert }
}

fn stated_event(document: &TenantDocument) -> Event {
    Event::Stated(Box::new(document.clone()))
}

#[test]
fn a_tenant_is_created_on_a_plan_and_refers_to_it() {
    let after = tenant([]).when(acme(create("gold"))).then([created("gold")]);
    let acme = after.get().0.as_ref().unwrap();
    assert_eq!((acme.created_at, acme.updated_at, acme.recorded_through), (day(0), day(0), day(0)));
    assert_eq!(acme.status(day(0)), TenantStatus::Active);
    assert_eq!(acme.references, References { catalog: 9, plans: [(id("gold"), 12)].into(), add_ons: BTreeMap::new() });
    assert_eq!(acme.document(), stated("gold"));
}

#[test]
fn references_only_rise_while_something_is_named() {
    let older = World { catalog: (8, world().catalog.1), plans: [(id("gold"), (10, None))].into(), ..World::default() };
    let nothing = World::default();
    for before in [older, nothing] {
        // An event that refers to less, as one decided without looking at the plan does.
        let after = tenant([created("gold")]).in_world(&before).and([Event::SubscriptionCancelled(day(9))]);
        let references = &after.get().0.as_ref().unwrap().references;
        assert_eq!((references.catalog, &references.plans), (9, &[(id("gold"), 12)].into()));
    }
    let newer = World { plans: [(id("gold"), (40, None))].into(), catalog: (50, world().catalog.1), ..World::default() };
    let after = tenant([created("gold")]).in_world(&newer).and([Event::PlanChanged(pinned("gold", 1))]);
    let references = &after.get().0.as_ref().unwrap().references;
    assert_eq!((references.catalog, &references.plans), (50, &[(id("gold"), 40)].into()));
}

#[test]
fn a_reason_that_is_stated_without_an_instant_is_in_effect_since_it_is_or_from_now() {
    let suspended = |at| stated_event(&TenantDocument { suspensions: [(text("payment"), at)].into(), ..stated("gold") });
    let state =
        || Action::State { document: Box::new(stated("gold")), suspended: [text("payment")].into(), mode: StateMode::Upsert };
    let first = tenant([]).at(day(1)).when(acme(state())).then([suspended(day(1))]);
    first.at(day(5)).when(acme(state())).then_nothing();
    let to_come = tenant([suspended(day(9))]).at(day(2));
    to_come.when(acme(state())).then([suspended(day(2))]);
}

#[test]
fn ids_are_used_once() {
    let there = tenant([created("gold")]);
    assert_eq!(there.when(acme(create("gold"))).then_rejected("TENANT_EXISTS").kind, RejectionKind::AlreadyExists);
    let only = Action::State { document: Box::new(stated("gold")), suspended: BTreeSet::new(), mode: StateMode::CreateOnly };
    there.when(acme(only.clone())).then_rejected("TENANT_EXISTS");

    let deleted = there.when(acme(Action::Delete)).then([Event::Deleted]);
    let rejection = deleted.when(acme(create("gold"))).then_rejected("TENANT_EXISTS");
    assert!(rejection.message.contains("deleted"), "{rejection}");
    deleted.when(acme(only)).then_rejected("TENANT_EXISTS");
}

#[test]
fn plans_must_be_there_published_and_open() {
    for (choice, reason, kind) in [
        (latest("unheard-of"), "PLAN_NOT_FOUND", RejectionKind::NotFound),
        (latest("gone"), "PLAN_NOT_FOUND", RejectionKind::NotFound),
        (latest("draft"), "PLAN_NOT_PUBLISHED", RejectionKind::FailedPrecondition),
        (latest("retired"), "PLAN_ARCHIVED", RejectionKind::FailedPrecondition),
        (pinned("gold", 3), "PLAN_VERSION_NOT_FOUND", RejectionKind::NotFound),
    ] {
        let rejection = tenant([]).when(acme(creation(choice.clone(), None, None))).then_rejected(reason);
        assert_eq!(rejection.kind, kind);
        assert_eq!(fields(&rejection), ["plan_id"]);
        let document = TenantDocument { choice, ..stated("gold") };
        let rejection = tenant([]).when(acme(state(&document))).then_rejected(reason);
        assert_eq!(fields(&rejection), ["document.plan_id"]);
    }
    tenant([]).when(acme(creation(pinned("gold", 1), None, None))).carry_on().0.unwrap();
}

#[test]
fn a_tenant_may_begin_with_a_trial() {
    let trial_until = |action: Action| match tenant([]).when(acme(action)).carry_on().0.unwrap().as_slice() {
        [Event::Created { trial_until, .. }] => *trial_until,
        other => panic!("{other:?}"),
    };
    assert_eq!(trial_until(creation(latest("gold"), None, Some(TrialLength::OfPlan))), Some(day(14)));
    assert_eq!(trial_until(creation(latest("gold"), None, Some(TrialLength::For(days(3))))), Some(day(3)));
    // Counted from the start that is to come, not from one that is over.
    assert_eq!(trial_until(creation(latest("gold"), Some(day(10)), Some(TrialLength::OfPlan))), Some(day(24)));
    assert_eq!(trial_until(creation(latest("gold"), Some(day(-10)), Some(TrialLength::OfPlan))), Some(day(14)));

    let refused = |choice, trial| tenant([]).when(acme(creation(choice, None, Some(trial))));
    refused(latest("silver"), TrialLength::OfPlan).then_rejected("NO_TRIAL_LENGTH");
    refused(pinned("gold", 1), TrialLength::OfPlan).then_rejected("NO_TRIAL_LENGTH");
    refused(latest("gold"), TrialLength::For(days(0))).then_rejected("INVALID_FIELD");
    refused(latest("gold"), TrialLength::For(days(4_000))).then_rejected("INVALID_FIELD");

    let in_trial = tenant([]).when(acme(creation(latest("gold"), None, Some(TrialLength::OfPlan)))).carry_on().1;
    assert!(in_trial.get().0.as_ref().unwrap().trials_used.contains("gold"));
}

#[test]
fn labels_are_bounded() {
    let labels: BTreeMap<_, _> = (0..=LABELS_MAX).map(|n| (text(&format!("k{n}")), text("v"))).collect();
    let mut action = create("gold");
    if let Action::Create { labels: asked, .. } = &mut action {
        *asked = labels.clone();
    }
    assert_eq!(fields(&tenant([]).when(acme(action)).then_rejected("INVALID_FIELD")), ["labels"]);
    let document = TenantDocument { labels, ..stated("gold") };
    let rejection = tenant([]).when(acme(state(&document))).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&rejection), ["document.labels"]);
}

fn rich() -> TenantDocument {
    let mut document = TenantDocument {
        title: text("Acme Ltd"),
        pending: true,
        starts: Some(day(1)),
        trial_until: Some(day(5)),
        cancel_at: Some(day(0)),
        scheduled: vec![
            StatedChange { at: day(9), choice: latest("silver") },
            StatedChange { at: day(9), choice: pinned("gold", 1) },
        ],
        ..stated("gold")
    };
    document.labels.insert(text("region"), text("eu"));
    document.add_ons.insert(id("seats"), attached(2));
    document.overrides.access.insert(target("reporting/exports"), grant(Some(day(3))));
    document.overrides.limits.insert(id("users"), limit_override(1_500, None));
    document.familiarity.insert(id("billing"), Familiarity::Full);
    document.suspensions.insert(text("payment"), day(-4));
    document
}

#[test]
fn a_stated_tenant_is_what_the_document_says() {
    let after = tenant([]).when(acme(state(&rich()))).then([stated_event(&rich())]);
    let tenant = after.get().0.as_ref().unwrap();
    assert_eq!(tenant.document(), rich());
    assert_eq!(tenant.status(day(0)), TenantStatus::Pending);
    let ids: Vec<_> = tenant.subscription.scheduled.iter().map(|change| change.id).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(tenant.references.plans, [(id("gold"), 12), (id("silver"), 11)].into());
    assert_eq!(tenant.references.add_ons, [(id("seats"), 21)].into());
    after.when(acme(state(&rich()))).then_nothing();
}

#[test]
fn stating_replaces_everything_but_keeps_change_ids_and_used_trials() {
    let after = tenant([created("silver"), stated_event(&rich())]);
    let retitled = TenantDocument { title: text("Acme Inc"), ..rich() };
    let after = after.when(acme(state(&retitled))).then([stated_event(&retitled)]);
    let ids = |given: &Given<TenantState>| -> Vec<u32> {
        given.get().0.as_ref().unwrap().subscription.scheduled.iter().map(|change| change.id).collect()
    };
    assert_eq!(ids(&after), [1, 2]);

    let mut swapped = rich();
    swapped.scheduled.reverse();
    let after = after.when(acme(state(&swapped))).then([stated_event(&swapped)]);
    assert_eq!(ids(&after), [3, 4]);

    let plain = stated("silver");
    let after = after.when(acme(state(&plain))).then([stated_event(&plain)]);
    let tenant = after.get().0.as_ref().unwrap();
    assert_eq!(tenant.document(), plain);
    assert_eq!(tenant.last_change_id, 4);
    assert!(tenant.trials_used.contains("gold"));
    assert_eq!(tenant.references.plans, [(id("silver"), 11)].into());
    assert_eq!(tenant.references.add_ons, BTreeMap::new());
}

#[test]
fn a_document_may_state_the_past_and_means_what_it_left() {
    let mut past = TenantDocument {
        trial_until: Some(day(-1)),
        scheduled: vec![
            StatedChange { at: day(0), choice: pinned("gold", 2) },
            StatedChange { at: day(5), choice: latest("gold") },
            StatedChange { at: day(-3), choice: latest("silver") },
            StatedChange { at: day(0), choice: pinned("gold", 1) },
        ],
        ..stated("retired")
    };
    past.overrides.access.insert(target("reporting/fax"), grant(Some(day(0))));
    past.overrides.limits.insert(id("users"), limit_override(1, Some(day(-1))));
    let after = tenant([]).when(acme(state(&past))).then([stated_event(&past)]);
    let meant = TenantDocument {
        choice: pinned("gold", 1),
        scheduled: vec![StatedChange { at: day(5), choice: latest("gold") }],
        ..stated("gold")
    };
    assert_eq!(after.get().0.as_ref().unwrap().document(), meant);
    assert!(after.get().0.as_ref().unwrap().trials_used.contains("retired"));
    // Nothing of the past is left to record, and the same document changes nothing, also later.
    after.when(acme(Action::RecordDue)).then_nothing();
    after.when(acme(state(&past))).then_nothing();
    after.at(day(7)).when(acme(state(&past))).then_nothing();
}

#[test]
fn a_trial_of_the_past_is_used_even_if_nothing_else_is_left_of_it() {
    let past = TenantDocument {
        trial_until: Some(day(-2)),
        scheduled: vec![StatedChange { at: day(-9), choice: latest("silver") }],
        ..stated("gold")
    };
    let silver = tenant([stated_event(&stated("silver"))]);
    let after = silver.when(acme(state(&past))).then([stated_event(&past)]);
    assert_eq!(after.get().0.as_ref().unwrap().document(), stated("silver"));
    after.when(acme(state(&past))).then_nothing();
    after.clone().at(day(7)).when(acme(state(&past))).then_nothing();
    // As for whoever begins with that document.
    for there in [after, tenant([stated_event(&past)])] {
        let gold = there.when(acme(state(&stated("gold")))).then([stated_event(&stated("gold"))]);
        gold.when(acme(Action::StartTrial(TrialLength::OfPlan))).then_rejected("TRIAL_USED");
    }
}

#[test]
fn even_the_past_must_exist() {
    let unheard_of =
        TenantDocument { scheduled: vec![StatedChange { at: day(-1), choice: latest("gold") }], ..stated("unheard-of") };
    tenant([]).when(acme(state(&unheard_of))).then_rejected("PLAN_NOT_FOUND");
    let mut expired = stated("gold");
    expired.overrides.access.insert(target("nowhere"), grant(Some(day(-1))));
    tenant([]).when(acme(state(&expired))).then_rejected("INVALID_FIELD");
}

#[test]
fn all_names_at_fault_are_told_with_their_paths() {
    let mut bad = stated("unheard-of");
    bad.overrides.access.insert(target("nowhere/exports"), grant(None));
    bad.overrides.access.insert(target("reporting/fax"), grant(None));
    bad.overrides.access.insert(target("telex"), grant(None));
    bad.overrides.limits.insert(id("pages"), limit_override(1, None));
    bad.familiarity.insert(id("telex"), Familiarity::Full);
    let rejection = tenant([]).when(acme(state(&bad))).then_rejected("INVALID_FIELD");
    assert_eq!(
        fields(&rejection),
        [
            "document.overrides[\"nowhere/exports\"].target.service",
            "document.overrides[\"reporting/fax\"].target.feature",
            "document.overrides[\"telex\"].target.service",
            "document.overrides[\"pages\"].target.limit",
            "document.familiarity_basis_points[\"telex\"]",
        ]
    );
}

#[test]
fn a_document_keeps_archived_things_that_the_tenant_has() {
    let mut old = stated("retired");
    old.add_ons.insert(id("vintage"), attached(1));
    old.overrides.access.insert(target("telex/send"), grant(None));
    old.overrides.limits.insert(id("pages"), limit_override(1, None));
    old.familiarity.insert(id("telex"), Familiarity::Full);
    let retitled = TenantDocument { title: text("Acme Inc"), ..old.clone() };
    let there = tenant([stated_event(&old)]);
    there.when(acme(state(&retitled))).then([stated_event(&retitled)]);
    tenant([created("gold")]).when(acme(state(&retitled))).then_rejected("INVALID_FIELD");

    let mut vintage = stated("gold");
    vintage.add_ons.insert(id("vintage"), attached(1));
    let rejection = tenant([created("gold")]).when(acme(state(&vintage))).then_rejected("ADD_ON_ARCHIVED");
    assert_eq!(fields(&rejection), ["document.add_ons[\"vintage\"]"]);
    let back = TenantDocument { scheduled: vec![StatedChange { at: day(4), choice: latest("retired") }], ..stated("gold") };
    let rejection = tenant([created("gold")]).when(acme(state(&back))).then_rejected("PLAN_ARCHIVED");
    assert_eq!(fields(&rejection), ["document.scheduled[0].plan_id"]);
    tenant([created("retired")]).when(acme(state(&back))).then([stated_event(&back)]);
}

#[test]
fn documents_are_bounded() {
    let mut huge = stated("gold");
    huge.scheduled = (0..=SCHEDULED_MAX).map(|_| StatedChange { at: day(1), choice: latest("gold") }).collect();
    huge.add_ons = (0..=ADD_ONS_MAX).map(|n| (id(&format!("a{n}")), attached(1))).collect();
    huge.suspensions = (0..=SUSPENSIONS_MAX).map(|n| (text(&format!("r{n}")), day(1))).collect();
    huge.overrides.access.insert(target("reporting"), grant(None));
    huge.overrides.limits = (0..OVERRIDES_MAX).map(|n| (id(&format!("l{n}")), limit_override(1, None))).collect();
    let rejection = tenant([]).when(acme(state(&huge))).then_rejected("INVALID_FIELD");
    assert_eq!(fields(&rejection)[..4], ["document.scheduled", "document.add_ons", "document.overrides", "document.suspensions"]);
}

#[test]
fn a_deleted_tenant_keeps_title_and_plan_and_takes_nothing() {
    let deleted = tenant([stated_event(&rich())]).at(day(0)).when(acme(Action::Delete)).then([Event::Deleted]);
    let tombstone = deleted.get().0.as_ref().unwrap();
    let bare = TenantDocument { title: text("Acme Ltd"), ..stated("gold") };
    assert_eq!(tombstone.document(), bare);
    assert_eq!(tombstone.deleted_at, Some(day(0)));
    assert_eq!(tombstone.status(day(0)), TenantStatus::Deleted);
    assert_eq!(tombstone.references, References { catalog: 9, plans: [(id("gold"), 12)].into(), add_ons: BTreeMap::new() });

    for action in [state(&rich()), Action::Delete, Action::Activate, Action::RenewSubscription, Action::Resume([].into())] {
        let rejection = deleted.when(acme(action)).then_rejected("TENANT_NOT_FOUND");
        assert_eq!(rejection.kind, RejectionKind::NotFound);
    }
    deleted.at(day(100)).when(acme(Action::RecordDue)).then_nothing();
}

#[test]
fn what_was_never_created_is_not_found() {
    for action in [Action::Delete, Action::Activate, Action::ChangePlan { choice: latest("gold"), at: None }] {
        tenant([]).when(acme(action)).then_rejected("TENANT_NOT_FOUND");
    }
    tenant([]).when(acme(Action::RecordDue)).then_nothing();
}

#[test]
fn a_settled_command_alone_makes_no_tenant() {
    let settled = TenantState::settle(Settled::NoChange);
    let given = tenant([settled.clone()]);
    assert_eq!(*given.get(), TenantState(None));
    given.when(acme(create("gold"))).then([created("gold")]);
    tenant([created("gold"), settled]);
}

#[test]
fn versions_that_are_pinned_must_exist_wherever_they_are_named() {
    let mut document = stated("gold");
    let mut seats = attached(1);
    seats.version = tessera_core::value::VersionChoice::Pinned(version(2));
    document.add_ons.insert(id("seats"), seats);
    tenant([]).when(acme(state(&document))).then_rejected("ADD_ON_VERSION_NOT_FOUND");
}
