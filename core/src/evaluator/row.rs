//! [`TenantRow`]: a tenant as the matrix holds it. Small and inline, since there are millions; what few tenants have is behind
//! one pointer, shared, so that a reader's copy of a row never allocates.

use std::ops::Deref;
use std::sync::Arc;

use super::catalog_table::{FeatureOrdinal, LimitOrdinal, ServiceOrdinal};
use super::offer_table::OfferIndex;
use super::tables::{Missing, Tables, Unresolved};
use crate::stream::Seq;
use crate::tenant::{Effect, PlanChoice, Tenant};
use crate::time::Timestamp;
use crate::value::{Familiarity, LimitValue, Offer, Reason, Version, VersionChoice};

/// What a tenant is apart from everything that depends on the time. An enum, not flags: its spare values are where an `Option`
/// of a row, or an enum round it, says what it is without another word of memory per tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Ordinary,
    Pending,
    Deleted,
}

impl Condition {
    fn of(pending: bool, deleted: bool) -> Self {
        match (deleted, pending) {
            (true, _) => Self::Deleted,
            (false, true) => Self::Pending,
            (false, false) => Self::Ordinary,
        }
    }
}

/// A tenant, compiled against [`Tables`]. Does not know its own id: whoever holds it found it by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    seq: Seq,
    plan: FollowedOffer,
    condition: Condition,
    extras: Option<Arc<Extras>>,
}

// A million of them must fit 120 bytes each, with key and map.
const _: () = assert!(size_of::<TenantRow>() <= 32 && size_of::<Option<TenantRow>>() <= 32);

/// A plan or add-on and which version of it is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FollowedOffer {
    pub(super) index: OfferIndex,
    /// `None` follows the latest.
    pub(super) version: Option<Version>,
}

impl FollowedOffer {
    pub(super) fn choice(self) -> VersionChoice {
        self.version.map_or(VersionChoice::Latest, VersionChoice::Pinned)
    }
}

/// What most tenants do not have. All lists are sorted for search or for the order in which answers name them. Overrides are what
/// those have who have anything, and seldom more: so the rest, which reads as if it were here, takes no room where there is none.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Extras {
    /// By service, then feature ordinal, the one on the service itself first.
    pub(super) access: Box<[AccessRow]>,
    /// By limit ordinal.
    pub(super) limits: Box<[LimitRow]>,
    /// `None` for one like [`NOTHING_MORE`].
    more: Option<Box<More>>,
}

// With the counters before it, 64 bytes of an allocator.
const _: () = assert!(size_of::<Extras>() <= 48);

/// What a tenant has besides its overrides.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct More {
    pub(super) starts: Option<Timestamp>,
    pub(super) trial_until: Option<Timestamp>,
    pub(super) cancel_at: Option<Timestamp>,
    /// In the order in which they take effect.
    pub(super) scheduled: Vec<Scheduled>,
    /// By reason.
    pub(super) suspensions: Vec<(Reason, Timestamp)>,
    /// By id.
    pub(super) add_ons: Vec<AddOnRow>,
    /// By service ordinal.
    pub(super) familiarity: Vec<(ServiceOrdinal, Familiarity)>,
}

static NOTHING_MORE: More = More {
    starts: None,
    trial_until: None,
    cancel_at: None,
    scheduled: Vec::new(),
    suspensions: Vec::new(),
    add_ons: Vec::new(),
    familiarity: Vec::new(),
};

impl Extras {
    pub(super) fn new(access: Box<[AccessRow]>, limits: Box<[LimitRow]>, more: More) -> Self {
        Self { access, limits, more: (more != NOTHING_MORE).then(|| Box::new(more)) }
    }
}

impl Deref for Extras {
    type Target = More;

    fn deref(&self) -> &More {
        self.more.as_deref().unwrap_or(&NOTHING_MORE)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scheduled {
    pub(super) at: Timestamp,
    pub(super) plan: FollowedOffer,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct AccessRow {
    pub(super) service: ServiceOrdinal,
    /// `None` is the service itself.
    pub(super) feature: Option<FeatureOrdinal>,
    /// Position among all access overrides by id of service and feature: of several the first by name is told.
    pub(super) rank: u32,
    pub(super) effect: Effect,
    pub(super) until: Option<Timestamp>,
    pub(super) reason: Reason,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct LimitRow {
    pub(super) limit: LimitOrdinal,
    pub(super) value: LimitValue,
    pub(super) until: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct AddOnRow {
    pub(super) add_on: FollowedOffer,
    pub(super) quantity: u32,
}

impl TenantRow {
    /// Compiles the state of a tenant at `seq`. `Err` names what the tables lack: the row must wait for it.
    pub fn compile(tables: &Tables, seq: Seq, tenant: &Tenant) -> Result<Self, Missing> {
        let mut compiler = Compiler { tables, missing: Vec::new() };
        let plan = compiler.plan(&tenant.subscription.choice);
        // A deleted tenant keeps its plan and nothing else.
        let deleted = tenant.deleted_at.is_some();
        let extras = if deleted { Extras::default() } else { compiler.extras(tenant) };
        if !compiler.missing.is_empty() {
            return Err(Missing { names: compiler.missing });
        }
        let condition = Condition::of(tenant.pending, deleted);
        let extras = if extras == Extras::default() { None } else { Some(Arc::new(extras)) };
        Ok(Self { seq, plan, condition, extras })
    }

    pub(super) fn from_parts(seq: Seq, plan: FollowedOffer, pending: bool, deleted: bool, extras: Option<Arc<Extras>>) -> Self {
        Self { seq, plan, condition: Condition::of(pending, deleted), extras }
    }

    /// The seq of the tenant's stream that this row is.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether the tenant was deleted: its row stays for ever, listings and watches leave it out.
    pub fn is_deleted(&self) -> bool {
        self.condition == Condition::Deleted
    }

    /// Whether the tenant waits for activation.
    pub fn is_pending(&self) -> bool {
        self.condition == Condition::Pending
    }

    pub(super) fn plan(&self) -> FollowedOffer {
        self.plan
    }

    pub(super) fn extras(&self) -> Option<&Extras> {
        self.extras.as_deref()
    }
}

/// Turns names into ordinals and remembers which it could not.
struct Compiler<'a> {
    tables: &'a Tables,
    missing: Vec<Unresolved>,
}

impl Compiler<'_> {
    fn plan(&mut self, choice: &PlanChoice) -> FollowedOffer {
        let plans = self.tables.plan_table();
        let index = plans.index_of(choice.plan.as_str());
        let there = index.filter(|i| plans.get(*i).is_some_and(|plan| plan.version(choice.version).is_some()));
        self.followed(there, choice.version, || Offer::Plan(choice.plan.clone()))
    }

    fn followed(&mut self, there: Option<OfferIndex>, choice: VersionChoice, offer: impl FnOnce() -> Offer) -> FollowedOffer {
        let version = match choice {
            VersionChoice::Latest => None,
            VersionChoice::Pinned(version) => Some(version),
        };
        if there.is_none() {
            self.missing.push(Unresolved::Version(offer(), version));
        }
        // A row with something missing is never returned, so the index of what is not there is never used.
        FollowedOffer { index: there.unwrap_or(OfferIndex::MAX), version }
    }

    fn extras(&mut self, tenant: &Tenant) -> Extras {
        let subscription = &tenant.subscription;
        let mut changes: Vec<_> = subscription.scheduled.iter().collect();
        changes.sort_by_key(|change| (change.at, change.id));
        let scheduled = changes.into_iter().map(|c| Scheduled { at: c.at, plan: self.plan(&c.choice) }).collect();
        let (access, limits) = (self.access(tenant), self.limits(tenant));
        let more = More {
            starts: subscription.starts,
            trial_until: subscription.trial_until,
            cancel_at: subscription.cancel_at,
            scheduled,
            suspensions: suspensions(tenant),
            add_ons: self.add_ons(tenant),
            familiarity: self.familiarity(tenant),
        };
        Extras::new(access, limits, more)
    }

    fn access(&mut self, tenant: &Tenant) -> Box<[AccessRow]> {
        let catalog = self.tables.catalog();
        let mut rows = Vec::with_capacity(tenant.overrides.access.len());
        for (rank, (target, access)) in (0_u32..).zip(&tenant.overrides.access) {
            let Some(service) = catalog.service_ordinal(target.service.as_str()) else {
                self.missing.push(Unresolved::Service(target.service.clone()));
                continue;
            };
            let feature = match &target.feature {
                None => None,
                Some(id) => {
                    let Some(ordinal) = catalog.feature_ordinal(service, id.as_str()) else {
                        self.missing.push(Unresolved::Feature(target.service.clone(), id.clone()));
                        continue;
                    };
                    Some(ordinal)
                }
            };
            let (effect, until, reason) = (access.effect, access.until, access.reason.clone());
            rows.push(AccessRow { service, feature, rank, effect, until, reason });
        }
        rows.sort_by_key(|row| (row.service, row.feature));
        rows.into()
    }

    fn limits(&mut self, tenant: &Tenant) -> Box<[LimitRow]> {
        let mut rows = Vec::with_capacity(tenant.overrides.limits.len());
        for (id, limit) in &tenant.overrides.limits {
            match self.tables.catalog().limit_ordinal(id.as_str()) {
                Some(ordinal) => rows.push(LimitRow { limit: ordinal, value: limit.value, until: limit.until }),
                None => self.missing.push(Unresolved::Limit(id.clone())),
            }
        }
        rows.sort_by_key(|row| row.limit);
        rows.into()
    }

    fn add_ons(&mut self, tenant: &Tenant) -> Vec<AddOnRow> {
        let table = self.tables.add_on_table();
        let mut rows = Vec::with_capacity(tenant.add_ons.len());
        for (id, attached) in &tenant.add_ons {
            let index = table.index_of(id.as_str());
            let there = index.filter(|i| table.get(*i).is_some_and(|add_on| add_on.version(attached.version).is_some()));
            let add_on = self.followed(there, attached.version, || Offer::AddOn(id.clone()));
            rows.push(AddOnRow { add_on, quantity: attached.quantity.get() });
        }
        rows
    }

    fn familiarity(&mut self, tenant: &Tenant) -> Vec<(ServiceOrdinal, Familiarity)> {
        let mut rows = Vec::with_capacity(tenant.familiarity.len());
        for (id, familiarity) in &tenant.familiarity {
            match self.tables.catalog().service_ordinal(id.as_str()) {
                Some(service) => rows.push((service, *familiarity)),
                None => self.missing.push(Unresolved::Service(id.clone())),
            }
        }
        rows.sort_by_key(|(service, _)| *service);
        rows
    }
}

/// With room for no more than there are, as a row has it that is unpacked.
fn suspensions(tenant: &Tenant) -> Vec<(Reason, Timestamp)> {
    let mut rows = Vec::with_capacity(tenant.suspensions.len());
    rows.extend(tenant.suspensions.iter().map(|(reason, at)| (reason.clone(), *at)));
    rows
}
