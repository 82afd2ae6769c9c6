//! What new documents, overrides and familiarity may name: what is registered and not archived.
//!
//! Each function says what is wrong with a name, in words for a violation, or `None` when it may be used. That somebody who
//! names an archived thing already may keep it is the caller's knowledge, not the catalog's.

use std::collections::BTreeMap;

use super::{Catalog, Feature, Service};
use crate::ids::{FeatureId, LimitId, ServiceId};

/// From how many features of one service an index is cheaper than searching the list for each.
const INDEX_FROM: usize = 8;

/// What is wrong with naming that service.
pub(crate) fn service_problem(catalog: &Catalog, id: &ServiceId) -> Option<String> {
    match catalog.service(id) {
        None => Some(format!("service `{id}` is not registered; allowed are services of the catalog")),
        Some(service) if service.archived => {
            Some(format!("service `{id}` is archived; allowed are services that are not, and those named already"))
        }
        Some(_) => None,
    }
}

/// What is wrong with naming that limit.
pub(crate) fn limit_problem(catalog: &Catalog, id: &LimitId) -> Option<String> {
    match catalog.limit(id) {
        None => Some(format!("limit `{id}` is not registered; allowed are limits of the catalog")),
        Some(limit) if limit.archived => {
            Some(format!("limit `{id}` is archived; allowed are limits that are not, and those named already"))
        }
        Some(_) => None,
    }
}

/// What is wrong with naming each of those features; those that may be named are left out.
pub(crate) fn feature_problems<'a>(
    catalog: &Catalog,
    id: &ServiceId,
    features: impl ExactSizeIterator<Item = &'a FeatureId>,
) -> Vec<(&'a FeatureId, String)> {
    let Some(service) = catalog.service(id) else {
        return features
            .map(|f| (f, format!("service `{id}` of feature `{f}` is not registered; allowed are services of the catalog")))
            .collect();
    };
    let index: Option<BTreeMap<&FeatureId, &Feature>> =
        (features.len() >= INDEX_FROM).then(|| service.features.iter().map(|f| (&f.id, f)).collect());
    let find = |wanted: &FeatureId| match &index {
        Some(index) => index.get(wanted).copied(),
        None => service.features.iter().find(|f| f.id == *wanted),
    };
    features.filter_map(|wanted| Some((wanted, feature_problem(service, wanted, find(wanted))?))).collect()
}

fn feature_problem(service: &Service, wanted: &FeatureId, found: Option<&Feature>) -> Option<String> {
    let Some(feature) = found else {
        return Some(format!(
            "feature `{wanted}` is not registered for service `{}`; allowed are the features that it has in the catalog",
            service.id
        ));
    };
    let allowed = "allowed are features that are not, and those named already";
    if service.archived {
        return Some(format!("feature `{wanted}` is archived with its service `{}`; {allowed}", service.id));
    }
    feature.archived.then(|| format!("feature `{wanted}` of service `{}` is archived; {allowed}", service.id))
}
