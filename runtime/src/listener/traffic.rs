//! What one connection has seen, counted by whoever sees it and read by whoever decides about its life; and whether what a peer
//! says is worth its while.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::course::Seen;
use crate::overload::limiter::{Arrival, Limiter, Own, Readiness};
use crate::overload::line::Place;

/// Frames beyond those that calls account for that a connection may send at any time, and how many more each second. Clients
/// send some to measure their round trip, which on one machine is thousands a second; but only while answers come.
const IDLE_FRAMES_MAX: u64 = 10_000;
const IDLE_FRAMES_PER_SECOND: u64 = 10;
/// Frames that one frame of a call or an answer accounts for: credit for it, of stream and connection, and a measurement.
const FRAMES_PER_FRAME: u64 = 3;

/// Bytes of a small call, frames and all, about: of whoever has not called yet.
const SMALL_CALL_LEN: usize = 128;

/// Bytes that a turn brings at most, beyond a frame that has begun: whoever sends long messages may send short ones as well.
const TURN_LEN_MAX: usize = 8 << 10;

/// What every message of gRPC begins with. Clients send it with the message behind it, or with what there is room for.
const MESSAGE_HEAD_LEN: usize = 5;

/// What one connection has seen.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Of the thread that serves the connection.
    limiter: Limiter,
    turns: Mutex<Turns>,
    /// Bytes that came, behind TLS.
    read: AtomicU64,
    begun: AtomicU64,
    under_way: AtomicUsize,
    /// Frames of answers.
    answered: AtomicU64,
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
            begun: AtomicU64::default(),
            under_way: AtomicUsize::default(),
            answered: AtomicU64::default(),
            blocked: AtomicBool::default(),
            chatters: AtomicBool::default(),
            end_streams: CancellationToken::new(),
            connection_ends,
        }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            read: self.read.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
            under_way: self.under_way.load(Ordering::Relaxed) > 0,
        }
    }

    /// So many bytes were read.
    pub(super) fn heard(&self, len: usize) {
        if let Some(left) = &mut self.turns().left {
            *left = left.saturating_sub(len);
        }
        self.read.fetch_add(u64::try_from(len).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Has streams end that wait for something.
    pub(super) fn end_streams(&self) {
        self.end_streams.cancel();
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
pub(super) struct UnderWay(pub(super) Arc<Traffic>);

impl UnderWay {
    pub(super) fn on(traffic: &Arc<Traffic>) -> Self {
        traffic.begun.fetch_add(1, Ordering::Relaxed);
        traffic.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(traffic))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a connection is read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As much as comes.
    Freely,
    /// So many bytes.
    AtMost(usize),
    /// When the others of its thread had their turn.
    AfterOthers,
    /// Not for so long.
    Later(Duration),
}

/// What a connection has of its thread.
#[derive(Debug, Default)]
struct Turns {
    own: Own,
    /// Since then it waits to be read.
    put_off: Option<Instant>,
    /// What is read now may have been there since then.
    put_off_before: Option<Instant>,
    /// Bytes that are left of its turn, once that has begun in the step that its task is making.
    left: Option<usize>,
}

impl Traffic {
    /// Its task begins a step, in which it has one turn while connections take turns: HTTP/2 asks for more before each call that
    /// it hands out.
    pub(super) fn takes_turn(&self) {
        self.turns().left = None;
    }

    /// Whether more is to be read now, of a connection on which so many bytes are missing of a frame that has begun. If so, it is,
    /// and [`Self::heard`] is told how much came.
    ///
    /// A turn is so many bytes and not one read: whoever reads has a buffer that ends somewhere in a call, and the rest of that
    /// would wait for all others.
    pub(super) fn may_read(&self, rest_of_frame: usize, now: Instant) -> Reading {
        let mut turns = self.turns();
        let begins = turns.left.is_none();
        let reading = match self.limiter.readiness(&turns.own, now) {
            Readiness::Free => Reading::Freely,
            Readiness::InTurns(calls) => {
                match *turns.left.get_or_insert_with(|| rest_of_frame.saturating_add(self.len_of(calls))) {
                    0 => Reading::AfterOthers,
                    left => Reading::AtMost(left),
                }
            }
            Readiness::Later(_) if turns.left.is_some_and(|left| left > 0) => Reading::AtMost(turns.left.unwrap_or_default()),
            Readiness::Later(pause) => Reading::Later(pause),
        };
        if let Reading::AfterOthers | Reading::Later(_) = reading {
            turns.put_off.get_or_insert(now);
        } else if begins {
            turns.put_off_before = turns.put_off.take();
        }
        reading
    }

    /// Bytes of so many calls, if they are as long as those before.
    fn len_of(&self, calls: usize) -> usize {
        let len = self.read.load(Ordering::Relaxed).checked_div(self.begun.load(Ordering::Relaxed));
        let len = len.and_then(|len| usize::try_from(len).ok()).unwrap_or(SMALL_CALL_LEN);
        calls.saturating_mul(len).min(TURN_LEN_MAX)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for its turn.
#[derive(Debug)]
pub(super) struct Turn {
    traffic: Arc<Traffic>,
    place: Place,
    arrived: Instant,
    has_come: bool,
}

/// Whether a call is looked at.
#[derive(Debug)]
pub(super) enum Admission {
    /// Before those who wait.
    AtOnce,
    /// When its turn comes.
    InTurn(Turn),
    Refused,
}

impl Admission {
    /// Of a call that arrives.
    pub(super) fn of(traffic: &Arc<Traffic>, now: Instant) -> Self {
        let mut turns = traffic.turns();
        let arrived = turns.put_off_before.unwrap_or(now);
        match traffic.limiter.arrive(&mut turns.own, now.saturating_duration_since(arrived), now) {
            Arrival::AtOnce => Self::AtOnce,
            Arrival::Waits => {
                Self::InTurn(Turn { traffic: Arc::clone(traffic), place: Place::default(), arrived, has_come: false })
            }
            Arrival::Refused => Self::Refused,
        }
    }
}

impl Turn {
    /// Whether the call's turn has come; if not, whoever asks is woken when it does.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.traffic.limiter.poll_turn(&mut self.place, cx)
    }

    /// The call's turn has come.
    pub(super) fn begin(mut self, now: Instant) {
        self.has_come = true;
        let wait = now.saturating_duration_since(self.arrived);
        self.traffic.limiter.begin(&self.place, wait, now);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_come {
            let now = Instant::now();
            self.traffic.limiter.begin(&self.place, now.saturating_duration_since(self.arrived), now);
        }
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
    of_calls: u64,
    chatter: u64,
}

impl Frames {
    /// Of a connection that begins now, with the 24 bytes that announce HTTP/2.
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, skip: 24, head: [0; 9], head_len: 0, of_calls: 0, chatter: 0 }
    }

    /// Bytes of the frame that has begun which have not come yet.
    pub(super) fn rest(&self) -> usize {
        self.skip
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
            // DATA, HEADERS, CONTINUATION.
            (0 | 1 | 9, _) => self.of_calls += 1,
            // Answers to our own SETTINGS and PING.
            (4 | 6, 1) => {}
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

    /// On a thread on which there is a limit at that time.
    fn limited(now: Instant) -> (Traffic, Instant) {
        let target = Duration::from_millis(5);
        let limiter = Limiter::new(target, now);
        let traffic = Arc::new(Traffic::new(limiter.clone(), Arc::new(Status::unavailable("it ends"))));
        let mut now = now;
        while limiter.readiness(&Own::default(), now) == Readiness::Free {
            now += target;
            if let Admission::InTurn(turn) = Admission::of(&traffic, now) {
                turn.begin(now + 2 * target);
            }
        }
        drop(traffic);
        (Traffic::new(limiter, Arc::new(Status::unavailable("it ends"))), now)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_are_taken_back_count_as_those_that_are_served() {
        let target = Duration::from_millis(5);
        let limiter = Limiter::new(target, Instant::now());
        let traffic = Arc::new(Traffic::new(limiter.clone(), Arc::new(Status::unavailable("it ends"))));
        for _ in 0..1_000 {
            if limiter.readiness(&Own::default(), Instant::now()) != Readiness::Free {
                return;
            }
            let admission = Admission::of(&traffic, Instant::now());
            tokio::time::advance(2 * target).await;
            drop(admission);
        }
        panic!("they wait for too long, and nobody takes note");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_so_many_bytes_however_they_are_read() {
        let (traffic, now) = limited(Instant::now());
        let rest_of_frame = 30;
        for pieces in 1..10 {
            traffic.takes_turn();
            let Reading::AtMost(all) = traffic.may_read(rest_of_frame, now) else { panic!("it is its turn") };
            assert!(all > rest_of_frame + 2 * SMALL_CALL_LEN, "{all}");
            let mut left = all;
            while left > 0 {
                // What is missing of a frame by then is in it.
                assert_eq!(traffic.may_read(50, now), Reading::AtMost(left), "in {pieces} pieces");
                let piece = left.min(all.div_ceil(pieces));
                traffic.heard(piece);
                left -= piece;
            }
            assert_eq!(traffic.may_read(50, now), Reading::AfterOthers);
        }
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
        assert_eq!((expected.of_calls, expected.chatter), (2, 3));
        for piece in 1..whole.len() {
            let mut frames = Frames::new(Instant::now());
            whole.chunks(piece).for_each(|bytes| frames.take_in(bytes));
            assert_eq!((frames.of_calls, frames.chatter), (2, 3), "in pieces of {piece}");
            assert_eq!((frames.skip, frames.head_len), (0, 0), "in pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn chatter_is_too_much_when_nothing_accounts_for_it() {
        for (kind, len) in [(2, 5), (4, 6), (6, 8), (8, 4), (200, 8), (0, 0), (0, 4)] {
            let mut frames = after(&[]);
            let ping = frame(kind, 0, len);
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
            frames.take_in(&[frame(0, 0, 5), frame(0, 1, 0), frame(6, 1, 8)].concat());
        }
        assert!(!frames.are_too_many(|| 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_a_second_is_no_chatter_for_ever() {
        let mut frames = after(&[]);
        let ping = frame(6, 0, 8);
        for _ in 0..100_000 {
            tokio::time::advance(Duration::from_secs(1)).await;
            frames.take_in(&ping);
        }
        assert!(!frames.are_too_many(|| 0));
    }
}
