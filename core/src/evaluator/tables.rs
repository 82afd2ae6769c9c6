//! [`Tables`]: catalog, plans and add-ons, compiled; immutable to readers, cheap to copy and to change one thing of.

use std::fmt;
use std::sync::Arc;

use super::catalog_table::CatalogTable;
use super::offer_table::{Offers, Refused};
use crate::aggregate::References;
use crate::catalog::Catalog;
use crate::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId};
use crate::plan::Plan;
use crate::stream::{Seq, StreamId, StreamKind};
use crate::value::{Offer, Version};

/// The compiled catalog, plans and add-ons that rows are compiled against and asked of.
///
/// A clone shares everything. `with_*` makes changed tables beside these; `set_*` changes these in place and copies only what
/// is shared, so that a hydration that owns its tables copies nothing. A failed `set_*` leaves them as they were.
#[derive(Debug, Clone)]
pub struct Tables {
    catalog: Arc<CatalogTable>,
    plans: Arc<Offers<PlanId>>,
    add_ons: Arc<Offers<AddOnId>>,
}

/// A name that a document uses and that these tables do not have yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unresolved {
    /// A service is not registered.
    Service(ServiceId),
    /// A feature is not registered.
    Feature(ServiceId, FeatureId),
    /// A limit is not registered.
    Limit(LimitId),
    /// A plan or add-on has no such published version (`None`: none at all), or is not there.
    Version(Offer, Option<Version>),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "service `{service}`"),
            Self::Feature(service, feature) => write!(f, "feature `{service}/{feature}`"),
            Self::Limit(limit) => write!(f, "limit `{limit}`"),
            Self::Version(offer, version) => {
                match version {
                    None => f.write_str("a published version")?,
                    Some(version) => write!(f, "version {version}")?,
                }
                match offer {
                    Offer::Plan(id) => write!(f, " of plan `{id}`"),
                    Offer::AddOn(id) => write!(f, " of add-on `{id}`"),
                }
            }
        }
    }
}

/// What has to be there first; at least one name. Nothing is ever dropped silently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The names, in the order of the document.
    pub names: Vec<Unresolved>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More names than these do not help whoever reads the message.
        const SHOWN_MAX: usize = 8;
        f.write_str("not known here: ")?;
        for (position, name) in self.names.iter().take(SHOWN_MAX).enumerate() {
            write!(f, "{}{name}", if position == 0 { "" } else { ", " })?;
        }
        match self.names.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl std::error::Error for Missing {}

/// Why a state was not taken into [`Tables`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TablesError {
    /// The catalog is older than the document needs: keep it until the catalog is there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Published versions are never deleted, yet there are fewer than before.
    #[error("stream `{stream}` has {has} published versions and had {had}; allowed are at least as many")]
    VersionsLost {
        /// The plan or add-on.
        stream: StreamId,
        /// How many there were.
        had: usize,
        /// How many the refused state has.
        has: usize,
    },
    /// Nothing in a catalog is ever removed or moved, yet something was.
    #[error("the catalog lost or moved what was registered; allowed are additions")]
    CatalogRewritten,
    /// Two names are equal, or the features' ordinals are not 0, 1, 2 … `feature_count - 1`.
    #[error("the catalog has a name twice or ordinals that do not count from 0 without gaps")]
    CatalogMalformed,
}

impl Default for Tables {
    fn default() -> Self {
        Self::empty()
    }
}

// === reading ===

impl Tables {
    /// Nothing registered, nothing applied: every seq is 0.
    pub fn empty() -> Self {
        Self {
            catalog: Arc::default(),
            plans: Arc::new(Offers::new(StreamKind::Plan)),
            add_ons: Arc::new(Offers::new(StreamKind::AddOn)),
        }
    }

    /// The applied seq of the catalog; 0 before the first.
    pub fn catalog_seq(&self) -> Seq {
        self.catalog.seq
    }

    /// How many features are registered, of all services.
    pub fn feature_count(&self) -> usize {
        self.catalog.feature_count()
    }

    /// The applied seq of a plan, tombstones included; `None` when nothing of its stream was applied.
    pub fn plan_seq(&self, id: &PlanId) -> Option<Seq> {
        self.plans.seq(id.as_str())
    }

    /// The applied seq of an add-on, tombstones included; `None` when nothing of its stream was applied.
    pub fn add_on_seq(&self, id: &AddOnId) -> Option<Seq> {
        self.add_ons.seq(id.as_str())
    }

    /// The applied seq of the stream that a revision names so; of several with one hash the least. `None` for streams that
    /// were never applied, and for tenants, which are not here.
    pub fn seq_by_hash(&self, kind: StreamKind, hash: u64) -> Option<Seq> {
        match kind {
            StreamKind::Catalog => (hash == StreamId::Catalog.hash()).then_some(self.catalog.seq).filter(|seq| *seq > 0),
            StreamKind::Plan => self.plans.by_hash(hash).map(|offer| offer.seq),
            StreamKind::AddOn => self.add_ons.by_hash(hash).map(|offer| offer.seq),
            StreamKind::Tenant => None,
        }
    }

    /// The stream that [`Self::seq_by_hash`] speaks of. Costs the same however many plans there are.
    pub fn stream_by_hash(&self, kind: StreamKind, hash: u64) -> Option<StreamId> {
        match kind {
            StreamKind::Catalog => (hash == StreamId::Catalog.hash()).then_some(StreamId::Catalog),
            StreamKind::Plan => self.plans.by_hash(hash).map(|offer| StreamId::Plan(offer.id.clone())),
            StreamKind::AddOn => self.add_ons.by_hash(hash).map(|offer| StreamId::AddOn(offer.id.clone())),
            StreamKind::Tenant => None,
        }
    }

    /// Every plan that was applied with its seq, tombstones included, in order of arrival.
    pub fn plans(&self) -> impl Iterator<Item = (&PlanId, Seq)> {
        self.plans.iter().map(|offer| (&offer.id, offer.seq))
    }

    /// Every add-on that was applied with its seq, tombstones included, in order of arrival.
    pub fn add_ons(&self) -> impl Iterator<Item = (&AddOnId, Seq)> {
        self.add_ons.iter().map(|offer| (&offer.id, offer.seq))
    }

    /// `Err` names every stream that is not applied to the seq that `references` needs, with that seq.
    pub fn has(&self, references: &References) -> Result<(), Vec<(StreamId, Seq)>> {
        let mut missing = Vec::new();
        if self.catalog_seq() < references.catalog {
            missing.push((StreamId::Catalog, references.catalog));
        }
        for (id, seq) in &references.plans {
            if self.plan_seq(id).unwrap_or(0) < *seq {
                missing.push((StreamId::Plan(id.clone()), *seq));
            }
        }
        for (id, seq) in &references.add_ons {
            if self.add_on_seq(id).unwrap_or(0) < *seq {
                missing.push((StreamId::AddOn(id.clone()), *seq));
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    pub(super) fn catalog(&self) -> &CatalogTable {
        &self.catalog
    }

    pub(super) fn plan_table(&self) -> &Offers<PlanId> {
        &self.plans
    }

    pub(super) fn add_on_table(&self) -> &Offers<AddOnId> {
        &self.add_ons
    }
}

// === changing ===

impl Tables {
    /// Replaces the catalog. What is compiled stays valid: ordinals never change.
    pub fn set_catalog(&mut self, seq: Seq, catalog: &Catalog) -> Result<(), TablesError> {
        let table = CatalogTable::compile(seq, catalog).ok_or(TablesError::CatalogMalformed)?;
        if !table.continues(&self.catalog) {
            return Err(TablesError::CatalogRewritten);
        }
        self.catalog = Arc::new(table);
        Ok(())
    }

    /// Replaces a plan (`None`: its tombstone), or takes in a new one. Versions that were compiled before are kept.
    pub fn set_plan(&mut self, id: &PlanId, seq: Seq, plan: Option<&Plan>) -> Result<(), TablesError> {
        let offer = self.plans.compile(&self.catalog, id, seq, plan);
        let offer = offer.map_err(|refused| refusal(StreamId::Plan(id.clone()), refused))?;
        Arc::make_mut(&mut self.plans).put(offer);
        Ok(())
    }

    /// Replaces an add-on (`None`: its tombstone), or takes in a new one. Versions that were compiled before are kept.
    pub fn set_add_on(&mut self, id: &AddOnId, seq: Seq, add_on: Option<&Plan>) -> Result<(), TablesError> {
        let offer = self.add_ons.compile(&self.catalog, id, seq, add_on);
        let offer = offer.map_err(|refused| refusal(StreamId::AddOn(id.clone()), refused))?;
        Arc::make_mut(&mut self.add_ons).put(offer);
        Ok(())
    }

    /// [`Self::set_catalog`] on a copy.
    pub fn with_catalog(&self, seq: Seq, catalog: &Catalog) -> Result<Self, TablesError> {
        let mut tables = self.clone();
        tables.set_catalog(seq, catalog)?;
        Ok(tables)
    }

    /// [`Self::set_plan`] on a copy.
    pub fn with_plan(&self, id: &PlanId, seq: Seq, plan: Option<&Plan>) -> Result<Self, TablesError> {
        let mut tables = self.clone();
        tables.set_plan(id, seq, plan)?;
        Ok(tables)
    }

    /// [`Self::set_add_on`] on a copy.
    pub fn with_add_on(&self, id: &AddOnId, seq: Seq, add_on: Option<&Plan>) -> Result<Self, TablesError> {
        let mut tables = self.clone();
        tables.set_add_on(id, seq, add_on)?;
        Ok(tables)
    }
}

fn refusal(stream: StreamId, refused: Refused) -> TablesError {
    match refused {
        Refused::Missing(names) => TablesError::Missing(Missing { names }),
        Refused::VersionsLost { had, has } => TablesError::VersionsLost { stream, had, has },
    }
}
