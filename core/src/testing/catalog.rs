//! Generators of catalogs, and of what is asked of them and happens to them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::history::fold;
use super::value::{self, Names};
use super::world::settled;
use crate::catalog::{Catalog, Command, Event, FeatureDocument, LimitDocument, ServiceDocument};
use crate::ids::{FeatureId, LimitId, ServiceId};
use crate::value::{Description, Period, Title};

/// A service with features as a document states it.
pub fn service_document(names: Names) -> BoxedStrategy<ServiceDocument> {
    let features = proptest::collection::btree_map(value::feature_id(names), (value::title(), value::description()), 0..4);
    (value::service_id(names), value::title(), value::description(), features)
        .prop_map(|(id, title, description, features)| {
            let feature = |(id, (title, description))| FeatureDocument { id, title, description };
            ServiceDocument { id, title, description, features: features.into_iter().map(feature).collect() }
        })
        .boxed()
}

/// A limit as a document states it.
pub fn limit_document(names: Names) -> BoxedStrategy<LimitDocument> {
    (value::limit_id(names), value::title(), value::description(), value::title(), value::period())
        .prop_map(|(id, title, description, unit, period)| LimitDocument { id, title, description, unit, period })
        .boxed()
}

/// Something asked of the catalog.
pub fn catalog_command(names: Names) -> BoxedStrategy<Command> {
    let feature = (value::service_id(names), value::feature_id(names));
    prop_oneof![
        4 => service_document(names).prop_map(Command::UpsertService),
        1 => value::service_id(names).prop_map(Command::ArchiveService),
        1 => feature.prop_map(|(service, feature)| Command::ArchiveFeature(service, feature)),
        1 => (value::target(names), value::reason()).prop_map(|(target, reason)| Command::Disable { target, reason }),
        1 => value::target(names).prop_map(Command::Enable),
        2 => limit_document(names).prop_map(Command::UpsertLimit),
        1 => value::limit_id(names).prop_map(Command::ArchiveLimit),
    ]
    .boxed()
}

/// Something that may have happened to some catalog.
pub fn catalog_event(names: Names) -> BoxedStrategy<Event> {
    let feature = (value::service_id(names), value::feature_id(names));
    prop_oneof![
        4 => service_document(names).prop_map(Event::ServiceUpserted),
        1 => value::service_id(names).prop_map(Event::ServiceArchived),
        1 => feature.prop_map(|(service, feature)| Event::FeatureArchived(service, feature)),
        1 => (value::target(names), value::reason()).prop_map(|(target, reason)| Event::Disabled { target, reason }),
        1 => value::target(names).prop_map(Event::Enabled),
        2 => limit_document(names).prop_map(Event::LimitUpserted),
        1 => value::limit_id(names).prop_map(Event::LimitArchived),
        1 => settled().prop_map(Event::CommandSettled),
    ]
    .boxed()
}

/// A catalog that may lack anything.
pub fn catalog(names: Names) -> BoxedStrategy<Catalog> {
    vec(catalog_event(names), 0..12).prop_map(fold::<Catalog>).boxed()
}

/// A catalog in which everything of the pool is registered; some of it archived or disabled.
pub fn full_catalog() -> BoxedStrategy<Catalog> {
    let services = value::SERVICES.iter().filter_map(|id| registered_service(id)).map(Event::ServiceUpserted);
    let limits = value::LIMITS.iter().filter_map(|id| registered_limit(id)).map(Event::LimitUpserted);
    let registered: Vec<Event> = services.chain(limits).collect();
    let since = prop_oneof![3 => Just(Vec::new()), 1 => vec(catalog_event(Names::Pool), 0..6)];
    since.prop_map(move |since| fold::<Catalog>(registered.iter().cloned().chain(since))).boxed()
}

fn registered_service(id: &str) -> Option<ServiceDocument> {
    let feature = |id: &&str| {
        let id = FeatureId::parse(id).ok()?;
        Some(FeatureDocument { id, title: Title::default(), description: Description::default() })
    };
    Some(ServiceDocument {
        id: ServiceId::parse(id).ok()?,
        title: Title::default(),
        description: Description::default(),
        features: value::FEATURES.iter().filter_map(feature).collect(),
    })
}

fn registered_limit(id: &str) -> Option<LimitDocument> {
    Some(LimitDocument {
        id: LimitId::parse(id).ok()?,
        title: Title::default(),
        description: Description::default(),
        unit: Title::default(),
        period: Period::Never,
    })
}
