//! Connections that wait to be read on a thread: one is called at a time, and the time in which each of them has a turn is a round.
//! Whoever asks little passes them, a little at a time; if that is not enough, it is called before those who have had their part of
//! the round (RFC 970 has packets sent in rounds, RFC 8290 those of new flows first).

use std::collections::VecDeque;
use std::task::Waker;

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Those who have not had their part of the round, in the order of their places.
    first: VecDeque<Waiting>,
    /// The others.
    later: VecDeque<Waiting>,
    /// The place of whoever was called and has not had its turn.
    called: Option<u64>,
    round: u64,
    /// Places that were given out.
    given: u64,
}

/// One who waits.
#[derive(Debug)]
struct Waiting {
    place: u64,
    /// Of the turn that it waits for, at least.
    round: u64,
    waker: Waker,
}

/// What a connection has of the line.
#[derive(Debug, Default)]
pub(super) struct Stand {
    /// It had turns in this round, and so many calls in those.
    round: u64,
    had: usize,
    place: Place,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Out,
    In(u64),
    /// It was called, and has its turn.
    InTurn,
}

/// Whether a connection's turn begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Without standing in the line.
    Free,
    /// It was called.
    Called,
    /// It has to stand in the line, or does.
    Waits,
}

impl Stand {
    /// It neither waits nor has a turn that it was called for.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.place, Place::Out)
    }

    /// It has so many calls of its part.
    pub(super) fn takes(&mut self, calls: usize) {
        self.had = self.had.saturating_add(calls);
    }

    /// So many of them did not come.
    pub(super) fn gives_back(&mut self, calls: usize) {
        self.had = self.had.saturating_sub(calls);
    }
}

impl Line {
    /// Whether it is the turn of a connection that may have `part` calls in a round.
    pub(super) fn pass(&self, stand: &mut Stand, part: usize) -> Pass {
        match stand.place {
            Place::In(place) if self.called == Some(place) => Pass::Called,
            Place::In(_) | Place::InTurn => Pass::Waits,
            Place::Out => {
                self.count_anew(stand);
                if stand.had < part { Pass::Free } else { Pass::Waits }
            }
        }
    }

    /// Whoever was called has its turn: what is left of its `part`.
    pub(super) fn begin(&self, stand: &mut Stand, part: usize) -> usize {
        self.count_anew(stand);
        stand.place = Place::InTurn;
        // Of those who had all of it the next round is counted, which is there.
        part.saturating_sub(stand.had)
    }

    fn count_anew(&self, stand: &mut Stand) {
        if stand.round < self.round {
            (stand.round, stand.had) = (self.round, 0);
        }
    }

    /// Has a connection that may have `part` calls in a round wait for its next turn; `waker` is woken when it is called.
    pub(super) fn wait(&mut self, stand: &mut Stand, part: usize, waker: &Waker) {
        if let Place::In(place) = stand.place {
            if let Some(waiting) = self.waiting(place) {
                waiting.waker.clone_from(waker);
            }
            return;
        }
        self.leave(stand);
        self.count_anew(stand);
        self.given += 1;
        stand.place = Place::In(self.given);
        let (line, round) = if stand.had < part { (&mut self.first, 0) } else { (&mut self.later, stand.round + 1) };
        line.push_back(Waiting { place: self.given, round, waker: waker.clone() });
    }

    /// A connection has had its turn, if it was called for one.
    pub(super) fn end(&mut self, stand: &mut Stand) {
        if let Place::InTurn = stand.place {
            self.leave(stand);
        }
    }

    /// A connection neither waits any longer nor has its turn.
    pub(super) fn leave(&mut self, stand: &mut Stand) {
        match std::mem::take(&mut stand.place) {
            Place::Out => {}
            Place::InTurn => self.called = None,
            Place::In(place) => {
                for line in [&mut self.first, &mut self.later] {
                    if let Some(position) = position(line, place) {
                        line.remove(position);
                    }
                }
                self.called.take_if(|called| *called == place);
            }
        }
    }

    /// Calls the next one, if nobody is called, and says whom to wake. To be asked after each [`Self::wait`], [`Self::end`] and
    /// [`Self::leave`].
    pub(super) fn call(&mut self) -> Option<Waker> {
        if self.called.is_some() {
            return None;
        }
        let Waiting { place, round, waker } = self.first.pop_front().or_else(|| self.later.pop_front())?;
        self.called = Some(place);
        self.round = self.round.max(round);
        Some(waker)
    }

    fn waiting(&mut self, place: u64) -> Option<&mut Waiting> {
        [&mut self.first, &mut self.later]
            .into_iter()
            .find_map(|line| position(line, place).and_then(|position| line.get_mut(position)))
    }
}

fn position(line: &VecDeque<Waiting>, place: u64) -> Option<usize> {
    line.binary_search_by_key(&place, |waiting| waiting.place).ok()
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

    fn call(line: &mut Line) {
        if let Some(waker) = line.call() {
            waker.wake();
        }
    }

    const PART: usize = 10;

    /// Waits, and is called if nobody else is.
    fn wait(line: &mut Line, stand: &mut Stand) {
        line.wait(stand, PART, Waker::noop());
        call(line);
    }

    /// A turn of all that there is.
    fn turn(line: &Line, stand: &mut Stand) -> usize {
        let calls = line.begin(stand, PART);
        stand.takes(calls);
        calls
    }

    #[test]
    fn whoever_asks_little_passes_those_who_wait() {
        let mut line = Line::default();
        let [mut much, mut more, mut little] = <[Stand; 3]>::default();
        for stand in [&mut much, &mut more] {
            assert_eq!(line.pass(stand, PART), Pass::Free);
            stand.takes(PART);
        }
        for stand in [&mut much, &mut more] {
            wait(&mut line, stand);
        }
        for _ in 0..10 {
            // One is called, the other waits; who stands nowhere has its part of each round all the same.
            assert_eq!((line.pass(&mut much, PART), line.pass(&mut more, PART)), (Pass::Called, Pass::Waits));
            for _ in 0..PART {
                assert_eq!(line.pass(&mut little, PART), Pass::Free);
                little.takes(1);
            }
            assert_eq!(line.pass(&mut little, PART), Pass::Waits);
            assert_eq!(turn(&line, &mut much), PART);
            wait(&mut line, &mut much);
            assert_eq!((line.pass(&mut much, PART), line.pass(&mut more, PART)), (Pass::Waits, Pass::Called));
            assert_eq!(line.pass(&mut little, PART), Pass::Waits, "it is the same round");
            assert_eq!(turn(&line, &mut more), PART);
            wait(&mut line, &mut more);
        }
    }

    #[test]
    fn who_has_not_had_its_part_is_called_before_those_who_have() {
        let mut line = Line::default();
        let [mut much, mut more, mut some] = <[Stand; 3]>::default();
        for stand in [&mut much, &mut more] {
            wait(&mut line, stand);
        }
        for stand in [&mut much, &mut more] {
            turn(&line, stand);
            wait(&mut line, stand);
        }
        assert_eq!((line.pass(&mut much, PART), line.pass(&mut more, PART)), (Pass::Called, Pass::Waits));
        assert_eq!(line.pass(&mut some, PART), Pass::Free);
        some.takes(3);
        some.gives_back(1);
        wait(&mut line, &mut some);
        turn(&line, &mut much);
        wait(&mut line, &mut much);
        assert_eq!((line.pass(&mut some, PART), line.pass(&mut more, PART)), (Pass::Called, Pass::Waits));
        assert_eq!(turn(&line, &mut some), PART - 2);
        wait(&mut line, &mut some);
        assert_eq!((line.pass(&mut some, PART), line.pass(&mut more, PART)), (Pass::Waits, Pass::Called), "it had its part");
    }

    #[test]
    fn who_is_called_and_has_nothing_to_read_holds_nobody_up() {
        let mut line = Line::default();
        let [mut first, mut second] = <[Stand; 2]>::default();
        for stand in [&mut first, &mut second] {
            wait(&mut line, stand);
        }
        for stand in [&mut first, &mut second] {
            line.end(stand);
            assert!(line.call().is_none(), "neither has begun");
        }
        line.leave(&mut first);
        call(&mut line);
        assert_eq!(line.pass(&mut second, PART), Pass::Called);
    }

    proptest! {
        /// Connections come, have their turns or let them go by, come again and end: one is called at a time, in order those who
        /// have not had their part and then the others, each is woken once for each time that it is called, and none is forgotten.
        #[test]
        fn all_are_called_one_at_a_time(steps in prop::collection::vec((0..6_usize, 0..4_u8), 1..200)) {
            let mut line = Line::default();
            let mut all: Vec<(Stand, Arc<Woken>)> = (0..6).map(|_| Default::default()).collect();
            let mut calls = [0; 6];
            let mut order = [VecDeque::new(), VecDeque::new()];
            for (number, step) in steps {
                let (stand, woken) = &mut all[number];
                match step {
                    0 => if let Place::Out | Place::InTurn = stand.place {
                        line.wait(stand, PART, &Waker::from(Arc::clone(woken)));
                        order[usize::from(stand.had >= PART)].push_back(number);
                    },
                    1 => match line.pass(stand, PART) {
                        Pass::Free => stand.takes(PART / 3),
                        Pass::Called => {
                            let left = line.begin(stand, PART);
                            prop_assert!(left > 0, "it was called for nothing");
                            stand.takes(left);
                        }
                        Pass::Waits => {}
                    },
                    2 => line.end(stand),
                    _ => {
                        line.leave(stand);
                        for line in &mut order {
                            line.retain(|waiting| *waiting != number);
                        }
                    }
                }
                let before = line.called;
                call(&mut line);
                if line.called != before && line.called.is_some() {
                    let [first, later] = &mut order;
                    let called = first.pop_front().or_else(|| later.pop_front()).unwrap();
                    prop_assert_eq!(line.pass(&mut all[called].0, PART), Pass::Called, "in order");
                    calls[called] += 1;
                }
                let called = all.iter().filter(|(stand, _)| match stand.place {
                    Place::Out => false,
                    Place::InTurn => true,
                    Place::In(place) => line.called == Some(place),
                });
                prop_assert!(called.count() == usize::from(line.called.is_some()));
                prop_assert!(line.called.is_some() || (line.first.is_empty() && line.later.is_empty()), "somebody waits, and nobody is called");
            }
            for ((_, woken), calls) in all.iter().zip(calls) {
                prop_assert_eq!(woken.0.load(Ordering::Relaxed), calls);
            }
        }
    }
}
