//! What plans and add-ons have in common: they are one aggregate, and their services differ in names only.

use std::sync::Arc;

use tessera_core::plan::{Action, Command, Document, Plan, PlanDiff, PlanState, PublishedVersion, diff};
use tessera_core::rejection::Rejection;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_core::value::{Offer, Version};
use tessera_proto::status::Failure;
use tessera_proto::storage::{self, StorageError};
use tokio::time::Instant;

use super::gate::Gate;
use super::mutation::Asked;
use crate::handler::{Done, Handler, until};
use crate::streams::Until;

/// Plans, or add-ons.
#[derive(Debug, Clone)]
pub(crate) struct Offers {
    pub(crate) gate: Gate,
    pub(crate) handler: Handler<PlanState>,
}

/// A plan or add-on that exists, as one strong read found it.
#[derive(Debug)]
pub(crate) struct Found {
    kind: StreamKind,
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) state: Arc<PlanState>,
}

/// The plan or add-on that does not exist.
pub(crate) fn not_found(stream: &StreamId) -> Failure {
    let reason = if matches!(stream, StreamId::Plan(_)) { "PLAN_NOT_FOUND" } else { "ADD_ON_NOT_FOUND" };
    let message = format!("{} `{}` does not exist", stream.kind().name(), stream.key());
    Rejection::not_found(reason, message).into()
}

/// The command that asks for `action`.
pub(crate) fn command(offer: Offer, action: Action) -> Asked<PlanState> {
    (StreamId::from(offer.clone()), Command { offer, action })
}

impl Offers {
    /// The plan or add-on as it is now.
    pub(crate) async fn get(&self, stream: &StreamId) -> Result<Found, Failure> {
        let now = self.handler.read(stream).await?;
        if now.state.0.is_none() {
            return Err(not_found(stream));
        }
        Ok(Found { kind: stream.kind(), epoch: now.epoch, seq: now.head.seq, state: now.state })
    }

    /// What was deleted by a command, as it was before; `None` when that cannot be read now, or not before `by` (the command is
    /// done all the same).
    pub(crate) async fn before(&self, stream: &StreamId, done: &Done<PlanState>, by: Option<Instant>) -> Option<PlanState> {
        let seq = Until::Seq(done.seq.saturating_sub(1));
        let folded = until(by, self.handler.streams().fold(&self.gate.history, stream, seq)).await?;
        folded.ok().map(|folded| folded.state)
    }
}

impl Found {
    /// The plan or add-on itself.
    pub(crate) fn plan(&self) -> Result<&Plan, Failure> {
        self.state.0.as_ref().ok_or_else(|| Failure::internal("a plan that exists has no state"))
    }

    /// That published version, asked for in `field`; 0 is the latest.
    pub(crate) fn version(&self, field: &str, number: i32) -> Result<(Version, &PublishedVersion), Failure> {
        let plan = self.plan()?;
        let wanted = match u32::try_from(number) {
            Ok(0) => plan.latest(),
            Ok(number) => Version::new(number),
            Err(_) => {
                return Err(Failure::invalid_field(field, format!("`{number}` is negative; allowed are 0 and more")));
            }
        };
        let found = wanted.and_then(|wanted| Some((wanted, plan.version(wanted)?)));
        found.ok_or_else(|| {
            let published = plan.latest().map_or_else(|| "none is".to_owned(), |latest| format!("published are 1 to {latest}"));
            let reason = match self.kind {
                StreamKind::Plan => "PLAN_VERSION_NOT_FOUND",
                _ => "ADD_ON_VERSION_NOT_FOUND",
            };
            let message = format!("version `{number}` is not published; {published}");
            Rejection::not_found(reason, message).into()
        })
    }

    /// What differs between two versions; `from` 0 is an empty document, `to` 0 the draft.
    pub(crate) fn difference(&self, from: i32, to: i32) -> Result<PlanDiff, Failure> {
        let empty = Document::default();
        let from = if from == 0 { &empty } else { &*self.version("from_version", from)?.1.document };
        let to = if to == 0 { &self.plan()?.draft } else { &*self.version("to_version", to)?.1.document };
        Ok(diff(from, to))
    }
}

/// A plan or add-on out of a scan; `None` for what was deleted.
pub(crate) fn scanned(state: &[u8]) -> Result<Option<PlanState>, StorageError> {
    let (state, _) = storage::decode_state::<PlanState>(state)?;
    Ok(Some(state).filter(|state| state.0.is_some()))
}

/// A service over plans or add-ons: the same ten rpcs under other names.
macro_rules! offer_service {
    (
        $(#[$doc:meta])*
        service: $service:ident, implements: $trait:path,
        kind: $kind:ident, id: $id:ident, one: $one:ident($One:ident), many: $many:ident,
        version: $version:ident($Version:ident), versions: $versions:ident,
        parse: $parse:path, document: $document:path, to_one: $to_one:path, to_version: $to_version:path,
        create: $create:ident($CreateRequest:ident, $CreateResponse:ident),
        get: $get:ident($GetRequest:ident, $GetResponse:ident),
        list: $list:ident($ListRequest:ident, $ListResponse:ident),
        update: $update:ident($UpdateRequest:ident, $UpdateResponse:ident),
        publish: $publish:ident($PublishRequest:ident, $PublishResponse:ident),
        get_version: $get_version:ident($GetVersionRequest:ident, $GetVersionResponse:ident),
        list_versions: $list_versions:ident($ListVersionsRequest:ident, $ListVersionsResponse:ident),
        diff: $diff:ident($DiffRequest:ident, $DiffResponse:ident),
        archive: $archive:ident($ArchiveRequest:ident, $ArchiveResponse:ident),
        delete: $delete:ident($DeleteRequest:ident, $DeleteResponse:ident) $(,)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $service(pub(crate) Offers);

        impl $service {
            fn resource(stream: &StreamId, state: &PlanState, epoch: Epoch, seq: Seq) -> v1::$One {
                match (stream, &state.0) {
                    (StreamId::$kind(id), Some(plan)) => $to_one(id, plan, etag::of_stream(epoch, seq)),
                    _ => v1::$One { $id: stream.key().to_owned(), ..v1::$One::default() },
                }
            }

            fn done(stream: &StreamId, done: &Done<PlanState>) -> (Option<v1::$One>, Bytes, bool) {
                let resource = Self::resource(stream, &done.state, done.epoch, done.seq);
                (Some(resource), revision_of(stream, done), done.replay)
            }

            async fn found(&self, request: &tonic::metadata::MetadataMap, id: &str) -> Result<(StreamId, Found), Failure> {
                self.0.gate.admit_read(request)?;
                let stream = StreamId::$kind($parse(id)?);
                let found = self.0.get(&stream).await?;
                Ok((stream, found))
            }
        }

        #[tonic::async_trait]
        impl $trait for $service {
            async fn $create(&self, request: Request<v1::$CreateRequest>) -> Result<Response<v1::$CreateResponse>, Status> {
                let command = |m: v1::$CreateRequest, _: &_| {
                    Ok(command(Offer::$kind($parse(&m.$id)?), Action::Create($document(m.document.as_ref())?)))
                };
                mutate(&self.0.gate, &self.0.handler, request, command, |stream, done| {
                    let ($one, revision, idempotent_replay) = Self::done(stream, done);
                    v1::$CreateResponse { $one, revision, idempotent_replay }
                })
                .await
            }

            async fn $get(&self, request: Request<v1::$GetRequest>) -> Result<Response<v1::$GetResponse>, Status> {
                let (stream, found) = self.found(request.metadata(), &request.get_ref().$id).await?;
                let $one = Some(Self::resource(&stream, &found.state, found.epoch, found.seq));
                Ok(Response::new(v1::$GetResponse { $one, revision: revision_at(found.epoch, &stream, found.seq) }))
            }

            async fn $list(&self, request: Request<v1::$ListRequest>) -> Result<Response<v1::$ListResponse>, Status> {
                self.0.gate.admit_read(request.metadata())?;
                let mut filter = request.into_inner();
                let size = page::listing_size(std::mem::take(&mut filter.page_size))?;
                let token = std::mem::take(&mut filter.page_token);
                let listing = page::listing_of(stringify!($list), &filter);
                let bounds = (size, self.0.gate.config.scan_per_page);
                let store = self.0.handler.streams().store();
                let page = page::scan(&**store, (StreamKind::$kind, None), (&listing, &token), bounds, |change| {
                    let shown = offers::scanned(&change.state)?
                        .filter(|state| filter.show_archived || !state.0.as_ref().is_some_and(|plan| plan.archived));
                    Ok(shown.map(|state| Self::resource(&change.stream, &state, change.epoch, change.seq)))
                });
                let page::Scanned { items: $many, next_page_token, unreadable_count } = page.await?;
                Ok(Response::new(v1::$ListResponse { $many, next_page_token, unreadable_count }))
            }

            async fn $update(&self, request: Request<v1::$UpdateRequest>) -> Result<Response<v1::$UpdateResponse>, Status> {
                let command = |m: v1::$UpdateRequest, _: &_| {
                    Ok(command(Offer::$kind($parse(&m.$id)?), Action::Update($document(m.document.as_ref())?)))
                };
                mutate(&self.0.gate, &self.0.handler, request, command, |stream, done| {
                    let ($one, revision, idempotent_replay) = Self::done(stream, done);
                    v1::$UpdateResponse { $one, revision, idempotent_replay }
                })
                .await
            }

            async fn $publish(&self, request: Request<v1::$PublishRequest>) -> Result<Response<v1::$PublishResponse>, Status> {
                let command = |m: v1::$PublishRequest, _: &_| Ok(command(Offer::$kind($parse(&m.$id)?), Action::Publish));
                mutate(&self.0.gate, &self.0.handler, request, command, |stream, done| {
                    let ($one, revision, idempotent_replay) = Self::done(stream, done);
                    v1::$PublishResponse { $one, revision, idempotent_replay }
                })
                .await
            }

            async fn $get_version(
                &self,
                request: Request<v1::$GetVersionRequest>,
            ) -> Result<Response<v1::$GetVersionResponse>, Status> {
                let (stream, found) = self.found(request.metadata(), &request.get_ref().$id).await?;
                let (number, version) = found.version("version", request.get_ref().version)?;
                let $version = $parse(stream.key()).ok().map(|id| $to_version(&id, number, version));
                let revision = revision_at(found.epoch, &stream, found.seq);
                Ok(Response::new(v1::$GetVersionResponse { $version, revision }))
            }

            async fn $list_versions(
                &self,
                request: Request<v1::$ListVersionsRequest>,
            ) -> Result<Response<v1::$ListVersionsResponse>, Status> {
                let (metadata, _, mut filter) = request.into_parts();
                let (_, found) = self.found(&metadata, &filter.$id).await?;
                let size = page::listing_size(std::mem::take(&mut filter.page_size))?;
                let token = std::mem::take(&mut filter.page_token);
                let listing = page::listing_of(stringify!($list_versions), &filter);
                let id = $parse(&filter.$id)?;
                let versions: Vec<_> = (1..).filter_map(Version::new).zip(&found.plan()?.versions).collect();
                let page = page::slice(&versions, (&listing, &token), size, |(number, version)| {
                    Some($to_version(&id, *number, version))
                });
                let ($versions, next_page_token) = page?;
                Ok(Response::new(v1::$ListVersionsResponse { $versions, next_page_token }))
            }

            async fn $diff(&self, request: Request<v1::$DiffRequest>) -> Result<Response<v1::$DiffResponse>, Status> {
                let (_, found) = self.found(request.metadata(), &request.get_ref().$id).await?;
                let difference = found.difference(request.get_ref().from_version, request.get_ref().to_version)?;
                Ok(Response::new(v1::$DiffResponse { difference: convert::offer::to_difference(&difference) }))
            }

            async fn $archive(&self, request: Request<v1::$ArchiveRequest>) -> Result<Response<v1::$ArchiveResponse>, Status> {
                let command = |m: v1::$ArchiveRequest, _: &_| Ok(command(Offer::$kind($parse(&m.$id)?), Action::Archive));
                mutate(&self.0.gate, &self.0.handler, request, command, |stream, done| {
                    let ($one, revision, idempotent_replay) = Self::done(stream, done);
                    v1::$ArchiveResponse { $one, revision, idempotent_replay }
                })
                .await
            }

            async fn $delete(&self, request: Request<v1::$DeleteRequest>) -> Result<Response<v1::$DeleteResponse>, Status> {
                // A deadline that cannot be read is refused below.
                let by = self.0.gate.granted_by(request.metadata()).ok();
                let command = |m: v1::$DeleteRequest, _: &_| Ok(command(Offer::$kind($parse(&m.$id)?), Action::Delete));
                let (id, result) = handle(&self.0.gate, &self.0.handler, request, command).await?;
                let answer = match result {
                    Ok((stream, done)) => {
                        let before = self.0.before(&stream, &done, by).await.unwrap_or_default();
                        let $one = Some(Self::resource(&stream, &before, done.epoch, done.seq.saturating_sub(1)));
                        let revision = revision_of(&stream, &done);
                        Ok(v1::$DeleteResponse { $one, revision, idempotent_replay: done.replay })
                    }
                    Err(failure) => Err(failure),
                };
                named(&id, answer)
            }
        }
    };
}

pub(crate) use offer_service;
