//! Ids: every field that holds one, in every rpc, against everything that is none; and ids that nothing has.

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Value, json};
use tonic::Code;

use super::asking::{ask, methods, said};
use crate::rig::Rig;

/// Which ids a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grammar {
    /// Service, feature, plan, add-on, limit.
    Name(&'static str),
    /// As above, and may be empty, which then means something else.
    NameOrNone(&'static str),
    Tenant,
    TenantOrNone,
}
use Grammar::{Name, NameOrNone, Tenant, TenantOrNone};

const NAMES: &str = "allowed are 1 to 63 bytes of a-z 0-9 . _ -, first and last alphanumeric";
const TENANTS: &str = "allowed are 1 to 128 bytes of ASCII letters, digits and . _ : @ -, first alphanumeric";
const REQUEST_IDS: &str = "allowed are 1 to 64 printable ASCII characters";

/// What is no id of any grammar, how it is shown, and what is wrong with it.
const NEVER: &[(&str, &str, &str)] = &[
    ("", "``", "it is empty"),
    ("a b", "`a b`", "byte 1"),
    ("a/b", "`a/b`", "byte 1"),
    ("a\\b", r"`a\\b`", "byte 1"),
    ("../a", "`../a`", "byte 0"),
    ("a'; DROP TABLE plan", "; DROP TABLE plan`", "byte 1"),
    // Control characters.
    ("go\0ld", r"`go\u{0}ld`", "byte 2"),
    ("gold\n", r"`gold\n`", "byte 4"),
    ("\tgold", r"`\tgold`", "byte 0"),
    ("\u{1b}[31mgold", r"`\u{1b}[31mgold`", "byte 0"),
    ("gold\u{7f}", r"`gold\u{7f}`", "byte 4"),
    ("gold\u{85}", r"`gold\u{85}`", "byte 4"),
    // Look-alikes: Cyrillic, full-width, a ligature, combining marks, what has no width, what turns the direction of writing.
    ("g\u{43e}ld", r"`g\u{43e}ld`", "byte 1"),
    ("\u{ff47}old", r"`\u{ff47}old`", "byte 0"),
    ("o\u{fb03}ce", r"`o\u{fb03}ce`", "byte 1"),
    ("go\u{301}ld", r"`go\u{301}ld`", "byte 2"),
    ("go\u{200b}ld", r"`go\u{200b}ld`", "byte 2"),
    ("\u{feff}gold", r"`\u{feff}gold`", "byte 0"),
    ("\u{202e}dlog", r"`\u{202e}dlog`", "byte 0"),
    ("gold\u{2066}", r"`gold\u{2066}`", "byte 4"),
    ("\u{1f980}", r"`\u{1f980}`", "byte 0"),
];

/// What is a tenant, and no name.
const NO_NAMES: &[(&str, &str, &str)] = &[
    ("Gold", "`Gold`", "byte 0"),
    ("gold-", "`gold-`", "byte 4"),
    ("go:ld", "`go:ld`", "byte 2"),
    ("gold@1", "`gold@1`", "byte 4"),
];

/// A method, a request, and the paths of its ids.
type Rpc = (&'static str, Value, Vec<(&'static str, Grammar)>);

/// Every rpc, a request that is well-formed, and the fields of it that hold ids. `*` stands for the id where it is a key.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn rpcs() -> Vec<Rpc> {
    let offer = |id: &str| json!({ id: "gold", "document": { "services": { "reporting": { "features": ["exports"] } }, "limits": { "max_users": { "maximum": 1 } } } });
    let in_offer = |id: &'static str, kind: &'static str| {
        vec![
            (id, Name(kind)),
            ("document.services[*]", Name("service")),
            ("document.services[reporting].features[0]", Name("feature")),
            ("document.limits[*]", Name("limit")),
        ]
    };
    let document = json!({
        "tenant_id": "acme", "plan_id": "gold", "scheduled": [{ "at": "2030-01-01T00:00:00Z", "plan_id": "silver" }],
        "add_ons": [{ "add_on_id": "seats" }], "familiarity_basis_points": { "reporting": 5000 },
        "overrides": [
            { "target": { "service": "reporting", "feature": "exports" }, "effect": "OVERRIDE_EFFECT_GRANT", "reason": "r" },
            { "target": { "limit": "max_users" }, "value": { "maximum": 1 }, "reason": "r" },
        ],
    });
    let a_tenant = json!({ "tenant_id": "acme" });
    let mut all = vec![
        ("PlanService/CreatePlan", offer("plan_id"), in_offer("plan_id", "plan")),
        ("PlanService/UpdatePlan", offer("plan_id"), in_offer("plan_id", "plan")),
        ("PlanService/ListPlans", json!({}), vec![]),
        ("AddOnService/CreateAddOn", offer("add_on_id"), in_offer("add_on_id", "add-on")),
        ("AddOnService/UpdateAddOn", offer("add_on_id"), in_offer("add_on_id", "add-on")),
        ("AddOnService/ListAddOns", json!({}), vec![]),
        (
            "CatalogService/UpsertService",
            json!({ "service_id": "reporting", "features": [{ "feature_id": "exports" }] }),
            vec![("service_id", Name("service")), ("features[0].feature_id", Name("feature"))],
        ),
        ("CatalogService/GetService", json!({ "service_id": "reporting" }), vec![("service_id", Name("service"))]),
        ("CatalogService/ListServices", json!({}), vec![]),
        ("CatalogService/ArchiveService", json!({ "service_id": "reporting" }), vec![("service_id", Name("service"))]),
        (
            "CatalogService/ArchiveFeature",
            json!({ "service_id": "reporting", "feature_id": "exports" }),
            vec![("service_id", Name("service")), ("feature_id", NameOrNone("feature"))],
        ),
        (
            "CatalogService/DisableFeature",
            json!({ "service_id": "reporting", "feature_id": "exports", "reason": "r" }),
            vec![("service_id", Name("service")), ("feature_id", NameOrNone("feature"))],
        ),
        (
            "CatalogService/EnableFeature",
            json!({ "service_id": "reporting", "feature_id": "exports" }),
            vec![("service_id", Name("service")), ("feature_id", NameOrNone("feature"))],
        ),
        ("CatalogService/UpsertLimit", json!({ "limit_id": "max_users" }), vec![("limit_id", Name("limit"))]),
        ("CatalogService/GetLimit", json!({ "limit_id": "max_users" }), vec![("limit_id", Name("limit"))]),
        ("CatalogService/ListLimits", json!({}), vec![]),
        ("CatalogService/ArchiveLimit", json!({ "limit_id": "max_users" }), vec![("limit_id", Name("limit"))]),
        (
            "TenantService/CreateTenant",
            json!({ "tenant_id": "acme", "plan_id": "gold" }),
            vec![("tenant_id", TenantOrNone), ("plan_id", Name("plan"))],
        ),
        (
            "TenantService/StateTenant",
            json!({ "document": document }),
            vec![
                ("document.tenant_id", Tenant),
                ("document.plan_id", Name("plan")),
                ("document.scheduled[0].plan_id", Name("plan")),
                ("document.add_ons[0].add_on_id", Name("add-on")),
                ("document.overrides[0].target.service", NameOrNone("service")),
                ("document.overrides[0].target.feature", NameOrNone("feature")),
                ("document.overrides[1].target.limit", NameOrNone("limit")),
                ("document.familiarity_basis_points[*]", Name("service")),
            ],
        ),
        ("TenantService/ListTenants", json!({}), vec![("plan_id", NameOrNone("plan"))]),
        (
            "TenantService/ChangePlan",
            json!({ "tenant_id": "acme", "plan_id": "gold" }),
            vec![("tenant_id", Tenant), ("plan_id", Name("plan"))],
        ),
        (
            "TenantService/AttachAddOn",
            json!({ "tenant_id": "acme", "add_on": { "add_on_id": "seats" } }),
            vec![("tenant_id", Tenant), ("add_on.add_on_id", Name("add-on"))],
        ),
        (
            "TenantService/DetachAddOn",
            json!({ "tenant_id": "acme", "add_on_id": "seats" }),
            vec![("tenant_id", Tenant), ("add_on_id", Name("add-on"))],
        ),
        (
            "TenantService/SetOverride",
            json!({ "tenant_id": "acme", "override": document["overrides"][0] }),
            vec![
                ("tenant_id", Tenant),
                ("override.target.service", NameOrNone("service")),
                ("override.target.feature", NameOrNone("feature")),
            ],
        ),
        (
            "TenantService/RemoveOverride",
            json!({ "tenant_id": "acme", "target": { "limit": "max_users" } }),
            vec![("tenant_id", Tenant), ("target.limit", NameOrNone("limit"))],
        ),
        (
            "TenantService/SetFamiliarity",
            json!({ "tenant_id": "acme", "service": "reporting", "familiarity_basis_points": 5000 }),
            vec![("tenant_id", Tenant), ("service", Name("service"))],
        ),
        (
            "AuditService/ListAuditEvents",
            json!({ "stream": { "kind": "STREAM_KIND_TENANT", "id": "acme" } }),
            vec![("stream.id", TenantOrNone)],
        ),
        (
            "AuditService/VerifyAudit",
            json!({ "stream": { "kind": "STREAM_KIND_PLAN", "id": "gold" } }),
            vec![("stream.id", NameOrNone("plan"))],
        ),
        ("AuditService/GetTenantAt", json!({ "tenant_id": "acme", "time": "2026-01-01T00:00:00Z" }), vec![("tenant_id", Tenant)]),
    ];
    for method in
        ["GetPlan", "PublishPlan", "GetPlanVersion", "ListPlanVersions", "DiffPlanVersions", "ArchivePlan", "DeletePlan"]
    {
        all.push((leak("PlanService/", method), json!({ "plan_id": "gold" }), vec![("plan_id", Name("plan"))]));
    }
    for method in
        ["GetAddOn", "PublishAddOn", "GetAddOnVersion", "ListAddOnVersions", "DiffAddOnVersions", "ArchiveAddOn", "DeleteAddOn"]
    {
        all.push((leak("AddOnService/", method), json!({ "add_on_id": "seats" }), vec![("add_on_id", Name("add-on"))]));
    }
    for (method, more) in [
        ("GetTenant", json!({})),
        ("UpdateTenant", json!({ "title": "t" })),
        ("CancelSubscription", json!({})),
        ("RenewSubscription", json!({})),
        ("CancelScheduledChange", json!({ "scheduled_change_id": 1 })),
        ("ActivateTenant", json!({})),
        ("SuspendTenant", json!({ "reason": "r" })),
        ("ResumeTenant", json!({})),
        ("StartTrial", json!({})),
        ("EndTrial", json!({ "end": "TRIAL_END_END" })),
        ("DeleteTenant", json!({})),
    ] {
        let mut request = a_tenant.clone();
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all.push((leak("TenantService/", method), request, vec![("tenant_id", Tenant)]));
    }
    all
}

fn leak(service: &str, method: &str) -> &'static str {
    format!("{service}{method}").leak()
}

/// The request with another id at `path`, and the name of the field as errors have it.
fn with(request: &Value, path: &str, id: &str) -> (Value, String) {
    let mut request = request.clone();
    let mut place = &mut request;
    let mut field = String::new();
    let steps: Vec<&str> = path.split(['.', '[']).collect();
    for (at, step) in steps.iter().enumerate() {
        let last = at + 1 == steps.len();
        match step.strip_suffix(']') {
            Some("*") => {
                let map = place.as_object_mut().unwrap();
                let (_, value) = std::mem::take(map).into_iter().next().unwrap();
                map.insert(id.to_owned(), value);
                return (request, format!("{field}[\"{}\"]", id.escape_default()));
            }
            Some(number) if number.parse::<usize>().is_ok() => {
                place = &mut place[number.parse::<usize>().unwrap()];
                field.extend(["[", number, "]"]);
            }
            Some(key) => {
                place = &mut place[key];
                field.extend(["[\"", key, "\"]"]);
            }
            None => {
                place = &mut place[*step];
                field += if at == 0 { "" } else { "." };
                field += step;
            }
        }
        if last {
            *place = json!(id);
        }
    }
    (request, field)
}

#[tokio::test]
async fn every_id_field_of_every_rpc_refuses_what_is_no_id() {
    let rig = Rig::furnished().await;
    let mut failures = Vec::new();
    let mut count = 0;
    for (method, request, ids) in rpcs() {
        for (path, grammar) in ids {
            let (kind, allowed, may_be_empty) = match grammar {
                Name(kind) => (kind, NAMES, false),
                NameOrNone(kind) => (kind, NAMES, true),
                Tenant => ("tenant", TENANTS, false),
                TenantOrNone => ("tenant", TENANTS, true),
            };
            let too_long = "x".repeat(if kind == "tenant" { 129 } else { 64 });
            let long_shown = format!("`{}", "x".repeat(64));
            let long_problem = format!("it has {} bytes", too_long.len());
            let mut bad = NEVER.to_vec();
            bad.push((&too_long, &long_shown, &long_problem));
            if kind != "tenant" {
                bad.extend(NO_NAMES);
            }
            for (id, shown, problem) in bad {
                if id.is_empty() && may_be_empty {
                    continue;
                }
                count += 1;
                let (request, field) = with(&request, path, id);
                let words = [shown, &format!("is not a {kind} id"), problem, allowed];
                let found = said(ask(&rig, method, &request).await);
                let description = found.violations.iter().find(|(at, _)| *at == field).map(|(_, description)| description);
                let good = (found.code, found.reason.as_str()) == (Code::InvalidArgument, "INVALID_FIELD")
                    && description.is_some_and(|description| words.iter().all(|word| description.contains(word)));
                if !good {
                    failures.push(format!("{method} {field} = {id:?}: expected {words:?} in {found:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    assert!(rig.bench.store.inner.cells(&crate::bench::stream("acme")).is_empty(), "nothing was written");
}

/// String fields that hold no ids of resources: texts, and names of other things, which have tests of their own.
const NO_IDS: &[&str] =
    &["title", "description", "unit", "reason", "reasons", "labels", "actor", "request_id", "etag", "page_token", "paths"];

/// The rpcs and fields whose ids are tested beside the table, because they need more than one bad value in a request.
const BESIDE: &[(&str, &str)] = &[
    ("TenantService/StateTenant", "tenant_id"),
    ("TenantService/SetOverride", "override.target.limit"),
    ("TenantService/RemoveOverride", "target.service"),
    ("TenantService/RemoveOverride", "target.feature"),
];

#[test]
fn no_id_field_of_any_rpc_is_left_out() {
    let rpcs = rpcs();
    for (name, method) in methods() {
        if name == "TenantService/ImportTenants" {
            // Its rows are the documents of `StateTenant`; see `imports`.
            continue;
        }
        let (_, _, ids) = rpcs.iter().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let mut fields = Vec::new();
        texts_of(&method.input(), "", &mut fields);
        for field in fields {
            let of_table = |path: &str| {
                let mut plain = String::new();
                for part in path.split('[') {
                    plain += part.split_once(']').map_or(part, |(_, rest)| rest);
                }
                plain
            };
            let tested = ids.iter().any(|(path, _)| of_table(path) == field) || BESIDE.contains(&(name.as_str(), field.as_str()));
            assert!(tested, "{name}: `{field}` may hold an id, and no test gives it a bad one");
        }
    }
}

/// Paths of all strings of a request, keys of maps under the name of the map, but for those in [`NO_IDS`].
fn texts_of(message: &MessageDescriptor, path: &str, found: &mut Vec<String>) {
    for field in message.fields() {
        let at = if path.is_empty() { field.name().to_owned() } else { format!("{path}.{}", field.name()) };
        if NO_IDS.contains(&field.name()) {
            continue;
        }
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                found.push(at.clone());
                if let Kind::Message(value) = entry.map_entry_value_field().kind() {
                    texts_of(&value, &at, found);
                }
            }
            Kind::Message(inner) => texts_of(&inner, &at, found),
            Kind::String => found.push(at),
            _ => {}
        }
    }
}

#[tokio::test]
async fn ids_beside_the_table() {
    let rig = Rig::furnished().await;
    let bad = "g\u{43e}ld";
    let shown = r"`g\u{43e}ld`";
    let state =
        |tenant_id: &str, inside: &str| json!({ "tenant_id": tenant_id, "document": { "tenant_id": inside, "plan_id": "gold" } });
    said(ask(&rig, "TenantService/StateTenant", &state(bad, "")).await).is_invalid("tenant_id", &[shown, TENANTS]);
    said(ask(&rig, "TenantService/StateTenant", &state("", "")).await)
        .is_invalid("document.tenant_id", &["``", "it is empty", TENANTS]);
    said(ask(&rig, "TenantService/StateTenant", &state("acme", bad)).await)
        .is_invalid("document.tenant_id", &[shown, "allowed is the same id, or none"]);
    let on = |target: Value| json!({ "tenant_id": "acme", "override": { "target": target, "value": { "maximum": 1 }, "reason": "r" } });
    said(ask(&rig, "TenantService/SetOverride", &on(json!({ "limit": bad }))).await)
        .is_invalid("override.target.limit", &[shown, NAMES]);
    for (target, field) in
        [(json!({ "service": bad }), "target.service"), (json!({ "service": "reporting", "feature": bad }), "target.feature")]
    {
        let request = json!({ "tenant_id": "acme", "target": target });
        said(ask(&rig, "TenantService/RemoveOverride", &request).await).is_invalid(field, &[shown, NAMES]);
    }
    for target in [
        json!({}),
        json!({ "feature": "exports" }),
        json!({ "service": "reporting", "limit": "max_users" }),
        json!({ "feature": "exports", "limit": "max_users" }),
    ] {
        let request = json!({ "tenant_id": "acme", "target": target });
        said(ask(&rig, "TenantService/RemoveOverride", &request).await)
            .is_invalid("target", &["allowed are a service, a service with a feature, or a limit, and only one of them"]);
    }
    said(ask(&rig, "CatalogService/ArchiveFeature", &json!({ "service_id": "reporting" })).await)
        .is_invalid("feature_id", &["it is empty", "a feature is required"]);
    // Request ids have a grammar of their own, in every mutation.
    for (id, shown, problem) in NEVER.iter().filter(|(id, ..)| !id.is_empty() && !id.bytes().all(|b| (0x20..0x7f).contains(&b))) {
        let request = json!({ "tenant_id": "acme", "request_id": id });
        said(ask(&rig, "TenantService/DeleteTenant", &request).await)
            .is_invalid("request_id", &[shown, "is not a request id", problem, REQUEST_IDS]);
    }
    let request = json!({ "tenant_id": "acme", "request_id": "r".repeat(65) });
    said(ask(&rig, "TenantService/DeleteTenant", &request).await)
        .is_invalid("request_id", &[&format!("`{}", "r".repeat(64)), "it has 65 bytes", REQUEST_IDS]);
}

#[tokio::test]
async fn names_that_nothing_has_are_not_found() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    let nothing = "nothing";
    let mut table = vec![
        ("CatalogService/GetService", json!({ "service_id": nothing }), "SERVICE_NOT_FOUND"),
        ("CatalogService/ArchiveService", json!({ "service_id": nothing }), "SERVICE_NOT_FOUND"),
        ("CatalogService/ArchiveFeature", json!({ "service_id": nothing, "feature_id": "exports" }), "SERVICE_NOT_FOUND"),
        ("CatalogService/ArchiveFeature", json!({ "service_id": "reporting", "feature_id": nothing }), "FEATURE_NOT_FOUND"),
        ("CatalogService/DisableFeature", json!({ "service_id": nothing, "reason": "r" }), "SERVICE_NOT_FOUND"),
        (
            "CatalogService/DisableFeature",
            json!({ "service_id": "reporting", "feature_id": nothing, "reason": "r" }),
            "FEATURE_NOT_FOUND",
        ),
        ("CatalogService/EnableFeature", json!({ "service_id": nothing }), "SERVICE_NOT_FOUND"),
        ("CatalogService/EnableFeature", json!({ "service_id": "reporting", "feature_id": nothing }), "FEATURE_NOT_FOUND"),
        ("CatalogService/GetLimit", json!({ "limit_id": nothing }), "LIMIT_NOT_FOUND"),
        ("CatalogService/ArchiveLimit", json!({ "limit_id": nothing }), "LIMIT_NOT_FOUND"),
        ("PlanService/GetPlanVersion", json!({ "plan_id": "gold", "version": 9 }), "PLAN_VERSION_NOT_FOUND"),
        ("PlanService/DiffPlanVersions", json!({ "plan_id": "gold", "from_version": 9 }), "PLAN_VERSION_NOT_FOUND"),
        ("AddOnService/GetAddOnVersion", json!({ "add_on_id": "seats", "version": 9 }), "ADD_ON_VERSION_NOT_FOUND"),
        ("TenantService/GetTenant", json!({ "tenant_id": nothing }), "TENANT_NOT_FOUND"),
        ("TenantService/CreateTenant", json!({ "tenant_id": "new", "plan_id": nothing }), "PLAN_NOT_FOUND"),
        (
            "TenantService/CreateTenant",
            json!({ "tenant_id": "new", "plan_id": "gold", "plan_version": 9 }),
            "PLAN_VERSION_NOT_FOUND",
        ),
        ("TenantService/ChangePlan", json!({ "tenant_id": "acme", "plan_id": nothing }), "PLAN_NOT_FOUND"),
        ("TenantService/AttachAddOn", json!({ "tenant_id": "acme", "add_on": { "add_on_id": nothing } }), "ADD_ON_NOT_FOUND"),
        (
            "TenantService/AttachAddOn",
            json!({ "tenant_id": "acme", "add_on": { "add_on_id": "seats", "pinned_version": 9 } }),
            "ADD_ON_VERSION_NOT_FOUND",
        ),
        (
            "TenantService/RemoveOverride",
            json!({ "tenant_id": "acme", "target": { "service": "reporting" } }),
            "OVERRIDE_NOT_FOUND",
        ),
        ("TenantService/StateTenant", json!({ "document": { "tenant_id": "acme", "plan_id": nothing } }), "PLAN_NOT_FOUND"),
        (
            "TenantService/StateTenant",
            json!({ "document": { "tenant_id": "acme", "plan_id": "gold", "add_ons": [{ "add_on_id": nothing }] } }),
            "ADD_ON_NOT_FOUND",
        ),
        ("AuditService/GetTenantAt", json!({ "tenant_id": nothing, "time": "2026-01-01T00:00:00Z" }), "TENANT_NOT_FOUND"),
        // It exists now, and did not yet then.
        ("AuditService/GetTenantAt", json!({ "tenant_id": "acme", "time": "2020-01-01T00:00:00Z" }), "TENANT_NOT_FOUND"),
    ];
    for method in
        ["GetPlan", "PublishPlan", "GetPlanVersion", "ListPlanVersions", "DiffPlanVersions", "ArchivePlan", "DeletePlan"]
    {
        table.push((leak("PlanService/", method), json!({ "plan_id": nothing }), "PLAN_NOT_FOUND"));
    }
    for method in ["GetAddOn", "PublishAddOn", "ListAddOnVersions", "DiffAddOnVersions", "ArchiveAddOn", "DeleteAddOn"] {
        table.push((leak("AddOnService/", method), json!({ "add_on_id": nothing }), "ADD_ON_NOT_FOUND"));
    }
    for method in ["AuditService/ListAuditEvents", "AuditService/VerifyAudit"] {
        for kind in ["PLAN", "ADD_ON", "TENANT"] {
            let stream = json!({ "kind": format!("STREAM_KIND_{kind}"), "id": nothing });
            table.push((method, json!({ "stream": stream }), leak(kind, "_NOT_FOUND")));
        }
    }
    table.push(("PlanService/UpdatePlan", json!({ "plan_id": nothing, "document": {} }), "PLAN_NOT_FOUND"));
    table.push(("AddOnService/UpdateAddOn", json!({ "add_on_id": nothing, "document": {} }), "ADD_ON_NOT_FOUND"));
    for (method, request) in mutations_of(nothing) {
        table.push((method, request, "TENANT_NOT_FOUND"));
    }
    for (method, request, reason) in table {
        let found = said(ask(&rig, method, &request).await);
        assert_eq!((found.code, found.reason.as_str()), (Code::NotFound, reason), "{method} {request}: {found:?}");
        let named = if found.message.contains('`') { found.message.split('`').nth(1).unwrap().to_owned() } else { String::new() };
        assert!(request.to_string().contains(&named) && !named.is_empty(), "{method} {request} names nothing: {found:?}");
    }
    // Names in documents: by field, all at once.
    let document = json!({ "services": { "nothing": {}, "reporting": { "features": ["nothing"] } }, "limits": { "nothing": { "maximum": 1 } } });
    let found = said(ask(&rig, "PlanService/CreatePlan", &json!({ "plan_id": "new", "document": document })).await);
    let fields: Vec<&str> = found.violations.iter().map(|(field, _)| field.as_str()).collect();
    let expected =
        ["document.services[\"nothing\"]", "document.services[\"reporting\"].features", "document.limits[\"nothing\"]"];
    assert_eq!((found.code, fields.len()), (Code::InvalidArgument, 3), "{found:?}");
    for (field, expected) in fields.iter().zip(expected) {
        assert!(field.starts_with(expected), "{found:?}");
    }
    assert!(found.violations.iter().all(|(_, description)| description.contains("`nothing`")), "{found:?}");
    for (target, field) in [
        (json!({ "service": "nothing" }), "override.target.service"),
        (json!({ "service": "nothing", "feature": "exports" }), "override.target.service"),
        (json!({ "service": "reporting", "feature": "nothing" }), "override.target.feature"),
    ] {
        let set = json!({ "target": target, "effect": "OVERRIDE_EFFECT_DENY", "reason": "r" });
        said(ask(&rig, "TenantService/SetOverride", &json!({ "tenant_id": "acme", "override": set })).await)
            .is_invalid(field, &["`nothing`"]);
    }
    let set = json!({ "target": { "limit": "nothing" }, "value": { "maximum": 1 }, "reason": "r" });
    said(ask(&rig, "TenantService/SetOverride", &json!({ "tenant_id": "acme", "override": set })).await)
        .is_invalid("override.target.limit", &["`nothing`"]);
    let own = json!({ "tenant_id": "acme", "service": "nothing", "familiarity_basis_points": 5000 });
    said(ask(&rig, "TenantService/SetFamiliarity", &own).await).is_invalid("service", &["`nothing`"]);
}

/// Every mutation of a tenant that exists, but for those that create it.
fn mutations_of(tenant: &str) -> Vec<(&'static str, Value)> {
    let mut all: Vec<_> = rpcs()
        .into_iter()
        .filter(|(method, ..)| method.starts_with("TenantService/"))
        .filter(|(method, ..)| {
            !["Create", "State", "Get", "List"].iter().any(|other| method["TenantService/".len()..].starts_with(other))
        })
        .map(|(method, request, _)| (method, with(&request, "tenant_id", tenant).0))
        .collect();
    for (_, request) in &mut all {
        request.as_object_mut().unwrap().remove("etag");
    }
    assert_eq!(all.len(), 16, "{all:?}");
    all
}

#[tokio::test]
async fn a_deleted_tenant_is_not_found_by_writes_and_its_id_never_free() {
    let mut rig = Rig::furnished().await;
    rig.create("acme").await;
    ask(&rig, "TenantService/DeleteTenant", &json!({ "tenant_id": "acme" })).await.unwrap();
    for (method, request) in mutations_of("acme") {
        let found = said(ask(&rig, method, &request).await);
        assert_eq!((found.code, found.reason.as_str()), (Code::NotFound, "TENANT_NOT_FOUND"), "{method}: {found:?}");
        assert!(found.message.contains("tenant `acme` was deleted; tenant ids are never used again"), "{method}: {found:?}");
    }
    let document = json!({ "tenant_id": "acme", "plan_id": "gold" });
    for (method, request, code, reason) in [
        ("TenantService/CreateTenant", document.clone(), Code::AlreadyExists, "TENANT_EXISTS"),
        ("TenantService/StateTenant", json!({ "document": document, "create_only": true }), Code::AlreadyExists, "TENANT_EXISTS"),
        ("TenantService/StateTenant", json!({ "document": document }), Code::NotFound, "TENANT_NOT_FOUND"),
        ("TenantService/GetTenant", json!({ "tenant_id": "acme" }), Code::NotFound, "TENANT_NOT_FOUND"),
    ] {
        said(ask(&rig, method, &request).await).is(code, reason, &["`acme`"]);
    }
    ask(&rig, "TenantService/GetTenant", &json!({ "tenant_id": "acme", "show_deleted": true })).await.unwrap();
    assert_eq!(rig.bench.stored("acme").1, 2);
}
