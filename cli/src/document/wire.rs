//! Documents on the wire: the domain's words to and from the messages of the control plane, without loss.

use anyhow::Context as _;
use tessera_core::catalog::{LimitDocument, ServiceDocument};
use tessera_core::ids::{AddOnId, TenantId};
use tessera_core::tenant::{AttachedAddOn, Effect, Overrides, TenantDocument};
use tessera_core::value::Period;
use tessera_proto::convert::{self, offer, time};
use tessera_proto::status::Failure;
use tessera_proto::v1;

/// The command that makes the catalog say what the document says. The request id is left empty.
pub fn upsert_service(service: &ServiceDocument) -> v1::UpsertServiceRequest {
    let feature = |feature: &tessera_core::catalog::FeatureDocument| v1::FeatureDocument {
        feature_id: feature.id.to_string(),
        title: feature.title.to_string(),
        description: feature.description.to_string(),
    };
    v1::UpsertServiceRequest {
        service_id: service.id.to_string(),
        title: service.title.to_string(),
        description: service.description.to_string(),
        features: service.features.iter().map(feature).collect(),
        ..Default::default()
    }
}

/// The command that makes the catalog say what the document says. The request id is left empty.
pub fn upsert_limit(limit: &LimitDocument) -> v1::UpsertLimitRequest {
    let period = match limit.period {
        Period::Never => v1::Period::Never,
        Period::Hour => v1::Period::Hour,
        Period::Day => v1::Period::Day,
        Period::Week => v1::Period::Week,
        Period::Month => v1::Period::Month,
    };
    v1::UpsertLimitRequest {
        limit_id: limit.id.to_string(),
        title: limit.title.to_string(),
        description: limit.description.to_string(),
        unit: limit.unit.to_string(),
        period: period.into(),
        ..Default::default()
    }
}

/// What a registered service says, as a document: all its features, archived ones too.
pub fn service_document(service: &v1::Service) -> anyhow::Result<ServiceDocument> {
    let feature = |feature: &v1::Feature| v1::FeatureDocument {
        feature_id: feature.feature_id.clone(),
        title: feature.title.clone(),
        description: feature.description.clone(),
    };
    let request = v1::UpsertServiceRequest {
        service_id: service.service_id.clone(),
        title: service.title.clone(),
        description: service.description.clone(),
        features: service.features.iter().map(feature).collect(),
        ..Default::default()
    };
    convert::catalog::service_document(&request).map_err(|failure| received(&failure))
}

/// What a registered limit says, as a document.
pub fn limit_document(limit: &v1::Limit) -> anyhow::Result<LimitDocument> {
    let request = v1::UpsertLimitRequest {
        limit_id: limit.limit_id.clone(),
        title: limit.title.clone(),
        description: limit.description.clone(),
        unit: limit.unit.clone(),
        period: limit.period,
        ..Default::default()
    };
    convert::catalog::limit_document(&request).map_err(|failure| received(&failure))
}

/// What a plan's draft or version says.
pub fn plan_document(document: Option<&v1::PlanDocument>) -> anyhow::Result<tessera_core::plan::Document> {
    offer::plan_document(document).map_err(|failure| received(&failure))
}

/// What an add-on's draft or version says.
pub fn add_on_document(document: Option<&v1::AddOnDocument>) -> anyhow::Result<tessera_core::plan::Document> {
    offer::add_on_document(document).map_err(|failure| received(&failure))
}

/// A whole tenant on the wire.
pub fn tenant_message(id: &TenantId, tenant: &TenantDocument) -> v1::TenantDocument {
    let scheduled = tenant.scheduled.iter().map(|change| v1::ScheduledChange {
        id: 0,
        at: Some(time::to_timestamp(change.at)),
        plan_id: change.choice.plan.to_string(),
        version: offer::to_version_choice(change.choice.version),
    });
    let familiarity = tenant.familiarity.iter();
    let suspensions = tenant
        .suspensions
        .iter()
        .map(|(reason, at)| v1::Suspension { reason: reason.to_string(), effective_at: Some(time::to_timestamp(*at)) });
    v1::TenantDocument {
        tenant_id: id.to_string(),
        title: tenant.title.to_string(),
        labels: tenant.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        pending: tenant.pending,
        plan_id: tenant.choice.plan.to_string(),
        plan_version: offer::to_version_choice(tenant.choice.version),
        starts: tenant.starts.map(time::to_timestamp),
        trial_until: tenant.trial_until.map(time::to_timestamp),
        cancel_at: tenant.cancel_at.map(time::to_timestamp),
        scheduled: scheduled.collect(),
        add_ons: tenant.add_ons.iter().map(|(id, attached)| add_on_message(id, attached)).collect(),
        overrides: override_messages(&tenant.overrides),
        familiarity_basis_points: familiarity
            .map(|(service, own)| (service.to_string(), offer::to_familiarity(Some(*own))))
            .collect(),
        suspensions: suspensions.collect(),
    }
}

fn add_on_message(id: &AddOnId, attached: &AttachedAddOn) -> v1::AttachedAddOn {
    v1::AttachedAddOn {
        add_on_id: id.to_string(),
        quantity: attached.quantity.get().into(),
        pinned_version: offer::to_version_choice(attached.version),
    }
}

fn override_messages(overrides: &Overrides) -> Vec<v1::Override> {
    let access = overrides.access.iter().map(|(target, set)| {
        let effect = match set.effect {
            Effect::Grant => v1::OverrideEffect::Grant,
            Effect::Deny => v1::OverrideEffect::Deny,
        };
        v1::Override {
            target: Some(v1::OverrideTarget {
                service: target.service.to_string(),
                feature: target.feature.as_ref().map(ToString::to_string).unwrap_or_default(),
                limit: String::new(),
            }),
            effect: effect.into(),
            value: None,
            until: set.until.map(time::to_timestamp),
            reason: set.reason.to_string(),
        }
    });
    let limits = overrides.limits.iter().map(|(limit, set)| v1::Override {
        target: Some(v1::OverrideTarget { limit: limit.to_string(), ..Default::default() }),
        effect: v1::OverrideEffect::Unspecified.into(),
        value: Some(offer::to_limit_grant(set.value)),
        until: set.until.map(time::to_timestamp),
        reason: set.reason.to_string(),
    });
    access.chain(limits).collect()
}

/// A tenant as it stands, as the document that would state it.
pub fn tenant_document(tenant: v1::Tenant) -> anyhow::Result<(TenantId, TenantDocument)> {
    let subscription = tenant.subscription.context("the answer has no subscription")?;
    let message = v1::TenantDocument {
        tenant_id: tenant.tenant_id,
        title: tenant.title,
        labels: tenant.labels,
        pending: tenant.status == i32::from(v1::TenantStatus::Pending),
        plan_id: subscription.plan_id,
        plan_version: subscription.pinned_version,
        starts: subscription.starts,
        trial_until: subscription.trial_until,
        cancel_at: subscription.cancel_at,
        scheduled: subscription.scheduled,
        add_ons: tenant.add_ons,
        overrides: tenant.overrides,
        familiarity_basis_points: tenant.familiarity_basis_points,
        suspensions: tenant.suspensions,
    };
    read_tenant(&message)
}

/// A whole tenant off the wire.
pub fn read_tenant(message: &v1::TenantDocument) -> anyhow::Result<(TenantId, TenantDocument)> {
    let read = convert::tenant::document("document", "", Some(message));
    // What is received has an instant for every suspension.
    read.map(|(id, document, _)| (id, document)).map_err(|failure| received(&failure))
}

fn received(failure: &Failure) -> anyhow::Error {
    anyhow::anyhow!("the answer cannot be understood: {}", failure.message())
}
