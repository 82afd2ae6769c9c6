//! How events make the next catalog. Total: an event about something unregistered changes nothing.

use std::collections::BTreeMap;

use super::{Catalog, Event, Feature, FeatureDocument, Limit, LimitDocument, Service, ServiceDocument};
use crate::ids::{FeatureId, LimitId, ServiceId};
use crate::value::{Reason, Target};

pub(super) fn evolve(mut catalog: Catalog, event: &Event) -> Catalog {
    match event {
        Event::ServiceUpserted(document) => upsert_service(&mut catalog, document),
        Event::ServiceArchived(id) => {
            if let Some(service) = service_mut(&mut catalog, id) {
                service.archived = true;
            }
        }
        Event::FeatureArchived(service, feature) => {
            if let Some(feature) = feature_mut(&mut catalog, service, feature) {
                feature.archived = true;
            }
        }
        Event::Disabled { target, reason } => set_switch(&mut catalog, target, Some(reason)),
        Event::Enabled(target) => set_switch(&mut catalog, target, None),
        Event::LimitUpserted(document) => upsert_limit(&mut catalog, document),
        Event::LimitArchived(id) => {
            if let Some(limit) = limit_mut(&mut catalog, id) {
                limit.archived = true;
            }
        }
        Event::CommandSettled(_) => {}
    }
    catalog
}

fn upsert_service(catalog: &mut Catalog, document: &ServiceDocument) {
    if catalog.service(&document.id).is_none() {
        catalog.services.push(Service {
            id: document.id.clone(),
            title: document.title.clone(),
            description: document.description.clone(),
            archived: false,
            disabled: None,
            features: Vec::new(),
        });
    }
    let mut feature_count = catalog.feature_count;
    if let Some(service) = service_mut(catalog, &document.id) {
        service.title = document.title.clone();
        service.description = document.description.clone();
        service.archived = false;
        upsert_features(service, &document.features, &mut feature_count);
    }
    catalog.feature_count = feature_count;
}

fn upsert_features(service: &mut Service, stated: &[FeatureDocument], feature_count: &mut u32) {
    let mut positions: BTreeMap<FeatureId, usize> =
        service.features.iter().enumerate().map(|(position, f)| (f.id.clone(), position)).collect();
    for document in stated {
        let known = positions.get(&document.id).and_then(|position| service.features.get_mut(*position));
        if let Some(feature) = known {
            feature.title = document.title.clone();
            feature.description = document.description.clone();
            feature.archived = false;
            continue;
        }
        positions.insert(document.id.clone(), service.features.len());
        service.features.push(Feature {
            id: document.id.clone(),
            ordinal: *feature_count,
            title: document.title.clone(),
            description: document.description.clone(),
            archived: false,
            disabled: None,
        });
        *feature_count = feature_count.saturating_add(1);
    }
}

fn upsert_limit(catalog: &mut Catalog, document: &LimitDocument) {
    let limit = Limit {
        id: document.id.clone(),
        title: document.title.clone(),
        description: document.description.clone(),
        unit: document.unit.clone(),
        period: document.period,
        archived: false,
    };
    match limit_mut(catalog, &document.id) {
        Some(known) => *known = limit,
        None => catalog.limits.push(limit),
    }
}

fn set_switch(catalog: &mut Catalog, target: &Target, reason: Option<&Reason>) {
    let switch = match &target.feature {
        None => service_mut(catalog, &target.service).map(|s| &mut s.disabled),
        Some(feature) => feature_mut(catalog, &target.service, feature).map(|f| &mut f.disabled),
    };
    if let Some(switch) = switch {
        *switch = reason.cloned();
    }
}

fn service_mut<'a>(catalog: &'a mut Catalog, id: &ServiceId) -> Option<&'a mut Service> {
    catalog.services.iter_mut().find(|s| s.id == *id)
}

fn feature_mut<'a>(catalog: &'a mut Catalog, service: &ServiceId, feature: &FeatureId) -> Option<&'a mut Feature> {
    service_mut(catalog, service)?.features.iter_mut().find(|f| f.id == *feature)
}

fn limit_mut<'a>(catalog: &'a mut Catalog, id: &LimitId) -> Option<&'a mut Limit> {
    catalog.limits.iter_mut().find(|l| l.id == *id)
}
