//! The compiled catalog: names to ordinals, kill switches by ordinal. Ordinals never change meaning within a lineage.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::catalog::Catalog;
use crate::ids::{FeatureId, LimitId, ServiceId};
use crate::stream::Seq;
use crate::value::Reason;

/// Position of a service in the catalog.
pub(super) type ServiceOrdinal = u32;
/// Number of a feature over all services.
pub(super) type FeatureOrdinal = u32;
/// Position of a limit in the catalog.
pub(super) type LimitOrdinal = u32;

#[derive(Debug)]
pub(super) struct ServiceEntry {
    pub(super) id: ServiceId,
    pub(super) disabled: Option<Reason>,
    pub(super) features: Vec<FeatureOrdinal>,
}

#[derive(Debug)]
pub(super) struct FeatureEntry {
    pub(super) service: ServiceOrdinal,
    pub(super) id: FeatureId,
    pub(super) disabled: Option<Reason>,
}

/// Every name of one catalog, by ordinal and by hash.
#[derive(Debug, Default)]
pub(super) struct CatalogTable {
    pub(super) seq: Seq,
    services: Vec<ServiceEntry>,
    features: Vec<FeatureEntry>,
    limits: Vec<LimitId>,
    // The tables hold ordinals only; the names to compare with are in the lists above.
    service_index: HashTable<ServiceOrdinal>,
    feature_index: HashTable<FeatureOrdinal>,
    limit_index: HashTable<LimitOrdinal>,
    hasher: FixedState,
}

impl CatalogTable {
    /// How many features there are, of all services.
    pub(super) fn feature_count(&self) -> usize {
        self.features.len()
    }

    /// `None` when feature ordinals are not exactly `0..feature_count`, or a name is there twice.
    pub(super) fn compile(seq: Seq, catalog: &Catalog) -> Option<Self> {
        let mut table = Self { seq, ..Self::default() };
        let mut features = Vec::new();
        for (position, service) in catalog.services.iter().enumerate() {
            let ordinal = u32::try_from(position).ok()?;
            let mut own = Vec::with_capacity(service.features.len());
            for feature in &service.features {
                let (id, disabled) = (feature.id.clone(), feature.disabled.clone());
                features.push((feature.ordinal, FeatureEntry { service: ordinal, id, disabled }));
                own.push(feature.ordinal);
            }
            let (id, disabled) = (service.id.clone(), service.disabled.clone());
            table.services.push(ServiceEntry { id, disabled, features: own });
        }
        if features.len() != catalog.feature_count as usize {
            return None;
        }
        features.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        if features.iter().zip(0_u32..).any(|((ordinal, _), expected)| *ordinal != expected) {
            return None;
        }
        table.features = features.into_iter().map(|(_, entry)| entry).collect();
        table.limits = catalog.limits.iter().map(|limit| limit.id.clone()).collect();
        table.index()?;
        Some(table)
    }

    /// Fills the hash tables; `None` when a name is there twice.
    fn index(&mut self) -> Option<()> {
        let hasher = self.hasher.clone();
        for (ordinal, service) in (0_u32..).zip(&self.services) {
            let name = service.id.as_str();
            if self.service_ordinal(name).is_some() {
                return None;
            }
            let rehash = |o: &u32| self.services.get(*o as usize).map_or(0, |s| hasher.hash_one(s.id.as_str()));
            self.service_index.insert_unique(hasher.hash_one(name), ordinal, rehash);
        }
        for (ordinal, feature) in (0_u32..).zip(&self.features) {
            let (service, name) = (feature.service, feature.id.as_str());
            if self.feature_ordinal(service, name).is_some() {
                return None;
            }
            let hash = |ordinal: &u32| {
                let feature = self.features.get(*ordinal as usize);
                let service = feature.and_then(|feature| self.services.get(feature.service as usize));
                service.zip(feature).map_or(0, |(service, feature)| hasher.hash_one((service.id.as_str(), feature.id.as_str())))
            };
            self.feature_index.insert_unique(hash(&ordinal), ordinal, hash);
        }
        for (ordinal, limit) in (0_u32..).zip(&self.limits) {
            if self.limit_ordinal(limit.as_str()).is_some() {
                return None;
            }
            let rehash = |o: &u32| self.limits.get(*o as usize).map_or(0, |l| hasher.hash_one(l.as_str()));
            self.limit_index.insert_unique(hasher.hash_one(limit.as_str()), ordinal, rehash);
        }
        Some(())
    }

    /// Whether every ordinal of `earlier` means the same here: nothing was removed, nothing moved.
    pub(super) fn continues(&self, earlier: &Self) -> bool {
        let same_feature = |(a, b): (&FeatureEntry, &FeatureEntry)| a.service == b.service && a.id == b.id;
        self.services.len() >= earlier.services.len()
            && self.features.len() >= earlier.features.len()
            && self.limits.len() >= earlier.limits.len()
            && self.services.iter().zip(&earlier.services).all(|(a, b)| a.id == b.id)
            && self.features.iter().zip(&earlier.features).all(same_feature)
            && self.limits.iter().zip(&earlier.limits).all(|(a, b)| a == b)
    }

    pub(super) fn service_ordinal(&self, name: &str) -> Option<ServiceOrdinal> {
        let same = |o: &u32| self.services.get(*o as usize).is_some_and(|s| s.id.as_str() == name);
        self.service_index.find(self.hasher.hash_one(name), same).copied()
    }

    pub(super) fn feature_ordinal(&self, service: ServiceOrdinal, name: &str) -> Option<FeatureOrdinal> {
        self.feature_named(self.service(service)?.id.as_str(), name).map(|(_, feature)| feature)
    }

    /// The feature of that name of the service of that name, with the service: one look-up for both.
    pub(super) fn feature_named(&self, service: &str, name: &str) -> Option<(ServiceOrdinal, FeatureOrdinal)> {
        let of_service = |f: &FeatureEntry| self.service(f.service).is_some_and(|s| s.id.as_str() == service);
        let same = |o: &u32| self.feature(*o).is_some_and(|f| f.id.as_str() == name && of_service(f));
        let ordinal = *self.feature_index.find(self.hasher.hash_one((service, name)), same)?;
        Some((self.feature(ordinal)?.service, ordinal))
    }

    pub(super) fn limit_ordinal(&self, name: &str) -> Option<LimitOrdinal> {
        let same = |o: &u32| self.limits.get(*o as usize).is_some_and(|l| l.as_str() == name);
        self.limit_index.find(self.hasher.hash_one(name), same).copied()
    }

    pub(super) fn service(&self, ordinal: ServiceOrdinal) -> Option<&ServiceEntry> {
        self.services.get(ordinal as usize)
    }

    pub(super) fn feature(&self, ordinal: FeatureOrdinal) -> Option<&FeatureEntry> {
        self.features.get(ordinal as usize)
    }

    pub(super) fn limit(&self, ordinal: LimitOrdinal) -> Option<&LimitId> {
        self.limits.get(ordinal as usize)
    }

    /// All services with their ordinals.
    pub(super) fn services(&self) -> impl Iterator<Item = (ServiceOrdinal, &ServiceEntry)> {
        (0..).zip(&self.services)
    }

    /// All limits with their ordinals.
    pub(super) fn limits(&self) -> impl Iterator<Item = (LimitOrdinal, &LimitId)> {
        (0..).zip(&self.limits)
    }
}
