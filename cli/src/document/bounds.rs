//! How many entries a mapping or list of a document may have.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Something with entries.
pub(super) trait Entries {
    /// How many there are.
    fn count(&self) -> usize;
}

impl<K, V> Entries for BTreeMap<K, V> {
    fn count(&self) -> usize {
        self.len()
    }
}

impl<T> Entries for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }
}

/// Reads entries, and refuses more than `MAX`.
pub(super) fn at_most<'de, D: Deserializer<'de>, C: Deserialize<'de> + Entries, const MAX: usize>(
    deserializer: D,
) -> Result<C, D::Error> {
    let read = C::deserialize(deserializer)?;
    match read.count() {
        count if count > MAX => Err(D::Error::custom(format!("{count} entries; allowed are at most {MAX}"))),
        _ => Ok(read),
    }
}
