//! What questions are asked of: a catalog, plans and add-ons, both plain and compiled.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;

use tessera_core::aggregate::References;
use tessera_core::catalog::{Catalog, Feature, Limit, Service};
use tessera_core::evaluator::Tables;
use tessera_core::ids::{AddOnId, PlanId};
use tessera_core::plan::{Document, Plan, PublishedVersion};
use tessera_core::tenant::{Overrides, PlanChoice, Subscription, Tenant};
use tessera_core::time::Timestamp;
use tessera_core::value::{Description, Period, Text, Title, VersionChoice};

/// Plain state, and the tables that were compiled from it.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    pub(crate) catalog: Catalog,
    pub(crate) plans: BTreeMap<PlanId, Plan>,
    pub(crate) add_ons: BTreeMap<AddOnId, Plan>,
    pub(crate) tables: Tables,
    /// What `tables` were before, oldest first.
    pub(crate) earlier: Vec<Tables>,
}

pub(crate) fn id<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn text<const MIN: usize, const MAX: usize>(text: &str) -> Text<MIN, MAX> {
    Text::parse("text", text).unwrap()
}

/// Registers a feature, and its service when that is new, behind everything that is there.
pub(crate) fn register(catalog: &mut Catalog, service: &str, feature: Option<&str>) {
    if !catalog.services.iter().any(|s| s.id.as_str() == service) {
        catalog.services.push(Service {
            id: id(service),
            title: Title::default(),
            description: Description::default(),
            archived: false,
            disabled: None,
            features: Vec::new(),
        });
    }
    let service = catalog.services.iter_mut().find(|s| s.id.as_str() == service).unwrap();
    if let Some(feature) = feature {
        let (title, description) = (Title::default(), Description::default());
        let ordinal = catalog.feature_count;
        service.features.push(Feature { id: id(feature), ordinal, title, description, archived: false, disabled: None });
        catalog.feature_count += 1;
    }
}

pub(crate) fn register_limit(catalog: &mut Catalog, limit: &str) {
    catalog.limits.push(Limit {
        id: id(limit),
        title: Title::default(),
        description: Description::default(),
        unit: Title::default(),
        period: Period::Never,
        archived: false,
    });
}

/// A plan or add-on with those published versions.
pub(crate) fn plan_of(versions: Vec<Document>) -> Plan {
    let publish = |document| PublishedVersion { document: Arc::new(document), published_at: Timestamp::MIN };
    Plan {
        draft: Document::default(),
        versions: versions.into_iter().map(publish).collect(),
        archived: false,
        created_at: Timestamp::MIN,
        updated_at: Timestamp::MIN,
        references: References::default(),
    }
}

/// A tenant with a plan and nothing else.
pub(crate) fn tenant_on(plan: &str, version: VersionChoice) -> Tenant {
    Tenant {
        title: Title::default(),
        labels: BTreeMap::new(),
        pending: false,
        deleted_at: None,
        subscription: Subscription {
            choice: PlanChoice { plan: id(plan), version },
            starts: None,
            trial_until: None,
            cancel_at: None,
            scheduled: Vec::new(),
        },
        add_ons: BTreeMap::new(),
        overrides: Overrides::default(),
        familiarity: BTreeMap::new(),
        suspensions: BTreeMap::new(),
        trials_used: std::collections::BTreeSet::new(),
        last_change_id: 0,
        recorded_through: Timestamp::MIN,
        created_at: Timestamp::MIN,
        updated_at: Timestamp::MIN,
        references: References::default(),
    }
}
