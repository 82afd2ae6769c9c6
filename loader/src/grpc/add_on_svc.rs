//! `tessera.v1.AddOnService`: add-ons, their drafts and versions. The rpcs themselves are shared (`offers.rs`).

use bytes::Bytes;
use tessera_core::plan::{Action, PlanState};
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_core::value::{Offer, Version};
use tessera_proto::status::Failure;
use tessera_proto::v1::add_on_service_server::AddOnService;
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
    service: AddOnSvc, implements: AddOnService,
    kind: AddOn, id: add_on_id, one: add_on(AddOn), many: add_ons,
    version: add_on_version(AddOnVersion), versions: add_on_versions,
    parse: convert::offer::add_on_id, document: convert::offer::add_on_document,
    to_one: convert::offer::to_add_on, to_version: convert::offer::to_add_on_version,
    create: create_add_on(CreateAddOnRequest, CreateAddOnResponse),
    get: get_add_on(GetAddOnRequest, GetAddOnResponse),
    list: list_add_ons(ListAddOnsRequest, ListAddOnsResponse),
    update: update_add_on(UpdateAddOnRequest, UpdateAddOnResponse),
    publish: publish_add_on(PublishAddOnRequest, PublishAddOnResponse),
    get_version: get_add_on_version(GetAddOnVersionRequest, GetAddOnVersionResponse),
    list_versions: list_add_on_versions(ListAddOnVersionsRequest, ListAddOnVersionsResponse),
    diff: diff_add_on_versions(DiffAddOnVersionsRequest, DiffAddOnVersionsResponse),
    archive: archive_add_on(ArchiveAddOnRequest, ArchiveAddOnResponse),
    delete: delete_add_on(DeleteAddOnRequest, DeleteAddOnResponse),
}
