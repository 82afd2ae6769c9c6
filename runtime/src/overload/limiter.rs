//! How much of a thread each connection has when more is asked of it than it can do. No clocks and no sockets here: time is an
//! argument.
//!
//! How long a connection waits to be read is the only sign of overload that means the same on every machine and under every quota
//! (RFC 8289 goes by that with packets). When many did for longer than the target in [`LOOK_BACK`], connections are read in rounds
//! ([`super::line`]), with a handful of calls each; otherwise they are in the order in which they come, up to so many calls at a
//! time. What is read is served at once. So all that waits is not read yet: TCP and HTTP/2 hold its callers back, at no cost to
//! anybody, and whoever asks for no more than its part of a round waits for one turn of another, however much others ask for. When
//! that has not been so for [`QUIET`], there are no rounds any more: they cost time where calls come in larger handfuls.
//!
//! Whoever has been behind for [`CATCHING_UP_MAX`], or ever since it is there, has half of what the others have, as schedulers demote who
//! uses up its turns again and again (multilevel feedback): so that the others keep clear of the bound where they ask for nearly an
//! equal part, and where the thread has less of its core for a moment. A part goes by what is read in a round and not by what is
//! served in a time, of which nobody knows how much the next will be.
//!
//! To refuse a small call costs nearly what serving it does when calls come in handfuls, so that refusing alone can fill a thread.
//! One is refused for every [`SERVED_PER_REFUSAL`] that are served, of connections that have been behind for [`BEHIND_MAX`] and
//! waited for their turn for longer than the target.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::line::{Line, Pass, Stand};

/// For so many calls that are served one may be refused.
const SERVED_PER_REFUSAL: usize = 8;
/// Calls in a round of a connection that is behind, in one turn if it is called for that; others have twice as many. So few that
/// others soon have their turn, so many that they share what a read and a write cost.
const A_HANDFUL: usize = 24;
/// Calls in a turn of whoever passes those who wait: nobody knows how many more are about to pass.
const A_FEW: usize = 4;
/// Whoever has asked for more than its part for so long is told: by then it is neither a burst, nor what came while the process stood
/// still for a moment.
const BEHIND_MAX: Duration = Duration::from_millis(100);
/// Who kept up and fell behind has a whole part for so long, to catch up with: with half of one it might never do so again that asks
/// for nearly as much.
const CATCHING_UP_MAX: Duration = Duration::from_secs(1);
/// There are rounds for so long after too many waits were too long.
const QUIET: Duration = Duration::from_secs(1);
/// So often it is looked how long somebody waits who has something to be read: in between there is nothing that shows it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The waits of so long are judged together: one that is too long is also there when the process stood still for a moment.
const LOOK_BACK: Duration = Duration::from_millis(100);
/// Of so many waits one that is too long is too many, if there is another. To ask it of all would be too much: beside somebody who asks
/// for hardly more than there is time for they are now longer and now shorter, and others wait for it no less.
const LATE_PART: u32 = 4;
/// So many refusals may be saved up.
const REFUSALS_SAVED_MAX: usize = A_HANDFUL / 3;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Own {
    stand: Stand,
    /// All that there was to be read was, once.
    keeps_up: bool,
    /// Since then its turns have not had room for all that there is to be read.
    behind_since: Option<Instant>,
}

impl Own {
    /// Whether it has been behind for so long.
    fn is_behind(&self, time: Duration, now: Instant) -> bool {
        self.behind_since.is_some_and(|since| since + time < now)
    }

    /// Its calls of a round.
    fn part(&self, now: Instant) -> usize {
        if self.keeps_up && !self.is_behind(CATCHING_UP_MAX, now) { 2 * A_HANDFUL } else { A_HANDFUL }
    }
}

/// A connection that asks for a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asks {
    /// It was told to see others first, and did.
    pub(crate) has_yielded: bool,
    /// Since it asked first.
    pub(crate) waited: Duration,
}

/// Whether a connection is to be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Its turn begins: so many calls, if it can be told.
    Begins(usize),
    /// Its turn begins when whoever came meanwhile was seen.
    AfterOthers,
    /// When it is called; it is to [wait](Limiter::wait) for that.
    Waits,
}

/// Whose turn it is on one thread. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Limiter(Arc<Mutex<State>>);

impl Limiter {
    /// With waits that are to be no longer than `target`.
    pub(crate) fn new(target: Duration, now: Instant) -> Self {
        let state = State {
            target,
            line: Line::default(),
            unmatched: 0,
            rounds_until: now,
            look_at: now,
            waits: 0,
            late: 0,
            look_back_at: now + LOOK_BACK,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Whether a connection's turn begins, of which there is one in a step of its task; `unread` says how many calls there are to be
    /// read, about.
    pub(crate) fn readiness(&self, own: &mut Own, asks: Asks, unread: impl FnOnce() -> usize, now: Instant) -> Readiness {
        self.state().readiness(own, asks, unread, now)
    }

    /// A connection has something to be read and no turn, or more than that had room for: it waits for the next, and `waker` is woken
    /// then.
    pub(crate) fn wait(&self, own: &mut Own, waker: &Waker, now: Instant) {
        own.behind_since.get_or_insert(now);
        let part = own.part(now);
        self.with_line(|line| line.wait(&mut own.stand, part, waker));
    }

    /// The turn of a connection is over, of which so many calls did not come; `is_drained` if all was read that was there.
    pub(crate) fn end_turn(&self, own: &mut Own, unused: usize, is_drained: bool) {
        if is_drained {
            (own.keeps_up, own.behind_since) = (true, None);
        }
        own.stand.gives_back(unused);
        self.with_line_of(own, Line::end);
    }

    /// A connection has nothing to read for now, or is over.
    pub(crate) fn leave(&self, own: &mut Own) {
        self.with_line_of(own, Line::leave);
    }

    /// Whether a call is refused that arrives on a connection which has waited so long to be read.
    pub(crate) fn refuses(&self, own: &Own, waited: Duration, now: Instant) -> bool {
        self.state().refuses(own, waited, now)
    }

    /// Takes one who waits or has its turn out of the line; most are neither.
    fn with_line_of(&self, own: &mut Own, step: impl FnOnce(&mut Line, &mut Stand)) {
        if !own.stand.is_out() {
            self.with_line(|line| step(line, &mut own.stand));
        }
    }

    /// Does something with the line; then the next one may be called.
    fn with_line(&self, step: impl FnOnce(&mut Line)) {
        let next = {
            let line = &mut self.state().line;
            step(line);
            line.call()
        };
        if let Some(next) = next {
            next.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    target: Duration,
    line: Line,
    /// Calls that were served and for which none was refused yet.
    unmatched: usize,
    /// Until then there are rounds.
    rounds_until: Instant,
    /// When it is looked again how long somebody waits.
    look_at: Instant,
    /// Waits that were seen until they are judged, and those of them that were too long.
    waits: u32,
    late: u32,
    look_back_at: Instant,
}

impl State {
    fn readiness(&mut self, own: &mut Own, asks: Asks, unread: impl FnOnce() -> usize, now: Instant) -> Readiness {
        let part = own.part(now);
        let has_rounds = now < self.rounds_until;
        let calls = match self.line.pass(&mut own.stand, if has_rounds { part } else { usize::MAX }) {
            Pass::Called if asks.has_yielded => self.line.begin(&mut own.stand, part),
            Pass::Called => return Readiness::AfterOthers,
            Pass::Free if has_rounds && unread() <= A_FEW => A_FEW,
            Pass::Free if has_rounds => return Readiness::Waits,
            Pass::Free if asks.has_yielded || now < self.look_at => 2 * A_HANDFUL,
            Pass::Free => {
                self.look_at = now + LOOK_EVERY;
                return Readiness::AfterOthers;
            }
            Pass::Waits => return Readiness::Waits,
        };
        if asks.has_yielded {
            self.note(asks.waited, now);
        }
        own.stand.takes(calls);
        Readiness::Begins(calls)
    }

    /// Somebody waited so long, others having been seen.
    fn note(&mut self, waited: Duration, now: Instant) {
        self.waits += 1;
        self.late += u32::from(waited > self.target);
        if now < self.look_back_at {
            return;
        }
        if self.late > 1 && self.late >= self.waits.div_ceil(LATE_PART) {
            self.rounds_until = now + QUIET;
        }
        (self.waits, self.late, self.look_back_at) = (0, 0, now + LOOK_BACK);
    }

    fn refuses(&mut self, own: &Own, waited: Duration, now: Instant) -> bool {
        // Who always has more to be read, and does not wait for it, just asks as fast as it is answered.
        let is_late = waited > self.target && own.is_behind(BEHIND_MAX, now);
        if is_late && self.unmatched >= SERVED_PER_REFUSAL {
            self.unmatched -= SERVED_PER_REFUSAL;
            return true;
        }
        self.unmatched = (self.unmatched + 1).min(REFUSALS_SAVED_MAX * SERVED_PER_REFUSAL);
        false
    }
}

#[cfg(test)]
mod tests;
