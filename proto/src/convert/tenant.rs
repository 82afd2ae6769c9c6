//! Tenants, their documents and the parts of them that commands carry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use tessera_core::decision::TenantStatus;
use tessera_core::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId, TenantId};
use tessera_core::tenant::{
    AccessOverride, AttachedAddOn, Effect, LimitOverride, Overrides, PlanChoice, StatedChange, Tenant, TenantDocument,
    TrialLength,
};
use tessera_core::value::{
    Familiarity, LABELS_MAX, LabelKey, LabelValue, OverrideTarget, Quantity, Reason, Target, Title, Version,
};

use super::{Fields, offer, time};
use crate::status::Failure;
use crate::v1;

/// A tenant id from a request.
pub fn tenant_id(id: &str) -> Result<TenantId, Failure> {
    TenantId::parse(id).map_err(|error| Failure::invalid_field("tenant_id", error.to_string()))
}

/// An exception from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOverride {
    /// On a service or feature.
    Access(Target, AccessOverride),
    /// On a limit.
    Limit(LimitId, LimitOverride),
}

/// Labels from a request.
pub fn labels(fields: &mut Fields, field: impl Display, labels: &BTreeMap<String, String>) -> BTreeMap<LabelKey, LabelValue> {
    if labels.len() > LABELS_MAX {
        fields.fault(field, format_args!("{} labels; allowed are at most {LABELS_MAX}", labels.len()));
        return BTreeMap::new();
    }
    let mut read = BTreeMap::new();
    for (key, value) in labels {
        let path = format!("{field}[\"{}\"]", key.escape_default());
        let key = fields.check(&path, LabelKey::parse("a label key", key));
        let value = fields.check(&path, LabelValue::parse("a label value", value));
        read.extend(key.zip(value));
    }
    read
}

/// A plan and version from a request.
pub fn choice(fields: &mut Fields, prefix: impl Display, plan_id: &str, version: i32) -> Option<PlanChoice> {
    let plan = fields.check(format_args!("{prefix}plan_id"), PlanId::parse(plan_id));
    let version = offer::version_choice(fields, format_args!("{prefix}plan_version"), version);
    Some(PlanChoice { plan: plan?, version: version? })
}

/// A trial length from a request; unset is as long as the plan says.
pub fn trial(fields: &mut Fields, field: &str, trial: Option<&v1::Trial>) -> Option<TrialLength> {
    match trial.and_then(|trial| trial.length.as_ref()) {
        None => Some(TrialLength::OfPlan),
        length => time::trial_length(fields, format_args!("{field}.length"), length).map(TrialLength::For),
    }
}

/// An attached add-on from a request; a quantity of 0 means 1.
pub fn add_on(fields: &mut Fields, field: impl Display, attached: &v1::AttachedAddOn) -> Option<(AddOnId, AttachedAddOn)> {
    let id = fields.check(format_args!("{field}.add_on_id"), AddOnId::parse(&attached.add_on_id));
    let quantity = match attached.quantity {
        0 => Some(Quantity::ONE),
        count => fields.check(format_args!("{field}.quantity"), Quantity::new(count)),
    };
    let version = offer::version_choice(fields, format_args!("{field}.pinned_version"), attached.pinned_version);
    Some((id?, AttachedAddOn { quantity: quantity?, version: version? }))
}

/// What an override is about, from a request.
pub fn override_target(fields: &mut Fields, field: &str, target: Option<&v1::OverrideTarget>) -> Option<OverrideTarget> {
    let target = fields.required(field, target)?;
    match (target.service.is_empty(), target.limit.is_empty()) {
        (false, true) => {
            let service = fields.check(format_args!("{field}.service"), ServiceId::parse(&target.service));
            let feature = if target.feature.is_empty() {
                None
            } else {
                Some(fields.check(format_args!("{field}.feature"), FeatureId::parse(&target.feature))?)
            };
            Some(OverrideTarget::Access(Target { service: service?, feature }))
        }
        (true, false) if target.feature.is_empty() => {
            fields.check(format_args!("{field}.limit"), LimitId::parse(&target.limit)).map(OverrideTarget::Limit)
        }
        _ => {
            fields.fault(field, "allowed are a service, a service with a feature, or a limit, and only one of them");
            None
        }
    }
}

/// An exception from a request.
pub fn read_override(fields: &mut Fields, field: &str, set: &v1::Override) -> Option<ReadOverride> {
    let target = override_target(fields, &format!("{field}.target"), set.target.as_ref());
    let until = time::timestamp(fields, format_args!("{field}.until"), set.until.as_ref());
    let reason = fields.check(format_args!("{field}.reason"), Reason::parse("a reason", &set.reason));
    match target? {
        OverrideTarget::Access(target) => {
            if set.value.is_some() {
                fields.fault(format_args!("{field}.value"), "it is set; allowed only on a limit");
            }
            let effect = match v1::OverrideEffect::try_from(set.effect) {
                Ok(v1::OverrideEffect::Grant) => Effect::Grant,
                Ok(v1::OverrideEffect::Deny) => Effect::Deny,
                Ok(v1::OverrideEffect::Unspecified) | Err(_) => {
                    let given = set.effect;
                    fields.fault(
                        format_args!("{field}.effect"),
                        format_args!("`{given}` is not an effect; allowed are GRANT and DENY"),
                    );
                    return None;
                }
            };
            Some(ReadOverride::Access(target, AccessOverride { effect, until, reason: reason? }))
        }
        OverrideTarget::Limit(limit) => {
            if set.effect != 0 {
                fields.fault(format_args!("{field}.effect"), "it is set; allowed only on a service or feature");
            }
            let value = offer::limit_value(fields, &format!("{field}.value"), set.value.as_ref());
            Some(ReadOverride::Limit(limit, LimitOverride { value: value?, until, reason: reason? }))
        }
    }
}

/// Familiarities from a request, none of them 0.
fn familiarities(fields: &mut Fields, field: impl Display, map: &BTreeMap<String, i32>) -> BTreeMap<ServiceId, Familiarity> {
    let mut read = BTreeMap::new();
    for (service, basis_points) in map {
        let path = format!("{field}[\"{}\"]", service.escape_default());
        let id = fields.check(&path, ServiceId::parse(service));
        let value = fields.check(&path, Familiarity::from_basis_points(i64::from(*basis_points)));
        read.extend(id.zip(value));
    }
    read
}

/// A whole tenant from a request. The id comes from the document, or from `tenant_id` beside it; where both are given they
/// must be equal. `field` is the path of the document. Reasons of suspensions without an instant are not in the document, but beside
/// it.
pub fn document(
    field: &str,
    tenant_id: &str,
    document: Option<&v1::TenantDocument>,
) -> Result<(TenantId, TenantDocument, BTreeSet<Reason>), Failure> {
    let mut fields = Fields::new();
    let read = fields.required(field, document).and_then(|document| read_document(&mut fields, field, tenant_id, document));
    fields.finish(read)
}

fn read_document(
    fields: &mut Fields,
    field: &str,
    tenant_id: &str,
    document: &v1::TenantDocument,
) -> Option<(TenantId, TenantDocument, BTreeSet<Reason>)> {
    let id = read_id(fields, field, tenant_id, &document.tenant_id);
    let title = fields.check(format_args!("{field}.title"), Title::parse("a title", &document.title));
    let labels = labels(fields, format_args!("{field}.labels"), &document.labels);
    let choice = choice(fields, format_args!("{field}."), &document.plan_id, document.plan_version);
    let starts = time::timestamp(fields, format_args!("{field}.starts"), document.starts.as_ref());
    let trial_until = time::timestamp(fields, format_args!("{field}.trial_until"), document.trial_until.as_ref());
    let cancel_at = time::timestamp(fields, format_args!("{field}.cancel_at"), document.cancel_at.as_ref());
    let mut scheduled = Vec::with_capacity(document.scheduled.len());
    for (at, change) in document.scheduled.iter().enumerate() {
        let path = format!("{field}.scheduled[{at}]");
        let when = fields.required(format_args!("{path}.at"), change.at.as_ref());
        let when = time::timestamp(fields, format_args!("{path}.at"), when);
        let plan = fields.check(format_args!("{path}.plan_id"), PlanId::parse(&change.plan_id));
        let version = offer::version_choice(fields, format_args!("{path}.version"), change.version);
        if let (Some(at), Some(plan), Some(version)) = (when, plan, version) {
            scheduled.push(StatedChange { at, choice: PlanChoice { plan, version } });
        }
    }
    let attached: Vec<_> = document
        .add_ons
        .iter()
        .enumerate()
        .filter_map(|(at, attached)| add_on(fields, format_args!("{field}.add_ons[{at}]"), attached))
        .collect();
    let add_ons = fields.unique(format_args!("{field}.add_ons"), attached);
    let overrides = overrides(fields, field, &document.overrides);
    let familiarity = familiarities(fields, format_args!("{field}.familiarity_basis_points"), &document.familiarity_basis_points);
    let mut suspensions = Vec::with_capacity(document.suspensions.len());
    for (at, suspension) in document.suspensions.iter().enumerate() {
        let path = format!("{field}.suspensions[{at}]");
        let reason = fields.check(format_args!("{path}.reason"), Reason::parse("a reason", &suspension.reason));
        let effective_at = time::timestamp(fields, format_args!("{path}.effective_at"), suspension.effective_at.as_ref());
        suspensions.extend(reason.map(|reason| (reason, effective_at)));
    }
    let mut suspended = fields.unique(format_args!("{field}.suspensions"), suspensions);
    let suspensions = suspended.iter().filter_map(|(reason, at)| Some((reason.clone(), (*at)?))).collect();
    suspended.retain(|_, at| at.is_none());
    let read = TenantDocument {
        title: title?,
        labels,
        pending: document.pending,
        choice: choice?,
        starts,
        trial_until,
        cancel_at,
        scheduled,
        add_ons,
        overrides,
        familiarity,
        suspensions,
    };
    Some((id?, read, suspended.into_keys().collect()))
}

fn read_id(fields: &mut Fields, field: &str, beside: &str, inside: &str) -> Option<TenantId> {
    if !beside.is_empty() && !inside.is_empty() && beside != inside {
        let given = format_args!("`{}` is not the tenant beside it; allowed is the same id, or none", inside.escape_default())
            .to_string();
        fields.fault(format_args!("{field}.tenant_id"), given);
        return None;
    }
    if inside.is_empty() && !beside.is_empty() {
        return fields.check("tenant_id", TenantId::parse(beside));
    }
    fields.check(format_args!("{field}.tenant_id"), TenantId::parse(inside))
}

fn overrides(fields: &mut Fields, field: &str, list: &[v1::Override]) -> Overrides {
    let (mut access, mut limits) = (Vec::new(), Vec::new());
    for (at, set) in list.iter().enumerate() {
        match read_override(fields, &format!("{field}.overrides[{at}]"), set) {
            Some(ReadOverride::Access(target, set)) => access.push((target, set)),
            Some(ReadOverride::Limit(limit, set)) => limits.push((limit, set)),
            None => {}
        }
    }
    let access = fields.unique(format_args!("{field}.overrides"), access);
    Overrides { access, limits: fields.unique(format_args!("{field}.overrides"), limits) }
}

/// Suspension reasons from a request, each once.
pub fn reasons(fields: &mut Fields, list: &[String]) -> BTreeSet<Reason> {
    let read = list.iter().enumerate();
    read.filter_map(|(at, text)| fields.check(format_args!("reasons[{at}]"), Reason::parse("a reason", text))).collect()
}

/// What a tenant is, to the API.
pub fn to_status(status: TenantStatus) -> v1::TenantStatus {
    match status {
        TenantStatus::Active => v1::TenantStatus::Active,
        TenantStatus::Pending => v1::TenantStatus::Pending,
        TenantStatus::Suspended => v1::TenantStatus::Suspended,
        TenantStatus::Deleted => v1::TenantStatus::Deleted,
    }
}

/// To the API. `tenant` is as it stands at the time that `status` was read for; `effective` is the version in force, where it
/// was looked up.
pub fn to_tenant(id: &TenantId, tenant: &Tenant, status: TenantStatus, effective: Option<Version>, etag: String) -> v1::Tenant {
    let subscription = &tenant.subscription;
    let scheduled = subscription.scheduled.iter().map(|change| v1::ScheduledChange {
        id: i32::try_from(change.id).unwrap_or(i32::MAX),
        at: Some(time::to_timestamp(change.at)),
        plan_id: change.choice.plan.as_str().to_owned(),
        version: offer::to_version_choice(change.choice.version),
    });
    v1::Tenant {
        tenant_id: id.as_str().to_owned(),
        title: tenant.title.as_str().to_owned(),
        labels: tenant.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        status: to_status(status) as i32,
        subscription: Some(v1::Subscription {
            plan_id: subscription.choice.plan.as_str().to_owned(),
            pinned_version: offer::to_version_choice(subscription.choice.version),
            effective_version: effective.map_or(0, offer::to_version),
            starts: subscription.starts.map(time::to_timestamp),
            trial_until: subscription.trial_until.map(time::to_timestamp),
            cancel_at: subscription.cancel_at.map(time::to_timestamp),
            scheduled: scheduled.collect(),
        }),
        add_ons: tenant.add_ons.iter().map(|(id, attached)| to_add_on(id, attached)).collect(),
        overrides: to_overrides(&tenant.overrides),
        familiarity_basis_points: tenant
            .familiarity
            .iter()
            .map(|(service, familiarity)| (service.to_string(), offer::to_familiarity(Some(*familiarity))))
            .collect(),
        suspensions: tenant
            .suspensions
            .iter()
            .map(|(reason, at)| v1::Suspension { reason: reason.to_string(), effective_at: Some(time::to_timestamp(*at)) })
            .collect(),
        trials_used: tenant.trials_used.iter().map(ToString::to_string).collect(),
        create_time: Some(time::to_timestamp(tenant.created_at)),
        update_time: Some(time::to_timestamp(tenant.updated_at)),
        delete_time: tenant.deleted_at.map(time::to_timestamp),
        etag,
    }
}

fn to_add_on(id: &AddOnId, attached: &AttachedAddOn) -> v1::AttachedAddOn {
    v1::AttachedAddOn {
        add_on_id: id.as_str().to_owned(),
        quantity: i64::from(attached.quantity.get()),
        pinned_version: offer::to_version_choice(attached.version),
    }
}

fn to_overrides(overrides: &Overrides) -> Vec<v1::Override> {
    let access = overrides.access.iter().map(|(target, set)| v1::Override {
        target: Some(v1::OverrideTarget {
            service: target.service.to_string(),
            feature: target.feature.as_ref().map(ToString::to_string).unwrap_or_default(),
            limit: String::new(),
        }),
        effect: match set.effect {
            Effect::Grant => v1::OverrideEffect::Grant as i32,
            Effect::Deny => v1::OverrideEffect::Deny as i32,
        },
        value: None,
        until: set.until.map(time::to_timestamp),
        reason: set.reason.to_string(),
    });
    let limits = overrides.limits.iter().map(|(limit, set)| v1::Override {
        target: Some(v1::OverrideTarget { limit: limit.to_string(), ..v1::OverrideTarget::default() }),
        effect: v1::OverrideEffect::Unspecified as i32,
        value: Some(offer::to_limit_grant(set.value)),
        until: set.until.map(time::to_timestamp),
        reason: set.reason.to_string(),
    });
    access.chain(limits).collect()
}
