//! How much of a thread each connection has when more is asked of it than it can do. No clocks and no sockets here: time is an
//! argument.
//!
//! How long a connection waits to be read is the only sign of overload that means the same on every machine and under every quota
//! (RFC 8289 goes by that with packets). When many calls did for longer than the target in [`LOOK_BACK`], connections are read in rounds
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

use super::line::{Line, Rank, Stand, Turn};

/// For so many calls that are served one may be refused.
const SERVED_PER_REFUSAL: usize = 8;
/// Calls in a round of a connection that is behind, in one turn if it is called for that; others have twice as many. So few that
/// others soon have their turn, so many that they share what a read and a write cost.
const A_HANDFUL: usize = 24;
/// Whoever has no more calls in a round goes before others, those that are to be read when it begins to wait included. Of the round:
/// whoever always has the next call is read with all that has come meanwhile, and not for each that comes.
const A_FEW: usize = 4;
/// Calls in a turn of whoever does: some more may have come meanwhile, and nobody knows how many others are about to come.
const A_FEW_MORE: usize = 8;
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
/// Of so many calls one that waits for too long is too many, if there is another turn with such calls. To ask it of all would be too much:
/// beside somebody who asks for hardly more than there is time for waits are now longer and now shorter, and others wait for it no less.
const LATE_PART: usize = 4;
/// So many refusals may be saved up.
const REFUSALS_SAVED_MAX: usize = A_HANDFUL / 3;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Own {
    stand: Stand,
    /// It had a few calls in the round when it last began to wait, with those that were to be read.
    asks_little: bool,
    /// All that there was to be read was, once.
    keeps_up: bool,
    /// Of its turn, if its wait says something about the others.
    turn: Option<Wait>,
    /// Since then its turns have not had room for all that there is to be read.
    behind_since: Option<Instant>,
}

/// Somebody waited for a turn, others having been seen.
#[derive(Debug, Clone, Copy)]
struct Wait {
    waited: Duration,
    /// When the turn began, and of how many calls.
    begun: Instant,
    calls: usize,
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
            calls: 0,
            late_calls: 0,
            late: 0,
            look_back_at: now + LOOK_BACK,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Whether a connection's turn begins, of which there is one in a step of its task; `unread` says how many calls there are to be
    /// read, about.
    pub(crate) fn readiness(&self, own: &mut Own, asks: Asks, unread: impl FnOnce() -> usize, now: Instant) -> Readiness {
        self.with_state(|state| state.readiness(own, asks, unread, now))
    }

    /// A connection has something to be read and no turn, or more than that had room for: it waits for the next, and `waker` is woken
    /// then.
    pub(crate) fn wait(&self, own: &mut Own, waker: &Waker, now: Instant) {
        own.behind_since.get_or_insert(now);
        let part = own.part(now);
        self.with_state(|state| state.line.wait(&mut own.stand, part, own.asks_little, waker));
    }

    /// The turn of a connection is over, of which so many calls did not come; `is_drained` if all was read that was there.
    pub(crate) fn end_turn(&self, own: &mut Own, unused: usize, is_drained: bool) {
        if is_drained {
            (own.keeps_up, own.behind_since) = (true, None);
        }
        own.stand.gives_back(unused);
        if let Some(wait) = own.turn.take() {
            self.with_state(|state| {
                state.note(wait, unused);
                state.line.end(&mut own.stand);
            });
        }
    }

    /// A connection has nothing to read for now, or is over.
    pub(crate) fn leave(&self, own: &mut Own) {
        if !own.stand.is_out() {
            self.with_state(|state| state.line.leave(&mut own.stand));
        }
    }

    /// Whether a call is refused that arrives on a connection which has waited so long to be read.
    pub(crate) fn refuses(&self, own: &Own, waited: Duration, now: Instant) -> bool {
        self.state().refuses(own, waited, now)
    }

    /// Does something; then the next one in the line may be called.
    fn with_state<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let (outcome, next) = {
            let mut state = self.state();
            let outcome = step(&mut state);
            (outcome, state.line.call())
        };
        if let Some(next) = next {
            next.wake();
        }
        outcome
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
    /// Calls whose waits were seen until these are judged, those of them that waited for too long, and in how many turns.
    calls: usize,
    late_calls: usize,
    late: usize,
    look_back_at: Instant,
}

impl State {
    fn readiness(&mut self, own: &mut Own, asks: Asks, unread: impl FnOnce() -> usize, now: Instant) -> Readiness {
        let calls = if own.stand.is_out() {
            if now < self.rounds_until {
                match unread() {
                    // It is asked for more whenever it has made a step; so it is seen when there is.
                    0 => A_FEW,
                    unread => {
                        own.asks_little = self.line.had(&mut own.stand).saturating_add(unread) <= A_FEW;
                        return Readiness::Waits;
                    }
                }
            } else if asks.has_yielded || now < self.look_at {
                2 * A_HANDFUL
            } else {
                self.look_at = now + LOOK_EVERY;
                return Readiness::AfterOthers;
            }
        } else {
            let part = own.part(now);
            let turn = self.line.turn(&mut own.stand, asks.has_yielded);
            own.asks_little &= !matches!(turn, Turn::Begins(_));
            match turn {
                Turn::Begins(Rank::AsksLittle) => self.line.rest(&mut own.stand, part).min(A_FEW_MORE),
                Turn::Begins(Rank::HasPart) => self.line.rest(&mut own.stand, part),
                Turn::Begins(Rank::HadPart) => part,
                Turn::AfterOthers => return Readiness::AfterOthers,
                Turn::Waits => return Readiness::Waits,
            }
        };
        let is_seen = asks.has_yielded || !own.stand.is_out();
        own.turn = is_seen.then_some(Wait { waited: asks.waited, begun: now, calls });
        self.line.takes(&mut own.stand, calls);
        Readiness::Begins(calls)
    }

    /// Takes note of a turn of which so many calls did not come.
    fn note(&mut self, wait: Wait, unused: usize) {
        let calls = wait.calls.saturating_sub(unused);
        self.calls += calls;
        if wait.waited > self.target && calls > 0 {
            self.late_calls += calls;
            self.late += 1;
        }
        if wait.begun < self.look_back_at {
            return;
        }
        if self.late > 1 && self.late_calls >= self.calls.div_ceil(LATE_PART) {
            self.rounds_until = wait.begun + QUIET;
        }
        (self.calls, self.late_calls, self.late, self.look_back_at) = (0, 0, 0, wait.begun + LOOK_BACK);
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
