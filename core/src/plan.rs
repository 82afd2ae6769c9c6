//! Plans and add-ons: one editable draft, and published versions 1, 2, 3 … that never change.
//!
//! An add-on is a small plan stacked on a subscription, so both share one document, one state and one set of rules; what
//! differs (a trial length, the names in messages) asks [`Kind`]. This file has the words; `plan/decide.rs`,
//! `plan/evolve.rs` and `plan/diff.rs` have the rules.

mod decide;
mod diff;
mod evolve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use diff::{GrantDiff, PlanDiff, apply, diff};

use crate::aggregate::{Aggregate, Context, Recorded, References, Settled};
use crate::ids::{FeatureId, LimitId, ServiceId};
use crate::rejection::Rejection;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::value::{Description, Familiarity, LimitValue, Offer, Title, Version};

/// Most features that one document may grant over all services.
pub const PLAN_FEATURES_MAX: usize = 2_000;
/// Most published versions: whoever holds a plan holds all of them.
pub const VERSIONS_MAX: u32 = 1_000;
/// Longest trial: ten years.
pub const TRIAL_MAX: Duration = Duration::from_hours(3_653 * 24);

/// Whether a stream holds a plan or an add-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A plan: may have a trial length.
    Plan,
    /// An add-on: has none.
    AddOn,
}

/// What a draft or a published version says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// For people.
    pub title: Title,
    /// For people.
    pub description: Description,
    /// What is granted, by service. A service without features grants only the service itself. Versions share what is the same.
    pub services: BTreeMap<ServiceId, Arc<ServiceGrant>>,
    /// What is given of each limit.
    pub limits: BTreeMap<LimitId, LimitValue>,
    /// How long a trial lasts when one is started without a length: above 0, at most [`TRIAL_MAX`]. Never on an add-on.
    pub trial: Option<Duration>,
}

/// What a document grants of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceGrant {
    /// The granted features.
    pub features: BTreeSet<FeatureId>,
    /// How much of the UI is shown; `None` leaves it to others or to the default.
    pub familiarity: Option<Familiarity>,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedVersion {
    /// What it says, for ever.
    pub document: Arc<Document>,
    /// When it was published.
    pub published_at: Timestamp,
}

/// A plan or add-on that exists. Its aggregate is [`PlanState`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the next version will say.
    pub draft: Document,
    /// Published versions; version `n` is at position `n - 1`.
    pub versions: Vec<PublishedVersion>,
    /// Takes no new tenants; those on it keep it.
    pub archived: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The catalog it was last decided against.
    pub references: References,
}

/// The aggregate of a plan or add-on stream: `None` before creation and after deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanState(pub Option<Plan>);

/// What can be asked of a plan or add-on. Its id comes along for messages only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which one.
    pub offer: Offer,
    /// What of it.
    pub action: Action,
}

/// What can be asked of a plan or add-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Create it with this draft.
    Create(Document),
    /// Replace the draft.
    Update(Document),
    /// Publish the draft as the next version.
    Publish,
    /// Archive it.
    Archive,
    /// Delete it; only if it was never published.
    Delete,
}

/// What can have happened to a plan or add-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was created with this draft.
    Created(Document),
    /// The draft was replaced.
    DraftUpdated(Document),
    /// The draft was published as this version.
    Published {
        /// Its number: one more than the greatest before.
        version: Version,
    },
    /// It was archived.
    Archived,
    /// It was deleted.
    Deleted,
    /// A retried command that changed nothing was settled.
    CommandSettled(Settled),
}

impl Plan {
    /// The greatest published version, which `latest` means; `None` before the first.
    pub fn latest(&self) -> Option<Version> {
        u32::try_from(self.versions.len()).ok().and_then(Version::new)
    }

    /// The published version with that number.
    pub fn version(&self, version: Version) -> Option<&PublishedVersion> {
        self.versions.get(usize::try_from(version.get()).ok()?.checked_sub(1)?)
    }
}

impl Document {
    /// How many features it grants over all services.
    pub fn feature_count(&self) -> usize {
        self.services.values().map(|grant| grant.features.len()).sum()
    }

    /// Whether it names anything of the catalog.
    pub fn names_anything(&self) -> bool {
        !self.services.is_empty() || !self.limits.is_empty()
    }
}

impl Kind {
    /// The kind of that offer.
    pub fn of(offer: &Offer) -> Self {
        match offer {
            Offer::Plan(_) => Self::Plan,
            Offer::AddOn(_) => Self::AddOn,
        }
    }
}

impl Aggregate for PlanState {
    type Command = Command;
    type Event = Event;

    fn references(&self, _command: &Command) -> BTreeSet<StreamId> {
        BTreeSet::new()
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
