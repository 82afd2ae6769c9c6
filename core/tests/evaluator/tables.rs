//! The hand-written tables: every sentence of section 6 of the design as an example with a literal answer. A rule that both
//! evaluators had wrong could not be found by comparing them; it is found here.

mod access;
mod limits;
mod steps;
mod times;

use crate::script::{Case, assert_all};

/// At least so many sentences are proved.
const CASES_MIN: usize = 40;

#[test]
fn the_tables_are_many_and_each_sentence_is_told_once() {
    let all: Vec<&Case> = [steps::CASES, access::CASES, limits::CASES, times::CASES].into_iter().flatten().collect();
    assert!(all.len() >= CASES_MIN, "{}", all.len());
    let sentences: std::collections::BTreeSet<_> = all.iter().map(|case| case.sentence).collect();
    assert_eq!(sentences.len(), all.len());
    assert!(all.iter().all(|case| !case.asks.is_empty()));
}

#[test]
fn the_steps_and_their_order() {
    assert_all(steps::CASES);
}

#[test]
fn services_features_and_overrides() {
    assert_all(access::CASES);
}

#[test]
fn limits_and_familiarity() {
    assert_all(limits::CASES);
}

#[test]
fn plans_in_force_suspensions_and_cancellation() {
    assert_all(times::CASES);
}
