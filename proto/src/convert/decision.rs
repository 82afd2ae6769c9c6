//! Questions from the API, decisions and documents to it.

use tessera_core::decision::{
    Decision, Detail, EffectiveDocument, LimitQuery, LimitState, Query, Reason, ServiceEntitlement, Step, StepOutcome,
};
use tessera_core::ids::{FeatureId, LimitId, ServiceId, TenantId};
use tessera_core::value::{Amount, LimitValue, Target};

use super::{Fields, offer, tenant, time};
use crate::status::Failure;
use crate::v1;

/// What a request asks, as it came, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked<'a> {
    /// About whom.
    pub tenant_id: &'a str,
    /// Of which service.
    pub service: &'a str,
    /// Of which of its features; empty: the service itself.
    pub feature: &'a str,
    /// How much of a limit.
    pub limit: Option<AskedLimit<'a>>,
}

/// How much of which limit is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AskedLimit<'a> {
    /// Which.
    pub name: &'a str,
    /// How much.
    pub amount: i64,
    /// How much is used already.
    pub used: Option<i64>,
}

impl<'a> From<&'a v1::CheckEntitlementRequest> for Asked<'a> {
    fn from(request: &'a v1::CheckEntitlementRequest) -> Self {
        let limit = |check: &'a v1::LimitCheck| AskedLimit { name: &check.name, amount: check.amount, used: check.used };
        Self {
            tenant_id: &request.tenant_id,
            service: &request.service,
            feature: &request.feature,
            limit: request.limit_check.as_ref().map(limit),
        }
    }
}

/// The question, once it is a good one. Allocates only to refuse.
pub fn query<'a>(asked: &Asked<'a>) -> Result<Query<'a>, Failure> {
    let query = query_by_names(asked)?;
    names(asked)?;
    Ok(query)
}

/// The question, whatever its names of tenant, service and feature look like. For whoever looks things up by them: what is found
/// has a good name, and of what is not found [`names`] says whether it could exist.
#[inline]
pub fn query_by_names<'a>(asked: &Asked<'a>) -> Result<Query<'a>, Failure> {
    let limit = match &asked.limit {
        None => None,
        Some(check) => {
            let amounts = Amount::new(check.amount).ok().zip(Amount::new(check.used.unwrap_or(0)).ok());
            match amounts {
                Some((amount, used)) if LimitId::check(check.name).is_ok() => Some(LimitQuery { name: check.name, amount, used }),
                _ => return Err(query_faults(asked)),
            }
        }
    };
    Ok(Query { service: asked.service, feature: asked.feature, limit })
}

/// Whether tenant, service and feature are named as such things can be.
pub fn names(asked: &Asked<'_>) -> Result<(), Failure> {
    let feature_is_good = asked.feature.is_empty() || FeatureId::check(asked.feature).is_ok();
    if TenantId::check(asked.tenant_id).is_err() || ServiceId::check(asked.service).is_err() || !feature_is_good {
        return Err(query_faults(asked));
    }
    Ok(())
}

#[cold]
fn query_faults(asked: &Asked<'_>) -> Failure {
    let mut fields = Fields::new();
    fields.check("tenant_id", TenantId::check(asked.tenant_id));
    fields.check("service", ServiceId::check(asked.service));
    if !asked.feature.is_empty() {
        fields.check("feature", FeatureId::check(asked.feature));
    }
    if let Some(check) = &asked.limit {
        fields.check("limit_check.name", LimitId::check(check.name));
        fields.check("limit_check.amount", Amount::new(check.amount));
        fields.check("limit_check.used", Amount::new(check.used.unwrap_or(0)));
    }
    match fields.finish(None::<()>) {
        Err(failure) => failure,
        Ok(()) => Failure::internal("a question was refused without a violation"),
    }
}

/// A reason to the API.
pub fn to_reason(reason: Reason) -> v1::Reason {
    match reason {
        Reason::TenantUnknown => v1::Reason::TenantUnknown,
        Reason::ServiceUnknown => v1::Reason::ServiceUnknown,
        Reason::FeatureUnknown => v1::Reason::FeatureUnknown,
        Reason::Disabled => v1::Reason::Disabled,
        Reason::TenantDeleted => v1::Reason::TenantDeleted,
        Reason::TenantPending => v1::Reason::TenantPending,
        Reason::TenantSuspended => v1::Reason::TenantSuspended,
        Reason::NotStarted => v1::Reason::NotStarted,
        Reason::SubscriptionEnded => v1::Reason::SubscriptionEnded,
        Reason::TrialEnded => v1::Reason::TrialEnded,
        Reason::DeniedByOverride => v1::Reason::DeniedByOverride,
        Reason::GrantedByOverride => v1::Reason::GrantedByOverride,
        Reason::GrantedByAddOn => v1::Reason::GrantedByAddOn,
        Reason::GrantedByPlan => v1::Reason::GrantedByPlan,
        Reason::ServiceNotInPlan => v1::Reason::ServiceNotInPlan,
        Reason::FeatureNotInPlan => v1::Reason::FeatureNotInPlan,
        Reason::LimitUnknown => v1::Reason::LimitUnknown,
        Reason::LimitExceeded => v1::Reason::LimitExceeded,
    }
}

/// A decision to the API, whole; revision, staleness and evaluation time are the server's to add.
pub fn to_response(decision: &Decision) -> v1::CheckEntitlementResponse {
    v1::CheckEntitlementResponse {
        entitled: decision.entitled,
        reason: to_reason(decision.reason) as i32,
        plan_id: decision.plan.as_ref().map(|(plan, _)| plan.to_string()).unwrap_or_default(),
        plan_version: decision.plan.as_ref().map_or(0, |(_, version)| offer::to_version(*version)),
        familiarity_basis_points: offer::to_familiarity(decision.familiarity),
        limit: decision.limit.as_ref().map(to_limit_state),
        valid_until: decision.valid_until.map(time::to_timestamp),
        grace_until: decision.grace_until.map(time::to_timestamp),
        reason_detail: decision.detail.as_ref().map(to_detail),
        explanation: to_explanation(&decision.explanation),
        ..v1::CheckEntitlementResponse::default()
    }
}

/// A limit's state to the API.
pub fn to_limit_state(limit: &LimitState) -> v1::LimitState {
    let value = match limit.value {
        LimitValue::Maximum(amount) => v1::limit_state::Value::Maximum(amount.get()),
        LimitValue::Unlimited => v1::limit_state::Value::Unlimited(true),
    };
    v1::LimitState {
        name: limit.name.to_string(),
        value: Some(value),
        used: limit.used.get(),
        remaining: limit.remaining.map(Amount::get),
    }
}

/// The outcome of every step to the API, in order.
pub fn to_explanation(outcomes: &[StepOutcome; Step::ALL.len()]) -> Vec<v1::ExplainedStep> {
    let line = |(step, outcome): (Step, StepOutcome)| v1::ExplainedStep {
        step: to_step(step) as i32,
        outcome: match outcome {
            StepOutcome::Matched => v1::StepOutcome::Matched,
            StepOutcome::NotMatched => v1::StepOutcome::NotMatched,
            StepOutcome::NotReached => v1::StepOutcome::NotReached,
        } as i32,
    };
    Step::ALL.into_iter().zip(*outcomes).map(line).collect()
}

fn to_step(step: Step) -> v1::Step {
    match step {
        Step::TenantUnknown => v1::Step::TenantUnknown,
        Step::NotRegistered => v1::Step::NotRegistered,
        Step::KillSwitch => v1::Step::KillSwitch,
        Step::TenantStatus => v1::Step::TenantStatus,
        Step::Subscription => v1::Step::Subscription,
        Step::DenyOverride => v1::Step::DenyOverride,
        Step::GrantOverride => v1::Step::GrantOverride,
        Step::AddOn => v1::Step::AddOn,
        Step::Plan => v1::Step::Plan,
        Step::NotGranted => v1::Step::NotGranted,
        Step::Limit => v1::Step::Limit,
    }
}

/// The facts behind a reason to the API.
pub fn to_detail(detail: &Detail) -> v1::ReasonDetail {
    use v1::reason_detail::Detail as Proto;
    let parts =
        |target: &Target| (target.service.to_string(), target.feature.as_ref().map(ToString::to_string).unwrap_or_default());
    let detail = match detail {
        Detail::Override { target, until, reason } => {
            let (service, feature) = parts(target);
            let until = until.map(time::to_timestamp);
            Proto::Override(v1::OverrideDetail { service, feature, until, reason: reason.to_string() })
        }
        Detail::AddOn(id) => Proto::AddOnId(id.to_string()),
        Detail::Suspensions(reasons) => {
            Proto::Suspension(v1::SuspensionDetail { reasons: reasons.iter().map(ToString::to_string).collect() })
        }
        Detail::KillSwitch { target, reason } => {
            let (service, feature) = parts(target);
            Proto::KillSwitch(v1::KillSwitchDetail { service, feature, reason: reason.to_string() })
        }
    };
    v1::ReasonDetail { detail: Some(detail) }
}

/// A document to the API; revision, staleness, evaluation time and tag are the caller's to add.
pub fn to_document(id: &str, document: &EffectiveDocument) -> v1::TenantEntitlements {
    v1::TenantEntitlements {
        tenant_id: id.to_owned(),
        plan_id: document.plan.0.to_string(),
        plan_version: offer::to_version(document.plan.1),
        status: tenant::to_status(document.status) as i32,
        services: document.services.iter().map(|(id, service)| to_service(id, service)).collect(),
        limits: document
            .limits
            .iter()
            .map(|(limit, value)| v1::LimitEntitlement {
                limit: limit.to_string(),
                value: Some(match value {
                    LimitValue::Maximum(amount) => v1::limit_entitlement::Value::Maximum(amount.get()),
                    LimitValue::Unlimited => v1::limit_entitlement::Value::Unlimited(true),
                }),
            })
            .collect(),
        starts: document.starts.map(time::to_timestamp),
        trial_until: document.trial_until.map(time::to_timestamp),
        cancel_at: document.cancel_at.map(time::to_timestamp),
        grace_until: document.grace_until.map(time::to_timestamp),
        next_change_at: document.next_change.as_ref().map(|(at, _)| time::to_timestamp(*at)),
        next_plan_id: document.next_change.as_ref().map(|(_, plan)| plan.to_string()).unwrap_or_default(),
        valid_until: document.valid_until.map(time::to_timestamp),
        ..v1::TenantEntitlements::default()
    }
}

fn to_service(id: &ServiceId, service: &ServiceEntitlement) -> v1::ServiceEntitlement {
    v1::ServiceEntitlement {
        service: id.to_string(),
        entitled: service.entitled,
        reason: to_reason(service.reason) as i32,
        familiarity_basis_points: offer::to_familiarity(service.familiarity),
        add_on_id: service.add_on.as_ref().map(ToString::to_string).unwrap_or_default(),
        features: service
            .features
            .iter()
            .map(|(id, feature)| v1::FeatureEntitlement {
                feature: id.to_string(),
                entitled: feature.entitled,
                reason: to_reason(feature.reason) as i32,
                add_on_id: feature.add_on.as_ref().map(ToString::to_string).unwrap_or_default(),
            })
            .collect(),
    }
}
