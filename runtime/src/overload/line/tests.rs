//! Connections that stand in the line, one step at a time: who is called, who gives way, and that nobody is forgotten.

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
