//! Events for others in memory: a list of all that were published.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::change_feed::FeedError;
use crate::event_publisher::{EventPublisher, PublicEvent};

/// An [`EventPublisher`] in memory; a cheap handle, clones share everything.
#[derive(Debug, Clone, Default)]
pub struct MemoryEvents(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    events: Vec<PublicEvent>,
    calls: usize,
    fail: u32,
    arriving: usize,
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
}

#[async_trait]
impl EventPublisher for MemoryEvents {
    async fn publish(&self, events: &[PublicEvent]) -> Result<(), FeedError> {
        let mut inner = lock(&self.0);
        inner.calls = inner.calls.saturating_add(1);
        if inner.fail > 0 {
            inner.fail -= 1;
            let arriving = inner.arriving;
            inner.events.extend(events.iter().take(arriving).cloned());
            return Err(FeedError::Unavailable("simulated failure of publishing events".to_owned()));
        }
        inner.events.extend_from_slice(events);
        Ok(())
    }
}
