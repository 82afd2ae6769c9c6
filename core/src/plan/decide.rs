//! What a command makes happen to a plan or add-on, or why it is refused.
//!
//! A draft may be empty, and an empty draft may be published: a plan that grants nothing by itself carries add-ons and
//! overrides. A draft keeps what it or the newest version names even when that is archived meanwhile; a version may only be
//! published with archived names that the version before it has, so that an archived feature finds no new buyers.
//!
//! An update that equals the draft is no change, whatever else holds; that is what lets `apply` repeat itself.

use super::{Action, Command, Document, Event, Kind, PLAN_FEATURES_MAX, Plan, PlanState, ServiceGrant, TRIAL_MAX, VERSIONS_MAX};
use crate::aggregate::Context;
use crate::catalog::{Catalog, names};
use crate::ids::{LimitId, ServiceId};
use crate::rejection::{Rejection, Violations};
use crate::value::{Offer, Version};

pub(super) fn decide(state: &PlanState, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    let offer = &command.offer;
    let catalog = &context.world.catalog.1;
    let Some(plan) = &state.0 else {
        return match &command.action {
            Action::Create(document) => {
                check(document, Kind::of(offer), catalog, &[], "document").into_result()?;
                Ok(vec![Event::Created(document.clone())])
            }
            _ => Err(Rejection::not_found(
                reason(offer, "PLAN_NOT_FOUND", "ADD_ON_NOT_FOUND"),
                format!("{} does not exist", name(offer)),
            )),
        };
    };
    match &command.action {
        Action::Create(_) => Err(exists(plan, offer)),
        Action::Update(document) => update(plan, document, offer, catalog),
        Action::Publish => publish(plan, offer, catalog),
        Action::Archive if plan.archived => Ok(Vec::new()),
        Action::Archive => Ok(vec![Event::Archived]),
        Action::Delete => delete(plan, offer),
    }
}

fn exists(plan: &Plan, offer: &Offer) -> Rejection {
    let standing = if plan.archived { " and is archived" } else { "" };
    Rejection::exists(reason(offer, "PLAN_EXISTS", "ADD_ON_EXISTS"), format!("{} exists already{standing}", name(offer)))
}

fn update(plan: &Plan, document: &Document, offer: &Offer, catalog: &Catalog) -> Result<Vec<Event>, Rejection> {
    if plan.draft == *document {
        return Ok(Vec::new());
    }
    if plan.archived {
        return Err(archived(offer));
    }
    let kept: Vec<&Document> = newest(plan).into_iter().chain([&plan.draft]).collect();
    check(document, Kind::of(offer), catalog, &kept, "document").into_result()?;
    Ok(vec![Event::DraftUpdated(document.clone())])
}

fn publish(plan: &Plan, offer: &Offer, catalog: &Catalog) -> Result<Vec<Event>, Rejection> {
    if plan.archived {
        return Err(archived(offer));
    }
    let kept = newest(plan);
    if kept == Some(&plan.draft) {
        return Err(Rejection::precondition(
            "DRAFT_UNCHANGED",
            format!("the draft of {} equals its newest version; change it before publishing", name(offer)),
        ));
    }
    let violations = check(&plan.draft, Kind::of(offer), catalog, kept.as_slice(), "draft").into_vec();
    if !violations.is_empty() {
        let problems: Vec<&str> = violations.iter().map(|v| v.description.as_str()).collect();
        let message = format!("the draft of {} cannot be published: {}", name(offer), problems.join("; "));
        return Err(Rejection { violations, ..Rejection::precondition("DRAFT_INVALID", message) });
    }
    let version = match plan.latest() {
        None => Some(Version::MIN),
        Some(latest) => latest.checked_add(1).filter(|next| next.get() <= VERSIONS_MAX),
    };
    version.map(|version| vec![Event::Published { version }]).ok_or_else(|| too_many_versions(plan, offer))
}

fn too_many_versions(plan: &Plan, offer: &Offer) -> Rejection {
    let (name, count) = (name(offer), plan.versions.len());
    let message = format!("{name} has {count} published versions; allowed are at most {VERSIONS_MAX}: go on with another one");
    Rejection::precondition("TOO_MANY_VERSIONS", message)
}

fn delete(plan: &Plan, offer: &Offer) -> Result<Vec<Event>, Rejection> {
    match plan.latest() {
        None => Ok(vec![Event::Deleted]),
        Some(latest) => Err(Rejection::precondition(
            "ALREADY_PUBLISHED",
            format!("{} is published up to version {latest} and can only be archived", name(offer)),
        )),
    }
}

fn newest(plan: &Plan) -> Option<&Document> {
    plan.versions.last().map(|version| &*version.document)
}

/// What is wrong with `document`; what `kept` documents name is not held against it.
fn check(document: &Document, kind: Kind, catalog: &Catalog, kept: &[&Document], root: &str) -> Violations {
    let mut violations = Violations::default();
    check_trial(document, kind, root, &mut violations);
    let feature_count = document.feature_count();
    if feature_count > PLAN_FEATURES_MAX {
        violations.add(
            format!("{root}.services"),
            format!("{feature_count} features over all services; allowed are at most {PLAN_FEATURES_MAX}"),
        );
    }
    for (service, grant) in &document.services {
        check_grant(service, grant, catalog, kept, root, &mut violations);
    }
    for limit in document.limits.keys().filter(|limit| !keeps_limit(kept, limit)) {
        if let Some(problem) = names::limit_problem(catalog, limit) {
            violations.add(format!("{root}.limits[\"{limit}\"]"), problem);
        }
    }
    violations
}

fn check_trial(document: &Document, kind: Kind, root: &str, violations: &mut Violations) {
    let Some(trial) = document.trial else { return };
    if kind == Kind::AddOn {
        violations.add(format!("{root}.trial"), format!("a trial of {trial:?} on an add-on; allowed is none"));
    } else if trial.is_zero() || trial > TRIAL_MAX {
        violations.add(format!("{root}.trial"), format!("a trial of {trial:?}; allowed is more than 0 and at most 3653 days"));
    }
}

fn check_grant(
    service: &ServiceId,
    grant: &ServiceGrant,
    catalog: &Catalog,
    kept: &[&Document],
    root: &str,
    violations: &mut Violations,
) {
    let kept_grants: Vec<&ServiceGrant> =
        kept.iter().filter_map(|document| document.services.get(service)).map(AsRef::as_ref).collect();
    if kept_grants.is_empty()
        && let Some(problem) = names::service_problem(catalog, service)
    {
        // Its features would only repeat the same problem.
        violations.add(format!("{root}.services[\"{service}\"]"), problem);
        return;
    }
    let new: Vec<_> = grant.features.iter().filter(|f| !kept_grants.iter().any(|k| k.features.contains(*f))).collect();
    for (feature, problem) in names::feature_problems(catalog, service, new.into_iter()) {
        violations.add(format!("{root}.services[\"{service}\"].features[\"{feature}\"]"), problem);
    }
}

fn keeps_limit(kept: &[&Document], limit: &LimitId) -> bool {
    kept.iter().any(|document| document.limits.contains_key(limit))
}

fn archived(offer: &Offer) -> Rejection {
    Rejection::precondition(
        reason(offer, "PLAN_ARCHIVED", "ADD_ON_ARCHIVED"),
        format!("{} is archived and cannot change any more", name(offer)),
    )
}

fn reason(offer: &Offer, of_plan: &'static str, of_add_on: &'static str) -> &'static str {
    match offer {
        Offer::Plan(_) => of_plan,
        Offer::AddOn(_) => of_add_on,
    }
}

fn name(offer: &Offer) -> String {
    match offer {
        Offer::Plan(id) => format!("plan `{id}`"),
        Offer::AddOn(id) => format!("add-on `{id}`"),
    }
}
