//! `tessera.v1.PlanService`: plans, their drafts and versions. The rpcs themselves are shared (`offers.rs`).

use bytes::Bytes;
use tessera_core::plan::{Action, PlanState};
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_core::value::{Offer, Version};
use tessera_proto::status::Failure;
use tessera_proto::v1::plan_service_server::PlanService;
use tessera_proto::{convert, v1};
use tonic::{Request, Response, Status};

use super::gate::named;
use super::mutation::{handle, mutate, revision_at, revision_of};
use super::offers::{self, Found, Offers, command, offer_service};
use super::page;
use crate::etag;
use crate::handler::Done;

offer_service! {
    /// The service.
    service: PlanSvc, implements: PlanService,
    kind: Plan, id: plan_id, one: plan(Plan), many: plans,
    version: plan_version(PlanVersion), versions: plan_versions,
    parse: convert::offer::plan_id, document: convert::offer::plan_document,
    to_one: convert::offer::to_plan, to_version: convert::offer::to_plan_version,
    create: create_plan(CreatePlanRequest, CreatePlanResponse),
    get: get_plan(GetPlanRequest, GetPlanResponse),
    list: list_plans(ListPlansRequest, ListPlansResponse),
    update: update_plan(UpdatePlanRequest, UpdatePlanResponse),
    publish: publish_plan(PublishPlanRequest, PublishPlanResponse),
    get_version: get_plan_version(GetPlanVersionRequest, GetPlanVersionResponse),
    list_versions: list_plan_versions(ListPlanVersionsRequest, ListPlanVersionsResponse),
    diff: diff_plan_versions(DiffPlanVersionsRequest, DiffPlanVersionsResponse),
    archive: archive_plan(ArchivePlanRequest, ArchivePlanResponse),
    delete: delete_plan(DeletePlanRequest, DeletePlanResponse),
}
