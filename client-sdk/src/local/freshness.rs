//! How old an answer is: what a connection has proved, and when.
//!
//! A server says with every heartbeat and every document how far it may lag behind what was published. Heard at an instant, that
//! proves of an earlier one that everything published until then is in what the connection has sent. The proof never gets
//! younger again, and with the connection's end it stands still, so that the age of everything that came over it grows. Time on
//! the way is not in it: nobody can tell how long bytes lay in a buffer.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use crate::freshness::Staleness;

/// Now, twice: by the clock on the wall, which may be set, and by one that only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// What a document's `valid_until` is compared with.
    pub(crate) wall: SystemTime,
    /// Nanoseconds since this local mode began.
    pub(crate) steady_ns: u64,
    /// What the steady clock has missed, in nanoseconds: it stands still while the machine is suspended.
    pub(crate) missed_ns: u64,
}

impl Moment {
    /// What ages are measured by.
    fn ageing_ns(self) -> u64 {
        self.steady_ns.saturating_add(self.missed_ns)
    }
}

/// Until when everything published is known to have arrived, in nanoseconds of [`Moment::ageing_ns`]; it may lie before 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proof(i64);

impl Proof {
    /// Nothing is known.
    pub(crate) const NONE: Self = Self(i64::MIN);

    /// What a server proves that says this now.
    pub(crate) fn of(staleness: Staleness, now: Moment) -> Self {
        let Staleness::AtMost(lag) = staleness else { return Self::NONE };
        let lag = i64::try_from(lag.as_nanos()).unwrap_or(i64::MAX);
        // One above the least, which means nothing.
        Self(signed(now.ageing_ns()).saturating_sub(lag).max(i64::MIN + 1))
    }

    /// How old it is; `None` when nothing is known.
    pub(crate) fn age(self, now: Moment) -> Option<Duration> {
        if self == Self::NONE {
            return None;
        }
        Some(Duration::from_nanos(u64::try_from(signed(now.ageing_ns()).saturating_sub(self.0)).unwrap_or(0)))
    }
}

/// What one connection has proved. Written by who follows it, read by every check.
#[derive(Debug)]
pub(crate) struct Connection(AtomicI64);

impl Connection {
    /// One that has proved nothing yet.
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(Proof::NONE.0))
    }

    /// One that will never prove more than that.
    pub(crate) fn ended_at(proof: Proof) -> Self {
        Self(AtomicI64::new(proof.0))
    }

    /// A heartbeat.
    pub(crate) fn prove(&self, proof: Proof) {
        self.0.fetch_max(proof.0, Ordering::Relaxed);
    }

    pub(crate) fn proof(&self) -> Proof {
        Proof(self.0.load(Ordering::Relaxed))
    }
}

fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(steady_ns: u64) -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH, steady_ns, missed_ns: 0 }
    }

    fn lag(milliseconds: u64) -> Staleness {
        Staleness::AtMost(Duration::from_millis(milliseconds))
    }

    #[test]
    fn age_is_the_time_since_and_what_the_server_lagged() {
        let second = 1_000_000_000;
        let connection = Connection::new();
        assert_eq!(connection.proof().age(at(second)), None);
        connection.prove(Proof::of(Staleness::Unknown, at(second)));
        assert_eq!(connection.proof().age(at(second)), None);
        connection.prove(Proof::of(lag(250), at(second)));
        assert_eq!(connection.proof().age(at(2 * second)), Some(Duration::from_millis(1_250)));
        // A lag from before this process began.
        assert_eq!(Proof::of(lag(10_000), at(second)).age(at(second)), Some(Duration::from_secs(10)));
        assert!(Proof::of(lag(u64::MAX), at(second)).age(at(second)) > Some(Duration::from_hours(200 * 365 * 24)));
    }

    proptest! {
        #[test]
        fn a_proof_never_gets_younger_and_never_older_than_time(
            heard in proptest::collection::vec((0_u64..1_000_000, proptest::option::of(0_u64..5_000)), 1..20),
        ) {
            let connection = Connection::new();
            let (mut now, mut before) = (0, None::<Duration>);
            for (pause, said) in heard {
                now += pause;
                if let Some(before) = before {
                    prop_assert_eq!(connection.proof().age(at(now)), Some(before + Duration::from_nanos(pause)));
                }
                connection.prove(Proof::of(said.map_or(Staleness::Unknown, lag), at(now)));
                let age = connection.proof().age(at(now));
                prop_assert!(before.is_none() || age <= before.map(|before| before + Duration::from_nanos(pause)));
                // Never younger than what the server said just now, unless it proved more before.
                if before.is_none() {
                    prop_assert_eq!(age, said.map(Duration::from_millis));
                }
                before = age;
            }
        }
    }
}
