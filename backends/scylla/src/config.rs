//! Settings of the store. Only its contact points have no default.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How conditions are decided, and what a quorum is. Mixed, they would not see each other: it is written down when the keyspace is
/// made, and whoever has it otherwise is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datacenters {
    /// All loaders are in one datacenter: `LOCAL_SERIAL` and `LOCAL_QUORUM`.
    One,
    /// Loaders are in several: `SERIAL` and `QUORUM`.
    Many,
}

impl Datacenters {
    /// As it is written in settings and in the keyspace.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
        }
    }
}

/// Whether the keyspace that `migrate` makes is kept in tablets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tablets {
    /// As the database does by itself; the only choice for Cassandra, which knows no tablets.
    Default,
    /// Not in tablets: for ScyllaDB up to 2025.3, which has no conditional writes in them.
    Off,
}

/// Where the store is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Some nodes of the database, `host:port` each; the others are found through them.
    pub contact_points: Vec<String>,
    /// The keyspace: 1 to 48 bytes of a-z 0-9 _, the first a letter. A restore goes to another one. Default `tessera`.
    #[serde(default = "default_keyspace")]
    pub keyspace: String,
    /// Copies of everything in each datacenter, 1 to 9; `migrate` alone needs it, when it makes the keyspace. Default 3, so that one
    /// node can be missing.
    #[serde(default = "default_replication_factor")]
    pub replication_factor: u32,
    /// Whether all loaders are in one datacenter, `one` or `many`. Default `one`. Never changes in a keyspace.
    #[serde(default = "default_datacenters")]
    pub datacenters: Datacenters,
    /// Whether `migrate` makes the keyspace with tablets: `default`, or `off` for ScyllaDB up to 2025.3. Default `default`.
    #[serde(default = "default_tablets")]
    pub tablets: Tablets,
    /// The datacenter whose nodes are asked; with `datacenters` `one` the same for all loaders and servers, and never another one in
    /// a keyspace. None: the only one there is, or with `many` any.
    #[serde(default)]
    pub local_datacenter: Option<String>,
    /// Who logs in. None: nobody does.
    #[serde(default)]
    pub user: Option<String>,
    /// A file with the password of `user` in its first line; needed with `user`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How long an append is waited for, in milliseconds, 100 to 60,000. Default 5,000: longer than the database itself waits, so
    /// that its own answer arrives.
    #[serde(default = "default_append_timeout_ms")]
    pub append_timeout_ms: u64,
    /// How long a read of one stream may take, with its repetitions, in milliseconds, 100 to 60,000. Default 3,000.
    #[serde(default = "default_read_timeout_ms")]
    pub read_timeout_ms: u64,
    /// How long a page of a scan may take, in milliseconds, 100 to 120,000. Default 15,000: it reads from many nodes.
    #[serde(default = "default_scan_timeout_ms")]
    pub scan_timeout_ms: u64,
    /// Connections to each node, 1 to 64, and to each shard of a node of ScyllaDB. Default 1: each carries thousands of requests at
    /// once.
    #[serde(default = "default_connections_per_node")]
    pub connections_per_node: usize,
    /// Into how many parts the tenants are cut for a scan, 1 to 4,096. Default 64: each is begun again by itself.
    #[serde(default = "default_scan_ranges")]
    pub scan_ranges: u32,
    /// Streams that one call reads or appends to at once, 1 to 1,024. Default 64: more only wait in the database.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
}

fn default_keyspace() -> String {
    "tessera".to_owned()
}

fn default_replication_factor() -> u32 {
    3
}

fn default_datacenters() -> Datacenters {
    Datacenters::One
}

fn default_tablets() -> Tablets {
    Tablets::Default
}

fn default_append_timeout_ms() -> u64 {
    5_000
}

fn default_read_timeout_ms() -> u64 {
    3_000
}

fn default_scan_timeout_ms() -> u64 {
    15_000
}

fn default_connections_per_node() -> usize {
    1
}

fn default_scan_ranges() -> u32 {
    64
}

fn default_concurrency() -> usize {
    64
}

/// What a keyspace may be called, in words.
const KEYSPACE_GRAMMAR: &str = "1 to 48 bytes of a-z 0-9 _, the first a letter";

/// Whether a keyspace may be called so. Whatever passes can stand in a statement.
pub(crate) fn is_keyspace(name: &str) -> bool {
    let letter_first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    letter_first && name.len() <= 48 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Whether it reads `host:port`; a host of digits and colons stands in brackets.
fn is_contact_point(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    bare && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl Config {
    /// Everything at its default, with these contact points.
    pub fn new(contact_points: Vec<String>) -> Self {
        Self {
            contact_points,
            keyspace: default_keyspace(),
            replication_factor: default_replication_factor(),
            datacenters: default_datacenters(),
            tablets: default_tablets(),
            local_datacenter: None,
            user: None,
            password_file: None,
            append_timeout_ms: default_append_timeout_ms(),
            read_timeout_ms: default_read_timeout_ms(),
            scan_timeout_ms: default_scan_timeout_ms(),
            connections_per_node: default_connections_per_node(),
            scan_ranges: default_scan_ranges(),
            concurrency: default_concurrency(),
        }
    }

    /// Says what is out of bounds: field, value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.contact_points.is_empty() {
            return Err("contact_points is empty; allowed are one or more of `host:port`".to_owned());
        }
        if let Some(bad) = self.contact_points.iter().find(|point| !is_contact_point(point)) {
            return Err(format!(
                "contact_points holds `{}`; allowed are `host:port`, as in `127.0.0.1:9042`",
                bad.escape_debug()
            ));
        }
        if !is_keyspace(&self.keyspace) {
            return Err(format!("keyspace is `{}`; allowed are {KEYSPACE_GRAMMAR}", self.keyspace.escape_debug()));
        }
        if self.user.is_some() != self.password_file.is_some() {
            let (given, missing) = if self.user.is_some() { ("user", "password_file") } else { ("password_file", "user") };
            return Err(format!("{given} is given and {missing} is not; allowed are both or neither"));
        }
        bounded("replication_factor", u64::from(self.replication_factor), 1, 9)?;
        bounded("append_timeout_ms", self.append_timeout_ms, 100, 60_000)?;
        bounded("read_timeout_ms", self.read_timeout_ms, 100, 60_000)?;
        bounded("scan_timeout_ms", self.scan_timeout_ms, 100, 120_000)?;
        bounded("connections_per_node", self.connections_per_node as u64, 1, 64)?;
        bounded("scan_ranges", u64::from(self.scan_ranges), 1, 4_096)?;
        bounded("concurrency", self.concurrency as u64, 1, 1_024)
    }

    pub(crate) fn append_timeout(&self) -> Duration {
        Duration::from_millis(self.append_timeout_ms)
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(crate) fn scan_timeout(&self) -> Duration {
        Duration::from_millis(self.scan_timeout_ms)
    }
}

fn bounded(field: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{field} is `{value}`; allowed are {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config::new(vec!["127.0.0.1:9042".to_owned()])
    }

    #[test]
    fn bounds_are_named() {
        assert_eq!(good().validate(), Ok(()));
        let refused = |config: Config| config.validate().unwrap_err();
        assert_eq!(refused(Config::new(Vec::new())), "contact_points is empty; allowed are one or more of `host:port`");
        assert_eq!(refused(Config { replication_factor: 0, ..good() }), "replication_factor is `0`; allowed are 1 to 9");
        assert_eq!(refused(Config { scan_ranges: 5_000, ..good() }), "scan_ranges is `5000`; allowed are 1 to 4096");
        assert_eq!(refused(Config { read_timeout_ms: 99, ..good() }), "read_timeout_ms is `99`; allowed are 100 to 60000");
        assert_eq!(
            refused(Config { user: Some("tessera".to_owned()), ..good() }),
            "user is given and password_file is not; allowed are both or neither"
        );
    }

    #[test]
    fn keyspaces_can_stand_in_statements() {
        for name in ["t", "tessera", "tessera_2", &"a".repeat(48)] {
            assert_eq!(Config { keyspace: name.to_owned(), ..good() }.validate(), Ok(()), "{name}");
        }
        for name in ["", "_a", "2a", "Tessera", "a b", "a\"b", "a;b", "a-b", &"a".repeat(49)] {
            assert!(Config { keyspace: name.to_owned(), ..good() }.validate().is_err(), "{name}");
        }
    }

    #[test]
    fn contact_points_name_host_and_port() {
        for point in ["a:1", "scylla-0.scylla.svc:9042", "10.0.0.1:9042", "[::1]:9042"] {
            assert_eq!(Config::new(vec![point.to_owned()]).validate(), Ok(()), "{point}");
        }
        for point in ["", "a", ":1", "a:", "a:0", "a:65536", "a:b", "::1:9042"] {
            assert!(Config::new(vec![point.to_owned()]).validate().is_err(), "{point}");
        }
    }
}
