//! Hints, by shard and minute, so that what was deleted lies in partitions that are soon not looked at any more.
//!
//! A list has to know in which minutes of a shard there may be hints: whoever puts one has registered its minute before. A
//! registration is trusted for two minutes by whoever made it, and then made again. Whoever lists takes away the registration of a
//! minute without hints when it has seen that same one (by the time at which the database wrote it) for ten minutes: by then nobody
//! trusts it any more. No clock but the database's own decides on that, and its nodes may be minutes apart.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use scylla::DeserializeRow;
use tessera_core::ids::RequestId;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::time::Timestamp;
use tessera_ports::Shard;
use tessera_ports::event_store::ReadError;
use tessera_ports::hint_store::{Hint, HintStore};
use tokio::time::Instant;

use crate::keyspace::Keyspace;
use crate::open::Scylla;
use crate::row::stored;
use crate::session::one_line;

/// How long whoever registered a minute trusts that it is registered.
const TRUST: Duration = Duration::from_mins(2);
/// A registration seen for longer than this gets no more hints, apart from what is on its way.
const QUIET_AFTER: Duration = Duration::from_mins(3);
/// How often a quiet minute without hints is looked at all the same.
const QUIET_PAUSE: Duration = Duration::from_secs(30);
/// A registration without hints that was seen for so long goes; several times [`TRUST`].
const UNREGISTER_AFTER: Duration = Duration::from_mins(10);
/// Partitions that a list reads at once.
const LIST_AT_ONCE: usize = 16;
/// Registrations that are remembered before old ones are thrown out.
const TRUSTED_MAX: usize = 10_000;

/// A partition of the table `hint`.
type Place = (i32, i64);

/// What is known of minutes.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    /// When this process last began to register them.
    trusted: Mutex<HashMap<Place, Instant>>,
    /// What lists have seen of them.
    seen: Mutex<HashMap<Place, Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// When the database wrote the registration, in its own terms.
    written: i64,
    since: Instant,
    /// When there was last no hint.
    empty: Option<Instant>,
}

/// What is to be done about a minute without hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    Keep,
    Unregister,
}

impl Minutes {
    fn trusted(&self) -> MutexGuard<'_, HashMap<Place, Instant>> {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Place, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trusts(&self, place: Place) -> bool {
        self.trusted().get(&place).is_some_and(|since| since.elapsed() < TRUST)
    }

    /// Registered, by a request that was sent at `since` or later.
    fn registered(&self, place: Place, since: Instant) {
        let mut trusted = self.trusted();
        if trusted.len() >= TRUSTED_MAX {
            trusted.retain(|_, since| since.elapsed() < TRUST);
        }
        trusted.insert(place, since);
    }

    /// Which of the registered minutes of some shards are to be looked at now.
    fn to_look_at(&self, shards: &[Shard], registered: &[(Place, i64)]) -> Vec<Place> {
        let mut seen = self.seen();
        let now = Instant::now();
        let ours = |place: &Place| shards.iter().any(|shard| i64::from(shard.number()) == i64::from(place.0));
        let before = std::mem::take(&mut *seen);
        seen.extend(before.iter().filter(|(place, _)| !ours(place)).map(|(place, seen)| (*place, *seen)));
        let mut places = Vec::with_capacity(registered.len());
        for (place, written) in registered {
            let known = before.get(place).filter(|seen| seen.written == *written).copied();
            let known = known.unwrap_or(Seen { written: *written, since: now, empty: None });
            seen.insert(*place, known);
            let quiet = now.duration_since(known.since) > QUIET_AFTER;
            if !quiet || known.empty.is_none_or(|empty| now.duration_since(empty) >= QUIET_PAUSE) {
                places.push(*place);
            }
        }
        // The oldest minute first.
        places.sort_unstable_by_key(|(shard, minute)| (*minute, *shard));
        places
    }

    /// A minute had no hints.
    fn was_empty(&self, place: Place) -> (Empty, i64) {
        let mut seen = self.seen();
        let Some(seen) = seen.get_mut(&place) else { return (Empty::Keep, 0) };
        let now = Instant::now();
        seen.empty = Some(now);
        let ended = now.duration_since(seen.since) >= UNREGISTER_AFTER;
        (if ended { Empty::Unregister } else { Empty::Keep }, seen.written)
    }

    fn was_full(&self, place: Place) {
        if let Some(seen) = self.seen().get_mut(&place) {
            seen.empty = None;
        }
    }
}

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

#[async_trait]
impl HintStore for Scylla {
    /// Durable at the regular quorum before it returns, and so is its minute.
    async fn put(&self, hint: &Hint) -> Result<(), ReadError> {
        let keyspace = self.keyspace();
        let (shard, minute) = place(hint);
        if !keyspace.minutes.trusts((shard, minute)) {
            let since = Instant::now();
            self.write(&keyspace.hints.register, (shard, minute)).await?;
            keyspace.minutes.registered((shard, minute), since);
        }
        let (at_s, at_ns, head) = (hint.at.seconds(), nanos(hint), stored(hint.head));
        let values = (shard, minute, at_s, at_ns, kind(hint), hint.stream.key(), hint.request_id.as_str(), head);
        self.write(&keyspace.hints.put, values).await
    }

    async fn erase(&self, hint: &Hint) -> Result<(), ReadError> {
        let keyspace = self.keyspace();
        let (shard, minute) = place(hint);
        let (at_s, at_ns, head) = (hint.at.seconds(), nanos(hint), stored(hint.head));
        let values = (shard, minute, at_s, at_ns, kind(hint), hint.stream.key(), hint.request_id.as_str(), head);
        self.write(&keyspace.hints.erase, values).await
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = (3, 100);

    fn shards() -> Vec<Shard> {
        Shard::all().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_goes_long_after_nobody_trusts_it() {
        let minutes = Minutes::default();
        minutes.registered(PLACE, Instant::now());
        let look = |written| minutes.to_look_at(&shards(), &[(PLACE, written)]);
        let mut passed = Duration::ZERO;
        loop {
            if !look(7).is_empty() && minutes.was_empty(PLACE) == (Empty::Unregister, 7) {
                break;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            passed += Duration::from_secs(1);
        }
        assert!(!minutes.trusts(PLACE));
        assert!((UNREGISTER_AFTER..UNREGISTER_AFTER + QUIET_PAUSE * 2).contains(&passed), "{passed:?}");
        // One that was made again is another.
        assert_eq!(look(8), [PLACE]);
        assert_eq!(minutes.was_empty(PLACE), (Empty::Keep, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_minutes_are_seldom_looked_at_and_busy_ones_always() {
        let minutes = Minutes::default();
        let (busy, quiet) = ((1, 5), (1, 4));
        let mut looks = [0, 0];
        for _ in 0..600 {
            for place in minutes.to_look_at(&shards(), &[(busy, 1), (quiet, 1)]) {
                if place == busy {
                    looks[0] += 1;
                    minutes.was_full(place);
                } else {
                    looks[1] += 1;
                    assert_eq!(minutes.was_empty(place).0, Empty::Keep);
                }
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(looks[0], 600);
        assert!((181 + 10..181 + 20).contains(&looks[1]), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_other_shards_stays() {
        let minutes = Minutes::default();
        let shards = shards();
        minutes.to_look_at(&shards, &[((1, 5), 1), ((2, 5), 1)]);
        minutes.was_empty((2, 5));
        minutes.to_look_at(&shards[1..2], &[]);
        let known = minutes.seen();
        assert!(known.contains_key(&(2, 5)) && !known.contains_key(&(1, 5)), "{known:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_minutes_come_first_whatever_their_shard() {
        let minutes = Minutes::default();
        let registered = [((1, 9), 1), ((1, 3), 1), ((2, 4), 1), ((5, 3), 1)];
        assert_eq!(minutes.to_look_at(&shards(), &registered), [(1, 3), (5, 3), (2, 4), (1, 9)]);
    }
}
