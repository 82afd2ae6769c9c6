//! Many seeds with every guard in place: no property is violated. `TESSERA_SIMULATION_SEEDS=<count>` runs more or fewer,
//! `TESSERA_SIMULATION_START=<seed>` begins elsewhere.
#![cfg(feature = "test-hooks")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tessera_simulation::run::Tally;
use tessera_simulation::{Mode, simulate};

const SEEDS: u64 = 2_000;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn no_seed_violates_a_property() {
    let (start, seeds) = (setting("TESSERA_SIMULATION_START", 1), setting("TESSERA_SIMULATION_SEEDS", SEEDS));
    println!("seeds {start} to {}, each in one of two modes", start + seeds - 1);
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
                    let mode = if seed.is_multiple_of(2) { Mode::Scan } else { Mode::NoScan };
                    match simulate(seed, mode) {
                        Ok(tally) => total.lock().expect("no panic").add(tally),
                        Err(violation) => violations.lock().expect("no panic").push(violation.to_string()),
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
    // In every other run there is nobody to tell.
    let told_per_seed = total.told as u64 / seeds.max(1);
    assert!(told_per_seed > 2, "hardly anybody was told: {told_per_seed} events a seed");
}
