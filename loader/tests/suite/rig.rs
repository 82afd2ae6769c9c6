//! A loader behind a real gRPC listener, and clients of all its services.

use std::time::Duration;

use prost_types::Timestamp;
use tessera_loader::Handle;
use tessera_proto::v1;
use tessera_proto::v1::add_on_service_client::AddOnServiceClient;
use tessera_proto::v1::audit_service_client::AuditServiceClient;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_runtime::listener::{self, ListenerConfig};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::bench::{Bench, new_year};

pub(crate) struct Rig {
    pub(crate) bench: Bench,
    pub(crate) handle: Handle,
    pub(crate) channel: Channel,
    pub(crate) plans: PlanServiceClient<Channel>,
    pub(crate) add_ons: AddOnServiceClient<Channel>,
    pub(crate) catalog: CatalogServiceClient<Channel>,
    pub(crate) tenants: TenantServiceClient<Channel>,
    pub(crate) audit: AuditServiceClient<Channel>,
}

impl Rig {
    pub(crate) async fn over(bench: Bench) -> Self {
        let loader = bench.loader();
        let (routes, tasks) = (loader.routes(), bench.tasks.clone());
        let handle = loader.start(&tasks);
        let socket = listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = socket.local_addr().unwrap();
        let shutdown = tasks.shutdown();
        // What is asked at a time here takes longer in a build that is not optimized than anybody should wait.
        let patient = ListenerConfig { wait_target_ms: 1_000, ..ListenerConfig::default() };
        tasks.spawn("listener", async move { listener::serve(socket, routes, &patient, shutdown).await });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self {
            bench,
            handle,
            plans: PlanServiceClient::new(channel.clone()),
            add_ons: AddOnServiceClient::new(channel.clone()),
            catalog: CatalogServiceClient::new(channel.clone()),
            tenants: TenantServiceClient::new(channel.clone()),
            audit: AuditServiceClient::new(channel.clone()),
            channel,
        }
    }

    pub(crate) async fn new() -> Self {
        Self::over(Bench::new()).await
    }

    /// With a service of two features, a limit, the plans `gold` and `silver` and the add-on `seats`, all published.
    pub(crate) async fn furnished() -> Self {
        let mut rig = Self::new().await;
        rig.furnish().await;
        rig
    }

    pub(crate) async fn furnish(&mut self) {
        self.catalog.upsert_service(service("reporting", &["exports", "charts"])).await.unwrap();
        self.catalog.upsert_limit(limit("max_users")).await.unwrap();
        for (plan, users) in [("gold", 1_000), ("silver", 100)] {
            self.plans.create_plan(create_plan(plan, users)).await.unwrap();
            let publish = v1::PublishPlanRequest { plan_id: plan.to_owned(), ..Default::default() };
            self.plans.publish_plan(publish).await.unwrap();
        }
        let seats = v1::CreateAddOnRequest {
            add_on_id: "seats".to_owned(),
            document: Some(v1::AddOnDocument { limits: users(10), ..Default::default() }),
            ..Default::default()
        };
        self.add_ons.create_add_on(seats).await.unwrap();
        let publish = v1::PublishAddOnRequest { add_on_id: "seats".to_owned(), ..Default::default() };
        self.add_ons.publish_add_on(publish).await.unwrap();
    }

    pub(crate) async fn create(&mut self, tenant: &str) -> v1::Tenant {
        self.tenants.create_tenant(create_tenant(tenant)).await.unwrap().into_inner().tenant.unwrap()
    }

    /// Lets the clock of the loader go on.
    pub(crate) fn advance(&self, days: u64) {
        self.bench.clock.advance(Duration::from_secs(days * 86_400));
    }
}

/// New year's day plus that many days.
#[expect(clippy::unnecessary_wraps, reason = "it fills optional fields of requests")]
pub(crate) fn day(days: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: new_year().seconds() + days * 86_400, nanos: 0 })
}

pub(crate) fn service(id: &str, features: &[&str]) -> v1::UpsertServiceRequest {
    let features = features.iter().map(|id| v1::FeatureDocument { feature_id: (*id).to_owned(), ..Default::default() });
    v1::UpsertServiceRequest { service_id: id.to_owned(), features: features.collect(), ..Default::default() }
}

pub(crate) fn limit(id: &str) -> v1::UpsertLimitRequest {
    v1::UpsertLimitRequest { limit_id: id.to_owned(), unit: "users".to_owned(), ..Default::default() }
}

pub(crate) fn users(maximum: i64) -> std::collections::BTreeMap<String, v1::LimitGrant> {
    let value = Some(v1::limit_grant::Value::Maximum(maximum));
    [("max_users".to_owned(), v1::LimitGrant { value })].into()
}

pub(crate) fn plan_document(maximum: i64) -> v1::PlanDocument {
    let grant = v1::ServiceGrant { features: vec!["exports".to_owned()], ..Default::default() };
    v1::PlanDocument { services: [("reporting".to_owned(), grant)].into(), limits: users(maximum), ..Default::default() }
}

pub(crate) fn create_plan(id: &str, maximum: i64) -> v1::CreatePlanRequest {
    v1::CreatePlanRequest { plan_id: id.to_owned(), document: Some(plan_document(maximum)), ..Default::default() }
}

pub(crate) fn create_tenant(id: &str) -> v1::CreateTenantRequest {
    v1::CreateTenantRequest { tenant_id: id.to_owned(), plan_id: "gold".to_owned(), ..Default::default() }
}

/// Code and `ErrorInfo.reason` of an error, which is always ours.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("an error was expected");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "tessera");
    (status.code(), info.reason)
}

/// The fields at fault.
#[track_caller]
pub(crate) fn fields<T: std::fmt::Debug>(result: Result<T, Status>) -> Vec<String> {
    let status = result.expect_err("an error was expected");
    let bad = status.get_details_bad_request().unwrap_or_else(|| panic!("no BadRequest in {status:?}"));
    bad.field_violations.into_iter().map(|violation| violation.field).collect()
}
