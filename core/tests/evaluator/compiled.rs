//! Tables and rows: what compiling refuses, what it keeps, what is missing, which streams answers rest on.

use std::collections::BTreeSet;
use std::sync::Arc;

use tessera_core::aggregate::References;
use tessera_core::catalog::Catalog;
use tessera_core::decision::{Query, Reason};
use tessera_core::evaluator::{Missing, Tables, TablesError, TenantRow, Unresolved, evaluate, revision_streams};
use tessera_core::ids::{AddOnId, PlanId};
use tessera_core::plan::{Document, Plan, ServiceGrant};
use tessera_core::revision::{self, Named, Revision};
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::tenant::AttachedAddOn;
use tessera_core::time::Timestamp;
use tessera_core::value::{LimitValue, Offer, Quantity, Version, VersionChoice};

use crate::script::{given, time};
use crate::stage::{id, plan_of, register, register_limit, tenant_on};

fn catalog(features: &[&str]) -> Catalog {
    let mut catalog = Catalog::default();
    for feature in features {
        register(&mut catalog, "s", Some(feature));
    }
    register_limit(&mut catalog, "l");
    catalog
}

fn plan(feature: &str) -> Plan {
    plan_of(vec![granting(feature)])
}

fn granting(feature: &str) -> Document {
    let mut document = Document::default();
    document.services.insert(id("s"), ServiceGrant { features: BTreeSet::from([id(feature)]), familiarity: None }.into());
    document
}

fn tables(features: &[&str]) -> Tables {
    Tables::empty().with_catalog(1, &catalog(features)).unwrap()
}

fn reason(tables: &Tables, row: &TenantRow, feature: &str) -> Reason {
    evaluate(tables, Some(row), &Query { service: "s", feature, limit: None }, Timestamp::MIN).reason()
}

#[test]
fn a_plan_that_needs_a_newer_catalog_is_refused_whole_and_names_what_is_missing() {
    let tables = tables(&["a"]);
    let mut document = granting("b");
    document.services.insert(id("t"), Arc::default());
    document.limits.insert(id("m"), LimitValue::Unlimited);
    let needs_more = plan_of(vec![granting("a"), document]);
    let error = tables.with_plan(&id("p"), 4, Some(&needs_more)).unwrap_err();
    let names = vec![Unresolved::Feature(id("s"), id("b")), Unresolved::Service(id("t")), Unresolved::Limit(id("m"))];
    assert_eq!(error, TablesError::Missing(Missing { names }));
    assert_eq!(error.to_string(), "not known here: feature `s/b`, service `t`, limit `m`");
    assert_eq!(tables.plan_seq(&id("p")), None);

    let mut newer = catalog(&["a", "b"]);
    register(&mut newer, "t", None);
    register_limit(&mut newer, "m");
    let tables = tables.with_catalog(2, &newer).unwrap().with_plan(&id("p"), 4, Some(&needs_more)).unwrap();
    assert_eq!(tables.plan_seq(&id("p")), Some(4));
    let row = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Latest)).unwrap();
    assert_eq!(reason(&tables, &row, "b"), Reason::GrantedByPlan);
    assert_eq!(reason(&tables, &row, "a"), Reason::FeatureNotInPlan);
}

#[test]
fn long_lists_of_missing_names_are_cut_in_messages_only() {
    let names: Vec<_> = (0..11).map(|n| Unresolved::Limit(id(&format!("l{n}")))).collect();
    let missing = Missing { names };
    assert!(missing.to_string().ends_with("limit `l7` and 3 more"), "{missing}");
    assert_eq!(missing.names.len(), 11);
}

#[test]
fn a_refused_change_leaves_the_tables_as_they_were() {
    let mut tables = tables(&["a"]).with_plan(&id("p"), 1, Some(&plan("a"))).unwrap();
    let row = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Latest)).unwrap();
    assert!(tables.set_plan(&id("p"), 2, Some(&plan_of(vec![granting("a"), granting("b")]))).is_err());
    assert!(tables.set_catalog(2, &Catalog::default()).is_err());
    assert_eq!((tables.catalog_seq(), tables.plan_seq(&id("p"))), (1, Some(1)));
    assert_eq!(reason(&tables, &row, "a"), Reason::GrantedByPlan);
}

#[test]
fn a_catalog_may_grow_and_never_shrink_or_move() {
    let tables = tables(&["a", "b"]);
    assert!(tables.with_catalog(2, &catalog(&["a", "b", "c"])).is_ok());
    for other in [&["a"][..], &["b", "a"], &["a", "c"], &[]] {
        assert_eq!(tables.with_catalog(2, &catalog(other)).unwrap_err(), TablesError::CatalogRewritten, "{other:?}");
    }
    let mut without_limit = catalog(&["a", "b"]);
    without_limit.limits.clear();
    assert_eq!(tables.with_catalog(2, &without_limit).unwrap_err(), TablesError::CatalogRewritten);
}

#[test]
fn a_malformed_catalog_is_refused() {
    let breaks: [fn(&mut Catalog); 6] = [
        |c| c.feature_count = 3,
        |c| c.feature_count = 0,
        |c| c.services[0].features[1].ordinal = 0,
        |c| c.services[0].features[1].ordinal = u32::MAX,
        |c| c.services[0].features[1].id = id("a"),
        |c| c.limits.push(c.limits[0].clone()),
    ];
    for (at, change) in breaks.into_iter().enumerate() {
        let mut catalog = catalog(&["a", "b"]);
        change(&mut catalog);
        assert_eq!(Tables::empty().with_catalog(1, &catalog).unwrap_err(), TablesError::CatalogMalformed, "{at}");
    }
    let mut twice = catalog(&["a"]);
    twice.services.push(twice.services[0].clone());
    twice.services[1].features.clear();
    assert_eq!(Tables::empty().with_catalog(1, &twice).unwrap_err(), TablesError::CatalogMalformed);
}

#[test]
fn features_of_services_that_grew_in_turns_keep_their_bits() {
    let mut catalog = Catalog::default();
    for round in 0..70 {
        register(&mut catalog, "s", Some(&format!("f{round}")));
        register(&mut catalog, "t", Some(&format!("f{round}")));
    }
    let tables = Tables::empty().with_catalog(1, &catalog).unwrap().with_plan(&id("p"), 1, Some(&plan("f33"))).unwrap();
    let row = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Latest)).unwrap();
    for round in 0..70 {
        let expected = if round == 33 { Reason::GrantedByPlan } else { Reason::FeatureNotInPlan };
        assert_eq!(reason(&tables, &row, &format!("f{round}")), expected, "{round}");
        let query = Query { service: "t", feature: &format!("f{round}"), limit: None };
        assert_eq!(evaluate(&tables, Some(&row), &query, Timestamp::MIN).reason(), Reason::ServiceNotInPlan);
    }
}

#[test]
fn published_versions_are_never_lost() {
    let two = plan_of(vec![granting("a"), granting("a")]);
    let tables = tables(&["a"]).with_plan(&id("p"), 3, Some(&two)).unwrap();
    for fewer in [Some(&plan("a")), None] {
        let error = tables.with_plan(&id("p"), 4, fewer).unwrap_err();
        let has = usize::from(fewer.is_some());
        assert_eq!(error, TablesError::VersionsLost { stream: StreamId::Plan(id("p")), had: 2, has });
    }
    assert_eq!(
        tables.with_plan(&id("p"), 4, None).unwrap_err().to_string(),
        "stream `plan/p` has 0 published versions and had 2; allowed are at least as many"
    );
}

#[test]
fn a_version_that_the_store_has_differently_is_compiled_again() {
    let tables = tables(&["a", "b"]).with_plan(&id("p"), 1, Some(&plan("a"))).unwrap();
    let row = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Latest)).unwrap();
    let repaired = tables.with_plan(&id("p"), 1, Some(&plan("b"))).unwrap();
    assert_eq!((reason(&tables, &row, "a"), reason(&tables, &row, "b")), (Reason::GrantedByPlan, Reason::FeatureNotInPlan));
    assert_eq!((reason(&repaired, &row, "a"), reason(&repaired, &row, "b")), (Reason::FeatureNotInPlan, Reason::GrantedByPlan));
}

#[test]
fn publishing_reaches_rows_that_follow_the_latest_and_no_others() {
    let tables = tables(&["a", "b"]).with_plan(&id("p"), 1, Some(&plan("a"))).unwrap();
    let follows = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Latest)).unwrap();
    let pinned = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Pinned(Version::MIN))).unwrap();
    let newer = tables.with_plan(&id("p"), 2, Some(&plan_of(vec![granting("a"), granting("b")]))).unwrap();
    assert_eq!(reason(&newer, &follows, "b"), Reason::GrantedByPlan);
    assert_eq!(reason(&newer, &pinned, "b"), Reason::FeatureNotInPlan);
    assert_eq!(reason(&newer, &pinned, "a"), Reason::GrantedByPlan);
    // The tables that were there before answer as before.
    assert_eq!(reason(&tables, &follows, "b"), Reason::FeatureNotInPlan);
}

#[test]
fn a_tombstone_keeps_its_place_and_the_id_may_be_used_again() {
    let mut tables = tables(&["a"]);
    tables.set_plan(&id("draft"), 1, Some(&plan_of(Vec::new()))).unwrap();
    tables.set_plan(&id("p"), 1, Some(&plan("a"))).unwrap();
    let row = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Latest)).unwrap();
    tables.set_plan(&id("draft"), 2, None).unwrap();
    assert_eq!(tables.plan_seq(&id("draft")), Some(2));
    tables.set_plan(&id("draft"), 4, Some(&plan("a"))).unwrap();
    assert_eq!(reason(&tables, &row, "a"), Reason::GrantedByPlan);
    let listed: Vec<_> = tables.plans().map(|(plan, seq)| (plan.as_str(), seq)).collect();
    assert_eq!(listed, [("draft", 4), ("p", 1)]);
}

#[test]
fn a_row_waits_for_every_name_it_uses() {
    let (stage, tenant) = given("");
    let mut tenant = tenant.unwrap();
    let (_, rich) = given("then 20 gold; add-on seats; grant reporting/mail; max users 4; show reporting 7500");
    let tables = tables(&["a"]);
    let missing = |tenant| TenantRow::compile(&tables, 1, &tenant).unwrap_err().names;
    let latest = |plan: &str| Unresolved::Version(Offer::Plan(id(plan)), None);
    assert_eq!(missing(tenant.clone()), [latest("silver")]);
    assert_eq!(
        missing(rich.unwrap()),
        [
            latest("silver"),
            latest("gold"),
            Unresolved::Service(id("reporting")),
            Unresolved::Limit(id("users")),
            Unresolved::Version(Offer::AddOn(id("seats")), None),
            Unresolved::Service(id("reporting")),
        ]
    );
    // A version that is not published yet, of a plan and of an add-on.
    let third = Version::new(3).unwrap();
    tenant.subscription.choice.version = VersionChoice::Pinned(third);
    let version = VersionChoice::Pinned(Version::MAX);
    tenant.add_ons.insert(id("seats"), AttachedAddOn { quantity: Quantity::ONE, version });
    let error = TenantRow::compile(&stage.tables, 1, &tenant).unwrap_err();
    let names = [
        Unresolved::Version(Offer::Plan(id("silver")), Some(third)),
        Unresolved::Version(Offer::AddOn(id("seats")), Some(Version::MAX)),
    ];
    assert_eq!(error.names, names);
    assert_eq!(error.to_string(), "not known here: version 3 of plan `silver`, version 4294967295 of add-on `seats`");
}

#[test]
fn a_row_of_a_plan_that_was_never_published_waits() {
    let tables = tables(&["a"]).with_plan(&id("p"), 1, Some(&plan_of(Vec::new()))).unwrap();
    let error = TenantRow::compile(&tables, 1, &tenant_on("p", VersionChoice::Latest)).unwrap_err();
    assert_eq!(error.to_string(), "not known here: a published version of plan `p`");
}

#[test]
fn references_are_there_when_every_stream_is_applied_to_its_seq() {
    let mut tables = tables(&["a"]);
    tables.set_plan(&id("p"), 5, Some(&plan("a"))).unwrap();
    tables.set_add_on(&id("e"), 7, Some(&plan("a"))).unwrap();
    assert_eq!((tables.plan_seq(&id("p")), tables.add_on_seq(&id("e"))), (Some(5), Some(7)));
    let needs = |catalog, plan, add_on| References {
        catalog,
        plans: [(id::<PlanId>("p"), plan)].into(),
        add_ons: [(id::<AddOnId>("e"), add_on)].into(),
    };
    assert_eq!(tables.has(&References::default()), Ok(()));
    assert_eq!(tables.has(&needs(1, 5, 7)), Ok(()));
    assert_eq!(tables.has(&needs(0, 4, 1)), Ok(()));
    let behind = vec![(StreamId::Catalog, 2), (StreamId::Plan(id("p")), 6), (StreamId::AddOn(id("e")), 8)];
    assert_eq!(tables.has(&needs(2, 6, 8)), Err(behind));
    let unknown = References { plans: [(id("q"), 1)].into(), ..References::default() };
    assert_eq!(tables.has(&unknown), Err(vec![(StreamId::Plan(id("q")), 1)]));
    assert_eq!(Tables::empty().has(&References::default()), Ok(()));
}

#[test]
fn streams_are_found_by_the_hash_that_revisions_name() {
    let mut tables = tables(&["a"]);
    for (seq, name) in (1..).zip(["p", "q", "r"]) {
        tables.set_plan(&id(name), seq, Some(&plan("a"))).unwrap();
        tables.set_add_on(&id(name), seq + 10, Some(&plan("a"))).unwrap();
    }
    let seq = |stream: StreamId| tables.seq_by_hash(stream.kind(), stream.hash());
    assert_eq!(seq(StreamId::Catalog), Some(1));
    assert_eq!(seq(StreamId::Plan(id("q"))), Some(2));
    assert_eq!(seq(StreamId::AddOn(id("q"))), Some(12));
    assert_eq!(seq(StreamId::Plan(id("s"))), None);
    assert_eq!(seq(StreamId::Tenant(id("q"))), None);
    assert_eq!(tables.seq_by_hash(StreamKind::Plan, StreamId::AddOn(id("q")).hash()), None);
    assert_eq!(tables.seq_by_hash(StreamKind::Catalog, 7), None);
    assert_eq!(Tables::empty().seq_by_hash(StreamKind::Catalog, StreamId::Catalog.hash()), None);
}

#[test]
fn an_answer_rests_on_catalog_tenant_the_plan_in_force_and_add_ons() {
    let (mut stage, tenant) = given("then 20 gold; add-on seats; add-on counter");
    stage.tables.set_plan(&id("gold"), 9, Some(&stage.plans["gold"])).unwrap();
    let row = TenantRow::compile(&stage.tables, 7, &tenant.unwrap()).unwrap();
    let named = |text: &str, now: &str| -> Vec<Named> { revision_streams(&stage.tables, text, Some(&row), time(now)).collect() };
    let expected = |plan: &str, seq| {
        vec![
            Named::new(&StreamId::Catalog, 1),
            Named::new(&StreamId::Tenant(id("acme")), 7),
            Named::new(&StreamId::Plan(id(plan)), seq),
            Named::new(&StreamId::AddOn(id("counter")), 1),
            Named::new(&StreamId::AddOn(id("seats")), 1),
        ]
    };
    assert_eq!(named("acme", "19"), expected("silver", 1));
    assert_eq!(named("acme", "20"), expected("gold", 9));
    let mut bytes = Vec::new();
    revision::write(&mut bytes, 1, named("acme", "20"));
    let read = Revision::parse(&bytes).unwrap();
    assert_eq!((read.check_tenant("acme").is_ok(), read.check_tenant("Acme").is_ok()), (true, false));
}

#[test]
fn what_is_said_of_an_unknown_tenant_rests_on_the_catalog_alone() {
    let tables = tables(&["a"]);
    let named: Vec<_> = revision_streams(&tables, "acme", None, Timestamp::MIN).collect();
    assert_eq!(named, [Named::new(&StreamId::Catalog, 1)]);
    assert_eq!(revision_streams(&Tables::empty(), "acme", None, Timestamp::MIN).count(), 0);
}

#[test]
fn rows_are_small_and_plain_ones_own_nothing() {
    assert!(size_of::<TenantRow>() <= 40, "{}", size_of::<TenantRow>());
    assert!(size_of::<Option<TenantRow>>() <= 40);
    let (stage, tenant) = given("");
    let tenant = tenant.unwrap();
    let row = TenantRow::compile(&stage.tables, 3, &tenant).unwrap();
    assert_eq!((row.seq(), row.is_pending(), row.is_deleted()), (3, false, false));
    assert_eq!(row, row.clone());
    let (_, pending) = given("pending");
    assert!(TenantRow::compile(&stage.tables, 3, &pending.unwrap()).unwrap().is_pending());
    let (_, deleted) = given("pending; deleted; grant orders");
    let deleted = TenantRow::compile(&stage.tables, 3, &deleted.unwrap()).unwrap();
    assert_eq!((deleted.is_pending(), deleted.is_deleted()), (false, true));
}

#[test]
fn a_row_asked_of_tables_of_another_lineage_is_denied_and_has_no_document() {
    let (stage, tenant) = given("add-on seats; then 5 gold; grant orders; max users 5; show reporting 7500");
    let row = TenantRow::compile(&stage.tables, 3, &tenant.unwrap()).unwrap();
    let foreign = Tables::empty().with_catalog(1, &catalog(&["a"])).unwrap();
    let query = Query { service: "s", feature: "a", limit: None };
    let verdict = evaluate(&foreign, Some(&row), &query, time("10"));
    assert!(!verdict.entitled());
    assert!(verdict.plan(&foreign).is_none());
    assert!(tessera_core::evaluator::document(&foreign, &row, time("10")).is_none());
    assert!(tessera_core::evaluator::document(&Tables::empty(), &row, time("10")).is_none());
}
