//! Callers: each does one thing after the other, tries again under the same request id while the outcome is unknown, and notes
//! what it was told.

use std::rc::Rc;
use std::time::Duration;

use prost_types::Timestamp as ProtoTimestamp;
use tessera_core::ids::{PlanId, TenantId};
use tessera_core::revision::Revision;
use tessera_core::stream::StreamId;
use tessera_ports::memory::SplitMix64;
use tessera_proto::v1;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::service::Routes;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::checks;
use crate::cluster::{Cluster, PROCESSES};
use crate::journal::{Acknowledged, Journal, Refused};

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
/// How often a caller asks again before it gives up.
const TRIES: u32 = 5;

/// One thing to do. Every one of them carries the request id in some text, so that none is a no-op.
#[derive(Debug, Clone)]
pub enum Command {
    /// Register the service again, with another title.
    Register,
    /// Throw or take back the kill switch of a feature.
    Switch { feature: &'static str, on: bool },
    /// A new draft.
    Draft { plan: &'static str, features: usize, users: i64 },
    /// Publish the draft.
    Publish { plan: &'static str },
    /// Create a tenant on the newest version, or pinned to the first.
    Create { tenant: &'static str, plan: &'static str, pinned: bool },
    /// State a tenant whole: moves it to a plan, perhaps with a change to come.
    State { tenant: &'static str, plan: &'static str, pinned: bool, then: Option<(ProtoTimestamp, &'static str)> },
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
    fn draw(random: &mut SplitMix64, now: i64) -> Self {
        let tenant = TENANTS[random.index(TENANTS.len())];
        let plan = PLANS[random.index(PLANS.len())];
        let feature = FEATURES[random.index(FEATURES.len())];
        let pinned = random.chance(300);
        match random.below(100) {
            0..4 => Self::Register,
            4..8 => Self::Switch { feature, on: random.chance(500) },
            8..18 => Self::Draft { plan, features: random.index(4), users: i64::try_from(random.below(20)).unwrap_or(0) },
            18..30 => Self::Publish { plan },
            30..48 => Self::Create { tenant, plan, pinned },
            48..66 => {
                let at = ProtoTimestamp { seconds: now + 1 + i64::try_from(random.below(3)).unwrap_or(0), nanos: 0 };
                let then = random.chance(300).then(|| (at, PLANS[random.index(PLANS.len())]));
                Self::State { tenant, plan, pinned, then }
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
            Self::Register | Self::Switch { .. } => StreamId::Catalog,
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
    fn may_change_nothing(&self) -> bool {
        matches!(self, Self::Switch { .. })
    }

    /// Another command of the same stream, for the same request id.
    fn other(&self) -> Self {
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

    /// Sends it to a loader.
    #[expect(clippy::too_many_lines, reason = "a table: one command, one call")]
    pub async fn send(&self, routes: &Routes, id: &str, retry: bool, timeout: Duration) -> Result<Said, Status> {
        let request_id = id.to_owned();
        let mut catalog = CatalogServiceClient::new(routes.clone());
        let mut plans = PlanServiceClient::new(routes.clone());
        let mut tenants = TenantServiceClient::new(routes.clone());
        macro_rules! call {
            ($client:ident.$method:ident($message:expr), $resource:ident) => {{
                let mut request = Request::new($message);
                request.set_timeout(timeout);
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
        match *self {
            Self::Register => {
                let message = v1::UpsertServiceRequest { title: id.to_owned(), request_id, ..service() };
                call!(catalog.upsert_service(message), service)
            }
            Self::Switch { feature, on: true } => {
                let (service_id, feature_id) = (SERVICE.to_owned(), feature.to_owned());
                let message =
                    v1::DisableFeatureRequest { service_id, feature_id, reason: id.to_owned(), request_id, ..Default::default() };
                call!(catalog.disable_feature(message), service)
            }
            Self::Switch { feature, on: false } => {
                let (service_id, feature_id) = (SERVICE.to_owned(), feature.to_owned());
                let message = v1::EnableFeatureRequest { service_id, feature_id, request_id, ..Default::default() };
                call!(catalog.enable_feature(message), service)
            }
            Self::Draft { plan, features, users } => {
                let document = Some(plan_document(id, features, users));
                let message = v1::UpdatePlanRequest { plan_id: plan.to_owned(), document, request_id, ..Default::default() };
                call!(plans.update_plan(message), plan)
            }
            Self::Publish { plan } => {
                let message = v1::PublishPlanRequest { plan_id: plan.to_owned(), request_id, ..Default::default() };
                call!(plans.publish_plan(message), plan)
            }
            Self::Create { tenant, plan, pinned } => {
                let message = v1::CreateTenantRequest {
                    tenant_id: tenant.to_owned(),
                    title: id.to_owned(),
                    plan_id: plan.to_owned(),
                    plan_version: i32::from(pinned),
                    request_id,
                    ..Default::default()
                };
                call!(tenants.create_tenant(message), tenant)
            }
            Self::State { tenant, plan, pinned, ref then } => {
                let change = |(at, plan): &(ProtoTimestamp, &str)| v1::ScheduledChange {
                    at: Some(*at),
                    plan_id: (*plan).to_owned(),
                    ..Default::default()
                };
                let document = v1::TenantDocument {
                    tenant_id: tenant.to_owned(),
                    title: id.to_owned(),
                    plan_id: plan.to_owned(),
                    plan_version: i32::from(pinned),
                    scheduled: then.iter().map(change).collect(),
                    ..Default::default()
                };
                let message = v1::StateTenantRequest { document: Some(document), request_id, ..Default::default() };
                call!(tenants.state_tenant(message), tenant)
            }
            Self::Grant { tenant, feature } => {
                let target =
                    v1::OverrideTarget { service: SERVICE.to_owned(), feature: feature.to_owned(), ..Default::default() };
                let set = v1::Override {
                    target: Some(target),
                    effect: v1::OverrideEffect::Grant as i32,
                    reason: id.to_owned(),
                    ..Default::default()
                };
                let message = v1::SetOverrideRequest {
                    tenant_id: tenant.to_owned(),
                    r#override: Some(set),
                    request_id,
                    ..Default::default()
                };
                call!(tenants.set_override(message), tenant)
            }
            Self::Suspend { tenant } => {
                let message = v1::SuspendTenantRequest {
                    tenant_id: tenant.to_owned(),
                    reason: id.to_owned(),
                    request_id,
                    ..Default::default()
                };
                call!(tenants.suspend_tenant(message), tenant)
            }
            Self::Resume { tenant } => {
                let message = v1::ResumeTenantRequest { tenant_id: tenant.to_owned(), request_id, ..Default::default() };
                call!(tenants.resume_tenant(message), tenant)
            }
            Self::Delete { tenant } => {
                let message = v1::DeleteTenantRequest { tenant_id: tenant.to_owned(), request_id, ..Default::default() };
                call!(tenants.delete_tenant(message), tenant)
            }
            Self::Title { tenant } => {
                let message = v1::UpdateTenantRequest {
                    tenant_id: tenant.to_owned(),
                    title: id.to_owned(),
                    request_id,
                    ..Default::default()
                };
                call!(tenants.update_tenant(message), tenant)
            }
        }
    }
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
    let routes = cluster.loader(0).routes;
    let timeout = Duration::from_secs(5);
    Command::Register.send(&routes, "setup-service", false, timeout).await?;
    let limit = v1::UpsertLimitRequest { limit_id: LIMIT.to_owned(), request_id: "setup-limit".into(), ..Default::default() };
    CatalogServiceClient::new(routes.clone()).upsert_limit(limit).await?;
    for plan in PLANS {
        let message = v1::CreatePlanRequest {
            plan_id: plan.to_owned(),
            document: Some(plan_document("first", 1, 5)),
            request_id: format!("setup-{plan}"),
        };
        PlanServiceClient::new(routes.clone()).create_plan(message).await?;
        Command::Publish { plan }.send(&routes, &format!("setup-publish-{plan}"), false, timeout).await?;
    }
    Ok(())
}

/// What a call came to.
enum Outcome {
    Done(Said),
    Refused(String),
    /// This call applied nothing, says the loader; of earlier ones it says nothing.
    Nothing,
    Unknown,
}

/// A caller.
#[derive(Debug)]
pub struct Client {
    /// Tells its request ids from those of others.
    pub name: String,
    /// All its choices.
    pub random: SplitMix64,
    /// The processes.
    pub cluster: Rc<Cluster>,
    /// What everybody was told.
    pub journal: Rc<Journal>,
}

impl Client {
    /// Does one thing after the other until `stop` says so.
    pub async fn run(mut self, stop: Rc<std::cell::Cell<bool>>) {
        let mut count = 0_u64;
        while !stop.get() && self.journal.violation().is_none() {
            count += 1;
            let pause = self.random.duration(Duration::from_millis(60));
            tokio::time::sleep(pause).await;
            let id = format!("{}-{count}", self.name);
            let now = tessera_ports::Clock::now(&*self.cluster.clock).seconds();
            let command = Command::draw(&mut self.random, now);
            self.once(&command, &id).await;
        }
    }

    async fn once(&mut self, command: &Command, id: &str) {
        let before = self.cluster.epoch();
        let mut outcome = Outcome::Unknown;
        for attempt in 0..TRIES {
            outcome = self.call(command, id, attempt > 0).await;
            if matches!(outcome, Outcome::Nothing) {
                // Some callers leave it at that: what they were told must then hold for ever.
                let leaves = attempt == 0 && self.random.chance(500);
                outcome = if leaves { Outcome::Refused("nothing was applied".to_owned()) } else { Outcome::Unknown };
            }
            if !matches!(outcome, Outcome::Unknown) {
                break;
            }
        }
        let stream = command.stream();
        match outcome {
            Outcome::Unknown | Outcome::Nothing => *self.journal.unknown.borrow_mut() += 1,
            Outcome::Refused(reason) => {
                let refused = Refused { stream, epoch: before, reason };
                if self.cluster.epoch() == before {
                    self.journal.refused.borrow_mut().insert(id.to_owned(), refused);
                }
            }
            Outcome::Done(said) => {
                let Ok(revision) = Revision::parse(&said.revision) else {
                    return self.journal.violated(format!("{id}: the revision of a write cannot be read"));
                };
                let Some(seq) = revision.streams.first().map(|named| named.seq) else { return };
                let unchanged = command.may_change_nothing();
                let acknowledged = Acknowledged { stream, epoch: revision.epoch, seq, unchanged };
                self.journal.acknowledged.borrow_mut().insert(id.to_owned(), acknowledged);
                if !unchanged {
                    self.try_again(command, id, &said, revision.epoch).await;
                }
                self.look(command, &said).await;
            }
        }
    }

    async fn call(&mut self, command: &Command, id: &str, retry: bool) -> Outcome {
        let place = self.random.index(PROCESSES);
        let loader = self.cluster.loader(place);
        let timeout = Duration::from_millis(100 + self.random.below(1_500));
        let called = tokio::time::timeout(timeout, command.send(&loader.routes, id, retry, timeout)).await;
        // A process that crashed meanwhile has answered nobody.
        if self.cluster.loader(place).generation != loader.generation {
            return Outcome::Unknown;
        }
        match called {
            Err(_) => Outcome::Unknown,
            Ok(Ok(said)) => Outcome::Done(said),
            Ok(Err(status)) => {
                let reason = status.get_details_error_info().map(|info| info.reason);
                match (status.code(), reason) {
                    (Code::Unavailable | Code::ResourceExhausted, Some(_)) => Outcome::Nothing,
                    (Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled, _) => {
                        Outcome::Unknown
                    }
                    (Code::Aborted, Some(reason)) if reason == "OUTCOME_UNKNOWN" => Outcome::Unknown,
                    (Code::Internal | Code::Unknown, _) => {
                        self.journal.violated(format!("{id}: a loader failed: {status:?}"));
                        Outcome::Unknown
                    }
                    (_, Some(reason)) => Outcome::Refused(reason),
                    (_, None) => Outcome::Unknown,
                }
            }
        }
    }

    /// (e) The same again returns the same; another command under the same id is refused.
    async fn try_again(&mut self, command: &Command, id: &str, first: &Said, epoch: u64) {
        if self.random.chance(350) {
            tokio::time::sleep(self.random.duration(Duration::from_millis(200))).await;
            let outcome = self.call(command, id, false).await;
            if self.cluster.epoch() != epoch {
                return;
            }
            match outcome {
                Outcome::Refused(reason) => self.journal.violated(format!("e: replay of {id} {command:?} was refused: {reason}")),
                Outcome::Done(said) if said.revision != first.revision || said.resource != first.resource || !said.replay => {
                    self.journal.violated(format!("e: replay of {id} {command:?} returned {said:?}, first {first:?}"));
                }
                _ => {}
            }
        }
        if self.random.chance(150) {
            let outcome = self.call(&command.other(), id, false).await;
            if self.cluster.epoch() == epoch {
                match outcome {
                    Outcome::Done(_) => self.journal.violated(format!("e: {id} was accepted for another command")),
                    Outcome::Refused(reason) if reason != "REQUEST_ID_REUSED" => {
                        self.journal.violated(format!("e: {id} for another command was refused as {reason}"));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Asks a server about a tenant, now and then with what was just written as the least it must know.
    async fn look(&mut self, command: &Command, said: &Said) {
        let tenant = match command.stream() {
            StreamId::Tenant(id) => TENANTS.into_iter().find(|tenant| *tenant == id.as_str()).unwrap_or(TENANTS[0]),
            _ => TENANTS[self.random.index(TENANTS.len())],
        };
        let demand = match self.random.below(10) {
            0..2 => checks::Demand::Nothing,
            2..8 => checks::Demand::AtLeast(said.revision.clone()),
            _ => checks::Demand::Everything,
        };
        let question = checks::Question {
            tenant,
            feature: FEATURES[self.random.index(FEATURES.len())],
            amount: i64::try_from(self.random.below(20)).unwrap_or(0),
            demand,
        };
        let place = self.random.index(PROCESSES);
        checks::ask(&self.cluster, &self.journal, place, &question).await;
    }
}
