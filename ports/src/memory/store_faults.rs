//! How a memory store is made to fail: switches for directed tests, chances drawn from a seed for simulations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tessera_core::stream::StreamId;
use tokio::time::Instant;

use super::lock;
use super::seed::SplitMix64;
use super::store::Inner;
use super::streams::QUORUM;
use crate::event_store::{Append, ReadError};

/// What a store can be asked for, appends aside: those have [`AppendFault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is a method of a port, by its name")]
pub enum Operation {
    Identity,
    Read,
    Events,
    Requests,
    ScanRanges,
    Scan,
    Count,
    PutHint,
    EraseHint,
    ListHints,
    RenewLease,
}

/// What becomes of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// Refused before anything happened.
    NotAttempted,
    /// Refused: the disk is full.
    DiskFull,
    /// Unknown; it was not written and never will be.
    UnknownNotApplied,
    /// Unknown; it was written (or met a conflict), only the answer is lost.
    UnknownApplied,
    /// Unknown; it stays under way until [`StoreFaults::release_late`], and is then written if its condition still holds.
    UnknownAppliedLater,
    /// Unknown; it is written after this time if its condition still holds then. Whoever next asks the store finds it so.
    UnknownAppliedAfter(Duration),
}

/// Chances of faults, each in a thousand, and the greatest latencies. The default is a store that never fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreChances {
    /// Of [`AppendFault::UnknownNotApplied`].
    pub append_lost: u32,
    /// Of [`AppendFault::UnknownApplied`].
    pub answer_lost: u32,
    /// Of an append that is written later: [`AppendFault::UnknownAppliedAfter`] up to `late_max`, or if that is zero
    /// [`AppendFault::UnknownAppliedLater`].
    pub append_late: u32,
    /// See there.
    pub late_max: Duration,
    /// Of [`AppendFault::NotAttempted`].
    pub not_attempted: u32,
    /// Of any other operation answering "unavailable".
    pub read_fails: u32,
    /// Each operation takes up to this on its way to the store, and as much on its way back.
    pub delay_max: Duration,
    /// Replicas learn one after the other instead of at once, so that weak reads differ from strong ones.
    pub replicas_lag: bool,
}

impl StoreChances {
    /// The rates under which the protocol was first examined: 10 % lost, 12 % answers lost, 14 % late, 5 % failing reads; and 3 % of
    /// the appends are refused before anything happens.
    pub fn stormy() -> Self {
        Self {
            append_lost: 100,
            answer_lost: 120,
            append_late: 140,
            late_max: Duration::from_secs(2),
            not_attempted: 30,
            read_fails: 50,
            delay_max: Duration::from_millis(5),
            replicas_lag: true,
        }
    }
}

/// An append that is still under way.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) append: Append,
    pub(super) due: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct FaultState {
    pub(super) random: SplitMix64,
    pub(super) chances: StoreChances,
    pub(super) appends: VecDeque<AppendFault>,
    pub(super) late: Vec<Late>,
    pub(super) damaged: BTreeSet<StreamId>,
    pub(super) scan_overlaps: bool,
    pub(super) events_bytes_max: usize,
    failing: BTreeMap<Operation, u32>,
    disk_full: bool,
}

impl Default for FaultState {
    fn default() -> Self {
        Self {
            random: SplitMix64::new(0),
            chances: StoreChances::default(),
            appends: VecDeque::new(),
            late: Vec::new(),
            damaged: BTreeSet::new(),
            scan_overlaps: true,
            events_bytes_max: usize::MAX,
            failing: BTreeMap::new(),
            disk_full: false,
        }
    }
}

impl FaultState {
    pub(super) fn delay(&mut self) -> Duration {
        self.random.duration(self.chances.delay_max)
    }

    /// Chance for the replicas; none while they learn at once.
    pub(super) fn replicas(&mut self) -> Option<&mut SplitMix64> {
        self.chances.replicas_lag.then_some(&mut self.random)
    }

    /// How many replicas learn an append whose answer is lost.
    pub(super) fn learners_of_unanswered(&mut self) -> usize {
        self.random.index(QUORUM + 2)
    }

    pub(super) fn fail(&mut self, operation: Operation) -> Result<(), ReadError> {
        let told = self.failing.get_mut(&operation).is_some_and(|left| {
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        });
        if told || self.random.chance(self.chances.read_fails) {
            return Err(ReadError::Unavailable(format!("simulated failure of {operation:?}")));
        }
        Ok(())
    }

    /// The fate of the next append; `None`: it is answered as it should be.
    pub(super) fn fate(&mut self) -> Option<AppendFault> {
        if self.disk_full {
            return Some(AppendFault::DiskFull);
        }
        if let Some(told) = self.appends.pop_front() {
            return Some(told);
        }
        let chances = self.chances;
        let drawn = u32::try_from(self.random.below(1000)).unwrap_or(0);
        let lost = chances.append_lost;
        let unanswered = lost.saturating_add(chances.answer_lost);
        let late = unanswered.saturating_add(chances.append_late);
        let refused = late.saturating_add(chances.not_attempted);
        match drawn {
            _ if drawn < lost => Some(AppendFault::UnknownNotApplied),
            _ if drawn < unanswered => Some(AppendFault::UnknownApplied),
            _ if drawn < late => Some(self.late_fate()),
            _ if drawn < refused => Some(AppendFault::NotAttempted),
            _ => None,
        }
    }

    fn late_fate(&mut self) -> AppendFault {
        if self.chances.late_max.is_zero() {
            return AppendFault::UnknownAppliedLater;
        }
        AppendFault::UnknownAppliedAfter(self.random.duration(self.chances.late_max))
    }

    /// When an append that nobody waits for any more arrives, if of itself at all.
    pub(super) fn abandoned_due(&mut self) -> Option<Instant> {
        match self.late_fate() {
            AppendFault::UnknownAppliedAfter(delay) => Instant::now().checked_add(delay),
            _ => None,
        }
    }
}

/// The switches of one memory store; a cheap handle.
#[derive(Debug, Clone)]
pub struct StoreFaults(pub(super) Arc<Mutex<Inner>>);

impl StoreFaults {
    /// Draws faults from `seed` from now on.
    pub fn seed(&self, seed: u64, chances: StoreChances) {
        let mut inner = lock(&self.0);
        inner.faults.random = SplitMix64::new(seed);
        inner.faults.chances = chances;
    }

    /// No more faults: chances, told ones, damage and full disk end, replicas learn at once and have learned everything.
    /// What is late stays late, since only [`Self::release_late`] or its time can tell its fate, and pages of events stay as
    /// short, which is no fault.
    pub fn calm(&self) {
        let mut inner = lock(&self.0);
        let late = std::mem::take(&mut inner.faults.late);
        let (random, events_bytes_max) = (inner.faults.random.clone(), inner.faults.events_bytes_max);
        inner.faults = FaultState { random, late, events_bytes_max, ..FaultState::default() };
        inner.learn_all();
    }

    /// The next `count` operations of this kind answer "unavailable" and do nothing.
    pub fn fail_next(&self, operation: Operation, count: u32) {
        lock(&self.0).faults.failing.insert(operation, count);
    }

    /// The next append (after those already told of) meets this fate.
    pub fn next_append(&self, fault: AppendFault) {
        lock(&self.0).faults.appends.push_back(fault);
    }

    /// While set, every append answers that the disk is full.
    pub fn disk_full(&self, full: bool) {
        lock(&self.0).faults.disk_full = full;
    }

    /// Scans ask a quorum that overlaps the writes (the default), or a single replica that may not have learned them.
    pub fn scan_overlaps(&self, overlaps: bool) {
        lock(&self.0).faults.scan_overlaps = overlaps;
    }

    /// A page of events ends early with the event that makes it so many bytes or more, as pages of real stores do; 0 is as 1.
    pub fn events_bytes_max(&self, bytes: usize) {
        lock(&self.0).faults.events_bytes_max = bytes.max(1);
    }

    /// Reads of this stream answer that the store is damaged, and scans hand it on without its state.
    pub fn damage(&self, stream: StreamId) {
        lock(&self.0).faults.damaged.insert(stream);
    }

    /// Puts other bytes in the place of the stream's current state, at the same seq; `false` if it has none.
    pub fn overwrite_state(&self, stream: &StreamId, state: Bytes) -> bool {
        lock(&self.0).streams.overwrite_state(stream, state)
    }

    /// How many appends are under way that nobody waits for.
    pub fn late(&self) -> usize {
        lock(&self.0).faults.late.len()
    }

    /// Lets the late appends arrive, oldest first; how many were written. The others met a conflict.
    pub fn release_late(&self) -> usize {
        lock(&self.0).release(usize::MAX)
    }

    /// Lets the oldest late append arrive; `None` if there is none, else whether it was written.
    pub fn release_oldest(&self) -> Option<bool> {
        let mut inner = lock(&self.0);
        (!inner.faults.late.is_empty()).then(|| inner.release(1) == 1)
    }

    /// Loses all late appends for good; how many there were.
    pub fn lose_late(&self) -> usize {
        let lost = std::mem::take(&mut lock(&self.0).faults.late);
        lost.len()
    }
}
