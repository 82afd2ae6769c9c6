//! The simulation itself: the same seed gives the same run, and the check of rejections can fail.
#![cfg(feature = "test-hooks")]

use tessera_ports::hooks::{self, Guard};
use tessera_simulation::line::Lie;
use tessera_simulation::{Mode, simulate, simulate_with};

/// Seeds tried before something counts as not seen.
const SEEDS_MAX: u64 = 20;

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=12 {
        let mode = if seed % 2 == 0 { Mode::Scan } else { Mode::NoScan };
        let first = simulate(seed, mode);
        assert!(first.as_ref().is_ok_and(|tally| tally.acknowledged > 0), "{first:?}");
        assert_eq!(first, simulate(seed, mode), "seed {seed} in mode {mode:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_violation() {
    let _removed = hooks::remove(&[Guard::SeqGate]);
    let first = (1..=SEEDS_MAX).find_map(|seed| simulate(seed, Mode::Scan).err());
    let first = first.expect("without the seq gate answers go back");
    assert_eq!(Err(first.clone()), simulate(first.seed, first.mode));
}

/// Loaders that decide on what a stream was some time ago, as if they believed a cache: appends fail by their condition, so that
/// nothing but the rejections is wrong.
#[test]
fn a_rejection_from_a_stale_state_is_seen() {
    let lie = Some(Lie::StaleReads(8));
    let seen: Vec<String> =
        (1..=SEEDS_MAX).filter_map(|seed| simulate_with(seed, Mode::Scan, lie).err()).map(|violation| violation.text).collect();
    println!("{}", seen.join("\n"));
    assert!(seen.iter().any(|text| text.starts_with("h: ")), "no rejection was found to be false");
    let only_rejections = seen.iter().all(|text| text.starts_with("h: "));
    assert!(only_rejections, "something else than a rejection was false: {seen:?}");
}
