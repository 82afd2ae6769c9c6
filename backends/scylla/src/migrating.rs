//! Makes a keyspace and brings its tables up to date: by whoever operates Tessera, never by a process that starts.
//!
//! Every statement may be run again. Two at once take turns: the tables of one keyspace are changed by whoever has the row of the
//! table `migrating`, which ends by itself should its owner die.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::{Consistency, Statement};
use scylla::value::{CqlTimestamp, CqlValue, Row};
use tessera_core::stream::{Epoch, StreamKind};
use tessera_ports::clock::{Clock, IdSource};
use tessera_ports::event_store::StoreIdentity;
use tokio::time::Instant;

use crate::config::{Config, Datacenters, Tablets};
use crate::datacenters;
use crate::error::OpenError;
use crate::keyspace::table;
use crate::row::stored;
use crate::schema::{Asking, MIGRATIONS, VERSION, check_version};
use crate::session::{Consistencies, connect, one_line, unreachable};

/// A change of tables waits for all nodes.
const STATEMENT_TIME: Duration = Duration::from_mins(1);
/// After that another one may take over; nothing here takes as long.
const TURN_S: u64 = 300;
/// Between two looks whether the other one is done.
const TURN_PAUSE: Duration = Duration::from_millis(200);

/// What [`migrate`] found and made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Which store it is.
    pub identity: StoreIdentity,
    /// Version of the schema before; 0 if the keyspace was made now.
    pub found: u32,
    /// Version of the schema now.
    pub now: u32,
}

/// Makes the keyspace of `config` if it is not there, and brings its tables up to date. A new one is named by `ids` and begins
/// `epoch`, without one 1: a restore begins the next in a new keyspace, and one that is there with another epoch is refused.
pub async fn migrate(
    config: &Config,
    ids: &dyn IdSource,
    clock: &dyn Clock,
    epoch: Option<Epoch>,
) -> Result<Migrated, OpenError> {
    config.validate().map_err(OpenError::Config)?;
    let (session, settled) = connect(config).await?;
    let making = Making { asking: Asking { session: &session, config: &settled, keyspace: &settled.keyspace } };
    let found = making.version().await?.unwrap_or(0);
    if found > VERSION {
        check_version(&config.keyspace, found)?;
    }
    if found > 0 {
        // A keyspace of another datacenter is refused before anything is written: conditions would not see what is stored there.
        making.asking.identity(Consistency::Quorum).await?;
    }
    making.frame().await?;
    let turn = ids.unique();
    making.take_turn(&turn).await?;
    let made = making.make(ids, clock, epoch).await;
    let left = making.leave_turn(&turn).await;
    let identity = made?;
    left?;
    tracing::info!(keyspace = config.keyspace, epoch = identity.epoch, from = found, to = VERSION, "the schema is up to date");
    Ok(Migrated { identity, found, now: VERSION })
}

#[derive(Debug, Clone, Copy)]
struct Making<'a> {
    asking: Asking<'a>,
}

impl Making<'_> {
    fn session(&self) -> &Session {
        self.asking.session
    }

    /// Asked of all datacenters: the one that the settings name may be the wrong one, and know nothing of it.
    async fn version(&self) -> Result<Option<u32>, OpenError> {
        self.asking.version(Consistency::Quorum).await
    }

    async fn change(&self, text: String) -> Result<(), OpenError> {
        let mut statement = Statement::new(text);
        statement.set_request_timeout(Some(STATEMENT_TIME));
        let changed = self.session().query_unpaged(statement, ()).await;
        changed.map(drop).map_err(|error| self.asking.error("change tables", &error))
    }

    /// What taking turns needs. All the same, two that make a keyspace at the same moment may be told to try again.
    async fn frame(&self) -> Result<(), OpenError> {
        let keyspace = self.asking.keyspace;
        if self.version().await?.is_none() {
            let copies = self.asking.config.replication_factor;
            let tablets = match self.asking.config.tablets {
                Tablets::Default => "",
                Tablets::Off => " AND tablets = {'enabled': false}",
            };
            self.change(format!(
                "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {{'class': 'NetworkTopologyStrategy', \
                 'replication_factor': {copies}}}{tablets}"
            ))
            .await?;
        }
        self.change(format!("CREATE TABLE IF NOT EXISTS \"{keyspace}\".migrating (one tinyint PRIMARY KEY, turn text)")).await?;
        self.change(format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".schema_version (one tinyint, version int, at timestamp, PRIMARY KEY (one, \
             version))"
        ))
        .await?;
        self.agreement().await
    }

    async fn agreement(&self) -> Result<(), OpenError> {
        let agreed = self.session().await_schema_agreement().await;
        agreed.map(drop).map_err(|error| unreachable(self.asking.config, one_line(&error)))
    }

    /// Whether a statement with a condition was applied.
    async fn conditional(&self, text: String, values: impl scylla::serialize::row::SerializeRow) -> Result<bool, OpenError> {
        let mut statement = Statement::new(text);
        let consistencies = Consistencies::of(self.asking.config.datacenters);
        statement.set_serial_consistency(Some(consistencies.conditions));
        let result = self.session().query_unpaged(statement, values).await;
        let result = result.map_err(|error| no_conditions(self.asking, &error))?;
        let rows = result.into_rows_result().map_err(|error| self.asking.damaged(&error))?;
        let row = rows.first_row::<Row>().map_err(|error| self.asking.damaged(&error))?;
        Ok(row.columns.first() == Some(&Some(CqlValue::Boolean(true))))
    }

    async fn take_turn(&self, turn: &str) -> Result<(), OpenError> {
        let keyspace = self.asking.keyspace;
        let deadline = Instant::now() + Duration::from_secs(TURN_S + 10);
        loop {
            let text = format!("INSERT INTO \"{keyspace}\".migrating (one, turn) VALUES (1, ?) IF NOT EXISTS USING TTL {TURN_S}");
            let taken = self.conditional(text, (turn,)).await;
            match taken {
                Ok(true) => return Ok(()),
                // The answer to this attempt or to one before may be lost, and the row ours all the same.
                Ok(false) | Err(OpenError::Unreachable { .. }) => {
                    if self.whose_turn().await?.as_deref() == Some(turn) {
                        return Ok(());
                    }
                    taken?;
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                let reason = format!("another `tessera migrate` is at work in keyspace `{keyspace}` for {TURN_S} s already");
                return Err(unreachable(self.asking.config, reason));
            }
            tokio::time::sleep(TURN_PAUSE).await;
        }
    }

    /// Of whoever took it and has not left; `None` when nobody has it.
    async fn whose_turn(&self) -> Result<Option<String>, OpenError> {
        let text = format!("SELECT turn FROM \"{}\".migrating WHERE one = 1", self.asking.keyspace);
        let serial = Consistencies::of(self.asking.config.datacenters).serial;
        let rows = self.asking.rows("read whose turn it is", text, (), serial).await?;
        let turn = rows.maybe_first_row::<(Option<String>,)>().map_err(|error| self.asking.damaged(&error))?;
        Ok(turn.and_then(|(turn,)| turn))
    }

    async fn leave_turn(&self, turn: &str) -> Result<(), OpenError> {
        let text = format!("DELETE FROM \"{}\".migrating WHERE one = 1 IF turn = ?", self.asking.keyspace);
        self.conditional(text, (turn,)).await.map(drop)
    }

    async fn make(&self, ids: &dyn IdSource, clock: &dyn Clock, epoch: Option<Epoch>) -> Result<StoreIdentity, OpenError> {
        let keyspace = self.asking.keyspace;
        let now = || CqlTimestamp(clock.now().seconds().saturating_mul(1_000));
        let found = self.version().await?.unwrap_or(0);
        for migration in MIGRATIONS.iter().skip(found as usize) {
            for statement in statements(migration, keyspace) {
                self.change(statement).await?;
            }
            self.agreement().await?;
        }
        let text =
            format!("INSERT INTO \"{keyspace}\".meta (one, epoch, id, datacenters, made) VALUES (1, ?, ?, ?, ?) IF NOT EXISTS");
        let config = self.asking.config;
        let values = (stored(epoch.unwrap_or(1)), ids.unique(), datacenters::written(config), now());
        self.conditional(text, values).await?;
        let identity = self.asking.identity(Consistencies::of(config.datacenters).serial).await?;
        let identity = identity.ok_or_else(|| self.asking.damaged(&"the row of table `meta` is not there"))?;
        if let Some(asked) = epoch.filter(|asked| *asked != identity.epoch) {
            return Err(OpenError::OtherEpoch { keyspace: keyspace.to_owned(), found: identity.epoch, asked });
        }
        if config.datacenters == Datacenters::One {
            // A keyspace that was made when nobody wrote down which datacenter says it from now on.
            let text = format!("UPDATE \"{keyspace}\".meta SET datacenters = ? WHERE one = 1 IF datacenters = 'one'");
            self.conditional(text, (datacenters::written(config),)).await?;
        }
        // Last, so that whoever opens it before is told to migrate.
        self.note_version(now()).await?;
        Ok(identity)
    }

    /// In every datacenter, since whoever opens the keyspace may ask the copies of one alone; and every time, since earlier
    /// software has written it for a majority of all copies.
    async fn note_version(&self, at: CqlTimestamp) -> Result<(), OpenError> {
        let text = format!("INSERT INTO \"{}\".schema_version (one, version, at) VALUES (1, ?, ?)", self.asking.keyspace);
        let mut statement = Statement::new(text);
        statement.set_consistency(Consistency::EachQuorum);
        let version = i32::try_from(VERSION).unwrap_or(i32::MAX);
        let noted = self.session().query_unpaged(statement, (version, at)).await;
        noted.map(drop).map_err(|error| self.asking.error("note the schema version", &error))
    }
}

/// What a failed statement with a condition means when a store is made or opened: conditions may be what is missing.
pub(crate) fn no_conditions(asking: Asking<'_>, error: &scylla::errors::ExecutionError) -> OpenError {
    match asking.error("write with a condition", error) {
        OpenError::Refused { keyspace, reason, .. } if !reason.contains("permission") => {
            OpenError::NoConditions { keyspace, reason }
        }
        other => other,
    }
}

/// The statements of a migration, those of streams once for each kind.
fn statements(migration: &str, keyspace: &str) -> Vec<String> {
    let lines = migration.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n").replace("{keyspace}", &format!("\"{keyspace}\""));
    let mut all = Vec::new();
    for statement in text.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        if statement.contains("{stream}") {
            all.extend(StreamKind::ALL.map(|kind| statement.replace("{stream}", table(kind))));
        } else {
            all.push(statement.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_made_for_every_kind() {
        let all = statements(MIGRATIONS[0], "shop");
        assert_eq!(all.len(), 8, "{all:#?}");
        assert!(all.iter().all(|statement| statement.starts_with("CREATE TABLE IF NOT EXISTS \"shop\".")), "{all:#?}");
        assert!(all.iter().all(|statement| !statement.contains(['{', ';'])), "{all:#?}");
        for kind in StreamKind::ALL {
            let named = format!("\"shop\".{} (", table(kind));
            assert_eq!(all.iter().filter(|statement| statement.contains(&named)).count(), 1, "{kind:?}");
        }
    }
}
