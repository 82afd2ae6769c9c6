//! How often which tenant is asked about: all alike, or few of them most of the time.

use tessera_benches::scenario::SplitMix64;

use crate::schedule::unit;

/// Greatest exponent: the first tenant then has all but a thousandth of the questions.
pub const EXPONENT_MAX: f64 = 10.0;

/// Draws the number of a tenant.
#[derive(Debug, Clone, Copy)]
pub enum Popularity {
    /// All alike.
    Uniform {
        /// How many.
        tenants: u64,
    },
    /// The tenant with number n − 1 is asked about in proportion to 1/nᵉ.
    Zipf(Zipf),
}

/// Rejection-inversion after Hörmann and Derflinger: no table, a constant number of steps for any number of tenants.
#[derive(Debug, Clone, Copy)]
pub struct Zipf {
    exponent: f64,
    tenants: u64,
    /// Integral of the hat over the first rank, less that rank's weight.
    first: f64,
    /// Integral of the hat up to the last rank.
    last: f64,
    /// Ranks nearer than this to the point drawn are accepted without a look at their weight.
    near: f64,
}

impl Popularity {
    /// Of the first `tenants` tenants.
    pub fn uniform(tenants: u64) -> Self {
        Self::Uniform { tenants }
    }

    /// Of the first `tenants` tenants, which are at least one; the exponent is from 0 to [`EXPONENT_MAX`].
    pub fn zipf(tenants: u64, exponent: f64) -> Self {
        let mut zipf = Zipf { exponent, tenants, first: 0.0, last: 0.0, near: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(float(tenants) + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        Self::Zipf(zipf)
    }

    /// The number of a tenant, from 0.
    pub fn draw(&self, random: &mut SplitMix64) -> u64 {
        match self {
            Self::Uniform { tenants } => random.below(*tenants),
            Self::Zipf(zipf) => zipf.rank(random) - 1,
        }
    }
}

impl Zipf {
    fn weight(&self, rank: f64) -> f64 {
        (-self.exponent * rank.ln()).exp()
    }

    /// Of the weight, from 1 to `rank`.
    fn integral(&self, rank: f64) -> f64 {
        let log = rank.ln();
        let power = (1.0 - self.exponent) * log;
        // (e^p − 1)/p is 1 at 0, where the quotient cannot be had.
        if power.abs() < 1e-8 { log * (1.0 + power / 2.0) } else { log * power.exp_m1() / power }
    }

    fn inverse(&self, area: f64) -> f64 {
        let part = (area * (1.0 - self.exponent)).max(-1.0);
        let log = if part.abs() < 1e-8 { area * (1.0 - part / 2.0) } else { area * part.ln_1p() / part };
        log.exp()
    }

    /// From 1.
    fn rank(&self, random: &mut SplitMix64) -> u64 {
        loop {
            let area = self.last + unit(random) * (self.first - self.last);
            let point = self.inverse(area);
            let rank = whole(point.round()).clamp(1, self.tenants);
            let rounded = float(rank);
            if rounded - point <= self.near || area >= self.integral(rounded + 0.5) - self.weight(rounded) {
                return rank;
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "tenants are counted in millions")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is beyond the ends is clamped there")]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRAWS: u32 = 20_000;

    fn counts(popularity: Popularity, tenants: u64, seed: u64) -> Vec<f64> {
        let mut random = SplitMix64::new(seed);
        let mut counts = vec![0.0; usize::try_from(tenants).unwrap()];
        for _ in 0..DRAWS {
            counts[usize::try_from(popularity.draw(&mut random)).unwrap()] += 1.0;
        }
        counts
    }

    /// Within eight standard deviations of a count with that probability, and a few beyond for rare tenants, whose counts have
    /// longer tails: never by chance.
    fn near(count: f64, probability: f64) -> bool {
        let mean = f64::from(DRAWS) * probability;
        (count - mean).abs() <= 8.0 * mean.sqrt() + 16.0
    }

    proptest! {
        #[test]
        fn zipf_keeps_its_frequencies(tenants in 1_u64..300, exponent in prop_oneof![Just(0.0), Just(1.0), 0.0_f64..4.0], seed: u64) {
            let counts = counts(Popularity::zipf(tenants, exponent), tenants, seed);
            let weights: Vec<f64> = (1..=tenants).map(|rank| float(rank).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            for (rank, (count, weight)) in counts.iter().zip(&weights).enumerate() {
                prop_assert!(near(*count, weight / sum), "rank {} of {tenants}: {count}, weight {}", rank + 1, weight / sum);
            }
        }

        #[test]
        fn uniform_is_even(tenants in 1_u64..100, seed: u64) {
            for count in counts(Popularity::uniform(tenants), tenants, seed) {
                prop_assert!(near(count, 1.0 / float(tenants)));
            }
        }

        #[test]
        fn nobody_beyond_the_end_is_drawn(tenants in 1_u64..20_000_000, exponent in 0.0..EXPONENT_MAX, seed: u64) {
            let popularity = Popularity::zipf(tenants, exponent);
            let mut random = SplitMix64::new(seed);
            for _ in 0..100 {
                prop_assert!(popularity.draw(&mut random) < tenants);
            }
        }
    }
}
