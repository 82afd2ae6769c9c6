//! Hints and leases. This store feeds itself and is one process's, so loaders put no hints here and share nothing; whoever does
//! gets what the ports promise.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tessera_core::ids::RequestId;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::time::Timestamp;
use tessera_ports::event_store::ReadError;
use tessera_ports::hint_store::{Hint, HintStore};
use tessera_ports::{LeaseStore, Shard};

use crate::error::Trouble;
use crate::open::Sqlite;
use crate::row::restored;
use crate::writer::{Failure, Work};

#[async_trait]
impl HintStore for Sqlite {
    async fn put(&self, hint: &Hint) -> Result<(), ReadError> {
        self.write_hint(Work::PutHint(hint.clone())).await
    }

    async fn erase(&self, hint: &Hint) -> Result<(), ReadError> {
        self.write_hint(Work::EraseHint(hint.clone())).await
    }

    async fn list(&self, shards: &[Shard], limit: usize) -> Result<Vec<Hint>, ReadError> {
        let shards = shards.to_vec();
        self.0.readers.read(move |connection| list(connection, &shards, limit)).await
    }
}

/// The process that has the database is the only one.
#[async_trait]
impl LeaseStore for Sqlite {
    async fn renew(&self, owner: &str, _time: Duration) -> Result<Vec<String>, ReadError> {
        Ok(vec![owner.to_owned()])
    }
}

impl Sqlite {
    async fn write_hint(&self, work: Work) -> Result<(), ReadError> {
        match self.0.writer.write(work).await {
            Ok(_) => Ok(()),
            Err(Failure::DiskFull) => Err(ReadError::Unavailable("the disk is full".to_owned())),
            Err(Failure::Unknown(why) | Failure::NotAttempted(why)) => Err(ReadError::Unavailable(why)),
        }
    }
}

fn list(connection: &Connection, shards: &[Shard], limit: usize) -> Result<Vec<Hint>, Trouble> {
    let mut select =
        connection.prepare_cached("SELECT kind, key, request_id, head, at_s, at_ns FROM hint ORDER BY at_s, at_ns")?;
    let mut rows = select.query([])?;
    let mut hints = Vec::new();
    while hints.len() < limit
        && let Some(row) = rows.next()?
    {
        let damaged = |why: &dyn std::fmt::Display| Trouble::Damaged(format!("table `hint`: {why}"));
        let kind = StreamKind::from_number(row.get(0)?).ok_or_else(|| damaged(&"a kind of stream that does not exist"))?;
        let stream = StreamId::from_parts(kind, &row.get::<_, String>(1)?).map_err(|error| damaged(&error))?;
        if !shards.contains(&Shard::of(&stream)) {
            continue;
        }
        let request_id = RequestId::parse(&row.get::<_, String>(2)?).map_err(|error| damaged(&error))?;
        let at = Timestamp::new(row.get(4)?, row.get(5)?).map_err(|error| damaged(&error))?;
        hints.push(Hint { stream, request_id, head: restored(row.get(3)?)?, at });
    }
    Ok(hints)
}
