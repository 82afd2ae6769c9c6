//! Hints, by shard and minute, so that what was deleted lies in partitions that are soon not looked at any more.
//!
//! A list has to know in which minutes there may be hints: see `minutes`.
//!
//! Of what is put and erased the database believes the newer. Left to itself it takes the time of each from the node that is asked,
//! and a hint would stay whose node is ahead of that of its erasure. So both have the time of the process, and an erasure is newer
//! than its hint whatever the time is here.

mod minutes;

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use scylla::DeserializeRow;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use tessera_core::ids::RequestId;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::time::Timestamp;
use tessera_ports::Shard;
use tessera_ports::event_store::ReadError;
use tessera_ports::hint_store::{Hint, HintStore};
use tessera_ports::hooks;
use tokio::time::Instant;

use crate::keyspace::Keyspace;
use crate::open::Scylla;
use crate::row::stored;
use crate::session::one_line;

pub(crate) use minutes::Minutes;
use minutes::{Empty, Place};

/// Partitions that a list reads at once.
const LIST_AT_ONCE: usize = 16;
/// By how much an erasure is newer than its hint, at least: longer than it takes from making a hint to putting it.
const ERASED_AFTER: Duration = Duration::from_secs(1);

/// A row of a hint.
#[derive(Debug, DeserializeRow)]
struct HintRow<'a> {
    at_s: i64,
    at_ns: i32,
    kind: i8,
    key: &'a str,
    request: &'a str,
    head: i64,
}

/// A registration.
#[derive(Debug, DeserializeRow)]
struct MinuteRow {
    minute: i64,
    written: Option<i64>,
}

impl HintRow<'_> {
    fn hint(&self) -> Result<Hint, String> {
        let kind = u8::try_from(self.kind).ok().and_then(StreamKind::from_number);
        let kind = kind.ok_or_else(|| format!("kind {} does not exist", self.kind))?;
        let stream = StreamId::from_parts(kind, self.key).map_err(|error| error.to_string())?;
        let request_id = RequestId::parse(self.request).map_err(|error| error.to_string())?;
        let at = Timestamp::new(self.at_s, i64::from(self.at_ns)).map_err(|error| error.to_string())?;
        let head = u64::try_from(self.head).map_err(|_| format!("head {} is no counter", self.head))?;
        Ok(Hint { stream, request_id, head, at })
    }
}

fn damaged(table: &str, why: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged(format!("table `{table}`: {}", one_line(why)))
}

fn number(shard: Shard) -> i32 {
    i32::try_from(shard.number()).unwrap_or(i32::MAX)
}

fn place(hint: &Hint) -> Place {
    (number(Shard::of(&hint.stream)), hint.at.seconds().div_euclid(60))
}

fn nanos(hint: &Hint) -> i32 {
    i32::try_from(hint.at.subsec_nanos()).unwrap_or(i32::MAX)
}

fn kind(hint: &Hint) -> i8 {
    (hint.stream.kind() as u8).cast_signed()
}

/// In the terms of the database.
fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanos() / 1_000).unwrap_or(i64::MAX)
}

#[async_trait]
impl HintStore for Scylla {
    /// Durable at the regular quorum before it returns, and so is its minute.
    async fn put(&self, hint: &Hint) -> Result<(), ReadError> {
        let now = self.0.clock.now();
        let keyspace = self.keyspace();
        let (shard, minute) = place(hint);
        if !keyspace.minutes.trusts((shard, minute)) {
            let since = Instant::now();
            self.write(&keyspace.hints.register, (shard, minute)).await?;
            keyspace.minutes.registered((shard, minute), since);
            hooks::fail_point("scylla.hint.registered");
        }
        let (kind, key, request) = (kind(hint), hint.stream.key(), hint.request_id.as_str());
        let values = (shard, minute, hint.at.seconds(), nanos(hint), kind, key, request, stored(hint.head));
        self.write_as_of(now, &keyspace.hints.put, values).await
    }

    async fn erase(&self, hint: &Hint) -> Result<(), ReadError> {
        let keyspace = self.keyspace();
        let (shard, minute) = place(hint);
        let (kind, key, request) = (kind(hint), hint.stream.key(), hint.request_id.as_str());
        let values = (shard, minute, hint.at.seconds(), nanos(hint), kind, key, request, stored(hint.head));
        let time = self.0.clock.now().max(hint.at.saturating_add(ERASED_AFTER));
        self.write_as_of(time, &keyspace.hints.erase, values).await
    }

    /// The oldest minutes first, and within them the oldest hints, whatever their shard.
    async fn list(&self, shards: &[Shard], limit: usize) -> Result<Vec<Hint>, ReadError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let keyspace = self.keyspace();
        let registered = self.registered_minutes(&keyspace, shards).await?;
        let places = keyspace.minutes.to_look_at(shards, &registered);
        let reads = places.into_iter().map(|place| {
            let keyspace = &keyspace;
            async move { Ok::<_, ReadError>((place, self.hints_of(keyspace, place, limit).await?)) }
        });
        let mut reads = futures::stream::iter(reads).buffered(LIST_AT_ONCE);
        let (mut hints, mut minute, mut empty) = (Vec::new(), i64::MIN, Vec::new());
        while let Some((place, found)) = reads.try_next().await? {
            if place.1 != minute && hints.len() >= limit {
                break;
            }
            minute = place.1;
            if found.is_empty() {
                empty.push(place);
            } else {
                keyspace.minutes.was_full(place);
            }
            hints.extend(found);
        }
        drop(reads);
        self.forget(&keyspace, empty).await?;
        hints.sort_by_key(|hint: &Hint| hint.at);
        hints.truncate(limit);
        Ok(hints)
    }
}

impl Scylla {
    async fn write_as_of(
        &self,
        time: Timestamp,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), ReadError> {
        let mut statement = statement.clone();
        statement.set_timestamp(Some(micros(time)));
        self.write(&statement, values).await
    }

    /// The minutes of these shards in which there may be hints, each with the time at which the database wrote it.
    async fn registered_minutes(&self, keyspace: &Keyspace, shards: &[Shard]) -> Result<Vec<(Place, i64)>, ReadError> {
        let numbers: Vec<i32> = shards.iter().map(|shard| number(*shard)).collect();
        let reads = numbers.into_iter().map(|shard| async move {
            let rows = self.rows(&keyspace.hints.minutes, (shard,), self.0.config.read_timeout()).await?;
            let rows = rows.rows::<MinuteRow>().map_err(|error| damaged("hint_minute", &error))?;
            let places = rows.map(|row| {
                let row = row.map_err(|error| damaged("hint_minute", &error))?;
                Ok(((shard, row.minute), row.written.unwrap_or(i64::MIN)))
            });
            places.collect::<Result<Vec<_>, ReadError>>()
        });
        let found: Vec<Vec<_>> = futures::stream::iter(reads).buffered(LIST_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn hints_of(&self, keyspace: &Keyspace, place: Place, limit: usize) -> Result<Vec<Hint>, ReadError> {
        let most = i32::try_from(limit).unwrap_or(i32::MAX).max(1);
        let values = (place.0, place.1, most);
        let rows = self.rows(&keyspace.hints.list, values, self.0.config.read_timeout()).await?;
        let rows = rows.rows::<HintRow<'_>>().map_err(|error| damaged("hint", &error))?;
        let hints = rows.map(|row| {
            let row = row.map_err(|error| damaged("hint", &error))?;
            row.hint().map_err(|why| damaged("hint", &why))
        });
        hints.collect()
    }

    async fn forget(&self, keyspace: &Keyspace, empty: Vec<Place>) -> Result<(), ReadError> {
        for place in empty {
            if let (Empty::Unregister, written) = keyspace.minutes.was_empty(place) {
                // As of when it was written: one that was made again since then stays.
                self.write(&keyspace.hints.unregister, (written, place.0, place.1)).await?;
            }
        }
        Ok(())
    }
}
