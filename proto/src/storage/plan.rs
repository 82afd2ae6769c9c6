//! Stored plans and add-ons and their events. A published version is stored as its difference from the one before it.

use std::sync::Arc;
use std::time::Duration;

use tessera_core::ids::{FeatureId, LimitId, ServiceId};
use tessera_core::plan::{Document, Event, Plan, PublishedVersion, ServiceGrant};
use tessera_core::plan::{GrantDiff, PlanDiff, apply, diff};
use tessera_core::value::{Description, LimitValue, Title, Version};

use super::{StorageError, value};
use crate::generated::storage::{self as stored, plan_event};

pub(super) fn to_state(plan: &Plan) -> stored::Plan {
    let nothing = Document::default();
    let before = std::iter::once(&nothing).chain(plan.versions.iter().map(|version| &*version.document));
    let versions = plan.versions.iter().zip(before).map(|(version, before)| stored::PublishedVersion {
        published_at: Some(value::to_instant(version.published_at)),
        difference: Some(to_difference(&diff(before, &version.document))),
    });
    stored::Plan {
        draft: Some(to_document(&plan.draft)),
        versions: versions.collect(),
        archived: plan.archived,
        created_at: Some(value::to_instant(plan.created_at)),
        updated_at: Some(value::to_instant(plan.updated_at)),
        references: value::to_references(&plan.references),
    }
}

pub(super) fn state(plan: stored::Plan) -> Result<Plan, StorageError> {
    let mut before = Arc::new(Document::default());
    let mut versions = Vec::with_capacity(plan.versions.len());
    for version in plan.versions {
        let changed = difference(version.difference.ok_or_else(|| StorageError::missing("difference"))?)?;
        before = Arc::new(apply(&before, &changed));
        let published_at = value::instant(version.published_at.as_ref(), "published_at")?;
        versions.push(PublishedVersion { document: Arc::clone(&before), published_at });
    }
    Ok(Plan {
        draft: document(plan.draft)?,
        versions,
        archived: plan.archived,
        created_at: value::instant(plan.created_at.as_ref(), "created_at")?,
        updated_at: value::instant(plan.updated_at.as_ref(), "updated_at")?,
        references: value::references(plan.references)?,
    })
}

pub(super) fn to_event(event: &Event) -> stored::PlanEvent {
    use plan_event::Event as Stored;
    let event = match event {
        Event::Created(document) => Stored::Created(to_document(document)),
        Event::DraftUpdated(document) => Stored::DraftUpdated(to_document(document)),
        Event::Published { version } => Stored::Published(version.get()),
        Event::Archived => Stored::Archived(true),
        Event::Deleted => Stored::Deleted(true),
        Event::CommandSettled(settled) => Stored::CommandSettled(value::to_settled(settled)),
    };
    stored::PlanEvent { event: Some(event) }
}

pub(super) fn event(event: stored::PlanEvent) -> Result<Event, StorageError> {
    use plan_event::Event as Stored;
    Ok(match event.event.ok_or_else(|| StorageError::missing("event"))? {
        Stored::Created(created) => Event::Created(document(Some(created))?),
        Stored::DraftUpdated(updated) => Event::DraftUpdated(document(Some(updated))?),
        Stored::Published(version) => {
            Event::Published { version: Version::new(version).ok_or_else(|| StorageError::field("published", "version 0"))? }
        }
        Stored::Archived(_) => Event::Archived,
        Stored::Deleted(_) => Event::Deleted,
        Stored::CommandSettled(settled) => Event::CommandSettled(value::settled(settled)?),
    })
}

fn to_document(document: &Document) -> stored::PlanDocument {
    stored::PlanDocument {
        title: document.title.as_str().to_owned(),
        description: document.description.as_str().to_owned(),
        services: document.services.iter().map(to_grant).collect(),
        limits: document.limits.iter().map(to_limit).collect(),
        trial: document.trial.map(to_length),
    }
}

fn document(document: Option<stored::PlanDocument>) -> Result<Document, StorageError> {
    let document = document.ok_or_else(|| StorageError::missing("document"))?;
    Ok(Document {
        title: Title::parse("a title", &document.title)?,
        description: Description::parse("a description", &document.description)?,
        services: document.services.iter().map(grant).collect::<Result<_, _>>()?,
        limits: document.limits.iter().map(value::limit).collect::<Result<_, _>>()?,
        trial: document.trial.map(length).transpose()?,
    })
}

fn to_length(length: Duration) -> stored::TrialLength {
    stored::TrialLength { seconds: length.as_secs(), nanos: length.subsec_nanos() }
}

fn length(length: stored::TrialLength) -> Result<Duration, StorageError> {
    if length.nanos >= 1_000_000_000 {
        return Err(StorageError::field("trial", format_args!("{} ns", length.nanos)));
    }
    Ok(Duration::new(length.seconds, length.nanos))
}

fn to_limit((limit, given): (&LimitId, &LimitValue)) -> stored::LimitValue {
    value::to_limit(limit, *given)
}

fn to_grant((service, grant): (&ServiceId, &Arc<ServiceGrant>)) -> stored::ServiceGrant {
    stored::ServiceGrant {
        service: service.as_str().to_owned(),
        features: to_features(&grant.features),
        familiarity_basis_points: value::to_familiarity(grant.familiarity),
    }
}

fn grant(grant: &stored::ServiceGrant) -> Result<(ServiceId, Arc<ServiceGrant>), StorageError> {
    let familiarity = value::familiarity(grant.familiarity_basis_points)?;
    let granted = ServiceGrant { features: features(&grant.features)?, familiarity };
    Ok((ServiceId::parse(&grant.service)?, Arc::new(granted)))
}

fn to_features<'a>(features: impl IntoIterator<Item = &'a FeatureId>) -> Vec<String> {
    features.into_iter().map(|feature| feature.as_str().to_owned()).collect()
}

fn features<C: FromIterator<FeatureId>>(features: &[String]) -> Result<C, StorageError> {
    Ok(features.iter().map(|feature| FeatureId::parse(feature)).collect::<Result<_, _>>()?)
}

fn to_difference(difference: &PlanDiff) -> stored::PlanDifference {
    let set = difference.limits_added.iter().chain(&difference.limits_changed);
    let mut limits_set: Vec<_> = set.map(to_limit).collect();
    limits_set.sort_by(|a, b| a.limit.cmp(&b.limit));
    stored::PlanDifference {
        title: difference.title.as_ref().map(|title| title.as_str().to_owned()),
        description: difference.description.as_ref().map(|description| description.as_str().to_owned()),
        services_added: difference.services_added.iter().map(to_grant).collect(),
        services_removed: difference.services_removed.iter().map(|service| service.as_str().to_owned()).collect(),
        limits_set,
        limits_removed: difference.limits_removed.iter().map(|limit| limit.as_str().to_owned()).collect(),
        trial_set: difference.trial.flatten().map(to_length),
        trial_removed: difference.trial == Some(None),
        services_changed: difference
            .services_changed
            .iter()
            .map(|(service, change)| stored::GrantDifference {
                service: service.as_str().to_owned(),
                features_added: to_features(&change.features_added),
                features_removed: to_features(&change.features_removed),
                familiarity_basis_points: change.familiarity.map(value::to_familiarity),
            })
            .collect(),
    }
}

/// Limits that are new and limits that changed are stored alike and read as changed: applied, both mean the same.
fn difference(difference: stored::PlanDifference) -> Result<PlanDiff, StorageError> {
    let changed = |change: stored::GrantDifference| -> Result<(ServiceId, GrantDiff), StorageError> {
        let change_of_service = GrantDiff {
            features_added: features(&change.features_added)?,
            features_removed: features(&change.features_removed)?,
            familiarity: change.familiarity_basis_points.map(value::familiarity).transpose()?,
        };
        Ok((ServiceId::parse(&change.service)?, change_of_service))
    };
    let trial = match difference.trial_set {
        Some(trial) => Some(Some(length(trial)?)),
        None => difference.trial_removed.then_some(None),
    };
    Ok(PlanDiff {
        title: difference.title.map(|title| Title::parse("a title", &title)).transpose()?,
        description: difference.description.map(|text| Description::parse("a description", &text)).transpose()?,
        trial,
        services_added: difference.services_added.iter().map(grant).collect::<Result<_, _>>()?,
        services_removed: difference.services_removed.iter().map(|s| ServiceId::parse(s)).collect::<Result<_, _>>()?,
        services_changed: difference.services_changed.into_iter().map(changed).collect::<Result<_, _>>()?,
        limits_removed: difference.limits_removed.iter().map(|l| LimitId::parse(l)).collect::<Result<_, _>>()?,
        limits_changed: difference.limits_set.iter().map(value::limit).collect::<Result<_, _>>()?,
        ..PlanDiff::default()
    })
}
