//! How a memory feed is made to fail: switches for directed tests, chances drawn from a seed for simulations.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::feed::{Partition, Shared};
use super::lock;
use super::seed::SplitMix64;
use crate::change_feed::{FeedError, FeedMessage, Position};

/// Chances of faults, each in a thousand, and the greatest latency. The default is a feed that never fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedChances {
    /// Of a published change that is not in the feed although its publisher was told so.
    pub change_lost: u32,
    /// Of a change that is in the feed twice.
    pub change_twice: u32,
    /// Of an old record of the partition coming once more after a change, as from a publisher that slept.
    pub old_again: u32,
    /// Of publishing failing with only a part of the changes in the feed.
    pub publish_fails: u32,
    /// Of a read failing.
    pub read_fails: u32,
    /// Each operation takes up to this; publishing as much again on its way back.
    pub delay_max: Duration,
}

impl FeedChances {
    /// The rates under which the protocol was first examined: 8 % lost, 15 % repeated, and some failures.
    pub fn stormy() -> Self {
        Self {
            change_lost: 80,
            change_twice: 50,
            old_again: 100,
            publish_fails: 50,
            read_fails: 50,
            delay_max: Duration::from_millis(5),
        }
    }
}

#[derive(Debug)]
pub(super) struct FaultState {
    random: SplitMix64,
    chances: FeedChances,
    lose: u32,
    fail_publishes: u32,
    fail_reads: u32,
    fail_beats: u32,
}

impl Default for FaultState {
    fn default() -> Self {
        Self {
            random: SplitMix64::new(0),
            chances: FeedChances::default(),
            lose: 0,
            fail_publishes: 0,
            fail_reads: 0,
            fail_beats: 0,
        }
    }
}

fn take_one(left: &mut u32) -> bool {
    let was = *left;
    *left = was.saturating_sub(1);
    was > 0
}

impl FaultState {
    pub(super) fn delay(&mut self) -> Duration {
        self.random.duration(self.chances.delay_max)
    }

    pub(super) fn loses(&mut self) -> bool {
        take_one(&mut self.lose) || self.random.chance(self.chances.change_lost)
    }

    pub(super) fn duplicates(&mut self) -> bool {
        self.random.chance(self.chances.change_twice)
    }

    pub(super) fn zombie(&mut self, records: &VecDeque<FeedMessage>) -> Option<FeedMessage> {
        let drawn = self.random.chance(self.chances.old_again);
        drawn.then(|| records.get(self.random.index(records.len())).cloned()).flatten()
    }

    pub(super) fn fail_read(&mut self) -> Result<(), FeedError> {
        if take_one(&mut self.fail_reads) || self.random.chance(self.chances.read_fails) {
            return Err(FeedError::Unavailable("simulated failure of reading".to_owned()));
        }
        Ok(())
    }

    pub(super) fn fail_beat(&mut self) -> Result<(), FeedError> {
        if take_one(&mut self.fail_beats) || self.random.chance(self.chances.publish_fails) {
            return Err(FeedError::Unavailable("simulated failure of a heartbeat".to_owned()));
        }
        Ok(())
    }

    /// How many of `count` changes arrive before publishing fails; `None`: it does not fail.
    pub(super) fn arriving(&mut self, count: usize) -> Option<usize> {
        let fails = take_one(&mut self.fail_publishes) || self.random.chance(self.chances.publish_fails);
        fails.then(|| self.random.index(count.saturating_add(1)))
    }
}

/// The switches of one memory feed; a cheap handle.
#[derive(Debug, Clone)]
pub struct FeedFaults(pub(super) Arc<Shared>);

impl FeedFaults {
    /// Draws faults from `seed` from now on.
    pub fn seed(&self, seed: u64, chances: FeedChances) {
        let mut log = lock(&self.0.log);
        log.faults.random = SplitMix64::new(seed);
        log.faults.chances = chances;
    }

    /// No more faults, by chance or told.
    pub fn calm(&self) {
        lock(&self.0.log).faults = FaultState::default();
    }

    /// The next `count` published changes are lost though their publisher is told that they are in.
    pub fn lose_next(&self, count: u32) {
        lock(&self.0.log).faults.lose = count;
    }

    /// The next `count` calls of publish fail, with any part of their changes in the feed.
    pub fn fail_publishes(&self, count: u32) {
        lock(&self.0.log).faults.fail_publishes = count;
    }

    /// The next `count` reads of any kind (topic, ends, records) fail.
    pub fn fail_reads(&self, count: u32) {
        lock(&self.0.log).faults.fail_reads = count;
    }

    /// The next `count` heartbeats fail and reach no partition.
    pub fn fail_beats(&self, count: u32) {
        lock(&self.0.log).faults.fail_beats = count;
    }

    /// Writes any record at the end of a partition: garbage, an old change, a heartbeat of another store.
    pub fn write(&self, partition: u32, message: FeedMessage) {
        self.with_partition(partition, |partition| partition.records.push_back(message));
    }

    /// Writes the record at `position` once more at the end of its partition; `false` if it is not there any more.
    pub fn repeat(&self, partition: u32, position: Position) -> bool {
        let mut repeated = false;
        self.with_partition(partition, |partition| {
            let index = position.checked_sub(partition.start).and_then(|index| usize::try_from(index).ok());
            let record = index.and_then(|index| partition.records.get(index)).cloned();
            repeated = record.is_some();
            partition.records.extend(record);
        });
        repeated
    }

    /// Removes everything before `position` of a partition, as retention does: reading from there is out of range.
    pub fn truncate(&self, partition: u32, position: Position) {
        self.with_partition(partition, |partition| {
            while partition.start < position && partition.records.pop_front().is_some() {
                partition.start += 1;
            }
        });
    }

    /// Makes the topic again, empty, under another id: positions begin at 0, and those of the old one mean nothing.
    pub fn new_topic(&self, topic: &str) {
        let mut log = lock(&self.0.log);
        topic.clone_into(&mut log.topic);
        for partition in &mut log.partitions {
            *partition = Partition::default();
        }
        drop(log);
        self.0.wake.notify_waiters();
    }

    /// Adds empty partitions until there are so many, as operators do: with another number of them the topic has another id, and
    /// streams move.
    pub fn more_partitions(&self, topic: &str, partitions: u32) {
        let mut log = lock(&self.0.log);
        topic.clone_into(&mut log.topic);
        let count = usize::try_from(partitions).unwrap_or(usize::MAX).max(log.partitions.len());
        log.partitions.resize_with(count, Partition::default);
        drop(log);
        self.0.wake.notify_waiters();
    }

    fn with_partition(&self, partition: u32, change: impl FnOnce(&mut Partition)) {
        let mut log = lock(&self.0.log);
        if let Some(partition) = usize::try_from(partition).ok().and_then(|index| log.partitions.get_mut(index)) {
            change(partition);
        }
        drop(log);
        self.0.wake.notify_waiters();
    }
}
