//! How much one caller or tenant may ask for: leaky buckets, as the generic cell rate algorithm keeps them (GCRA, ITU-T I.371):
//! one time per bucket, the one at which it will have leaked dry.
//!
//! The table has a fixed size, whatever is made up to fill it: a bucket that is not found is a full one, and the one that is
//! driven out is the fullest of its row. Buckets are told apart by 64 bits of a keyed hash. Two threads that charge a bucket at
//! the same moment may let a little more through than it has. No clock here: time is an argument.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rows of a table.
const ROWS: usize = 1 << 14;
/// Buckets of a row.
const COLUMNS: usize = 4;

/// What every bucket of a table allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What runs in, per second; at least 1.
    pub per_second: u64,
    /// What a bucket holds; at least 1. What costs more is charged as much.
    pub burst: u64,
}

/// Buckets by name. 1 MiB.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    /// What one unit takes to run in, in ns.
    unit: u64,
    /// What a full bucket took to run in, in ns.
    full: u64,
    rows: Box<[Row]>,
    keys: RandomState,
}

/// Cells of 64 bytes, so that a row is in one line of a cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Row([Cell; COLUMNS]);

/// A bucket; both are 0 where there is none.
#[derive(Debug, Default)]
struct Cell {
    name: AtomicU64,
    /// When it will be full again, in ns since whatever the time is counted from.
    full_at: AtomicU64,
}

impl Buckets {
    /// Full buckets for everybody.
    pub fn new(rate: Rate) -> Self {
        let unit = (1_000_000_000 / rate.per_second.max(1)).max(1);
        let full = unit.saturating_mul(rate.burst.max(1));
        let rows = std::iter::repeat_with(Row::default).take(ROWS).collect();
        Self { rate, unit, full, rows, keys: RandomState::new() }
    }

    /// What every bucket allows.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes `cost` out of the bucket of `name`, or, when it has less, nothing: then it says how soon it has enough. `now` is the
    /// time since any moment that stays the same.
    pub fn take(&self, name: impl std::hash::Hash, cost: u64, now: Duration) -> Result<(), Duration> {
        let hash = self.keys.hash_one(name).max(1);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let cost = cost.min(self.rate.burst).saturating_mul(self.unit);
        let Some(cell) = self.cell(hash, now) else { return Ok(()) };
        let full_at = cell.full_at.load(Ordering::Relaxed).max(now).saturating_add(cost);
        let early = full_at.saturating_sub(now).saturating_sub(self.full);
        if early > 0 {
            return Err(Duration::from_nanos(early));
        }
        cell.full_at.store(full_at, Ordering::Relaxed);
        Ok(())
    }

    /// The bucket with that hash, which may be a new one.
    fn cell(&self, hash: u64, now: u64) -> Option<&Cell> {
        // The low bits: a table of a power of two.
        let row = self.rows.get(usize::try_from(hash).unwrap_or(usize::MAX) & (ROWS - 1))?;
        if let Some(cell) = row.0.iter().find(|cell| cell.name.load(Ordering::Relaxed) == hash) {
            return Some(cell);
        }
        let cell = row.0.iter().min_by_key(|cell| cell.full_at.load(Ordering::Relaxed))?;
        cell.name.store(hash, Ordering::Relaxed);
        cell.full_at.store(now, Ordering::Relaxed);
        Some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_let_through_is_the_burst_and_what_has_run_in() {
        let seed = RandomState::new().hash_one(0);
        println!("seed {seed}");
        let mut draws = tessera_ports::memory::SplitMix64::new(seed);
        for _ in 0..200 {
            let rate = Rate { per_second: 1 + draws.next_u64() % 10_000, burst: 1 + draws.next_u64() % 1_000 };
            let buckets = Buckets::new(rate);
            let (mut now, mut taken) = (Duration::from_secs(draws.next_u64() % 1_000_000), 0);
            let began = now;
            for _ in 0..500 {
                let cost = 1 + draws.next_u64() % rate.burst;
                match buckets.take("acme", cost, now) {
                    Ok(()) => taken += cost,
                    Err(early) => {
                        assert!(early > Duration::ZERO, "{rate:?}");
                        assert!(buckets.take("acme", cost, now + early).is_ok(), "{rate:?}: {cost} after {early:?}");
                        taken += cost;
                        now += early;
                    }
                }
                // What divides no second runs in a little faster: by less than a part of what one unit takes.
                let unit = 1_000_000_000 / rate.per_second;
                let most = u128::from(rate.burst) + (now.saturating_sub(began).as_nanos() + 1) / u128::from(unit) + 1;
                assert!(u128::from(taken) <= most, "{rate:?}: {taken} of {most}");
                now += Duration::from_nanos(draws.next_u64() % 2_000_000);
            }
        }
    }

    #[test]
    fn a_bucket_is_its_own() {
        let buckets = Buckets::new(Rate { per_second: 10, burst: 5 });
        assert_eq!(buckets.take("acme", 5, SECOND), Ok(()));
        assert_eq!(buckets.take("acme", 1, SECOND), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take("acme", 5, SECOND), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take("globex", 5, SECOND), Ok(()));
        assert_eq!(buckets.take("acme", 1, SECOND + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn what_costs_more_than_a_bucket_holds_takes_all_of_it() {
        let buckets = Buckets::new(Rate { per_second: 10, burst: 5 });
        assert_eq!(buckets.take("acme", 1_000, SECOND), Ok(()));
        assert_eq!(buckets.take("acme", 1_000, SECOND), Err(Duration::from_millis(500)));
    }

    #[test]
    fn names_that_are_made_up_take_no_memory_and_let_nobody_off() {
        let buckets = Buckets::new(Rate { per_second: 1, burst: 1_000 });
        assert_eq!(buckets.take("acme", 1_000, SECOND), Ok(()));
        for made_up in 0..1_000_000_u32 {
            assert_eq!(buckets.take(made_up, 1, SECOND), Ok(()));
        }
        assert!(buckets.take("acme", 1, SECOND).is_err(), "the emptiest bucket stays");
        assert_eq!(std::mem::size_of::<Row>() * buckets.rows.len(), 1 << 20);
    }
}
