//! Which backends, and how they are run.
//!
//! A [`Config`] is read field by field as they come, so that a mistake in one of them is told with its name; what serde derives for
//! a tagged enum reads everything first, and forgets where it stood.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use tessera_kafka::Config as KafkaConfig;
use tessera_scylla::Config as ScyllaConfig;
use tessera_sqlite::Config as SqliteConfig;

/// Which backends, and how they are run: `kind` names them, the other fields are theirs.
///
/// ```toml
/// kind = "sqlite"
/// data_dir = "/var/lib/tessera"
/// ```
///
/// ```toml
/// kind = "cluster"
/// scylla = { contact_points = ["10.0.0.1:9042", "10.0.0.2:9042"] }
/// kafka = { brokers = ["10.0.0.1:9092", "10.0.0.2:9092"] }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Config {
    /// One SQLite database, store and feed at once, for one process.
    Sqlite(SqliteConfig),
    /// ScyllaDB (or Cassandra) as the store and Kafka as the feed, for any number of processes.
    Cluster(Box<ClusterConfig>),
}

/// What a cluster shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterConfig {
    /// The store.
    pub scylla: ScyllaConfig,
    /// The feed.
    pub kafka: KafkaConfig,
}

impl Config {
    /// Says what is out of bounds: field, value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::Sqlite(config) => config.validate(),
            Self::Cluster(config) => {
                config.scylla.validate().map_err(|problem| format!("scylla.{problem}"))?;
                config.kafka.validate().map_err(|problem| format!("kafka.{problem}"))
            }
        }
    }

    /// The directory of an embedded database.
    pub fn data_dir(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(config) => Some(&config.data_dir),
            Self::Cluster(_) => None,
        }
    }

    /// Whether several processes can use them at once. Where not, loader and server must be one process.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Cluster(_) => true,
        }
    }

    /// Whether there is a place where others are told of events.
    pub(crate) fn tells_events(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Cluster(config) => !config.kafka.events_topic.is_empty(),
        }
    }

    /// Whether a committed append is in the feed by the same transaction.
    pub(crate) fn feeds_itself(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Cluster(_) => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Cluster,
}

impl Kind {
    /// Not derived: whoever reads settings may say of enums only that a name is none of theirs.
    fn parse<E: serde::de::Error>(name: &str) -> Result<Self, E> {
        match name {
            "sqlite" => Ok(Self::Sqlite),
            "cluster" => Ok(Self::Cluster),
            other => Err(E::unknown_variant(other, &["sqlite", "cluster"])),
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
        let mut noted = Noted::default();
        let sqlite = SqliteFields::deserialize(MapAccessDeserializer::new(Others { map, noted: &mut noted }))?;
        let Noted { kind, scylla, kafka, other } = noted;
        match kind.ok_or_else(|| A::Error::missing_field("kind"))? {
            Kind::Sqlite => {
                if let Some(name) = scylla.as_ref().map(|_| "scylla").or_else(|| kafka.as_ref().map(|_| "kafka")) {
                    return Err(A::Error::custom(format!("`{name}` belongs to kind `cluster`, and kind is `sqlite`")));
                }
                let config = sqlite.config().ok_or_else(|| A::Error::missing_field("data_dir"))?;
                Ok(Config::Sqlite(config))
            }
            Kind::Cluster => {
                if let Some(name) = other {
                    return Err(A::Error::custom(format!("`{name}` belongs to kind `sqlite`, and kind is `cluster`")));
                }
                let scylla = scylla.ok_or_else(|| A::Error::missing_field("scylla"))?;
                let kafka = kafka.ok_or_else(|| A::Error::missing_field("kafka"))?;
                Ok(Config::Cluster(Box::new(ClusterConfig { scylla, kafka })))
            }
        }
    }
}

/// Those of [`SqliteConfig`], none of which has to be there: the kind may be another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqliteFields {
    data_dir: Option<PathBuf>,
    change_rows_max: Option<u64>,
    readers: Option<usize>,
    page_check_bytes_max: Option<u64>,
}

impl SqliteFields {
    /// `None` without its one field that has no default.
    fn config(self) -> Option<SqliteConfig> {
        let default = SqliteConfig::new(self.data_dir?);
        Some(SqliteConfig {
            change_rows_max: self.change_rows_max.unwrap_or(default.change_rows_max),
            readers: self.readers.unwrap_or(default.readers),
            page_check_bytes_max: self.page_check_bytes_max.unwrap_or(default.page_check_bytes_max),
            ..default
        })
    }
}

/// Every field of either kind.
const ALL: &[&str] = &["kind", "scylla", "kafka", "data_dir", "change_rows_max", "readers", "page_check_bytes_max"];

/// What is read in passing.
#[derive(Debug, Default)]
struct Noted {
    kind: Option<Kind>,
    scylla: Option<ScyllaConfig>,
    kafka: Option<KafkaConfig>,
    /// The first field that is none of these.
    other: Option<String>,
}

/// All fields but those, which are noted in passing.
struct Others<'a, A> {
    map: A,
    noted: &'a mut Noted,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Others<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            match name.as_str() {
                "kind" => self.noted.kind = Some(self.map.next_value_seed(KindSeed)?),
                "scylla" => self.noted.scylla = Some(self.map.next_value()?),
                "kafka" => self.noted.kafka = Some(self.map.next_value()?),
                // Whoever reads the rest knows the fields of the embedded database alone.
                other if !ALL.contains(&other) => return Err(A::Error::unknown_field(other, ALL)),
                _ => {
                    self.noted.other.get_or_insert_with(|| name.clone());
                    return seed.deserialize(name.into_deserializer()).map(Some);
                }
            }
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
