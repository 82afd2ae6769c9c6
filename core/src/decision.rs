//! What a check asks and what it is answered: the words both evaluators share (and they share nothing else).

mod tag;

use std::collections::BTreeMap;

use crate::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId};
use crate::time::Timestamp;
use crate::value::{self, Amount, Familiarity, LimitValue, Target, Version};

/// One question about one tenant, borrowed from the request. The ids need not exist; whether they follow the grammar is checked
/// at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// Which service.
    pub service: &'a str,
    /// Which feature; empty asks for the service itself.
    pub feature: &'a str,
    /// How much of a limit, too.
    pub limit: Option<LimitQuery<'a>>,
}

/// How much of a limit is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitQuery<'a> {
    /// Which limit.
    pub name: &'a str,
    /// How much more; 0 asks "am I over?".
    pub amount: Amount,
    /// How much is used already, as the caller reports it.
    pub used: Amount,
}

/// Why a decision is as it is. Reasons may be added; callers decide by `entitled` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the documentation: section 6 of the design lists them in order")]
pub enum Reason {
    TenantUnknown,
    ServiceUnknown,
    FeatureUnknown,
    Disabled,
    TenantDeleted,
    TenantPending,
    TenantSuspended,
    NotStarted,
    SubscriptionEnded,
    TrialEnded,
    DeniedByOverride,
    GrantedByOverride,
    GrantedByAddOn,
    GrantedByPlan,
    ServiceNotInPlan,
    FeatureNotInPlan,
    LimitUnknown,
    LimitExceeded,
}

impl Reason {
    /// All of them, in the order of the steps.
    pub const ALL: [Self; 18] = [
        Self::TenantUnknown,
        Self::ServiceUnknown,
        Self::FeatureUnknown,
        Self::Disabled,
        Self::TenantDeleted,
        Self::TenantPending,
        Self::TenantSuspended,
        Self::NotStarted,
        Self::SubscriptionEnded,
        Self::TrialEnded,
        Self::DeniedByOverride,
        Self::GrantedByOverride,
        Self::GrantedByAddOn,
        Self::GrantedByPlan,
        Self::ServiceNotInPlan,
        Self::FeatureNotInPlan,
        Self::LimitUnknown,
        Self::LimitExceeded,
    ];

    /// Whether a decision for this reason is an entitled one.
    pub fn entitles(self) -> bool {
        matches!(self, Self::GrantedByOverride | Self::GrantedByAddOn | Self::GrantedByPlan)
    }
}

/// The steps of a decision, in order; the first that matches decides, except that [`Step::Limit`] follows a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// There is no such tenant.
    TenantUnknown,
    /// Service or feature are not registered.
    NotRegistered,
    /// A kill switch is thrown.
    KillSwitch,
    /// The tenant is deleted, pending or suspended.
    TenantStatus,
    /// The subscription is not running.
    Subscription,
    /// A live deny override.
    DenyOverride,
    /// A live grant override.
    GrantOverride,
    /// An add-on has it.
    AddOn,
    /// The plan version has it.
    Plan,
    /// Nothing has it.
    NotGranted,
    /// The limit that was asked about is unknown or exceeded.
    Limit,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::TenantUnknown,
        Self::NotRegistered,
        Self::KillSwitch,
        Self::TenantStatus,
        Self::Subscription,
        Self::DenyOverride,
        Self::GrantOverride,
        Self::AddOn,
        Self::Plan,
        Self::NotGranted,
        Self::Limit,
    ];
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepOutcome {
    /// Its condition held.
    Matched,
    /// Its condition did not hold.
    NotMatched,
    /// An earlier step had decided, or nothing was asked that it is about.
    NotReached,
}

/// What is known of the limit that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// Which limit.
    pub name: LimitId,
    /// What the tenant has of it.
    pub value: LimitValue,
    /// As the caller reported.
    pub used: Amount,
    /// `max(0, maximum - used)`, before the amount asked for; `None` when unlimited.
    pub remaining: Option<Amount>,
}

/// Which facts stand behind a reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// The override that granted or denied.
    Override {
        /// What it is on (a feature, or the service).
        target: Target,
        /// When it ends.
        until: Option<Timestamp>,
        /// Why it was set.
        reason: value::Reason,
    },
    /// The add-on that granted: the first by id.
    AddOn(AddOnId),
    /// The suspension reasons in effect, in order.
    Suspensions(Vec<value::Reason>),
    /// The kill switch that is thrown, with its reason (the service's before the feature's).
    KillSwitch {
        /// What it is on.
        target: Target,
        /// Why it was thrown.
        reason: value::Reason,
    },
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no; the one field to decide by.
    pub entitled: bool,
    /// Why.
    pub reason: Reason,
    /// Plan and version in force at the time; `None` when the tenant is unknown.
    pub plan: Option<(PlanId, Version)>,
    /// How much of the service's UI is shown; `None` when not entitled.
    pub familiarity: Option<Familiarity>,
    /// The limit that was asked about: filled whenever it is registered and step 5 (the subscription) was reached.
    pub limit: Option<LimitState>,
    /// Not later than the first instant at which time alone would change another field; `None`: time changes nothing.
    pub valid_until: Option<Timestamp>,
    /// The earliest instant at which a suspension takes effect that has not yet; `None` without one.
    pub grace_until: Option<Timestamp>,
    /// The facts behind the reason, where there are some to name.
    pub detail: Option<Detail>,
    /// The outcome of every step of [`Step::ALL`], in that order.
    pub explanation: [StepOutcome; Step::ALL.len()],
}

/// Everything a tenant may use at one time: what checks would say, for every registered service, feature and limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveDocument {
    /// Plan and version in force.
    pub plan: (PlanId, Version),
    /// What the tenant is: decides whether anything is entitled.
    pub status: TenantStatus,
    /// The earliest instant at which a suspension takes effect that has not yet.
    pub grace_until: Option<Timestamp>,
    /// Start, trial end, cancellation as they stand.
    pub starts: Option<Timestamp>,
    /// End of a trial that has not been converted.
    pub trial_until: Option<Timestamp>,
    /// When the subscription ends.
    pub cancel_at: Option<Timestamp>,
    /// The next scheduled plan change, if any: when, to which plan.
    pub next_change: Option<(Timestamp, PlanId)>,
    /// Services by id.
    pub services: BTreeMap<ServiceId, ServiceEntitlement>,
    /// Limits by id, with what the tenant has of each.
    pub limits: BTreeMap<LimitId, LimitValue>,
    /// The next instant at which time alone changes the document.
    pub valid_until: Option<Timestamp>,
}

/// A service in an [`EffectiveDocument`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntitlement {
    /// What a check of the service itself says.
    pub entitled: bool,
    /// Why.
    pub reason: Reason,
    /// How much of its UI is shown; `None` when not entitled.
    pub familiarity: Option<Familiarity>,
    /// The add-on that grants it, where the reason is one.
    pub add_on: Option<AddOnId>,
    /// Its features by id.
    pub features: BTreeMap<FeatureId, FeatureEntitlement>,
}

/// A feature in an [`EffectiveDocument`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureEntitlement {
    /// What a check of the feature says.
    pub entitled: bool,
    /// Why.
    pub reason: Reason,
    /// The add-on that grants it, where the reason is one.
    pub add_on: Option<AddOnId>,
}

/// What a tenant is at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TenantStatus {
    /// Served (also in grace).
    Active,
    /// Created, not yet activated.
    Pending,
    /// A suspension is in effect.
    Suspended,
    /// Deleted for ever.
    Deleted,
}
