//! How a client behaves, with the reason of each default beside it. The builder fills it in.

use std::time::Duration;

use crate::error::Error;
use crate::retry::RetryPolicy;

/// When a silent connection is asked whether it is still there, and for how long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the connection is asked: 100 ms to 1 h; default 10 s.
    pub interval: Duration,
    /// How long it may take to answer: 10 ms to 1 min; default 5 s.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) deadline: Duration,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) retry: RetryPolicy,
    pub(crate) watch_silence_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A server that is there accepts within a round trip; the call that waits may still go elsewhere.
            connect_timeout: Duration::from_millis(500),
            // Answers take microseconds; the rest is for the network and a second attempt.
            deadline: Duration::from_secs(1),
            keepalive: Some(Keepalive::default()),
            retry: RetryPolicy::default(),
            // Four heartbeats of a server's default pace.
            watch_silence_max: Duration::from_secs(20),
        }
    }
}

impl Settings {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let day = Duration::from_hours(24);
        within("connect_timeout", self.connect_timeout, Duration::from_millis(1), day, "allowed are 1 ms to 24 h")?;
        check_deadline(self.deadline)?;
        within("watch_silence_max", self.watch_silence_max, Duration::from_millis(10), day, "allowed are 10 ms to 24 h")?;
        if let Some(Keepalive { interval, timeout }) = self.keepalive {
            let hour = Duration::from_hours(1);
            within("keepalive.interval", interval, Duration::from_millis(100), hour, "allowed are 100 ms to 1 h")?;
            let minute = Duration::from_mins(1);
            within("keepalive.timeout", timeout, Duration::from_millis(10), minute, "allowed are 10 ms to 1 min")?;
        }
        self.retry.validate()
    }
}

/// A call's deadline, the default one or its own.
pub(crate) fn check_deadline(deadline: Duration) -> Result<(), Error> {
    within("deadline", deadline, Duration::from_millis(1), Duration::from_hours(24), "allowed are 1 ms to 24 h")
}

fn within(setting: &'static str, given: Duration, min: Duration, max: Duration, allowed: &'static str) -> Result<(), Error> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(Error::Setting { setting, given: format!("{given:?}"), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_what_does_not_is_named() {
        assert!(Settings::default().validate().is_ok());
        let refused = |settings: Settings| settings.validate().unwrap_err().to_string();
        let of = Settings::default();
        assert_eq!(refused(Settings { deadline: Duration::ZERO, ..of }), "`deadline` is `0ns`; allowed are 1 ms to 24 h");
        assert!(refused(Settings { connect_timeout: Duration::MAX, ..of }).starts_with("`connect_timeout`"));
        let eager = Keepalive { interval: Duration::from_millis(1), ..Keepalive::default() };
        assert!(refused(Settings { keepalive: Some(eager), ..of }).starts_with("`keepalive.interval` is `1ms`"));
    }
}
