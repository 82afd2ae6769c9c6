//! `service:` and `limit:` documents. What a service document leaves out of `features` stays registered; kill switches are no
//! part of documents.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tessera_core::catalog::{FeatureDocument, LimitDocument, ServiceDocument};
use tessera_core::ids::{FeatureId, LimitId, ServiceId};
use tessera_core::value::{Description, Period, Title};

use super::scalar::In;

/// Registers a service and its features; what is left out of `features` stays registered.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ServiceDocument")]
pub(super) struct ServiceForm {
    /// Its id.
    service: In<ServiceId>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<In<Title>>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<In<Description>>,
    /// Its features, by id, in the order in which they are registered.
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    features: Features,
}

/// A feature; may be empty.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Feature")]
struct FeatureForm {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<In<Title>>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<In<Description>>,
}

/// A mapping whose order counts.
#[derive(Debug, Default)]
struct Features(Vec<(In<FeatureId>, FeatureForm)>);

impl Features {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FeaturesVisitor(PhantomData<Features>);

        impl<'de> Visitor<'de> for FeaturesVisitor {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of feature ids, such as `user-management: {}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features, A::Error> {
                let mut features = Vec::new();
                // A feature with nothing behind the colon has neither title nor description.
                while let Some((id, feature)) = map.next_entry::<In<FeatureId>, Option<FeatureForm>>()? {
                    features.push((id, feature.unwrap_or_default()));
                }
                Ok(Features(features))
            }
        }

        deserializer.deserialize_map(FeaturesVisitor(PhantomData))
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, feature) in &self.0 {
            map.serialize_entry(id, feature)?;
        }
        map.end()
    }
}

impl JsonSchema for Features {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Features".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        std::collections::BTreeMap::<In<FeatureId>, Option<FeatureForm>>::json_schema(generator)
    }
}

/// Registers a limit.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LimitDocument")]
pub(super) struct LimitForm {
    /// Its id.
    limit: In<LimitId>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<In<Title>>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<In<Description>>,
    /// What is counted, such as `users`; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<In<Title>>,
    /// When use starts again from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<In<Period>>,
}

/// A text that may be left out, as the domain has it.
pub(super) fn text<T: Default>(text: Option<In<T>>) -> T {
    text.map(|In(text)| text).unwrap_or_default()
}

/// A text, left out when it is empty or the default.
pub(super) fn unless_default<T: Clone + Default + PartialEq>(text: &T) -> Option<In<T>> {
    (*text != T::default()).then(|| In(text.clone()))
}

impl From<ServiceForm> for ServiceDocument {
    fn from(form: ServiceForm) -> Self {
        let feature = |(In(id), feature): (In<FeatureId>, FeatureForm)| FeatureDocument {
            id,
            title: text(feature.title),
            description: text(feature.description),
        };
        Self {
            id: form.service.0,
            title: text(form.title),
            description: text(form.description),
            features: form.features.0.into_iter().map(feature).collect(),
        }
    }
}

impl From<&ServiceDocument> for ServiceForm {
    fn from(service: &ServiceDocument) -> Self {
        let feature = |feature: &FeatureDocument| {
            let form = FeatureForm { title: unless_default(&feature.title), description: unless_default(&feature.description) };
            (In(feature.id.clone()), form)
        };
        Self {
            service: In(service.id.clone()),
            title: unless_default(&service.title),
            description: unless_default(&service.description),
            features: Features(service.features.iter().map(feature).collect()),
        }
    }
}

impl From<LimitForm> for LimitDocument {
    fn from(form: LimitForm) -> Self {
        Self {
            id: form.limit.0,
            title: text(form.title),
            description: text(form.description),
            unit: text(form.unit),
            period: text(form.period),
        }
    }
}

impl From<&LimitDocument> for LimitForm {
    fn from(limit: &LimitDocument) -> Self {
        Self {
            limit: In(limit.id.clone()),
            title: unless_default(&limit.title),
            description: unless_default(&limit.description),
            unit: unless_default(&limit.unit),
            period: unless_default(&limit.period),
        }
    }
}
