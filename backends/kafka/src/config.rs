//! Settings of the feed. Only the brokers have no default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tessera_ports::shard::SHARDS;

/// Most brokers that may be named: some of them are enough to find the others.
const BROKERS_MAX: usize = 32;
/// Kafka's own bound on the length of a topic's name.
const TOPIC_LEN_MAX: usize = 249;
/// Two words of one letter.
const TYPE_PREFIX_LEN_MIN: usize = 3;
/// It stands in every event.
const TYPE_PREFIX_LEN_MAX: usize = 100;
const REPLICATION_FACTOR_MAX: u16 = 32;
/// Ten years.
const RETENTION_HOURS_MAX: u64 = 24 * 366 * 10;
const PUBLISH_TIMEOUT_MS_MIN: u64 = 1_000;
const PUBLISH_TIMEOUT_MS_MAX: u64 = 120_000;
const READ_AHEAD_KIB_MIN: u64 = 256;
const READ_AHEAD_KIB_MAX: u64 = 65_536;
/// What librdkafka does by itself; the others need OpenSSL or Cyrus SASL.
const MECHANISMS: [&str; 1] = ["PLAIN"];

/// Where the brokers are, which topic, and how it is written and read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Brokers to begin with, each `host:port`; 1 to 32. The others are found through them.
    pub brokers: Vec<String>,
    /// The topic of changes: 1 to 249 of `a-z A-Z 0-9 . _ -`. Default `tessera.changes`.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// The topic of events for others, as `topic` and not the same; empty: nobody is told of events. Default `tessera.events`.
    #[serde(default = "default_events_topic")]
    pub events_topic: String,
    /// What the types of events begin with, a domain written backwards: 3 to 100 bytes, two or more words of `a-z 0-9 -` between dots.
    /// Default `com.tessera`.
    #[serde(default = "default_events_type_prefix")]
    pub events_type_prefix: String,
    /// How many partitions the topic has, 1 to 64. A process does not start when it has others. Default 12.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// Copies of every record, when `tessera migrate` makes the topic; 1 to 32. Default 3.
    #[serde(default = "default_replication_factor")]
    pub replication_factor: u16,
    /// How long records are kept, in hours, when `tessera migrate` makes the topic; 1 to 87,840. Default 168 (7 days). A server
    /// that was away for longer reads everything from the store.
    #[serde(default = "default_retention_hours")]
    pub retention_hours: u64,
    /// How long a record may take until it is acknowledged, in milliseconds, 1,000 to 120,000. Default 10,000.
    #[serde(default = "default_publish_timeout_ms")]
    pub publish_timeout_ms: u64,
    /// Bytes of records that are fetched ahead of the reader, in KiB per partition, 256 to 65,536. Default 2,048.
    #[serde(default = "default_read_ahead_kib")]
    pub read_ahead_kib: u64,
    /// Who this process is to the brokers. Default: nobody.
    #[serde(default)]
    pub security: Option<Security>,
}

/// Who this process is to the brokers. The connection is not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// The name to log in with.
    pub user: String,
    /// The file that holds the password and nothing else; a line end after it does not count.
    pub password_file: PathBuf,
    /// How the password is shown; `PLAIN` is the only one. Default `PLAIN`.
    #[serde(default = "default_mechanism")]
    pub mechanism: String,
}

fn default_topic() -> String {
    "tessera.changes".to_owned()
}

fn default_events_topic() -> String {
    "tessera.events".to_owned()
}

fn default_events_type_prefix() -> String {
    "com.tessera".to_owned()
}

fn default_partitions() -> u32 {
    12
}

fn default_replication_factor() -> u16 {
    3
}

fn default_retention_hours() -> u64 {
    168
}

fn default_publish_timeout_ms() -> u64 {
    10_000
}

fn default_read_ahead_kib() -> u64 {
    2_048
}

fn default_mechanism() -> String {
    "PLAIN".to_owned()
}

impl Config {
    /// Everything at its default, with these brokers.
    pub fn new(brokers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            brokers: brokers.into_iter().map(Into::into).collect(),
            topic: default_topic(),
            events_topic: default_events_topic(),
            events_type_prefix: default_events_type_prefix(),
            partitions: default_partitions(),
            replication_factor: default_replication_factor(),
            retention_hours: default_retention_hours(),
            publish_timeout_ms: default_publish_timeout_ms(),
            read_ahead_kib: default_read_ahead_kib(),
            security: None,
        }
    }

    /// Says what is out of bounds: field, value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.brokers.is_empty() || self.brokers.len() > BROKERS_MAX {
            return Err(format!("brokers names {}; allowed are 1 to {BROKERS_MAX}", self.brokers.len()));
        }
        if let Some(broker) = self.brokers.iter().find(|broker| !is_broker(broker)) {
            return Err(format!("brokers has `{broker}`; allowed are `host:port`"));
        }
        if !is_topic(&self.topic) {
            return Err(format!(
                "topic is `{}`; allowed are 1 to {TOPIC_LEN_MAX} of `a-z A-Z 0-9 . _ -`, other than `.` and `..`",
                self.topic
            ));
        }
        if !self.events_topic.is_empty() && (!is_topic(&self.events_topic) || self.events_topic == self.topic) {
            return Err(format!(
                "events_topic is `{}`; allowed are 1 to {TOPIC_LEN_MAX} of `a-z A-Z 0-9 . _ -`, other than `.`, `..` and `topic`, or \
                 nothing, and nobody is told of events",
                self.events_topic
            ));
        }
        if !is_type_prefix(&self.events_type_prefix) {
            return Err(format!(
                "events_type_prefix is `{}`; allowed is a domain written backwards, as `com.tessera`: {TYPE_PREFIX_LEN_MIN} to \
                 {TYPE_PREFIX_LEN_MAX} bytes, two or more words of `a-z 0-9 -` between dots",
                self.events_type_prefix
            ));
        }
        within("partitions", u64::from(self.partitions), 1, u64::from(SHARDS))?;
        within("replication_factor", u64::from(self.replication_factor), 1, u64::from(REPLICATION_FACTOR_MAX))?;
        within("retention_hours", self.retention_hours, 1, RETENTION_HOURS_MAX)?;
        within("publish_timeout_ms", self.publish_timeout_ms, PUBLISH_TIMEOUT_MS_MIN, PUBLISH_TIMEOUT_MS_MAX)?;
        within("read_ahead_kib", self.read_ahead_kib, READ_AHEAD_KIB_MIN, READ_AHEAD_KIB_MAX)?;
        self.security.as_ref().map_or(Ok(()), Security::validate)
    }

    /// As messages name them.
    pub(crate) fn broker_list(&self) -> String {
        self.brokers.join(",")
    }
}

impl Security {
    fn validate(&self) -> Result<(), String> {
        if self.user.is_empty() {
            return Err("security.user is empty; allowed is the name to log in with".to_owned());
        }
        if self.password_file.as_os_str().is_empty() {
            return Err("security.password_file is empty; allowed is the path of a file".to_owned());
        }
        if !MECHANISMS.contains(&self.mechanism.as_str()) {
            return Err(format!("security.mechanism is `{}`; allowed is `{}`", self.mechanism, MECHANISMS.join("`, `")));
        }
        Ok(())
    }
}

fn within(field: &str, value: u64, from: u64, to: u64) -> Result<(), String> {
    if (from..=to).contains(&value) { Ok(()) } else { Err(format!("{field} is `{value}`; allowed are {from} to {to}")) }
}

/// Whether it reads `host:port`; a host of digits and colons stands in brackets, or all of it would be taken for the host. A comma
/// would be taken for the end of one.
fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    let one = !host.contains(|character: char| character == ',' || character.is_whitespace());
    bare && one && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_topic(text: &str) -> bool {
    let grammar = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=TOPIC_LEN_MAX).contains(&text.len()) && text.bytes().all(grammar) && !matches!(text, "." | "..")
}

/// As host names are, the other way round: no word is empty, or begins or ends with a hyphen.
fn is_type_prefix(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_word = |word: &str| {
        let ends_are_plain = [word.bytes().next(), word.bytes().last()].into_iter().all(|end| end.is_some_and(is_plain));
        ends_are_plain && word.bytes().all(|byte| is_plain(byte) || byte == b'-')
    };
    (TYPE_PREFIX_LEN_MIN..=TYPE_PREFIX_LEN_MAX).contains(&text.len()) && text.contains('.') && text.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_named() {
        let good = Config::new(["a:9092", "[::1]:9092"]);
        assert_eq!(good.validate(), Ok(()));
        let refused = |config: Config| config.validate().unwrap_err();
        assert_eq!(refused(Config { partitions: 0, ..good.clone() }), "partitions is `0`; allowed are 1 to 64");
        assert_eq!(refused(Config { partitions: 65, ..good.clone() }), "partitions is `65`; allowed are 1 to 64");
        assert_eq!(refused(Config { read_ahead_kib: 1, ..good.clone() }), "read_ahead_kib is `1`; allowed are 256 to 65536");
        assert_eq!(
            refused(Config { publish_timeout_ms: 999, ..good.clone() }),
            "publish_timeout_ms is `999`; allowed are 1000 to 120000"
        );
        assert_eq!(refused(Config { replication_factor: 0, ..good.clone() }), "replication_factor is `0`; allowed are 1 to 32");
        assert_eq!(refused(Config { retention_hours: 0, ..good.clone() }), "retention_hours is `0`; allowed are 1 to 87840");
        for topic in ["", ".", "..", "a b", &"a".repeat(250)] {
            assert!(refused(Config { topic: topic.to_owned(), ..good.clone() }).starts_with("topic is `"), "{topic}");
        }
        for topic in [".", "a b", "tessera.changes"] {
            assert!(
                refused(Config { events_topic: topic.to_owned(), ..good.clone() }).starts_with("events_topic is `"),
                "{topic}"
            );
        }
        assert_eq!(Config { events_topic: String::new(), ..good.clone() }.validate(), Ok(()));
        assert_eq!(refused(Config::new(Vec::<String>::new())), "brokers names 0; allowed are 1 to 32");
        for broker in ["", "a", "a:", ":9092", "a:0", "a:70000", "a:1,b:2", "a b:1", "::1:9092", "fd00::1:9093"] {
            assert_eq!(refused(Config::new([broker])), format!("brokers has `{broker}`; allowed are `host:port`"));
        }
        let security = Security { user: "u".to_owned(), password_file: "p".into(), mechanism: "GSSAPI".to_owned() };
        let with = |security: Security| Config { security: Some(security), ..good.clone() };
        assert_eq!(refused(with(security.clone())), "security.mechanism is `GSSAPI`; allowed is `PLAIN`");
        assert!(refused(with(Security { user: String::new(), ..security.clone() })).contains("security.user is empty"));
        let no_file = Security { password_file: PathBuf::new(), ..security };
        assert!(refused(with(no_file)).contains("security.password_file is empty"));
    }
    #[test]
    fn types_begin_with_a_domain_written_backwards() {
        let with = |prefix: &str| Config { events_type_prefix: prefix.to_owned(), ..Config::new(["a:1"]) }.validate();
        for good in ["com.tessera", "a.b", "org.example.my-shop.9", &format!("a.{}", "b".repeat(98))] {
            assert_eq!(with(good), Ok(()), "{good}");
        }
        let long = format!("a.{}", "b".repeat(99));
        for bad in ["", "tessera", ".", "a.", ".a", "a..b", "Com.tessera", "com.-a", "com.a-", "com tessera.a", "com.é", &long] {
            let refused = with(bad).unwrap_err();
            assert!(
                refused.starts_with(&format!("events_type_prefix is `{bad}`; allowed is a domain written backwards")),
                "{refused}"
            );
        }
    }
}
