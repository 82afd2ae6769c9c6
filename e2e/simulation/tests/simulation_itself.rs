//! The simulation itself: the check of rejections can fail.
#![cfg(feature = "test-hooks")]

use tessera_simulation::line::Lie;
use tessera_simulation::{Mode, simulate_with};

/// Seeds tried before something counts as not seen.
const SEEDS_MAX: u64 = 20;

/// Loaders that decide on what a stream was some time ago, as if they believed a cache: appends fail by their condition, so that
/// nothing but the rejections is wrong, and what sweepers promise who are lied to as well.
#[test]
fn a_rejection_from_a_stale_state_is_seen() {
    let lie = Some(Lie::StaleReads(8));
    let seen: Vec<String> =
        (1..=SEEDS_MAX).filter_map(|seed| simulate_with(seed, Mode::Scan, lie).err()).map(|violation| violation.text).collect();
    println!("{}", seen.join("\n"));
    assert!(seen.iter().any(|text| text.starts_with("h: ")), "no rejection was found to be false");
    let of_the_lie = |text: &String| text.starts_with("h: ") || text.starts_with("p2: ");
    assert!(seen.iter().all(of_the_lie), "something else than a rejection or a promise was false: {seen:?}");
}
