//! The feed in memory: a log per partition, with long polls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::feed_faults::{FaultState, FeedFaults};
use super::{lock, pause};
use crate::change_feed::{Change, ChangeFeed, ChangePublisher, FeedBatch, FeedError, FeedMessage, Heartbeat, Position, Topic};
use crate::shard::Shard;

/// A [`ChangeFeed`] and [`ChangePublisher`] in memory; a cheap handle, clones share everything.
#[derive(Debug, Clone)]
pub struct MemoryFeed(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) log: Mutex<Log>,
    pub(super) wake: Notify,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) topic: String,
    pub(super) partitions: Vec<Partition>,
    pub(super) faults: FaultState,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Position of the first record still there.
    pub(super) start: Position,
    pub(super) records: VecDeque<FeedMessage>,
}

impl Partition {
    pub(super) fn end(&self) -> Position {
        self.start.saturating_add(self.records.len() as Position)
    }
}

impl MemoryFeed {
    /// An empty topic with this id and as many partitions, at least one.
    pub fn new(topic: &str, partitions: u32) -> Self {
        let partitions = (0..partitions.max(1)).map(|_| Partition::default()).collect();
        let log = Log { topic: topic.to_owned(), partitions, faults: FaultState::default() };
        Self(Arc::new(Shared { log: Mutex::new(log), wake: Notify::new() }))
    }

    /// Its switches.
    pub fn faults(&self) -> FeedFaults {
        FeedFaults(Arc::clone(&self.0))
    }

    /// In which partition the changes of a stream stand.
    pub fn partition_of(&self, stream: &tessera_core::stream::StreamId) -> u32 {
        u32::try_from(lock(&self.0.log).partition_of(stream)).unwrap_or(0)
    }

    /// Every record that is still in the log, by partition.
    pub fn records(&self) -> Vec<Vec<FeedMessage>> {
        lock(&self.0.log).partitions.iter().map(|partition| partition.records.iter().cloned().collect()).collect()
    }

    /// Writes a change at once; chances of loss apply, latency and failures do not.
    pub(super) fn write(&self, change: Change) {
        lock(&self.0.log).write(change);
        self.0.wake.notify_waiters();
    }
}

impl Log {
    fn partition_of(&self, stream: &tessera_core::stream::StreamId) -> usize {
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        usize::try_from(Shard::of(stream).partition(count)).unwrap_or(0)
    }

    fn write(&mut self, change: Change) {
        let index = self.partition_of(&change.stream);
        let Some(partition) = self.partitions.get_mut(index) else { return };
        if self.faults.loses() {
            return;
        }
        let message = FeedMessage::Change(change);
        if self.faults.duplicates() {
            partition.records.push_back(message.clone());
        }
        partition.records.push_back(message);
        if let Some(old) = self.faults.zombie(&partition.records) {
            partition.records.push_back(old);
        }
    }

    fn batch(&self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<FeedBatch, FeedError> {
        let out_of_range = FeedError::OutOfRange { partition, position: from };
        let log = usize::try_from(partition).ok().and_then(|index| self.partitions.get(index));
        let log = log.filter(|log| topic == self.topic && (log.start..=log.end()).contains(&from)).ok_or(out_of_range)?;
        let skipped = usize::try_from(from.saturating_sub(log.start)).unwrap_or(usize::MAX);
        let messages: Vec<FeedMessage> = log.records.iter().skip(skipped).take(limit.max(1)).cloned().collect();
        let next = from.saturating_add(messages.len() as Position);
        Ok(FeedBatch { messages, next })
    }
}

#[async_trait]
impl ChangeFeed for MemoryFeed {
    async fn topic(&self) -> Result<Topic, FeedError> {
        let (answer, delay) = {
            let mut log = lock(&self.0.log);
            let partitions = u32::try_from(log.partitions.len()).unwrap_or(u32::MAX);
            let topic = Topic { id: log.topic.clone(), partitions };
            (log.faults.fail_read().map(|()| topic), log.faults.delay())
        };
        pause(delay).await;
        answer
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        let (answer, delay) = {
            let mut log = lock(&self.0.log);
            let ends = log.partitions.iter().map(Partition::end).collect();
            (log.faults.fail_read().map(|()| ends), log.faults.delay())
        };
        pause(delay).await;
        answer
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        let delay = {
            let mut log = lock(&self.0.log);
            log.faults.fail_read()?;
            log.faults.delay()
        };
        pause(delay).await;
        // An instant too far away to be told is as good as never.
        let until = Instant::now().checked_add(wait);
        loop {
            // Registered before looking, so that nothing written in between is slept through.
            let mut woken = std::pin::pin!(self.0.wake.notified());
            woken.as_mut().enable();
            let batch = lock(&self.0.log).batch(topic, partition, from, limit)?;
            if !batch.messages.is_empty() || wait.is_zero() {
                return Ok(batch);
            }
            let in_time = if let Some(until) = until {
                timeout_at(until, woken).await.is_ok()
            } else {
                woken.await;
                true
            };
            if !in_time {
                return lock(&self.0.log).batch(topic, partition, from, limit);
            }
        }
    }
}

#[async_trait]
impl ChangePublisher for MemoryFeed {
    async fn publish(&self, changes: &[Change]) -> Result<(), FeedError> {
        let (arriving, delay) = {
            let mut log = lock(&self.0.log);
            (log.faults.arriving(changes.len()), log.faults.delay())
        };
        pause(delay).await;
        let back = {
            let mut log = lock(&self.0.log);
            for change in changes.iter().take(arriving.unwrap_or(changes.len())) {
                log.write(change.clone());
            }
            log.faults.delay()
        };
        self.0.wake.notify_waiters();
        pause(back).await;
        match arriving {
            Some(_) => Err(FeedError::Unavailable("simulated failure of publishing".to_owned())),
            None => Ok(()),
        }
    }

    async fn partitions(&self) -> Result<u32, FeedError> {
        Ok(self.topic().await?.partitions)
    }

    async fn beat(&self, partitions: &[u32], heartbeat: &Heartbeat) -> Result<(), FeedError> {
        let (failure, delay) = {
            let mut log = lock(&self.0.log);
            (log.faults.fail_beat(), log.faults.delay())
        };
        pause(delay).await;
        failure?;
        let mut log = lock(&self.0.log);
        let named = (0..).zip(&mut log.partitions).filter(|(number, _)| partitions.contains(number));
        for (_, partition) in named {
            partition.records.push_back(FeedMessage::Heartbeat(heartbeat.clone()));
        }
        drop(log);
        self.0.wake.notify_waiters();
        Ok(())
    }
}
