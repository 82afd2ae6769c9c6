//! Properties of the choice of endpoints, over any course of requests and outcomes.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Pick { random: u64, avoid: Vec<usize>, taken: Vec<usize> },
    Finish { which: usize, outcome: Outcome, random: u64 },
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Answered),
        2 => Just(Outcome::Refused),
        2 => Just(Outcome::Unanswered),
        1 => Just(Outcome::Abandoned)
    ];
    let some = || prop::collection::vec(0usize..6, 0..3);
    let step = prop_oneof![
        4 => (any::<u64>(), some(), some()).prop_map(|(random, avoid, taken)| Step::Pick { random, avoid, taken }),
        4 => (any::<usize>(), outcome, any::<u64>()).prop_map(|(which, outcome, random)| Step::Finish { which, outcome, random }),
        2 => (0u64..12_000).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn a_pick_is_sound_whatever_happened_before(endpoints in 1usize..6, steps in steps()) {
        let mut selection = Selection::new(endpoints);
        let mut now = Instant::now();
        let mut flying: Vec<(usize, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Pass(ms) => now += Duration::from_millis(ms),
                Step::Pick { random, avoid, taken } => {
                    let before = selection.endpoints.clone();
                    let (picked, is_probe) = selection.pick(now, random, &avoid, &taken);
                    prop_assert!(picked < endpoints);
                    let state = &before[picked];
                    let good = |index: usize, health: &Health| !avoid.contains(&index) && health.aside_until.is_none();
                    let some_good = before.iter().enumerate().any(|(index, health)| good(index, health));
                    // An endpoint that is aside is asked only by its one probe, or when nothing better is left.
                    prop_assert_eq!(is_probe, state.aside_until.is_some());
                    if is_probe && some_good {
                        prop_assert!(state.aside_until.is_some_and(|until| until <= now) && state.probes == 0);
                    } else if some_good {
                        prop_assert!(good(picked, state));
                        let apart = |(index, health): (usize, &Health)| good(index, health) && !taken.contains(&index);
                        prop_assert!(!taken.contains(&picked) || !before.iter().enumerate().any(apart));
                    }
                    // What was asked is not asked again while something else is there.
                    if (0..endpoints).any(|index| !avoid.contains(&index)) {
                        prop_assert!(!avoid.contains(&picked));
                    }
                    flying.push((picked, is_probe));
                }
                Step::Finish { which, outcome, random } => {
                    if flying.is_empty() { continue; }
                    let (index, is_probe) = flying.swap_remove(which % flying.len());
                    let change = selection.finish(index, is_probe, outcome, now, random);
                    let health = &selection.endpoints[index];
                    match outcome {
                        Outcome::Answered => prop_assert!(!is_probe || health.aside_until.is_none()),
                        Outcome::Refused => prop_assert!(health.aside_until.is_some_and(|until| until >= now)),
                        Outcome::Unanswered | Outcome::Abandoned => {}
                    }
                    if let Some(Change::PutAside(time)) = change {
                        prop_assert!(time >= ASIDE_MIN / 2 && time <= ASIDE_MAX);
                    }
                }
            }
            for (index, health) in selection.endpoints.iter().enumerate() {
                let expected = flying.iter().filter(|(picked, _)| *picked == index).count();
                prop_assert_eq!(health.in_flight, expected);
                prop_assert_eq!(health.probes, flying.iter().filter(|(picked, probe)| *picked == index && *probe).count());
            }
        }
    }

    /// Whatever happened: when everything answers again, everything is healthy after a bounded time.
    #[test]
    fn an_endpoint_that_answers_again_returns(failures in 1usize..40, random in any::<u64>()) {
        let mut selection = Selection::new(2);
        let mut now = Instant::now();
        for _ in 0..failures {
            let (picked, is_probe) = selection.pick(now, random, &[1], &[]);
            prop_assert_eq!(picked, 0);
            selection.finish(0, is_probe, Outcome::Refused, now, random);
            now += ASIDE_MAX;
        }
        let (picked, is_probe) = selection.pick(now + ASIDE_MAX, random, &[], &[]);
        prop_assert_eq!((picked, is_probe), (0, true));
        prop_assert_eq!(selection.pick(now + ASIDE_MAX, random, &[], &[]), (1, false));
        prop_assert_eq!(selection.finish(0, true, Outcome::Answered, now, random), Some(Change::Returned));
        prop_assert!(selection.has_other(1));
    }

    #[test]
    fn of_two_the_less_loaded_is_asked(random in any::<u64>(), rounds in 1usize..50) {
        let mut selection = Selection::new(2);
        let now = Instant::now();
        for _ in 0..rounds * 2 {
            selection.pick(now, random, &[], &[]);
        }
        prop_assert_eq!((selection.endpoints[0].in_flight, selection.endpoints[1].in_flight), (rounds, rounds));
    }
}

#[test]
fn load_spreads_over_many() {
    let random = crate::random::Random::seeded(3);
    let mut selection = Selection::new(5);
    let now = Instant::now();
    for _ in 0..5_000 {
        selection.pick(now, random.next(), &[], &[]);
    }
    assert!(selection.endpoints.iter().all(|health| (990..=1_010).contains(&health.in_flight)), "{selection:?}");
}

#[test]
fn failures_that_come_together_put_aside_once_and_those_that_follow_for_longer() {
    let mut selection = Selection::new(2);
    let now = Instant::now();
    let refuse = |selection: &mut Selection, probe, at| selection.finish(0, probe, Outcome::Refused, at, u64::MAX);
    assert_eq!(refuse(&mut selection, false, now), Some(Change::PutAside(ASIDE_MIN)));
    assert_eq!(refuse(&mut selection, false, now), None);
    assert_eq!(refuse(&mut selection, true, now + ASIDE_MIN), Some(Change::PutAside(ASIDE_MIN * 2)));
    assert_eq!(refuse(&mut selection, true, now + ASIDE_MIN), Some(Change::PutAside(ASIDE_MIN * 4)));
}

#[test]
fn one_slow_answer_puts_nothing_aside_but_three_in_a_row_do() {
    let mut selection = Selection::new(1);
    let now = Instant::now();
    let mut end = |outcome| selection.finish(0, false, outcome, now, u64::MAX);
    assert_eq!((end(Outcome::Unanswered), end(Outcome::Unanswered)), (None, None));
    assert_eq!(end(Outcome::Answered), None);
    assert_eq!((end(Outcome::Unanswered), end(Outcome::Unanswered)), (None, None));
    assert_eq!(end(Outcome::Unanswered), Some(Change::PutAside(ASIDE_MIN)));
}

#[test]
fn streams_that_fall_silent_put_aside_at_once_and_together_once() {
    let mut selection = Selection::new(2);
    let now = Instant::now();
    let fall_silent = |selection: &mut Selection, at| selection.note(0, Outcome::Unanswered, at, u64::MAX);
    assert_eq!(fall_silent(&mut selection, now), Some(Change::PutAside(ASIDE_MIN)));
    assert_eq!((fall_silent(&mut selection, now), fall_silent(&mut selection, now)), (None, None));
    assert_eq!(fall_silent(&mut selection, now + ASIDE_MIN), Some(Change::PutAside(ASIDE_MIN * 2)));
}

#[test]
fn a_late_answer_to_something_from_before_returns_nothing() {
    let mut selection = Selection::new(2);
    let now = Instant::now();
    selection.finish(0, false, Outcome::Refused, now, 0);
    assert_eq!(selection.finish(0, false, Outcome::Answered, now, 0), None);
    assert_eq!(selection.pick(now, 0, &[], &[]), (1, false));
}
