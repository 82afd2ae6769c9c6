//! The catalog: the one registry of services, their features, and limits. Nothing in it is ever removed; positions and
//! ordinals are therefore stable for ever, and compiled plans refer to features by them.
//!
//! This file has the words; `catalog/decide.rs` and `catalog/evolve.rs` have the rules, and `catalog/names.rs` what other
//! aggregates may name.

mod decide;
mod evolve;
pub(crate) mod names;

use std::collections::BTreeSet;

use crate::aggregate::{Aggregate, Context, Recorded, Settled};
use crate::ids::{FeatureId, LimitId, ServiceId};
use crate::rejection::Rejection;
use crate::stream::StreamId;
use crate::value::{Description, Period, Reason, Target, Title};

/// Most services that may be registered, archived ones included.
pub const SERVICES_MAX: usize = 500;
/// Most features that may be registered over all services, archived ones included.
pub const FEATURES_MAX: usize = 5_000;
/// Most limits that may be registered, archived ones included.
pub const LIMITS_MAX: usize = 1_000;

/// The state of the catalog stream. Both lists are in order of first registration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// Services; the position is the service's ordinal.
    pub services: Vec<Service>,
    /// Limits; the position is the limit's ordinal.
    pub limits: Vec<Limit>,
    /// How many features all services have together; the next feature's ordinal.
    pub feature_count: u32,
}

/// A registered service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// For people.
    pub title: Title,
    /// For people.
    pub description: Description,
    /// New documents may not name it; what has it keeps it.
    pub archived: bool,
    /// The kill switch, when thrown: everybody is denied.
    pub disabled: Option<Reason>,
    /// Features, in order of first registration.
    pub features: Vec<Feature>,
}

/// A registered feature of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its id, unique in its service.
    pub id: FeatureId,
    /// Its number over all services, counted from 0 in order of registration; never changes.
    pub ordinal: u32,
    /// For people.
    pub title: Title,
    /// For people.
    pub description: Description,
    /// New documents may not name it; what has it keeps it.
    pub archived: bool,
    /// The kill switch, when thrown: everybody is denied.
    pub disabled: Option<Reason>,
}

/// A registered limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its id.
    pub id: LimitId,
    /// For people.
    pub title: Title,
    /// For people.
    pub description: Description,
    /// What is counted, such as `users`; for people.
    pub unit: Title,
    /// When use starts again from nothing.
    pub period: Period,
    /// New documents may not name it; what has it keeps it.
    pub archived: bool,
}

/// A service as a document states it: what it leaves out of `features` stays registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDocument {
    /// Its id.
    pub id: ServiceId,
    /// For people.
    pub title: Title,
    /// For people.
    pub description: Description,
    /// Features to register, revive or retitle, each id at most once.
    pub features: Vec<FeatureDocument>,
}

/// A feature as a document states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureDocument {
    /// Its id.
    pub id: FeatureId,
    /// For people.
    pub title: Title,
    /// For people.
    pub description: Description,
}

/// A limit as a document states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitDocument {
    /// Its id.
    pub id: LimitId,
    /// For people.
    pub title: Title,
    /// For people.
    pub description: Description,
    /// What is counted; for people.
    pub unit: Title,
    /// When use starts again from nothing.
    pub period: Period,
}

/// What can be asked of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Register a service and features, revive archived ones, or change titles and descriptions.
    UpsertService(ServiceDocument),
    /// Archive a service (its features are then archived with it for new documents).
    ArchiveService(ServiceId),
    /// Archive one feature.
    ArchiveFeature(ServiceId, FeatureId),
    /// Throw the kill switch.
    Disable {
        /// Of which service or feature.
        target: Target,
        /// Why.
        reason: Reason,
    },
    /// Take the kill switch back.
    Enable(Target),
    /// Register a limit, revive it, or change it.
    UpsertLimit(LimitDocument),
    /// Archive a limit.
    ArchiveLimit(LimitId),
}

/// What can have happened to the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A service was registered, revived or changed, and the listed features with it.
    ServiceUpserted(ServiceDocument),
    /// A service was archived.
    ServiceArchived(ServiceId),
    /// A feature was archived.
    FeatureArchived(ServiceId, FeatureId),
    /// A kill switch was thrown.
    Disabled {
        /// Of which service or feature.
        target: Target,
        /// Why.
        reason: Reason,
    },
    /// A kill switch was taken back.
    Enabled(Target),
    /// A limit was registered, revived or changed.
    LimitUpserted(LimitDocument),
    /// A limit was archived.
    LimitArchived(LimitId),
    /// A retried command that changed nothing was settled.
    CommandSettled(Settled),
}

impl Catalog {
    /// The service with that id, archived or not.
    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.services.iter().find(|s| s.id == *id)
    }

    /// The feature with that id, archived or not.
    pub fn feature(&self, service: &ServiceId, feature: &FeatureId) -> Option<&Feature> {
        self.service(service)?.features.iter().find(|f| f.id == *feature)
    }

    /// The limit with that id, archived or not.
    pub fn limit(&self, id: &LimitId) -> Option<&Limit> {
        self.limits.iter().find(|l| l.id == *id)
    }
}

impl Aggregate for Catalog {
    type Command = Command;
    type Event = Event;

    fn references(&self, _command: &Command) -> BTreeSet<StreamId> {
        BTreeSet::new()
    }

    fn decide(&self, command: &Command, _context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
        decide::decide(self, command)
    }

    fn evolve(self, recorded: &Recorded<Event>) -> Self {
        evolve::evolve(self, &recorded.event)
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
