//! [`Verdict`]: an answer as indices, which costs nothing to make or to throw away, and what the edges read out of it.

use super::catalog_table::{FeatureOrdinal, LimitOrdinal, ServiceOrdinal};
use super::row::{FollowedOffer, TenantRow};
use super::standing::{Standing, earlier};
use super::steps::{Outcome, Source};
use super::tables::Tables;
use crate::decision::{Decision, Detail, LimitState, Reason, Step, StepOutcome};
use crate::ids::{LimitId, PlanId};
use crate::time::Timestamp;
use crate::value::{Amount, Familiarity, LimitValue, Target, Version};

/// An answer. To be read with the tables and the row that it was made from, at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// The step that decided about access.
    step: Step,
    pub(super) reason: Reason,
    plan: Option<(FollowedOffer, Version)>,
    pub(super) service: Option<ServiceOrdinal>,
    pub(super) feature: Option<FeatureOrdinal>,
    source: Source,
    pub(super) familiarity: Option<Familiarity>,
    pub(super) limit: Option<LimitVerdict>,
    pub(super) limit_step: StepOutcome,
    valid_until: Option<Timestamp>,
    grace_until: Option<Timestamp>,
}

/// What is known of the limit that was asked about.
#[derive(Debug, Clone, Copy)]
pub struct LimitVerdict {
    pub(super) ordinal: LimitOrdinal,
    /// What the tenant has of it.
    pub value: LimitValue,
    /// As the caller reported.
    pub used: Amount,
}

impl LimitVerdict {
    /// `max(0, maximum - used)`, before the amount asked for; `None` when unlimited.
    pub fn remaining(&self) -> Option<Amount> {
        match self.value {
            LimitValue::Unlimited => None,
            LimitValue::Maximum(maximum) => {
                // Two counts from 0 on: their difference never overflows. Below 0 it must not reach `new`, whose error allocates.
                let left = maximum.get().saturating_sub(self.used.get()).max(0);
                Some(Amount::new(left).unwrap_or(Amount::ZERO))
            }
        }
    }

    /// Which limit.
    pub fn name<'t>(&self, tables: &'t Tables) -> Option<&'t LimitId> {
        tables.catalog().limit(self.ordinal)
    }

    pub(super) fn exceeded_by(&self, amount: Amount) -> bool {
        match self.value {
            LimitValue::Unlimited => false,
            LimitValue::Maximum(maximum) => amount.get() > maximum.get().saturating_sub(self.used.get()),
        }
    }
}

// === making ===

impl Verdict {
    /// There is no such tenant; nothing else is known.
    pub(super) fn unknown_tenant() -> Self {
        Self {
            step: Step::TenantUnknown,
            reason: Reason::TenantUnknown,
            plan: None,
            service: None,
            feature: None,
            source: Source::Nothing,
            familiarity: None,
            limit: None,
            limit_step: StepOutcome::NotReached,
            valid_until: None,
            grace_until: None,
        }
    }

    /// The tenant is known; what is asked has not been looked at.
    pub(super) fn before_step_two(standing: &Standing<'_>) -> Self {
        Self {
            plan: standing.version.map(|(number, _)| (standing.plan, number)),
            valid_until: standing.edge,
            grace_until: standing.grace_until,
            ..Self::unknown_tenant()
        }
    }

    pub(super) fn denied(self, step: Step, reason: Reason) -> Self {
        Self { step, reason, ..self }
    }

    pub(super) fn take_access(&mut self, outcome: &Outcome) {
        self.step = outcome.step;
        self.reason = outcome.reason;
        self.source = outcome.source;
        self.valid_until = earlier(self.valid_until, outcome.edge);
    }

    pub(super) fn take_limit(&mut self, limit: LimitVerdict, edge: Option<Timestamp>) {
        self.limit = Some(limit);
        self.valid_until = earlier(self.valid_until, edge);
    }
}

// === reading ===

impl Verdict {
    /// Yes or no; the one thing to decide by.
    pub fn entitled(&self) -> bool {
        self.reason.entitles()
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Plan and version in force; `None` when the tenant is unknown.
    pub fn plan<'t>(&self, tables: &'t Tables) -> Option<(&'t PlanId, Version)> {
        let (followed, number) = self.plan?;
        Some((&tables.plan_table().get(followed.index)?.id, number))
    }

    /// How much of the service's UI is shown; `None` when not entitled.
    pub fn familiarity(&self) -> Option<Familiarity> {
        self.familiarity
    }

    /// [`Self::familiarity`] in basis points; 0 when not entitled.
    pub fn familiarity_basis_points(&self) -> u16 {
        self.familiarity.map_or(0, Familiarity::basis_points)
    }

    /// The limit that was asked about: there whenever it is registered and step 5 (the subscription) was reached.
    pub fn limit(&self) -> Option<LimitVerdict> {
        self.limit
    }

    /// Not later than the first instant at which time alone would change another field; `None`: time changes nothing.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// The earliest instant at which a suspension takes effect that has not yet.
    pub fn grace_until(&self) -> Option<Timestamp> {
        self.grace_until
    }

    /// The outcome of every step of [`Step::ALL`], in that order.
    pub fn explanation(&self) -> [StepOutcome; Step::ALL.len()] {
        Step::ALL.map(|step| match step {
            Step::Limit => self.limit_step,
            _ if step < self.step => StepOutcome::NotMatched,
            _ if step == self.step => StepOutcome::Matched,
            _ => StepOutcome::NotReached,
        })
    }

    /// The facts behind the reason, where there are some to name. Allocates; for who asks for details.
    pub fn detail(&self, tables: &Tables, row: Option<&TenantRow>, now: Timestamp) -> Option<Detail> {
        match self.reason {
            Reason::Disabled => self.kill_switch(tables),
            Reason::TenantSuspended => {
                let suspensions = &row?.extras()?.suspensions;
                let in_effect = suspensions.iter().filter(|(_, at)| *at <= now).map(|(reason, _)| reason.clone());
                Some(Detail::Suspensions(in_effect.collect()))
            }
            Reason::DeniedByOverride | Reason::GrantedByOverride => {
                let Source::Override(rank) = self.source else { return None };
                let access = row?.extras()?.access.iter().find(|access| access.rank == rank)?;
                let target = target(tables, access.service, access.feature)?;
                Some(Detail::Override { target, until: access.until, reason: access.reason.clone() })
            }
            Reason::GrantedByAddOn => {
                let Source::AddOn(index) = self.source else { return None };
                Some(Detail::AddOn(tables.add_on_table().get(index)?.id.clone()))
            }
            _ => None,
        }
    }

    fn kill_switch(&self, tables: &Tables) -> Option<Detail> {
        let service = self.service?;
        if let Some(reason) = &tables.catalog().service(service)?.disabled {
            return Some(Detail::KillSwitch { target: target(tables, service, None)?, reason: reason.clone() });
        }
        let reason = tables.catalog().feature(self.feature?)?.disabled.clone()?;
        Some(Detail::KillSwitch { target: target(tables, service, self.feature)?, reason })
    }

    /// The whole answer, owned, with detail and explanation. `tables`, `row` and `now` are those of [`super::evaluate`].
    pub fn decision(&self, tables: &Tables, row: Option<&TenantRow>, now: Timestamp) -> Decision {
        let limit_state = |limit: LimitVerdict| {
            let name = limit.name(tables)?.clone();
            Some(LimitState { name, value: limit.value, used: limit.used, remaining: limit.remaining() })
        };
        Decision {
            entitled: self.entitled(),
            reason: self.reason,
            plan: self.plan(tables).map(|(id, number)| (id.clone(), number)),
            familiarity: self.familiarity,
            limit: self.limit.and_then(limit_state),
            valid_until: self.valid_until,
            grace_until: self.grace_until,
            detail: self.detail(tables, row, now),
            explanation: self.explanation(),
        }
    }
}

fn target(tables: &Tables, service: ServiceOrdinal, feature: Option<FeatureOrdinal>) -> Option<Target> {
    let catalog = tables.catalog();
    let service = catalog.service(service)?.id.clone();
    let feature = match feature {
        Some(ordinal) => Some(catalog.feature(ordinal)?.id.clone()),
        None => None,
    };
    Some(Target { service, feature })
}
