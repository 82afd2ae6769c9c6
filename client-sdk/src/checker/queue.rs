//! The checks of a checker: which wait, which are in frames on their way, and to whom answers belong. Pure: time is an
//! argument, and who sends frames is elsewhere.
//!
//! A frame takes what waits when there is room for it, so frames are small when few ask and grow by themselves when many do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prost::Message as _;
use tessera_proto::v1;
use tokio::time::Instant;

/// Most bytes of a frame's checks: far below what servers read.
const FRAME_LEN_MAX: usize = 512 << 10;
/// Most checks of a frame in which one asks to be explained: what servers allow.
const EXPLAINED_MAX: usize = 100;

/// Upper bounds on what is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) frame_checks: usize,
    pub(crate) frames_in_flight: usize,
    pub(crate) waiting: usize,
    /// How often a check is sent, at most.
    pub(crate) attempts: u32,
}

/// Somebody who waits for an answer, or no longer does.
pub(crate) trait Waiter {
    fn is_gone(&self) -> bool;
}

/// How often a check was sent, in whichever frames and however often it was pushed: clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<AtomicU32>);

/// The checks of all streams of a checker.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    limits: Limits,
    /// By ticket: first come, first sent, also after a frame was lost.
    waiting: BTreeMap<u64, Pending<W>>,
    flying: BTreeMap<u64, Frame<W>>,
    tickets: u64,
    frames: u64,
}

#[derive(Debug)]
struct Pending<W> {
    check: v1::CheckEntitlementRequest,
    waiter: W,
    until: Instant,
    attempts: Attempts,
}

#[derive(Debug)]
struct Frame<W> {
    stream: usize,
    sent: Instant,
    checks: Vec<(u64, Pending<W>)>,
}

impl<W: Waiter> Queue<W> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, waiting: BTreeMap::new(), flying: BTreeMap::new(), tickets: 0, frames: 0 }
    }

    /// Takes a check that is worth an answer until `until`, and goes on counting its `attempts`. Refused when too many wait: the
    /// error says how many.
    pub(crate) fn push(
        &mut self,
        check: v1::CheckEntitlementRequest,
        waiter: W,
        until: Instant,
        attempts: Attempts,
    ) -> Result<u64, usize> {
        if self.waiting.len() >= self.limits.waiting {
            return Err(self.waiting.len());
        }
        self.tickets += 1;
        self.waiting.insert(self.tickets, Pending { check, waiter, until, attempts });
        Ok(self.tickets)
    }

    /// Nobody waits for this one any more.
    pub(crate) fn forget(&mut self, ticket: u64) {
        self.waiting.remove(&ticket);
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many frames of a stream are on their way.
    pub(crate) fn in_flight(&self, stream: usize) -> usize {
        self.flying.values().filter(|frame| frame.stream == stream).count()
    }

    /// Whether a stream may send another frame.
    pub(crate) fn has_room(&self, stream: usize) -> bool {
        self.in_flight(stream) < self.limits.frames_in_flight
    }

    /// When the oldest frame that a stream has not answered was sent.
    pub(crate) fn oldest_sent(&self, stream: usize) -> Option<Instant> {
        self.flying.values().filter(|frame| frame.stream == stream).map(|frame| frame.sent).min()
    }

    /// The next frame of a stream: its id and checks. `None` when nothing waits or too much is on its way.
    pub(crate) fn next_frame(&mut self, stream: usize, now: Instant) -> Option<(u64, Vec<v1::CheckEntitlementRequest>)> {
        if !self.has_room(stream) {
            return None;
        }
        let (mut checks, mut len, mut explained) = (Vec::new(), 0, false);
        while let Some(first) = self.waiting.first_entry() {
            let pending = first.get();
            if pending.waiter.is_gone() || pending.until <= now {
                // Whoever waits finds out by their own clock.
                first.remove();
                continue;
            }
            let would_explain = explained || pending.check.explain;
            let checks_max = if would_explain { EXPLAINED_MAX } else { self.limits.frame_checks };
            let would_be_long = len + pending.check.encoded_len();
            if checks.len() >= checks_max.min(self.limits.frame_checks) || (would_be_long > FRAME_LEN_MAX && !checks.is_empty()) {
                break;
            }
            (len, explained) = (would_be_long, would_explain);
            let (ticket, pending) = first.remove_entry();
            pending.attempts.one_more();
            checks.push((ticket, pending));
        }
        if checks.is_empty() {
            return None;
        }
        self.frames += 1;
        let requests = checks.iter().map(|(_, pending)| pending.check.clone()).collect();
        self.flying.insert(self.frames, Frame { stream, sent: now, checks });
        Some((self.frames, requests))
    }

    /// A frame was answered: those who wait, in the order of its checks. `None` when this stream sent no such frame.
    pub(crate) fn answered(&mut self, stream: usize, frame: u64) -> Option<Vec<W>> {
        self.flying.get(&frame).filter(|flying| flying.stream == stream)?;
        let frame = self.flying.remove(&frame)?;
        Some(frame.checks.into_iter().map(|(_, pending)| pending.waiter).collect())
    }

    /// Nothing that waits can be sent: those who wait for it.
    pub(crate) fn give_up(&mut self) -> Vec<W> {
        std::mem::take(&mut self.waiting).into_values().map(|pending| pending.waiter).collect()
    }

    /// A stream broke. `may_repeat` is asked for each of its frames in which a check may be sent again; those checks wait again,
    /// in their places. Returned are those who get no further attempt.
    pub(crate) fn lost(&mut self, stream: usize, mut may_repeat: impl FnMut() -> bool) -> Vec<W> {
        let lost: BTreeSet<u64> = self.flying.iter().filter(|(_, frame)| frame.stream == stream).map(|(id, _)| *id).collect();
        let mut given_up = Vec::new();
        for frame in lost.into_iter().filter_map(|id| self.flying.remove(&id)) {
            let may_go_on = |check: &(u64, Pending<W>)| check.1.attempts.number() < self.limits.attempts;
            let still_there = frame.checks.into_iter().filter(|(_, pending)| !pending.waiter.is_gone());
            let (again, mut over): (Vec<_>, Vec<_>) = still_there.partition(may_go_on);
            // Not asked for nothing: what is allowed is used up.
            if !again.is_empty() && may_repeat() {
                self.waiting.extend(again);
            } else {
                over.extend(again);
            }
            given_up.extend(over.into_iter().map(|(_, pending)| pending.waiter));
        }
        given_up
    }
}

impl Attempts {
    pub(crate) fn number(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
