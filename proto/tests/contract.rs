//! The public API as clients were promised it, read from the descriptors that reflection serves: names, shapes, REST bindings.
//! What stands here is written against by other people's clients; a change that fails these tests breaks them.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor, Value};
use tessera_core::decision::Reason;
use tessera_proto::FILE_DESCRIPTOR_SET;

/// Every rpc; `>` after a name: its requests are a stream, `<`: its responses are.
const RPCS: [(&str, &str); 6] = [
    (
        "EntitlementService",
        "CheckEntitlement StreamCheckEntitlement>< BatchCheckEntitlement ListEntitlements WatchEntitlements><",
    ),
    (
        "PlanService",
        "CreatePlan GetPlan ListPlans UpdatePlan PublishPlan GetPlanVersion ListPlanVersions DiffPlanVersions ArchivePlan \
         DeletePlan",
    ),
    (
        "AddOnService",
        "CreateAddOn GetAddOn ListAddOns UpdateAddOn PublishAddOn GetAddOnVersion ListAddOnVersions DiffAddOnVersions \
         ArchiveAddOn DeleteAddOn",
    ),
    (
        "CatalogService",
        "UpsertService GetService ListServices ArchiveService ArchiveFeature DisableFeature EnableFeature UpsertLimit GetLimit \
         ListLimits ArchiveLimit",
    ),
    (
        "TenantService",
        "CreateTenant StateTenant GetTenant ListTenants UpdateTenant ChangePlan CancelSubscription RenewSubscription \
         CancelScheduledChange ActivateTenant AttachAddOn DetachAddOn SetOverride RemoveOverride SuspendTenant ResumeTenant \
         StartTrial EndTrial DeleteTenant SetFamiliarity ImportTenants><",
    ),
    ("AuditService", "ListAuditEvents VerifyAudit GetTenantAt"),
];

/// Messages whose fields have fixed names; more fields may stand beside them.
const FIELDS: [(&str, &str); 20] = [
    ("CheckEntitlementRequest", "tenant_id service feature limit_check consistency explain"),
    ("LimitCheck", "name amount used"),
    ("Consistency", "minimize_latency at_least fully_consistent"),
    ("AtLeast", "revision"),
    (
        "CheckEntitlementResponse",
        "entitled reason plan_id plan_version familiarity_basis_points limit valid_until revision staleness_ms evaluated_at \
         grace_until reason_detail explanation",
    ),
    ("LimitState", "name maximum unlimited used remaining"),
    ("BatchCheckEntitlementRequest", "checks consistency with_revisions with_details"),
    ("BatchCheckEntitlementResponse", "results evaluated_at"),
    ("CheckResult", "response error"),
    ("StreamCheckEntitlementRequest", "id checks with_revisions with_details"),
    ("StreamCheckEntitlementResponse", "id results frame_error"),
    ("ListEntitlementsRequest", "tenant_id if_document_tag_differs_from"),
    ("ListEntitlementsResponse", "document not_modified"),
    ("TenantEntitlements", "tenant_id revision evaluated_at valid_until document_tag"),
    ("WatchEntitlementsRequest", "subscribe unsubscribe"),
    ("Subscribe", "tenant_id last_revision"),
    ("WatchEntitlementsResponse", "document error heartbeat"),
    ("ImportTenantsRequest", "start row"),
    ("ImportRow", "row tenant"),
    ("ImportTenantsResponse", "applied_through_row unchanged errors"),
];

/// REST paths that older clients use.
const OLDER_PATHS: [&str; 4] = [
    "get /api/v1/entitlements/{tenant_id}/check",
    "get /api/v1/subscription-plans",
    "get /api/v1/subscription-plans/{plan_id}",
    "post /api/v1/tenants/{tenant_id}/provision",
];

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set holds everything that it names")
}

fn service(pool: &DescriptorPool, name: &str) -> ServiceDescriptor {
    pool.get_service_by_name(&format!("tessera.v1.{name}")).unwrap_or_else(|| panic!("no service {name}"))
}

fn message(pool: &DescriptorPool, name: &str) -> MessageDescriptor {
    pool.get_message_by_name(&format!("tessera.v1.{name}")).unwrap_or_else(|| panic!("no message {name}"))
}

fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    RPCS.iter().flat_map(|(name, _)| service(pool, name).methods().collect::<Vec<_>>()).collect()
}

fn is_string(message: &MessageDescriptor, field: &str) -> bool {
    message.get_field_by_name(field).is_some_and(|field| field.kind() == Kind::String && !field.is_list())
}

#[test]
fn every_rpc_is_there_with_its_shape_and_messages_of_its_own() {
    let pool = pool();
    for (name, rpcs) in RPCS {
        let shown = |method: &MethodDescriptor| {
            let requests = if method.is_client_streaming() { ">" } else { "" };
            let responses = if method.is_server_streaming() { "<" } else { "" };
            format!("{}{requests}{responses}", method.name())
        };
        let found: BTreeSet<_> = service(&pool, name).methods().map(|method| shown(&method)).collect();
        assert_eq!(found, rpcs.split_whitespace().map(str::to_owned).collect(), "{name}");
    }
    for method in methods(&pool) {
        assert_eq!(method.input().name(), format!("{}Request", method.name()));
        assert_eq!(method.output().name(), format!("{}Response", method.name()));
    }
}

#[test]
fn fields_with_fixed_names_are_there() {
    let pool = pool();
    for (name, fields) in FIELDS {
        for field in fields.split_whitespace() {
            assert!(message(&pool, name).get_field_by_name(field).is_some(), "{name} has no {field}");
        }
    }
}

#[test]
fn mutations_take_a_request_id_and_answer_with_the_resource_and_its_revision() {
    let pool = pool();
    for method in methods(&pool) {
        let reads = ["Check", "StreamCheck", "BatchCheck", "Get", "List", "Diff", "Watch", "Verify", "Import"];
        if reads.iter().any(|prefix| method.name().starts_with(prefix)) {
            continue;
        }
        let (request, response) = (method.input(), method.output());
        assert!(is_string(&request, "request_id"), "{} takes no request id", method.name());
        let creates = method.name().starts_with("Create");
        assert_eq!(is_string(&request, "etag"), !creates, "{}: what is changed may be held to an etag", method.name());
        let mut resources = Vec::new();
        for field in response.fields() {
            match (field.name(), field.kind()) {
                ("revision", Kind::Bytes) | ("idempotent_replay", Kind::Bool) => {}
                (_, Kind::Message(resource)) => resources.push((field.name().to_owned(), resource)),
                (name, kind) => panic!("{} has {name}: {kind:?}", response.name()),
            }
        }
        assert_eq!((response.fields().len(), resources.len()), (3, 1), "{}", response.name());
        let (name, resource) = &resources[0];
        assert_eq!(name.replace('_', ""), resource.name().to_lowercase(), "{}", response.name());
        assert!(is_string(resource, "etag"), "{} has no etag", resource.name());
    }
}

#[test]
fn listings_come_in_pages() {
    let pool = pool();
    for method in methods(&pool).iter().filter(|method| method.name().starts_with("List") && method.name() != "ListEntitlements")
    {
        let size = method.input().get_field_by_name("page_size").map(|field| field.kind());
        assert_eq!(size, Some(Kind::Int32), "{}", method.name());
        assert!(is_string(&method.input(), "page_token") && is_string(&method.output(), "next_page_token"), "{}", method.name());
    }
}

#[test]
fn reasons_are_those_of_the_domain() {
    let found: Vec<_> = {
        let reasons = pool().get_enum_by_name("tessera.v1.Reason").expect("the enum");
        reasons.values().map(|value| value.name().to_owned()).collect()
    };
    let upper_snake = |reason: Reason| {
        let mut name = "REASON".to_owned();
        for letter in format!("{reason:?}").chars() {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    };
    let wanted: Vec<_> = std::iter::once("REASON_UNSPECIFIED".to_owned()).chain(Reason::ALL.map(upper_snake)).collect();
    assert_eq!(found, wanted);
}

#[test]
fn numbers_are_kept_for_subject_context_and_values() {
    let request = message(&pool(), "CheckEntitlementRequest");
    assert!(request.reserved_ranges().map(|range| range.len()).sum::<usize>() >= 3);
    let names: Vec<_> = request.reserved_names().collect();
    assert!(names.contains(&"subject") && names.contains(&"context"), "{names:?}");
}

/// All bindings of a method as `verb path`.
fn bindings(pool: &DescriptorPool, method: &MethodDescriptor) -> Vec<String> {
    let http = pool.get_extension_by_name("google.api.http").expect("the extension");
    let options = method.options();
    if !options.has_extension(&http) {
        return Vec::new();
    }
    let rule = options.get_extension(&http);
    let rule = rule.as_message().expect("a rule");
    let additional = rule.get_field_by_name("additional_bindings").expect("the field");
    let additional = additional.as_list().expect("a list").iter().filter_map(Value::as_message);
    let shown = std::iter::once(rule).chain(additional).flat_map(|rule| {
        ["get", "put", "post", "patch", "delete"].into_iter().filter_map(move |verb| {
            let path = rule.get_field_by_name(verb)?;
            let path = path.as_str().filter(|path| !path.is_empty())?;
            Some(format!("{verb} {path}"))
        })
    });
    shown.collect()
}

#[test]
fn every_unary_rpc_has_rest_bindings_of_its_own() {
    let pool = pool();
    let mut taken = BTreeSet::new();
    for method in methods(&pool) {
        let bound = bindings(&pool, &method);
        let streams = method.is_client_streaming() || method.is_server_streaming();
        assert_eq!(bound.is_empty(), streams, "{}: {bound:?}", method.full_name());
        for binding in bound {
            assert!(binding.split_once(' ').is_some_and(|(_, path)| path.starts_with("/api/v1/")), "{binding}");
            for variable in binding.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                assert!(method.input().get_field_by_name(variable).is_some(), "{binding}: {} has no {variable}", method.name());
            }
            assert!(taken.insert(binding.clone()), "{binding} is bound twice");
        }
    }
    assert!(taken.contains("post /api/v1/tenants/{tenant_id}:changePlan"));
    for path in OLDER_PATHS {
        assert!(taken.contains(path), "{path} is not bound");
    }
}

#[test]
fn clients_can_decode_error_details_by_reflection() {
    let pool = pool();
    for name in ["Status", "ErrorInfo", "BadRequest", "PreconditionFailure", "RetryInfo"] {
        assert!(pool.get_message_by_name(&format!("google.rpc.{name}")).is_some(), "google.rpc.{name} is missing");
    }
}

#[test]
fn reflection_shows_our_comments_and_not_those_of_others() {
    for file in pool().files() {
        let ours = file.package_name().starts_with("tessera.");
        let commented = file.file_descriptor_proto().source_code_info.is_some();
        assert!(commented == ours || file.package_name() == "google.protobuf", "{}", file.name());
    }
}

#[test]
fn reflection_is_shown_the_whole_api_and_nothing_of_the_stored_form() {
    let shown = DescriptorPool::from_file_descriptor_set(tessera_proto::public_file_descriptor_set());
    let shown = shown.expect("the public descriptors hold everything that they name");
    let packages: BTreeSet<_> = shown.files().map(|file| file.package_name().to_owned()).collect();
    assert_eq!(
        packages.iter().map(String::as_str).collect::<Vec<_>>(),
        ["google.api", "google.protobuf", "google.rpc", "tessera.v1"]
    );
    for (name, _) in RPCS {
        service(&shown, name);
    }
    assert!(pool().files().any(|file| file.package_name() == "tessera.storage.v1"), "the stored form moved; look again");
}
