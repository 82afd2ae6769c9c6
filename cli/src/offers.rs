//! Plans and add-ons through one door: the two services of the control plane have the same shape under different names.

use anyhow::Context as _;
use prost_types::Timestamp;
use tessera_core::plan::Document;
use tessera_proto::v1;

use crate::connection::{CommandId, Plane, Planes};
use crate::document::wire;
use crate::json;

/// How many items are asked for at a time.
const PAGE_SIZE: i32 = 200;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferKind {
    /// Plans.
    Plan,
    /// Add-ons.
    AddOn,
}

impl OfferKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::AddOn => "add-on",
        }
    }
}

/// A plan or add-on as it stands.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Its id.
    pub id: String,
    /// What the next version will say.
    pub draft: Document,
    /// The newest published version; 0 before the first.
    pub latest: i32,
    /// Takes no new tenants.
    pub archived: bool,
    /// Whether the draft says something else than the newest version.
    pub draft_differs: bool,
    /// When it last changed.
    pub updated: Option<Timestamp>,
    /// For the condition of the next change.
    pub etag: String,
}

/// A published version.
#[derive(Debug, Clone)]
pub struct OfferVersion {
    /// Its number.
    pub version: i32,
    /// What it says.
    pub document: Document,
    /// When it was published.
    pub published: Option<Timestamp>,
}

/// What a change answered.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The offer after it.
    pub offer: Offer,
    /// Names the change; usable in `at_least`.
    pub revision: Vec<u8>,
    /// The whole answer.
    pub json: serde_json::Value,
}

/// A list and the answer it came from, all pages in one.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// So many were left out since they cannot be read.
    pub unreadable: i32,
    /// The whole answer.
    pub json: serde_json::Value,
}

macro_rules! offer_client {
    (
        $module:ident, $client:ident, $id:ident, $resource:ident: $Resource:ident, $resources:ident,
        $version:ident: $Version:ident, $versions:ident, $read:path, $write:path,
        get $get:ident $Get:ident $GetResponse:literal, list $list:ident $List:ident $ListResponse:ident,
        version $get_version:ident $GetVersion:ident $GetVersionResponse:literal,
        versions $list_versions:ident $ListVersions:ident $ListVersionsResponse:ident,
        diff $diff:ident $Diff:ident $DiffResponse:literal,
        create $create:ident $Create:ident $CreateResponse:literal, update $update:ident $Update:ident $UpdateResponse:literal,
        publish $publish:ident $Publish:ident $PublishResponse:literal,
        archive $archive:ident $Archive:ident $ArchiveResponse:literal,
    ) => {
        mod $module {
            use super::*;

            fn offer(message: v1::$Resource) -> anyhow::Result<Offer> {
                Ok(Offer {
                    id: message.$id,
                    draft: $read(message.draft.as_ref())?,
                    latest: message.latest_version,
                    archived: message.archived,
                    draft_differs: message.draft_differs,
                    updated: message.update_time,
                    etag: message.etag,
                })
            }

            fn version(message: &v1::$Version) -> anyhow::Result<OfferVersion> {
                let document = $read(message.document.as_ref())?;
                Ok(OfferVersion { version: message.version, document, published: message.publish_time.clone() })
            }

            pub(super) async fn get(planes: &Planes, id: &str) -> anyhow::Result<Option<(Offer, serde_json::Value)>> {
                let mut client = planes.$client();
                let request = v1::$Get { $id: id.to_owned() };
                let Some(answer) = planes.find(request, async |request| client.$get(request).await).await? else {
                    return Ok(None);
                };
                let json = json::of($GetResponse, &answer)?;
                Ok(Some((offer(answer.$resource.context("the answer is empty")?)?, json)))
            }

            pub(super) async fn list(planes: &Planes, archived: bool) -> anyhow::Result<Listed<Offer>> {
                let mut client = planes.$client();
                let (mut all, mut page_token, mut unreadable_count) = (Vec::new(), String::new(), 0_i32);
                loop {
                    let request = v1::$List { page_size: PAGE_SIZE, page_token, show_archived: archived };
                    let page = planes.read(Plane::Control, request, async |request| client.$list(request).await).await?;
                    all.extend(page.$resources);
                    unreadable_count = unreadable_count.saturating_add(page.unreadable_count);
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        break;
                    }
                }
                all.sort_by(|a, b| a.$id.cmp(&b.$id));
                let whole = v1::$ListResponse { $resources: all.clone(), unreadable_count, ..Default::default() };
                let json = json::of(stringify!($ListResponse), &whole)?;
                let items = all.into_iter().map(offer).collect::<anyhow::Result<_>>()?;
                Ok(Listed { items, unreadable: unreadable_count, json })
            }

            pub(super) async fn get_version(
                planes: &Planes,
                id: &str,
                number: i32,
            ) -> anyhow::Result<(OfferVersion, serde_json::Value)> {
                let mut client = planes.$client();
                let request = v1::$GetVersion { $id: id.to_owned(), version: number };
                let answer = planes.read(Plane::Control, request, async |request| client.$get_version(request).await).await?;
                let json = json::of($GetVersionResponse, &answer)?;
                Ok((version(answer.$version.as_ref().context("the answer is empty")?)?, json))
            }

            pub(super) async fn list_versions(planes: &Planes, id: &str) -> anyhow::Result<Listed<OfferVersion>> {
                let mut client = planes.$client();
                let (mut all, mut page_token) = (Vec::new(), String::new());
                loop {
                    let request = v1::$ListVersions { $id: id.to_owned(), page_size: PAGE_SIZE, page_token };
                    let page = planes.read(Plane::Control, request, async |request| client.$list_versions(request).await).await?;
                    all.extend(page.$versions);
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        break;
                    }
                }
                all.sort_by_key(|version| version.version);
                let items = all.iter().map(version).collect::<anyhow::Result<_>>()?;
                let whole = v1::$ListVersionsResponse { $versions: all, ..Default::default() };
                Ok(Listed { items, unreadable: 0, json: json::of(stringify!($ListVersionsResponse), &whole)? })
            }

            pub(super) async fn diff(planes: &Planes, id: &str, from: i32, to: i32) -> anyhow::Result<serde_json::Value> {
                let mut client = planes.$client();
                let request = v1::$Diff { $id: id.to_owned(), from_version: from, to_version: to };
                let answer = planes.read(Plane::Control, request, async |request| client.$diff(request).await).await?;
                json::of($DiffResponse, &answer)
            }

            pub(super) async fn create(
                planes: &Planes,
                id: &str,
                document: &Document,
                command: &CommandId,
            ) -> anyhow::Result<Changed> {
                let mut client = planes.$client();
                let document = Some($write(document));
                let request = v1::$Create { $id: id.to_owned(), document, request_id: command.as_str().to_owned() };
                let answer = planes.change(command, request, async |request| client.$create(request).await).await?;
                let json = json::of($CreateResponse, &answer)?;
                let revision = answer.revision.to_vec();
                Ok(Changed { offer: offer(answer.$resource.context("the answer is empty")?)?, revision, json })
            }

            pub(super) async fn update(
                planes: &Planes,
                id: &str,
                document: &Document,
                etag: &str,
                command: &CommandId,
            ) -> anyhow::Result<Changed> {
                let mut client = planes.$client();
                let document = Some($write(document));
                let (id, etag) = (id.to_owned(), etag.to_owned());
                let request = v1::$Update { $id: id, document, etag, request_id: command.as_str().to_owned() };
                let answer = planes.change(command, request, async |request| client.$update(request).await).await?;
                let json = json::of($UpdateResponse, &answer)?;
                let revision = answer.revision.to_vec();
                Ok(Changed { offer: offer(answer.$resource.context("the answer is empty")?)?, revision, json })
            }

            pub(super) async fn publish(planes: &Planes, id: &str, etag: &str, command: &CommandId) -> anyhow::Result<Changed> {
                let mut client = planes.$client();
                let request = v1::$Publish { $id: id.to_owned(), etag: etag.to_owned(), request_id: command.as_str().to_owned() };
                let answer = planes.change(command, request, async |request| client.$publish(request).await).await?;
                let json = json::of($PublishResponse, &answer)?;
                let revision = answer.revision.to_vec();
                Ok(Changed { offer: offer(answer.$resource.context("the answer is empty")?)?, revision, json })
            }

            pub(super) async fn archive(planes: &Planes, id: &str, command: &CommandId) -> anyhow::Result<Changed> {
                let mut client = planes.$client();
                let (id, etag) = (id.to_owned(), String::new());
                let request = v1::$Archive { $id: id, etag, request_id: command.as_str().to_owned() };
                let answer = planes.change(command, request, async |request| client.$archive(request).await).await?;
                let json = json::of($ArchiveResponse, &answer)?;
                let revision = answer.revision.to_vec();
                Ok(Changed { offer: offer(answer.$resource.context("the answer is empty")?)?, revision, json })
            }
        }
    };
}

offer_client! {
    plan, plans, plan_id, plan: Plan, plans, plan_version: PlanVersion, plan_versions,
    wire::plan_document, tessera_proto::convert::offer::to_plan_document,
    get get_plan GetPlanRequest "GetPlanResponse", list list_plans ListPlansRequest ListPlansResponse,
    version get_plan_version GetPlanVersionRequest "GetPlanVersionResponse",
    versions list_plan_versions ListPlanVersionsRequest ListPlanVersionsResponse,
    diff diff_plan_versions DiffPlanVersionsRequest "DiffPlanVersionsResponse",
    create create_plan CreatePlanRequest "CreatePlanResponse", update update_plan UpdatePlanRequest "UpdatePlanResponse",
    publish publish_plan PublishPlanRequest "PublishPlanResponse",
    archive archive_plan ArchivePlanRequest "ArchivePlanResponse",
}

offer_client! {
    add_on, add_ons, add_on_id, add_on: AddOn, add_ons, add_on_version: AddOnVersion, add_on_versions,
    wire::add_on_document, tessera_proto::convert::offer::to_add_on_document,
    get get_add_on GetAddOnRequest "GetAddOnResponse", list list_add_ons ListAddOnsRequest ListAddOnsResponse,
    version get_add_on_version GetAddOnVersionRequest "GetAddOnVersionResponse",
    versions list_add_on_versions ListAddOnVersionsRequest ListAddOnVersionsResponse,
    diff diff_add_on_versions DiffAddOnVersionsRequest "DiffAddOnVersionsResponse",
    create create_add_on CreateAddOnRequest "CreateAddOnResponse",
    update update_add_on UpdateAddOnRequest "UpdateAddOnResponse",
    publish publish_add_on PublishAddOnRequest "PublishAddOnResponse",
    archive archive_add_on ArchiveAddOnRequest "ArchiveAddOnResponse",
}

/// The plan or add-on with that id, and the answer; `None` when there is none.
pub async fn get(planes: &Planes, kind: OfferKind, id: &str) -> anyhow::Result<Option<(Offer, serde_json::Value)>> {
    match kind {
        OfferKind::Plan => plan::get(planes, id).await,
        OfferKind::AddOn => add_on::get(planes, id).await,
    }
}

/// All of them, by id.
pub async fn list(planes: &Planes, kind: OfferKind, archived: bool) -> anyhow::Result<Listed<Offer>> {
    match kind {
        OfferKind::Plan => plan::list(planes, archived).await,
        OfferKind::AddOn => add_on::list(planes, archived).await,
    }
}

/// A published version, and the answer.
pub async fn version(
    planes: &Planes,
    kind: OfferKind,
    id: &str,
    number: i32,
) -> anyhow::Result<(OfferVersion, serde_json::Value)> {
    match kind {
        OfferKind::Plan => plan::get_version(planes, id, number).await,
        OfferKind::AddOn => add_on::get_version(planes, id, number).await,
    }
}

/// All published versions, oldest first.
pub async fn versions(planes: &Planes, kind: OfferKind, id: &str) -> anyhow::Result<Listed<OfferVersion>> {
    match kind {
        OfferKind::Plan => plan::list_versions(planes, id).await,
        OfferKind::AddOn => add_on::list_versions(planes, id).await,
    }
}

/// What differs between two versions, as the control plane says it; 0 is the draft.
pub async fn diff(planes: &Planes, kind: OfferKind, id: &str, from: i32, to: i32) -> anyhow::Result<serde_json::Value> {
    match kind {
        OfferKind::Plan => plan::diff(planes, id, from, to).await,
        OfferKind::AddOn => add_on::diff(planes, id, from, to).await,
    }
}

/// Creates one with a draft.
pub async fn create(
    planes: &Planes,
    kind: OfferKind,
    id: &str,
    document: &Document,
    command: &CommandId,
) -> anyhow::Result<Changed> {
    match kind {
        OfferKind::Plan => plan::create(planes, id, document, command).await,
        OfferKind::AddOn => add_on::create(planes, id, document, command).await,
    }
}

/// Replaces the draft.
pub async fn update(
    planes: &Planes,
    kind: OfferKind,
    id: &str,
    document: &Document,
    etag: &str,
    command: &CommandId,
) -> anyhow::Result<Changed> {
    match kind {
        OfferKind::Plan => plan::update(planes, id, document, etag, command).await,
        OfferKind::AddOn => add_on::update(planes, id, document, etag, command).await,
    }
}

/// Publishes the draft as the next version; with an etag, only if nothing came between.
pub async fn publish(planes: &Planes, kind: OfferKind, id: &str, etag: &str, command: &CommandId) -> anyhow::Result<Changed> {
    match kind {
        OfferKind::Plan => plan::publish(planes, id, etag, command).await,
        OfferKind::AddOn => add_on::publish(planes, id, etag, command).await,
    }
}

/// Archives it.
pub async fn archive(planes: &Planes, kind: OfferKind, id: &str, command: &CommandId) -> anyhow::Result<Changed> {
    match kind {
        OfferKind::Plan => plan::archive(planes, id, command).await,
        OfferKind::AddOn => add_on::archive(planes, id, command).await,
    }
}
