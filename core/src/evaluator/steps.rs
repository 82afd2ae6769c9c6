//! Steps 3 to 10 for one registered service or feature, and what a tenant has of limits and familiarity.

use super::catalog_table::{FeatureOrdinal, LimitOrdinal, ServiceOrdinal};
use super::offer_table::{OfferIndex, VersionTable};
use super::row::AccessRow;
use super::standing::{Standing, earlier};
use crate::decision::{Reason, Step};
use crate::tenant::Effect;
use crate::time::Timestamp;
use crate::value::{Amount, Familiarity, LimitValue};

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Nothing that has a name of its own.
    Nothing,
    /// The access override of that rank.
    Override(u32),
    /// That add-on.
    AddOn(OfferIndex),
}

/// What came of steps 3 to 10.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) step: Step,
    pub(super) reason: Reason,
    pub(super) source: Source,
    /// The next end of an override that this rests on; the edges of the standing come on top.
    pub(super) edge: Option<Timestamp>,
}

impl Outcome {
    fn of(step: Step, reason: Reason) -> Self {
        Self { step, reason, source: Source::Nothing, edge: None }
    }
}

/// Whether the tenant may use `service` (or `feature` of it) apart from limits.
pub(super) fn access(standing: &Standing<'_>, service: ServiceOrdinal, feature: Option<FeatureOrdinal>) -> Outcome {
    let catalog = standing.tables.catalog();
    let thrown = catalog.service(service).is_some_and(|service| service.disabled.is_some())
        || feature.and_then(|feature| catalog.feature(feature)).is_some_and(|feature| feature.disabled.is_some());
    if thrown {
        return Outcome::of(Step::KillSwitch, Reason::Disabled);
    }
    if let Some((step, reason)) = standing.gate {
        return Outcome::of(step, reason);
    }
    let overrides = Overrides::that_concern(standing, service, feature);
    let mut outcome = match overrides {
        Overrides { deny: Some(row), .. } => from_override(Step::DenyOverride, Reason::DeniedByOverride, row),
        Overrides { grant: Some(row), .. } => from_override(Step::GrantOverride, Reason::GrantedByOverride, row),
        Overrides { .. } => from_offers(standing, service, feature),
    };
    outcome.edge = overrides.edge;
    outcome
}

/// The live overrides that steps 6 and 7 look at.
#[derive(Debug, Default)]
struct Overrides<'t> {
    deny: Option<&'t AccessRow>,
    grant: Option<&'t AccessRow>,
    edge: Option<Timestamp>,
}

impl<'t> Overrides<'t> {
    fn that_concern(standing: &Standing<'t>, service: ServiceOrdinal, feature: Option<FeatureOrdinal>) -> Self {
        let mut found = Self::default();
        if standing.extras.is_none() {
            return found;
        }
        for row in standing.overrides_of(service) {
            let concerns = match (row.effect, feature) {
                // A deny on the service denies its features too.
                (Effect::Deny, _) => row.feature.is_none() || row.feature == feature,
                // A granted feature is not shut out at its service's door.
                (Effect::Grant, None) => true,
                // A grant on the service does not grant its features.
                (Effect::Grant, Some(_)) => row.feature == feature,
            };
            if !concerns || row.until.is_some_and(|until| until <= standing.now) {
                continue;
            }
            found.edge = earlier(found.edge, row.until);
            let slot = match row.effect {
                Effect::Deny => &mut found.deny,
                Effect::Grant => &mut found.grant,
            };
            if slot.is_none_or(|other| row.rank < other.rank) {
                *slot = Some(row);
            }
        }
        found
    }
}

fn from_override(step: Step, reason: Reason, row: &AccessRow) -> Outcome {
    Outcome { source: Source::Override(row.rank), ..Outcome::of(step, reason) }
}

fn from_offers(standing: &Standing<'_>, service: ServiceOrdinal, feature: Option<FeatureOrdinal>) -> Outcome {
    let has = |version: &VersionTable| match feature {
        Some(feature) => version.has_feature(feature),
        None => version.has_service(service),
    };
    let plan = standing.version.map(|(_, version)| version);
    let mut service_listed = plan.is_some_and(|plan| plan.has_service(service));
    for (row, version) in standing.add_ons() {
        if has(version) {
            let source = Source::AddOn(row.add_on.index);
            return Outcome { source, ..Outcome::of(Step::AddOn, Reason::GrantedByAddOn) };
        }
        service_listed |= version.has_service(service);
    }
    if plan.is_some_and(has) {
        return Outcome::of(Step::Plan, Reason::GrantedByPlan);
    }
    let reason = if service_listed { Reason::FeatureNotInPlan } else { Reason::ServiceNotInPlan };
    Outcome::of(Step::NotGranted, reason)
}

/// What the tenant has of a limit, and when an override on it ends.
pub(super) fn limit_value(standing: &Standing<'_>, limit: LimitOrdinal) -> (LimitValue, Option<Timestamp>) {
    if let Some(extras) = standing.extras {
        let found = extras.limits.binary_search_by_key(&limit, |row| row.limit).ok();
        let live = |until: Option<Timestamp>| until.is_none_or(|until| until > standing.now);
        if let Some(row) = found.and_then(|at| extras.limits.get(at)).filter(|row| live(row.until)) {
            return (row.value, row.until);
        }
    }
    let mut sum = 0_i64;
    let plan = standing.version.and_then(|(_, version)| version.limit(limit)).map(|value| (value, 1));
    let add_ons = standing.add_ons().filter_map(|(row, version)| Some((version.limit(limit)?, row.quantity)));
    for (value, times) in plan.into_iter().chain(add_ons) {
        match value {
            LimitValue::Unlimited => return (LimitValue::Unlimited, None),
            LimitValue::Maximum(amount) => sum = sum.saturating_add(amount.get().saturating_mul(i64::from(times))),
        }
    }
    // A sum of amounts is never negative.
    (LimitValue::Maximum(Amount::new(sum).unwrap_or(Amount::ZERO)), None)
}

/// How much of an entitled service's UI is shown.
pub(super) fn familiarity(standing: &Standing<'_>, service: ServiceOrdinal) -> Familiarity {
    if let Some(extras) = standing.extras {
        let own = extras.familiarity.binary_search_by_key(&service, |(service, _)| *service).ok();
        if let Some((_, own)) = own.and_then(|at| extras.familiarity.get(at)) {
            return *own;
        }
    }
    let plan = standing.version.and_then(|(_, version)| version.familiarity(service));
    let add_ons = standing.add_ons().filter_map(|(_, version)| version.familiarity(service));
    plan.into_iter().chain(add_ons).max().unwrap_or_default()
}
