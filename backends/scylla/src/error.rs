//! Why a store does not open, each with what to do about it.

use std::path::PathBuf;

/// Why a store does not open. Nothing is ever made or changed by opening.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its bounds.
    #[error("{0}")]
    Config(String),
    /// The password cannot be read.
    #[error("password_file `{path}` cannot be used: {reason}; needed is a file with the password in its first line")]
    Password {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It does not answer, or not in time.
    #[error("the store cannot be reached through contact_points {contact_points}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        contact_points: String,
        /// What went wrong.
        reason: String,
    },
    /// It does not let us in.
    #[error("the store refuses {}: {reason}; look at the settings `user` and `password_file`", whom(user.as_deref()))]
    Authentication {
        /// Who wanted to log in.
        user: Option<String>,
        /// What it says.
        reason: String,
    },
    /// It does not let us do what is needed.
    #[error("the store refuses to {doing} in keyspace `{keyspace}`: {reason}")]
    Refused {
        /// In which keyspace.
        keyspace: String,
        /// What was to be done.
        doing: &'static str,
        /// What it says.
        reason: String,
    },
    /// Our clock and its clock are too far apart: times to live would end at other times than meant.
    #[error("the clock of the store is {seconds} s {} ours, allowed are 30 s; set the clocks", direction(*ahead))]
    Clock {
        /// How far apart.
        seconds: u64,
        /// Whether the store's is ahead.
        ahead: bool,
    },
    /// Tokens are not what scans rest on.
    #[error("the store has the partitioner `{found}`; needed is the Murmur3Partitioner, with which a cluster is made by itself")]
    Partitioner {
        /// Which it has.
        found: String,
    },
    /// There is no such keyspace.
    #[error("there is no keyspace `{keyspace}`; make it with `tessera migrate`")]
    KeyspaceMissing {
        /// Which.
        keyspace: String,
    },
    /// Written by older software, or not ready.
    #[error("keyspace `{keyspace}` has schema version {found}, this software needs {known}; run `tessera migrate`")]
    OlderSchema {
        /// Which keyspace.
        keyspace: String,
        /// Its version; 0 for none.
        found: u32,
        /// The version this software needs.
        known: u32,
    },
    /// Written by newer software.
    #[error(
        "keyspace `{keyspace}` has schema version {found}, this software knows versions up to {known}; use the software that wrote it, or newer"
    )]
    NewerSchema {
        /// Which keyspace.
        keyspace: String,
        /// Its version.
        found: u32,
        /// The newest version this software knows.
        known: u32,
    },
    /// Conditions are decided otherwise there.
    #[error(
        "keyspace `{keyspace}` was made with datacenters `{stored}`, the settings say `{configured}`; they must be the same, and never change in a keyspace"
    )]
    Datacenters {
        /// Which keyspace.
        keyspace: String,
        /// As it was made.
        stored: String,
        /// As the settings say, with the name of the datacenter where that is what differs.
        configured: String,
    },
    /// It has several datacenters, and the settings do not say which is meant.
    #[error(
        "the store has the datacenters {found}, and local_datacenter is not set; with datacenters `one` set it to the one that all loaders and servers use"
    )]
    SeveralDatacenters {
        /// Their names.
        found: String,
    },
    /// It has no such datacenter.
    #[error("local_datacenter is `{}`; allowed are the datacenters of the store: {found}", configured.escape_debug())]
    NoSuchDatacenter {
        /// As the settings say.
        configured: String,
        /// The names of those it has.
        found: String,
    },
    /// The keyspace was made when it was not written down which datacenter it belongs to, and there is more than one now.
    #[error(
        "keyspace `{keyspace}` was made with datacenters `one` and does not say which of {found}; set column `datacenters` of its table `meta` to `one` and the name of the one that all loaders have used, as in `one dc1`"
    )]
    UnnamedDatacenter {
        /// Which keyspace.
        keyspace: String,
        /// The names of those there are.
        found: String,
    },
    /// It does no conditional writes.
    #[error(
        "keyspace `{keyspace}` has no conditional writes: {reason}; ScyllaDB up to 2025.3 needs a keyspace made with tablets `off`"
    )]
    NoConditions {
        /// Which keyspace.
        keyspace: String,
        /// What the database says.
        reason: String,
    },
    /// The keyspace that was to begin an epoch is there already.
    #[error("keyspace `{keyspace}` is there already, with epoch {found} and not {asked}; a restore goes to a new keyspace")]
    OtherEpoch {
        /// Which keyspace.
        keyspace: String,
        /// Its epoch.
        found: u64,
        /// The epoch it was to have.
        asked: u64,
    },
    /// What is stored is not what was written.
    #[error("keyspace `{keyspace}` is damaged: {damage}; nothing was changed")]
    Damaged {
        /// Which keyspace.
        keyspace: String,
        /// What is wrong with it.
        damage: String,
    },
}

impl OpenError {
    /// Whether it may open by and by without anybody doing anything about it.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn whom(user: Option<&str>) -> String {
    user.map_or_else(|| "a client without a user".to_owned(), |user| format!("user `{user}`"))
}

fn direction(ahead: bool) -> &'static str {
    if ahead { "ahead of" } else { "behind" }
}
