//! When messages are due: a function of rate, duration and seed, fixed before the first one is sent.
//!
//! Nothing here looks at a clock or knows how the deployment is doing. That is what keeps a slow answer from postponing the
//! questions after it: latency counts from these instants, whenever the message could really be sent.

use std::time::Duration;

use tessera_benches::scenario::SplitMix64;

use crate::rate::Rate;

/// How messages follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// At even distances
    Constant,
    /// At random, as those of many callers who do not know of each other
    Poisson,
}

/// One worker's part of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which worker, from 0.
    pub index: u32,
    /// Of how many; above 0.
    pub of: u32,
}

/// The instants at which one worker's messages of a step are due, as time since the step began, in order.
#[derive(Debug, Clone)]
pub struct Schedule {
    rate: Rate,
    duration: Duration,
    share: Share,
    /// Messages of all workers.
    total: f64,
    /// Where the next one stands among the messages of all workers.
    next: f64,
    /// Draws the distances; `None` where they are even.
    random: Option<SplitMix64>,
}

impl Schedule {
    /// All workers together have `rate` × `duration` messages: rounded where distances are even, on average where they are random.
    pub fn new(rate: Rate, duration: Duration, arrivals: Arrivals, share: Share, seed: u64) -> Self {
        let total = rate.total(duration);
        match arrivals {
            Arrivals::Constant => {
                Self { rate, duration, share, total: total.round(), next: f64::from(share.index), random: None }
            }
            Arrivals::Poisson => {
                let mut random = SplitMix64::new(seed);
                let next = distance(&mut random, share);
                Self { rate, duration, share, total, next, random: Some(random) }
            }
        }
    }
}

/// Random arrivals are shared among workers by thinning: each has its own, at its part of the rate.
fn distance(random: &mut SplitMix64, share: Share) -> f64 {
    -(1.0 - unit(random)).ln() * f64::from(share.of)
}

/// Evenly distributed from 0, included, to 1, excluded.
#[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds exactly")]
pub fn unit(random: &mut SplitMix64) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.next >= self.total {
            return None;
        }
        let due = self.rate.due(self.next, self.duration);
        self.next += match &mut self.random {
            None => f64::from(self.share.of),
            Some(random) => distance(random, self.share),
        };
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALONE: Share = Share { index: 0, of: 1 };

    fn rates() -> impl Strategy<Value = Rate> {
        prop_oneof![
            (0.1_f64..5_000.0).prop_map(Rate::constant),
            (0.1_f64..5_000.0, 0.1_f64..5_000.0).prop_map(|(from, to)| Rate { from, to })
        ]
    }

    #[test]
    fn whole_products_are_exact() {
        for (rate, millis, count) in [(1_000.0, 100, 100), (3.0, 1_000, 3), (100_000.0, 1_300, 130_000), (0.1, 10_000, 1)] {
            let schedule = Schedule::new(Rate::constant(rate), Duration::from_millis(millis), Arrivals::Constant, ALONE, 0);
            assert_eq!(schedule.count(), count, "{rate} for {millis} ms");
        }
    }

    proptest! {
        #[test]
        fn all_workers_together_send_rate_times_duration(rate in rates(), millis in 1_u64..3_000, of in 1_u32..5) {
            let duration = Duration::from_millis(millis);
            let mut due = Vec::new();
            for index in 0..of {
                let own: Vec<_> = Schedule::new(rate, duration, Arrivals::Constant, Share { index, of }, 0).collect();
                prop_assert!(own.is_sorted());
                due.extend(own);
            }
            let count = f64::from(u32::try_from(due.len()).unwrap());
            prop_assert!((count - rate.total(duration)).abs() <= 0.5, "{count} of {}", rate.total(duration));
            due.sort();
            let alone: Vec<_> = Schedule::new(rate, duration, Arrivals::Constant, ALONE, 0).collect();
            prop_assert_eq!(&due, &alone, "the parts are the whole");
            prop_assert!(due.iter().all(|at| *at <= duration));
        }

        #[test]
        fn random_distances_keep_the_rate(per_second in 100.0_f64..5_000.0, seed: u64, of in 1_u32..4) {
            let duration = Duration::from_secs(2);
            let rate = Rate::constant(per_second);
            let mut count = 0.0;
            for index in 0..of {
                let own: Vec<_> =
                    Schedule::new(rate, duration, Arrivals::Poisson, Share { index, of }, seed.wrapping_add(u64::from(index))).collect();
                prop_assert!(own.is_sorted() && own.iter().all(|at| *at <= duration));
                count += f64::from(u32::try_from(own.len()).unwrap());
            }
            // Eight standard deviations: never by chance.
            let mean = per_second * 2.0;
            prop_assert!((count - mean).abs() <= 8.0 * mean.sqrt(), "{count} instead of {mean}");
        }

        #[test]
        fn random_distances_are_as_uneven_as_chance(seed: u64) {
            // In a Poisson process the variance of the counts in equal windows equals their mean.
            let schedule = Schedule::new(Rate::constant(10_000.0), Duration::from_secs(4), Arrivals::Poisson, ALONE, seed);
            let mut windows = vec![0.0_f64; 400];
            for at in schedule {
                let index = usize::try_from(at.as_millis() / 10).unwrap().min(399);
                windows[index] += 1.0;
            }
            let mean = windows.iter().sum::<f64>() / 400.0;
            let variance = windows.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 400.0;
            prop_assert!((0.4..2.0).contains(&(variance / mean)), "{variance} {mean}");
        }
    }
}
