//! What can be asked for, found by name: the services, features and limits of a catalog, each with an ordinal.
//!
//! The documents of all tenants of a deployment name the same things, so they share one of these. Names are compared whole; a
//! hash alone decides nothing.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Services with their features, and limits, by name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// A service stands here with an empty feature, as it is asked for.
    targets: Vec<(Box<str>, Box<str>)>,
    limits: Vec<Box<str>>,
    by_target: HashTable<u32>,
    by_limit: HashTable<u32>,
    hashing: RandomState,
}

impl Names {
    /// Adds a service (with an empty feature) or a feature. `None`: it is there already, or there are too many.
    pub(crate) fn add_target(&mut self, service: &str, feature: &str) -> Option<u32> {
        let (targets, hashing) = (&self.targets, &self.hashing);
        let is_same = |at: &u32| names_target(targets, *at, service, feature);
        let ordinal = u32::try_from(targets.len()).ok()?;
        let hash = target_hash(hashing, service, feature);
        if self.by_target.find(hash, is_same).is_some() {
            return None;
        }
        let rehash = |at: &u32| hash_of_target(targets, *at, hashing);
        self.by_target.insert_unique(hash, ordinal, rehash);
        self.targets.push((service.into(), feature.into()));
        Some(ordinal)
    }

    /// Adds a limit. `None`: it is there already, or there are too many.
    pub(crate) fn add_limit(&mut self, name: &str) -> Option<u32> {
        let (limits, hashing) = (&self.limits, &self.hashing);
        let ordinal = u32::try_from(limits.len()).ok()?;
        let hash = hashing.hash_one(name);
        if self.by_limit.find(hash, |at| names_limit(limits, *at, name)).is_some() {
            return None;
        }
        let rehash = |at: &u32| limits.get(*at as usize).map_or(0, |limit| hashing.hash_one(&**limit));
        self.by_limit.insert_unique(hash, ordinal, rehash);
        self.limits.push(name.into());
        Some(ordinal)
    }

    /// Where a service (with an empty feature) or a feature stands.
    pub(crate) fn target(&self, service: &str, feature: &str) -> Option<usize> {
        let hash = target_hash(&self.hashing, service, feature);
        self.by_target.find(hash, |at| names_target(&self.targets, *at, service, feature)).map(|at| *at as usize)
    }

    /// Where a limit stands.
    pub(crate) fn limit(&self, name: &str) -> Option<usize> {
        let hash = self.hashing.hash_one(name);
        self.by_limit.find(hash, |at| names_limit(&self.limits, *at, name)).map(|at| *at as usize)
    }

    /// The name of a limit.
    pub(crate) fn limit_name(&self, at: usize) -> Option<&str> {
        self.limits.get(at).map(|limit| &**limit)
    }
}

/// Equal when the same names stand at the same places.
impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.targets == other.targets && self.limits == other.limits
    }
}

impl Eq for Names {}

impl std::hash::Hash for Names {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.targets.hash(state);
        self.limits.hash(state);
    }
}

fn target_hash(hashing: &RandomState, service: &str, feature: &str) -> u64 {
    let mut hasher = hashing.build_hasher();
    hasher.write(service.as_bytes());
    // No byte of a name: where the one ends and the other begins is in the hash.
    hasher.write_u8(0xff);
    hasher.write(feature.as_bytes());
    hasher.finish()
}

fn hash_of_target(targets: &[(Box<str>, Box<str>)], at: u32, hashing: &RandomState) -> u64 {
    targets.get(at as usize).map_or(0, |(service, feature)| target_hash(hashing, service, feature))
}

fn names_target(targets: &[(Box<str>, Box<str>)], at: u32, service: &str, feature: &str) -> bool {
    targets.get(at as usize).is_some_and(|(s, f)| **s == *service && **f == *feature)
}

fn names_limit(limits: &[Box<str>], at: u32, name: &str) -> bool {
    limits.get(at as usize).is_some_and(|limit| **limit == *name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_cut_where_it_is_cut() {
        let mut names = Names::default();
        assert_eq!(names.add_target("ab", "c"), Some(0));
        assert_eq!(names.add_target("a", "bc"), Some(1));
        assert_eq!(names.add_target("ab", "c"), None);
        assert_eq!((names.target("a", "bc"), names.target("abc", "")), (Some(1), None));
    }

    proptest! {
        #[test]
        fn what_was_added_is_found_and_nothing_else(
            targets in proptest::collection::vec(("[a-c]{1,3}", "[a-c]{0,3}"), 0..40),
            limits in proptest::collection::vec("[a-c]{1,3}", 0..20),
            asked in ("[a-c]{1,3}", "[a-c]{0,3}"),
        ) {
            let mut names = Names::default();
            let (mut added, mut added_limits) = (Vec::new(), Vec::new());
            for target in targets {
                let is_new = !added.contains(&target);
                prop_assert_eq!(names.add_target(&target.0, &target.1).is_some(), is_new);
                if is_new {
                    added.push(target);
                }
            }
            for limit in limits {
                let is_new = !added_limits.contains(&limit);
                prop_assert_eq!(names.add_limit(&limit).is_some(), is_new);
                if is_new {
                    added_limits.push(limit);
                }
            }
            for (at, (service, feature)) in added.iter().enumerate() {
                prop_assert_eq!(names.target(service, feature), Some(at));
            }
            for (at, limit) in added_limits.iter().enumerate() {
                prop_assert_eq!((names.limit(limit), names.limit_name(at)), (Some(at), Some(limit.as_str())));
            }
            prop_assert_eq!(names.target(&asked.0, &asked.1), added.iter().position(|target| *target == asked));
            prop_assert_eq!(names.limit(&asked.0), added_limits.iter().position(|limit| *limit == asked.0));
        }
    }
}
