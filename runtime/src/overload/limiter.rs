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
//! To refuse a small call costs nearly what serving it does when calls come in handfuls, so that refusing alone can fill a thread. One is refused for
//! every [`SERVED_PER_REFUSAL`] that are served ([`Readiness`]): beyond that, connections that would be refused are not read, and TCP
//! and HTTP/2 hold their callers back, at no cost to anybody. Whoever is read is read a handful at a time: to read calls one by one costs twice as much.

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
/// A call takes no more of a share than this, so that one who asks little has something left soon after the thread stood still.
const UNIT_MAX: Duration = Duration::from_secs(1);
/// For so many calls that are served one may be refused.
const SERVED_PER_REFUSAL: usize = 8;
/// Calls that a read may bring, unless there is room for more: so few that others soon have their turn, so many that they share what a read and a write cost.
const A_FEW: usize = 8;
/// Whoever is not read is looked at again so soon.
const LATER: Duration = Duration::from_millis(1);
/// So many refusals may be saved up.
const REFUSALS_SAVED_MAX: usize = 4 * A_FEW;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Calls that wait.
    waiting: usize,
    /// The interval in which it asked last.
    asked_in: u64,
    /// Until then its share is used up.
    used_until: Option<Instant>,
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

    /// Whether a connection is to be read.
    pub(crate) fn readiness(&self, own: &Mutex<Own>, now: Instant) -> Readiness {
        self.state().readiness(&lock(own), now)
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
    /// Calls that were served and for which none was refused yet.
    unmatched: usize,
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
        Self { target, waiting: 0, limit: UNLIMITED, interval, late_for: 0, crowd: 1, unit: INTERVAL, unmatched: 0 }
    }

    fn arrive(&mut self, own: &mut Own, now: Instant) -> bool {
        self.look(now);
        if own.asked_in != self.interval.number {
            own.asked_in = self.interval.number;
            self.interval.asking += 1;
        }
        // Who was read beyond half of the queue was read to be told.
        let half = self.limit.div_ceil(2).max(LIMIT_MIN);
        let most = if self.unmatched < SERVED_PER_REFUSAL { self.limit } else { half };
        if self.waiting >= most && own.share_left(self.unit, now) == 0 {
            self.unmatched = self.unmatched.saturating_sub(SERVED_PER_REFUSAL);
            self.interval.refused = self.interval.refused.saturating_add(1);
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
        self.unmatched = (self.unmatched + 1).min(REFUSALS_SAVED_MAX * SERVED_PER_REFUSAL);
        if wait > self.target {
            self.interval.late = self.interval.late.saturating_add(1);
        }
        self.look(now);
    }

    fn leave(&mut self, own: &mut Own) {
        own.waiting = own.waiting.saturating_sub(1);
        self.waiting = self.waiting.saturating_sub(1);
    }

    fn readiness(&mut self, own: &Own, now: Instant) -> Readiness {
        self.look(now);
        if self.limit == UNLIMITED {
            return Readiness::Free;
        }
        // Half of the queue is for whoever comes first, the rest for those who are let in anyhow; and now and then a few are told.
        let told = if self.unmatched < A_FEW * SERVED_PER_REFUSAL { 0 } else { A_FEW };
        let part = self.limit / usize::try_from(self.crowd).unwrap_or(usize::MAX).max(1);
        let room = if self.waiting < self.limit.div_ceil(2) { part.max(A_FEW) } else { 0 };
        if room + told > 0 {
            return Readiness::InTurns(room + told);
        }
        // Whoever asks much comes once in a while, with a handful; whoever asks little has saved up all of it.
        if own.used_until.is_none_or(|until| until <= now + BURST / 2) {
            return Readiness::InTurns(own.share_left(self.unit, now).min(A_FEW));
        }
        Readiness::Later(LATER)
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
        self.unit = (elapsed * self.crowd / past.begun.max(1) * SHARE).min(UNIT_MAX);
        let number = past.number + 1;
        let ends = now + INTERVAL;
        self.interval = Interval { number, ends, begun: 0, late: 0, refused: 0, asking: 0 };
    }
}

impl Own {
    /// How many calls are let in whatever others ask for, each of which takes `unit` of the share.
    fn share_left(&self, unit: Duration, now: Instant) -> usize {
        let left = self.used_until.map_or(BURST, |until| (now + BURST).saturating_duration_since(until));
        usize::try_from(left.as_nanos().div_ceil(unit.as_nanos().max(1))).unwrap_or(usize::MAX)
    }

    /// A call is let in that takes so much of the share. What was let in beyond it, since there was room, is not held against anybody
    /// for longer than a burst.
    fn takes(&mut self, unit: Duration, now: Instant) {
        let until = self.used_until.map_or(now, |until| until.max(now)) + unit;
        self.used_until = Some(until.min(now + BURST + unit));
    }
}

#[cfg(test)]
mod tests;
