//! Rates as they are written on the command line, and how many messages are due when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tessera_core::shown::shown;

/// Highest rate: far beyond what one generator sends.
pub const RATE_MAX: f64 = 10_000_000.0;
/// Lowest rate: a message in ten seconds.
pub const RATE_MIN: f64 = 0.1;

/// How many messages a second are offered during a step: always the same number, or rising (falling) evenly from one to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At its beginning.
    pub from: f64,
    /// At its end.
    pub to: f64,
}

impl Rate {
    /// That many messages a second, all the time.
    pub fn constant(per_second: f64) -> Self {
        Self { from: per_second, to: per_second }
    }

    /// Messages that are due in `duration`, before rounding.
    pub fn total(self, duration: Duration) -> f64 {
        f64::midpoint(self.from, self.to) * duration.as_secs_f64()
    }

    /// When `count` messages are due if the step lasts `duration`.
    pub fn due(self, count: f64, duration: Duration) -> Duration {
        // The due count after t seconds is from·t + a·t²/2; solved for t in the form that loses nothing where a is near 0.
        let rise = (self.to - self.from) / duration.as_secs_f64();
        let root = (self.from * self.from + 2.0 * rise * count).max(0.0).sqrt();
        let seconds = 2.0 * count / (self.from + root);
        if seconds.is_finite() { Duration::from_secs_f64(seconds.max(0.0)).min(duration) } else { Duration::ZERO }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.to.total_cmp(&self.from).is_eq() {
            short(f, self.from)
        } else {
            write!(f, "{}..{}", Self::constant(self.from), Self::constant(self.to))
        }
    }
}

fn short(f: &mut fmt::Formatter<'_>, rate: f64) -> fmt::Result {
    match rate {
        1_000_000.0.. => write!(f, "{}M", rate / 1_000_000.0),
        1_000.0.. => write!(f, "{}k", rate / 1_000.0),
        _ => write!(f, "{rate}"),
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `800`, `2.5k`, `1M`, or a ramp such as `1k..10k`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("..") {
            None => number(text, text).map(Self::constant),
            Some((from, to)) => Ok(Self { from: number(from, text)?, to: number(to, text)? }),
        }
    }
}

fn number(text: &str, whole: &str) -> Result<f64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000.0),
        None => text.strip_suffix('M').map_or((text, 1.0), |digits| (digits, 1_000_000.0)),
    };
    let plain = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let rate = digits.parse::<f64>().ok().filter(|_| plain).map(|number| number * factor);
    rate.filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate)).ok_or_else(|| {
        let given = shown(whole);
        format!(
            "`{given}` is not a rate; allowed are {RATE_MIN} to 10M messages a second, such as 800, 2.5k or 1k..10k for a ramp"
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        for (text, from, to) in [("800", 800.0, 800.0), ("2.5k", 2_500.0, 2_500.0), ("1M", 1e6, 1e6), ("1k..10k", 1e3, 1e4)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate { from, to });
            assert_eq!(rate.to_string(), text);
        }
        for bad in ["", "0", "-1", "k", "1e3", "nan", "inf", "11M", "1k..", "..1k", "1k...2k", "1,5", "+5", "0.05", "1_000", " 1"]
        {
            let error = bad.parse::<Rate>().unwrap_err();
            assert!(error.contains("allowed") && error.contains('`'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_due_rises_evenly(from in 0.1_f64..1e5, to in 0.1_f64..1e5, seconds in 0.1_f64..100.0, part in 0.0_f64..1.0) {
            let (rate, duration) = (Rate { from, to }, Duration::from_secs_f64(seconds));
            let count = rate.total(duration) * part;
            let at = rate.due(count, duration);
            prop_assert!(at <= duration);
            // Back again: the integral of the rate up to then.
            let t = at.as_secs_f64();
            let integral = from * t + (to - from) / seconds * t * t / 2.0;
            prop_assert!((integral - count).abs() <= 1e-6 * count + 1e-3, "{integral} {count}");
        }
    }
}
