//! Services, features and limits.

use std::collections::BTreeSet;

use tessera_core::catalog::{FEATURES_MAX, Feature, FeatureDocument, Limit, LimitDocument, Service, ServiceDocument};
use tessera_core::ids::{FeatureId, LimitId, ServiceId};
use tessera_core::value::{Description, Period, Reason, Target, Title};

use super::Fields;
use crate::status::Failure;
use crate::v1;

/// What `UpsertService` states.
pub fn service_document(request: &v1::UpsertServiceRequest) -> Result<ServiceDocument, Failure> {
    let count = request.features.len();
    if count > FEATURES_MAX {
        return Err(Failure::too_large("features", format!("`{count}` features; allowed are at most {FEATURES_MAX}")));
    }
    let mut fields = Fields::new();
    let id = fields.check("service_id", ServiceId::parse(&request.service_id));
    let title = fields.check("title", Title::parse("a title", &request.title));
    let description = fields.check("description", Description::parse("a description", &request.description));
    let mut features = Vec::with_capacity(count);
    let mut named = BTreeSet::new();
    for (at, feature) in request.features.iter().enumerate() {
        let id = fields.check(format_args!("features[{at}].feature_id"), FeatureId::parse(&feature.feature_id));
        let title = fields.check(format_args!("features[{at}].title"), Title::parse("a title", &feature.title));
        let text = Description::parse("a description", &feature.description);
        let description = fields.check(format_args!("features[{at}].description"), text);
        if let (Some(id), Some(title), Some(description)) = (id, title, description) {
            if !named.insert(feature.feature_id.as_str()) {
                fields.fault(format_args!("features[{at}].feature_id"), format_args!("`{id}` comes twice; allowed is once"));
            }
            features.push(FeatureDocument { id, title, description });
        }
    }
    let document = match (id, title, description) {
        (Some(id), Some(title), Some(description)) => Some(ServiceDocument { id, title, description, features }),
        _ => None,
    };
    fields.finish(document)
}

/// What `UpsertLimit` states.
pub fn limit_document(request: &v1::UpsertLimitRequest) -> Result<LimitDocument, Failure> {
    let mut fields = Fields::new();
    let id = fields.check("limit_id", LimitId::parse(&request.limit_id));
    let title = fields.check("title", Title::parse("a title", &request.title));
    let description = fields.check("description", Description::parse("a description", &request.description));
    let unit = fields.check("unit", Title::parse("a unit", &request.unit));
    let period = match v1::Period::try_from(request.period) {
        Ok(v1::Period::Unspecified | v1::Period::Never) => Some(Period::Never),
        Ok(v1::Period::Hour) => Some(Period::Hour),
        Ok(v1::Period::Day) => Some(Period::Day),
        Ok(v1::Period::Week) => Some(Period::Week),
        Ok(v1::Period::Month) => Some(Period::Month),
        Err(_) => {
            fields.fault(
                "period",
                format_args!("`{}` is not a period; allowed are NEVER, HOUR, DAY, WEEK and MONTH", request.period),
            );
            None
        }
    };
    let document = match (id, title, description, unit, period) {
        (Some(id), Some(title), Some(description), Some(unit), Some(period)) => {
            Some(LimitDocument { id, title, description, unit, period })
        }
        _ => None,
    };
    fields.finish(document)
}

/// A service id from a request.
pub fn service_id(id: &str) -> Result<ServiceId, Failure> {
    ServiceId::parse(id).map_err(|error| Failure::invalid_field("service_id", error.to_string()))
}

/// A limit id from a request.
pub fn limit_id(id: &str) -> Result<LimitId, Failure> {
    LimitId::parse(id).map_err(|error| Failure::invalid_field("limit_id", error.to_string()))
}

/// A service, or with a feature that is not empty a feature of it.
pub fn target(service_id: &str, feature_id: &str) -> Result<Target, Failure> {
    let mut fields = Fields::new();
    let service = fields.check("service_id", ServiceId::parse(service_id));
    let feature = if feature_id.is_empty() { None } else { fields.check("feature_id", FeatureId::parse(feature_id)) };
    fields.finish(service.map(|service| Target { service, feature }))
}

/// Why a kill switch is thrown.
pub fn reason(text: &str) -> Result<Reason, Failure> {
    Reason::parse("a reason", text).map_err(|error| Failure::invalid_field("reason", error.to_string()))
}

/// To the API.
pub fn to_service(service: &Service, etag: String) -> v1::Service {
    v1::Service {
        service_id: service.id.as_str().to_owned(),
        title: service.title.as_str().to_owned(),
        description: service.description.as_str().to_owned(),
        features: service.features.iter().map(to_feature).collect(),
        archived: service.archived,
        disabled: service.disabled.is_some(),
        disabled_reason: service.disabled.as_ref().map(ToString::to_string).unwrap_or_default(),
        etag,
    }
}

fn to_feature(feature: &Feature) -> v1::Feature {
    v1::Feature {
        feature_id: feature.id.as_str().to_owned(),
        title: feature.title.as_str().to_owned(),
        description: feature.description.as_str().to_owned(),
        archived: feature.archived,
        disabled: feature.disabled.is_some(),
        disabled_reason: feature.disabled.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// To the API.
pub fn to_limit(limit: &Limit, etag: String) -> v1::Limit {
    let period = match limit.period {
        Period::Never => v1::Period::Never,
        Period::Hour => v1::Period::Hour,
        Period::Day => v1::Period::Day,
        Period::Week => v1::Period::Week,
        Period::Month => v1::Period::Month,
    };
    v1::Limit {
        limit_id: limit.id.as_str().to_owned(),
        title: limit.title.as_str().to_owned(),
        description: limit.description.as_str().to_owned(),
        unit: limit.unit.as_str().to_owned(),
        period: period as i32,
        archived: limit.archived,
        etag,
    }
}
