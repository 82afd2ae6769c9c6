//! Many seeds with every guard in place: no property is violated. `TESSERA_SIMULATION_SEEDS=<count>` runs more or fewer,
//! `TESSERA_SIMULATION_START=<seed>` begins elsewhere, `TESSERA_SIMULATION_MODE=overtaking|restarts|set-backs` runs all in that mode.
#![cfg(feature = "test-hooks")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tessera_simulation::run::Tally;
use tessera_simulation::{Mode, simulate};

const SEEDS: u64 = 2_000;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Two modes by turns, and now and then those in which something rare is frequent.
fn modes(seed: u64) -> &'static [Mode] {
    match std::env::var("TESSERA_SIMULATION_MODE").as_deref() {
        Ok("overtaking") => &[Mode::Overtaking],
        Ok("restarts") => &[Mode::Restarts],
        Ok("set-backs") => &[Mode::SetBacks],
        _ if seed.is_multiple_of(20) => &[Mode::Scan, Mode::Overtaking, Mode::Restarts, Mode::SetBacks],
        _ if seed.is_multiple_of(2) => &[Mode::Scan],
        _ => &[Mode::NoScan],
    }
}

#[test]
fn no_seed_violates_a_property() {
    let (start, seeds) = (setting("TESSERA_SIMULATION_START", 1), setting("TESSERA_SIMULATION_SEEDS", SEEDS));
    println!("seeds {start} to {}, each twentieth in three more modes", start + seeds - 1);
    let next = AtomicU64::new(start);
    let (violations, total) = (Mutex::new(Vec::new()), Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= start + seeds || violations.lock().expect("no panic").len() >= 5 {
                        return;
                    }
                    for mode in modes(seed) {
                        match simulate(seed, *mode) {
                            Ok(tally) => total.lock().expect("no panic").add(tally),
                            Err(violation) => violations.lock().expect("no panic").push(violation.to_string()),
                        }
                    }
                }
            });
        }
    });
    let total = total.into_inner().expect("no panic");
    println!("{total:?}");
    let violations = violations.into_inner().expect("no panic");
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    let per_seed = total.acknowledged as u64 / seeds.max(1);
    assert!(per_seed > 5, "hardly anything was done: {per_seed} acknowledged commands a seed");
    // In every other run there is nobody to tell, and in some modes never.
    let told_per_seed = total.told as u64 / seeds.max(1);
    assert!(told_per_seed > 2 || total.answers == 0, "hardly anybody was told: {told_per_seed} events a seed");
}
