//! Time and fresh ids, as arguments.

use std::sync::Mutex;

use tessera_core::ids::RequestId;
use tessera_core::time::Timestamp;

/// The time of day. Nothing depends on two clocks agreeing.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// Ids nobody has used before.
pub trait IdSource: std::fmt::Debug + Send + Sync + 'static {
    /// A request id for a caller who gave none.
    fn request_id(&self) -> RequestId;

    /// A text that may stand for a new tenant or database: lower-case letters, digits and `-`, at most 36 bytes.
    fn unique(&self) -> String;
}

/// A clock that stands where it was put; for tests and simulations.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// Stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves to `now`, back too.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }

    /// Moves on by `by`.
    pub fn advance(&self, by: std::time::Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = now.saturating_add(by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
