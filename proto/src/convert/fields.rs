//! Collects what is wrong with a request, field by field.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;

use tessera_core::rejection::Violation;

use crate::status::Failure;

/// Most violations one answer names; a request with more is as wrong.
const VIOLATIONS_MAX: usize = 20;

/// The fields of one request that were found at fault so far.
#[derive(Debug, Default)]
pub struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value, or `None` with the error noted under `field`.
    pub fn check<T, E: Display>(&mut self, field: impl Display, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(field, error);
                None
            }
        }
    }

    /// Notes that `field` is at fault.
    pub fn fault(&mut self, field: impl Display, description: impl Display) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { field: field.to_string(), description: description.to_string() });
        }
    }

    /// The value of a field that must be set; notes its absence.
    pub fn required<T>(&mut self, field: impl Display, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.fault(field, "it is not set; a value is required");
        }
        value
    }

    /// Collects entries into a map; notes keys that come twice.
    pub fn unique<K: Ord + Display, V>(
        &mut self,
        field: impl Display,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> BTreeMap<K, V> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            match map.entry(key) {
                Entry::Vacant(vacant) => {
                    vacant.insert(value);
                }
                Entry::Occupied(taken) => self.fault(&field, format_args!("`{}` comes twice; allowed is once", taken.key())),
            }
        }
        map
    }

    /// `Err` with everything noted, if anything was.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Failure> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            _ if self.violations.is_empty() => Err(Failure::internal("a value is missing without a violation")),
            _ => Err(Failure::invalid(self.violations)),
        }
    }
}
