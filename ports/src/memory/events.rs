//! Events for others in memory: a list of all that were published.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::seed::SplitMix64;
use super::{lock, pause};
use crate::change_feed::FeedError;
use crate::event_publisher::{EventPublisher, PublicEvent};

/// An [`EventPublisher`] in memory; a cheap handle, clones share everything.
#[derive(Debug, Clone, Default)]
pub struct MemoryEvents(Arc<Mutex<Inner>>);

/// Chances of faults, each in a thousand, and the greatest latency. The default is a publisher that never fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventChances {
    /// Of publishing failing with any part of the events published: none, as when it is refused, or all, as when only the answer
    /// is lost.
    pub publish_fails: u32,
    /// Publishing takes up to this on its way there, and as much again on its way back.
    pub delay_max: Duration,
}

impl EventChances {
    /// As a feed fails under [`FeedChances::stormy`](super::FeedChances::stormy), and more often.
    pub fn stormy() -> Self {
        Self { publish_fails: 150, delay_max: Duration::from_millis(5) }
    }
}

#[derive(Debug)]
struct Inner {
    events: Vec<PublicEvent>,
    calls: usize,
    fail: u32,
    arriving: usize,
    chances: EventChances,
    random: SplitMix64,
}

impl Default for Inner {
    fn default() -> Self {
        let (chances, random) = (EventChances::default(), SplitMix64::new(0));
        Self { events: Vec::new(), calls: 0, fail: 0, arriving: 0, chances, random }
    }
}

impl Inner {
    /// How many of `count` events arrive before publishing fails; `None`: it does not fail.
    fn arriving(&mut self, count: usize) -> Option<usize> {
        if self.fail > 0 {
            self.fail -= 1;
            return Some(self.arriving);
        }
        let fails = self.random.chance(self.chances.publish_fails);
        fails.then(|| self.random.index(count.saturating_add(1)))
    }
}

impl MemoryEvents {
    /// Nothing published yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that was published, in order, as often as it was.
    pub fn published(&self) -> Vec<PublicEvent> {
        lock(&self.0).events.clone()
    }

    /// How often something was to be published, failures among them.
    pub fn calls(&self) -> usize {
        lock(&self.0).calls
    }

    /// The next `count` calls fail, each with its first `arriving` events published.
    pub fn fail_publishes(&self, count: u32, arriving: usize) {
        let mut inner = lock(&self.0);
        (inner.fail, inner.arriving) = (count, arriving);
    }

    /// Draws faults from `seed` from now on.
    pub fn seed(&self, seed: u64, chances: EventChances) {
        let mut inner = lock(&self.0);
        (inner.random, inner.chances) = (SplitMix64::new(seed), chances);
    }

    /// No more faults, by chance or told.
    pub fn calm(&self) {
        let mut inner = lock(&self.0);
        (inner.fail, inner.chances) = (0, EventChances::default());
    }

    /// Time that passes on one of the ways.
    async fn delay(&self) {
        let delay = {
            let mut inner = lock(&self.0);
            let longest = inner.chances.delay_max;
            inner.random.duration(longest)
        };
        pause(delay).await;
    }
}

#[async_trait]
impl EventPublisher for MemoryEvents {
    async fn publish(&self, events: &[PublicEvent]) -> Result<(), FeedError> {
        self.delay().await;
        let arriving = {
            let mut inner = lock(&self.0);
            inner.calls = inner.calls.saturating_add(1);
            let arriving = inner.arriving(events.len());
            inner.events.extend(events.iter().take(arriving.unwrap_or(events.len())).cloned());
            arriving
        };
        self.delay().await;
        match arriving {
            Some(_) => Err(FeedError::Unavailable("simulated failure of publishing events".to_owned())),
            None => Ok(()),
        }
    }
}
