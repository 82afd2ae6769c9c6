//! How many calls may wait for their turn on one thread. No clocks and no sockets here: time is an argument.
//!
//! How long a call waits is the only sign of overload that means the same on every machine and under every quota, so it is what
//! is controlled (RFC 8289 does so with packets): when most calls waited longer than the target for [`LATE_INTERVALS`], what the
//! thread gets through in the target time becomes the limit; a call that arrives when as many wait is refused. While waits are
//! short the limit grows again.
//!
//! Whoever asks no more than most of an equal share of what is served ([`SHARE`]) is let in even then, and whoever has nothing of
//! it in use is served before everybody who waits: it is the connections that ask most that wait and are refused.
//!
//! To refuse a small call costs nearly what serving it does when calls come in handfuls, so that refusing alone can fill a
//! thread. One is refused for every [`SERVED_PER_REFUSAL`] that are served ([`Readiness`]): beyond that, connections that would
//! be refused are not read, and TCP and HTTP/2 hold their callers back, at no cost to anybody. Whoever is read is read a handful
//! at a time: to read calls one by one costs twice as much.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::line::{Line, Place};

/// What most calls wait is looked at over so long: long enough that a burst is gone by then.
const INTERVAL: Duration = Duration::from_millis(100);
/// After so many intervals in which nothing happened nothing is known any more.
const FORGOTTEN_AFTER: u32 = 10;
/// As good as no limit.
const UNLIMITED: usize = 100_000;
/// Half as many may wait anyhow, and a handful comes at a time.
const LIMIT_MIN: usize = 2 * A_FEW;
/// In so many intervals, one after the other, most calls have to be late before anybody is refused: a process that stood still
/// for a moment is not overloaded.
const LATE_INTERVALS: u32 = 3;
/// Of fewer calls in an interval nothing can be told.
const CALLS_MIN: u32 = 4;
/// What everybody may ask for whatever others do is so many parts of so many of an equal share. All of it, and nothing would be
/// left to tell those who ask too much: they would just be served ever later.
const SHARE: (u32, u32) = (7, 8);
/// Whoever was silent may ask for what is its share of so much time at once.
const BURST: Duration = Duration::from_millis(50);
/// A call takes no more of a share than this, so that one who asks little has something left soon after the thread stood still.
const UNIT_MAX: Duration = Duration::from_secs(1);
/// For so many calls that are served one may be refused.
const SERVED_PER_REFUSAL: usize = 8;
/// Calls that a read may bring, unless there is room for more: so few that others soon have their turn, so many that they share
/// what a read and a write cost.
const A_FEW: usize = 8;
/// Whoever is not read is looked at again so soon, or later if they are many: to look costs a microsecond.
const LATER: Duration = Duration::from_millis(1);
/// So often in an interval is somebody looked at in vain, about.
const VAIN_LOOKS_MAX: u32 = 5_000;
/// So many refusals may be saved up.
const REFUSALS_SAVED_MAX: usize = 4 * A_FEW;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The interval in which it asked last.
    asked_in: u64,
    /// Until then its share is used up.
    used_until: Option<Instant>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is served before those who wait.
    AtOnce,
    /// It waits until the thread begins it, or it is taken back.
    Waits,
    /// It is not served.
    Refused,
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

    /// A call arrives on a connection, which has waited so long to be read.
    pub(crate) fn arrive(&self, own: &mut Own, waited: Duration, now: Instant) -> Arrival {
        self.state().arrive(own, waited, now)
    }

    /// Whether the thread gets to a call that waits; if not, whoever asks is woken when it does.
    pub(crate) fn poll_turn(&self, place: &mut Place, cx: &Context<'_>) -> Poll<()> {
        self.with_line(|state| {
            let has_to_wait = state.limit < UNLIMITED;
            state.line.poll(place, has_to_wait, cx.waker())
        })
    }

    /// The thread gets to a call that has waited so long; or its caller takes it back, which costs about as much: to read it, to
    /// make it a task, and to end that.
    pub(crate) fn begin(&self, place: &Place, wait: Duration, now: Instant) {
        self.with_line(|state| {
            state.line.leave(place);
            state.begin(wait, now);
        });
    }

    /// Does something with the line; then the next one may be called.
    fn with_line<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let (done, next) = {
            let mut state = self.state();
            (step(&mut state), state.line.call())
        };
        if let Some(next) = next {
            next.wake();
        }
        done
    }

    /// Whether a connection is to be read.
    pub(crate) fn readiness(&self, own: &Own, now: Instant) -> Readiness {
        self.state().readiness(own, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    target: Duration,
    line: Line,
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
    /// Who is not read is looked at again after so long.
    later: Duration,
}

/// What is seen between two looks.
#[derive(Debug)]
struct Interval {
    number: u64,
    ends: Instant,
    served: u32,
    /// Of those, the ones that had waited, and the ones that had waited too long.
    waited: u32,
    late: u32,
    refused: u32,
    /// Connections that asked.
    asking: u32,
    /// Looks at connections that were not read then.
    vain_looks: u32,
}

impl State {
    fn new(target: Duration, now: Instant) -> Self {
        let interval = Interval::new(1, now + INTERVAL);
        let line = Line::default();
        Self {
            target,
            line,
            waiting: 0,
            limit: UNLIMITED,
            interval,
            late_for: 0,
            crowd: 1,
            unit: INTERVAL,
            unmatched: 0,
            later: LATER,
        }
    }

    fn arrive(&mut self, own: &mut Own, waited: Duration, now: Instant) -> Arrival {
        self.look(now);
        if own.asked_in != self.interval.number {
            own.asked_in = self.interval.number;
            self.interval.asking += 1;
        }
        if self.limit < UNLIMITED && own.used_until.is_none_or(|until| until <= now) {
            own.takes(self.unit, now);
            self.serves();
            return Arrival::AtOnce;
        }
        let may_be_told = self.limit < UNLIMITED && self.unmatched >= SERVED_PER_REFUSAL;
        let is_told = may_be_told && (waited > self.target || self.waiting >= self.half());
        if (is_told || self.waiting >= self.limit) && own.share_left(self.unit, now) == 0 {
            self.unmatched = self.unmatched.saturating_sub(SERVED_PER_REFUSAL);
            self.interval.refused = self.interval.refused.saturating_add(1);
            return Arrival::Refused;
        }
        own.takes(self.unit, now);
        self.waiting += 1;
        Arrival::Waits
    }

    /// So much of the queue is for whoever comes first.
    fn half(&self) -> usize {
        self.limit.div_ceil(2)
    }

    fn serves(&mut self) {
        self.interval.served = self.interval.served.saturating_add(1);
        self.unmatched = (self.unmatched + 1).min(REFUSALS_SAVED_MAX * SERVED_PER_REFUSAL);
    }

    fn begin(&mut self, wait: Duration, now: Instant) {
        self.waiting = self.waiting.saturating_sub(1);
        self.serves();
        self.interval.waited = self.interval.waited.saturating_add(1);
        if wait > self.target {
            self.interval.late = self.interval.late.saturating_add(1);
        }
        self.look(now);
    }

    fn readiness(&mut self, own: &Own, now: Instant) -> Readiness {
        self.look(now);
        if self.limit == UNLIMITED {
            return Readiness::Free;
        }
        // Half of the queue is for whoever comes first, the rest for those who are let in anyhow.
        if self.waiting < self.half() {
            let part = self.limit / usize::try_from(self.crowd).unwrap_or(usize::MAX).max(1);
            return Readiness::InTurns(part.max(A_FEW));
        }
        // And now and then a few are told.
        if self.unmatched >= A_FEW * SERVED_PER_REFUSAL {
            return Readiness::InTurns(A_FEW);
        }
        // Whoever asks much comes once in a while, with a handful; whoever asks little has saved up all of it.
        if own.used_until.is_none_or(|until| until <= now + BURST / 2) {
            return Readiness::InTurns(own.share_left(self.unit, now).min(A_FEW));
        }
        self.interval.vain_looks = self.interval.vain_looks.saturating_add(1);
        Readiness::Later(self.later)
    }

    /// Sets limit and shares anew when an interval has passed.
    fn look(&mut self, now: Instant) {
        if now < self.interval.ends {
            return;
        }
        let past = &self.interval;
        let forgotten = now > past.ends + INTERVAL * FORGOTTEN_AFTER && self.waiting == 0;
        let elapsed = INTERVAL + now.saturating_duration_since(past.ends);
        let is_late = past.waited >= CALLS_MIN && past.late > past.waited / 2;
        self.late_for = if is_late { self.late_for.saturating_add(1) } else { 0 };
        self.limit = if forgotten {
            UNLIMITED
        } else if is_late && (self.late_for >= LATE_INTERVALS || self.limit < UNLIMITED) {
            let fits = u128::from(past.waited) * self.target.as_nanos() / elapsed.as_nanos();
            usize::try_from(fits).unwrap_or(UNLIMITED).clamp(LIMIT_MIN, UNLIMITED)
        } else if is_late {
            self.limit
        } else {
            // Slowly as long as somebody is refused for it.
            let more = if past.refused > 0 { self.limit / 8 } else { self.limit };
            (self.limit + more).min(UNLIMITED)
        };
        // Whoever asked a moment ago may do so again: an interval may be shorter than a turn.
        self.crowd = past.asking.max(self.crowd - self.crowd.div_ceil(4)).max(1);
        self.unit = (elapsed * self.crowd / past.served.max(1) * SHARE.1 / SHARE.0).min(UNIT_MAX);
        self.later = (self.later * past.vain_looks / VAIN_LOOKS_MAX).clamp(LATER, INTERVAL);
        self.interval = Interval::new(past.number + 1, now + INTERVAL);
    }
}

impl Interval {
    fn new(number: u64, ends: Instant) -> Self {
        Self { number, ends, served: 0, waited: 0, late: 0, refused: 0, asking: 0, vain_looks: 0 }
    }
}

impl Own {
    /// How many calls are let in whatever others ask for, each of which takes `unit` of the share.
    fn share_left(&self, unit: Duration, now: Instant) -> usize {
        let left = self.used_until.map_or(BURST, |until| (now + BURST).saturating_duration_since(until));
        usize::try_from(left.as_nanos().div_ceil(unit.as_nanos().max(1))).unwrap_or(usize::MAX)
    }

    /// A call is let in that takes so much of the share. What was let in beyond it, since there was room, is not held against
    /// anybody for longer than a burst.
    fn takes(&mut self, unit: Duration, now: Instant) {
        let until = self.used_until.map_or(now, |until| until.max(now)) + unit;
        self.used_until = Some(until.min(now + BURST + unit));
    }
}

#[cfg(test)]
mod tests;
