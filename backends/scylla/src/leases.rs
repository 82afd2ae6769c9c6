//! Leases: rows with a time to live, by the database's own clock.

use std::time::Duration;

use async_trait::async_trait;
use tessera_ports::LeaseStore;
use tessera_ports::event_store::ReadError;

use crate::open::Scylla;
use crate::session::one_line;

/// Twenty years: the database refuses more.
const TTL_MAX_S: i32 = 20 * 365 * 24 * 3_600;

#[async_trait]
impl LeaseStore for Scylla {
    async fn renew(&self, owner: &str, time: Duration) -> Result<Vec<String>, ReadError> {
        let keyspace = self.keyspace();
        let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1);
        let seconds = i32::try_from(whole).unwrap_or(TTL_MAX_S).min(TTL_MAX_S);
        self.write(&keyspace.leases.renew, (owner, seconds)).await?;
        let rows = self.rows(&keyspace.leases.list, (), self.0.config.read_timeout()).await?;
        let damaged = |why: &dyn std::fmt::Display| ReadError::Damaged(format!("table `lease`: {}", one_line(why)));
        let owners = rows.rows::<(String,)>().map_err(|error| damaged(&error))?;
        let owners = owners.map(|row| row.map(|(owner,)| owner).map_err(|error| damaged(&error)));
        let mut owners = owners.collect::<Result<Vec<_>, _>>()?;
        owners.sort_unstable();
        Ok(owners)
    }
}
