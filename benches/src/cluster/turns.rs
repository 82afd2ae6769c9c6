//! Two or more that do the same in turns, and what each turn took. They share one process, so that what one of them costs is the CPU
//! time of the process in its turn; whatever runs beside them belongs to all alike.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What is to be done by `cluster-adapters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What.
    pub job: Job,
    /// Where.
    pub backends: tessera_backends::Config,
    /// How many tenants the keyspace has.
    pub tenants: u64,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// See [`super::scan`].
    Scan,
    /// See [`super::replay`].
    Replay,
    /// See [`super::append`].
    Append,
}

/// What one of them did in one round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Rows, records or appends.
    pub count: u64,
    /// From the first to the last of them.
    pub seconds: f64,
    /// CPU time of the process meanwhile.
    pub cpu_seconds: f64,
    /// How long each took, in milliseconds and in order of length, where that was looked at.
    pub latencies_ms: Vec<f64>,
}

impl Turn {
    /// In one second.
    pub fn rate(&self) -> f64 {
        self.number() / self.seconds
    }

    /// CPU time of each, in µs.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.number()
    }

    /// So many in one second of CPU time.
    pub fn per_cpu_second(&self) -> f64 {
        self.number() / self.cpu_seconds
    }

    /// The latency that so many of a thousand do not exceed.
    pub fn latency_ms(&self, per_mille: usize) -> f64 {
        percentile(&self.latencies_ms, per_mille)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn number(&self) -> f64 {
        self.count as f64
    }
}

/// Of sorted values.
pub fn percentile(sorted: &[f64], per_mille: usize) -> f64 {
    sorted.get(sorted.len() * per_mille / 1_000).copied().unwrap_or(f64::NAN)
}

/// A clock for one turn.
#[derive(Debug)]
pub struct Began {
    at: Instant,
    cpu: Duration,
}

impl Began {
    /// Now.
    pub fn now() -> Self {
        Self { cpu: process_cpu(), at: Instant::now() }
    }

    /// The turn is over, and so many were done.
    pub fn done(self, count: u64) -> Turn {
        let seconds = self.at.elapsed().as_secs_f64();
        let cpu_seconds = process_cpu().saturating_sub(self.cpu).as_secs_f64();
        Turn { count, seconds, cpu_seconds, latencies_ms: Vec::new() }
    }
}

/// CPU time of this process so far, threads that have ended included.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_told_per_piece() {
        let turn = Turn { count: 1_000, seconds: 2.0, cpu_seconds: 0.5, latencies_ms: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!((turn.rate(), turn.cpu_micros(), turn.per_cpu_second()), (500.0, 500.0, 2_000.0));
        assert_eq!((turn.latency_ms(500), turn.latency_ms(990)), (3.0, 4.0));
        assert!(percentile(&[], 500).is_nan());
    }

    #[test]
    fn work_takes_time_of_the_processor() {
        let began = Began::now();
        let mut sum = 0_u64;
        while began.at.elapsed() < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let turn = began.done(sum);
        assert!(turn.seconds >= 0.02 && turn.cpu_seconds > 0.0, "{turn:?}");
    }
}
