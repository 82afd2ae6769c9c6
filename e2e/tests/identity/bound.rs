//! Callers who are bound to tenants: whatever they ask about another tenant, they hear what they would hear of one that never
//! was. Every call of both planes is asked about one that is there and one that is not, and the answers must be the same.

use tessera_e2e::Dev;
use tessera_proto::v1;
use tessera_proto::v1::audit_service_client::AuditServiceClient;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::{Place, Shows, reason};

/// There, and not the caller's.
const HIDDEN: &str = "globex";
/// Never there.
const NOBODY: &str = "nobodys";

type Way = InterceptedService<Channel, Shows>;

struct Clients {
    checks: EntitlementServiceClient<Way>,
    tenants: TenantServiceClient<Way>,
    audit: AuditServiceClient<Way>,
}

impl Clients {
    async fn of(dev: &Dev, token: &str) -> Self {
        let planes = dev.planes().await.unwrap();
        let shows = Shows::token(token);
        Self {
            checks: EntitlementServiceClient::with_interceptor(planes.data, shows.clone()),
            tenants: TenantServiceClient::with_interceptor(planes.control.clone(), shows.clone()),
            audit: AuditServiceClient::with_interceptor(planes.control, shows),
        }
    }
}

/// An error with everything but the names of the two tenants.
fn told(status: &Status) -> String {
    format!("{:?} {} {}", status.code(), reason(status), status.message().replace(HIDDEN, "X").replace(NOBODY, "X"))
}

fn check(tenant: &str) -> v1::CheckEntitlementRequest {
    v1::CheckEntitlementRequest {
        tenant_id: tenant.to_owned(),
        service: "entity-management".to_owned(),
        feature: "role-permissions".to_owned(),
        ..Default::default()
    }
}

fn demanding(tenant: &str) -> v1::CheckEntitlementRequest {
    let requirement = v1::consistency::Requirement::FullyConsistent(v1::FullyConsistent {});
    v1::CheckEntitlementRequest { consistency: Some(v1::Consistency { requirement: Some(requirement) }), ..check(tenant) }
}

/// What a decision says beside when it was made; the revision names the tenant by its hash.
fn decided(answer: &v1::CheckEntitlementResponse) -> String {
    let bare =
        v1::CheckEntitlementResponse { revision: Vec::new().into(), evaluated_at: None, staleness_ms: None, ..answer.clone() };
    format!("{bare:?} {}", answer.revision.len())
}

/// Everything that can be heard of a tenant, in a form that can be compared.
async fn heard(clients: &mut Clients, tenant: &str) -> Vec<String> {
    let mut heard = Vec::new();
    for request in [check(tenant), demanding(tenant)] {
        heard.push(decided(&clients.checks.check_entitlement(request).await.unwrap().into_inner()));
    }
    let checks = vec![check("acme"), check(tenant), demanding(tenant)];
    let batch = v1::BatchCheckEntitlementRequest { checks: checks.clone(), with_revisions: true, ..Default::default() };
    let batch = clients.checks.batch_check_entitlement(batch).await.unwrap().into_inner();
    let frames = tokio_stream::iter([v1::StreamCheckEntitlementRequest { id: 7, checks, ..Default::default() }]);
    let mut answers = clients.checks.stream_check_entitlement(frames).await.unwrap().into_inner();
    let frame = answers.message().await.unwrap().unwrap();
    for results in [batch.results, frame.results] {
        let [own, other, demanded] = &results[..] else { panic!("{results:?}") };
        let answer = |result: &v1::CheckResult| match &result.result {
            Some(v1::check_result::Result::Response(answer)) => answer.clone(),
            other => panic!("{other:?}"),
        };
        assert!(answer(own).entitled, "{own:?}");
        heard.extend([decided(&answer(other)), decided(&answer(demanded))]);
    }
    let list = v1::ListEntitlementsRequest { tenant_id: tenant.to_owned(), ..Default::default() };
    heard.push(told(&clients.checks.list_entitlements(list).await.unwrap_err()));
    let subscribe = v1::Subscribe { tenant_id: tenant.to_owned(), ..Default::default() };
    let action = v1::watch_entitlements_request::Action::Subscribe(subscribe);
    let asked = tokio_stream::iter([v1::WatchEntitlementsRequest { action: Some(action) }]);
    let mut events = clients.checks.watch_entitlements(asked).await.unwrap().into_inner();
    match events.message().await.unwrap().unwrap().event {
        Some(v1::watch_entitlements_response::Event::Error(error)) => {
            let status = error.status.unwrap();
            heard.push(format!("{} {}", status.code, status.message.replace(tenant, "X")));
        }
        other => panic!("{other:?}"),
    }

    let get = v1::GetTenantRequest { tenant_id: tenant.to_owned(), show_deleted: true };
    heard.push(told(&clients.tenants.get_tenant(get).await.unwrap_err()));
    let update = v1::UpdateTenantRequest { tenant_id: tenant.to_owned(), title: "mine".to_owned(), ..Default::default() };
    heard.push(told(&clients.tenants.update_tenant(update).await.unwrap_err()));
    let create = v1::CreateTenantRequest { tenant_id: tenant.to_owned(), plan_id: "gold".to_owned(), ..Default::default() };
    heard.push(told(&clients.tenants.create_tenant(create).await.unwrap_err()));
    let start = v1::ImportStart { import_id: format!("import-{tenant}"), mode: v1::ImportMode::Upsert.into() };
    let document = v1::TenantDocument { tenant_id: tenant.to_owned(), plan_id: "gold".to_owned(), ..Default::default() };
    let rows = [
        v1::import_tenants_request::Item::Start(start),
        v1::import_tenants_request::Item::Row(v1::ImportRow { row: 1, tenant: Some(document) }),
    ];
    let rows = tokio_stream::iter(rows.map(|item| v1::ImportTenantsRequest { item: Some(item) }));
    let mut answers = clients.tenants.import_tenants(rows).await.unwrap().into_inner();
    let mut errors = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        errors.extend(answer.errors);
    }
    let [error] = &errors[..] else { panic!("{errors:?}") };
    let status = error.status.as_ref().unwrap();
    heard.push(format!("{} {}", status.code, status.message.replace(tenant, "X")));

    let stream = Some(v1::Stream { kind: v1::StreamKind::Tenant.into(), id: tenant.to_owned() });
    let events = v1::ListAuditEventsRequest { stream: stream.clone(), ..Default::default() };
    heard.push(told(&clients.audit.list_audit_events(events).await.unwrap_err()));
    let verified = v1::VerifyAuditRequest { stream, ..Default::default() };
    heard.push(told(&clients.audit.verify_audit(verified).await.unwrap_err()));
    let time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
    let at = v1::GetTenantAtRequest { tenant_id: tenant.to_owned(), time };
    heard.push(told(&clients.audit.get_tenant_at(at).await.unwrap_err()));
    heard
}

/// Every page of every listing, of one item each, with what asks for the next one.
async fn listed(clients: &mut Clients) -> Vec<String> {
    let mut pages = Vec::new();
    macro_rules! list {
        ($client:ident.$method:ident($request:ident)) => {
            let mut asked = v1::$request { page_size: 1, ..Default::default() };
            loop {
                let page = clients.$client.$method(asked.clone()).await.unwrap().into_inner();
                pages.push(format!("{page:?}"));
                asked.page_token = page.next_page_token;
                if asked.page_token.is_empty() {
                    break;
                }
            }
        };
    }
    list!(tenants.list_tenants(ListTenantsRequest));
    list!(audit.list_audit_events(ListAuditEventsRequest));
    list!(audit.verify_audit(VerifyAuditRequest));
    pages
}

#[tokio::test]
async fn listings_do_not_count_the_tenants_of_others() {
    let place = Place::new();
    let bound = place.create(&["bound", "--scope", "read,audit", "--tenant", "acme"]);
    let free = place.create(&["free", "--scope", "read,write:tenants,audit"]);
    let dev = place.dev().await;
    let (mut bound, mut free) = (Clients::of(&dev, &bound).await, Clients::of(&dev, &free).await);

    let before = listed(&mut bound).await;
    let all = free.audit.verify_audit(v1::VerifyAuditRequest::default()).await.unwrap().into_inner();
    for id in ["aardvark", "one-more", "zebra"] {
        let create = v1::CreateTenantRequest { tenant_id: id.to_owned(), plan_id: "gold".to_owned(), ..Default::default() };
        free.tenants.create_tenant(create).await.unwrap();
    }
    let more = free.audit.verify_audit(v1::VerifyAuditRequest::default()).await.unwrap().into_inner();
    assert_eq!(more.streams, all.streams + 3);
    assert_eq!(listed(&mut bound).await, before);
    // Its own is among them, and is all there is.
    let own = v1::ListTenantsRequest { page_size: 1, ..Default::default() };
    let own = bound.tenants.list_tenants(own).await.unwrap().into_inner();
    assert_eq!((own.tenants[0].tenant_id.as_str(), own.next_page_token.as_str()), ("acme", ""));
    let mut theirs = v1::ListTenantsRequest { page_size: 1, ..Default::default() };
    theirs.page_token = free.tenants.list_tenants(theirs.clone()).await.unwrap().into_inner().next_page_token;
    let refused = bound.tenants.list_tenants(theirs).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
    dev.stop().unwrap();
}

#[tokio::test]
async fn another_tenant_is_as_if_it_had_never_been() {
    let place = Place::new();
    let bound = place.create(&["bound", "--scope", "decide,read,write:tenants,audit", "--tenant", "acme"]);
    let free = place.create(&["free", "--scope", "decide,read,write:tenants,audit"]);
    let dev = place.dev().await;
    let (mut bound, mut free) = (Clients::of(&dev, &bound).await, Clients::of(&dev, &free).await);

    // It is there, and by others it is seen.
    assert_eq!(free.checks.check_entitlement(check(HIDDEN)).await.unwrap().into_inner().plan_id, "silver");
    let (hidden, nobody) = (heard(&mut bound, HIDDEN).await, heard(&mut bound, NOBODY).await);
    assert_eq!(hidden, nobody);
    assert!(hidden[0].contains("TenantUnknown"), "{}", hidden[0]);

    // Its own is all there, and nothing else is listed.
    assert!(bound.checks.check_entitlement(check("acme")).await.unwrap().into_inner().entitled);
    let listed = bound.tenants.list_tenants(v1::ListTenantsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.tenants.iter().map(|tenant| tenant.tenant_id.as_str()).collect::<Vec<_>>(), ["acme"]);
    let events = v1::ListAuditEventsRequest { page_size: 1_000, ..Default::default() };
    let events = bound.audit.list_audit_events(events).await.unwrap().into_inner().events;
    let of_tenants = events.iter().filter_map(|event| event.stream.as_ref());
    assert!(of_tenants.filter(|stream| stream.kind() == v1::StreamKind::Tenant).all(|stream| stream.id == "acme"));
    let update = v1::UpdateTenantRequest { tenant_id: "acme".to_owned(), title: "Acme".to_owned(), ..Default::default() };
    bound.tenants.update_tenant(update).await.unwrap();
    // What it tried on the other one has left no trace.
    let stream = Some(v1::Stream { kind: v1::StreamKind::Tenant.into(), id: HIDDEN.to_owned() });
    let events = v1::ListAuditEventsRequest { stream, ..Default::default() };
    let events = free.audit.list_audit_events(events).await.unwrap().into_inner().events;
    assert!(!events.is_empty() && events.iter().all(|event| event.actor == "local"), "{events:?}");
    dev.stop().unwrap();
}
