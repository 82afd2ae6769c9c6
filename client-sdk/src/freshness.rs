//! How new an answer is: revisions, which name it, and staleness, which bounds it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// A token that names how new an answer is. Keep it beside what was decided with it, and ask for "at least this" later, of any
/// server. Its bytes mean nothing to anybody but servers.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Revision(Bytes);

impl Revision {
    /// From bytes that were kept.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// To be kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it names nothing: the answer came without one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn to_wire(&self) -> Bytes {
        self.0.clone()
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revision(")?;
        for byte in &self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// How far an answer may lag behind what was decided by people.
///
/// Unknown is never fresh: [`Staleness::is_within`] says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// At most so far, when it was answered.
    AtMost(Duration),
    /// Nobody can say.
    Unknown,
}

impl Staleness {
    /// Whether the answer surely lags no further than `bound`.
    pub fn is_within(self, bound: Duration) -> bool {
        matches!(self, Self::AtMost(lag) if lag <= bound)
    }

    /// The bound, if there is one.
    pub fn at_most(self) -> Option<Duration> {
        match self {
            Self::AtMost(lag) => Some(lag),
            Self::Unknown => None,
        }
    }

    pub(crate) fn of_wire(staleness_ms: Option<i64>) -> Self {
        match staleness_ms.map(u64::try_from) {
            Some(Ok(ms)) => Self::AtMost(Duration::from_millis(ms)),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_never_fresh() {
        assert!(!Staleness::of_wire(None).is_within(Duration::MAX));
        assert!(!Staleness::of_wire(Some(-1)).is_within(Duration::MAX));
        assert!(Staleness::of_wire(Some(5)).is_within(Duration::from_millis(5)));
        assert!(!Staleness::of_wire(Some(6)).is_within(Duration::from_millis(5)));
    }
}
