//! Versions of the tables, and who a keyspace is. Only reads; `migrating` writes.

use scylla::DeserializeRow;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::{Consistency, Statement};
use tessera_ports::event_store::StoreIdentity;

use crate::config::Config;
use crate::datacenters;
use crate::error::OpenError;
use crate::session::{one_line, open_error, repeats};

/// What brings the tables from each version to the next; `{keyspace}` stands for the keyspace, and a statement with `{stream}` is
/// made once for the table of each kind of stream. What was released never changes.
pub(crate) const MIGRATIONS: [&str; 1] = [include_str!("../migrations/0001_streams_hints_leases.cql")];

/// The newest version this software knows.
pub(crate) const VERSION: u32 = 1;
const _: () = assert!(MIGRATIONS.len() == VERSION as usize);

/// Selects the row of `meta`.
pub(crate) fn meta_text(keyspace: &str) -> String {
    format!("SELECT epoch, id, datacenters FROM \"{keyspace}\".meta WHERE one = 1")
}

/// The row of `meta`.
#[derive(Debug, DeserializeRow)]
pub(crate) struct MetaRow {
    pub(crate) epoch: Option<i64>,
    pub(crate) id: Option<String>,
    pub(crate) datacenters: Option<String>,
}

impl MetaRow {
    /// Who the keyspace is; the error: what is wrong with the row.
    pub(crate) fn identity(&self, keyspace: &str) -> Result<StoreIdentity, String> {
        let epoch = self.epoch.and_then(|epoch| u64::try_from(epoch).ok()).filter(|epoch| *epoch > 0);
        match (epoch, &self.id) {
            (Some(epoch), Some(id)) if !id.is_empty() => Ok(StoreIdentity { epoch, store: format!("{keyspace}/{id}") }),
            _ => Err("the row of table `meta` has no epoch or no id".to_owned()),
        }
    }
}

/// The row of `meta`, if there is one, of what was selected by [`meta_text`].
pub(crate) fn meta_row(rows: &QueryRowsResult) -> Result<Option<MetaRow>, String> {
    let mut rows = rows.rows::<MetaRow>().map_err(|error| one_line(&error))?;
    rows.next().transpose().map_err(|error| one_line(&error))
}

/// Asks something once, when a store is opened or made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) session: &'a Session,
    pub(crate) config: &'a Config,
    pub(crate) keyspace: &'a str,
}

impl Asking<'_> {
    pub(crate) async fn rows(
        &self,
        doing: &'static str,
        text: impl Into<String>,
        values: impl SerializeRow,
        consistency: Consistency,
    ) -> Result<QueryRowsResult, OpenError> {
        let mut statement = Statement::new(text);
        statement.set_consistency(consistency);
        statement.set_is_idempotent(true);
        statement.set_retry_policy(Some(repeats()));
        let result = self.session.query_unpaged(statement, values).await.map_err(|error| self.error(doing, &error))?;
        result.into_rows_result().map_err(|error| self.damaged(&error))
    }

    pub(crate) fn error(&self, doing: &'static str, error: &ExecutionError) -> OpenError {
        open_error(self.config, self.keyspace, doing, error)
    }

    pub(crate) fn damaged(&self, why: &dyn std::fmt::Display) -> OpenError {
        OpenError::Damaged { keyspace: self.keyspace.to_owned(), damage: one_line(why) }
    }

    /// The first column of the rows, as texts.
    async fn names(&self, text: &str, values: impl SerializeRow) -> Result<Vec<String>, OpenError> {
        // Every node knows the whole schema.
        let rows = self.rows("read which tables there are", text, values, Consistency::One).await?;
        let names = rows.rows::<(String,)>().map_err(|error| self.damaged(&error))?;
        names.map(|name| Ok(name.map_err(|error| self.damaged(&error))?.0)).collect()
    }

    /// The version of the tables; `None` without a keyspace, 0 for one that has none of ours.
    pub(crate) async fn version(&self, consistency: Consistency) -> Result<Option<u32>, OpenError> {
        let text = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        if self.names(text, (self.keyspace,)).await?.is_empty() {
            return Ok(None);
        }
        let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        if !self.names(text, (self.keyspace,)).await?.iter().any(|name| name == "schema_version") {
            return Ok(Some(0));
        }
        let text = format!("SELECT version FROM \"{}\".schema_version WHERE one = 1", self.keyspace);
        let rows = self.rows("read the schema version", text, (), consistency).await?;
        let versions = rows.rows::<(i32,)>().map_err(|error| self.damaged(&error))?;
        let mut newest = 0;
        for version in versions {
            let (version,) = version.map_err(|error| self.damaged(&error))?;
            newest = newest.max(u32::try_from(version).unwrap_or(0));
        }
        Ok(Some(newest))
    }

    /// As [`Self::version`], of a keyspace that is there.
    pub(crate) async fn existing_version(&self, consistency: Consistency) -> Result<u32, OpenError> {
        let missing = || OpenError::KeyspaceMissing { keyspace: self.keyspace.to_owned() };
        self.version(consistency).await?.ok_or_else(missing)
    }

    /// Who the keyspace is; `None` before it is anybody.
    pub(crate) async fn identity(&self, consistency: Consistency) -> Result<Option<StoreIdentity>, OpenError> {
        let rows = self.rows("read who it is", meta_text(self.keyspace), (), consistency).await?;
        let Some(meta) = meta_row(&rows).map_err(|damage| self.damaged(&damage))? else { return Ok(None) };
        let identity = meta.identity(self.keyspace).map_err(|damage| self.damaged(&damage))?;
        datacenters::check(self.keyspace, meta.datacenters.as_deref(), self.config, &datacenters::found(self.session))?;
        Ok(Some(identity))
    }
}

/// Refuses a version that this software does not know, or that is too old for it.
pub(crate) fn check_version(keyspace: &str, found: u32) -> Result<(), OpenError> {
    let keyspace = keyspace.to_owned();
    match found.cmp(&VERSION) {
        std::cmp::Ordering::Less => Err(OpenError::OlderSchema { keyspace, found, known: VERSION }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(OpenError::NewerSchema { keyspace, found, known: VERSION }),
    }
}
