//! Documents of plans and add-ons, and what differs between them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use tessera_core::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId};
use tessera_core::plan::{Document, GrantDiff, Plan, PlanDiff, PublishedVersion, ServiceGrant};
use tessera_core::value::{Amount, Description, Familiarity, LimitValue, Title, Version, VersionChoice};

use super::{Fields, time};
use crate::status::Failure;
use crate::v1;

/// A plan id from a request.
pub fn plan_id(id: &str) -> Result<PlanId, Failure> {
    PlanId::parse(id).map_err(|error| Failure::invalid_field("plan_id", error.to_string()))
}

/// An add-on id from a request.
pub fn add_on_id(id: &str) -> Result<AddOnId, Failure> {
    AddOnId::parse(id).map_err(|error| Failure::invalid_field("add_on_id", error.to_string()))
}

/// What a plan's draft is to say.
pub fn plan_document(document: Option<&v1::PlanDocument>) -> Result<Document, Failure> {
    let mut fields = Fields::new();
    let read = fields.required("document", document).and_then(|document| {
        let trial = time::trial_length(&mut fields, "document.trial", document.trial.as_ref());
        let read = read_document(&mut fields, &document.title, &document.description, &document.services, &document.limits)?;
        Some(Document { trial, ..read })
    });
    fields.finish(read)
}

/// What an add-on's draft is to say.
pub fn add_on_document(document: Option<&v1::AddOnDocument>) -> Result<Document, Failure> {
    let mut fields = Fields::new();
    let read = fields.required("document", document).and_then(|document| {
        read_document(&mut fields, &document.title, &document.description, &document.services, &document.limits)
    });
    fields.finish(read)
}

fn read_document(
    fields: &mut Fields,
    title: &str,
    description: &str,
    services: &BTreeMap<String, v1::ServiceGrant>,
    limits: &BTreeMap<String, v1::LimitGrant>,
) -> Option<Document> {
    let title = fields.check("document.title", Title::parse("a title", title));
    let description = fields.check("document.description", Description::parse("a description", description));
    let mut document = Document::default();
    for (service, grant) in services {
        let field = format!("document.services[\"{}\"]", service.escape_default());
        let id = fields.check(&field, ServiceId::parse(service));
        let familiarity = familiarity(fields, format_args!("{field}.familiarity_basis_points"), grant.familiarity_basis_points);
        let mut read = ServiceGrant { familiarity, ..ServiceGrant::default() };
        for (at, feature) in grant.features.iter().enumerate() {
            if let Some(id) = fields.check(format_args!("{field}.features[{at}]"), FeatureId::parse(feature))
                && !read.features.insert(id)
            {
                fields.fault(format_args!("{field}.features[{at}]"), format_args!("`{feature}` comes twice; allowed is once"));
            }
        }
        document.services.extend(id.map(|id| (id, Arc::new(read))));
    }
    for (limit, grant) in limits {
        let field = format!("document.limits[\"{}\"]", limit.escape_default());
        let id = fields.check(&field, LimitId::parse(limit));
        let value = limit_value(fields, &field, Some(grant));
        document.limits.extend(id.zip(value));
    }
    Some(Document { title: title?, description: description?, ..document })
}

/// Basis points from a request; 0 is none.
pub fn familiarity(fields: &mut Fields, field: impl Display, basis_points: i32) -> Option<Familiarity> {
    if basis_points == 0 {
        return None;
    }
    fields.check(field, Familiarity::from_basis_points(i64::from(basis_points)))
}

/// What is given of a limit; notes absent, negative and contradictory values.
pub fn limit_value(fields: &mut Fields, field: &str, grant: Option<&v1::LimitGrant>) -> Option<LimitValue> {
    use v1::limit_grant::Value;
    match grant.and_then(|grant| grant.value) {
        Some(Value::Maximum(maximum)) => {
            fields.check(format_args!("{field}.maximum"), Amount::new(maximum)).map(LimitValue::Maximum)
        }
        Some(Value::Unlimited(true)) => Some(LimitValue::Unlimited),
        Some(Value::Unlimited(false)) => {
            fields.fault(format_args!("{field}.unlimited"), "`false` is not a value; allowed are `true`, or a maximum");
            None
        }
        None => {
            fields.fault(field, "no value is set; allowed are a maximum of 0 or more, or `unlimited: true`");
            None
        }
    }
}

/// A pinned version from a request; 0 follows the latest.
pub fn version_choice(fields: &mut Fields, field: impl Display, version: i32) -> Option<VersionChoice> {
    if version == 0 {
        return Some(VersionChoice::Latest);
    }
    let read = u32::try_from(version).ok().and_then(Version::new);
    if read.is_none() {
        fields.fault(field, format_args!("`{version}` is not a version; allowed are 1 and above, or 0 for the latest"));
    }
    read.map(VersionChoice::Pinned)
}

/// A version number to the API; 0 for the latest.
pub fn to_version_choice(version: VersionChoice) -> i32 {
    match version {
        VersionChoice::Latest => 0,
        VersionChoice::Pinned(version) => to_version(version),
    }
}

/// A version number to the API.
pub fn to_version(version: Version) -> i32 {
    i32::try_from(version.get()).unwrap_or(i32::MAX)
}

/// To the API.
pub fn to_plan_document(document: &Document) -> v1::PlanDocument {
    v1::PlanDocument {
        title: document.title.as_str().to_owned(),
        description: document.description.as_str().to_owned(),
        services: to_services(&document.services),
        limits: to_limits(&document.limits),
        trial: document.trial.map(time::to_duration),
    }
}

/// To the API.
pub fn to_add_on_document(document: &Document) -> v1::AddOnDocument {
    v1::AddOnDocument {
        title: document.title.as_str().to_owned(),
        description: document.description.as_str().to_owned(),
        services: to_services(&document.services),
        limits: to_limits(&document.limits),
    }
}

/// To the API.
pub fn to_plan(id: &PlanId, plan: &Plan, etag: String) -> v1::Plan {
    v1::Plan {
        plan_id: id.as_str().to_owned(),
        draft: Some(to_plan_document(&plan.draft)),
        latest_version: plan.latest().map_or(0, to_version),
        archived: plan.archived,
        draft_differs: draft_differs(plan),
        create_time: Some(time::to_timestamp(plan.created_at)),
        update_time: Some(time::to_timestamp(plan.updated_at)),
        etag,
    }
}

/// To the API.
pub fn to_add_on(id: &AddOnId, plan: &Plan, etag: String) -> v1::AddOn {
    v1::AddOn {
        add_on_id: id.as_str().to_owned(),
        draft: Some(to_add_on_document(&plan.draft)),
        latest_version: plan.latest().map_or(0, to_version),
        archived: plan.archived,
        draft_differs: draft_differs(plan),
        create_time: Some(time::to_timestamp(plan.created_at)),
        update_time: Some(time::to_timestamp(plan.updated_at)),
        etag,
    }
}

fn draft_differs(plan: &Plan) -> bool {
    plan.versions.last().is_none_or(|newest| *newest.document != plan.draft)
}

/// To the API.
pub fn to_plan_version(id: &PlanId, number: Version, version: &PublishedVersion) -> v1::PlanVersion {
    v1::PlanVersion {
        plan_id: id.as_str().to_owned(),
        version: to_version(number),
        document: Some(to_plan_document(&version.document)),
        publish_time: Some(time::to_timestamp(version.published_at)),
    }
}

/// To the API.
pub fn to_add_on_version(id: &AddOnId, number: Version, version: &PublishedVersion) -> v1::AddOnVersion {
    v1::AddOnVersion {
        add_on_id: id.as_str().to_owned(),
        version: to_version(number),
        document: Some(to_add_on_document(&version.document)),
        publish_time: Some(time::to_timestamp(version.published_at)),
    }
}

/// To the API; `None` when nothing differs.
pub fn to_difference(difference: &PlanDiff) -> Option<v1::DocumentDifference> {
    let changed = |(service, change): (&ServiceId, &GrantDiff)| {
        let change = v1::ServiceGrantDifference {
            features_added: change.features_added.iter().map(ToString::to_string).collect(),
            features_removed: change.features_removed.iter().map(ToString::to_string).collect(),
            familiarity_basis_points: change.familiarity.map(to_familiarity),
        };
        (service.as_str().to_owned(), change)
    };
    (!difference.is_empty()).then(|| v1::DocumentDifference {
        title: difference.title.as_ref().map(ToString::to_string),
        description: difference.description.as_ref().map(ToString::to_string),
        services_added: to_services(&difference.services_added),
        services_removed: difference.services_removed.iter().map(ToString::to_string).collect(),
        services_changed: difference.services_changed.iter().map(changed).collect(),
        limits_added: to_limits(&difference.limits_added),
        limits_removed: difference.limits_removed.iter().map(ToString::to_string).collect(),
        limits_changed: to_limits(&difference.limits_changed),
        trial_changed: difference.trial.is_some(),
    })
}

/// Basis points to the API; 0 for none.
pub fn to_familiarity(familiarity: Option<Familiarity>) -> i32 {
    familiarity.map_or(0, |f| i32::from(f.basis_points()))
}

/// To the API.
pub fn to_limit_grant(value: LimitValue) -> v1::LimitGrant {
    let value = match value {
        LimitValue::Maximum(amount) => v1::limit_grant::Value::Maximum(amount.get()),
        LimitValue::Unlimited => v1::limit_grant::Value::Unlimited(true),
    };
    v1::LimitGrant { value: Some(value) }
}

fn to_services(services: &BTreeMap<ServiceId, Arc<ServiceGrant>>) -> BTreeMap<String, v1::ServiceGrant> {
    let grant = |grant: &ServiceGrant| v1::ServiceGrant {
        features: grant.features.iter().map(ToString::to_string).collect(),
        familiarity_basis_points: to_familiarity(grant.familiarity),
    };
    services.iter().map(|(service, granted)| (service.as_str().to_owned(), grant(granted))).collect()
}

fn to_limits(limits: &BTreeMap<LimitId, LimitValue>) -> BTreeMap<String, v1::LimitGrant> {
    limits.iter().map(|(limit, value)| (limit.as_str().to_owned(), to_limit_grant(*value))).collect()
}
