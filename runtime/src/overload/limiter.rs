//! How many calls may wait for their turn on one thread. No clocks and no sockets here: time is an argument.
//!
//! How long a call waits is the only sign of overload that means the same on every machine and under every quota, so it is what is
//! controlled (RFC 8289 does so with packets): when most calls waited longer than the target for [`LATE_INTERVALS`], what the thread gets through
//! in the target time becomes the limit; a call that arrives when as many wait is refused. While waits are short the limit grows
//! again.
//!
//! Whoever asks no more than half of an equal share of what is served is let in even then: it is the connections that ask most that are
//! refused.
//!
//! To refuse a small call costs a quarter and more of what serving it does, so that refusing alone can fill a thread. It may take a fifth
//! of its time ([`Readiness`]): while that is used up, connections that would be refused are not read, and TCP and HTTP/2 hold their
//! callers back, at no cost to anybody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What most calls wait is looked at over so long: long enough that a burst is gone by then.
const INTERVAL: Duration = Duration::from_millis(100);
/// After so many intervals in which nothing happened nothing is known any more.
const FORGOTTEN_AFTER: u32 = 10;
/// As good as no limit.
const UNLIMITED: usize = 100_000;
/// As many may wait anyhow: it is a moment, and few callers ask for one thing at a time.
const LIMIT_MIN: usize = 16;
/// In so many intervals, one after the other, most calls have to be late before anybody is refused: a process that stood still for a
/// moment is not overloaded.
const LATE_INTERVALS: u32 = 3;
/// Of fewer calls in an interval nothing can be told.
const CALLS_MIN: u32 = 4;
/// What everybody may ask for whatever others do is one part in so many of an equal share. All of it, and nothing would be left to tell
/// those who ask too much: they would just be served ever later.
const SHARE: u32 = 2;
/// Whoever was silent may ask for what is its share of so much time at once.
const BURST: Duration = Duration::from_millis(50);
/// What a refusal takes, about, of the thread's time; and what it takes in a build that is not optimized.
const REFUSAL: Duration = Duration::from_micros(if cfg!(debug_assertions) { 300 } else { 10 });
/// One part in so many of the thread's time may be taken by refusals.
const REFUSING: u32 = 5;
/// Calls that a read may bring.
const A_FEW: usize = 8;
/// Nobody stays unread for longer, so that what was cancelled meanwhile, and the pings between, are seen.
const UNREAD_MAX: Duration = Duration::from_secs(1);
/// Whoever is not read is looked at again so soon.
const LATER: Duration = Duration::from_millis(1);
/// So many of them may be saved up.
const REFUSALS_SAVED_MAX: u32 = 100;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Calls that wait.
    waiting: usize,
    /// The interval in which it asked last.
    asked_in: u64,
    /// Until then its share is used up.
    used_until: Option<Instant>,
    /// Some of its calls were refused, and its share will not do for a few more before then.
    refused_until: Option<Instant>,
}

/// Whether a connection is to be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// As it likes.
    Free,
    /// So many calls, if it can be told; and then the others.
    InTurns(usize),
    /// Not for so long.
    Later(Duration),
}

/// The calls that wait on one thread. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Limiter(Arc<Mutex<State>>);

impl Limiter {
    /// With waits that are to be no longer than `target`.
    pub(crate) fn new(target: Duration, now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State::new(target, now))))
    }

    /// A call arrives on a connection; `false`: it is to be refused.
    pub(crate) fn arrive(&self, own: &Mutex<Own>, now: Instant) -> bool {
        self.state().arrive(&mut lock(own), now)
    }

    /// The thread gets to a call that has waited so long.
    pub(crate) fn begin(&self, own: &Mutex<Own>, wait: Duration, now: Instant) {
        self.state().begin(&mut lock(own), wait, now);
    }

    /// A call goes before its turn.
    pub(crate) fn leave(&self, own: &Mutex<Own>) {
        self.state().leave(&mut lock(own));
    }

    /// Whether a connection is to be read. `worked` is what the thread has worked since it began.
    pub(crate) fn readiness(&self, own: &Mutex<Own>, worked: impl FnOnce() -> Duration, now: Instant) -> Readiness {
        self.state().readiness(&lock(own), worked, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct State {
    target: Duration,
    /// Calls that wait, of all connections.
    waiting: usize,
    limit: usize,
    interval: Interval,
    /// Intervals, the last ones, in which most calls were late.
    late_for: u32,
    /// Connections that asked lately.
    crowd: u32,
    /// What each connection's calls take of its share.
    unit: Duration,
    /// What refusals may take, in ns.
    credit: i64,
    credited: Duration,
    credited_at: Instant,
}

/// What is seen between two looks.
#[derive(Debug)]
struct Interval {
    number: u64,
    ends: Instant,
    begun: u32,
    /// Those that had waited too long.
    late: u32,
    refused: u32,
    /// Connections that asked.
    asking: u32,
}

impl State {
    fn new(target: Duration, now: Instant) -> Self {
        let interval = Interval { number: 1, ends: now + INTERVAL, begun: 0, late: 0, refused: 0, asking: 0 };
        let credit = nanoseconds(REFUSAL * REFUSALS_SAVED_MAX);
        Self {
            target,
            waiting: 0,
            limit: UNLIMITED,
            interval,
            late_for: 0,
            crowd: 1,
            unit: INTERVAL,
            credit,
            credited: Duration::ZERO,
            credited_at: now,
        }
    }

    fn arrive(&mut self, own: &mut Own, now: Instant) -> bool {
        self.look(now);
        if own.asked_in != self.interval.number {
            own.asked_in = self.interval.number;
            self.interval.asking += 1;
        }
        if self.waiting >= self.limit && !own.has_share_left(now) {
            self.credit = self.credit.saturating_sub(nanoseconds(REFUSAL));
            self.interval.refused = self.interval.refused.saturating_add(1);
            own.refused_until = Some(now + (self.unit * u32::try_from(A_FEW).unwrap_or(u32::MAX)).min(UNREAD_MAX));
            return false;
        }
        own.takes(self.unit, now);
        own.waiting += 1;
        self.waiting += 1;
        true
    }

    fn begin(&mut self, own: &mut Own, wait: Duration, now: Instant) {
        self.leave(own);
        self.interval.begun = self.interval.begun.saturating_add(1);
        if wait > self.target {
            self.interval.late = self.interval.late.saturating_add(1);
        }
        self.look(now);
    }

    fn leave(&mut self, own: &mut Own) {
        own.waiting = own.waiting.saturating_sub(1);
        self.waiting = self.waiting.saturating_sub(1);
    }

    fn readiness(&mut self, own: &Own, worked: impl FnOnce() -> Duration, now: Instant) -> Readiness {
        self.look(now);
        if self.limit == UNLIMITED {
            return Readiness::Free;
        }
        // To ask what was worked costs something itself.
        if now >= self.credited_at + LATER {
            let worked = worked();
            let earned = worked.saturating_sub(self.credited) / REFUSING;
            (self.credited, self.credited_at) = (worked, now);
            self.credit = self.credit.saturating_add(nanoseconds(earned)).min(nanoseconds(REFUSAL * REFUSALS_SAVED_MAX));
        }
        let room = self.limit.saturating_sub(self.waiting);
        let refusals = usize::try_from(self.credit / nanoseconds(REFUSAL)).unwrap_or(0);
        let was_refused = own.refused_until.is_some_and(|until| now < until);
        if room + refusals == 0 && was_refused {
            return Readiness::Later(LATER);
        }
        let asking = usize::try_from(self.crowd.max(self.interval.asking).max(1)).unwrap_or(usize::MAX);
        Readiness::InTurns(((self.limit + refusals) / asking).min(room + refusals).max(if was_refused { 1 } else { A_FEW }))
    }

    /// Sets limit and shares anew when an interval has passed.
    fn look(&mut self, now: Instant) {
        if now < self.interval.ends {
            return;
        }
        let past = &self.interval;
        let forgotten = now > past.ends + INTERVAL * FORGOTTEN_AFTER && self.waiting == 0;
        let elapsed = INTERVAL + now.saturating_duration_since(past.ends);
        let is_late = past.begun >= CALLS_MIN && past.late > past.begun / 2;
        self.late_for = if is_late { self.late_for.saturating_add(1) } else { 0 };
        self.limit = if forgotten {
            UNLIMITED
        } else if is_late && (self.late_for >= LATE_INTERVALS || self.limit < UNLIMITED) {
            let fits = u128::from(past.begun) * self.target.as_nanos() / elapsed.as_nanos();
            usize::try_from(fits).unwrap_or(UNLIMITED).clamp(LIMIT_MIN, UNLIMITED)
        } else if is_late {
            self.limit
        } else {
            // Slowly as long as somebody is refused for it.
            let more = if past.refused > 0 { self.limit / 8 } else { self.limit };
            (self.limit + more).min(UNLIMITED)
        };
        // Whoever asked a moment ago may do so again: an interval may be shorter than a turn.
        self.crowd = past.asking.max(self.crowd - self.crowd / 4).max(1);
        self.unit = elapsed * self.crowd / past.begun.max(1) * SHARE;
        let number = past.number + 1;
        let ends = now + INTERVAL;
        self.interval = Interval { number, ends, begun: 0, late: 0, refused: 0, asking: 0 };
    }
}

impl Own {
    fn has_share_left(&self, now: Instant) -> bool {
        self.used_until.is_none_or(|until| until < now + BURST)
    }

    /// A call is let in that takes so much of the share. What was let in beyond it, since there was room, is not held against anybody
    /// for longer than a burst.
    fn takes(&mut self, unit: Duration, now: Instant) {
        let until = self.used_until.map_or(now, |until| until.max(now)) + unit;
        self.used_until = Some(until.min(now + BURST + unit));
    }
}

fn nanoseconds(of: Duration) -> i64 {
    i64::try_from(of.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
