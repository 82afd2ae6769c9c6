//! The clocks of a local mode: one reading per check.
//!
//! The steady clock stands still while the machine is suspended; documents go on ageing. How long that was, the wall tells, which
//! is looked at once a second: a leap of it counts as age. It may have been set forward instead, which is the same from here:
//! documents then are taken for older than they are, and the wire is asked until the next heartbeat. Only ages count it; a tenant
//! that nobody could ask about is not given up for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::freshness::Moment;

/// From here on the wall has leapt. What keeps it right moves it bit by bit, or in steps of less: chrony steps from 1 s on,
/// systemd-timesyncd from 0.4 s, ntpd from 0.128 s.
const LEAP_NS: u64 = 1_000_000_000;

/// A clock that only goes forward, and how far the one on the wall is from it.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    /// What the wall said when this began, in nanoseconds since 1970.
    wall_at_beginning_ns: AtomicU64,
    /// All leaps of the wall since.
    missed_ns: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self::began_at(wall_ns())
    }

    fn began_at(wall_ns: u64) -> Self {
        Self { began: Instant::now(), wall_at_beginning_ns: AtomicU64::new(wall_ns), missed_ns: AtomicU64::new(0) }
    }

    pub(super) fn now(&self) -> Moment {
        let steady = self.began.elapsed();
        let at_beginning = Duration::from_nanos(self.wall_at_beginning_ns.load(Ordering::Relaxed));
        Moment {
            wall: SystemTime::UNIX_EPOCH + at_beginning + steady,
            steady_ns: nanos(steady),
            missed_ns: self.missed_ns.load(Ordering::Relaxed),
        }
    }

    /// The clock on the wall may have been set, or the machine suspended. Called by one task only.
    pub(super) fn look_at_the_wall(&self) {
        self.wall_says(wall_ns());
    }

    fn wall_says(&self, wall_ns: u64) {
        let at_beginning = wall_ns.saturating_sub(nanos(self.began.elapsed()));
        let ahead = at_beginning.saturating_sub(self.wall_at_beginning_ns.swap(at_beginning, Ordering::Relaxed));
        if ahead >= LEAP_NS {
            self.missed_ns.fetch_add(ahead, Ordering::Relaxed);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place of local mode where the wall is looked at")]
fn wall_ns() -> u64 {
    nanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freshness::Staleness;
    use crate::local::freshness::Proof;

    const SECOND: u64 = 1_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn a_leap_of_the_wall_is_age_and_what_keeps_it_right_is_not() {
        let mut wall = 1_000_000 * SECOND;
        let clock = Clock::began_at(wall);
        let proof = Proof::of(Staleness::AtMost(Duration::ZERO), clock.now());
        let mut age = Duration::ZERO;
        // How far the wall goes while a second passes, and what of it is age.
        let table = [
            (SECOND, SECOND),
            (SECOND + SECOND / 2, SECOND),
            (SECOND + 500_000, SECOND),
            // Suspended for an hour.
            (3_601 * SECOND, 3_601 * SECOND),
            (SECOND, SECOND),
            // Suspended for a second and a half, a second after.
            (SECOND * 5 / 2, SECOND * 5 / 2),
        ];
        for (passed, aged) in table {
            tokio::time::advance(Duration::from_secs(1)).await;
            wall += passed;
            clock.wall_says(wall);
            age += Duration::from_nanos(aged);
            let now = clock.now();
            assert_eq!(proof.age(now), Some(age), "{passed}");
            assert_eq!(now.wall, SystemTime::UNIX_EPOCH + Duration::from_nanos(wall));
        }
        // Set back, nothing gets younger; set right again, everything is taken for older.
        clock.wall_says(wall - 60 * SECOND);
        assert_eq!(proof.age(clock.now()), Some(age));
        clock.wall_says(wall);
        assert_eq!(proof.age(clock.now()), Some(age + Duration::from_mins(1)));
        assert_eq!(clock.now().steady_ns, 6 * SECOND);
    }
}
