//! `tessera.v1.CatalogService`: the registry of services, features and limits.

use tessera_core::catalog::{Catalog, Command};
use tessera_core::ids::{LimitId, ServiceId};
use tessera_core::rejection::Rejection;
use tessera_core::stream::StreamId;
use tessera_core::value::Target;
use tessera_proto::convert::catalog as convert;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_proto::v1::catalog_service_server::CatalogService;
use tonic::{Request, Response, Status};

use super::gate::{Gate, named};
use super::mutation::{handle, revision_at, revision_of};
use super::page;
use crate::aggregate::Snapshot;
use crate::etag;
use crate::handler::Handler;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct CatalogSvc {
    pub(crate) gate: Gate,
    pub(crate) handler: Handler<Catalog>,
}

impl CatalogSvc {
    async fn read(&self, metadata: &tonic::metadata::MetadataMap) -> Result<Snapshot<Catalog>, Failure> {
        self.gate.admit_read(metadata)?;
        Ok(self.handler.read(&StreamId::Catalog).await?)
    }
}

fn service(catalog: &Catalog, id: &ServiceId) -> Option<v1::Service> {
    catalog.service(id).map(|service| convert::to_service(service, etag::of_service(service)))
}

fn limit(catalog: &Catalog, id: &LimitId) -> Option<v1::Limit> {
    catalog.limit(id).map(|limit| convert::to_limit(limit, etag::of_limit(limit)))
}

/// A mutation whose resource is a service (or a limit): from the request, which one and what is asked of the catalog.
macro_rules! mutation {
    ($self:ident, $request:ident: $Request:ident, $Response:ident, $resource:ident, |$message:ident| $asked:expr) => {{
        let mut about = None;
        let command = |message: v1::$Request, _: &_| {
            let $message = &message;
            let (id, command) = $asked;
            about = Some(id);
            Ok((StreamId::Catalog, command))
        };
        let (request_id, result) = handle(&$self.gate, &$self.handler, $request, command).await?;
        let answer = result.map(|(stream, done)| v1::$Response {
            $resource: about.and_then(|about| $resource(&done.state, &about)),
            revision: revision_of(&stream, &done),
            idempotent_replay: done.replay,
        });
        named(&request_id, answer)
    }};
}

#[tonic::async_trait]
impl CatalogService for CatalogSvc {
    async fn upsert_service(
        &self,
        request: Request<v1::UpsertServiceRequest>,
    ) -> Result<Response<v1::UpsertServiceResponse>, Status> {
        mutation!(self, request: UpsertServiceRequest, UpsertServiceResponse, service, |m| {
            let document = convert::service_document(m)?;
            (document.id.clone(), Command::UpsertService(document))
        })
    }

    async fn get_service(&self, request: Request<v1::GetServiceRequest>) -> Result<Response<v1::GetServiceResponse>, Status> {
        let id = convert::service_id(&request.get_ref().service_id)?;
        let now = self.read(request.metadata()).await?;
        let service = service(&now.state, &id).ok_or_else(|| not_found("SERVICE_NOT_FOUND", "service", id.as_str()))?;
        let revision = revision_at(now.epoch, &StreamId::Catalog, now.head.seq);
        Ok(Response::new(v1::GetServiceResponse { service: Some(service), revision }))
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        let now = self.read(request.metadata()).await?;
        let mut filter = request.into_inner();
        let size = page::listing_size(std::mem::take(&mut filter.page_size))?;
        let token = std::mem::take(&mut filter.page_token);
        let listing = page::listing_of("list_services", &filter);
        let (services, next_page_token) = page::slice(&now.state.services, (&listing, &token), size, |one| {
            (filter.show_archived || !one.archived).then(|| convert::to_service(one, etag::of_service(one)))
        })?;
        Ok(Response::new(v1::ListServicesResponse { services, next_page_token }))
    }

    async fn archive_service(
        &self,
        request: Request<v1::ArchiveServiceRequest>,
    ) -> Result<Response<v1::ArchiveServiceResponse>, Status> {
        mutation!(self, request: ArchiveServiceRequest, ArchiveServiceResponse, service, |m| {
            let id = convert::service_id(&m.service_id)?;
            (id.clone(), Command::ArchiveService(id))
        })
    }

    async fn archive_feature(
        &self,
        request: Request<v1::ArchiveFeatureRequest>,
    ) -> Result<Response<v1::ArchiveFeatureResponse>, Status> {
        mutation!(self, request: ArchiveFeatureRequest, ArchiveFeatureResponse, service, |m| {
            let Target { service, feature } = convert::target(&m.service_id, &m.feature_id)?;
            let feature = feature.ok_or_else(|| Failure::invalid_field("feature_id", "it is empty; a feature is required"))?;
            (service.clone(), Command::ArchiveFeature(service, feature))
        })
    }

    async fn disable_feature(
        &self,
        request: Request<v1::DisableFeatureRequest>,
    ) -> Result<Response<v1::DisableFeatureResponse>, Status> {
        mutation!(self, request: DisableFeatureRequest, DisableFeatureResponse, service, |m| {
            let target = convert::target(&m.service_id, &m.feature_id)?;
            (target.service.clone(), Command::Disable { target, reason: convert::reason(&m.reason)? })
        })
    }

    async fn enable_feature(
        &self,
        request: Request<v1::EnableFeatureRequest>,
    ) -> Result<Response<v1::EnableFeatureResponse>, Status> {
        mutation!(self, request: EnableFeatureRequest, EnableFeatureResponse, service, |m| {
            let target = convert::target(&m.service_id, &m.feature_id)?;
            (target.service.clone(), Command::Enable(target))
        })
    }

    async fn upsert_limit(&self, request: Request<v1::UpsertLimitRequest>) -> Result<Response<v1::UpsertLimitResponse>, Status> {
        mutation!(self, request: UpsertLimitRequest, UpsertLimitResponse, limit, |m| {
            let document = convert::limit_document(m)?;
            (document.id.clone(), Command::UpsertLimit(document))
        })
    }

    async fn get_limit(&self, request: Request<v1::GetLimitRequest>) -> Result<Response<v1::GetLimitResponse>, Status> {
        let id = convert::limit_id(&request.get_ref().limit_id)?;
        let now = self.read(request.metadata()).await?;
        let limit = limit(&now.state, &id).ok_or_else(|| not_found("LIMIT_NOT_FOUND", "limit", id.as_str()))?;
        let revision = revision_at(now.epoch, &StreamId::Catalog, now.head.seq);
        Ok(Response::new(v1::GetLimitResponse { limit: Some(limit), revision }))
    }

    async fn list_limits(&self, request: Request<v1::ListLimitsRequest>) -> Result<Response<v1::ListLimitsResponse>, Status> {
        let now = self.read(request.metadata()).await?;
        let mut filter = request.into_inner();
        let size = page::listing_size(std::mem::take(&mut filter.page_size))?;
        let token = std::mem::take(&mut filter.page_token);
        let listing = page::listing_of("list_limits", &filter);
        let (limits, next_page_token) = page::slice(&now.state.limits, (&listing, &token), size, |one| {
            (filter.show_archived || !one.archived).then(|| convert::to_limit(one, etag::of_limit(one)))
        })?;
        Ok(Response::new(v1::ListLimitsResponse { limits, next_page_token }))
    }

    async fn archive_limit(
        &self,
        request: Request<v1::ArchiveLimitRequest>,
    ) -> Result<Response<v1::ArchiveLimitResponse>, Status> {
        mutation!(self, request: ArchiveLimitRequest, ArchiveLimitResponse, limit, |m| {
            let id = convert::limit_id(&m.limit_id)?;
            (id.clone(), Command::ArchiveLimit(id))
        })
    }
}

fn not_found(reason: &'static str, what: &str, id: &str) -> Failure {
    Rejection::not_found(reason, format!("{what} `{id}` is not registered")).into()
}
