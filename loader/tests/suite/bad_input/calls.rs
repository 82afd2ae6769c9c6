//! What every call has: deadlines, etags, request ids, pages, filters, masks, enums; and stores that cannot be asked.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;
use serde_json::{Value, json};
use tessera_core::shown::{shown, shown_bytes};
use tessera_core::stream::StreamKind;
use tessera_loader::digest;
use tessera_ports::memory::{Operation, StoreChances};
use tessera_proto::v1;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::asking::{ask, said};
use crate::bench::{Bench, stream};
use crate::rig::{Rig, create_tenant};

#[tokio::test]
async fn a_deadline_that_is_over_on_arrival_applies_nothing() {
    let bench = Bench::new();
    let loader = bench.loader();
    // Straight to the services: a listener may notice first, and then nothing arrives at all.
    let mut client = TenantServiceClient::new(loader.routes());
    let late = |request_id: &str| {
        let asked = v1::CreateTenantRequest { request_id: request_id.to_owned(), ..create_tenant("acme") };
        let mut request = Request::new(asked);
        request.metadata_mut().insert("grpc-timeout", "0n".parse().unwrap());
        request
    };
    let status = client.create_tenant(late("r1")).await.unwrap_err();
    assert_eq!(status.metadata().get("tessera-request-id").unwrap(), "r1");
    said(Err::<(), _>(status)).is(Code::Aborted, "OUTCOME_UNKNOWN", &["`r1`", "send it again with the same request id"]);
    // A bad field is not even looked for: there is no time.
    said(client.create_tenant(late("r2")).await).is(Code::Aborted, "OUTCOME_UNKNOWN", &["`r2`"]);
    said(client.create_tenant(late("\u{2028}")).await).is_invalid("request_id", &[r"`\u{2028}`"]);
    assert_eq!((bench.stored("acme").1, bench.store.appends().len()), (0, 0));

    let mut get = Request::new(v1::GetTenantRequest { tenant_id: "acme".to_owned(), show_deleted: false });
    get.metadata_mut().insert("grpc-timeout", "0u".parse().unwrap());
    said(client.get_tenant(get).await).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", &["had passed when the request arrived"]);
}

#[tokio::test]
async fn a_timeout_that_grpc_does_not_know_is_refused_by_its_header() {
    let bench = Bench::new();
    let loader = bench.loader();
    // Straight to the services: the transport reads this header too, and takes what it cannot read for none.
    let mut client = TenantServiceClient::new(loader.routes());
    let timeouts = ["", "5", "S", "5x", "5s", "+5S", "-5S", "5 S", "5.5S", "123456789n", "99999999999999999999S"];
    for given in timeouts.map(str::as_bytes).into_iter().chain([&[0xff, b'S'][..]]) {
        let with = |mut request: tonic::metadata::MetadataMap| {
            request.insert("grpc-timeout", given.try_into().unwrap());
            request
        };
        let given = std::str::from_utf8(given).map_or_else(|_| shown_bytes(given), shown);
        let asks = [&*format!("`{given}`"), "1 to 8 digits and one of H M S m u n"];

        let mut create = Request::new(v1::CreateTenantRequest { request_id: "r1".to_owned(), ..create_tenant("acme") });
        *create.metadata_mut() = with(create.metadata().clone());
        let status = client.create_tenant(create).await.unwrap_err();
        assert_eq!(status.metadata().get("tessera-request-id").unwrap(), "r1");
        said(Err::<(), _>(status)).is_invalid("grpc-timeout", &asks);

        let mut get = Request::new(v1::GetTenantRequest { tenant_id: "acme".to_owned(), show_deleted: false });
        *get.metadata_mut() = with(get.metadata().clone());
        said(client.get_tenant(get).await).is_invalid("grpc-timeout", &asks);

        let mut import = Request::new(futures::stream::empty());
        *import.metadata_mut() = with(import.metadata().clone());
        said(client.import_tenants(import).await).is_invalid("grpc-timeout", &asks);
    }
    assert_eq!(bench.store.appends().len(), 0);
    // The longest that can be said is granted like any other that is longer than may be.
    let mut long = Request::new(v1::GetTenantRequest { tenant_id: "acme".to_owned(), show_deleted: false });
    long.metadata_mut().insert("grpc-timeout", "99999999H".parse().unwrap());
    said(client.get_tenant(long).await).is(Code::NotFound, "TENANT_NOT_FOUND", &["`acme`"]);
}

#[tokio::test]
async fn a_stale_or_strange_etag_is_named_beside_the_current_one() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let service = etag_of(&rig, "CatalogService/GetService", &json!({ "service_id": "reporting" })).await;
    let limit = etag_of(&rig, "CatalogService/GetLimit", &json!({ "limit_id": "max_users" })).await;
    let long = "9".repeat(5_000);
    for (given, shown) in [
        ("1-999", "`1-999`"),
        ("nonsense", "`nonsense`"),
        ("\"1-1\"", "`\"1-1\"`"),
        ("\0", r"`\u{0}`"),
        ("\u{430}", r"`\u{430}`"),
        (&long, &format!("`{}`", shown(&long))),
    ] {
        let and = |mut request: Value| {
            request.as_object_mut().unwrap().insert("etag".to_owned(), json!(given));
            request
        };
        for (method, request, current) in [
            ("TenantService/UpdateTenant", json!({ "tenant_id": "acme", "title": "t" }), "1-1"),
            ("TenantService/DeleteTenant", json!({ "tenant_id": "acme" }), "1-1"),
            ("TenantService/StateTenant", json!({ "document": { "tenant_id": "acme", "plan_id": "silver" } }), "1-1"),
            ("PlanService/UpdatePlan", json!({ "plan_id": "gold", "document": {} }), "1-2"),
            ("PlanService/ArchivePlan", json!({ "plan_id": "gold" }), "1-2"),
            ("AddOnService/ArchiveAddOn", json!({ "add_on_id": "seats" }), "1-2"),
            ("CatalogService/ArchiveService", json!({ "service_id": "reporting" }), &service),
            ("CatalogService/DisableFeature", json!({ "service_id": "reporting", "reason": "r" }), &service),
            ("CatalogService/ArchiveLimit", json!({ "limit_id": "max_users" }), &limit),
        ] {
            let words = [&*format!("etag {shown} is not the current one"), &format!("the resource is at `{current}`")];
            said(ask(&rig, method, &and(request)).await).is(Code::Aborted, "ETAG_MISMATCH", &words);
        }
        // Of a resource that there is not, no etag can be right.
        let new = json!({ "document": { "tenant_id": "new", "plan_id": "gold" } });
        said(ask(&rig, "TenantService/StateTenant", &and(new)).await).is(
            Code::Aborted,
            "ETAG_MISMATCH",
            &[&format!("etag {shown} names a version of a resource that does not exist")],
        );
    }
    assert_eq!((rig.bench.stored("acme").1, rig.bench.stored("new").1), (1, 0));
}

async fn etag_of(rig: &Rig, method: &str, request: &Value) -> String {
    if method == "CatalogService/GetService" {
        let service_id = request["service_id"].as_str().unwrap().to_owned();
        let got = rig.catalog.clone().get_service(v1::GetServiceRequest { service_id }).await.unwrap();
        return got.into_inner().service.unwrap().etag;
    }
    let limit_id = request["limit_id"].as_str().unwrap().to_owned();
    let got = rig.catalog.clone().get_limit(v1::GetLimitRequest { limit_id }).await.unwrap();
    got.into_inner().limit.unwrap().etag
}

#[tokio::test]
async fn a_request_id_stands_for_one_command_of_one_stream() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    rig.create("globex").await;
    let named = |mut request: Value| {
        request.as_object_mut().unwrap().insert("request_id".to_owned(), json!("r1"));
        request
    };
    for (first, others) in [
        (
            ("TenantService/UpdateTenant", json!({ "tenant_id": "acme", "title": "t" })),
            vec![
                // Another body, another etag, another method.
                ("TenantService/UpdateTenant", json!({ "tenant_id": "acme", "title": "u" })),
                ("TenantService/UpdateTenant", json!({ "tenant_id": "acme", "title": "t", "etag": "1-1" })),
                ("TenantService/DeleteTenant", json!({ "tenant_id": "acme" })),
                ("TenantService/ActivateTenant", json!({ "tenant_id": "acme" })),
            ],
        ),
        (
            ("PlanService/UpdatePlan", json!({ "plan_id": "gold", "document": { "title": "t" } })),
            vec![("PlanService/PublishPlan", json!({ "plan_id": "gold" }))],
        ),
        (
            ("CatalogService/UpsertLimit", json!({ "limit_id": "new" })),
            // Services, features and limits are one stream.
            vec![
                ("CatalogService/UpsertLimit", json!({ "limit_id": "other" })),
                ("CatalogService/DisableFeature", json!({ "service_id": "reporting", "reason": "r" })),
            ],
        ),
    ] {
        ask(&rig, first.0, &named(first.1.clone())).await.unwrap();
        ask(&rig, first.0, &named(first.1)).await.unwrap();
        for (method, request) in others {
            let found = said(ask(&rig, method, &named(request)).await);
            found.is(Code::AlreadyExists, "REQUEST_ID_REUSED", &["`r1`", "was used for another command", "allowed is a new id"]);
        }
    }
    // Another tenant has its own.
    ask(&rig, "TenantService/UpdateTenant", &named(json!({ "tenant_id": "globex", "title": "t" }))).await.unwrap();
    assert_eq!((rig.bench.stored("acme").1, rig.bench.stored("globex").1), (2, 2));
}

/// Every listing, with another filter of its own, and the most that a page may have.
fn listings() -> Vec<(&'static str, Value, Value, usize)> {
    vec![
        ("PlanService/ListPlans", json!({}), json!({ "show_archived": true }), 1_000),
        ("AddOnService/ListAddOns", json!({}), json!({ "show_archived": true }), 1_000),
        ("CatalogService/ListServices", json!({}), json!({ "show_archived": true }), 1_000),
        ("CatalogService/ListLimits", json!({}), json!({ "show_archived": true }), 1_000),
        ("PlanService/ListPlanVersions", json!({ "plan_id": "gold" }), json!({ "plan_id": "silver" }), 1_000),
        ("AddOnService/ListAddOnVersions", json!({ "add_on_id": "seats" }), json!({ "add_on_id": "other" }), 1_000),
        ("TenantService/ListTenants", json!({}), json!({ "plan_id": "gold" }), 1_000),
        ("AuditService/ListAuditEvents", json!({}), json!({ "actor": "local" }), 1_000),
        ("AuditService/VerifyAudit", json!({}), json!({ "stream": { "kind": "STREAM_KIND_PLAN" } }), 10_000),
    ]
}

fn and(request: &Value, key: &str, value: Value) -> Value {
    let mut request = request.clone();
    request.as_object_mut().unwrap().insert(key.to_owned(), value);
    request
}

#[tokio::test]
async fn pages_have_sizes_and_tokens_of_their_own_listing() {
    let mut rig = Rig::furnished().await;
    for n in 0..3 {
        rig.create(&format!("t{n}")).await;
    }
    ask(&rig, "AddOnService/CreateAddOn", &json!({ "add_on_id": "other", "document": {} })).await.unwrap();
    let first = v1::ListTenantsRequest { page_size: 1, ..Default::default() };
    let token = rig.tenants.list_tenants(first).await.unwrap().into_inner().next_page_token;
    assert!(!token.is_empty());
    let mut altered = token.clone().into_bytes();
    altered[20] ^= 1;
    let altered = String::from_utf8(altered).unwrap();
    let (cut, long) = (token[..token.len() - 4].to_owned(), "A".repeat(100_000));
    for (method, request, other, most) in listings() {
        for size in [-1, i32::MIN, i32::try_from(most).unwrap() + 1, i32::MAX] {
            said(ask(&rig, method, &and(&request, "page_size", json!(size))).await)
                .is_invalid("page_size", &[&format!("`{size}`"), &format!("allowed are 0 to {most}")]);
        }
        let mut bad = vec!["%", "nonsense", "\0", "\u{430}", &altered, &cut, &long, "AAAA", "AAAAAAAAAAAA"];
        if method != "TenantService/ListTenants" {
            bad.push(&token);
        }
        for token in bad {
            let shown = shown(token);
            let allowed = "allowed is empty, or a `next_page_token` of the same listing with the same filters";
            let words = [&*format!("`{shown}` is not a page token"), allowed];
            said(ask(&rig, method, &and(&request, "page_token", json!(token))).await).is_invalid("page_token", &words);
        }
        if method == "TenantService/ListTenants" {
            said(ask(&rig, method, &and(&other, "page_token", json!(token))).await)
                .is_invalid("page_token", &["is not a page token"]);
            // Another size goes on where the page ended.
            ask(&rig, method, &and(&and(&request, "page_token", json!(token)), "page_size", json!(7))).await.unwrap();
        }
    }
}

/// A token of ours with so many ranges more, in which there is nothing, and a checksum that is right: anybody can make one.
fn with_ranges(token: &str, kind: StreamKind, count: usize) -> String {
    let mut body = URL_SAFE_NO_PAD.decode(token).unwrap().split_off(8);
    let range = [0x12, 8, 0x08, kind as u8, 0x12, 1, b'z', 0x1a, 1, b'z'];
    body.extend(range.repeat(count));
    let checksum = &digest::of_command("page_token", &body).0[..8];
    URL_SAFE_NO_PAD.encode([checksum, &body].concat())
}

#[tokio::test]
async fn tokens_made_by_hand_do_not_make_long_work() {
    let mut rig = Rig::furnished().await;
    for n in 0..3 {
        rig.create(&format!("t{n}")).await;
    }
    let page_size = 1;
    let tenants = v1::ListTenantsRequest { page_size, ..Default::default() };
    let tenants = rig.tenants.list_tenants(tenants).await.unwrap().into_inner().next_page_token;
    let plans = v1::ListPlansRequest { page_size, ..Default::default() };
    let plans = rig.plans.list_plans(plans).await.unwrap().into_inner().next_page_token;
    let events = v1::ListAuditEventsRequest { page_size, ..Default::default() };
    let events = rig.audit.list_audit_events(events).await.unwrap().into_inner().next_page_token;
    let verified = v1::VerifyAuditRequest { page_size, ..Default::default() };
    let verified = rig.audit.verify_audit(verified).await.unwrap().into_inner().next_page_token;
    for (method, token, kind) in [
        ("TenantService/ListTenants", &tenants, StreamKind::Tenant),
        ("PlanService/ListPlans", &plans, StreamKind::Plan),
        ("AuditService/ListAuditEvents", &events, StreamKind::Tenant),
        ("AuditService/VerifyAudit", &verified, StreamKind::Tenant),
    ] {
        let long = with_ranges(token, kind, 60_000);
        said(ask(&rig, method, &json!({ "page_token": long })).await).is_invalid("page_token", &["is not a page token"]);
        // What a store might have cut is taken, and a page looks at no more of it than at streams.
        let scanned = rig.bench.store.scans.lock().unwrap().len();
        ask(&rig, method, &json!({ "page_token": with_ranges(token, kind, 16_000) })).await.unwrap();
        let scans = rig.bench.store.scans.lock().unwrap().len() - scanned;
        assert!((1_000..=5_000).contains(&scans), "{method}: {scans}");
    }
}

#[tokio::test]
async fn masks_name_what_can_be_updated() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    for path in ["plan", "tenant_id", "labels.region", "Title", "title ", "", "\u{442}itle", "**"] {
        let mask = Some(prost_types::FieldMask { paths: vec!["title".to_owned(), path.to_owned()] });
        let update = v1::UpdateTenantRequest { tenant_id: "acme".to_owned(), update_mask: mask, ..Default::default() };
        let shown = shown(path);
        said(rig.tenants.update_tenant(update).await)
            .is_invalid("update_mask", &[&format!("`{shown}` is not a field to update"), "allowed are title and labels, or *"]);
    }
    let update = |paths: Option<&[&str]>, title: &str| {
        let mut tenants = rig.tenants.clone();
        let update_mask = paths.map(|paths| prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
        let labels = [("k".to_owned(), "v".to_owned())].into();
        let update = v1::UpdateTenantRequest {
            tenant_id: "acme".to_owned(),
            title: title.to_owned(),
            labels,
            update_mask,
            ..Default::default()
        };
        async move {
            let tenant = tenants.update_tenant(update).await.unwrap().into_inner().tenant.unwrap();
            (tenant.title, tenant.labels.len())
        }
    };
    assert_eq!(update(Some(&["title"]), "one").await, ("one".to_owned(), 0));
    // A mask without a path is no mask: what is not empty is changed.
    assert_eq!(update(Some(&[]), "").await, ("one".to_owned(), 1));
    assert_eq!(update(None, "two").await, ("two".to_owned(), 1));
    assert_eq!(update(Some(&["*"]), "").await, (String::new(), 1));
}

#[tokio::test]
async fn numbers_that_no_enum_has_are_refused() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let on = |effect: i32| json!({ "target": { "service": "reporting" }, "effect": effect, "reason": "r" });
    for number in [-1, 99, i32::MIN, i32::MAX] {
        let shown = &*format!("`{number}`");
        for (method, request, field, allowed) in [
            (
                "CatalogService/UpsertLimit",
                json!({ "limit_id": "l", "period": number }),
                "period",
                "allowed are NEVER, HOUR, DAY, WEEK and MONTH",
            ),
            (
                "TenantService/ListTenants",
                json!({ "status": number }),
                "status",
                "allowed are ACTIVE, PENDING, SUSPENDED and DELETED, or none for any",
            ),
            ("TenantService/EndTrial", json!({ "tenant_id": "acme", "end": number }), "end", "allowed are CONVERT and END"),
            (
                "TenantService/SetOverride",
                json!({ "tenant_id": "acme", "override": on(number) }),
                "override.effect",
                "allowed are GRANT and DENY",
            ),
            (
                "TenantService/StateTenant",
                json!({ "document": { "tenant_id": "acme", "plan_id": "gold", "overrides": [on(number)] } }),
                "document.overrides[0].effect",
                "allowed are GRANT and DENY",
            ),
            (
                "AuditService/ListAuditEvents",
                json!({ "stream": { "kind": number } }),
                "stream.kind",
                "allowed are CATALOG, PLAN, ADD_ON and TENANT",
            ),
            (
                "AuditService/VerifyAudit",
                json!({ "stream": { "kind": number } }),
                "stream.kind",
                "allowed are CATALOG, PLAN, ADD_ON and TENANT",
            ),
        ] {
            said(ask(&rig, method, &request).await).is_invalid(field, &[shown, allowed]);
        }
    }
    for method in ["AuditService/ListAuditEvents", "AuditService/VerifyAudit"] {
        said(ask(&rig, method, &json!({ "stream": { "id": "acme" } })).await).is_invalid("stream.kind", &["`0`", "TENANT"]);
        let catalog = json!({ "stream": { "kind": "STREAM_KIND_CATALOG", "id": "x\u{0}" } });
        said(ask(&rig, method, &catalog).await)
            .is_invalid("stream.id", &[r"`x\u{0}`", "there is one catalog", "allowed is none"]);
    }
    // What one of two would say twice, or contradicts itself.
    for (set, field) in [
        (
            json!({ "target": { "service": "reporting" }, "effect": 1, "value": { "maximum": 1 }, "reason": "r" }),
            "override.value",
        ),
        (json!({ "target": { "limit": "max_users" }, "effect": 1, "value": { "maximum": 1 }, "reason": "r" }), "override.effect"),
    ] {
        said(ask(&rig, "TenantService/SetOverride", &json!({ "tenant_id": "acme", "override": set })).await)
            .is_invalid(field, &["it is set; allowed only on a"]);
    }
    for (method, request, field) in [
        ("TenantService/SetOverride", json!({ "tenant_id": "acme" }), "override"),
        ("TenantService/RemoveOverride", json!({ "tenant_id": "acme" }), "target"),
        ("TenantService/AttachAddOn", json!({ "tenant_id": "acme" }), "add_on"),
        ("TenantService/StateTenant", json!({}), "document"),
        ("PlanService/CreatePlan", json!({ "plan_id": "p" }), "document"),
        ("AddOnService/UpdateAddOn", json!({ "add_on_id": "seats" }), "document"),
    ] {
        said(ask(&rig, method, &request).await).is_invalid(field, &["it is not set; a value is required"]);
    }
}

#[tokio::test]
async fn every_field_at_fault_is_named_as_far_as_an_answer_holds_them() {
    let rig = Rig::furnished().await;
    let document = json!({ "tenant_id": "A B", "title": "x".repeat(201), "plan_id": "Gold", "plan_version": -1 });
    let found = said(ask(&rig, "TenantService/StateTenant", &json!({ "document": document })).await);
    let fields: Vec<&str> = found.violations.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["document.tenant_id", "document.title", "document.plan_id", "document.plan_version"]);
    // Thousands of faults, each of a thousand bytes: the answer still arrives.
    let features: Vec<Value> = (0..1_000).map(|_| json!({ "feature_id": "\u{430}".repeat(1_000) })).collect();
    let found = said(ask(&rig, "CatalogService/UpsertService", &json!({ "service_id": "s", "features": features })).await);
    assert!((1..=20).contains(&found.violations.len()), "{} violations", found.violations.len());
    let len: usize = found.violations.iter().map(|(field, description)| field.len() + description.len()).sum();
    assert!(len + found.message.len() < 4_000, "{len} bytes");
}

#[tokio::test]
async fn what_a_newer_release_wrote_is_not_written_over() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    // The last value of a field counts: `min_reader` is field 1 of a stored state.
    let (_, state) = rig.bench.store.inner.current(&stream("acme")).unwrap();
    let newer = [&state[..], &[0x08, 99]].concat();
    assert!(rig.bench.store.inner.faults().overwrite_state(&stream("acme"), newer.into()));
    // A loader that holds nothing of it in memory.
    let mut client = TenantServiceClient::new(rig.bench.loader().routes());
    let words = ["needs a reader of version 99", "this one has version 1"];
    let update = v1::UpdateTenantRequest { tenant_id: "acme".to_owned(), title: "t".to_owned(), ..Default::default() };
    let status = client.update_tenant(update).await.unwrap_err();
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
    said(Err::<(), _>(status)).is(Code::Unavailable, "READER_TOO_OLD", &words);
    let get = v1::GetTenantRequest { tenant_id: "acme".to_owned(), show_deleted: false };
    said(client.get_tenant(get).await).is(Code::Unavailable, "READER_TOO_OLD", &words);
    assert_eq!(rig.bench.store.inner.cells(&stream("acme")).len(), 1);
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let mut bench = Bench::new();
    bench.config.stream_queue_max = 1;
    let rig = Rig::over(bench).await;
    // Whoever comes first waits for the store; the next one waits for the first.
    rig.bench.store.inner.faults().fail_next(Operation::Read, u32::MAX);
    let asked = (0..4).map(|n| {
        let mut tenants = rig.tenants.clone();
        let mut request = Request::new(create_tenant("acme"));
        request.get_mut().request_id = format!("r{n}");
        request.set_timeout(Duration::from_secs(1));
        async move { tenants.create_tenant(request).await.unwrap_err() }
    });
    let refused = futures::future::join_all(asked).await;
    let overloaded: Vec<_> = refused.into_iter().filter(|status| status.code() == Code::ResourceExhausted).collect();
    assert!(overloaded.len() >= 2, "{overloaded:?}");
    for status in overloaded {
        assert!(status.get_details_retry_info().is_some() && status.metadata().get("tessera-request-id").is_some(), "{status:?}");
        said(Err::<(), _>(status)).is(Code::ResourceExhausted, "OVERLOADED", &["as many commands wait for this resource as may"]);
    }
    rig.bench.store.inner.faults().seed(1, StoreChances::default());
    assert_eq!(rig.bench.store.appends().len(), 0, "nothing was applied");
}

#[test]
fn a_request_of_the_table_is_what_its_method_takes() {
    // What the other tests write as JSON arrives as the message that typed clients send.
    let typed = v1::GetTenantRequest { tenant_id: "acme".to_owned(), show_deleted: true };
    let known = super::asking::methods().iter().find(|(name, _)| name == "TenantService/GetTenant").unwrap().1.clone();
    let written =
        prost_reflect::DynamicMessage::deserialize(known.input(), json!({ "tenant_id": "acme", "show_deleted": true })).unwrap();
    assert_eq!(written.encode_to_vec(), typed.encode_to_vec());
}
