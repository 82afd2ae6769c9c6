//! The time that decisions are made for: one per request, never going back within a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tessera_core::time::Timestamp;
use tessera_ports::Clock;

/// A clock that does not go back, whatever the one behind it does.
#[derive(Debug)]
pub(crate) struct EvaluationClock {
    clock: Arc<dyn Clock>,
    /// The latest time handed out, in nanoseconds since 1970.
    latest: AtomicU64,
}

impl EvaluationClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, latest: AtomicU64::new(0) }
    }

    /// Now, and never before what this returned earlier.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        // 64 bits of nanoseconds reach to the year 2554; a clock beyond it is taken as it is.
        let Ok(nanos) = u64::try_from(now.as_nanos()) else { return now };
        let before = self.latest.fetch_max(nanos, Ordering::Relaxed);
        if before > nanos { Timestamp::from_nanos(i128::from(before)).unwrap_or(now) } else { now }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tessera_ports::clock::ManualClock;

    use super::*;

    #[test]
    fn it_never_goes_back() {
        let start = Timestamp::from_seconds(1_800_000_000).unwrap();
        let manual = Arc::new(ManualClock::new(start));
        let clock = EvaluationClock::new(Arc::clone(&manual) as Arc<dyn Clock>);
        assert_eq!(clock.now(), start);
        manual.set(start.saturating_sub(Duration::from_mins(1)));
        assert_eq!(clock.now(), start);
        manual.set(start.saturating_add(Duration::from_nanos(1)));
        assert_eq!(clock.now(), start.saturating_add(Duration::from_nanos(1)));
        manual.set(Timestamp::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
