//! Answers, in words of this crate. A decision denies unless it says otherwise: asking costs a method call, and
//! [`Decision::require`] stops whoever is not entitled.

use std::fmt;
use std::time::SystemTime;

use tessera_proto::v1;

use crate::freshness::{Revision, Staleness};

/// What a check is answered.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a decision that nobody looks at denies nothing"]
#[non_exhaustive]
pub struct Decision {
    /// Yes or no: the one field to decide by. See [`Decision::is_entitled`] and [`Decision::require`].
    pub entitled: bool,
    /// Why. Reasons may be added at any time: decide by `entitled` alone.
    pub reason: Reason,
    /// The plan in force, unless the tenant is unknown.
    pub plan: Option<PlanVersion>,
    /// How much of the service's UI is shown; zero when not entitled.
    pub familiarity: Familiarity,
    /// The limit that was asked about, if it is registered and the subscription was looked at.
    pub limit: Option<LimitState>,
    /// Until when time alone changes nothing in this answer; `None` is for ever. Changes of data can come at any time.
    pub valid_until: Option<SystemTime>,
    /// How new this answer is; empty in batches and checkers unless it was asked for.
    pub revision: Revision,
    /// How far the answer may lag behind.
    pub staleness: Staleness,
    /// The time the decision was made for.
    pub evaluated_at: Option<SystemTime>,
    /// The earliest instant at which a suspension takes effect that has not yet.
    pub grace_until: Option<SystemTime>,
    /// The facts behind the reason; absent in batches and checkers unless they were asked for.
    pub detail: Option<Detail>,
    /// The outcome of every step, by its name; only when `explain` was asked for.
    pub explanation: Vec<ExplainedStep>,
}

/// Who is not entitled, and why: the error of [`Decision::require`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("not entitled: {}", .0.reason)]
pub struct Denied(pub Box<Decision>);

/// A plan and its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlanVersion {
    /// Which plan.
    pub id: String,
    /// Which version of it, from 1.
    pub version: i32,
}

/// How much of a service's UI a tenant is shown, in basis points: 0, 5,000, 7,500, 8,750 or 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Familiarity {
    /// Hundredths of a percent.
    pub basis_points: i32,
}

/// What is known of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// Which limit.
    pub name: String,
    /// What the tenant has of it.
    pub allowance: Allowance,
    /// How much was used, as the caller said.
    pub used: i64,
    /// How much was left before the amount that was asked for; `None` when unlimited.
    pub remaining: Option<i64>,
}

/// How much a tenant has of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// At most that many.
    AtMost(i64),
    /// No bound.
    Unlimited,
}

/// Which facts stand behind a reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// The override that granted or denied.
    Override {
        /// The service it is on.
        service: String,
        /// The feature it is on; empty for the whole service.
        feature: String,
        /// When it ends; `None` when it lasts.
        until: Option<SystemTime>,
        /// Why it was set.
        reason: String,
    },
    /// The add-on that granted.
    AddOn(String),
    /// The suspension reasons in effect.
    Suspension(Vec<String>),
    /// The kill switch that is thrown.
    KillSwitch {
        /// The service it is on.
        service: String,
        /// The feature it is on; empty for the whole service.
        feature: String,
        /// Why it was thrown.
        reason: String,
    },
}

/// One line of an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStep {
    /// The name of the step, such as `STEP_KILL_SWITCH`; steps may be added at any time.
    pub step: String,
    /// What came of it.
    pub outcome: StepOutcome,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// Its condition held.
    Matched,
    /// Its condition did not hold.
    NotMatched,
    /// An earlier step had decided, or nothing was asked that it is about.
    NotReached,
}

/// Why a decision is as it is. Reasons may be added in any release: decide by [`Decision::is_entitled`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(i32);

/// The reasons of this release, by the names that servers give them.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $wire:ident;)+) => {
        impl Reason {
            $($(#[$doc])+ pub const $name: Self = Self(v1::Reason::$wire as i32);)+
        }
    };
}

reasons! {
    /// Denied: there is no such tenant.
    TENANT_UNKNOWN = TenantUnknown;
    /// Denied: the service is not registered.
    SERVICE_UNKNOWN = ServiceUnknown;
    /// Denied: the service has no such feature registered.
    FEATURE_UNKNOWN = FeatureUnknown;
    /// Denied: the kill switch of the service or the feature is thrown.
    DISABLED = Disabled;
    /// Denied: the tenant was deleted.
    TENANT_DELETED = TenantDeleted;
    /// Denied: the tenant is not activated yet.
    TENANT_PENDING = TenantPending;
    /// Denied: a suspension of the tenant is in effect.
    TENANT_SUSPENDED = TenantSuspended;
    /// Denied: the subscription has not started.
    NOT_STARTED = NotStarted;
    /// Denied: the subscription was cancelled.
    SUBSCRIPTION_ENDED = SubscriptionEnded;
    /// Denied: the trial ended without being converted.
    TRIAL_ENDED = TrialEnded;
    /// Denied: an override on the service or the feature denies it.
    DENIED_BY_OVERRIDE = DeniedByOverride;
    /// Entitled: an override grants it.
    GRANTED_BY_OVERRIDE = GrantedByOverride;
    /// Entitled: an add-on has it.
    GRANTED_BY_ADD_ON = GrantedByAddOn;
    /// Entitled: the plan version has it.
    GRANTED_BY_PLAN = GrantedByPlan;
    /// Denied: neither plan nor add-on has the service.
    SERVICE_NOT_IN_PLAN = ServiceNotInPlan;
    /// Denied: plan or add-on have the service, but none the feature.
    FEATURE_NOT_IN_PLAN = FeatureNotInPlan;
    /// Denied: the limit that was asked about is not registered.
    LIMIT_UNKNOWN = LimitUnknown;
    /// Denied: the amount does not fit under the limit.
    LIMIT_EXCEEDED = LimitExceeded;
}

// === impl Decision ===

impl Decision {
    /// Whether the tenant may.
    pub fn is_entitled(&self) -> bool {
        self.entitled
    }

    /// The decision if the tenant may, else an error to return with `?`.
    ///
    /// # Errors
    /// [`Denied`] with the decision.
    pub fn require(self) -> Result<Self, Denied> {
        if self.entitled { Ok(self) } else { Err(Denied(Box::new(self))) }
    }

    pub(crate) fn of_wire(answer: v1::CheckEntitlementResponse) -> Self {
        let plan = (!answer.plan_id.is_empty()).then_some(PlanVersion { id: answer.plan_id, version: answer.plan_version });
        Self {
            entitled: answer.entitled,
            reason: Reason(answer.reason),
            plan,
            familiarity: Familiarity { basis_points: answer.familiarity_basis_points },
            limit: answer.limit.and_then(LimitState::of_wire),
            valid_until: time(answer.valid_until),
            revision: Revision::from_bytes(answer.revision),
            staleness: Staleness::of_wire(answer.staleness_ms),
            evaluated_at: time(answer.evaluated_at),
            grace_until: time(answer.grace_until),
            detail: answer.reason_detail.and_then(Detail::of_wire),
            explanation: answer.explanation.into_iter().map(ExplainedStep::of_wire).collect(),
        }
    }
}

// === impl Reason ===

impl Reason {
    /// Its name, such as `GRANTED_BY_PLAN`; `UNKNOWN_REASON` for one that this release does not know.
    pub fn as_str(self) -> &'static str {
        v1::Reason::try_from(self.0).map_or("UNKNOWN_REASON", |reason| {
            let name = reason.as_str_name();
            name.strip_prefix("REASON_").unwrap_or(name)
        })
    }

    pub(crate) fn of_wire(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Familiarity ===

impl fmt::Display for Familiarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.basis_points) / 100.0)
    }
}

// === impl LimitState ===

impl LimitState {
    fn of_wire(state: v1::LimitState) -> Option<Self> {
        let allowance = match state.value? {
            v1::limit_state::Value::Maximum(maximum) => Allowance::AtMost(maximum),
            v1::limit_state::Value::Unlimited(_) => Allowance::Unlimited,
        };
        Some(Self { name: state.name, allowance, used: state.used, remaining: state.remaining })
    }
}

// === impl Detail ===

impl Detail {
    fn of_wire(detail: v1::ReasonDetail) -> Option<Self> {
        use v1::reason_detail::Detail as Wire;
        Some(match detail.detail? {
            Wire::Override(v1::OverrideDetail { service, feature, until, reason }) => {
                Self::Override { service, feature, until: time(until), reason }
            }
            Wire::AddOnId(id) => Self::AddOn(id),
            Wire::Suspension(v1::SuspensionDetail { reasons }) => Self::Suspension(reasons),
            Wire::KillSwitch(v1::KillSwitchDetail { service, feature, reason }) => Self::KillSwitch { service, feature, reason },
        })
    }
}

// === impl ExplainedStep ===

impl ExplainedStep {
    fn of_wire(step: v1::ExplainedStep) -> Self {
        let outcome = match step.outcome() {
            v1::StepOutcome::Matched => StepOutcome::Matched,
            v1::StepOutcome::NotMatched => StepOutcome::NotMatched,
            v1::StepOutcome::NotReached | v1::StepOutcome::Unspecified => StepOutcome::NotReached,
        };
        let name = v1::Step::try_from(step.step).map_or_else(|_| step.step.to_string(), |step| step.as_str_name().to_owned());
        Self { step: name, outcome }
    }
}

pub(crate) fn time(wire: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    wire.and_then(|time| SystemTime::try_from(time).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_denies() {
        let decision = Decision::of_wire(v1::CheckEntitlementResponse::default());
        assert!(!decision.is_entitled());
        assert_eq!(decision.staleness, Staleness::Unknown);
        assert!(decision.require().unwrap_err().to_string().starts_with("not entitled: "));
    }

    #[test]
    fn every_reason_has_its_name_and_new_ones_are_no_trouble() {
        assert_eq!(Reason::GRANTED_BY_PLAN.to_string(), "GRANTED_BY_PLAN");
        assert_eq!(Reason::LIMIT_EXCEEDED.to_string(), "LIMIT_EXCEEDED");
        assert_eq!(Reason(9_999).to_string(), "UNKNOWN_REASON");
        assert_eq!(Familiarity { basis_points: 8_750 }.to_string(), "87.5%");
    }
}
