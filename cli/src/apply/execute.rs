//! Doing what has to be done for one document.

use anyhow::Context as _;
use tessera_proto::v1;

use super::{Action, Done, Step};
use crate::connection::{CommandId, Planes};
use crate::document::{Document, wire};
use crate::offers::{self, OfferKind};

/// Does what `step` says; `None` when it says nothing. Each command gets a request id of its own.
pub async fn execute(planes: &Planes, step: &Step) -> anyhow::Result<Option<Done>> {
    let located = &step.located;
    let done = async {
        match (&located.document, &step.action) {
            (_, Action::Nothing | Action::Deleted) => Ok(None),
            (Document::Service(service), _) => {
                let command = one_of_many(planes);
                let request =
                    v1::UpsertServiceRequest { request_id: command.as_str().to_owned(), ..wire::upsert_service(service) };
                let mut client = planes.catalog();
                let answer = planes.change(&command, request, async |request| client.upsert_service(request).await).await?;
                Ok(Some(Done { revision: answer.revision.to_vec(), tenant: None }))
            }
            (Document::Limit(limit), _) => {
                let command = one_of_many(planes);
                let request = v1::UpsertLimitRequest { request_id: command.as_str().to_owned(), ..wire::upsert_limit(limit) };
                let mut client = planes.catalog();
                let answer = planes.change(&command, request, async |request| client.upsert_limit(request).await).await?;
                Ok(Some(Done { revision: answer.revision.to_vec(), tenant: None }))
            }
            (Document::Plan(id, plan), action) => {
                execute_offer(planes, OfferKind::Plan, id.as_str(), plan, action).await.map(Some)
            }
            (Document::AddOn(id, add_on), action) => {
                execute_offer(planes, OfferKind::AddOn, id.as_str(), add_on, action).await.map(Some)
            }
            (Document::Tenant(id, tenant), action) => {
                let etag = match action {
                    Action::State { etag } => etag.clone(),
                    _ => None,
                };
                let command = one_of_many(planes);
                let request = v1::StateTenantRequest {
                    document: Some(wire::tenant_message(id, tenant)),
                    tenant_id: id.to_string(),
                    create_only: etag.is_none(),
                    request_id: command.as_str().to_owned(),
                    etag: etag.unwrap_or_default(),
                };
                let mut client = planes.tenants();
                let answer = planes.change(&command, request, async |request| client.state_tenant(request).await).await?;
                Ok(Some(Done { revision: answer.revision.to_vec(), tenant: Some(id.clone()) }))
            }
        }
    };
    let done: anyhow::Result<Option<Done>> = done.await;
    done.with_context(|| format!("{}:{}: {}", located.source, located.line, located.document))
}

/// A run has one such command after the other, none of which takes an id.
fn one_of_many(planes: &Planes) -> CommandId {
    CommandId::OneOfMany(planes.request_id())
}

async fn execute_offer(
    planes: &Planes,
    kind: OfferKind,
    id: &str,
    wanted: &tessera_core::plan::Document,
    action: &Action,
) -> anyhow::Result<Done> {
    let etag = match action {
        Action::Publish { update: false, etag, .. } => etag.clone(),
        Action::Publish { update: true, etag, .. } => {
            offers::update(planes, kind, id, wanted, etag, &one_of_many(planes)).await?.offer.etag
        }
        _ => offers::create(planes, kind, id, wanted, &one_of_many(planes)).await?.offer.etag,
    };
    let published = offers::publish(planes, kind, id, &etag, &one_of_many(planes)).await?;
    Ok(Done { revision: published.revision, tenant: None })
}
