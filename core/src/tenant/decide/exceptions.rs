//! Exceptions of one tenant: overrides of access and limits, and its own familiarity.

use crate::aggregate::Context;
use crate::catalog::{Catalog, names};
use crate::ids::{LimitId, ServiceId};
use crate::rejection::{Rejection, Violations};
use crate::tenant::document::is_live;
use crate::tenant::{AccessOverride, Event, LimitOverride, OVERRIDES_MAX, Tenant};
use crate::time::Timestamp;
use crate::value::{Familiarity, OverrideTarget, Target};

pub(super) fn override_access(
    tenant: &Tenant,
    target: &Target,
    access: &AccessOverride,
    context: &Context<'_>,
) -> Result<Vec<Event>, Rejection> {
    let known = tenant.overrides.access.get(target);
    if known == Some(access) {
        return Ok(Vec::new());
    }
    let mut violations = Violations::default();
    check_until(access.until, context.now, &mut violations);
    Names::of(tenant, context).check_target(target, access.until, "override", &mut violations);
    violations.into_result()?;
    check_room(tenant, known.is_some())?;
    Ok(vec![Event::AccessOverridden(target.clone(), access.clone())])
}

pub(super) fn override_limit(
    tenant: &Tenant,
    limit: &LimitId,
    value: &LimitOverride,
    context: &Context<'_>,
) -> Result<Vec<Event>, Rejection> {
    let known = tenant.overrides.limits.get(limit);
    if known == Some(value) {
        return Ok(Vec::new());
    }
    let mut violations = Violations::default();
    check_until(value.until, context.now, &mut violations);
    Names::of(tenant, context).check_limit(limit, value.until, "override", &mut violations);
    violations.into_result()?;
    check_room(tenant, known.is_some())?;
    Ok(vec![Event::LimitOverridden(limit.clone(), value.clone())])
}

pub(super) fn remove_access(tenant: &Tenant, target: &Target) -> Result<Vec<Event>, Rejection> {
    if !tenant.overrides.access.contains_key(target) {
        return Err(override_not_found(&format!("`{target}`")));
    }
    Ok(vec![Event::OverrideRemoved(OverrideTarget::Access(target.clone()))])
}

pub(super) fn remove_limit(tenant: &Tenant, limit: &LimitId) -> Result<Vec<Event>, Rejection> {
    if !tenant.overrides.limits.contains_key(limit) {
        return Err(override_not_found(&format!("limit `{limit}`")));
    }
    Ok(vec![Event::OverrideRemoved(OverrideTarget::Limit(limit.clone()))])
}

pub(super) fn set_familiarity(
    tenant: &Tenant,
    service: &ServiceId,
    value: Option<Familiarity>,
    context: &Context<'_>,
) -> Result<Vec<Event>, Rejection> {
    if tenant.familiarity.get(service).copied() == value {
        return Ok(Vec::new());
    }
    if value.is_some() {
        let mut violations = Violations::default();
        Names::of(tenant, context).check_familiarity(service, "service", &mut violations);
        violations.into_result()?;
    }
    Ok(vec![Event::FamiliaritySet(service.clone(), value)])
}

/// What a tenant may name: what the catalog lets new documents name, and what the tenant names already.
pub(super) struct Names<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) kept: Option<&'a Tenant>,
    pub(super) now: Timestamp,
}

impl<'a> Names<'a> {
    fn of(tenant: &'a Tenant, context: &Context<'a>) -> Self {
        Self { catalog: &context.world.catalog.1, kept: Some(tenant), now: context.now }
    }

    /// Adds what is wrong with an override on `target`; `field` is where the override stands.
    pub(super) fn check_target(&self, target: &Target, until: Option<Timestamp>, field: &str, violations: &mut Violations) {
        if self.kept.is_some_and(|tenant| tenant.overrides.access.contains_key(target)) {
            return;
        }
        let service = &target.service;
        let (part, problem) = match &target.feature {
            None => ("service", names::service_problem(self.catalog, service)),
            Some(feature) => {
                let part = if self.catalog.service(service).is_some() { "feature" } else { "service" };
                let problems = names::feature_problems(self.catalog, service, std::iter::once(feature));
                (part, problems.into_iter().next().map(|(_, problem)| problem))
            }
        };
        let registered = match &target.feature {
            None => self.catalog.service(service).is_some(),
            Some(feature) => self.catalog.feature(service, feature).is_some(),
        };
        self.add(problem, registered, until, || format!("{field}.target.{part}"), violations);
    }

    /// Adds what is wrong with an override on `limit`; `field` is where the override stands.
    pub(super) fn check_limit(&self, limit: &LimitId, until: Option<Timestamp>, field: &str, violations: &mut Violations) {
        if self.kept.is_some_and(|tenant| tenant.overrides.limits.contains_key(limit)) {
            return;
        }
        let problem = names::limit_problem(self.catalog, limit);
        let registered = self.catalog.limit(limit).is_some();
        self.add(problem, registered, until, || format!("{field}.target.limit"), violations);
    }

    /// Adds what is wrong with a familiarity of `service`, stated at `field`.
    pub(super) fn check_familiarity(&self, service: &ServiceId, field: &str, violations: &mut Violations) {
        if self.kept.is_some_and(|tenant| tenant.familiarity.contains_key(service)) {
            return;
        }
        if let Some(problem) = names::service_problem(self.catalog, service) {
            violations.add(field, problem);
        }
    }

    fn add(
        &self,
        problem: Option<String>,
        registered: bool,
        until: Option<Timestamp>,
        field: impl FnOnce() -> String,
        violations: &mut Violations,
    ) {
        // An expired override is as if absent: it is the past of a stated document, and only archived names are forgiven.
        let forgiven = registered && !is_live(until, self.now);
        if let Some(problem) = problem.filter(|_| !forgiven) {
            violations.add(field(), problem);
        }
    }
}

fn check_until(until: Option<Timestamp>, now: Timestamp, violations: &mut Violations) {
    if let Some(until) = until.filter(|until| *until <= now) {
        violations.add("override.until", format!("it ended {:?} ago; allowed are times to come", now.saturating_since(until)));
    }
}

fn check_room(tenant: &Tenant, replaces: bool) -> Result<(), Rejection> {
    let count = tenant.overrides.access.len().saturating_add(tenant.overrides.limits.len());
    if replaces || count < OVERRIDES_MAX {
        return Ok(());
    }
    Err(Rejection::precondition(
        "TOO_MANY_OVERRIDES",
        format!("the tenant has {count} overrides; allowed are at most {OVERRIDES_MAX}"),
    ))
}

fn override_not_found(on: &str) -> Rejection {
    Rejection::not_found("OVERRIDE_NOT_FOUND", format!("the tenant has no override on {on}"))
}
