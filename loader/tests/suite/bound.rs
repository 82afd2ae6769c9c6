//! Callers who are bound to tenants: what is their own goes by the id, whether there is such a tenant or not.

use tessera_core::access::Scopes;
use tessera_core::aggregate::Actor;
use tessera_core::ids::TenantId;
use tessera_proto::v1;
use tessera_proto::v1::audit_service_client::AuditServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_runtime::identity::{Grant, Principal};
use tonic::service::Routes;
use tonic::{Code, Request};

use crate::bench::stream;
use crate::rig::{Rig, create_tenant, refused};

/// A call of somebody who is bound to `newco` alone.
fn bound<M>(message: M) -> Request<M> {
    let actor = Actor::parse("an actor", "corp:ann").unwrap();
    let tenants = Some([TenantId::parse("newco").unwrap()].into());
    let mut request = Request::new(message);
    request.extensions_mut().insert(Principal::new(Grant { actor, scopes: Scopes::all(), tenants }));
    request
}

#[tokio::test]
async fn who_is_bound_to_a_tenant_may_create_it_and_no_other() {
    let mut rig = Rig::furnished().await;
    rig.create("globex").await;
    // Straight to the services: in front of them is who finds out who calls.
    let mut client = TenantServiceClient::<Routes>::new(rig.bench.loader().routes());

    // Of another one it is told nothing, whether it is there or not.
    for other in ["globex", "nobodys"] {
        let status = client.create_tenant(bound(create_tenant(other))).await.unwrap_err();
        assert_eq!(status.message(), format!("tenant `{other}` does not exist"));
        assert_eq!(refused(Err::<(), _>(status)), (Code::NotFound, "TENANT_NOT_FOUND".to_owned()));
    }
    let mut audit = AuditServiceClient::<Routes>::new(rig.bench.loader().routes());
    for other in ["globex", "nobodys"] {
        let stream = Some(v1::Stream { kind: v1::StreamKind::Tenant.into(), id: other.to_owned() });
        let list = v1::ListAuditEventsRequest { stream: stream.clone(), ..Default::default() };
        let listed = audit.list_audit_events(bound(list)).await.unwrap_err();
        let verified = audit.verify_audit(bound(v1::VerifyAuditRequest { stream, ..Default::default() })).await.unwrap_err();
        for status in [listed, verified] {
            assert_eq!(status.message(), format!("tenant `{other}` does not exist"));
            assert_eq!(refused(Err::<(), _>(status)), (Code::NotFound, "TENANT_NOT_FOUND".to_owned()));
        }
    }
    assert_eq!((rig.bench.stored("globex").1, rig.bench.stored("nobodys").1), (1, 0));

    let created = client.create_tenant(bound(create_tenant("newco"))).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(created.tenant_id, "newco");
    let listed = client.list_tenants(bound(v1::ListTenantsRequest::default())).await.unwrap().into_inner().tenants;
    assert_eq!(listed.iter().map(|tenant| tenant.tenant_id.as_str()).collect::<Vec<_>>(), ["newco"]);
    assert_eq!(rig.bench.store.inner.cells(&stream("newco")).len(), 1);
    // It is there now.
    assert_eq!(refused(client.create_tenant(bound(create_tenant("newco"))).await).0, Code::AlreadyExists);
}
