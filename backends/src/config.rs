//! Which backends, and how they are run.
//!
//! A [`Config`] is read field by field as they come, so that a mistake in one of them is told with its name; what serde derives for
//! a tagged enum reads everything first, and forgets where it stood.

use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use tessera_sqlite::Config as SqliteConfig;

/// Which backends, and how they are run: `kind` names them, the other fields are theirs.
///
/// ```toml
/// kind = "sqlite"
/// data_dir = "/var/lib/tessera"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Config {
    /// One SQLite database, store and feed at once, for one process.
    Sqlite(SqliteConfig),
}

impl Config {
    /// Says what is out of bounds: field, value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::Sqlite(config) => config.validate(),
        }
    }

    /// The directory of an embedded database.
    pub fn data_dir(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(config) => Some(&config.data_dir),
        }
    }

    /// Whether several processes can use them at once. Where not, loader and server must be one process.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
        }
    }

    /// Whether a committed append is in the feed by the same transaction.
    pub(crate) fn feeds_itself(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
        }
    }
}

/// As long as there is one kind the other fields can only be its own.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Sqlite,
}

impl Kind {
    /// Not derived: whoever reads settings may say of enums only that a name is none of theirs.
    fn parse<E: serde::de::Error>(name: &str) -> Result<Self, E> {
        match name {
            "sqlite" => Ok(Self::Sqlite),
            other => Err(E::unknown_variant(other, &["sqlite"])),
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Config;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the settings of the backends: `kind` and its own")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
        let mut kind = None;
        let config = SqliteConfig::deserialize(MapAccessDeserializer::new(Others { map, kind: &mut kind }))?;
        match kind {
            Some(Kind::Sqlite) => Ok(Config::Sqlite(config)),
            None => Err(A::Error::missing_field("kind")),
        }
    }
}

/// All fields but `kind`, which is noted in passing.
struct Others<'a, A> {
    map: A,
    kind: &'a mut Option<Kind>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Others<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            if name != "kind" {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            *self.kind = Some(self.map.next_value_seed(KindSeed)?);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads the kind where it stands, so that a mistake in it is told with its name, too.
struct KindSeed;

impl<'de> DeserializeSeed<'de> for KindSeed {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::parse(&String::deserialize(deserializer)?)
    }
}
