//! A small catalog and one plan, for suites that need something to sell and do not care what.

use anyhow::Context as _;
use tessera_proto::v1;

use crate::Planes;

/// The service that is sold.
pub const SERVICE: &str = "files";
/// A feature of it that the plan has.
pub const FEATURE: &str = "upload";
/// The plan.
pub const PLAN: &str = "basic";

/// Registers a limit that the plan does not have: an override of a tenant alone says how much there is of it.
pub async fn limit(planes: &Planes, id: &str) -> anyhow::Result<()> {
    let request = v1::UpsertLimitRequest {
        limit_id: id.to_owned(),
        unit: "pieces".to_owned(),
        period: v1::Period::Never.into(),
        request_id: format!("shop-{id}"),
        ..Default::default()
    };
    planes.catalog().upsert_limit(request).await.with_context(|| format!("register the limit `{id}`"))?;
    Ok(())
}

/// Opens the shop: registers service and limit, publishes the plan. Doing it again changes nothing.
pub async fn open(planes: &Planes) -> anyhow::Result<()> {
    let features = [FEATURE, "share"].map(|id| v1::FeatureDocument { feature_id: id.to_owned(), ..Default::default() });
    let service = v1::UpsertServiceRequest {
        service_id: SERVICE.to_owned(),
        title: "Files".to_owned(),
        features: features.to_vec(),
        request_id: "shop-service".to_owned(),
        ..Default::default()
    };
    planes.catalog().upsert_service(service).await.context("register the service")?;
    let limit = v1::UpsertLimitRequest {
        limit_id: "seats".to_owned(),
        unit: "seats".to_owned(),
        period: v1::Period::Never.into(),
        request_id: "shop-limit".to_owned(),
        ..Default::default()
    };
    planes.catalog().upsert_limit(limit).await.context("register the limit")?;
    let grant = v1::ServiceGrant { features: vec![FEATURE.to_owned()], familiarity_basis_points: 7_500 };
    let seats = v1::LimitGrant { value: Some(v1::limit_grant::Value::Maximum(10)) };
    let document = v1::PlanDocument {
        title: "Basic".to_owned(),
        services: [(SERVICE.to_owned(), grant)].into_iter().collect(),
        limits: [("seats".to_owned(), seats)].into_iter().collect(),
        ..Default::default()
    };
    let plan = v1::CreatePlanRequest { plan_id: PLAN.to_owned(), document: Some(document), request_id: "shop-plan".to_owned() };
    planes.plans().create_plan(plan).await.context("create the plan")?;
    let publish =
        v1::PublishPlanRequest { plan_id: PLAN.to_owned(), request_id: "shop-publish".to_owned(), ..Default::default() };
    planes.plans().publish_plan(publish).await.context("publish the plan")?;
    Ok(())
}
