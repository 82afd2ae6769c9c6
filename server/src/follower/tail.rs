//! Following the feed: one read under way per partition, each from the position that is ours.

use std::sync::Arc;
use std::time::Duration;

use tessera_ports::change_feed::{FeedBatch, FeedError, FeedMessage, Heartbeat};
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::hooks::{self, Guard};
use tracing::{debug, warn};

use super::session::Generation;
use super::{Cause, Event, Follower, RETRY_PAUSE};
use crate::metric_definitions::Source;

impl Follower {
    pub(super) fn tail_all(&mut self, generation: Generation) {
        let partitions = self.session(generation).map_or(0, |session| session.positions.len());
        for partition in (0..).take(partitions) {
            self.tail(generation, partition, Duration::ZERO);
        }
    }

    fn tail(&mut self, generation: Generation, partition: u32, pause: Duration) {
        let Some(session) = self.session(generation) else { return };
        let Some(from) = position_of(&session.positions, partition) else { return };
        let topic = session.topic.id.clone();
        let (feed, records) = (Arc::clone(&self.feed), self.config.feed_read_records);
        let wait = Duration::from_millis(self.config.feed_wait_ms);
        self.errand(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let result = feed.read(&topic, partition, from, records, wait).await;
            Event::Tail(generation, partition, result)
        });
    }

    pub(super) fn tailed(&mut self, generation: Generation, partition: u32, result: Result<FeedBatch, FeedError>) {
        if self.session(generation).is_none() {
            return;
        }
        match result {
            Ok(batch) => {
                self.take_in(generation, partition, batch);
                self.tail(generation, partition, Duration::ZERO);
            }
            Err(FeedError::Unavailable(reason)) => {
                self.shared.metrics.feed_errors.increment(1);
                debug!(reason, partition, "the feed is unavailable, trying again");
                self.tail(generation, partition, RETRY_PAUSE);
            }
            Err(FeedError::OutOfRange { partition, position }) => {
                warn!(partition, position, "the position is not in the feed");
                self.out_of_range(generation, partition);
            }
        }
    }

    /// What lies between our position and the feed's beginning is lost to us: only a hydration finds it.
    fn out_of_range(&mut self, generation: Generation, partition: u32) {
        if hooks::holds(Guard::OutOfRangeRehydrates) {
            return self.begin(Cause::OutOfRange);
        }
        // Without the guard: jump to the end. After a pause, since the end of another topic is as far out of range.
        let feed = Arc::clone(&self.feed);
        self.errand(async move {
            tokio::time::sleep(RETRY_PAUSE).await;
            let next = feed.ends().await.ok().and_then(|ends| position_of(&ends, partition)).unwrap_or(0);
            Event::Tail(generation, partition, Ok(FeedBatch { messages: Vec::new(), next }))
        });
    }

    fn take_in(&mut self, generation: Generation, partition: u32, batch: FeedBatch) {
        let mut changes = Vec::with_capacity(batch.messages.len());
        let mut heartbeats = Vec::new();
        for message in batch.messages {
            match message {
                FeedMessage::Change(change) => changes.push(change),
                FeedMessage::Heartbeat(heartbeat) => heartbeats.push(heartbeat),
                FeedMessage::Bad(reason) => {
                    self.shared.metrics.bad_record.increment(1);
                    warn!(partition, reason, "a record of the feed is not what a loader writes");
                }
            }
        }
        if let Some(session) = self.session(generation)
            && let Some(position) = usize::try_from(partition).ok().and_then(|index| session.positions.get_mut(index))
        {
            *position = batch.next;
        }
        // All changes before all heartbeats: a heartbeat speaks of what stands before it, and more is not less.
        self.apply(generation, &changes, Source::Feed);
        for heartbeat in heartbeats {
            self.beat(generation, partition, &heartbeat);
        }
    }

    fn beat(&mut self, generation: Generation, partition: u32, heartbeat: &Heartbeat) {
        let now = self.shared.clock.now();
        let Some(session) = self.session(generation) else { return };
        let epoch = session.epoch();
        if heartbeat.epoch > epoch {
            debug!(store = heartbeat.store, epoch = heartbeat.epoch, "a heartbeat of a newer epoch");
            return self.newer_store(StoreIdentity { epoch: heartbeat.epoch, store: heartbeat.store.clone() });
        }
        if heartbeat.epoch < epoch && hooks::holds(Guard::EpochInEverything) {
            return;
        }
        if heartbeat.store != session.writer.matrix().store() {
            warn!(partition, store = heartbeat.store, "a heartbeat of another store in the same epoch; it does not count");
            return;
        }
        if heartbeat.partitions != session.topic.partitions && hooks::holds(Guard::HeartbeatOfTheseShards) {
            let (theirs, ours) = (heartbeat.partitions, session.topic.partitions);
            debug!(partition, theirs, ours, "a heartbeat for another number of partitions; it does not count");
            return;
        }
        if let Some(newest) = usize::try_from(partition).ok().and_then(|index| session.heartbeats.get_mut(index)) {
            // Of what is yet to come by a loader's clock that is ahead, nobody knows; answers would count as new until then.
            *newest = (*newest).max(Some(heartbeat.at.min(now)));
        }
        self.tell_age(generation);
    }

    /// Tells readers up to when the matrix is whole. While it is hydrated, that is what it was before: what heartbeats promise may
    /// lie in the gap that is being closed.
    pub(super) fn tell_age(&mut self, generation: Generation) {
        let live = self.live.as_mut().filter(|live| live.generation == generation && live.hydration.is_none());
        if let Some(session) = live {
            self.shared.set_heartbeat(session.whole_until());
        }
    }
}

fn position_of(positions: &[u64], partition: u32) -> Option<u64> {
    positions.get(usize::try_from(partition).ok()?).copied()
}
