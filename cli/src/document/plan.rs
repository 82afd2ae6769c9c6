//! `plan:` and `add_on:` documents: what the newest version should say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tessera_core::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId};
use tessera_core::plan::{Document, PLAN_FEATURES_MAX, ServiceGrant};
use tessera_core::value::{Description, Familiarity, Title};

use super::catalog::{text, unless_default};
use super::scalar::{In, Maximum};

/// A plan: what its newest version says. A document that differs from it publishes the next version.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PlanDocument")]
pub(super) struct PlanForm {
    /// Its id.
    plan: In<PlanId>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<In<Title>>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<In<Description>>,
    /// What is granted, by service. A service without features grants only the service itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "grants")]
    services: Grants,
    /// What is given of each limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<In<LimitId>, Maximum>,
    /// How long a trial lasts when one is started without a length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<In<Duration>>,
}

/// An add-on: what its newest version says.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AddOnDocument")]
pub(super) struct AddOnForm {
    /// Its id.
    add_on: In<AddOnId>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<In<Title>>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<In<Description>>,
    /// What is granted besides the plan, by service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "grants")]
    services: Grants,
    /// What is added to each limit, times the quantity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<In<LimitId>, Maximum>,
}

type Grants = BTreeMap<In<ServiceId>, GrantForm>;

/// What is granted of one service; may be empty.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ServiceGrant")]
struct GrantForm {
    /// The granted features, each once.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "distinct")]
    features: BTreeSet<In<FeatureId>>,
    /// How much of the service's UI is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    familiarity: Option<In<Familiarity>>,
}

fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<In<FeatureId>>, D::Error> {
    let mut features = BTreeSet::new();
    for feature in Vec::<In<FeatureId>>::deserialize(deserializer)? {
        if let Some(In(twice)) = features.replace(feature) {
            return Err(D::Error::custom(format!("the feature `{twice}` is given twice; allowed is once")));
        }
    }
    Ok(features)
}

fn grants<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Grants, D::Error> {
    let grants = BTreeMap::<In<ServiceId>, Option<GrantForm>>::deserialize(deserializer)?;
    let grants: Grants = grants.into_iter().map(|(id, grant)| (id, grant.unwrap_or_default())).collect();
    let features: usize = grants.values().map(|grant| grant.features.len()).sum();
    if features > PLAN_FEATURES_MAX {
        return Err(D::Error::custom(format!("{features} features are granted; allowed are at most {PLAN_FEATURES_MAX}")));
    }
    Ok(grants)
}

fn services_of(form: Grants) -> BTreeMap<ServiceId, Arc<ServiceGrant>> {
    let grant = |grant: GrantForm| ServiceGrant {
        features: grant.features.into_iter().map(|In(id)| id).collect(),
        familiarity: grant.familiarity.map(|In(familiarity)| familiarity),
    };
    form.into_iter().map(|(In(id), form)| (id, Arc::new(grant(form)))).collect()
}

fn grants_of(services: &BTreeMap<ServiceId, Arc<ServiceGrant>>) -> Grants {
    let form = |grant: &ServiceGrant| GrantForm {
        features: grant.features.iter().cloned().map(In).collect(),
        familiarity: grant.familiarity.map(In),
    };
    services.iter().map(|(id, grant)| (In(id.clone()), form(grant))).collect()
}

fn limits_of(document: &Document) -> BTreeMap<In<LimitId>, Maximum> {
    document.limits.iter().map(|(id, value)| (In(id.clone()), Maximum(*value))).collect()
}

impl PlanForm {
    pub(super) fn new(id: &PlanId, document: &Document) -> Self {
        Self {
            plan: In(id.clone()),
            title: unless_default(&document.title),
            description: unless_default(&document.description),
            services: grants_of(&document.services),
            limits: limits_of(document),
            trial: document.trial.map(In),
        }
    }
}

impl From<PlanForm> for (PlanId, Document) {
    fn from(form: PlanForm) -> Self {
        let document = Document {
            title: text(form.title),
            description: text(form.description),
            services: services_of(form.services),
            limits: form.limits.into_iter().map(|(In(id), Maximum(value))| (id, value)).collect(),
            trial: form.trial.map(|In(length)| length),
        };
        (form.plan.0, document)
    }
}

impl AddOnForm {
    pub(super) fn new(id: &AddOnId, document: &Document) -> Self {
        Self {
            add_on: In(id.clone()),
            title: unless_default(&document.title),
            description: unless_default(&document.description),
            services: grants_of(&document.services),
            limits: limits_of(document),
        }
    }
}

impl From<AddOnForm> for (AddOnId, Document) {
    fn from(form: AddOnForm) -> Self {
        let document = Document {
            title: text(form.title),
            description: text(form.description),
            services: services_of(form.services),
            limits: form.limits.into_iter().map(|(In(id), Maximum(value))| (id, value)).collect(),
            trial: None,
        };
        (form.add_on.0, document)
    }
}
