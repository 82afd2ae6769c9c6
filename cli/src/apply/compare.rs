//! What is there, and what has to be done about it.

use std::fmt::Write as _;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use tessera_core::catalog::{LimitDocument, ServiceDocument};
use tessera_core::ids::{PlanId, TenantId};
use tessera_core::tenant::TenantDocument;
use tessera_core::time::Timestamp;
use tessera_proto::v1;

use super::{Action, Step};
use crate::commands::offer::document as offer_document;
use crate::connection::Planes;
use crate::document::{Document, Located, wire};
use crate::offers::{self, OfferKind};

/// How many documents are compared at a time.
const AT_ONCE: usize = 16;

/// Compares each document, as what it means at `now`, with what is there.
pub async fn compare(planes: &Planes, documents: Vec<Located>, now: Timestamp) -> anyhow::Result<Vec<Step>> {
    futures::stream::iter(documents).map(|located| one(planes, located, now)).buffered(AT_ONCE).try_collect().await
}

async fn one(planes: &Planes, located: Located, now: Timestamp) -> anyhow::Result<Step> {
    let (meant, trial) = match &located.document {
        Document::Tenant(id, tenant) => (
            Document::Tenant(id.clone(), Box::new(tenant.as_of(now).into_owned())),
            tenant.trial_until.map(|_| &tenant.choice.plan),
        ),
        other => (other.clone(), None),
    };
    let compared = match &meant {
        Document::Service(service) => compare_service(planes, service).await,
        Document::Limit(limit) => compare_limit(planes, limit).await,
        Document::Plan(id, plan) => compare_offer(planes, OfferKind::Plan, id.as_str(), plan).await,
        Document::AddOn(id, add_on) => compare_offer(planes, OfferKind::AddOn, id.as_str(), add_on).await,
        Document::Tenant(id, tenant) => compare_tenant(planes, id, tenant, trial).await,
    };
    let place = || format!("{}:{}: {}", located.source, located.line, located.document);
    let (before, action) = compared.with_context(place)?;
    Ok(Step { located, before, after: meant.to_yaml(), action })
}

type Compared = anyhow::Result<(Option<String>, Action)>;

async fn compare_service(planes: &Planes, wanted: &ServiceDocument) -> Compared {
    let mut client = planes.catalog();
    let request = v1::GetServiceRequest { service_id: wanted.id.to_string() };
    let found = planes.find(request, async |request| client.get_service(request).await).await?;
    let Some(there) = found.and_then(|answer| answer.service) else { return Ok((None, Action::Upsert)) };
    let mut document = wire::service_document(&there)?;
    // What the document leaves out stays registered, so it is no difference.
    let place = |id| wanted.features.iter().position(|feature| feature.id == id);
    document.features.retain(|feature| place(feature.id.clone()).is_some());
    document.features.sort_by_key(|feature| place(feature.id.clone()));
    let archived: Vec<&str> = there.features.iter().filter(|f| f.archived).map(|f| f.feature_id.as_str()).collect();
    let archived: Vec<&str> =
        archived.into_iter().filter(|id| wanted.features.iter().any(|feature| feature.id.as_str() == *id)).collect();
    let equal = document == *wanted && !there.archived && archived.is_empty();
    let mut before = Document::Service(document).to_yaml();
    if there.archived {
        before.push_str("# archived\n");
    }
    for feature in archived {
        writeln!(before, "# archived: {feature}").unwrap_or_default();
    }
    Ok((Some(before), if equal { Action::Nothing } else { Action::Upsert }))
}

async fn compare_limit(planes: &Planes, wanted: &LimitDocument) -> Compared {
    let mut client = planes.catalog();
    let request = v1::GetLimitRequest { limit_id: wanted.id.to_string() };
    let found = planes.find(request, async |request| client.get_limit(request).await).await?;
    let Some(there) = found.and_then(|answer| answer.limit) else { return Ok((None, Action::Upsert)) };
    let document = wire::limit_document(&there)?;
    let equal = document == *wanted && !there.archived;
    let mut before = Document::Limit(document).to_yaml();
    if there.archived {
        before.push_str("# archived\n");
    }
    Ok((Some(before), if equal { Action::Nothing } else { Action::Upsert }))
}

async fn compare_offer(planes: &Planes, kind: OfferKind, id: &str, wanted: &tessera_core::plan::Document) -> Compared {
    let Some((there, _)) = offers::get(planes, kind, id).await? else { return Ok((None, Action::Create)) };
    let newest = match there.latest {
        0 => None,
        latest => Some(offers::version(planes, kind, id, latest).await?.0.document),
    };
    let before = newest.as_ref().map(|newest| offer_document(kind, id, newest)).transpose()?;
    let before = before.map(|document| document.to_yaml());
    if newest.as_ref() == Some(wanted) {
        return Ok((before, Action::Nothing));
    }
    if there.archived {
        anyhow::bail!("it is archived and stays as it is; take the document out, or give it another id");
    }
    let update = there.draft != *wanted;
    Ok((before, Action::Publish { update, etag: there.etag, version: there.latest + 1 }))
}

/// `trial`: the plan of which the document states a trial, also one that a plan change of the past has cleared since. It counts as
/// had, so it is something to state even if nothing else is.
async fn compare_tenant(planes: &Planes, id: &TenantId, wanted: &TenantDocument, trial: Option<&PlanId>) -> Compared {
    let mut client = planes.tenants();
    let request = v1::GetTenantRequest { tenant_id: id.to_string(), show_deleted: true };
    let found = planes.find(request, async |request| client.get_tenant(request).await).await?;
    let Some(there) = found.and_then(|answer| answer.tenant) else { return Ok((None, Action::State { etag: None })) };
    let (etag, deleted) = (there.etag.clone(), there.delete_time.is_some());
    let missing_trial = trial.filter(|plan| !there.trials_used.iter().any(|used| used == plan.as_str()));
    let (_, document) = wire::tenant_document(there)?;
    let equal = document == *wanted;
    let mut before = Document::Tenant(id.clone(), Box::new(document)).to_yaml();
    let action = match missing_trial {
        _ if deleted => Action::Deleted,
        None if equal => Action::Nothing,
        Some(plan) if equal => {
            writeln!(before, "# no trial of {plan} yet").unwrap_or_default();
            Action::State { etag: Some(etag) }
        }
        _ => Action::State { etag: Some(etag) },
    };
    Ok((Some(before), action))
}
