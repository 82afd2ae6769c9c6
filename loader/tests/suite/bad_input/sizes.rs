//! Documents, registries, tenants, texts and requests over their limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use serde_json::{Value, json};
use tessera_core::ids::PlanId;
use tessera_core::plan::{self, PlanState};
use tessera_core::stream::StreamId;
use tessera_core::tenant::{Action, SUSPENSIONS_MAX, TenantState};
use tessera_core::value::{Description, Offer, Reason, Title};
use tessera_loader::aggregate::Handled;
use tessera_proto::{storage, v1};
use tonic::Code;

use super::asking::{Said, ask, said, send};
use crate::bench::{Bench, ask as ask_of, create, document, new_year, reason, rename, request, stream};
use crate::rig::{Rig, create_plan, service};

fn tenant_document(more: Value) -> Value {
    let mut document = json!({ "tenant_id": "acme", "plan_id": "gold" });
    let Value::Object(more) = more else { panic!("an object was expected") };
    document.as_object_mut().unwrap().extend(more);
    json!({ "document": document })
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
async fn texts_and_labels_have_bounds() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let long = |len: usize| "x".repeat(len);
    let (title, description, label) = ("at most 200 bytes without control characters", "at most 2000 bytes", "63 bytes");
    let set = |reason: &str| json!({ "target": { "limit": "max_users" }, "value": { "maximum": 1 }, "reason": reason });
    let labelled = |key: &str, value: &str| -> Value { json!({ "tenant_id": "acme", "labels": { key: value } }) };
    let in_service = |feature: Value| json!({ "service_id": "reporting", "features": [feature] });
    let of_label = |key: &str| format!("labels[\"{key}\"]");
    for (method, request, field, allowed) in [
        ("TenantService/UpdateTenant", json!({ "tenant_id": "acme", "title": long(201) }), "title".to_owned(), title),
        ("TenantService/CreateTenant", json!({ "plan_id": "gold", "title": long(201) }), "title".to_owned(), title),
        ("TenantService/StateTenant", tenant_document(json!({ "title": long(201) })), "document.title".to_owned(), title),
        (
            "PlanService/CreatePlan",
            json!({ "plan_id": "p", "document": { "title": long(201) } }),
            "document.title".to_owned(),
            title,
        ),
        (
            "PlanService/CreatePlan",
            json!({ "plan_id": "p", "document": { "description": long(2_001) } }),
            "document.description".to_owned(),
            description,
        ),
        ("CatalogService/UpsertService", json!({ "service_id": "s", "title": long(201) }), "title".to_owned(), title),
        ("CatalogService/UpsertLimit", json!({ "limit_id": "l", "unit": long(201) }), "unit".to_owned(), title),
        (
            "CatalogService/UpsertLimit",
            json!({ "limit_id": "l", "description": long(2_001) }),
            "description".to_owned(),
            description,
        ),
        (
            "CatalogService/UpsertService",
            in_service(json!({ "feature_id": "f", "title": long(201) })),
            "features[0].title".to_owned(),
            title,
        ),
        (
            "CatalogService/UpsertService",
            in_service(json!({ "feature_id": "f", "description": long(2_001) })),
            "features[0].description".to_owned(),
            description,
        ),
        (
            "CatalogService/DisableFeature",
            json!({ "service_id": "reporting", "reason": long(201) }),
            "reason".to_owned(),
            "1 to 200 bytes",
        ),
        ("CatalogService/DisableFeature", json!({ "service_id": "reporting" }), "reason".to_owned(), "1 to 200 bytes"),
        (
            "TenantService/SuspendTenant",
            json!({ "tenant_id": "acme", "reason": long(201) }),
            "reason".to_owned(),
            "1 to 200 bytes",
        ),
        (
            "TenantService/ResumeTenant",
            json!({ "tenant_id": "acme", "reasons": ["r", long(201)] }),
            "reasons[1]".to_owned(),
            "1 to 200 bytes",
        ),
        (
            "TenantService/SetOverride",
            json!({ "tenant_id": "acme", "override": set(&long(201)) }),
            "override.reason".to_owned(),
            "1 to 200 bytes",
        ),
        (
            "TenantService/SetOverride",
            json!({ "tenant_id": "acme", "override": set("") }),
            "override.reason".to_owned(),
            "1 to 200 bytes",
        ),
        (
            "TenantService/StateTenant",
            tenant_document(json!({ "overrides": [set(&long(201))] })),
            "document.overrides[0].reason".to_owned(),
            "1 to 200 bytes",
        ),
        (
            "TenantService/StateTenant",
            tenant_document(json!({ "suspensions": [{ "reason": long(201) }] })),
            "document.suspensions[0].reason".to_owned(),
            "1 to 200 bytes",
        ),
        ("TenantService/UpdateTenant", labelled(&long(64), "v"), of_label(&long(64)), label),
        ("TenantService/UpdateTenant", labelled("k", &long(64)), of_label("k"), label),
        ("TenantService/UpdateTenant", labelled("", "v"), of_label(""), "1 to 63 bytes"),
        ("TenantService/UpdateTenant", labelled("k", "a\u{1b}[2Jb"), of_label("k"), "text without control characters"),
        ("TenantService/ListTenants", json!({ "labels": { "k": long(64) } }), of_label("k"), label),
        (
            "TenantService/UpdateTenant",
            json!({ "tenant_id": "acme", "title": "two\nlines" }),
            "title".to_owned(),
            "text without control characters",
        ),
        ("AuditService/ListAuditEvents", json!({ "actor": long(201) }), "actor".to_owned(), "1 to 200 bytes"),
    ] {
        let found = said(ask(&rig, method, &request).await);
        found.is_invalid(&field, &[allowed]);
        let description = &found.violations[0].1;
        assert!(!description.contains(&long(65)) && !description.contains('\n'), "shown uncut: {description}");
    }
    let many: BTreeMap<String, String> = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
    for (method, request, field) in [
        ("TenantService/UpdateTenant", json!({ "tenant_id": "acme", "labels": many }), "labels"),
        ("TenantService/CreateTenant", json!({ "plan_id": "gold", "labels": many }), "labels"),
        ("TenantService/StateTenant", tenant_document(json!({ "labels": many })), "document.labels"),
        ("TenantService/ListTenants", json!({ "labels": many }), "labels"),
    ] {
        said(ask(&rig, method, &request).await).is_invalid(field, &["33 labels", "allowed are at most 32"]);
    }
    assert_eq!(rig.bench.stored("acme").1, 1, "nothing was written");
}

#[tokio::test]
async fn lists_name_each_once() {
    let rig = Rig::furnished().await;
    let set = json!({ "target": { "limit": "max_users" }, "value": { "maximum": 1 }, "reason": "r" });
    let twice = |one: Value| json!([one, one]);
    for (method, request, field, shown) in [
        ("TenantService/StateTenant", tenant_document(json!({ "overrides": twice(set) })), "document.overrides", "`max_users`"),
        (
            "TenantService/StateTenant",
            tenant_document(json!({ "add_ons": twice(json!({ "add_on_id": "seats" })) })),
            "document.add_ons",
            "`seats`",
        ),
        (
            "TenantService/StateTenant",
            tenant_document(json!({ "suspensions": twice(json!({ "reason": "r" })) })),
            "document.suspensions",
            "`r`",
        ),
        (
            "PlanService/CreatePlan",
            json!({ "plan_id": "p", "document": { "services": { "reporting": { "features": ["exports", "exports"] } } } }),
            "document.services[\"reporting\"].features[1]",
            "`exports`",
        ),
        (
            "CatalogService/UpsertService",
            json!({ "service_id": "s", "features": twice(json!({ "feature_id": "f" })) }),
            "features[1].feature_id",
            "`f`",
        ),
    ] {
        said(ask(&rig, method, &request).await).is_invalid(field, &[shown, "comes twice; allowed is once"]);
    }
}

#[tokio::test]
async fn tenants_hold_so_many_exceptions_and_no_more() {
    let mut rig = Rig::new().await;
    let features: Vec<String> = (0..500).map(|n| format!("f{n}")).collect();
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    rig.catalog.upsert_service(service("reporting", &features)).await.unwrap();
    rig.plans
        .create_plan(v1::CreatePlanRequest { document: Some(v1::PlanDocument::default()), ..create_plan("gold", 1) })
        .await
        .unwrap();
    rig.plans.publish_plan(v1::PublishPlanRequest { plan_id: "gold".to_owned(), ..Default::default() }).await.unwrap();
    for n in 0..65 {
        let add_on = json!({ "add_on_id": format!("a{n}"), "document": {} });
        ask(&rig, "AddOnService/CreateAddOn", &add_on).await.unwrap();
        ask(&rig, "AddOnService/PublishAddOn", &json!({ "add_on_id": format!("a{n}") })).await.unwrap();
    }
    let on = |feature: &str| {
        let target = json!({ "service": "reporting", "feature": feature });
        json!({ "target": target, "effect": "OVERRIDE_EFFECT_GRANT", "reason": "r" })
    };
    let on_service = json!({ "target": { "service": "reporting" }, "effect": "OVERRIDE_EFFECT_DENY", "reason": "r" });
    let mut overrides: Vec<Value> = features.iter().map(|feature| on(feature)).collect();
    let mut add_ons: Vec<Value> = (0..64).map(|n| json!({ "add_on_id": format!("a{n}") })).collect();
    let full = tenant_document(json!({ "overrides": overrides, "add_ons": add_ons }));
    ask(&rig, "TenantService/StateTenant", &full).await.unwrap();

    // One by one on a tenant that is full.
    let one_more = json!({ "tenant_id": "acme", "override": on_service });
    said(ask(&rig, "TenantService/SetOverride", &one_more).await).is(
        Code::FailedPrecondition,
        "TOO_MANY_OVERRIDES",
        &["500 overrides", "at most 500"],
    );
    let one_more = json!({ "tenant_id": "acme", "add_on": { "add_on_id": "a64" } });
    said(ask(&rig, "TenantService/AttachAddOn", &one_more).await).is(
        Code::FailedPrecondition,
        "TOO_MANY_ADD_ONS",
        &["64 add-ons", "at most 64"],
    );
    // Whole documents.
    overrides.push(on_service);
    add_ons.push(json!({ "add_on_id": "a64" }));
    let change = json!({ "at": "2030-01-01T00:00:00Z", "plan_id": "gold" });
    let suspensions: Vec<Value> = (0..33).map(|n| json!({ "reason": format!("r{n}") })).collect();
    for (more, field, count, allowed) in [
        (json!({ "overrides": overrides }), "document.overrides", "501 overrides", "at most 500"),
        (json!({ "add_ons": add_ons }), "document.add_ons", "65 add-ons", "at most 64"),
        (json!({ "scheduled": vec![change; 65] }), "document.scheduled", "65 scheduled changes", "at most 64"),
        (json!({ "suspensions": suspensions }), "document.suspensions", "33 suspension reasons", "at most 32"),
    ] {
        said(ask(&rig, "TenantService/StateTenant", &tenant_document(more)).await).is_invalid(field, &[count, allowed]);
    }
    assert_eq!(rig.bench.stored("acme").1, 1);
}

/// A service with as many features as that, each described in that many bytes.
fn services_of(id: &str, features: usize, description: usize) -> v1::UpsertServiceRequest {
    let feature =
        |n| v1::FeatureDocument { feature_id: format!("f{n}"), description: "x".repeat(description), ..Default::default() };
    v1::UpsertServiceRequest { service_id: id.to_owned(), features: (0..features).map(feature).collect(), ..Default::default() }
}

#[track_caller]
fn is_full(found: &Said, what: &str, most: &str) {
    assert_eq!(found.code, Code::FailedPrecondition, "{found:?}");
    assert!(found.message.contains(what) && found.message.contains(most), "{found:?}");
}

#[tokio::test]
async fn the_registry_is_full_at_500_services_5000_features_and_1000_limits() {
    let mut rig = Rig::new().await;
    let too_many = services_of("s", 5_001, 0);
    let found = said(rig.catalog.upsert_service(too_many).await);
    assert_eq!((found.code, found.reason.as_str()), (Code::InvalidArgument, "TOO_LARGE"), "{found:?}");
    assert_eq!(found.violations, [("features".to_owned(), "`5001` features; allowed are at most 5000".to_owned())]);
    rig.catalog.upsert_service(services_of("s0", 4_999, 0)).await.unwrap();
    is_full(&said(rig.catalog.upsert_service(services_of("s1", 2, 0)).await), "features", "5000");
    for n in 1..500 {
        rig.catalog.upsert_service(services_of(&format!("s{n}"), 0, 0)).await.unwrap();
    }
    is_full(&said(rig.catalog.upsert_service(services_of("s500", 0, 0)).await), "services", "500");
    for n in 0..1_000 {
        let limit = v1::UpsertLimitRequest { limit_id: format!("l{n}"), ..Default::default() };
        rig.catalog.upsert_limit(limit).await.unwrap();
    }
    let limit = v1::UpsertLimitRequest { limit_id: "l1000".to_owned(), ..Default::default() };
    is_full(&said(rig.catalog.upsert_limit(limit).await), "limits", "1000");

    // A plan of more features than a plan may have.
    let grant =
        |features: usize| v1::ServiceGrant { features: (0..features).map(|n| format!("f{n}")).collect(), ..Default::default() };
    let plan = |features| v1::CreatePlanRequest {
        plan_id: "p".to_owned(),
        document: Some(v1::PlanDocument { services: [("s0".to_owned(), grant(features))].into(), ..Default::default() }),
        ..Default::default()
    };
    said(rig.plans.create_plan(plan(2_001)).await)
        .is_invalid("document.services", &["2001 features over all services", "at most 2000"]);
    rig.plans.create_plan(plan(2_000)).await.unwrap();
}

#[tokio::test]
async fn a_state_that_would_not_fit_is_refused_and_says_how_long_it_is() {
    let mut rig = Rig::new().await;
    rig.catalog.upsert_service(services_of("s0", 400, 2_000)).await.unwrap();
    let found = said(rig.catalog.upsert_service(services_of("s1", 100, 2_000)).await);
    found.is(Code::FailedPrecondition, "STATE_TOO_LARGE", &["the stored state would have", "at most 856064"]);
    rig.catalog.upsert_service(services_of("s1", 1, 0)).await.unwrap();
}

#[tokio::test]
async fn a_catalog_full_of_descriptions_has_room_for_kill_switches_and_archiving() {
    let mut rig = Rig::new().await;
    rig.catalog.upsert_service(services_of("s0", 400, 2_000)).await.unwrap();
    // Up to the last bytes.
    let mut last = 0;
    for description in [2_000, 200, 20, 0] {
        loop {
            match rig.catalog.upsert_service(services_of(&format!("s{}", last + 1), 1, description)).await {
                Ok(_) => last += 1,
                refused => break said(refused).is(Code::FailedPrecondition, "STATE_TOO_LARGE", &[]),
            }
        }
    }
    for feature in 0..300 {
        let disable = json!({ "service_id": "s0", "feature_id": format!("f{feature}"), "reason": "x".repeat(200) });
        ask(&rig, "CatalogService/DisableFeature", &disable).await.unwrap();
    }
    ask(&rig, "CatalogService/ArchiveService", &json!({ "service_id": "s1" })).await.unwrap();
    // What states less goes through, too.
    rig.catalog.upsert_service(services_of("s0", 400, 1_990)).await.unwrap();
    let found = said(rig.catalog.upsert_service(services_of(&format!("s{}", last + 1), 1, 0)).await);
    found.is(Code::FailedPrecondition, "STATE_TOO_LARGE", &["at most 856064"]);
}

/// Makes the stored state of a stream so long that nothing more may be stated in it: each `more` but the first adds as many bytes.
fn fill<A: Handled>(bench: &Bench, stream: &StreamId, more: impl Fn(&mut A, usize)) {
    let (_, bytes) = bench.store.inner.current(stream).unwrap();
    let (mut state, at) = storage::decode_state::<A>(&bytes).unwrap();
    let mut len_with = |n| {
        more(&mut state, n);
        storage::encode_state(&state, at).len()
    };
    let (before, after) = (len_with(0), len_with(1));
    for n in 2..=(A::STATED_LEN_MAX - before) / (after - before) + 1 {
        more(&mut state, n);
    }
    let full = storage::encode_state(&state, at);
    assert!((A::STATED_LEN_MAX + 1..A::STATE_LEN_MAX - 1_000).contains(&full.len()), "{} bytes", full.len());
    assert!(bench.store.inner.faults().overwrite_state(stream, full.into()));
}

#[tokio::test(start_paused = true)]
async fn a_plan_and_a_tenant_in_which_nothing_more_may_be_stated_can_be_ended_and_switched_off() {
    let bench = Bench::new();
    bench.furnished().await.tenants().handle(create("acme", "r1")).await.unwrap();
    fill(&bench, &stream("acme"), |acme: &mut TenantState, n| {
        acme.0.as_mut().unwrap().trials_used.insert(PlanId::parse(&format!("plan-{n:05}")).unwrap());
    });
    let gold = Offer::Plan(PlanId::parse("gold").unwrap());
    fill(&bench, &StreamId::from(gold.clone()), |gold: &mut PlanState, n| {
        let description = Description::parse("a description", &format!("{n:05}{}", "x".repeat(1_900))).unwrap();
        let document = Arc::new(plan::Document { description, ..plan::Document::default() });
        gold.0.as_mut().unwrap().versions.push(plan::PublishedVersion { document, published_at: new_year() });
    });
    let loader = bench.loader().handle();
    let of_gold = |action, id| request(StreamId::from(gold.clone()), plan::Command { offer: gold.clone(), action }, id);
    let title = Title::parse("a title", "another").unwrap();
    let draft = plan::Document { title, ..document(1_000) };
    assert_eq!(reason(loader.offers().handle(of_gold(plan::Action::Update(draft), "r2")).await), "STATE_TOO_LARGE");
    assert_eq!(reason(loader.tenants().handle(rename("acme", "another", "r3")).await), "STATE_TOO_LARGE");
    let why = |n: usize| Reason::parse("a reason", &format!("{n:02}{}", "x".repeat(198))).unwrap();
    let suspend = |n| Action::Suspend { reason: why(n), effective_at: Some(new_year()) };
    let later = Some(new_year().saturating_add(Duration::from_mins(1)));
    let going_through = (0..SUSPENSIONS_MAX).map(suspend).chain([
        Action::CancelSubscription(later),
        Action::RecordDue,
        Action::Resume([why(0)].into()),
        Action::Delete,
    ]);
    for (n, action) in going_through.enumerate() {
        let shown = format!("{action:?}");
        let done = loader.tenants().handle(ask_of("acme", action, &format!("s{n}"))).await;
        assert!(done.is_ok(), "{shown}: {done:?}");
    }
    loader.offers().handle(of_gold(plan::Action::Archive, "r4")).await.unwrap();
}

#[tokio::test]
async fn requests_that_are_too_long_or_no_messages_are_refused_in_our_words() {
    let rig = Rig::furnished().await;
    // Longer than any request may be; which of its fields makes it so is not looked at.
    let long = services_of("s", 1_100, 2_000).encode_to_vec();
    assert!(long.len() > 2 << 20);
    for method in
        ["CatalogService/UpsertService", "TenantService/StateTenant", "PlanService/CreatePlan", "AuditService/GetTenantAt"]
    {
        let found = said(send(&rig, method, long.clone()).await);
        assert_eq!((found.code, found.reason.as_str()), (Code::InvalidArgument, "TOO_LARGE"), "{method}: {found:?}");
        let [(field, description)] = found.violations.as_slice() else { panic!("{found:?}") };
        assert!(field == "request" && description.contains("2097152 bytes, the most that is allowed"), "{found:?}");
    }
    for bytes in [
        // A string that is not UTF-8, a field cut short, a number that never ends, a wire type that is none.
        b"\x0a\x02\xff\xfe".to_vec(),
        b"\x0a\x7fabc".to_vec(),
        vec![0x08; 1].into_iter().chain([0xff; 11]).collect(),
        b"\x0f".to_vec(),
    ] {
        said(send(&rig, "TenantService/GetTenant", bytes).await)
            .is_invalid("request", &["the message cannot be decoded", "allowed is the request message of this method"]);
    }
}
