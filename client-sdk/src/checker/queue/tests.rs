//! Whatever comes, goes and breaks: every check is answered once at most, none is lost, and all bounds hold.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Stands for somebody who waits: which number they have, and whether they still wait.
#[derive(Debug, Clone)]
struct Somebody(usize, Rc<Cell<bool>>);

impl Waiter for Somebody {
    fn is_gone(&self) -> bool {
        self.1.get()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push { explain: bool, ms: u64, before: u32 },
    Leave(usize),
    Frame(usize),
    Answer(usize),
    AnswerFromElsewhere(usize),
    Break { stream: usize, may: Vec<bool> },
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = || 0usize..3;
    let step = prop_oneof![
        6 => (prop::bool::weighted(0.05), 1u64..500, 0..LIMITS.attempts)
            .prop_map(|(explain, ms, before)| Step::Push { explain, ms, before }),
        1 => any::<usize>().prop_map(Step::Leave),
        3 => stream().prop_map(Step::Frame),
        2 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::AnswerFromElsewhere),
        1 => (stream(), prop::collection::vec(any::<bool>(), 4)).prop_map(|(stream, may)| Step::Break { stream, may }),
        1 => (0u64..200).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..300)
}

const LIMITS: Limits = Limits { frame_checks: 5, frames_in_flight: 2, waiting: 12, attempts: 3 };

fn check(number: usize, explain: bool) -> v1::CheckEntitlementRequest {
    v1::CheckEntitlementRequest { tenant_id: number.to_string(), explain, ..Default::default() }
}

proptest! {
    #[test]
    fn every_check_has_one_end_and_all_bounds_hold(steps in steps()) {
        let mut queue: Queue<Somebody> = Queue::new(LIMITS);
        let mut now = Instant::now();
        let (mut people, mut tickets, mut until) = (Vec::new(), Vec::new(), Vec::new());
        let mut ended: Vec<usize> = Vec::new();
        let (mut sent, mut attempts): (Vec<u32>, Vec<Attempts>) = (Vec::new(), Vec::new());
        // Frames on their way: id, stream, the numbers of those who wait, in order, and when each was sent.
        let mut flying: Vec<(u64, usize, Vec<usize>, Instant)> = Vec::new();
        for step in steps {
            match step {
                Step::Push { explain, ms, before } => {
                    let waiting = queue.waiting.len();
                    let somebody = Somebody(people.len(), Rc::new(Cell::new(false)));
                    let deadline = now + Duration::from_millis(ms);
                    let counted = Attempts::default();
                    (0..before).for_each(|_| counted.one_more());
                    match queue.push(check(people.len(), explain), somebody.clone(), deadline, counted.clone()) {
                        Ok(ticket) => {
                            people.push(somebody);
                            tickets.push(ticket);
                            until.push(deadline);
                            sent.push(before);
                            attempts.push(counted);
                        }
                        Err(full) => prop_assert!(full == waiting && waiting >= LIMITS.waiting),
                    }
                }
                Step::Leave(which) if !people.is_empty() => {
                    let which = which % people.len();
                    people[which].1.set(true);
                    queue.forget(tickets[which]);
                    prop_assert!(!queue.waiting.contains_key(&tickets[which]));
                }
                Step::Frame(stream) => {
                    let had_room = queue.has_room(stream);
                    let Some((id, checks)) = queue.next_frame(stream, now) else { continue };
                    let numbers: Vec<usize> = checks.iter().map(|check| check.tenant_id.parse().unwrap()).collect();
                    prop_assert!(had_room && (1..=LIMITS.frame_checks).contains(&numbers.len()));
                    prop_assert!(numbers.is_sorted(), "first come, first sent: {:?}", numbers);
                    for number in &numbers {
                        prop_assert!(!people[*number].is_gone() && until[*number] > now);
                        sent[*number] += 1;
                        prop_assert!(sent[*number] <= LIMITS.attempts);
                    }
                    flying.push((id, stream, numbers, now));
                }
                Step::Answer(which) if !flying.is_empty() => {
                    let (id, stream, numbers, _) = flying.swap_remove(which % flying.len());
                    let waiters = queue.answered(stream, id).unwrap();
                    let answered: Vec<usize> = waiters.iter().map(|somebody| somebody.0).collect();
                    prop_assert_eq!(&answered, &numbers);
                    ended.extend(answered);
                    prop_assert!(queue.answered(stream, id).is_none(), "answered twice");
                }
                Step::AnswerFromElsewhere(which) if !flying.is_empty() => {
                    let (id, stream, ..) = flying[which % flying.len()].clone();
                    prop_assert!(queue.answered(stream + 1, id).is_none() && queue.answered(stream, id + 1_000).is_none());
                }
                Step::Break { stream, may } => {
                    let mut answers = may.into_iter();
                    let given_up = queue.lost(stream, || answers.next().unwrap_or_default());
                    ended.extend(given_up.iter().map(|somebody| somebody.0));
                    flying.retain(|(_, of, ..)| *of != stream);
                }
                Step::Pass(ms) => now += Duration::from_millis(ms),
                Step::Leave(_) | Step::Answer(_) | Step::AnswerFromElsewhere(_) => {}
            }
            for stream in 0..3 {
                prop_assert!(queue.in_flight(stream) <= LIMITS.frames_in_flight);
                // Frames are answered in any order.
                let oldest = flying.iter().filter(|(_, of, ..)| *of == stream).map(|(.., at)| *at).min();
                prop_assert_eq!(queue.oldest_sent(stream), oldest);
            }
            prop_assert!(attempts.iter().map(Attempts::number).eq(sent.iter().copied()));
            // Nobody is forgotten: who still waits is waiting or on the way, or has run out of time.
            let on_the_way = |number: usize| flying.iter().any(|(_, _, numbers, _)| numbers.contains(&number));
            for (number, somebody) in people.iter().enumerate() {
                let ends = ended.iter().filter(|other| **other == number).count();
                prop_assert!(ends <= 1, "{} has {} ends", number, ends);
                let held = queue.waiting.contains_key(&tickets[number]) || on_the_way(number);
                prop_assert!(held || ends == 1 || somebody.is_gone() || until[number] <= now, "{} is lost", number);
                prop_assert!(!(held && ends == 1), "{} is held after its end", number);
            }
        }
    }
}

#[test]
fn a_frame_with_an_explanation_is_short_and_long_checks_make_short_frames() {
    let limits = Limits { frame_checks: 1_000, frames_in_flight: 10, waiting: 10_000, attempts: 3 };
    let mut queue: Queue<Somebody> = Queue::new(limits);
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let somebody = || Somebody(0, Rc::default());
    for number in 0..1_500 {
        queue.push(check(number, number == 50), somebody(), later, Attempts::default()).unwrap();
    }
    let lens: Vec<usize> = std::iter::from_fn(|| queue.next_frame(0, now).map(|(_, checks)| checks.len())).collect();
    assert_eq!(lens, [100, 1_000, 400]);
    for _ in 0..200 {
        let long = v1::CheckEntitlementRequest { tenant_id: "x".repeat(10_000), ..Default::default() };
        queue.push(long, somebody(), later, Attempts::default()).unwrap();
    }
    let (_, checks) = queue.next_frame(0, now).unwrap();
    assert!((45..=55).contains(&checks.len()), "{}", checks.len());
}
