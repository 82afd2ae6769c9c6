//! What every hint store does.

use tessera_core::time::Timestamp;

use super::Run;
use crate::hint_store::{Hint, HintStore};
use crate::shard::Shard;

/// Every check of this suite, one after the other.
pub async fn check_all(hints: &dyn HintStore, run: &Run) {
    what_is_put_is_listed(hints, run).await;
    putting_again_and_erasing_again_are_harmless(hints, run).await;
    attempts_are_apart(hints, run).await;
    oldest_come_first(hints, run).await;
    shards_are_apart(hints, run).await;
}

/// More than other runs can have left behind.
const PLENTY: usize = 100_000;

fn hint(run: &Run, name: &str, head: u64, at_s: i64) -> Hint {
    let at = Timestamp::new(at_s, 123_456_789).expect("a time");
    Hint { stream: run.tenant(name), request_id: run.request(name), head, at }
}

async fn own(hints: &dyn HintStore, like: &Hint) -> Vec<Hint> {
    let mut own = hints.list(&[Shard::of(&like.stream)], PLENTY).await.expect("hints");
    own.retain(|hint| hint.stream == like.stream);
    own.sort_by_key(|hint| hint.head);
    own
}

/// A hint comes back whole, and is gone once erased.
pub async fn what_is_put_is_listed(hints: &dyn HintStore, run: &Run) {
    let hint = hint(run, "hint", 7, 1_000);
    hints.put(&hint).await.expect("put");
    assert_eq!(own(hints, &hint).await, std::slice::from_ref(&hint));
    hints.erase(&hint).await.expect("erase");
    assert_eq!(own(hints, &hint).await, []);
}

/// Both ways, twice is as once.
pub async fn putting_again_and_erasing_again_are_harmless(hints: &dyn HintStore, run: &Run) {
    let hint = hint(run, "twice", 0, 1_000);
    hints.erase(&hint).await.expect("erase what never was");
    for _ in 0..2 {
        hints.put(&hint).await.expect("put");
    }
    assert_eq!(own(hints, &hint).await, std::slice::from_ref(&hint));
    for _ in 0..2 {
        hints.erase(&hint).await.expect("erase");
    }
    assert_eq!(own(hints, &hint).await, []);
}

/// Stream, request id and expected head together name an attempt: erasing one leaves the others.
pub async fn attempts_are_apart(hints: &dyn HintStore, run: &Run) {
    let first = hint(run, "attempts", 1, 1_000);
    let later = Hint { head: 2, ..first.clone() };
    let other_command = Hint { request_id: run.request("other"), head: 3, ..first.clone() };
    for hint in [&first, &later, &other_command] {
        hints.put(hint).await.expect("put");
    }
    hints.erase(&Hint { head: 3, ..first.clone() }).await.expect("erase what never was");
    assert_eq!(own(hints, &first).await, [first.clone(), later.clone(), other_command.clone()]);
    hints.erase(&later).await.expect("erase");
    assert_eq!(own(hints, &first).await, [first.clone(), other_command.clone()]);
    for hint in [&first, &other_command] {
        hints.erase(hint).await.expect("erase");
    }
}

/// Older hints come before younger ones, and a short list has the first of them. Others may have left older ones still.
pub async fn oldest_come_first(hints: &dyn HintStore, run: &Run) {
    // Not in the order of their names.
    let all: Vec<Hint> = (0..).zip([3, 1, 2]).map(|(n, at_s)| hint(run, &format!("aged-{n}"), 1, at_s)).collect();
    for hint in &all {
        hints.put(hint).await.expect("put");
    }
    let shards: Vec<Shard> = Shard::all().collect();
    let ages = |listed: &[Hint]| -> Vec<i64> { listed.iter().map(|hint| hint.at.seconds()).collect() };
    let mut listed = hints.list(&shards, PLENTY).await.expect("hints");
    let short = hints.list(&shards, 2).await.expect("hints");
    assert_eq!(ages(&short), ages(&listed)[..2]);
    listed.retain(|hint| all.contains(hint));
    assert_eq!(ages(&listed), [1, 2, 3]);
    for hint in &all {
        hints.erase(hint).await.expect("erase");
    }
}

/// A list has the hints of its shards and of no other.
pub async fn shards_are_apart(hints: &dyn HintStore, run: &Run) {
    let all: Vec<Hint> = (0..8).map(|number| hint(run, &format!("shard-{number}"), 1, 1_000)).collect();
    for hint in &all {
        hints.put(hint).await.expect("put");
    }
    for hint in &all {
        let shard = Shard::of(&hint.stream);
        let listed = hints.list(&[shard], PLENTY).await.expect("hints");
        assert!(listed.contains(hint) && listed.iter().all(|listed| Shard::of(&listed.stream) == shard), "{listed:?}");
    }
    assert_eq!(hints.list(&[], PLENTY).await, Ok(Vec::new()));
    for hint in &all {
        hints.erase(hint).await.expect("erase");
    }
}
