//! Readers that wait for a stream to be applied. Nobody waiting costs the writer one load.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_core::stream::StreamKind;
use tokio::sync::Notify;

/// A stream as revisions name it.
type Name = (StreamKind, u64);

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: AtomicUsize,
    by_stream: Mutex<HashMap<Name, Waited>>,
}

/// A stream that is waited for.
#[derive(Debug, Default)]
struct Waited {
    notify: Arc<Notify>,
    /// How many wait for it; never 0 in the map.
    places: usize,
}

/// A place among those who wait for one stream. Take it first, then look whether the stream has arrived, then wait.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiters: &'a Waiters,
    name: Name,
    notify: Arc<Notify>,
}

impl Waiters {
    pub(crate) fn place(&self, kind: StreamKind, hash: u64) -> Place<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut by_stream = self.lock();
        let waited = by_stream.entry((kind, hash)).or_default();
        waited.places = waited.places.saturating_add(1);
        let notify = Arc::clone(&waited.notify);
        // Pairs with the fence in `applied`: either the writer sees this place, or its holder sees what was written.
        fence(Ordering::SeqCst);
        Place { waiters: self, name: (kind, hash), notify }
    }

    /// Wakes who waits for that stream, after it was written. The hash is only made when somebody waits at all.
    pub(crate) fn applied(&self, kind: StreamKind, hash: impl FnOnce() -> u64) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(waited) = self.lock().get(&(kind, hash())) {
            waited.notify.notify_waiters();
        }
    }

    /// Wakes everybody: what they wait for may be elsewhere now.
    pub(crate) fn wake_all(&self) {
        for waited in self.lock().values() {
            waited.notify.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Waited>> {
        self.by_stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Completes at the next news of the stream, counted from the call of this function.
    pub(crate) fn news(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut by_stream = self.waiters.lock();
        if let Some(waited) = by_stream.get_mut(&self.name) {
            waited.places = waited.places.saturating_sub(1);
            if waited.places == 0 {
                by_stream.remove(&self.name);
            }
        }
        self.waiters.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn news_reaches_who_took_a_place_before_and_nobody_else() {
        let waiters = Waiters::default();
        waiters.applied(StreamKind::Plan, || panic!("nobody waits"));
        let (first, other) = (waiters.place(StreamKind::Plan, 1), waiters.place(StreamKind::Plan, 2));
        let (news, no_news) = (first.news(), other.news());
        waiters.applied(StreamKind::Plan, || 1);
        assert!(news.now_or_never().is_some());
        assert!(no_news.now_or_never().is_none());
        assert!(first.news().now_or_never().is_none());
        drop((first, other));
        assert!(waiters.by_stream.lock().unwrap().is_empty());
        assert_eq!(waiters.waiting.load(Ordering::SeqCst), 0);
    }

    /// Places that end at the same time hold on to what wakes them a little longer than their count.
    #[test]
    fn the_last_of_places_that_end_together_takes_the_stream_along() {
        let waiters = Waiters::default();
        let (first, second) = (waiters.place(StreamKind::Plan, 1), waiters.place(StreamKind::Plan, 1));
        let held = Arc::clone(&first.notify);
        drop(first);
        assert!(waiters.by_stream.lock().unwrap().contains_key(&(StreamKind::Plan, 1)));
        drop(second);
        assert!(waiters.by_stream.lock().unwrap().is_empty());
        drop(held);
    }
}
