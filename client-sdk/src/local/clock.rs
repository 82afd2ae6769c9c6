//! The clocks of a local mode: one reading per check.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::freshness::Moment;

/// A clock that only goes forward, and how far the one on the wall is from it.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    /// What the wall said when this began, in nanoseconds since 1970.
    wall_at_beginning_ns: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let clock = Self { began: Instant::now(), wall_at_beginning_ns: AtomicU64::new(0) };
        clock.look_at_the_wall();
        clock
    }

    pub(super) fn now(&self) -> Moment {
        let steady = self.began.elapsed();
        let at_beginning = Duration::from_nanos(self.wall_at_beginning_ns.load(Ordering::Relaxed));
        Moment { wall: SystemTime::UNIX_EPOCH + at_beginning + steady, steady_ns: nanos(steady) }
    }

    /// The clock on the wall may have been set.
    #[expect(clippy::disallowed_methods, reason = "the one place of local mode where the wall is looked at")]
    pub(super) fn look_at_the_wall(&self) {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_beginning = nanos(wall).saturating_sub(nanos(self.began.elapsed()));
        self.wall_at_beginning_ns.store(at_beginning, Ordering::Relaxed);
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
