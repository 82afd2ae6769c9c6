//! Publishing what was committed: from the handlers to the feed, by one task.
//!
//! Only states that an append reported committed, or that a strong read returned, get here. Whatever is lost on the way (a
//! full queue, an error, the end of the process) still has its hint, and the sweeper publishes it. Where the store feeds
//! itself all of this rests.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_core::stream::StreamId;
use tessera_ports::change_feed::Change;
use tessera_ports::hint_store::Hint;
use tessera_ports::hooks;
use tessera_ports::{ChangePublisher, HintStore};
use tokio::sync::mpsc;

use crate::metric_definitions as metrics;

/// Most changes given to the feed at a time.
const BATCH_MAX: usize = 512;

/// A change, and the hints that it makes needless once it is published.
#[derive(Debug)]
struct Item {
    change: Change,
    hints: Vec<Hint>,
}

/// Where handlers leave what they committed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: Option<mpsc::Sender<Item>>,
}

/// The task that publishes.
#[derive(Debug)]
pub struct Publisher {
    queue: mpsc::Receiver<Item>,
    feed: Arc<dyn ChangePublisher>,
    hints: Arc<dyn HintStore>,
}

impl Outgoing {
    /// For a store that feeds itself: nothing goes anywhere.
    pub fn resting() -> Self {
        Self { queue: None }
    }

    /// Leaves a change to be published. Never waits: when the queue is full, the hints that remain lead the sweeper to it.
    pub fn offer(&self, change: Change, hints: Vec<Hint>) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(Item { change, hints }).is_err() {
            metrics::changes_left_to_sweeper(1);
        }
    }
}

impl Publisher {
    /// A publisher and the way to it; at most `queue_max` changes wait.
    pub fn new(feed: Arc<dyn ChangePublisher>, hints: Arc<dyn HintStore>, queue_max: usize) -> (Outgoing, Self) {
        let (sender, receiver) = mpsc::channel(queue_max);
        (Outgoing { queue: Some(sender) }, Self { queue: receiver, feed, hints })
    }

    /// Publishes until nobody can leave changes any more.
    pub async fn run(mut self) {
        let mut items = Vec::new();
        while self.queue.recv_many(&mut items, BATCH_MAX).await > 0 {
            self.publish(std::mem::take(&mut items)).await;
        }
    }

    async fn publish(&self, items: Vec<Item>) {
        let mut hints = Vec::new();
        // Ordered, so that a simulated run repeats itself.
        let mut newest: BTreeMap<StreamId, Change> = BTreeMap::new();
        for item in items {
            hints.extend(item.hints);
            let stale = newest
                .get(&item.change.stream)
                .is_some_and(|known| (known.epoch, known.seq) >= (item.change.epoch, item.change.seq));
            if !stale {
                newest.insert(item.change.stream.clone(), item.change);
            }
        }
        let changes: Vec<Change> = newest.into_values().collect();
        hooks::fail_point("loader.publish.before");
        if let Err(error) = self.feed.publish(&changes).await {
            tracing::warn!(count = changes.len(), %error, "changes were not published, the sweeper will try again");
            metrics::changes_left_to_sweeper(changes.len());
            return;
        }
        metrics::changes_published(changes.len());
        hooks::fail_point("loader.published");
        for hint in &hints {
            if let Err(error) = self.hints.erase(hint).await {
                tracing::debug!(%error, "a hint was not erased, the sweeper will try again");
            }
        }
    }
}
