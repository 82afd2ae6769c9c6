//! Jitter and names: numbers that differ between processes. Not for secrets.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A generator that many tasks may ask at once; a seed repeats its numbers.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Seeded by the standard library's own per-process randomness.
    pub(crate) fn of_this_process() -> Self {
        Self::seeded(RandomState::new().hash_one("tessera"))
    }

    /// Any number. This is `SplitMix64`: a counter and a mixer.
    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A name that nobody else uses: 32 hexadecimal digits.
    pub(crate) fn request_id(&self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

/// Between half of `whole` and all of it, as `random` says.
pub(crate) fn jittered(whole: Duration, random: u64) -> Duration {
    let half = whole / 2;
    // 16 bits are fine enough for a pause.
    half + half.saturating_mul(u32::try_from(random & 0xffff).unwrap_or(0)) / 0xffff
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_differ_and_a_seed_repeats_them() {
        let (one, two) = (Random::seeded(7), Random::seeded(7));
        let numbers: BTreeSet<u64> = (0..1_000).map(|_| one.next()).collect();
        assert_eq!(numbers.len(), 1_000);
        assert!((0..1_000).all(|_| numbers.contains(&two.next())));
        assert_eq!(one.request_id().len(), 32);
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let whole = Duration::from_millis(100);
        assert_eq!(jittered(whole, 0), whole / 2);
        assert_eq!(jittered(whole, u64::MAX), whole);
        let random = Random::seeded(1);
        assert!((0..1_000).map(|_| jittered(whole, random.next())).all(|pause| (whole / 2..=whole).contains(&pause)));
    }
}
