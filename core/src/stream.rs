//! Streams: one per aggregate, each the ordered events of it.

use std::fmt;

use crate::ids::{AddOnId, IdError, PlanId, TenantId};
use crate::value::Offer;

/// Number of an event within its stream: counts from 1 without gaps; 0 is "no event yet".
pub type Seq = u64;

/// The life of one store: a restore from a backup begins the next. Counts from 1.
pub type Epoch = u64;

/// Kinds of stream. The numbers are stored and sent in revisions: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// The one catalog.
    Catalog = 1,
    /// A plan.
    Plan = 2,
    /// An add-on.
    AddOn = 3,
    /// A tenant.
    Tenant = 4,
}

impl StreamKind {
    /// Every kind of the space `matrix`, in the order in which a restore must read them.
    pub const ALL: [Self; 4] = [Self::Catalog, Self::Plan, Self::AddOn, Self::Tenant];

    /// The kind with that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// `catalog`, `plan`, `add-on` or `tenant`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Plan => "plan",
            Self::AddOn => "add-on",
            Self::Tenant => "tenant",
        }
    }
}

/// Names one stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// All services, features, limits and kill switches.
    Catalog,
    /// One plan: its draft and all published versions.
    Plan(PlanId),
    /// One add-on: its draft and all published versions.
    AddOn(AddOnId),
    /// One tenant.
    Tenant(TenantId),
}

impl StreamId {
    /// Its kind.
    pub fn kind(&self) -> StreamKind {
        match self {
            Self::Catalog => StreamKind::Catalog,
            Self::Plan(_) => StreamKind::Plan,
            Self::AddOn(_) => StreamKind::AddOn,
            Self::Tenant(_) => StreamKind::Tenant,
        }
    }

    /// Its id within the kind; empty for the catalog.
    pub fn key(&self) -> &str {
        match self {
            Self::Catalog => "",
            Self::Plan(id) => id.as_str(),
            Self::AddOn(id) => id.as_str(),
            Self::Tenant(id) => id.as_str(),
        }
    }

    /// The stream of that kind with that key; `Err` when the key is not an id of the kind.
    pub fn from_parts(kind: StreamKind, key: &str) -> Result<Self, IdError> {
        Ok(match kind {
            StreamKind::Catalog => Self::Catalog,
            StreamKind::Plan => Self::Plan(PlanId::parse(key)?),
            StreamKind::AddOn => Self::AddOn(AddOnId::parse(key)?),
            StreamKind::Tenant => Self::Tenant(TenantId::parse(key)?),
        })
    }

    /// The 8 bytes by which revisions name this stream: xxh3-64 of the key with the kind's number as seed. Not secret and not
    /// collision-proof: whoever reads it back knows the streams it may mean.
    pub fn hash(&self) -> u64 {
        stream_hash(self.kind(), self.key())
    }
}

/// [`StreamId::hash`] without a `StreamId`.
pub fn stream_hash(kind: StreamKind, key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key.as_bytes(), u64::from(kind as u8))
}

impl From<Offer> for StreamId {
    fn from(offer: Offer) -> Self {
        match offer {
            Offer::Plan(id) => Self::Plan(id),
            Offer::AddOn(id) => Self::AddOn(id),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalog => f.write_str("catalog"),
            _ => write!(f, "{}/{}", self.kind().name(), self.key()),
        }
    }
}
