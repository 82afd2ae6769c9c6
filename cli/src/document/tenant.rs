//! `tenant:` documents: a whole tenant. What a document leaves out the tenant does not have.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tessera_core::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId, TenantId};
use tessera_core::tenant::{
    ADD_ONS_MAX, AccessOverride, AttachedAddOn, Effect, LimitOverride, OVERRIDES_MAX, Overrides, PlanChoice, SCHEDULED_MAX,
    SUSPENSIONS_MAX, StatedChange, TenantDocument,
};
use tessera_core::time::Timestamp;
use tessera_core::value::{Familiarity, LABELS_MAX, LabelKey, LabelValue, Quantity, Reason, Target, Title, VersionChoice};

use super::bounds::at_most;
use super::catalog::{text, unless_default};
use super::scalar::{Count, Flag, In, Maximum, Number, Pinned};
use super::words::WHOLE;

/// A whole tenant. What is left out the tenant does not have.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TenantDocument")]
pub(super) struct TenantForm {
    /// Its id.
    tenant: In<TenantId>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<In<Title>>,
    /// For selection in listings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "at_most::<_, _, LABELS_MAX>")]
    labels: BTreeMap<In<LabelKey>, In<LabelValue>>,
    /// Created, but not to be served before it is activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<bool>")]
    pending: Option<Flag>,
    /// The plan it is on.
    plan: In<Pinned<PlanId>>,
    /// Not running before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts: Option<In<Timestamp>>,
    /// The end of a trial that has not been converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial_until: Option<In<Timestamp>>,
    /// Ended from then on; may precede `starts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel_at: Option<In<Timestamp>>,
    /// Plan changes to come; those of one instant apply in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "at_most::<_, _, SCHEDULED_MAX>")]
    scheduled: Vec<ScheduledForm>,
    /// Add-ons and how many of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "at_most::<_, _, ADD_ONS_MAX>")]
    add_ons: BTreeMap<In<AddOnId>, AttachedForm>,
    /// Exceptions, at most one for each service, feature and limit.
    #[serde(default, skip_serializing_if = "Exceptions::is_empty")]
    overrides: Exceptions,
    /// Its own familiarity, by service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    familiarity: BTreeMap<In<ServiceId>, In<Familiarity>>,
    /// Reasons for suspension, each once; until `effective_at` the tenant is in grace.
    #[serde(default, skip_serializing_if = "Suspensions::is_empty")]
    suspended: Suspensions,
}

/// A plan change to come.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ScheduledChange")]
struct ScheduledForm {
    /// When it takes effect.
    at: In<Timestamp>,
    /// The plan the tenant is then on.
    plan: In<Pinned<PlanId>>,
}

/// A quantity, or quantity and pinned version.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "AttachedAddOn", untagged)]
enum AttachedForm {
    /// How many; the latest version is followed.
    Count(Count),
    /// How many, and of which version.
    Whole(AttachedFields),
}

/// How many, and of which version.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AttachedAddOnFields")]
struct AttachedFields {
    /// How many; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantity: Option<Count>,
    /// The version it is pinned to; the latest is followed if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Number>,
}

impl<'de> Deserialize<'de> for AttachedForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AttachedVisitor;

        impl<'de> serde::de::Visitor<'de> for AttachedVisitor {
            type Value = AttachedForm;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity from 1 to 1000000, or {quantity: 2, version: 1}")
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<AttachedForm, E> {
                Quantity::new(count).map(|quantity| AttachedForm::Count(Count(quantity))).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<AttachedForm, E> {
                self.visit_i64(i64::try_from(count).unwrap_or(i64::MAX))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<AttachedForm, A::Error> {
                AttachedFields::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(AttachedForm::Whole)
            }
        }

        deserializer.deserialize_any(AttachedVisitor)
    }
}

impl Serialize for AttachedForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => count.serialize(serializer),
            Self::Whole(fields) => fields.serialize(serializer),
        }
    }
}

/// Grants or denies a service or feature, or sets a limit.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Override")]
struct OverrideForm {
    /// The service that is granted or denied, or has the feature that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<In<ServiceId>>,
    /// The feature; the service itself if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feature: Option<In<FeatureId>>,
    /// Of a service or feature: grant or deny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effect: Option<EffectForm>,
    /// The limit that is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<In<LimitId>>,
    /// Of a limit: the whole value, whatever plan and add-ons give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maximum: Option<Maximum>,
    /// As if absent from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<In<Timestamp>>,
    /// Why.
    reason: In<Reason>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Effect")]
enum EffectForm {
    Grant,
    Deny,
}

/// An override as the domain has it.
enum Exception {
    Access(Target, AccessOverride),
    Limit(LimitId, LimitOverride),
}

impl<'de> Deserialize<'de> for Exception {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = OverrideForm::deserialize(deserializer)?;
        form.into_exception().map_err(|message| D::Error::custom(format!("{WHOLE}{message}")))
    }
}

impl OverrideForm {
    fn into_exception(self) -> Result<Exception, String> {
        let until = self.until.map(|In(until)| until);
        let reason = self.reason.0;
        match (self.service, self.limit) {
            (Some(In(service)), None) => {
                let effect = match (self.effect, self.maximum) {
                    (_, Some(_)) => return Err("`maximum` goes with `limit`, not with `service`".to_owned()),
                    (None, None) => return Err("`effect` is missing; allowed are grant and deny".to_owned()),
                    (Some(EffectForm::Grant), None) => Effect::Grant,
                    (Some(EffectForm::Deny), None) => Effect::Deny,
                };
                let target = Target { service, feature: self.feature.map(|In(feature)| feature) };
                Ok(Exception::Access(target, AccessOverride { effect, until, reason }))
            }
            (None, Some(In(limit))) => {
                if self.effect.is_some() || self.feature.is_some() {
                    return Err("`effect` and `feature` go with `service`, not with `limit`".to_owned());
                }
                let Some(Maximum(value)) = self.maximum else {
                    return Err("`maximum` is missing; allowed are a whole number and unlimited".to_owned());
                };
                Ok(Exception::Limit(limit, LimitOverride { value, until, reason }))
            }
            (None, None) => Err("an override is about a `service` or a `limit`; this one has neither".to_owned()),
            (Some(_), Some(_)) => Err("an override is about a `service` or a `limit`; this one has both".to_owned()),
        }
    }
}

/// The list of overrides, each target once.
#[derive(Debug, Default, JsonSchema)]
#[schemars(transparent)]
struct Exceptions(#[schemars(with = "Vec<OverrideForm>")] Overrides);

impl Exceptions {
    fn is_empty(&self) -> bool {
        self.0.access.is_empty() && self.0.limits.is_empty()
    }
}

impl<'de> Deserialize<'de> for Exceptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut overrides = Overrides::default();
        for exception in at_most::<_, Vec<Exception>, OVERRIDES_MAX>(deserializer)? {
            let twice = match exception {
                Exception::Access(target, access) => {
                    let shown = target.to_string();
                    overrides.access.insert(target, access).map(|_| shown)
                }
                Exception::Limit(limit, value) => {
                    let shown = limit.to_string();
                    overrides.limits.insert(limit, value).map(|_| shown)
                }
            };
            if let Some(target) = twice {
                return Err(D::Error::custom(format!("there are two overrides of `{target}`; allowed is one")));
            }
        }
        Ok(Self(overrides))
    }
}

impl Serialize for Exceptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let access = self.0.access.iter().map(|(target, access)| OverrideForm {
            service: Some(In(target.service.clone())),
            feature: target.feature.clone().map(In),
            effect: Some(match access.effect {
                Effect::Grant => EffectForm::Grant,
                Effect::Deny => EffectForm::Deny,
            }),
            limit: None,
            maximum: None,
            until: access.until.map(In),
            reason: In(access.reason.clone()),
        });
        let limits = self.0.limits.iter().map(|(limit, value)| OverrideForm {
            service: None,
            feature: None,
            effect: None,
            limit: Some(In(limit.clone())),
            maximum: Some(Maximum(value.value)),
            until: value.until.map(In),
            reason: In(value.reason.clone()),
        });
        serializer.collect_seq(access.chain(limits))
    }
}

/// A reason for suspension.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Suspension")]
struct SuspensionForm {
    /// Why.
    reason: In<Reason>,
    /// From when; until then grace.
    effective_at: In<Timestamp>,
}

/// The list of suspensions, each reason once.
#[derive(Debug, Default, JsonSchema)]
#[schemars(transparent)]
struct Suspensions(#[schemars(with = "Vec<SuspensionForm>")] BTreeMap<Reason, Timestamp>);

impl Suspensions {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Suspensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut suspensions = BTreeMap::new();
        for form in at_most::<_, Vec<SuspensionForm>, SUSPENSIONS_MAX>(deserializer)? {
            let reason = form.reason.0.to_string();
            if suspensions.insert(form.reason.0, form.effective_at.0).is_some() {
                return Err(D::Error::custom(format!("there are two suspensions for `{reason}`; allowed is one")));
            }
        }
        Ok(Self(suspensions))
    }
}

impl Serialize for Suspensions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.0.iter().map(|(reason, at)| SuspensionForm { reason: In(reason.clone()), effective_at: In(*at) }))
    }
}

fn choice_of(In(pinned): In<Pinned<PlanId>>) -> PlanChoice {
    PlanChoice { plan: pinned.id, version: pinned.version }
}

fn pinned_of(choice: &PlanChoice) -> In<Pinned<PlanId>> {
    In(Pinned { id: choice.plan.clone(), version: choice.version })
}

fn attached_of(form: AttachedForm) -> AttachedAddOn {
    match form {
        AttachedForm::Count(Count(quantity)) => AttachedAddOn { quantity, version: VersionChoice::Latest },
        AttachedForm::Whole(fields) => AttachedAddOn {
            quantity: fields.quantity.map_or(Quantity::ONE, |Count(quantity)| quantity),
            version: fields.version.map_or(VersionChoice::Latest, |Number(version)| VersionChoice::Pinned(version)),
        },
    }
}

fn attached_form(attached: &AttachedAddOn) -> AttachedForm {
    match attached.version {
        VersionChoice::Latest => AttachedForm::Count(Count(attached.quantity)),
        VersionChoice::Pinned(version) => {
            AttachedForm::Whole(AttachedFields { quantity: Some(Count(attached.quantity)), version: Some(Number(version)) })
        }
    }
}

impl TenantForm {
    /// Whether a boolean was given.
    pub(super) fn has_flags(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) fn new(id: &TenantId, document: &TenantDocument) -> Self {
        let labels = document.labels.iter().map(|(key, value)| (In(key.clone()), In(value.clone())));
        let scheduled =
            document.scheduled.iter().map(|change| ScheduledForm { at: In(change.at), plan: pinned_of(&change.choice) });
        let add_ons = document.add_ons.iter().map(|(id, attached)| (In(id.clone()), attached_form(attached)));
        Self {
            tenant: In(id.clone()),
            title: unless_default(&document.title),
            labels: labels.collect(),
            pending: document.pending.then_some(Flag(true)),
            plan: pinned_of(&document.choice),
            starts: document.starts.map(In),
            trial_until: document.trial_until.map(In),
            cancel_at: document.cancel_at.map(In),
            scheduled: scheduled.collect(),
            add_ons: add_ons.collect(),
            overrides: Exceptions(document.overrides.clone()),
            familiarity: document.familiarity.iter().map(|(id, own)| (In(id.clone()), In(*own))).collect(),
            suspended: Suspensions(document.suspensions.clone()),
        }
    }
}

impl From<TenantForm> for (TenantId, TenantDocument) {
    fn from(form: TenantForm) -> Self {
        let scheduled = form.scheduled.into_iter().map(|change| StatedChange { at: change.at.0, choice: choice_of(change.plan) });
        let document = TenantDocument {
            title: text(form.title),
            labels: form.labels.into_iter().map(|(In(key), In(value))| (key, value)).collect(),
            pending: form.pending.is_some_and(|Flag(pending)| pending),
            choice: choice_of(form.plan),
            starts: form.starts.map(|In(at)| at),
            trial_until: form.trial_until.map(|In(at)| at),
            cancel_at: form.cancel_at.map(|In(at)| at),
            scheduled: scheduled.collect(),
            add_ons: form.add_ons.into_iter().map(|(In(id), attached)| (id, attached_of(attached))).collect(),
            overrides: form.overrides.0,
            familiarity: form.familiarity.into_iter().map(|(In(id), In(own))| (id, own)).collect(),
            suspensions: form.suspended.0,
        };
        (form.tenant.0, document)
    }
}
