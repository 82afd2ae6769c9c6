//! `tessera.v1.TenantService`: tenants and what was made an exception for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tessera_core::aggregate::Actor;
use tessera_core::ids::{PlanId, RequestId, ServiceId, TenantId};
use tessera_core::rejection::Rejection;
use tessera_core::shown::shown;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_core::tenant::{Action, Command, StateMode, Tenant, TenantState, schedule};
use tessera_core::value::{Title, VersionChoice};
use tessera_proto::convert::tenant::{self as convert, ReadOverride};
use tessera_proto::convert::{Fields, offer, time};
use tessera_proto::status::Failure;
use tessera_proto::storage;
use tessera_proto::v1;
use tessera_proto::v1::tenant_service_server::TenantService;
use tonic::{Request, Response, Status, Streaming};

use super::gate::{Gate, own_tenants, principal, sees};
use super::import::Import;
use super::mutation::{Asked, mutate, revision_at, revision_of};
use super::page;
use crate::digest;
use crate::etag;
use crate::handler::{Done, Handler};
use crate::refusal::Refusal;
use crate::unreadable;
use crate::world::WorldReader;

/// Plans that are read at a time for one page of a listing.
const PLANS_AT_ONCE: usize = 16;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct TenantSvc {
    pub(crate) gate: Gate,
    pub(crate) handler: Handler<TenantState>,
    pub(crate) world: Arc<WorldReader>,
}

/// The command that asks for `action`.
pub(crate) fn command(tenant: TenantId, action: Action) -> Asked<TenantState> {
    (StreamId::Tenant(tenant.clone()), Command { tenant, action })
}

/// The tenant that does not exist.
pub(crate) fn not_found(id: &str) -> Failure {
    Rejection::not_found("TENANT_NOT_FOUND", format!("tenant `{id}` does not exist")).into()
}

/// The id of a tenant whose creator names none: the same for the same caller and request, so that a retry finds it.
fn made_id(actor: &Actor, request_id: &RequestId) -> Result<TenantId, Failure> {
    let name = digest::name(&[actor.as_str().as_bytes(), request_id.as_str().as_bytes()]);
    TenantId::parse(&name).map_err(|error| Failure::internal(error.to_string()))
}

impl TenantSvc {
    /// The tenant as it stands now, due changes made.
    fn resource(&self, stream: &StreamId, tenant: &Tenant, (epoch, seq): (Epoch, Seq)) -> Option<v1::Tenant> {
        let StreamId::Tenant(id) = stream else { return None };
        let now = self.gate.clock.now();
        let stands = schedule::at(tenant, now);
        // A pinned version needs no looking up.
        let effective = match stands.subscription.choice.version {
            VersionChoice::Pinned(version) => Some(version),
            VersionChoice::Latest => None,
        };
        Some(convert::to_tenant(id, &stands, stands.status(now), effective, etag::of_stream(epoch, seq)))
    }

    fn done(&self, stream: &StreamId, done: &Done<TenantState>) -> Option<v1::Tenant> {
        self.resource(stream, done.state.0.as_ref()?, (done.epoch, done.seq))
    }

    /// Fills in the versions that tenants follow, each plan read once; none of a plan that cannot be read.
    async fn fill_effective_versions(&self, tenants: &mut [v1::Tenant]) -> Result<(), Failure> {
        let mut following = Vec::new();
        for subscription in tenants.iter_mut().filter_map(|tenant| tenant.subscription.as_mut()) {
            if subscription.effective_version == 0 {
                following.push((StreamId::Plan(offer::plan_id(&subscription.plan_id)?), subscription));
            }
        }
        let plans: BTreeSet<StreamId> = following.iter().map(|(plan, _)| plan.clone()).collect();
        // Of each plan nothing is kept but its version: a page may follow a thousand plans.
        let latest = futures::stream::iter(plans).map(async |plan| self.latest_version(&plan).await.map(|latest| (plan, latest)));
        let latest: BTreeMap<_, _> = latest.buffer_unordered(PLANS_AT_ONCE).try_collect().await?;
        for (plan, subscription) in following {
            subscription.effective_version = latest.get(&plan).copied().unwrap_or_default();
        }
        Ok(())
    }

    async fn latest_version(&self, plan: &StreamId) -> Result<i32, Failure> {
        match self.world.offer(plan).await {
            Ok(found) => Ok(found.value.and_then(|plan| plan.latest()).map_or(0, offer::to_version)),
            Err(refusal @ (Refusal::StoreDamaged(_) | Refusal::ReaderTooOld { .. })) => {
                unreadable::tell(&format_args!("stream `{plan}`: {refusal}"));
                Ok(0)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Whether a listing shows a tenant.
    fn is_shown(&self, tenant: &Tenant, filter: &v1::ListTenantsRequest) -> bool {
        let now = self.gate.clock.now();
        let stands = schedule::at(tenant, now);
        let status = convert::to_status(stands.status(now));
        let has = |(key, value): (&String, &String)| stands.labels.iter().any(|(k, v)| k.as_str() == key && v.as_str() == value);
        (filter.show_deleted || stands.deleted_at.is_none() || filter.status == v1::TenantStatus::Deleted as i32)
            && (filter.plan_id.is_empty() || stands.subscription.choice.plan.as_str() == filter.plan_id)
            && (filter.status == 0 || filter.status == status as i32)
            && filter.labels.iter().all(has)
    }
}

/// Refuses a filter that no tenant can ever meet.
fn check_filter(filter: &v1::ListTenantsRequest) -> Result<(), Failure> {
    let mut fields = Fields::new();
    if !filter.plan_id.is_empty() {
        fields.check("plan_id", PlanId::check(&filter.plan_id));
    }
    if v1::TenantStatus::try_from(filter.status).is_err() {
        let given = filter.status;
        let allowed = "ACTIVE, PENDING, SUSPENDED and DELETED, or none for any";
        fields.fault("status", format_args!("`{given}` is not a status; allowed are {allowed}"));
    }
    convert::labels(&mut fields, "labels", &filter.labels);
    fields.finish(Some(()))
}

/// Which fields an update names: title, labels. A mask that names none is as none; `*` names all.
fn masked(fields: &mut Fields, m: &v1::UpdateTenantRequest) -> (bool, bool) {
    let paths = m.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return (!m.title.is_empty(), !m.labels.is_empty());
    }
    for path in paths.iter().filter(|path| !matches!(path.as_str(), "title" | "labels" | "*")) {
        let given = shown(path);
        fields.fault("update_mask", format_args!("`{given}` is not a field to update; allowed are title and labels, or *"));
    }
    let has = |name: &str| paths.iter().any(|path| path == name || path == "*");
    (has("title"), has("labels"))
}

/// What a request asks for, with the types that closures in a macro cannot infer.
fn read<M>(fields: &mut Fields, message: &M, action: fn(&mut Fields, &M) -> Option<Action>) -> Option<Action> {
    action(fields, message)
}

/// A mutation of a tenant: from the request, the action that is asked for (`None`: faults were noted).
macro_rules! mutation {
    ($self:ident, $request:ident: $Request:ident, $Response:ident, |$fields:ident, $m:ident| $action:expr) => {{
        let asked = |m: v1::$Request, _: &RequestId| {
            let mut fields = Fields::new();
            let tenant = fields.check("tenant_id", TenantId::parse(&m.tenant_id));
            let action = read(&mut fields, &m, |$fields, $m| $action);
            fields.finish(tenant.zip(action)).map(|(tenant, action)| command(tenant, action))
        };
        mutate(&$self.gate, &$self.handler, $request, asked, |stream, done| v1::$Response {
            tenant: $self.done(stream, done),
            revision: revision_of(stream, done),
            idempotent_replay: done.replay,
        })
        .await
    }};
}

#[tonic::async_trait]
impl TenantService for TenantSvc {
    type ImportTenantsStream = BoxStream<'static, Result<v1::ImportTenantsResponse, Status>>;

    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        let actor = principal(request.extensions())?.actor().clone();
        let asked = |m: v1::CreateTenantRequest, request_id: &RequestId| {
            let made = if m.tenant_id.is_empty() { Some(made_id(&actor, request_id)?) } else { None };
            let mut fields = Fields::new();
            let tenant = made.or_else(|| fields.check("tenant_id", TenantId::parse(&m.tenant_id)));
            let title = fields.check("title", Title::parse("a title", &m.title));
            let labels = convert::labels(&mut fields, "labels", &m.labels);
            let choice = convert::choice(&mut fields, "", &m.plan_id, m.plan_version);
            let starts = time::timestamp(&mut fields, "starts", m.starts.as_ref());
            let trial = m.trial.as_ref().and_then(|trial| convert::trial(&mut fields, "trial", Some(trial)));
            let all = tenant.zip(title.zip(choice));
            let (tenant, (title, choice)) = fields.finish(all)?;
            Ok(command(tenant, Action::Create { title, labels, choice, starts, trial, pending: m.pending }))
        };
        mutate(&self.gate, &self.handler, request, asked, |stream, done| v1::CreateTenantResponse {
            tenant: self.done(stream, done),
            revision: revision_of(stream, done),
            idempotent_replay: done.replay,
        })
        .await
    }

    async fn state_tenant(&self, request: Request<v1::StateTenantRequest>) -> Result<Response<v1::StateTenantResponse>, Status> {
        let asked = |m: v1::StateTenantRequest, _: &RequestId| {
            let (tenant, document, suspended) = convert::document("document", &m.tenant_id, m.document.as_ref())?;
            let mode = if m.create_only { StateMode::CreateOnly } else { StateMode::Upsert };
            Ok(command(tenant, Action::State { document: Box::new(document), suspended, mode }))
        };
        mutate(&self.gate, &self.handler, request, asked, |stream, done| v1::StateTenantResponse {
            tenant: self.done(stream, done),
            revision: revision_of(stream, done),
            idempotent_replay: done.replay,
        })
        .await
    }

    async fn get_tenant(&self, request: Request<v1::GetTenantRequest>) -> Result<Response<v1::GetTenantResponse>, Status> {
        self.gate.admit_read(request.metadata())?;
        let principal = principal(request.extensions())?;
        let asked = request.into_inner();
        let stream = StreamId::Tenant(convert::tenant_id(&asked.tenant_id)?);
        if !sees(&principal, &stream) {
            return Err(not_found(&asked.tenant_id).into());
        }
        let now = self.handler.read(&stream).await.map_err(Failure::from)?;
        let shown = now.state.0.as_ref().filter(|tenant| asked.show_deleted || tenant.deleted_at.is_none());
        let tenant = shown.ok_or_else(|| not_found(&asked.tenant_id))?;
        let mut tenant = self.resource(&stream, tenant, (now.epoch, now.head.seq));
        self.fill_effective_versions(tenant.as_mut_slice()).await?;
        Ok(Response::new(v1::GetTenantResponse { tenant, revision: revision_at(now.epoch, &stream, now.head.seq) }))
    }

    async fn list_tenants(&self, request: Request<v1::ListTenantsRequest>) -> Result<Response<v1::ListTenantsResponse>, Status> {
        self.gate.admit_read(request.metadata())?;
        let principal = principal(request.extensions())?;
        let mut filter = request.into_inner();
        let size = page::listing_size(std::mem::take(&mut filter.page_size))?;
        let token = std::mem::take(&mut filter.page_token);
        check_filter(&filter)?;
        let listing = page::listing_of("list_tenants", &filter);
        let bounds = (size, self.gate.config.scan_per_page);
        let store = self.handler.streams().store();
        let kind = (StreamKind::Tenant, own_tenants(&principal));
        let page = page::scan(&**store, kind, (&listing, &token), bounds, |change| {
            let (state, _) = storage::decode_state::<TenantState>(&change.state)?;
            let shown = state.0.as_ref().filter(|tenant| self.is_shown(tenant, &filter));
            Ok(shown.and_then(|tenant| self.resource(&change.stream, tenant, (change.epoch, change.seq))))
        });
        let page::Scanned { items: mut tenants, next_page_token, unreadable_count } = page.await?;
        self.fill_effective_versions(&mut tenants).await?;
        Ok(Response::new(v1::ListTenantsResponse { tenants, next_page_token, unreadable_count }))
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::UpdateTenantResponse>, Status> {
        mutation!(self, request: UpdateTenantRequest, UpdateTenantResponse, |fields, m| {
            let (title, labels) = masked(fields, m);
            let title = if title { Some(fields.check("title", Title::parse("a title", &m.title))?) } else { None };
            let labels = labels.then(|| convert::labels(fields, "labels", &m.labels));
            Some(Action::Update { title, labels })
        })
    }

    async fn change_plan(&self, request: Request<v1::ChangePlanRequest>) -> Result<Response<v1::ChangePlanResponse>, Status> {
        mutation!(self, request: ChangePlanRequest, ChangePlanResponse, |fields, m| {
            let choice = convert::choice(fields, "", &m.plan_id, m.plan_version);
            let at = time::timestamp(fields, "at", m.at.as_ref());
            Some(Action::ChangePlan { choice: choice?, at })
        })
    }

    async fn cancel_subscription(
        &self,
        request: Request<v1::CancelSubscriptionRequest>,
    ) -> Result<Response<v1::CancelSubscriptionResponse>, Status> {
        mutation!(self, request: CancelSubscriptionRequest, CancelSubscriptionResponse, |fields, m| {
            Some(Action::CancelSubscription(time::timestamp(fields, "at", m.at.as_ref())))
        })
    }

    async fn renew_subscription(
        &self,
        request: Request<v1::RenewSubscriptionRequest>,
    ) -> Result<Response<v1::RenewSubscriptionResponse>, Status> {
        mutation!(self, request: RenewSubscriptionRequest, RenewSubscriptionResponse, |_fields, _m| {
            Some(Action::RenewSubscription)
        })
    }

    async fn cancel_scheduled_change(
        &self,
        request: Request<v1::CancelScheduledChangeRequest>,
    ) -> Result<Response<v1::CancelScheduledChangeResponse>, Status> {
        mutation!(self, request: CancelScheduledChangeRequest, CancelScheduledChangeResponse, |fields, m| {
            let given = m.scheduled_change_id;
            let id = u32::try_from(given).ok().filter(|id| *id > 0);
            if id.is_none() {
                fields.fault("scheduled_change_id", format_args!("`{given}` is not a change's id; allowed are 1 and more"));
            }
            id.map(Action::CancelScheduledChange)
        })
    }

    async fn activate_tenant(
        &self,
        request: Request<v1::ActivateTenantRequest>,
    ) -> Result<Response<v1::ActivateTenantResponse>, Status> {
        mutation!(self, request: ActivateTenantRequest, ActivateTenantResponse, |_fields, _m| Some(Action::Activate))
    }

    async fn attach_add_on(&self, request: Request<v1::AttachAddOnRequest>) -> Result<Response<v1::AttachAddOnResponse>, Status> {
        mutation!(self, request: AttachAddOnRequest, AttachAddOnResponse, |fields, m| {
            let attached = fields.required("add_on", m.add_on.as_ref())?;
            let (add_on, attached) = convert::add_on(fields, "add_on", attached)?;
            Some(Action::AttachAddOn { add_on, attached })
        })
    }

    async fn detach_add_on(&self, request: Request<v1::DetachAddOnRequest>) -> Result<Response<v1::DetachAddOnResponse>, Status> {
        mutation!(self, request: DetachAddOnRequest, DetachAddOnResponse, |fields, m| {
            let id = fields.check("add_on_id", tessera_core::ids::AddOnId::parse(&m.add_on_id));
            id.map(Action::DetachAddOn)
        })
    }

    async fn set_override(&self, request: Request<v1::SetOverrideRequest>) -> Result<Response<v1::SetOverrideResponse>, Status> {
        mutation!(self, request: SetOverrideRequest, SetOverrideResponse, |fields, m| {
            let set = fields.required("override", m.r#override.as_ref())?;
            Some(match convert::read_override(fields, "override", set)? {
                ReadOverride::Access(target, set) => Action::OverrideAccess(target, set),
                ReadOverride::Limit(limit, set) => Action::OverrideLimit(limit, set),
            })
        })
    }

    async fn remove_override(
        &self,
        request: Request<v1::RemoveOverrideRequest>,
    ) -> Result<Response<v1::RemoveOverrideResponse>, Status> {
        mutation!(self, request: RemoveOverrideRequest, RemoveOverrideResponse, |fields, m| {
            convert::override_target(fields, "target", m.target.as_ref()).map(Action::RemoveOverride)
        })
    }

    async fn suspend_tenant(
        &self,
        request: Request<v1::SuspendTenantRequest>,
    ) -> Result<Response<v1::SuspendTenantResponse>, Status> {
        mutation!(self, request: SuspendTenantRequest, SuspendTenantResponse, |fields, m| {
            let reason = fields.check("reason", tessera_core::value::Reason::parse("a reason", &m.reason));
            let effective_at = time::timestamp(fields, "effective_at", m.effective_at.as_ref());
            Some(Action::Suspend { reason: reason?, effective_at })
        })
    }

    async fn resume_tenant(
        &self,
        request: Request<v1::ResumeTenantRequest>,
    ) -> Result<Response<v1::ResumeTenantResponse>, Status> {
        mutation!(self, request: ResumeTenantRequest, ResumeTenantResponse, |fields, m| {
            Some(Action::Resume(convert::reasons(fields, &m.reasons)))
        })
    }

    async fn start_trial(&self, request: Request<v1::StartTrialRequest>) -> Result<Response<v1::StartTrialResponse>, Status> {
        mutation!(self, request: StartTrialRequest, StartTrialResponse, |fields, m| {
            convert::trial(fields, "trial", m.trial.as_ref()).map(Action::StartTrial)
        })
    }

    async fn end_trial(&self, request: Request<v1::EndTrialRequest>) -> Result<Response<v1::EndTrialResponse>, Status> {
        mutation!(self, request: EndTrialRequest, EndTrialResponse, |fields, m| {
            let convert = match v1::TrialEnd::try_from(m.end) {
                Ok(v1::TrialEnd::Convert) => Some(true),
                Ok(v1::TrialEnd::End) => Some(false),
                Ok(v1::TrialEnd::Unspecified) | Err(_) => {
                    let given = m.end;
                    fields.fault("end", format_args!("`{given}` is not an end; allowed are CONVERT and END"));
                    None
                }
            };
            convert.map(|convert| Action::EndTrial { convert })
        })
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        mutation!(self, request: DeleteTenantRequest, DeleteTenantResponse, |_fields, _m| Some(Action::Delete))
    }

    async fn set_familiarity(
        &self,
        request: Request<v1::SetFamiliarityRequest>,
    ) -> Result<Response<v1::SetFamiliarityResponse>, Status> {
        mutation!(self, request: SetFamiliarityRequest, SetFamiliarityResponse, |fields, m| {
            let service = fields.check("service", ServiceId::parse(&m.service));
            let familiarity = offer::familiarity(fields, "familiarity_basis_points", m.familiarity_basis_points);
            service.map(|service| Action::SetFamiliarity(service, familiarity))
        })
    }

    async fn import_tenants(
        &self,
        request: Request<Streaming<v1::ImportTenantsRequest>>,
    ) -> Result<Response<Self::ImportTenantsStream>, Status> {
        let (metadata, extensions, inbound) = request.into_parts();
        let import = Import::begin(self.gate.clone(), self.handler.clone(), &metadata, principal(&extensions)?)?;
        Ok(Response::new(import.answers(inbound)))
    }
}
