//! Publishing what was committed: from the handlers to the feed, by one task.
//!
//! Only states that an append reported committed, or that a strong read returned, get here. Whatever is lost on the way (a
//! full queue, an error, the end of the process) still has its hint, and the sweeper publishes it. Where the store feeds
//! itself all of this rests. Where others are told of events, hints go on to the announcer, which erases them.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use tessera_core::stream::StreamId;
use tessera_ports::change_feed::Change;
use tessera_ports::hint_store::Hint;
use tessera_ports::hooks;
use tessera_ports::{ChangePublisher, HintStore};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::announcer::{Announcements, Span, first_of};
use crate::metric_definitions as metrics;

/// Most changes given to the feed at a time.
const BATCH_MAX: usize = 512;
/// Hints erased at a time.
const ERASURES_AT_ONCE: usize = 64;
/// Most bytes of changes, and of events beside them, that wait to be published: a state may have 900 KiB, and a queue that is
/// long enough for small ones would hold gigabytes of them.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A change, and the hints that it makes needless once it is published.
#[derive(Debug)]
struct Item {
    change: Change,
    hints: Vec<Hint>,
    /// The newest events of the stream as they are stored, up to the change's seq; as many as were at hand.
    cells: Vec<Bytes>,
    /// Of the bytes that may wait; `None` where it had to be refused.
    _room: Option<OwnedSemaphorePermit>,
}

/// Where handlers leave what they committed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: Option<Queue>,
    announcements: Option<Announcements>,
}

#[derive(Debug, Clone)]
struct Queue {
    items: mpsc::Sender<Item>,
    /// Bytes that there is room for.
    bytes: Arc<Semaphore>,
}

/// The task that publishes.
#[derive(Debug)]
pub struct Publisher {
    queue: mpsc::Receiver<Item>,
    feed: Arc<dyn ChangePublisher>,
    hints: Arc<dyn HintStore>,
    announcements: Option<Announcements>,
}

impl Outgoing {
    /// For a store that feeds itself: nothing goes anywhere.
    pub fn resting() -> Self {
        Self { queue: None, announcements: None }
    }

    /// Leaves a change to be published, with those events before it that are at hand. Never waits: when the queue is full, by
    /// number or by bytes, the hints that remain lead the sweeper to it.
    pub fn offer(&self, change: Change, hints: Vec<Hint>, cells: &[Bytes]) {
        let Some(queue) = &self.queue else { return };
        let cells = if self.announcements.is_some() { cells.to_vec() } else { Vec::new() };
        let bytes = cells.iter().map(Bytes::len).fold(change.state.len(), usize::saturating_add);
        let room = Arc::clone(&queue.bytes).try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).ok();
        let fits = room.is_some();
        let item = Item { change, hints, cells, _room: room };
        let refused = if fits { queue.items.try_send(item).err().map(TrySendError::into_inner) } else { Some(item) };
        if let Some(item) = refused {
            metrics::changes_left_to_sweeper(1);
            left(self.announcements.as_ref(), [&item]);
        }
    }
}

/// These are left to the sweeper, and so are their events.
fn left<'a>(announcements: Option<&Announcements>, items: impl IntoIterator<Item = &'a Item>) {
    if let Some(announcements) = announcements {
        items.into_iter().for_each(|item| announcements.left(&item.change.stream, &item.hints));
    }
}

/// Erases hints that are needless now, several at a time: an import leaves thousands a second.
pub(crate) async fn erase(store: &dyn HintStore, needless: &[Hint]) {
    let erasures = futures::stream::iter(needless).for_each_concurrent(ERASURES_AT_ONCE, |hint| async move {
        if let Err(error) = store.erase(hint).await {
            tracing::debug!(%error, "a hint was not erased, the sweeper will try again");
        }
        hooks::fail_point("loader.hint.erased");
    });
    erasures.await;
}

impl Publisher {
    /// A publisher and the way to it; at most `queue_max` changes wait, and [`QUEUE_BYTES_MAX`] bytes. Without announcements
    /// nobody is told of events.
    pub fn new(
        feed: Arc<dyn ChangePublisher>,
        hints: Arc<dyn HintStore>,
        announcements: Option<Announcements>,
        queue_max: usize,
    ) -> (Outgoing, Self) {
        let (sender, receiver) = mpsc::channel(queue_max);
        let queue = Queue { items: sender, bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) };
        let outgoing = Outgoing { queue: Some(queue), announcements: announcements.clone() };
        (outgoing, Self { queue: receiver, feed, hints, announcements })
    }

    /// Publishes until nobody leaves changes any more: what waits when that is `over`, it still publishes.
    pub async fn run(mut self, over: impl Future<Output = ()>) {
        let (mut items, mut over) = (Vec::new(), pin!(over));
        loop {
            tokio::select! {
                biased;
                count = self.queue.recv_many(&mut items, BATCH_MAX) => match count {
                    0 => return,
                    _ => self.publish(std::mem::take(&mut items)).await,
                },
                () = &mut over, if !self.queue.is_closed() => self.queue.close(),
            }
        }
    }

    async fn publish(&self, items: Vec<Item>) {
        // Ordered, so that a simulated run repeats itself.
        let mut newest: BTreeMap<&StreamId, &Change> = BTreeMap::new();
        for Item { change, .. } in &items {
            let known = newest.entry(&change.stream).or_insert(change);
            if (known.epoch, known.seq) < (change.epoch, change.seq) {
                *known = change;
            }
        }
        let changes: Vec<Change> = newest.into_values().cloned().collect();
        hooks::fail_point("loader.publish.before");
        if let Err(error) = self.feed.publish(&changes).await {
            tracing::warn!(count = changes.len(), %error, "changes were not published, the sweeper will try again");
            metrics::changes_left_to_sweeper(changes.len());
            left(self.announcements.as_ref(), &items);
            return;
        }
        metrics::changes_published(changes.len());
        hooks::fail_point("loader.published");
        let needless: Vec<Hint> = items.into_iter().flat_map(|item| self.announced(item)).collect();
        erase(&*self.hints, &needless).await;
    }

    /// Leaves the events behind a published change to be told; those of its hints that are needless now.
    fn announced(&self, item: Item) -> Vec<Hint> {
        let Item { change: Change { epoch, stream, seq, .. }, hints, cells, .. } = item;
        match (&self.announcements, first_of(&hints)) {
            (Some(announcements), Some(after)) => announcements.offer(stream, Span { epoch, after, through: seq, cells, hints }),
            _ => hints,
        }
    }
}
