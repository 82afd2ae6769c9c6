//! What callers ask for: commands, their messages, and the same as the aggregates understand them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost_types::Timestamp as ProtoTimestamp;
use tessera_core::ids::{PlanId, TenantId};
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_core::value::{Offer, Reason, Target, Title};
use tessera_core::{catalog, plan, tenant};
use tessera_ports::memory::SplitMix64;
use tessera_proto::convert;
use tessera_proto::convert::tenant::ReadOverride;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_runtime::identity::Principal;
use tonic::service::Routes;
use tonic::{Request, Status};

use crate::cluster::Cluster;

/// Tenants that callers fight over.
pub const TENANTS: [&str; 3] = ["t0", "t1", "t2"];
/// Plans that they fight over.
pub const PLANS: [&str; 2] = ["p0", "p1"];
/// Features that plans and overrides name.
pub const FEATURES: [&str; 3] = ["f0", "f1", "f2"];
/// The one service.
pub const SERVICE: &str = "s";
/// The one limit.
pub const LIMIT: &str = "users";
/// One thing to do. Nearly every one carries the request id in some text, so that it is no no-op.
#[derive(Debug, Clone)]
pub enum Command {
    /// Register the service again, with another title; takes its archived features back.
    Register,
    /// Archive a feature: nobody may name it anew.
    Archive { feature: &'static str },
    /// Throw or take back the kill switch of a feature.
    Switch { feature: &'static str, on: bool },
    /// A new draft.
    Draft { plan: &'static str, features: usize, users: i64 },
    /// Publish the draft.
    Publish { plan: &'static str },
    /// Create a tenant on the newest version (0), or pinned to one.
    Create { tenant: &'static str, plan: &'static str, version: i32 },
    /// State a tenant whole: moves it to a plan, perhaps with a change to come.
    State { tenant: &'static str, plan: &'static str, version: i32, then: Option<(ProtoTimestamp, &'static str)> },
    /// Set an override.
    Grant { tenant: &'static str, feature: &'static str },
    /// Suspend at once.
    Suspend { tenant: &'static str },
    /// Take all suspensions back.
    Resume { tenant: &'static str },
    /// Delete for ever.
    Delete { tenant: &'static str },
    /// Another title.
    Title { tenant: &'static str },
}

/// What a loader said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The revision of the write.
    pub revision: Vec<u8>,
    /// Whether it said that this was a replay.
    pub replay: bool,
    /// The resource, without what time or other streams change.
    pub resource: String,
}

impl Command {
    /// Any of them; `now` is the time of day.
    pub fn draw(random: &mut SplitMix64, now: Timestamp) -> Self {
        let tenant = TENANTS[random.index(TENANTS.len())];
        let plan = PLANS[random.index(PLANS.len())];
        let feature = FEATURES[random.index(FEATURES.len())];
        // A version that may not be published yet, or the latest.
        let version = if random.chance(300) { 1 + i32::try_from(random.below(4)).unwrap_or(0) } else { 0 };
        match random.below(100) {
            0..5 => Self::Register,
            5..10 => Self::Archive { feature },
            10..13 => Self::Switch { feature, on: random.chance(500) },
            13..21 => Self::Draft { plan, features: random.index(4), users: i64::try_from(random.below(20)).unwrap_or(0) },
            21..31 => Self::Publish { plan },
            31..48 => Self::Create { tenant, plan, version },
            48..66 => {
                let at = convert::time::to_timestamp(now.saturating_add(random.duration(Duration::from_secs(3))));
                let then = random.chance(300).then(|| (at, PLANS[random.index(PLANS.len())]));
                Self::State { tenant, plan, version, then }
            }
            66..76 => Self::Grant { tenant, feature },
            76..82 => Self::Suspend { tenant },
            82..87 => Self::Resume { tenant },
            87..90 => Self::Delete { tenant },
            _ => Self::Title { tenant },
        }
    }

    /// The stream it writes.
    pub fn stream(&self) -> StreamId {
        match self {
            Self::Register | Self::Archive { .. } | Self::Switch { .. } => StreamId::Catalog,
            Self::Draft { plan, .. } | Self::Publish { plan } => StreamId::Plan(PlanId::parse(plan).expect("a good id")),
            Self::Create { tenant, .. }
            | Self::State { tenant, .. }
            | Self::Grant { tenant, .. }
            | Self::Suspend { tenant }
            | Self::Resume { tenant }
            | Self::Delete { tenant }
            | Self::Title { tenant } => StreamId::Tenant(TenantId::parse(tenant).expect("a good id")),
        }
    }

    /// Whether it may find nothing to do.
    pub fn may_change_nothing(&self) -> bool {
        matches!(self, Self::Switch { .. } | Self::Archive { .. })
    }

    /// Another command of the same stream, for the same request id.
    #[must_use]
    pub fn other(&self) -> Self {
        match self.stream() {
            StreamId::Catalog => match self {
                Self::Register => Self::Switch { feature: FEATURES[0], on: true },
                _ => Self::Register,
            },
            StreamId::Tenant(id) => {
                let tenant = TENANTS.into_iter().find(|tenant| *tenant == id.as_str()).unwrap_or(TENANTS[0]);
                if matches!(self, Self::Title { .. }) { Self::Suspend { tenant } } else { Self::Title { tenant } }
            }
            _ => match self {
                Self::Publish { plan } => Self::Draft { plan, features: 1, users: 1 },
                Self::Draft { plan, .. } => Self::Publish { plan },
                other => other.clone(),
            },
        }
    }

    /// Sends it to a loader; as that principal, if anybody is asked who they are.
    pub async fn send(
        &self,
        routes: &Routes,
        id: &str,
        retry: bool,
        timeout: Duration,
        principal: Option<&Principal>,
    ) -> Result<Said, Status> {
        let mut catalog = CatalogServiceClient::new(routes.clone());
        let mut plans = PlanServiceClient::new(routes.clone());
        let mut tenants = TenantServiceClient::new(routes.clone());
        macro_rules! call {
            ($client:ident.$method:ident($message:expr), $resource:ident) => {{
                let mut request = Request::new($message);
                request.set_timeout(timeout);
                if let Some(principal) = principal {
                    request.extensions_mut().insert(principal.clone());
                }
                if retry {
                    request.metadata_mut().insert("tessera-retry", tonic::metadata::MetadataValue::from_static("1"));
                }
                let answer = $client.$method(request).await?.into_inner();
                Ok(Said {
                    revision: answer.revision.to_vec(),
                    replay: answer.idempotent_replay,
                    resource: format!("{:?}", answer.$resource.map(lasting)),
                })
            }};
        }
        match self.message(id) {
            Message::UpsertService(m) => call!(catalog.upsert_service(m), service),
            Message::ArchiveFeature(m) => call!(catalog.archive_feature(m), service),
            Message::DisableFeature(m) => call!(catalog.disable_feature(m), service),
            Message::EnableFeature(m) => call!(catalog.enable_feature(m), service),
            Message::UpdatePlan(m) => call!(plans.update_plan(m), plan),
            Message::PublishPlan(m) => call!(plans.publish_plan(m), plan),
            Message::CreateTenant(m) => call!(tenants.create_tenant(m), tenant),
            Message::StateTenant(m) => call!(tenants.state_tenant(m), tenant),
            Message::SetOverride(m) => call!(tenants.set_override(m), tenant),
            Message::SuspendTenant(m) => call!(tenants.suspend_tenant(m), tenant),
            Message::ResumeTenant(m) => call!(tenants.resume_tenant(m), tenant),
            Message::DeleteTenant(m) => call!(tenants.delete_tenant(m), tenant),
            Message::UpdateTenant(m) => call!(tenants.update_tenant(m), tenant),
        }
    }

    fn message(&self, id: &str) -> Message {
        let request_id = id.to_owned();
        let (service_id, title) = (SERVICE.to_owned(), id.to_owned());
        let reason = title.clone();
        match *self {
            Self::Register => Message::UpsertService(v1::UpsertServiceRequest { title, request_id, ..service() }),
            Self::Archive { feature } => {
                let feature_id = feature.to_owned();
                Message::ArchiveFeature(v1::ArchiveFeatureRequest { service_id, feature_id, request_id, ..Default::default() })
            }
            Self::Switch { feature, on: true } => {
                let feature_id = feature.to_owned();
                let message = v1::DisableFeatureRequest { service_id, feature_id, reason, request_id, ..Default::default() };
                Message::DisableFeature(message)
            }
            Self::Switch { feature, on: false } => {
                let feature_id = feature.to_owned();
                Message::EnableFeature(v1::EnableFeatureRequest { service_id, feature_id, request_id, ..Default::default() })
            }
            Self::Draft { plan, features, users } => {
                let document = Some(plan_document(id, features, users));
                let plan_id = plan.to_owned();
                Message::UpdatePlan(v1::UpdatePlanRequest { plan_id, document, request_id, ..Default::default() })
            }
            Self::Publish { plan } => {
                let plan_id = plan.to_owned();
                Message::PublishPlan(v1::PublishPlanRequest { plan_id, request_id, ..Default::default() })
            }
            Self::Create { tenant, plan, version } => Message::CreateTenant(v1::CreateTenantRequest {
                tenant_id: tenant.to_owned(),
                title,
                plan_id: plan.to_owned(),
                plan_version: version,
                request_id,
                ..Default::default()
            }),
            Self::State { tenant, plan, version, ref then } => {
                let change = |(at, plan): &(ProtoTimestamp, &str)| v1::ScheduledChange {
                    at: Some(*at),
                    plan_id: (*plan).to_owned(),
                    ..Default::default()
                };
                let document = v1::TenantDocument {
                    tenant_id: tenant.to_owned(),
                    title,
                    plan_id: plan.to_owned(),
                    plan_version: version,
                    scheduled: then.iter().map(change).collect(),
                    ..Default::default()
                };
                Message::StateTenant(v1::StateTenantRequest { document: Some(document), request_id, ..Default::default() })
            }
            Self::Grant { tenant, feature } => {
                let target =
                    v1::OverrideTarget { service: SERVICE.to_owned(), feature: feature.to_owned(), ..Default::default() };
                let effect = v1::OverrideEffect::Grant as i32;
                let set = v1::Override { target: Some(target), effect, reason, ..Default::default() };
                let tenant_id = tenant.to_owned();
                let set = Some(set);
                Message::SetOverride(v1::SetOverrideRequest { tenant_id, r#override: set, request_id, ..Default::default() })
            }
            Self::Suspend { tenant } => {
                let tenant_id = tenant.to_owned();
                Message::SuspendTenant(v1::SuspendTenantRequest { tenant_id, reason, request_id, ..Default::default() })
            }
            Self::Resume { tenant } => {
                let tenant_id = tenant.to_owned();
                Message::ResumeTenant(v1::ResumeTenantRequest { tenant_id, request_id, ..Default::default() })
            }
            Self::Delete { tenant } => {
                let tenant_id = tenant.to_owned();
                Message::DeleteTenant(v1::DeleteTenantRequest { tenant_id, request_id, ..Default::default() })
            }
            Self::Title { tenant } => {
                let tenant_id = tenant.to_owned();
                Message::UpdateTenant(v1::UpdateTenantRequest { tenant_id, title, request_id, ..Default::default() })
            }
        }
    }

    /// The same for the aggregate that decides it.
    pub fn asked(&self, id: &str) -> Result<Asked, Failure> {
        let offer = |plan: &str| PlanId::parse(plan).map(Offer::Plan).expect("a good id");
        let plan = |plan: &str, action| Asked::Plan(plan::Command { offer: offer(plan), action });
        let mut fields = convert::Fields::new();
        let action = match self.message(id) {
            Message::UpsertService(m) => {
                return Ok(Asked::Catalog(catalog::Command::UpsertService(convert::catalog::service_document(&m)?)));
            }
            Message::ArchiveFeature(m) => {
                let Target { service, feature } = convert::catalog::target(&m.service_id, &m.feature_id)?;
                let feature = feature.expect("a feature is named");
                return Ok(Asked::Catalog(catalog::Command::ArchiveFeature(service, feature)));
            }
            Message::DisableFeature(m) => {
                let target = convert::catalog::target(&m.service_id, &m.feature_id)?;
                let reason = convert::catalog::reason(&m.reason)?;
                return Ok(Asked::Catalog(catalog::Command::Disable { target, reason }));
            }
            Message::EnableFeature(m) => {
                let target = convert::catalog::target(&m.service_id, &m.feature_id)?;
                return Ok(Asked::Catalog(catalog::Command::Enable(target)));
            }
            Message::UpdatePlan(m) => {
                let document = convert::offer::plan_document(m.document.as_ref())?;
                return Ok(plan(&m.plan_id, plan::Action::Update(document)));
            }
            Message::PublishPlan(m) => return Ok(plan(&m.plan_id, plan::Action::Publish)),
            Message::CreateTenant(m) => {
                let title = fields.check("title", Title::parse("a title", &m.title));
                let choice = convert::tenant::choice(&mut fields, "", &m.plan_id, m.plan_version);
                title.zip(choice).map(|(title, choice)| {
                    let (labels, starts, trial) = (BTreeMap::new(), None, None);
                    tenant::Action::Create { title, labels, choice, starts, trial, pending: false }
                })
            }
            Message::StateTenant(m) => {
                let (_, document, suspended) = convert::tenant::document("document", &m.tenant_id, m.document.as_ref())?;
                Some(tenant::Action::State { document: Box::new(document), suspended, mode: tenant::StateMode::Upsert })
            }
            Message::SetOverride(m) => {
                let set = m.r#override.and_then(|set| convert::tenant::read_override(&mut fields, "override", &set));
                set.map(|set| match set {
                    ReadOverride::Access(target, set) => tenant::Action::OverrideAccess(target, set),
                    ReadOverride::Limit(limit, set) => tenant::Action::OverrideLimit(limit, set),
                })
            }
            Message::SuspendTenant(m) => {
                let reason = fields.check("reason", Reason::parse("a reason", &m.reason));
                reason.map(|reason| tenant::Action::Suspend { reason, effective_at: None })
            }
            Message::ResumeTenant(_) => Some(tenant::Action::Resume(BTreeSet::new())),
            Message::DeleteTenant(_) => Some(tenant::Action::Delete),
            Message::UpdateTenant(m) => {
                let title = fields.check("title", Title::parse("a title", &m.title));
                title.map(|title| tenant::Action::Update { title: Some(title), labels: None })
            }
        };
        let action = fields.finish(action)?;
        let StreamId::Tenant(tenant) = self.stream() else { unreachable!("all others have returned") };
        Ok(Asked::Tenant(tenant::Command { tenant, action }))
    }
}

/// A command for its aggregate.
#[derive(Debug, Clone)]
pub enum Asked {
    /// For the catalog.
    Catalog(catalog::Command),
    /// For a plan.
    Plan(plan::Command),
    /// For a tenant.
    Tenant(tenant::Command),
}

/// A command for a loader.
enum Message {
    UpsertService(v1::UpsertServiceRequest),
    ArchiveFeature(v1::ArchiveFeatureRequest),
    DisableFeature(v1::DisableFeatureRequest),
    EnableFeature(v1::EnableFeatureRequest),
    UpdatePlan(v1::UpdatePlanRequest),
    PublishPlan(v1::PublishPlanRequest),
    CreateTenant(v1::CreateTenantRequest),
    StateTenant(v1::StateTenantRequest),
    SetOverride(v1::SetOverrideRequest),
    SuspendTenant(v1::SuspendTenantRequest),
    ResumeTenant(v1::ResumeTenantRequest),
    DeleteTenant(v1::DeleteTenantRequest),
    UpdateTenant(v1::UpdateTenantRequest),
}

/// A resource without what time or another stream changes in it.
trait Lasting: std::fmt::Debug {
    fn lasting(&mut self) {}
}
impl Lasting for v1::Service {}
impl Lasting for v1::Plan {}
impl Lasting for v1::Tenant {
    fn lasting(&mut self) {
        self.status = 0;
        self.subscription = None;
        self.update_time = None;
    }
}
fn lasting<R: Lasting>(mut resource: R) -> R {
    resource.lasting();
    resource
}

fn service() -> v1::UpsertServiceRequest {
    let feature = |id: &str| v1::FeatureDocument { feature_id: id.to_owned(), ..Default::default() };
    v1::UpsertServiceRequest { service_id: SERVICE.to_owned(), features: FEATURES.map(feature).to_vec(), ..Default::default() }
}

fn plan_document(title: &str, features: usize, users: i64) -> v1::PlanDocument {
    let grant = v1::ServiceGrant {
        features: FEATURES.iter().take(features).map(|feature| (*feature).to_owned()).collect(),
        familiarity_basis_points: 0,
    };
    let users = v1::LimitGrant { value: Some(v1::limit_grant::Value::Maximum(users)) };
    v1::PlanDocument {
        title: title.to_owned(),
        services: [(SERVICE.to_owned(), grant)].into(),
        limits: [(LIMIT.to_owned(), users)].into(),
        ..Default::default()
    }
}

/// Registers everything and publishes a first version of every plan, before any fault.
pub async fn set_up(cluster: &Cluster) -> Result<(), Status> {
    let routes = cluster.loader(0).services;
    let timeout = Duration::from_secs(5);
    Command::Register.send(&routes, "setup-service", false, timeout, None).await?;
    let limit = v1::UpsertLimitRequest { limit_id: LIMIT.to_owned(), request_id: "setup-limit".into(), ..Default::default() };
    CatalogServiceClient::new(routes.clone()).upsert_limit(limit).await?;
    for plan in PLANS {
        let message = v1::CreatePlanRequest {
            plan_id: plan.to_owned(),
            document: Some(plan_document("first", 1, 5)),
            request_id: format!("setup-{plan}"),
        };
        PlanServiceClient::new(routes.clone()).create_plan(message).await?;
        Command::Publish { plan }.send(&routes, &format!("setup-publish-{plan}"), false, timeout, None).await?;
    }
    Ok(())
}
