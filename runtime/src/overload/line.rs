//! Connections that wait to be read on a thread: one is called at a time, and the time in which each of them has a turn is a round.
//! Whoever asks little goes before whoever has something left of its part of the round, and these before those who have had theirs
//! (RFC 970 has packets sent in rounds, RFC 8290 those of new flows first).
//!
//! A turn costs time beside its calls, so that whoever is called for each call as it comes needs most of the time for few of them. So
//! for each turn of who has had its part the others have one, with all that has come meanwhile.
//!
//! Who asks little is seen only when the thread looks at its sockets, for which whoever is called waits; and whoever is called gives
//! way to those who go before it and were seen then.

use std::collections::VecDeque;
use std::task::Waker;

/// After turns with room for so many calls the thread looks at its sockets again.
const UNSEEN_MAX: usize = 8;

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Of each rank, in the order of their places.
    ranks: [VecDeque<Waiting>; 3],
    /// Those who have something left of their part and had a turn since `cycle` began, with the last turn of one who had not.
    again: VecDeque<Waiting>,
    cycle: u64,
    /// Whoever was called, until its turn is over.
    called: Option<Waiting>,
    round: u64,
    /// Places that were given out.
    given: u64,
    /// Calls that turns had room for since the thread has looked at its sockets.
    unseen: usize,
}

/// Who goes before whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It has a few calls.
    AsksLittle,
    /// Some of its part is left.
    HasPart,
    /// It has had its part of the round.
    HadPart,
}

/// One who waits.
#[derive(Debug)]
struct Waiting {
    place: u64,
    rank: Rank,
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
    /// Cycles when it had its last turn, that one included.
    cycles: u64,
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

/// Whether the turn of a connection begins that stands in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// As whoever has this rank.
    Begins(Rank),
    /// When the thread has looked at its sockets.
    AfterOthers,
    /// When it is called.
    Waits,
}

impl Stand {
    /// It neither waits nor has a turn that it was called for.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.place, Place::Out)
    }

    /// Of what it had in this round so many calls did not come.
    pub(super) fn gives_back(&mut self, calls: usize) {
        self.had = self.had.saturating_sub(calls);
    }

    fn count_anew(&mut self, round: u64) {
        if self.round < round {
            (self.round, self.had) = (round, 0);
        }
    }
}

impl Line {
    /// A connection has a turn of so many calls.
    pub(super) fn takes(&mut self, stand: &mut Stand, calls: usize) {
        stand.count_anew(self.round);
        stand.had = stand.had.saturating_add(calls);
        self.unseen = self.unseen.saturating_add(calls);
    }

    /// What is left of its `part` of the round.
    pub(super) fn rest(&self, stand: &mut Stand, part: usize) -> usize {
        stand.count_anew(self.round);
        part.saturating_sub(stand.had)
    }

    /// Whether the turn of a connection begins that stands in the line; `has_looked` if the thread has since that was asked last. It may
    /// have given way to another, so that [`Self::call`] is to be asked after this, too.
    pub(super) fn turn(&mut self, stand: &mut Stand, has_looked: bool) -> Turn {
        let Some(called) = self.called.take_if(|called| matches!(stand.place, Place::In(place) if place == called.place)) else {
            return Turn::Waits;
        };
        let rank = called.rank;
        if has_looked {
            self.unseen = 0;
        }
        if self.first().is_some_and(|first| first < rank) {
            self.rank(rank).push_front(called);
            return Turn::Waits;
        }
        let begins = self.unseen <= UNSEEN_MAX;
        if begins {
            self.round = self.round.max(called.round);
            stand.place = Place::InTurn;
            stand.cycles = self.cycle + 1;
            if rank == Rank::HadPart {
                self.begin_cycle();
            }
        }
        self.called = Some(called);
        if begins { Turn::Begins(rank) } else { Turn::AfterOthers }
    }

    /// Has a connection that may have `part` calls in a round wait for its next turn; `waker` is woken when it is called.
    pub(super) fn wait(&mut self, stand: &mut Stand, part: usize, asks_little: bool, waker: &Waker) {
        if let Place::In(place) = stand.place {
            if let Some(waiting) = self.waiting(place) {
                waiting.waker.clone_from(waker);
            }
            return;
        }
        self.leave(stand);
        let rank = match self.rest(stand, part) {
            0 => Rank::HadPart,
            _ if asks_little => Rank::AsksLittle,
            _ => Rank::HasPart,
        };
        self.given += 1;
        stand.place = Place::In(self.given);
        let round = if rank == Rank::HadPart { stand.round + 1 } else { 0 };
        let waiting = Waiting { place: self.given, rank, round, waker: waker.clone() };
        let has_to = rank != Rank::HadPart && stand.cycles > self.cycle;
        if has_to { &mut self.again } else { self.rank(rank) }.push_back(waiting);
    }

    /// Whoever had a turn may have one again. The others have had theirs by now, so places stay in order.
    fn begin_cycle(&mut self) {
        self.cycle += 1;
        for waiting in std::mem::take(&mut self.again) {
            self.rank(waiting.rank).push_back(waiting);
        }
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
                for rank in self.ranks.iter_mut().chain([&mut self.again]) {
                    if let Some(position) = position(rank, place) {
                        rank.remove(position);
                    }
                }
                self.called.take_if(|called| called.place == place);
            }
        }
    }

    /// Calls the next one, if nobody is called, and says whom to wake. To be asked after each [`Self::turn`], [`Self::wait`],
    /// [`Self::end`] and [`Self::leave`].
    pub(super) fn call(&mut self) -> Option<Waker> {
        if self.called.is_some() {
            return None;
        }
        if self.first().is_none() {
            self.begin_cycle();
        }
        let rank = self.first()?;
        self.called = self.rank(rank).pop_front();
        self.called.as_ref().map(|called| called.waker.clone())
    }

    /// The rank of who is called next.
    fn first(&self) -> Option<Rank> {
        let ranks = [Rank::AsksLittle, Rank::HasPart, Rank::HadPart];
        ranks.into_iter().zip(&self.ranks).find(|(_, waiting)| !waiting.is_empty()).map(|(rank, _)| rank)
    }

    fn rank(&mut self, rank: Rank) -> &mut VecDeque<Waiting> {
        let [little, has, had] = &mut self.ranks;
        match rank {
            Rank::AsksLittle => little,
            Rank::HasPart => has,
            Rank::HadPart => had,
        }
    }

    fn waiting(&mut self, place: u64) -> Option<&mut Waiting> {
        let called = self.called.as_mut().filter(|called| called.place == place);
        let mut ranks = self.ranks.iter_mut().chain([&mut self.again]);
        called.or_else(|| ranks.find_map(|rank| position(rank, place).and_then(|position| rank.get_mut(position))))
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

    /// Waits with more than a few calls, and is called if nobody else is.
    fn wait(line: &mut Line, stand: &mut Stand) {
        line.wait(stand, PART, false, Waker::noop());
        call(line);
    }

    /// Asks for its turn, when the thread has looked at its sockets if that is needed; and has all of it.
    fn turn(line: &mut Line, stand: &mut Stand) -> Turn {
        let mut turn = line.turn(stand, false);
        if turn == Turn::AfterOthers {
            turn = line.turn(stand, true);
        }
        if let Turn::Begins(rank) = turn {
            let calls = if rank == Rank::HadPart { PART } else { line.rest(stand, PART) };
            line.takes(stand, calls);
        }
        call(line);
        turn
    }

    #[test]
    fn whoever_asks_little_goes_before_those_who_ask_for_more() {
        let mut line = Line::default();
        let [mut much, mut more, mut little] = <[Stand; 3]>::default();
        for stand in [&mut much, &mut more] {
            wait(&mut line, stand);
        }
        for stand in [&mut much, &mut more] {
            assert_eq!(turn(&mut line, stand), Turn::Begins(Rank::HasPart), "in order");
            wait(&mut line, stand);
        }
        for _ in 0..3 {
            for is_much in [true, false] {
                let (next, other) = if is_much { (&mut much, &mut more) } else { (&mut more, &mut much) };
                // It was called, and the thread looks; there is somebody.
                assert_eq!((line.turn(next, false), line.turn(other, false)), (Turn::AfterOthers, Turn::Waits));
                line.wait(&mut little, PART, true, Waker::noop());
                assert_eq!(line.turn(next, true), Turn::Waits, "it gives way");
                call(&mut line);
                assert_eq!(line.turn(&mut little, false), Turn::Begins(Rank::AsksLittle), "others were seen");
                line.takes(&mut little, 2);
                line.end(&mut little);
                call(&mut line);
                // It has kept its place.
                assert_eq!(turn(&mut line, other), Turn::Waits);
                assert_eq!(turn(&mut line, next), Turn::Begins(Rank::HadPart));
                wait(&mut line, next);
            }
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
            turn(&mut line, stand);
            wait(&mut line, stand);
        }
        wait(&mut line, &mut some);
        assert_eq!((turn(&mut line, &mut much), turn(&mut line, &mut more)), (Turn::Waits, Turn::Waits));
        assert_eq!(turn(&mut line, &mut some), Turn::Begins(Rank::HasPart));
        // What did not come of its part is left of it, for after a turn of another.
        some.gives_back(1);
        wait(&mut line, &mut some);
        assert_eq!(turn(&mut line, &mut much), Turn::Begins(Rank::HadPart));
        wait(&mut line, &mut much);
        assert_eq!(turn(&mut line, &mut more), Turn::Waits);
        assert_eq!(turn(&mut line, &mut some), Turn::Begins(Rank::HasPart));
        wait(&mut line, &mut some);
        for stand in [&mut more, &mut much, &mut some] {
            assert_eq!(turn(&mut line, stand), Turn::Begins(Rank::HadPart), "all had their parts");
            wait(&mut line, stand);
        }
    }

    #[test]
    fn for_each_turn_of_who_has_had_its_part_others_have_one() {
        let mut line = Line::default();
        let [mut much, mut some, mut other] = <[Stand; 3]>::default();
        for _ in 0..2 {
            wait(&mut line, &mut much);
            turn(&mut line, &mut much);
        }
        wait(&mut line, &mut much);
        for _ in 0..3 {
            // What comes while it has its turn is read once, and what comes then waits with the others.
            for stand in [&mut some, &mut other] {
                line.wait(stand, PART, true, Waker::noop());
            }
            assert_eq!(line.turn(&mut much, true), Turn::Waits, "it gives way");
            for stand in [&mut some, &mut other] {
                call(&mut line);
                assert_eq!(line.turn(stand, true), Turn::Begins(Rank::AsksLittle));
                line.takes(stand, 1);
                line.wait(stand, PART, true, Waker::noop());
            }
            call(&mut line);
            assert_eq!((line.turn(&mut some, true), line.turn(&mut other, true)), (Turn::Waits, Turn::Waits));
            assert_eq!(turn(&mut line, &mut much), Turn::Begins(Rank::HadPart));
            wait(&mut line, &mut much);
            for stand in [&mut some, &mut other] {
                assert_eq!(line.turn(stand, true), Turn::Begins(Rank::AsksLittle));
                line.end(stand);
                call(&mut line);
            }
            assert_eq!(turn(&mut line, &mut much), Turn::Begins(Rank::HadPart));
            wait(&mut line, &mut much);
        }
        // Where nobody waits who has had its part there is nothing to wait for.
        line.leave(&mut much);
        for _ in 0..3 {
            line.wait(&mut some, PART, true, Waker::noop());
            call(&mut line);
            assert_eq!(line.turn(&mut some, true), Turn::Begins(Rank::AsksLittle));
        }
    }

    #[test]
    fn the_thread_looks_at_its_sockets_after_so_many_calls() {
        let mut line = Line::default();
        let mut stands = <[Stand; 2 * (UNSEEN_MAX + 1) + 1]>::default();
        for stand in &mut stands {
            line.wait(stand, PART, true, Waker::noop());
        }
        for (number, stand) in stands.iter_mut().enumerate() {
            call(&mut line);
            let expected =
                if number > 0 && number % (UNSEEN_MAX + 1) == 0 { Turn::AfterOthers } else { Turn::Begins(Rank::AsksLittle) };
            assert_eq!(line.turn(stand, false), expected, "{number}");
            if expected == Turn::AfterOthers {
                assert_eq!(line.turn(stand, true), Turn::Begins(Rank::AsksLittle));
            }
            line.takes(stand, 1);
            line.end(stand);
        }
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
        assert_eq!(turn(&mut line, &mut second), Turn::Begins(Rank::HasPart));
    }

    proptest! {
        /// Connections come, have their turns or let them go by, come again and end: one is called at a time; of those who have had no
        /// turn in the cycle nobody begins before one of a better rank, and those of a rank begin in order; each is woken once for each
        /// time that it is called, and none is forgotten.
        #[test]
        fn all_are_called_one_at_a_time(steps in prop::collection::vec((0..6_usize, 0..5_u8), 1..200)) {
            let mut line = Line::default();
            let mut all: Vec<(Stand, Arc<Woken>)> = (0..6).map(|_| Default::default()).collect();
            let mut called = [0; 6];
            // Who waits, called or not, as it came; and who has had a turn in the cycle.
            let mut waiting: Vec<Waits> = Vec::new();
            let mut had_turn = [false; 6];
            for (number, step) in steps {
                let (stand, woken) = &mut all[number];
                match step {
                    0 | 1 => if let Place::Out | Place::InTurn = stand.place {
                        line.wait(stand, PART, step == 0, &Waker::from(Arc::clone(woken)));
                        let rank = match stand.had {
                            PART.. => Rank::HadPart,
                            _ if step == 0 => Rank::AsksLittle,
                            _ => Rank::HasPart,
                        };
                        waiting.push(Waits { number, rank, again: rank != Rank::HadPart && had_turn[number] });
                    },
                    2 => {
                        if line.turn(stand, false) == Turn::AfterOthers {
                            line.turn(stand, true);
                        }
                        if let Place::InTurn = stand.place && let Some(position) = waiting.iter().position(|of| of.number == number) {
                            let Waits { rank, again, .. } = waiting.remove(position);
                            prop_assert!(!again, "it had a turn");
                            let mut others = waiting.iter().enumerate().filter(|(_, other)| !other.again);
                            prop_assert!(others.all(|(at, other)| other.rank > rank || (other.rank == rank && at >= position)), "{waiting:?}");
                            had_turn[number] = true;
                            let calls = if rank == Rank::HadPart { PART } else { line.rest(stand, PART) };
                            prop_assert!(calls > 0, "it was called for nothing");
                            line.takes(stand, calls.min(PART / 3));
                            if rank == Rank::HadPart {
                                had_turn = [false; 6];
                                waiting = call_again(waiting);
                            }
                        }
                    }
                    3 => line.end(stand),
                    _ => {
                        line.leave(stand);
                        waiting.retain(|of| of.number != number);
                    }
                }
                if line.called.is_none() && waiting.iter().all(|of| of.again) {
                    had_turn = [false; 6];
                    waiting = call_again(waiting);
                }
                let before = line.called.as_ref().map(|called| called.place);
                call(&mut line);
                let now = line.called.as_ref().map(|called| called.place);
                for (number, (stand, _)) in all.iter().enumerate() {
                    if let Place::In(place) = stand.place && now == Some(place) && now != before {
                        called[number] += 1;
                    }
                }
                let standing = all.iter().filter(|(stand, _)| !stand.is_out()).count();
                let in_line: usize = line.ranks.iter().chain([&line.again]).map(VecDeque::len).sum();
                prop_assert_eq!(standing, in_line + usize::from(line.called.is_some()));
                prop_assert!(line.called.is_some() || standing == 0, "somebody waits, and nobody is called");
                for line in line.ranks.iter().chain([&line.again]) {
                    prop_assert!(line.iter().is_sorted_by_key(|waiting| waiting.place));
                }
            }
            for ((_, woken), called) in all.iter().zip(called) {
                prop_assert_eq!(woken.0.load(Ordering::Relaxed), called);
            }
        }
    }

    fn call_again(waiting: Vec<Waits>) -> Vec<Waits> {
        waiting.into_iter().map(|waits| Waits { again: false, ..waits }).collect()
    }

    /// One who waits, as the property above has it.
    #[derive(Debug)]
    struct Waits {
        number: usize,
        rank: Rank,
        again: bool,
    }
}
