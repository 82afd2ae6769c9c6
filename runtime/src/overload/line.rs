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
    /// It has a few calls in the round.
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

    /// What it had of the round.
    pub(super) fn had(&self, stand: &mut Stand) -> usize {
        stand.count_anew(self.round);
        stand.had
    }

    /// What is left of its `part` of the round.
    pub(super) fn rest(&self, stand: &mut Stand, part: usize) -> usize {
        part.saturating_sub(self.had(stand))
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
mod tests;
