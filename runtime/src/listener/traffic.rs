//! What one connection has seen, counted by whoever sees it and read by whoever decides about its life; and whether what a peer
//! says is worth its while.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::course::Seen;
use crate::overload::limiter::{Asks, Limiter, Own, Readiness};

/// Frames beyond those that calls account for that a connection may send at any time, and how many more each second. Clients
/// send some to measure their round trip, which on one machine is thousands a second; but only while answers come.
const IDLE_FRAMES_MAX: u64 = 10_000;
const IDLE_FRAMES_PER_SECOND: u64 = 10;
/// Frames that one frame of a call or an answer accounts for: credit for it, of stream and connection, and a measurement.
const FRAMES_PER_FRAME: u64 = 3;

/// Bytes of a small call, frames and all, about: of whoever has not called yet.
const SMALL_CALL_LEN: usize = 128;

/// Bytes that a turn brings at most, beyond a frame that has begun: whoever sends long messages may send short ones as well.
const TURN_LEN_MAX: usize = 16 << 10;

/// What every message of gRPC begins with. Clients send it with the message behind it, or with what there is room for.
const MESSAGE_HEAD_LEN: usize = 5;

/// Calls to health that a connection may have under way: whoever asks is not asked who they are, and asks for one or two.
pub(super) const HEALTH_CALLS_MAX: usize = 8;

/// What one connection has seen.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Of the thread that serves the connection.
    limiter: Limiter,
    turns: Mutex<Turns>,
    /// Bytes that came, behind TLS.
    read: AtomicU64,
    /// Bytes that were written, likewise.
    written: AtomicU64,
    /// Calls that came, and those that were looked at.
    called: AtomicU64,
    begun: AtomicU64,
    under_way: AtomicUsize,
    /// Those among them of which nothing is answered yet, and those to health.
    unanswered: AtomicUsize,
    health_under_way: AtomicUsize,
    /// Frames of answers.
    answered: AtomicU64,
    /// What is written waits until the step that its task is making is over, and something does.
    holds_back: AtomicBool,
    held_back: AtomicBool,
    /// Its peer took nothing of what was written for too long.
    blocked: AtomicBool,
    /// Its peer says too much that is nothing.
    chatters: AtomicBool,
    /// Streams are to end.
    end_streams: CancellationToken,
    /// With that, which tells their callers what to do.
    connection_ends: Arc<Status>,
}

impl Traffic {
    /// Of a connection on the thread of `limiter`, whose streams end with `connection_ends` when it has to.
    pub(super) fn new(limiter: Limiter, connection_ends: Arc<Status>) -> Self {
        Self {
            limiter,
            turns: Mutex::default(),
            read: AtomicU64::default(),
            written: AtomicU64::default(),
            called: AtomicU64::default(),
            begun: AtomicU64::default(),
            under_way: AtomicUsize::default(),
            unanswered: AtomicUsize::default(),
            health_under_way: AtomicUsize::default(),
            answered: AtomicU64::default(),
            holds_back: AtomicBool::default(),
            held_back: AtomicBool::default(),
            blocked: AtomicBool::default(),
            chatters: AtomicBool::default(),
            end_streams: CancellationToken::new(),
            connection_ends,
        }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
            under_way: self.under_way.load(Ordering::Relaxed) > 0,
            unanswered: self.unanswered.load(Ordering::Relaxed) > 0,
        }
    }

    /// So many bytes were read; so many calls have come since the connection began, those that were taken back at once with them.
    pub(super) fn heard(&self, len: usize, called: u64) {
        self.called.store(called, Ordering::Relaxed);
        {
            let mut turns = self.turns();
            turns.left = turns.left.saturating_sub(len);
        }
        self.read.fetch_add(u64::try_from(len).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// So many bytes were written.
    pub(super) fn wrote(&self, len: usize) {
        self.written.fetch_add(u64::try_from(len).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Has streams end that wait for something.
    pub(super) fn end_streams(&self) {
        self.end_streams.cancel();
    }

    /// What is said to calls that come when streams have to end.
    pub(super) fn ending(&self) -> Option<&Status> {
        self.end_streams.is_cancelled().then(|| &*self.connection_ends)
    }

    /// A call is answered within the step that its task is making, and others may be: HTTP/2 would write each answer before it looks
    /// at the next call, and a write is dearer than a decision.
    pub(super) fn hold_back(&self) {
        self.holds_back.store(true, Ordering::Relaxed);
    }

    /// Whether something may not be written yet.
    pub(super) fn holds_back(&self) -> bool {
        let holds_back = self.holds_back.load(Ordering::Relaxed);
        if holds_back {
            self.held_back.store(true, Ordering::Relaxed);
        }
        holds_back
    }

    /// From now on everything is written; whether something was held back.
    pub(super) fn let_go(&self) -> bool {
        self.holds_back.store(false, Ordering::Relaxed);
        self.held_back.swap(false, Ordering::Relaxed)
    }

    pub(super) fn answers_with_a_frame(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_blocked(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    pub(super) fn chatters(&self) {
        self.chatters.store(true, Ordering::Relaxed);
    }

    /// Why reading or writing was given up, if it was by us.
    pub(super) fn given_up(&self) -> Option<&'static str> {
        let of = |flag: &AtomicBool, cause| flag.load(Ordering::Relaxed).then_some(cause);
        of(&self.blocked, "slow_reader").or_else(|| of(&self.chatters, "chatter"))
    }
}

/// Half of a stream that waits: listens to the connection's wish that it ends.
#[derive(Debug, Default)]
pub(super) struct Ending(Option<Pin<Box<WaitForCancellationFutureOwned>>>);

impl Ending {
    /// With what the stream ends, once it has to; whoever asks is woken then.
    pub(super) fn poll(&mut self, traffic: &Traffic, cx: &mut Context<'_>) -> Poll<Arc<Status>> {
        let wish = self.0.get_or_insert_with(|| Box::pin(traffic.end_streams.clone().cancelled_owned()));
        ready!(wish.as_mut().poll(cx));
        Poll::Ready(Arc::clone(&traffic.connection_ends))
    }
}

/// A call that is under way on a connection, from its headers to the end of its answer.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) traffic: Arc<Traffic>,
    asks_health: bool,
    is_answered: bool,
}

impl UnderWay {
    pub(super) fn on(traffic: &Arc<Traffic>) -> Self {
        Self::begin(traffic, false)
    }

    /// As [`Self::on`], of a call to health; `None` when there are as many as there may be. All calls of a connection begin in its
    /// task.
    pub(super) fn asking_health_on(traffic: &Arc<Traffic>) -> Option<Self> {
        if traffic.health_under_way.load(Ordering::Relaxed) >= HEALTH_CALLS_MAX {
            return None;
        }
        traffic.health_under_way.fetch_add(1, Ordering::Relaxed);
        Some(Self::begin(traffic, true))
    }

    fn begin(traffic: &Arc<Traffic>, asks_health: bool) -> Self {
        traffic.begun.fetch_add(1, Ordering::Relaxed);
        traffic.under_way.fetch_add(1, Ordering::Relaxed);
        traffic.unanswered.fetch_add(1, Ordering::Relaxed);
        Self { traffic: Arc::clone(traffic), asks_health, is_answered: false }
    }

    /// Its answer begins.
    pub(super) fn answer(&mut self) {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.traffic.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.answer();
        self.traffic.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.asks_health {
            self.traffic.health_under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether a connection is read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// So many bytes.
    AtMost(usize),
    /// When the others of its thread were seen.
    AfterOthers,
    /// When its turn comes, with which whoever asks is woken.
    InTurn,
}

/// What a connection has of its thread.
#[derive(Debug, Default)]
struct Turns {
    own: Own,
    /// Since then it waits to be read.
    put_off: Option<Instant>,
    /// What is read now may have been there since then.
    put_off_before: Option<Instant>,
    /// Calls of its turn, their bytes about, and how many of these are left.
    given: (usize, usize),
    left: usize,
    /// In the step that its task is making more is to be read, and may be.
    asks: bool,
    reads: bool,
}

impl Traffic {
    /// Its task begins a step. HTTP/2 asks for more before each call that it hands out.
    pub(super) fn begin_step(&self) {
        let mut turns = self.turns();
        (turns.asks, turns.reads) = (false, false);
    }

    /// The step is over.
    pub(super) fn end_step(&self) {
        let mut turns = self.turns();
        let turns = &mut *turns;
        if turns.reads {
            let (calls, len) = turns.given;
            let unused = calls.saturating_mul(turns.left) / len.max(1);
            self.limiter.end_turn(&mut turns.own, unused, turns.left > 0);
        }
        // It may have been called while it could not go on for another reason.
        if !turns.asks {
            self.limiter.leave(&mut turns.own);
        }
    }

    /// Whether more is to be read now, of a connection on which so many bytes are missing of a frame that has begun, and `unread` have
    /// come; `has_yielded` if others were seen since that was asked last. If so, it is, and [`Self::heard`] is told how much came.
    ///
    /// A turn is so many bytes and not one read: whoever reads has a buffer that ends somewhere in a call, and the rest of that
    /// would wait for all others.
    pub(super) fn may_read(
        &self,
        rest_of_frame: usize,
        unread: impl FnOnce() -> usize,
        has_yielded: bool,
        waker: &Waker,
        now: Instant,
    ) -> Reading {
        let mut turns = self.turns();
        let turns = &mut *turns;
        turns.asks = true;
        // One turn in a step, however often HTTP/2 asks: others are seen between two steps alone.
        if !turns.reads {
            let asks = Asks { has_yielded, waited: since(turns.put_off, now) };
            match self.limiter.readiness(&mut turns.own, asks, || unread().div_ceil(self.len_of(1).max(1)), now) {
                Readiness::Begins(calls) => {
                    turns.reads = true;
                    turns.left = rest_of_frame.saturating_add(self.len_of(calls));
                    turns.given = (calls, turns.left);
                    turns.put_off_before = turns.put_off.take();
                }
                Readiness::AfterOthers => {
                    turns.put_off.get_or_insert(now);
                    return Reading::AfterOthers;
                }
                Readiness::Waits => turns.left = 0,
            }
        }
        if turns.left > 0 {
            return Reading::AtMost(turns.left);
        }
        turns.put_off.get_or_insert(now);
        self.limiter.wait(&mut turns.own, waker, now);
        Reading::InTurn
    }

    /// Whether a call that arrives is refused.
    pub(super) fn refuses(&self, now: Instant) -> bool {
        let turns = self.turns();
        self.limiter.refuses(&turns.own, since(turns.put_off_before, now), now)
    }

    /// Bytes of so many calls, if they are as long as those before.
    fn len_of(&self, calls: usize) -> usize {
        let len = self.read.load(Ordering::Relaxed).checked_div(self.called.load(Ordering::Relaxed));
        let len = len.and_then(|len| usize::try_from(len).ok()).unwrap_or(SMALL_CALL_LEN);
        calls.saturating_mul(len).min(TURN_LEN_MAX)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long ago that was.
fn since(then: Option<Instant>, now: Instant) -> Duration {
    then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then))
}

/// A connection that is there: others do not wait for its turn once it is over, however that came.
#[derive(Debug)]
pub(super) struct Presence(pub(super) Arc<Traffic>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.limiter.leave(&mut self.0.turns().own);
    }
}

/// Follows the frames that a peer sends, by their heads alone, and tells calls from chatter: PING, SETTINGS, PRIORITY and credit
/// cost us an answer or a look each and are bounded by nothing in the protocol.
#[derive(Debug)]
pub(super) struct Frames {
    begun: Instant,
    /// Bytes to the next head.
    skip: usize,
    /// The part of a head that has come.
    head: [u8; 9],
    head_len: usize,
    called: u64,
    of_calls: u64,
    chatter: u64,
}

impl Frames {
    /// Of a connection that begins now, with the 24 bytes that announce HTTP/2.
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, skip: 24, head: [0; 9], head_len: 0, called: 0, of_calls: 0, chatter: 0 }
    }

    /// Bytes of the frame that has begun which have not come yet.
    pub(super) fn rest(&self) -> usize {
        self.skip
    }

    /// Calls that came.
    pub(super) fn called(&self) -> u64 {
        self.called
    }

    /// Takes note of what came.
    pub(super) fn take_in(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else if self.head_len == 0
                && let Some((head, rest)) = bytes.split_first_chunk()
            {
                self.note(*head);
                bytes = rest;
            } else if let (Some(place), Some((byte, rest))) = (self.head.get_mut(self.head_len), bytes.split_first()) {
                *place = *byte;
                self.head_len += 1;
                bytes = rest;
                if self.head_len == self.head.len() {
                    self.head_len = 0;
                    self.note(self.head);
                }
            }
        }
    }

    /// A frame begins; RFC 9113, 4.1 and 6.
    fn note(&mut self, [len_high, len_middle, len_low, kind, flags, ..]: [u8; 9]) {
        self.skip = usize::try_from(u32::from_be_bytes([0, len_high, len_middle, len_low])).unwrap_or(usize::MAX);
        match (kind, flags & 1) {
            // DATA that is less than the head of a message, and no end.
            (0, 0) if self.skip < MESSAGE_HEAD_LEN => self.chatter += 1,
            // HEADERS.
            (1, _) => (self.called, self.of_calls) = (self.called + 1, self.of_calls + 1),
            // DATA, CONTINUATION.
            (0 | 9, _) => self.of_calls += 1,
            // An answer to our own SETTINGS; HTTP/2 ends a connection for one that nobody asked for. Answers to PINGs that nobody sent it
            // takes, with a line in the log for each; those to ours are few.
            (4, 1) => {}
            _ => self.chatter += 1,
        }
    }

    /// Whether more came than calls, and `answered` frames of answers to them, account for.
    pub(super) fn are_too_many(&self, answered: impl FnOnce() -> u64) -> bool {
        if self.chatter <= IDLE_FRAMES_MAX {
            return false;
        }
        let elapsed: Duration = self.begun.elapsed();
        let accounted = self.of_calls.saturating_add(answered()).saturating_mul(FRAMES_PER_FRAME);
        self.chatter > accounted + IDLE_FRAMES_MAX + elapsed.as_secs().saturating_mul(IDLE_FRAMES_PER_SECOND)
    }
}

impl Traffic {
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_so_many_bytes_however_they_are_read() {
        let now = Instant::now();
        let limiter = Limiter::new(Duration::from_millis(5), now);
        let traffic = Traffic::new(limiter, Arc::new(Status::unavailable("it ends")));
        let may_read = |rest, has_yielded| traffic.may_read(rest, || 0, has_yielded, Waker::noop(), now);
        let rest_of_frame = 30;
        for pieces in 1..10 {
            traffic.begin_step();
            let Reading::AtMost(all) = may_read(rest_of_frame, true) else { panic!("it is its turn") };
            assert!(all > rest_of_frame + 2 * SMALL_CALL_LEN, "{all}");
            let mut left = all;
            while left > 0 {
                // What is missing of a frame by then is in it.
                assert_eq!(may_read(50, false), Reading::AtMost(left), "in {pieces} pieces");
                let piece = left.min(all.div_ceil(pieces));
                traffic.heard(piece, 0);
                left -= piece;
            }
            assert_eq!(may_read(50, false), Reading::InTurn);
            assert_eq!(may_read(50, true), Reading::InTurn, "not in the same step");
            traffic.end_step();
            // It was called at once, and others are seen before.
            traffic.begin_step();
            assert_eq!(may_read(50, false), Reading::AfterOthers);
            traffic.end_step();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_call_waits_as_a_whole_one_does() {
        let start = Instant::now();
        let limiter = Limiter::new(Duration::from_millis(5), start);
        let traffic = || Traffic::new(limiter.clone(), Arc::new(Status::unavailable("it ends")));
        let may_read = |traffic: &Traffic, unread, has_yielded, now| {
            traffic.begin_step();
            let reading = traffic.may_read(0, || unread, has_yielded, Waker::noop(), now);
            if let Reading::AtMost(len) = reading {
                traffic.heard(len, 1);
            }
            traffic.end_step();
            reading
        };
        // Somebody waits for too long, again and again.
        for late in 1..=5 {
            let (now, connection) = (start + Duration::from_millis(20 * late), traffic());
            assert_eq!(may_read(&connection, 1_000, false, now), Reading::AfterOthers);
            let now = now + Duration::from_millis(10);
            assert!(matches!(may_read(&connection, 1_000, true, now), Reading::AtMost(_)));
        }
        let now = start + Duration::from_millis(120);
        assert!(matches!(may_read(&traffic(), 0, false, now), Reading::AtMost(_)), "there is nothing");
        assert_eq!(may_read(&traffic(), 1, false, now), Reading::InTurn);
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, len: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(kind, len.into()));
        frame
    }

    fn after(parts: &[Vec<u8>]) -> Frames {
        let mut frames = Frames::new(Instant::now());
        frames.take_in(PREFACE);
        for part in parts {
            frames.take_in(part);
        }
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_counted_however_they_are_cut() {
        let parts =
            [frame(4, 0, 6), frame(4, 1, 0), frame(1, 4, 40), frame(0, 1, 200), frame(6, 0, 8), frame(6, 1, 8), frame(8, 0, 4)];
        let whole = [PREFACE, &parts.concat()].concat();
        let expected = after(&parts);
        assert_eq!((expected.of_calls, expected.chatter), (2, 4));
        for piece in 1..whole.len() {
            let mut frames = Frames::new(Instant::now());
            whole.chunks(piece).for_each(|bytes| frames.take_in(bytes));
            assert_eq!((frames.of_calls, frames.chatter), (2, 4), "in pieces of {piece}");
            assert_eq!((frames.skip, frames.head_len), (0, 0), "in pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn chatter_is_too_much_when_nothing_accounts_for_it() {
        for (kind, flags, len) in [(2, 0, 5), (4, 0, 6), (6, 0, 8), (6, 1, 8), (8, 0, 4), (200, 0, 8), (0, 0, 0), (0, 0, 4)] {
            let mut frames = after(&[]);
            let ping = frame(kind, flags, len);
            for _ in 0..IDLE_FRAMES_MAX {
                frames.take_in(&ping);
            }
            assert!(!frames.are_too_many(|| 0), "{kind}");
            frames.take_in(&ping);
            assert!(frames.are_too_many(|| 0), "{kind}");
            assert!(!frames.are_too_many(|| 1), "{kind}: answers account for some");
        }
        // Messages, and the ends of calls, are what a connection is for.
        let mut frames = after(&[]);
        for _ in 0..2 * IDLE_FRAMES_MAX {
            frames.take_in(&[frame(0, 0, 5), frame(0, 1, 0), frame(4, 1, 0)].concat());
        }
        assert!(!frames.are_too_many(|| 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_a_second_is_no_chatter_for_ever() {
        let mut frames = after(&[]);
        // One of theirs, and an answer to one of ours.
        let pings = [frame(6, 0, 8), frame(6, 1, 8)].concat();
        for _ in 0..100_000 {
            tokio::time::advance(Duration::from_secs(1)).await;
            frames.take_in(&pings);
        }
        assert!(!frames.are_too_many(|| 0));
    }
}
