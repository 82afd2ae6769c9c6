//! In which minutes of a shard there may be hints.
//!
//! Whoever puts a hint has registered its minute before. A registration is trusted for two minutes by whoever made it, and then
//! made again. Whoever lists takes away the registration of a minute without hints when it has seen that same one (by the time at
//! which the database wrote it) for ten minutes: by then nobody trusts it any more. No clock but the database's own decides on
//! that, and its nodes may be minutes apart.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tessera_ports::Shard;
use tokio::time::Instant;

/// How long whoever registered a minute trusts that it is registered.
const TRUST: Duration = Duration::from_mins(2);
/// A registration seen for longer than this gets no more hints, apart from what is on its way.
const QUIET_AFTER: Duration = Duration::from_mins(3);
/// How often a quiet minute without hints is looked at all the same.
const QUIET_PAUSE: Duration = Duration::from_secs(30);
/// A registration without hints that was seen for so long goes; several times [`TRUST`].
const UNREGISTER_AFTER: Duration = Duration::from_mins(10);
/// Registrations that are remembered before old ones are thrown out.
const TRUSTED_MAX: usize = 10_000;

/// A partition of the table `hint`.
pub(crate) type Place = (i32, i64);

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
pub(super) enum Empty {
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

    pub(super) fn trusts(&self, place: Place) -> bool {
        self.trusted().get(&place).is_some_and(|since| since.elapsed() < TRUST)
    }

    /// Registered, by a request that was sent at `since` or later.
    pub(super) fn registered(&self, place: Place, since: Instant) {
        let mut trusted = self.trusted();
        if trusted.len() >= TRUSTED_MAX {
            trusted.retain(|_, since| since.elapsed() < TRUST);
        }
        trusted.insert(place, since);
    }

    /// Which of the registered minutes of some shards are to be looked at now.
    pub(super) fn to_look_at(&self, shards: &[Shard], registered: &[(Place, i64)]) -> Vec<Place> {
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
    pub(super) fn was_empty(&self, place: Place) -> (Empty, i64) {
        let mut seen = self.seen();
        let Some(seen) = seen.get_mut(&place) else { return (Empty::Keep, 0) };
        let now = Instant::now();
        seen.empty = Some(now);
        let ended = now.duration_since(seen.since) >= UNREGISTER_AFTER;
        (if ended { Empty::Unregister } else { Empty::Keep }, seen.written)
    }

    pub(super) fn was_full(&self, place: Place) {
        if let Some(seen) = self.seen().get_mut(&place) {
            seen.empty = None;
        }
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
