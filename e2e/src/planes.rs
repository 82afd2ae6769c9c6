//! gRPC clients of both planes, made from the published messages alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tessera_proto::v1;
use tessera_proto::v1::add_on_service_client::AddOnServiceClient;
use tessera_proto::v1::audit_service_client::AuditServiceClient;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::Status;
use tonic::codegen::Bytes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::authority::Signed;
use crate::dev::Addresses;
use crate::shop;

/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections to both planes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Planes {
    /// To the data plane.
    pub data: Channel,
    /// To the control plane.
    pub control: Channel,
    /// Who answers at the data plane.
    pub server: Server,
}

/// A server, whichever process it is.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is asked.
    pub address: SocketAddr,
    begun: Arc<AtomicU64>,
}

impl Server {
    /// At that address; `begun` counts its processes.
    pub fn new(address: SocketAddr, begun: Arc<AtomicU64>) -> Self {
        Self { address, begun }
    }

    /// One that has the same process for ever.
    fn of_one_process(address: SocketAddr) -> Self {
        Self::new(address, Arc::default())
    }

    /// How many processes of it were begun by now: whoever finds the same number before and after a call was answered by one that
    /// has this number.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Planes {
    /// Connects to both.
    pub async fn connect(addresses: Addresses) -> anyhow::Result<Self> {
        let server = Server::of_one_process(addresses.data);
        Ok(Self { data: channel(addresses.data).await?, control: channel(addresses.control).await?, server })
    }

    /// Connects to both over TLS, to whoever has a certificate of that authority (PEM) for `127.0.0.1`, and shows them that of
    /// `client`, if there is one.
    pub async fn connect_over_tls(addresses: Addresses, authority: &str, client: Option<&Signed>) -> anyhow::Result<Self> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        if let Some(Signed { certificate, key }) = client {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let connect = async |address: SocketAddr| {
            let endpoint = Endpoint::new(format!("https://{address}"))?.timeout(CALL_TIMEOUT).tls_config(tls.clone())?;
            endpoint.connect().await.with_context(|| format!("connect to {address}"))
        };
        let server = Server::of_one_process(addresses.data);
        Ok(Self { data: connect(addresses.data).await?, control: connect(addresses.control).await?, server })
    }

    /// To both, whoever stands there now or later: connections are made when they are needed. A call that takes longer than
    /// `timeout` has failed.
    pub fn to(server: Server, control: SocketAddr, timeout: Duration) -> anyhow::Result<Self> {
        let lazy = |address| anyhow::Ok(endpoint(address)?.timeout(timeout).connect_lazy());
        Ok(Self { data: lazy(server.address)?, control: lazy(control)?, server })
    }

    /// Checks.
    pub fn entitlements(&self) -> EntitlementServiceClient<Channel> {
        EntitlementServiceClient::new(self.data.clone())
    }

    /// Services, features, limits.
    pub fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.control.clone())
    }

    /// Plans.
    pub fn plans(&self) -> PlanServiceClient<Channel> {
        PlanServiceClient::new(self.control.clone())
    }

    /// Add-ons.
    pub fn add_ons(&self) -> AddOnServiceClient<Channel> {
        AddOnServiceClient::new(self.control.clone())
    }

    /// Tenants.
    pub fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.control.clone())
    }

    /// The record of all changes.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.control.clone())
    }

    /// One decision, as new as whatever was acknowledged before.
    pub async fn check(&self, tenant: &str, service: &str, feature: &str) -> anyhow::Result<v1::CheckEntitlementResponse> {
        let requirement = v1::consistency::Requirement::FullyConsistent(v1::FullyConsistent {});
        let request = v1::CheckEntitlementRequest {
            tenant_id: tenant.to_owned(),
            service: service.to_owned(),
            feature: feature.to_owned(),
            consistency: Some(v1::Consistency { requirement: Some(requirement) }),
            ..Default::default()
        };
        let answer = self.entitlements().check_entitlement(request).await;
        Ok(answer.with_context(|| format!("check {tenant} {service} {feature}"))?.into_inner())
    }

    /// What the tenant has of a limit, by an answer that rests on `revision` or newer. A server that is behind says UNAVAILABLE.
    pub async fn limit_at_least(&self, tenant: &str, limit: &str, revision: Bytes) -> Result<i64, Status> {
        Ok(self.limit_and_revision(tenant, limit, revision).await?.0)
    }

    /// As [`Self::limit_at_least`], with the revision that the answer rests on.
    pub async fn limit_and_revision(&self, tenant: &str, limit: &str, revision: Bytes) -> Result<(i64, Bytes), Status> {
        let requirement = v1::consistency::Requirement::AtLeast(v1::AtLeast { revision });
        let request = v1::CheckEntitlementRequest {
            tenant_id: tenant.to_owned(),
            service: shop::SERVICE.to_owned(),
            limit_check: Some(v1::LimitCheck { name: limit.to_owned(), amount: 0, used: None }),
            consistency: Some(v1::Consistency { requirement: Some(requirement) }),
            ..Default::default()
        };
        let answer = self.entitlements().check_entitlement(request).await?.into_inner();
        match answer.limit.and_then(|limit| limit.value) {
            Some(v1::limit_state::Value::Maximum(maximum)) => Ok((maximum, answer.revision)),
            other => Err(Status::internal(format!("the limit is {other:?}"))),
        }
    }

    /// Every tenant, all pages.
    pub async fn all_tenants(&self) -> anyhow::Result<Vec<v1::Tenant>> {
        let mut tenants = Vec::new();
        let mut request = v1::ListTenantsRequest { page_size: 1_000, ..Default::default() };
        loop {
            let page = self.tenants().list_tenants(request.clone()).await.context("list tenants")?.into_inner();
            tenants.extend(page.tenants);
            if page.next_page_token.is_empty() {
                return Ok(tenants);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Every event of a tenant, all pages.
    pub async fn events_of(&self, tenant: &str) -> anyhow::Result<Vec<v1::AuditEvent>> {
        let stream = v1::Stream { kind: v1::StreamKind::Tenant.into(), id: tenant.to_owned() };
        let mut events = Vec::new();
        let mut request = v1::ListAuditEventsRequest { stream: Some(stream), page_size: 1_000, ..Default::default() };
        loop {
            let page = self.audit().list_audit_events(request.clone()).await.context("list events")?.into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return Ok(events);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Walks every hash chain; returns how many events were walked, and fails on any problem.
    pub async fn verify_audit(&self) -> anyhow::Result<i64> {
        let mut events = 0;
        let mut request = v1::VerifyAuditRequest::default();
        loop {
            let page = self.audit().verify_audit(request.clone()).await.context("verify the audit log")?.into_inner();
            anyhow::ensure!(page.problems.is_empty(), "the audit log has problems: {:?}", page.problems);
            events += page.events;
            if page.next_page_token.is_empty() {
                return Ok(events);
            }
            request.page_token = page.next_page_token;
        }
    }
}

async fn channel(address: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = endpoint(address)?.timeout(CALL_TIMEOUT);
    endpoint.connect().await.with_context(|| format!("connect to {address}"))
}

fn endpoint(address: SocketAddr) -> anyhow::Result<Endpoint> {
    Endpoint::from_shared(format!("http://{address}")).context("an address")
}
