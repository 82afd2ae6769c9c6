//! Compiled plans and add-ons: every published version as a bitset over features, a cell per service, a cell per limit.

use std::borrow::Borrow;
use std::sync::Arc;

use hashbrown::HashTable;

use super::catalog_table::{CatalogTable, FeatureOrdinal, LimitOrdinal, ServiceOrdinal};
use super::tables::Unresolved;
use crate::plan::{Document, Plan};
use crate::stream::{Seq, StreamKind, stream_hash};
use crate::value::{Familiarity, LimitValue, Version, VersionChoice};

/// Position of a plan or an add-on among those of its kind; never changes meaning within a lineage.
pub(super) type OfferIndex = u32;

/// A published version, compiled once.
#[derive(Debug)]
pub(super) struct VersionTable {
    /// What it was compiled from; the same document again need not be compiled again.
    document: Arc<Document>,
    features: Box<[u64]>,
    services: Box<[ServiceCell]>,
    limits: Box<[Option<LimitValue>]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServiceCell {
    Absent,
    Listed,
    Familiar(Familiarity),
}

impl VersionTable {
    /// `Err` names what the catalog does not have.
    fn compile(catalog: &CatalogTable, document: &Arc<Document>) -> Result<Self, Vec<Unresolved>> {
        let mut missing = Vec::new();
        let (mut features, mut services, mut limits) = (Vec::new(), Vec::new(), Vec::new());
        for (id, grant) in &document.services {
            let Some(service) = catalog.service_ordinal(id.as_str()) else {
                missing.push(Unresolved::Service(id.clone()));
                continue;
            };
            put(
                &mut services,
                service,
                ServiceCell::Absent,
                grant.familiarity.map_or(ServiceCell::Listed, ServiceCell::Familiar),
            );
            for feature in &grant.features {
                match catalog.feature_ordinal(service, feature.as_str()) {
                    Some(ordinal) => set_bit(&mut features, ordinal),
                    None => missing.push(Unresolved::Feature(id.clone(), feature.clone())),
                }
            }
        }
        for (id, value) in &document.limits {
            match catalog.limit_ordinal(id.as_str()) {
                Some(limit) => put(&mut limits, limit, None, Some(*value)),
                None => missing.push(Unresolved::Limit(id.clone())),
            }
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        let (features, services, limits) = (features.into(), services.into(), limits.into());
        Ok(Self { document: Arc::clone(document), features, services, limits })
    }

    pub(super) fn has_service(&self, service: ServiceOrdinal) -> bool {
        self.services.get(service as usize).is_some_and(|cell| *cell != ServiceCell::Absent)
    }

    pub(super) fn has_feature(&self, feature: FeatureOrdinal) -> bool {
        self.features.get(feature as usize / 64).is_some_and(|word| word >> (feature % 64) & 1 == 1)
    }

    pub(super) fn familiarity(&self, service: ServiceOrdinal) -> Option<Familiarity> {
        match self.services.get(service as usize)? {
            ServiceCell::Familiar(familiarity) => Some(*familiarity),
            ServiceCell::Absent | ServiceCell::Listed => None,
        }
    }

    pub(super) fn limit(&self, limit: LimitOrdinal) -> Option<LimitValue> {
        self.limits.get(limit as usize).copied().flatten()
    }
}

/// Sets `cells[at]`, filling up to it with `empty`.
fn put<T: Copy>(cells: &mut Vec<T>, at: u32, empty: T, value: T) {
    let at = at as usize;
    if cells.len() <= at {
        cells.resize(at + 1, empty);
    }
    if let Some(cell) = cells.get_mut(at) {
        *cell = value;
    }
}

fn set_bit(words: &mut Vec<u64>, bit: u32) {
    let at = bit as usize / 64;
    if words.len() <= at {
        words.resize(at + 1, 0);
    }
    if let Some(word) = words.get_mut(at) {
        *word |= 1 << (bit % 64);
    }
}

/// One plan or add-on: all its published versions; none after deletion.
#[derive(Debug)]
pub(super) struct Offer<I> {
    pub(super) id: I,
    /// How revisions name its stream.
    pub(super) hash: u64,
    pub(super) seq: Seq,
    versions: Vec<Arc<VersionTable>>,
}

impl<I> Offer<I> {
    /// The version that `choice` means, with its number; `None` when it is not published.
    pub(super) fn version(&self, choice: VersionChoice) -> Option<(Version, &VersionTable)> {
        let number = match choice {
            VersionChoice::Latest => u32::try_from(self.versions.len()).ok().and_then(Version::new)?,
            VersionChoice::Pinned(number) => number,
        };
        let table = self.versions.get(number.get() as usize - 1)?;
        Some((number, table))
    }
}

/// All plans, or all add-ons. Indices are handed out once and kept, tombstones included.
#[derive(Debug, Clone)]
pub(super) struct Offers<I> {
    kind: StreamKind,
    entries: Vec<Arc<Offer<I>>>,
    /// By [`stream_hash`], so that revisions find their streams here too.
    index: HashTable<OfferIndex>,
}

/// Why an offer was not taken in.
#[derive(Debug)]
pub(super) enum Refused {
    Missing(Vec<Unresolved>),
    VersionsLost { had: usize, has: usize },
}

impl<I: Borrow<str> + Clone> Offers<I> {
    pub(super) fn new(kind: StreamKind) -> Self {
        Self { kind, entries: Vec::new(), index: HashTable::new() }
    }

    pub(super) fn index_of(&self, id: &str) -> Option<OfferIndex> {
        let same = |index: &u32| self.get(*index).is_some_and(|offer| offer.id.borrow() == id);
        self.index.find(stream_hash(self.kind, id), same).copied()
    }

    pub(super) fn get(&self, index: OfferIndex) -> Option<&Offer<I>> {
        self.entries.get(index as usize).map(AsRef::as_ref)
    }

    pub(super) fn seq(&self, id: &str) -> Option<Seq> {
        self.get(self.index_of(id)?).map(|offer| offer.seq)
    }

    /// Of the offers that a revision may mean by `hash` the one with the least seq.
    pub(super) fn by_hash(&self, hash: u64) -> Option<&Offer<I>> {
        let of = |index: &u32| self.get(*index).filter(|offer| offer.hash == hash);
        self.index.iter_hash(hash).filter_map(of).min_by_key(|offer| offer.seq)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Offer<I>> {
        self.entries.iter().map(AsRef::as_ref)
    }

    /// What `plan` is, compiled, with what was compiled before taken over.
    pub(super) fn compile(&self, catalog: &CatalogTable, id: &I, seq: Seq, plan: Option<&Plan>) -> Result<Offer<I>, Refused> {
        let before = self.index_of(id.borrow()).and_then(|index| self.get(index)).map_or(&[][..], |offer| &offer.versions[..]);
        let published = plan.map_or(&[][..], |plan| &plan.versions[..]);
        if published.len() < before.len() {
            return Err(Refused::VersionsLost { had: before.len(), has: published.len() });
        }
        let mut missing = Vec::new();
        let mut versions = Vec::with_capacity(published.len());
        for (position, version) in published.iter().enumerate() {
            let kept = before.get(position).filter(|kept| *kept.document == *version.document);
            match kept
                .map_or_else(|| VersionTable::compile(catalog, &version.document).map(Arc::new), |kept| Ok(Arc::clone(kept)))
            {
                Ok(table) => versions.push(table),
                Err(names) => missing.extend(names),
            }
        }
        if !missing.is_empty() {
            return Err(Refused::Missing(missing));
        }
        Ok(Offer { id: id.clone(), hash: stream_hash(self.kind, id.borrow()), seq, versions })
    }

    /// Puts `offer` in its place, a new one when its id is new.
    pub(super) fn put(&mut self, offer: Offer<I>) {
        let known = self.index_of(offer.id.borrow());
        if let Some(entry) = known.and_then(|index| self.entries.get_mut(index as usize)) {
            *entry = Arc::new(offer);
            return;
        }
        // More plans than u32 counts do not fit in memory.
        let Ok(index) = u32::try_from(self.entries.len()) else { return };
        let hash = offer.hash;
        self.entries.push(Arc::new(offer));
        let entries = &self.entries;
        self.index.insert_unique(hash, index, |i| entries.get(*i as usize).map_or(0, |offer| offer.hash));
    }
}
