//! Whether a call that failed is tried again, and when: only what another attempt can mend, with jittered pauses, within a
//! budget that bounds what retries add to the load of servers in trouble. Pure: time and randomness are arguments.
//!
//! Every call of this client reads, so asking twice does no harm but the work it makes.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::error::Error;
use crate::failure::Failure;
use crate::random::jittered;

/// How often and how soon a call is tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Attempts of a call, the first one included: 1 to 10; default 3. 1 never tries again. A check of a checker is sent so often
    /// at most, whether its frames were lost or it was refused alone. Beyond them a call, but no check of a checker, is made once
    /// more where the servers did not know its token and there is another by then.
    pub attempts_max: u32,
    /// Longest pause before the second attempt; it doubles from there. Up to 10 s; default 20 ms.
    pub pause_min: Duration,
    /// Longest pause of all, but of subscriptions for which a server has no room: theirs grow to 1 min. Up to 1 min; default 1 s.
    pub pause_max: Duration,
    /// Retries for every hundred calls, while the trouble lasts: 0 to 100; default 20. Each checker counts beside that: frames
    /// sent again for every hundred frames.
    pub budget_percent: u32,
    /// Retries per second that are always there, for clients that ask rarely: 0 to 1,000; default 1. So many frames a second of
    /// each checker, too.
    pub budget_per_second: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
            budget_percent: 20,
            budget_per_second: 1,
        }
    }
}

/// What another attempt could bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    GiveUp,
    /// Another endpoint may know better; this one not before the time it gave.
    Elsewhere(Option<Duration>),
    /// Nobody should be asked before this time.
    After(Duration),
}

impl Verdict {
    /// What the server asked to be left alone for, as far as it concerns the next attempt: whether that goes to `another` endpoint.
    pub(crate) fn after(self, another: bool) -> Option<Duration> {
        match self {
            Self::GiveUp => None,
            Self::After(after) => Some(after),
            Self::Elsewhere(after) => after.filter(|_| !another),
        }
    }
}

/// What another attempt could bring after this failure.
pub(crate) fn verdict(failure: &Failure) -> Verdict {
    if failure.is_connection_trouble() || failure.timed_out() {
        return Verdict::Elsewhere(None);
    }
    match (failure.code(), failure.retry_after()) {
        (Code::Unavailable, after) => Verdict::Elsewhere(after),
        (Code::ResourceExhausted, Some(after)) => Verdict::After(after),
        // It arrived too late there; what is left of the caller's time decides.
        (Code::DeadlineExceeded, _) => Verdict::Elsewhere(None),
        _ => Verdict::GiveUp,
    }
}

impl RetryPolicy {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |setting, given: String, allowed| Err(Error::Setting { setting, given, allowed });
        if !(1..=10).contains(&self.attempts_max) {
            return wrong("retry.attempts_max", self.attempts_max.to_string(), "allowed are 1 to 10");
        }
        if self.pause_min > Duration::from_secs(10) {
            return wrong("retry.pause_min", format!("{:?}", self.pause_min), "allowed is up to 10 s");
        }
        if self.pause_max > Duration::from_mins(1) || self.pause_max < self.pause_min {
            return wrong("retry.pause_max", format!("{:?}", self.pause_max), "allowed are `pause_min` to 1 min");
        }
        if self.budget_percent > 100 {
            return wrong("retry.budget_percent", self.budget_percent.to_string(), "allowed are 0 to 100");
        }
        if self.budget_per_second > 1_000 {
            return wrong("retry.budget_per_second", self.budget_per_second.to_string(), "allowed are 0 to 1,000");
        }
        Ok(())
    }

    /// The pause before the attempt that follows the `failed`th, counted from 1; `after` is what the server asked for.
    pub(crate) fn pause(&self, failed: u32, after: Option<Duration>, random: u64) -> Duration {
        let doubled = self.pause_min.saturating_mul(1u32.checked_shl(failed.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
        let pause = jittered(doubled.min(self.pause_max), random);
        // Not before the server wishes, and not everybody at the same moment.
        after.map_or(pause, |after| after.saturating_add(pause))
    }
}

/// Thousandths of a retry.
const RETRY: u64 = 1_000;
/// Most retries that are saved up: how many may come at once after a long time without trouble.
const SAVED_MAX: u64 = 100 * RETRY;
/// What a new client has saved up.
const SAVED_FIRST: u64 = 10 * RETRY;

/// Bounds how much retries add: calls and time pay in, each retry takes out.
#[derive(Debug)]
pub(crate) struct Budget {
    saved: u64,
    per_call: u64,
    per_second: u64,
    paid_until: Instant,
}

impl Budget {
    pub(crate) fn new(policy: &RetryPolicy, now: Instant) -> Self {
        Self {
            saved: SAVED_FIRST,
            per_call: u64::from(policy.budget_percent) * RETRY / 100,
            per_second: u64::from(policy.budget_per_second) * RETRY,
            paid_until: now,
        }
    }

    /// A call begins.
    pub(crate) fn pay_in(&mut self) {
        self.saved = self.saved.saturating_add(self.per_call).min(SAVED_MAX);
    }

    /// Whether a retry may be made; if so, it is taken out.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.pay_for_time(now);
        let enough = self.saved >= RETRY;
        if enough {
            self.saved -= RETRY;
        }
        enough
    }

    /// Whether a retry could be made now.
    pub(crate) fn has_one(&mut self, now: Instant) -> bool {
        self.pay_for_time(now);
        self.saved >= RETRY
    }

    fn pay_for_time(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.paid_until);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let paid = self.per_second.saturating_mul(millis) / 1_000;
        if paid > 0 {
            self.saved = self.saved.saturating_add(paid).min(SAVED_MAX);
            self.paid_until = now;
        }
    }
}

#[cfg(test)]
mod tests;
