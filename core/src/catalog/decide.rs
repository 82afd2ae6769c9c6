//! What a command makes happen to the catalog, or why it is refused.
//!
//! Registering is idempotent, archiving too, and neither touches kill switches: those have commands of their own. What an
//! upsert leaves out stays as it is. Archived things count towards the sizes, because nothing is ever removed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Catalog, Command, Event, FEATURES_MAX, Feature, LIMITS_MAX, LimitDocument, SERVICES_MAX, Service, ServiceDocument};
use crate::ids::{FeatureId, LimitId, ServiceId};
use crate::rejection::{Rejection, Violations};
use crate::value::{Reason, Target};

pub(super) fn decide(catalog: &Catalog, command: &Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::UpsertService(document) => upsert_service(catalog, document),
        Command::ArchiveService(id) => archive_service(catalog, id),
        Command::ArchiveFeature(service, feature) => archive_feature(catalog, service, feature),
        Command::Disable { target, reason } => disable(catalog, target, reason),
        Command::Enable(target) => enable(catalog, target),
        Command::UpsertLimit(document) => upsert_limit(catalog, document),
        Command::ArchiveLimit(id) => archive_limit(catalog, id),
    }
}

fn upsert_service(catalog: &Catalog, document: &ServiceDocument) -> Result<Vec<Event>, Rejection> {
    check_features_named_once(document)?;
    let service = catalog.service(&document.id);
    let registered: BTreeMap<&FeatureId, &Feature> =
        service.map(|s| s.features.iter().map(|f| (&f.id, f)).collect()).unwrap_or_default();

    if service.is_none() && catalog.services.len() >= SERVICES_MAX {
        return Err(full("services", SERVICES_MAX));
    }
    let new_features = document.features.iter().filter(|f| !registered.contains_key(&f.id)).count();
    let feature_count = catalog.services.iter().map(|s| s.features.len()).sum::<usize>();
    if feature_count.saturating_add(new_features) > FEATURES_MAX {
        return Err(full("features", FEATURES_MAX));
    }

    let service_stands =
        service.is_some_and(|s| !s.archived && s.title == document.title && s.description == document.description);
    let features_stand = document.features.iter().all(|stated| {
        registered.get(&stated.id).is_some_and(|f| !f.archived && f.title == stated.title && f.description == stated.description)
    });
    if service_stands && features_stand {
        return Ok(Vec::new());
    }
    Ok(vec![Event::ServiceUpserted(document.clone())])
}

fn check_features_named_once(document: &ServiceDocument) -> Result<(), Rejection> {
    let mut violations = Violations::default();
    let mut seen = BTreeSet::new();
    for feature in &document.features {
        if !seen.insert(&feature.id) {
            violations.add(
                format!("features[\"{}\"]", feature.id),
                format!("feature `{}` is stated twice; allowed is once", feature.id),
            );
        }
    }
    violations.into_result()
}

fn archive_service(catalog: &Catalog, id: &ServiceId) -> Result<Vec<Event>, Rejection> {
    if known_service(catalog, id)?.archived {
        return Ok(Vec::new());
    }
    Ok(vec![Event::ServiceArchived(id.clone())])
}

fn archive_feature(catalog: &Catalog, service: &ServiceId, feature: &FeatureId) -> Result<Vec<Event>, Rejection> {
    if known_feature(catalog, service, feature)?.archived {
        return Ok(Vec::new());
    }
    Ok(vec![Event::FeatureArchived(service.clone(), feature.clone())])
}

fn disable(catalog: &Catalog, target: &Target, reason: &Reason) -> Result<Vec<Event>, Rejection> {
    if known_switch(catalog, target)? == Some(reason) {
        return Ok(Vec::new());
    }
    Ok(vec![Event::Disabled { target: target.clone(), reason: reason.clone() }])
}

fn enable(catalog: &Catalog, target: &Target) -> Result<Vec<Event>, Rejection> {
    if known_switch(catalog, target)?.is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![Event::Enabled(target.clone())])
}

fn upsert_limit(catalog: &Catalog, document: &LimitDocument) -> Result<Vec<Event>, Rejection> {
    let Some(limit) = catalog.limit(&document.id) else {
        if catalog.limits.len() >= LIMITS_MAX {
            return Err(full("limits", LIMITS_MAX));
        }
        return Ok(vec![Event::LimitUpserted(document.clone())]);
    };
    let stands = !limit.archived
        && limit.title == document.title
        && limit.description == document.description
        && limit.unit == document.unit
        && limit.period == document.period;
    if stands { Ok(Vec::new()) } else { Ok(vec![Event::LimitUpserted(document.clone())]) }
}

fn archive_limit(catalog: &Catalog, id: &LimitId) -> Result<Vec<Event>, Rejection> {
    let limit =
        catalog.limit(id).ok_or_else(|| Rejection::not_found("LIMIT_NOT_FOUND", format!("limit `{id}` is not registered")))?;
    if limit.archived { Ok(Vec::new()) } else { Ok(vec![Event::LimitArchived(id.clone())]) }
}

fn known_service<'a>(catalog: &'a Catalog, id: &ServiceId) -> Result<&'a Service, Rejection> {
    catalog.service(id).ok_or_else(|| Rejection::not_found("SERVICE_NOT_FOUND", format!("service `{id}` is not registered")))
}

fn known_feature<'a>(catalog: &'a Catalog, service: &ServiceId, feature: &FeatureId) -> Result<&'a Feature, Rejection> {
    known_service(catalog, service)?.features.iter().find(|f| f.id == *feature).ok_or_else(|| {
        Rejection::not_found("FEATURE_NOT_FOUND", format!("service `{service}` has no registered feature `{feature}`"))
    })
}

/// The kill switch of a registered target; the inner `None` is "not thrown".
fn known_switch<'a>(catalog: &'a Catalog, target: &Target) -> Result<Option<&'a Reason>, Rejection> {
    Ok(match &target.feature {
        None => known_service(catalog, &target.service)?.disabled.as_ref(),
        Some(feature) => known_feature(catalog, &target.service, feature)?.disabled.as_ref(),
    })
}

fn full(what: &str, max: usize) -> Rejection {
    Rejection::precondition(
        "CATALOG_FULL",
        format!("the catalog would have more than {max} {what}; archived ones count, since nothing is ever removed"),
    )
}
