//! Tenants: what a customer has bought, what was made an exception for it, whether it may be served at all.
//!
//! This file has the words; `tenant/decide.rs` (with a file per topic), `tenant/evolve.rs`, `tenant/document.rs` and
//! [`schedule`] have the rules.

mod decide;
mod document;
mod evolve;
pub mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::aggregate::{Aggregate, Context, Recorded, References, Settled};
use crate::decision::TenantStatus;
use crate::ids::{AddOnId, LimitId, PlanId, ServiceId, TenantId};
use crate::rejection::Rejection;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::value::{
    Familiarity, LabelKey, LabelValue, LimitValue, OverrideTarget, Quantity, Reason, Target, Title, VersionChoice,
};

/// Most overrides of one tenant, of access and limits together.
pub const OVERRIDES_MAX: usize = 500;
/// Most add-ons of one tenant.
pub const ADD_ONS_MAX: usize = 64;
/// Most scheduled changes of one tenant.
pub const SCHEDULED_MAX: usize = 64;
/// Most suspension reasons of one tenant at a time.
pub const SUSPENSIONS_MAX: usize = 32;

/// A plan and which version of it is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanChoice {
    /// Which plan.
    pub plan: PlanId,
    /// Which version of it.
    pub version: VersionChoice,
}

/// Names a scheduled change within its tenant; counts from 1 and is never used again.
pub type ChangeId = u32;
/// Greatest change id, so that it fits a signed 32-bit number everywhere.
pub const CHANGE_ID_MAX: ChangeId = 0x7fff_ffff;

/// A plan change that takes effect at its instant, by the reader's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledChange {
    /// Its name.
    pub id: ChangeId,
    /// When it takes effect.
    pub at: Timestamp,
    /// What the subscription then follows.
    pub choice: PlanChoice,
}

/// What a tenant has bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The plan it is on.
    pub choice: PlanChoice,
    /// Not running before; `None` runs from the beginning.
    pub starts: Option<Timestamp>,
    /// End of a trial that has not been converted.
    pub trial_until: Option<Timestamp>,
    /// Ended from then on; may precede `starts`.
    pub cancel_at: Option<Timestamp>,
    /// Pending plan changes, in order of time, then id: the order in which they take effect.
    pub scheduled: Vec<ScheduledChange>,
}

/// An add-on as a tenant has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedAddOn {
    /// How many.
    pub quantity: Quantity,
    /// Which version is followed.
    pub version: VersionChoice,
}

/// Whether an access override grants or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Entitled, whatever the plan says.
    Grant,
    /// Denied, whatever the plan says.
    Deny,
}

/// An exception to what a tenant may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessOverride {
    /// Grant or deny.
    pub effect: Effect,
    /// As if absent from then on; `None` lasts.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
}

/// An exception to how much a tenant may use: the whole value, whatever plan and add-ons give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitOverride {
    /// The value.
    pub value: LimitValue,
    /// As if absent from then on; `None` lasts.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
}

/// All exceptions of a tenant, at most [`OVERRIDES_MAX`] together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// By service or feature.
    pub access: BTreeMap<Target, AccessOverride>,
    /// By limit.
    pub limits: BTreeMap<LimitId, LimitOverride>,
}

/// A tenant that was created. Its aggregate is [`TenantState`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// For people.
    pub title: Title,
    /// For selection in listings.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Created but not yet activated.
    pub pending: bool,
    /// When it was deleted. A deleted tenant keeps its title and plan, nothing else.
    pub deleted_at: Option<Timestamp>,
    /// What it has bought.
    pub subscription: Subscription,
    /// Add-ons.
    pub add_ons: BTreeMap<AddOnId, AttachedAddOn>,
    /// Exceptions.
    pub overrides: Overrides,
    /// Own familiarity by service.
    pub familiarity: BTreeMap<ServiceId, Familiarity>,
    /// Reasons for suspension, each with the instant from which it is in effect (before: grace).
    pub suspensions: BTreeMap<Reason, Timestamp>,
    /// Plans it has had a trial of; no second trial of the same plan.
    pub trials_used: BTreeSet<PlanId>,
    /// The id of the newest scheduled change; 0 before the first.
    pub last_change_id: ChangeId,
    /// Time-driven changes up to this instant, included, have been recorded.
    pub recorded_through: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// What it rests on.
    pub references: References,
}

/// The aggregate of a tenant stream: `None` before creation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantState(pub Option<Tenant>);

/// A whole tenant as a document states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDocument {
    /// For people.
    pub title: Title,
    /// For selection in listings.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Created but not yet activated.
    pub pending: bool,
    /// The plan it is on.
    pub choice: PlanChoice,
    /// Not running before.
    pub starts: Option<Timestamp>,
    /// End of a trial that has not been converted.
    pub trial_until: Option<Timestamp>,
    /// Ended from then on.
    pub cancel_at: Option<Timestamp>,
    /// Plan changes; those of one instant apply in the order stated.
    pub scheduled: Vec<StatedChange>,
    /// Add-ons.
    pub add_ons: BTreeMap<AddOnId, AttachedAddOn>,
    /// Exceptions.
    pub overrides: Overrides,
    /// Own familiarity by service.
    pub familiarity: BTreeMap<ServiceId, Familiarity>,
    /// Reasons for suspension.
    pub suspensions: BTreeMap<Reason, Timestamp>,
}

/// A scheduled change as a document states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedChange {
    /// When it takes effect.
    pub at: Timestamp,
    /// What the subscription then follows.
    pub choice: PlanChoice,
}

/// What can be asked of a tenant. Its id comes along for messages only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which tenant.
    pub tenant: TenantId,
    /// What of it.
    pub action: Action,
}

/// How long a trial is to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialLength {
    /// As long as the plan version says.
    OfPlan,
    /// That long, above 0 and at most [`crate::plan::TRIAL_MAX`].
    For(Duration),
}

/// Whether a stated document may meet an existing tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateMode {
    /// Creates or replaces.
    Upsert,
    /// Refused with `TENANT_EXISTS` when it exists.
    CreateOnly,
}

/// What can be asked of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Create it.
    Create {
        /// For people.
        title: Title,
        /// For selection in listings.
        labels: BTreeMap<LabelKey, LabelValue>,
        /// The plan it is on.
        choice: PlanChoice,
        /// Not running before.
        starts: Option<Timestamp>,
        /// Begin with a trial.
        trial: Option<TrialLength>,
        /// Wait for activation.
        pending: bool,
    },
    /// Make it what the document says.
    State {
        /// The whole tenant.
        document: Box<TenantDocument>,
        /// Reasons it is suspended for besides: in effect since they are, or from now.
        suspended: BTreeSet<Reason>,
        /// Whether it may exist.
        mode: StateMode,
    },
    /// Change title or labels; `None` leaves as it is.
    Update {
        /// New title.
        title: Option<Title>,
        /// New labels, all of them.
        labels: Option<BTreeMap<LabelKey, LabelValue>>,
    },
    /// Move to another plan or version, now or at a later time.
    ChangePlan {
        /// To what.
        choice: PlanChoice,
        /// When; `None` is now.
        at: Option<Timestamp>,
    },
    /// Undo a scheduled change that is not due.
    CancelScheduledChange(ChangeId),
    /// End the subscription, now (`None`) or at a time.
    CancelSubscription(Option<Timestamp>),
    /// Undo a cancellation, past or coming.
    RenewSubscription,
    /// From pending to active.
    Activate,
    /// Attach an add-on, or set the quantity and version of an attached one.
    AttachAddOn {
        /// Which.
        add_on: AddOnId,
        /// How many, and which version.
        attached: AttachedAddOn,
    },
    /// Detach an add-on.
    DetachAddOn(AddOnId),
    /// Set an access override; replaces the one on the same target.
    OverrideAccess(Target, AccessOverride),
    /// Set a limit override; replaces the one on the same limit.
    OverrideLimit(LimitId, LimitOverride),
    /// Remove an override.
    RemoveOverride(OverrideTarget),
    /// Suspend for a reason, from an instant (`None`: now); changes nothing of a reason that is in effect.
    Suspend {
        /// Why.
        reason: Reason,
        /// From when; until then grace, which can be moved.
        effective_at: Option<Timestamp>,
    },
    /// Remove suspension reasons; an empty set means all.
    Resume(BTreeSet<Reason>),
    /// Begin a trial of the current plan now.
    StartTrial(TrialLength),
    /// Convert the trial to paid, or end it now.
    EndTrial {
        /// `true`: paid from now on.
        convert: bool,
    },
    /// Delete it, for ever.
    Delete,
    /// Set (`None`: remove) its own familiarity of a service.
    SetFamiliarity(ServiceId, Option<Familiarity>),
    /// Record the time-driven changes that are due (by the loader's timer).
    RecordDue,
}

/// What can have happened to a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was created.
    Created {
        /// For people.
        title: Title,
        /// For selection in listings.
        labels: BTreeMap<LabelKey, LabelValue>,
        /// The plan it is on.
        choice: PlanChoice,
        /// Not running before.
        starts: Option<Timestamp>,
        /// End of the trial it began with.
        trial_until: Option<Timestamp>,
        /// Waits for activation.
        pending: bool,
    },
    /// It was made what the document says.
    Stated(Box<TenantDocument>),
    /// Title and labels are now these.
    Updated {
        /// For people.
        title: Title,
        /// For selection in listings.
        labels: BTreeMap<LabelKey, LabelValue>,
    },
    /// It moved to another plan or version; its trial's end was cleared.
    PlanChanged(PlanChoice),
    /// A plan change was scheduled.
    PlanChangeScheduled(ScheduledChange),
    /// A scheduled change was undone.
    ScheduledChangeCancelled(ChangeId),
    /// A scheduled change took effect (at its own time, recorded afterwards).
    ScheduledChangeApplied(ChangeId),
    /// The subscription ends then.
    SubscriptionCancelled(Timestamp),
    /// The cancellation was undone.
    SubscriptionRenewed,
    /// The subscription's start was reached.
    SubscriptionStarted,
    /// The subscription's end was reached.
    SubscriptionEnded,
    /// From pending to active.
    Activated,
    /// An add-on was attached, or its quantity or version set.
    AddOnAttached {
        /// Which.
        add_on: AddOnId,
        /// How many, and which version.
        attached: AttachedAddOn,
    },
    /// An add-on was detached.
    AddOnDetached(AddOnId),
    /// An access override was set.
    AccessOverridden(Target, AccessOverride),
    /// A limit override was set.
    LimitOverridden(LimitId, LimitOverride),
    /// An override was removed.
    OverrideRemoved(OverrideTarget),
    /// An override's end was reached; it is gone.
    OverrideExpired(OverrideTarget),
    /// A suspension reason was added or moved.
    Suspended {
        /// Why.
        reason: Reason,
        /// From when.
        effective_at: Timestamp,
    },
    /// A suspension's grace was over.
    SuspensionTookEffect(Reason),
    /// Suspension reasons were removed.
    Resumed(BTreeSet<Reason>),
    /// A trial of the current plan began.
    TrialStarted {
        /// Its end.
        until: Timestamp,
    },
    /// The trial was converted to paid.
    TrialConverted,
    /// The trial was ended by command, at the event's time.
    TrialEnded,
    /// The trial's end was reached without conversion.
    TrialLapsed,
    /// It was deleted.
    Deleted,
    /// Its own familiarity of a service was set or removed.
    FamiliaritySet(ServiceId, Option<Familiarity>),
    /// A retried command that changed nothing was settled.
    CommandSettled(Settled),
}

impl Tenant {
    /// What it is at that time. A suspension that is not in effect yet is grace, and active.
    pub fn status(&self, at: Timestamp) -> TenantStatus {
        if self.deleted_at.is_some() {
            TenantStatus::Deleted
        } else if self.pending {
            TenantStatus::Pending
        } else if self.suspensions.values().any(|effective_at| *effective_at <= at) {
            TenantStatus::Suspended
        } else {
            TenantStatus::Active
        }
    }

    /// The plans it names: the one it is on, then those it is scheduled to move to.
    pub fn named_plans(&self) -> impl Iterator<Item = &PlanId> {
        std::iter::once(&self.subscription.choice.plan).chain(self.subscription.scheduled.iter().map(|c| &c.choice.plan))
    }
}

impl Aggregate for TenantState {
    type Command = Command;
    type Event = Event;

    fn references(&self, command: &Command) -> BTreeSet<StreamId> {
        decide::references(self, &command.action)
    }

    fn decide(&self, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
        decide::decide(self, command, context)
    }

    fn evolve(self, recorded: &Recorded<Event>) -> Self {
        evolve::evolve(self, recorded)
    }

    fn settle(settled: Settled) -> Event {
        Event::CommandSettled(settled)
    }

    fn settled(event: &Event) -> Option<&Settled> {
        match event {
            Event::CommandSettled(settled) => Some(settled),
            _ => None,
        }
    }
}
