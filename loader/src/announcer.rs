//! Telling others of events: everything that happened in a stream whose change is published, from the store's own record of it.
//!
//! Publisher and sweeper leave here which events are to be told and by which hints they know; one task tells them and then erases
//! those hints. Until it has, the hints stand in the store, so that whoever sweeps after a loader that died tells them again:
//! at least once, and whoever listens drops what it has seen. The events of a stream are told in order as far as this process
//! goes, also those that had to wait. Changes wait for none of this, and neither do heartbeats, which speak of changes. A loader that
//! drains tells of what it published last before it is gone, if it can in time.

mod spans;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use tessera_core::stream::{Seq, StreamId};
use tessera_ports::change_feed::FeedError;
use tessera_ports::event_publisher::{PublicEvent, UNKNOWN};
use tessera_ports::event_store::{EventCell, ReadError};
use tessera_ports::hint_store::Hint;
use tessera_ports::hooks::{self, Guard};
use tessera_ports::{EventPublisher, EventStore, HintStore};
use tokio::sync::Notify;

use crate::metric_definitions as metrics;
use crate::publisher::erase;
use crate::stored_event::StoredEvent;
pub use spans::Span;
use spans::Waiting;

/// Streams whose events are told together.
const STREAMS_AT_ONCE: usize = 64;
/// Events of one stream that are told at a time: a stream may have moved far since the oldest of its hints.
const EVENTS_PER_PAGE: usize = 256;
/// Before what failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where events are left to be told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcements(Arc<Shared>);

/// The task that tells them.
#[derive(Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    hints: Arc<dyn HintStore>,
    events: Arc<dyn EventPublisher>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

/// Why events were not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unannounced {
    /// They cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// Nobody takes them.
    #[error("events cannot be published: {0}")]
    Publisher(#[from] FeedError),
}

// === impl Announcements ===

impl Announcements {
    /// Leaves events of a stream whose change is published; never waits. The span's hints stand until its events are told; those
    /// that there is no room for are left to the sweeper. Returned are those that may be erased now.
    pub fn offer(&self, stream: StreamId, mut span: Span) -> Vec<Hint> {
        let stand = hooks::holds(Guard::EventsBeforeHintErased);
        let needless = if stand { Vec::new() } else { std::mem::take(&mut span.hints) };
        let held = self.0.waiting().take_in(stream, span);
        if held.is_some() {
            self.0.wake.notify_one();
        }
        needless
    }

    /// The change that would have led to these events was not published: the next ones of that stream are told after them.
    pub fn left(&self, stream: &StreamId, hints: &[Hint]) {
        if let Some(after) = first_of(hints) {
            self.0.waiting().owe(stream, after);
        }
    }

    /// Whether this hint stands only because its events are still to be told by this process.
    pub fn holds(&self, hint: &Hint) -> bool {
        self.0.waiting().holds(hint)
    }

    /// How many hints it holds.
    pub fn held(&self) -> usize {
        self.0.waiting().held()
    }
}

/// After which seq the events begin that these hints lead to; `None` without hints.
pub(crate) fn first_of(hints: &[Hint]) -> Option<Seq> {
    hints.iter().map(|hint| hint.head).min()
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Announcer ===

/// Events of one stream, and the first of them as they are stored.
struct Page {
    stream: StreamId,
    span: Span,
    cells: Vec<EventCell>,
}

impl Announcer {
    /// An announcer and the way to it; at most `hints_max` hints are held at a time.
    pub fn new(
        store: Arc<dyn EventStore>,
        hints: Arc<dyn HintStore>,
        events: Arc<dyn EventPublisher>,
        hints_max: usize,
    ) -> (Announcements, Self) {
        let shared = Arc::new(Shared { waiting: Mutex::new(Waiting::new(hints_max)), wake: Notify::new() });
        (Announcements(Arc::clone(&shared)), Self { shared, store, hints, events })
    }

    /// Tells events until no more changes are published: what waits when that is `over`, it tells if it can, and hints lead others
    /// to the rest.
    pub async fn run(self, over: impl Future<Output = ()>) {
        let (mut failing, mut over) = (false, pin!(over));
        loop {
            let is_over = tokio::select! {
                biased;
                () = &mut over => true,
                () = self.something_to_tell(failing) => false,
            };
            let told = self.round().await;
            if is_over {
                return;
            }
            // Said once per outage; hints that grow in number tell the rest.
            let failed_before = std::mem::replace(&mut failing, told.is_err());
            if let Err(reason) = told
                && !failed_before
            {
                tracing::warn!(%reason, "events were not told to others; trying again");
            }
        }
    }

    async fn something_to_tell(&self, failing: bool) {
        if failing {
            tokio::time::sleep(RETRY_PAUSE).await;
        } else {
            self.shared.wake.notified().await;
        }
    }

    /// Tells everything that waits now. What cannot be told goes on waiting.
    pub async fn round(&self) -> Result<(), Unannounced> {
        let spans = self.shared.waiting().take_out();
        if spans.is_empty() {
            return Ok(());
        }
        let mut spans = spans.into_iter();
        let identity = match self.store.identity().await {
            Ok(identity) => identity,
            Err(error) => {
                self.put_back(spans);
                return Err(error.into());
            }
        };
        let mut unread = None;
        loop {
            let batch: BTreeMap<StreamId, Span> = spans.by_ref().take(STREAMS_AT_ONCE).collect();
            if batch.is_empty() {
                return unread.map_or(Ok(()), |error| Err(Unannounced::Store(error)));
            }
            // Another life of the store has other events; its own hints lead to them.
            let (batch, past): (BTreeMap<_, _>, BTreeMap<_, _>) =
                batch.into_iter().partition(|(_, span)| span.epoch == identity.epoch);
            for span in past.into_values() {
                self.shared.waiting().release(&span.hints);
            }
            match self.tell(&identity.store, batch).await {
                Ok(()) => {}
                // One stream that cannot be read holds up no other.
                Err(Unannounced::Store(error)) => unread = Some(error),
                Err(error @ Unannounced::Publisher(_)) => {
                    self.put_back(spans);
                    return Err(error);
                }
            }
        }
    }

    /// Tells the events of these streams, page by page.
    async fn tell(&self, store: &str, mut spans: BTreeMap<StreamId, Span>) -> Result<(), Unannounced> {
        let mut unread = None;
        while !spans.is_empty() {
            let reads = futures::stream::iter(std::mem::take(&mut spans)).map(|(stream, span)| async move {
                let cells = self.read(&stream, &span).await;
                (stream, span, cells)
            });
            let reads: Vec<_> = reads.buffered(STREAMS_AT_ONCE).collect().await;
            let mut pages = Vec::new();
            for (stream, span, cells) in reads {
                match cells {
                    Ok(cells) => pages.push(Page { stream, span, cells }),
                    Err(error) => {
                        unread = Some(error);
                        self.put_back([(stream, span)]);
                    }
                }
            }
            if let Err(error) = self.publish(store, &pages).await {
                self.put_back(pages.into_iter().map(|page| (page.stream, page.span)));
                return Err(error.into());
            }
            let mut needless = Vec::new();
            for mut page in pages {
                if page.span.advance(&page.cells) {
                    spans.insert(page.stream, page.span);
                } else {
                    needless.append(&mut page.span.hints);
                }
            }
            self.erase(needless).await;
        }
        unread.map_or(Ok(()), |error| Err(Unannounced::Store(error)))
    }

    async fn publish(&self, store: &str, pages: &[Page]) -> Result<(), FeedError> {
        let events: Vec<PublicEvent> = pages.iter().flat_map(|page| page.events(store)).collect();
        if events.is_empty() {
            return Ok(());
        }
        hooks::fail_point("loader.events.publish.before");
        self.events.publish(&events).await?;
        metrics::events_published(events.len());
        hooks::fail_point("loader.events.published");
        let mut waiting = self.shared.waiting();
        for page in pages {
            if let Some(last) = page.cells.last() {
                waiting.note_told(&page.stream, &page.span, last.seq);
            }
        }
        Ok(())
    }

    /// The first events of a span.
    async fn read(&self, stream: &StreamId, span: &Span) -> Result<Vec<EventCell>, ReadError> {
        let count = usize::try_from(span.len()).unwrap_or(usize::MAX).min(EVENTS_PER_PAGE);
        if let Some(cells) = span.known(count) {
            return Ok(cells);
        }
        let cells = self.store.events(stream, span.after, count).await?;
        if cells.is_empty() {
            let seq = span.after.saturating_add(1);
            return Err(ReadError::Unavailable(format!("event {seq} of `{stream}` is not there yet")));
        }
        Ok(cells)
    }

    async fn erase(&self, needless: Vec<Hint>) {
        erase(&*self.hints, &needless).await;
        self.shared.waiting().release(&needless);
    }

    fn put_back(&self, spans: impl IntoIterator<Item = (StreamId, Span)>) {
        let mut waiting = self.shared.waiting();
        for (stream, span) in spans {
            waiting.put_back(stream, span);
        }
    }
}

impl Page {
    fn events(&self, store: &str) -> impl Iterator<Item = PublicEvent> {
        self.cells.iter().map(move |cell| public_event(store, &self.stream, cell))
    }
}

/// What others are told of a stored event: that it happened and when, and nothing of what it says.
fn public_event(store: &str, stream: &StreamId, cell: &EventCell) -> PublicEvent {
    let read = StoredEvent::read(&cell.cell);
    let kind = read.as_ref().and_then(StoredEvent::name).unwrap_or_else(|| UNKNOWN.to_owned());
    let at = read.as_ref().and_then(StoredEvent::at);
    PublicEvent { store: store.to_owned(), stream: stream.clone(), seq: cell.seq, kind, at }
}
