//! Calls that wait for their turn on a thread, in the order in which they came. A few are called at a time and stand in the queue of
//! the thread's runtime; the others stand here, so that a connection that has something to be read is not behind all of them.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};

/// So many are called at a time, and not begun.
const CALLED_MAX: usize = 8;

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<u64, Waker>,
    /// Places that were given out.
    given: u64,
    /// Who was called and has neither begun nor left.
    called: usize,
}

/// A call's place; it has none before it is asked for the first time, nor if it never had to wait.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<u64>);

impl Line {
    /// Whether the call with that place may begin; if not, `waker` is woken when it may. Who has no place is given one, or may begin
    /// at once where nobody has to wait.
    pub(super) fn poll(&mut self, place: &mut Place, has_to_wait: bool, waker: &Waker) -> Poll<()> {
        match &place.0 {
            None if !has_to_wait && self.waiting.is_empty() => Poll::Ready(()),
            None => {
                place.0 = Some(self.given);
                self.waiting.insert(self.given, waker.clone());
                self.given += 1;
                Poll::Pending
            }
            Some(number) => match self.waiting.get_mut(number) {
                Some(known) => {
                    known.clone_from(waker);
                    Poll::Pending
                }
                None => Poll::Ready(()),
            },
        }
    }

    /// The call with that place begins, or goes.
    pub(super) fn leave(&mut self, place: &Place) {
        if let Some(number) = &place.0
            && self.waiting.remove(number).is_none()
        {
            self.called = self.called.saturating_sub(1);
        }
    }

    /// Calls the next one, if one may be called: it is to be woken. To be asked after each other step here.
    pub(super) fn call(&mut self) -> Option<Waker> {
        if self.called >= CALLED_MAX {
            return None;
        }
        let (_, waker) = self.waiting.pop_first()?;
        self.called += 1;
        Some(waker)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn step(line: &mut Line) {
        if let Some(waker) = line.call() {
            waker.wake();
        }
    }

    #[test]
    fn nobody_waits_where_nobody_has_to() {
        let mut line = Line::default();
        let mut place = Place::default();
        assert_eq!(line.poll(&mut place, false, Waker::noop()), Poll::Ready(()));
        line.leave(&place);
        assert!(line.call().is_none());
        let mut first = Place::default();
        assert_eq!(line.poll(&mut first, true, Waker::noop()), Poll::Pending);
        assert_eq!(line.poll(&mut Place::default(), false, Waker::noop()), Poll::Pending, "not before who waits");
    }

    proptest! {
        /// Calls come, begin when they are called, and some go before: the others are called in order, a few at a time, and none is
        /// forgotten.
        #[test]
        fn all_are_called_in_order(goes in prop::collection::vec(any::<Option<bool>>(), 1..100)) {
            let mut line = Line::default();
            let mut all = Vec::new();
            for goes in goes {
                let (woken, mut place) = (Arc::new(Woken::default()), Place::default());
                prop_assert!(line.poll(&mut place, true, &Waker::from(Arc::clone(&woken))).is_pending());
                step(&mut line);
                all.push((place, woken, goes));
            }
            let called = |woken: &Woken| woken.0.load(Ordering::Relaxed);
            let most = all.len().min(CALLED_MAX);
            prop_assert_eq!(all.iter().map(|(_, woken, _)| called(woken)).sum::<usize>(), most);
            // Some go without a turn: those that wait now, or once they are called.
            let (gone, mut left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, _, goes)| *goes == Some(true));
            for (place, ..) in &gone {
                line.leave(place);
                step(&mut line);
            }
            let mut begun = 0;
            while !left.is_empty() {
                let standing = left.iter().filter(|(_, woken, _)| called(woken) == 1).count();
                prop_assert_eq!(standing, left.len().min(CALLED_MAX), "after {} of them", begun);
                let (mut place, woken, _) = left.remove(0);
                prop_assert_eq!(called(&woken), 1, "the first of them is called");
                prop_assert_eq!(line.poll(&mut place, true, Waker::noop()), Poll::Ready(()));
                line.leave(&place);
                step(&mut line);
                begun += 1;
            }
            prop_assert_eq!(line.called, 0);
            prop_assert!(line.waiting.is_empty());
        }
    }
}
