//! The stored catalog and its events.

use tessera_core::catalog::{Catalog, Event, Feature, FeatureDocument, Limit, LimitDocument, Service, ServiceDocument};
use tessera_core::ids::{FeatureId, LimitId, ServiceId};
use tessera_core::value::{Description, Period, Reason, Target, Title};

use super::{StorageError, value};
use crate::generated::storage::{self as stored, catalog_event};

pub(super) fn to_state(catalog: &Catalog) -> stored::Catalog {
    stored::Catalog {
        services: catalog.services.iter().map(to_service).collect(),
        limits: catalog.limits.iter().map(to_limit).collect(),
        feature_count: catalog.feature_count,
    }
}

pub(super) fn state(catalog: stored::Catalog) -> Result<Catalog, StorageError> {
    Ok(Catalog {
        services: catalog.services.into_iter().map(service).collect::<Result<_, _>>()?,
        limits: catalog.limits.into_iter().map(limit).collect::<Result<_, _>>()?,
        feature_count: catalog.feature_count,
    })
}

pub(super) fn to_event(event: &Event) -> stored::CatalogEvent {
    use catalog_event::Event as Stored;
    let event = match event {
        Event::ServiceUpserted(document) => Stored::ServiceUpserted(to_service_document(document)),
        Event::ServiceArchived(id) => Stored::ServiceArchived(id.as_str().to_owned()),
        Event::FeatureArchived(service, feature) => {
            let target = Target { service: service.clone(), feature: Some(feature.clone()) };
            Stored::FeatureArchived(value::to_target(&target))
        }
        Event::Disabled { target, reason } => {
            Stored::Disabled(stored::Disabled { target: Some(value::to_target(target)), reason: reason.as_str().to_owned() })
        }
        Event::Enabled(target) => Stored::Enabled(value::to_target(target)),
        Event::LimitUpserted(document) => Stored::LimitUpserted(to_limit_document(document)),
        Event::LimitArchived(id) => Stored::LimitArchived(id.as_str().to_owned()),
        Event::CommandSettled(settled) => Stored::CommandSettled(value::to_settled(settled)),
    };
    stored::CatalogEvent { event: Some(event) }
}

pub(super) fn event(event: stored::CatalogEvent) -> Result<Event, StorageError> {
    use catalog_event::Event as Stored;
    Ok(match event.event.ok_or_else(|| StorageError::missing("event"))? {
        Stored::ServiceUpserted(document) => Event::ServiceUpserted(service_document(document)?),
        Stored::ServiceArchived(id) => Event::ServiceArchived(ServiceId::parse(&id)?),
        Stored::FeatureArchived(target) => {
            let target = value::target(Some(target))?;
            Event::FeatureArchived(target.service, target.feature.ok_or_else(|| StorageError::missing("feature"))?)
        }
        Stored::Disabled(disabled) => {
            Event::Disabled { target: value::target(disabled.target)?, reason: Reason::parse("a reason", &disabled.reason)? }
        }
        Stored::Enabled(target) => Event::Enabled(value::target(Some(target))?),
        Stored::LimitUpserted(document) => Event::LimitUpserted(limit_document(&document)?),
        Stored::LimitArchived(id) => Event::LimitArchived(LimitId::parse(&id)?),
        Stored::CommandSettled(settled) => Event::CommandSettled(value::settled(settled)?),
    })
}

fn to_service(service: &Service) -> stored::Service {
    stored::Service {
        id: service.id.as_str().to_owned(),
        title: service.title.as_str().to_owned(),
        description: service.description.as_str().to_owned(),
        archived: service.archived,
        disabled: service.disabled.as_ref().map(|reason| reason.as_str().to_owned()),
        features: service.features.iter().map(to_feature).collect(),
    }
}

fn service(service: stored::Service) -> Result<Service, StorageError> {
    Ok(Service {
        id: ServiceId::parse(&service.id)?,
        title: Title::parse("a title", &service.title)?,
        description: Description::parse("a description", &service.description)?,
        archived: service.archived,
        disabled: disabled(service.disabled)?,
        features: service.features.into_iter().map(feature).collect::<Result<_, _>>()?,
    })
}

fn to_feature(feature: &Feature) -> stored::Feature {
    stored::Feature {
        id: feature.id.as_str().to_owned(),
        ordinal: feature.ordinal,
        title: feature.title.as_str().to_owned(),
        description: feature.description.as_str().to_owned(),
        archived: feature.archived,
        disabled: feature.disabled.as_ref().map(|reason| reason.as_str().to_owned()),
    }
}

fn feature(feature: stored::Feature) -> Result<Feature, StorageError> {
    Ok(Feature {
        id: FeatureId::parse(&feature.id)?,
        ordinal: feature.ordinal,
        title: Title::parse("a title", &feature.title)?,
        description: Description::parse("a description", &feature.description)?,
        archived: feature.archived,
        disabled: disabled(feature.disabled)?,
    })
}

fn disabled(reason: Option<String>) -> Result<Option<Reason>, StorageError> {
    Ok(reason.map(|reason| Reason::parse("a reason", &reason)).transpose()?)
}

fn to_limit(limit: &Limit) -> stored::Limit {
    let document = LimitDocument {
        id: limit.id.clone(),
        title: limit.title.clone(),
        description: limit.description.clone(),
        unit: limit.unit.clone(),
        period: limit.period,
    };
    stored::Limit { document: Some(to_limit_document(&document)), archived: limit.archived }
}

fn limit(limit: stored::Limit) -> Result<Limit, StorageError> {
    let document = limit_document(&limit.document.ok_or_else(|| StorageError::missing("document"))?)?;
    Ok(Limit {
        id: document.id,
        title: document.title,
        description: document.description,
        unit: document.unit,
        period: document.period,
        archived: limit.archived,
    })
}

fn to_service_document(document: &ServiceDocument) -> stored::ServiceDocument {
    stored::ServiceDocument {
        id: document.id.as_str().to_owned(),
        title: document.title.as_str().to_owned(),
        description: document.description.as_str().to_owned(),
        features: document
            .features
            .iter()
            .map(|feature| stored::FeatureDocument {
                id: feature.id.as_str().to_owned(),
                title: feature.title.as_str().to_owned(),
                description: feature.description.as_str().to_owned(),
            })
            .collect(),
    }
}

fn service_document(document: stored::ServiceDocument) -> Result<ServiceDocument, StorageError> {
    let feature = |feature: stored::FeatureDocument| -> Result<FeatureDocument, StorageError> {
        Ok(FeatureDocument {
            id: FeatureId::parse(&feature.id)?,
            title: Title::parse("a title", &feature.title)?,
            description: Description::parse("a description", &feature.description)?,
        })
    };
    Ok(ServiceDocument {
        id: ServiceId::parse(&document.id)?,
        title: Title::parse("a title", &document.title)?,
        description: Description::parse("a description", &document.description)?,
        features: document.features.into_iter().map(feature).collect::<Result<_, _>>()?,
    })
}

fn to_limit_document(document: &LimitDocument) -> stored::LimitDocument {
    let period = match document.period {
        Period::Never => 0,
        Period::Hour => 1,
        Period::Day => 2,
        Period::Week => 3,
        Period::Month => 4,
    };
    stored::LimitDocument {
        id: document.id.as_str().to_owned(),
        title: document.title.as_str().to_owned(),
        description: document.description.as_str().to_owned(),
        unit: document.unit.as_str().to_owned(),
        period,
    }
}

fn limit_document(document: &stored::LimitDocument) -> Result<LimitDocument, StorageError> {
    let period = match document.period {
        0 => Period::Never,
        1 => Period::Hour,
        2 => Period::Day,
        3 => Period::Week,
        4 => Period::Month,
        other => return Err(StorageError::field("period", format_args!("{other} is not a period"))),
    };
    Ok(LimitDocument {
        id: LimitId::parse(&document.id)?,
        title: Title::parse("a title", &document.title)?,
        description: Description::parse("a description", &document.description)?,
        unit: Title::parse("a unit", &document.unit)?,
        period,
    })
}
