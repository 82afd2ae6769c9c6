//! Instants: UTC, whole nanoseconds, from 1970 to the end of 9999.
//!
//! No clock is read here. Formatting and parsing of RFC 3339 text is the edges' work.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

const NANOS_PER_SECOND: u32 = 1_000_000_000;
/// 9999-12-31T23:59:59Z in seconds since 1970.
const SECONDS_MAX: i64 = 253_402_300_799;

/// An instant in UTC between 1970-01-01T00:00:00Z and 9999-12-31T23:59:59.999999999Z, both included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    /// One more than the nanoseconds within the second: never 0, so that an instant that may be missing takes no more memory.
    nanos_and_one: NonZeroU32,
}

const _: () = assert!(size_of::<Option<Timestamp>>() == 16);

/// An instant lies outside the years 1970 to 9999, or its nanoseconds are not in `0..1_000_000_000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time {seconds} s and {nanos} ns since 1970 is out of range; allowed are the years 1970 to 9999 and 0 to 999999999 ns")]
pub struct TimeOutOfRange {
    seconds: i64,
    nanos: i64,
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self { seconds: 0, nanos_and_one: NonZeroU32::MIN };
    /// 9999-12-31T23:59:59.999999999Z.
    pub const MAX: Self = Self { seconds: SECONDS_MAX, nanos_and_one: NonZeroU32::MIN.saturating_add(NANOS_PER_SECOND - 1) };

    /// From seconds and nanoseconds since 1970.
    pub fn new(seconds: i64, nanos: i64) -> Result<Self, TimeOutOfRange> {
        let error = TimeOutOfRange { seconds, nanos };
        let nanos = u32::try_from(nanos).ok().filter(|n| *n < NANOS_PER_SECOND).ok_or(error)?;
        let nanos_and_one = NonZeroU32::MIN.saturating_add(nanos);
        if (0..=SECONDS_MAX).contains(&seconds) { Ok(Self { seconds, nanos_and_one }) } else { Err(error) }
    }

    /// From whole seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Result<Self, TimeOutOfRange> {
        Self::new(seconds, 0)
    }

    /// From nanoseconds since 1970.
    pub fn from_nanos(nanos: i128) -> Result<Self, TimeOutOfRange> {
        let per_second = i128::from(NANOS_PER_SECOND);
        let seconds = i64::try_from(nanos.div_euclid(per_second)).unwrap_or(i64::MAX);
        let rest = i64::try_from(nanos.rem_euclid(per_second)).unwrap_or(0);
        Self::new(seconds, rest)
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second, 0 to 999,999,999.
    pub fn subsec_nanos(self) -> u32 {
        self.nanos_and_one.get() - 1
    }

    /// Nanoseconds since 1970.
    pub fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(self.subsec_nanos())
    }

    /// Later by `duration`, but never beyond [`Self::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let nanos = i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
        Self::from_nanos(self.as_nanos().saturating_add(nanos)).unwrap_or(Self::MAX)
    }

    /// Earlier by `duration`, but never before [`Self::MIN`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let nanos = i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
        Self::from_nanos(self.as_nanos().saturating_sub(nanos)).unwrap_or(Self::MIN)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        let nanos = self.as_nanos().saturating_sub(earlier.as_nanos());
        u64::try_from(nanos).map_or_else(|_| if nanos < 0 { Duration::ZERO } else { Duration::MAX }, Duration::from_nanos)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timestamp").field("seconds", &self.seconds).field("nanos", &(self.nanos_and_one.get() - 1)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_in_and_beyond_is_out() {
        assert_eq!(Timestamp::new(0, 0), Ok(Timestamp::MIN));
        assert_eq!(Timestamp::new(SECONDS_MAX, 999_999_999), Ok(Timestamp::MAX));
        assert!(Timestamp::new(-1, 0).is_err());
        assert!(Timestamp::new(SECONDS_MAX + 1, 0).is_err());
        assert!(Timestamp::new(0, -1).is_err());
        assert!(Timestamp::new(0, 1_000_000_000).is_err());
        assert!(Timestamp::from_nanos(-1).is_err());
        assert_eq!(Timestamp::from_nanos(Timestamp::MAX.as_nanos()), Ok(Timestamp::MAX));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX.saturating_add(Duration::from_nanos(1)), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.saturating_since(Timestamp::MAX), Duration::ZERO);
        let second = Timestamp::MIN.saturating_add(Duration::from_secs(1));
        assert_eq!(second.saturating_since(Timestamp::MIN), Duration::from_secs(1));
    }
}
