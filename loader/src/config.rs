//! Settings of the loader, each with its unit and the reason for its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of the loader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Deadline of a command whose caller names none, in milliseconds.
    pub deadline_default_ms: u64,
    /// Longest deadline that is granted, in milliseconds: bounds how long an attempt can be repeated.
    pub deadline_max_ms: u64,
    /// How long before the caller's deadline an answer is given, in milliseconds, so that it still arrives (never more than a
    /// fifth of what is left).
    pub deadline_margin_ms: u64,
    /// First pause before an attempt or a read is repeated, in milliseconds; doubles up to a quarter of a second.
    pub backoff_ms: u64,
    /// Most commands that wait for one stream; more are refused as overload.
    pub stream_queue_max: usize,
    /// Most commands that wait or run at once, per kind of stream; more are refused as overload. All imports together have half
    /// of them and of their bytes, and wait for each other, so that they leave room to everybody else.
    pub commands_max: usize,
    /// Most bytes of commands that wait or run at once, per kind of stream; more are refused as overload.
    pub command_bytes_max: usize,
    /// Bytes of stored states kept decoded, per kind of stream.
    pub state_cache_bytes: usize,
    /// Most changes that wait to be published; more are left to the sweeper, which finds their hints, and so is what is beyond
    /// 64 MiB of them. As many hints at most are held in memory for events that others are to be told of. At most a million.
    pub publish_queue_max: usize,
    /// Most hints that one pass of the sweeper reads at a time, beside those that have to stand; past 64 times as many of these
    /// it does not look.
    pub sweep_page: usize,
    /// Pause between two passes of the sweeper, and so between heartbeats, in milliseconds; at most 1000.
    pub sweep_interval_ms: u64,
    /// How long another loader counts as at work after it was heard of last, in seconds: for so long nobody follows the hints of
    /// one that died.
    pub lease_s: u64,
    /// Age from which a hint may be erased although nothing came of it, in seconds; at least an hour.
    pub hint_age_s: u64,
    /// Time of one lap over all tenants in search of due changes, in seconds.
    pub due_lap_s: u64,
    /// Most import rows in flight at once, per import: as many are grouped into the store's next commit. At most half of
    /// `commands_max`.
    pub import_concurrency: usize,
    /// Most streams that one page of a listing or an audit looks at.
    pub scan_per_page: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline_default_ms: 10_000,
            deadline_max_ms: 60_000,
            deadline_margin_ms: 50,
            backoff_ms: 5,
            stream_queue_max: 1_024,
            commands_max: 16_384,
            command_bytes_max: 256 * 1024 * 1024,
            state_cache_bytes: 32 * 1024 * 1024,
            publish_queue_max: 16_384,
            sweep_page: 1_000,
            sweep_interval_ms: 250,
            lease_s: 10,
            hint_age_s: 3_600,
            due_lap_s: 900,
            import_concurrency: 2_048,
            scan_per_page: 5_000,
        }
    }
}

/// A setting is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {given}; allowed is {allowed}")]
pub struct ConfigError {
    field: &'static str,
    given: u64,
    allowed: &'static str,
}

impl Config {
    /// The settings that are out of bounds; empty when all are good.
    pub fn validate(&self) -> Vec<ConfigError> {
        let positive = "1 or more";
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let import_rows = 1..=wide(self.commands_max / 2);
        let checks = [
            ("deadline_default_ms", self.deadline_default_ms, (1..=self.deadline_max_ms), "1 to deadline_max_ms"),
            ("deadline_max_ms", self.deadline_max_ms, (1..=600_000), "1 to 600000"),
            ("deadline_margin_ms", self.deadline_margin_ms, (0..=10_000), "0 to 10000"),
            ("backoff_ms", self.backoff_ms, (1..=250), "1 to 250"),
            ("stream_queue_max", wide(self.stream_queue_max), (1..=u64::MAX), positive),
            ("commands_max", wide(self.commands_max), (2..=u64::MAX), "2 or more, since imports have half of them"),
            // A request may have 2 MiB.
            ("command_bytes_max", wide(self.command_bytes_max), (2 << 20..=u64::MAX), "2097152 or more"),
            ("publish_queue_max", wide(self.publish_queue_max), (1..=1_000_000), "1 to 1000000"),
            ("sweep_page", wide(self.sweep_page), (1..=100_000), "1 to 100000"),
            ("sweep_interval_ms", self.sweep_interval_ms, (1..=1_000), "1 to 1000, since a heartbeat is due every second"),
            ("lease_s", self.lease_s, (1..=60), "1 to 60"),
            ("hint_age_s", self.hint_age_s, (3_600..=u64::MAX), "3600 or more, an hour"),
            ("due_lap_s", self.due_lap_s, (1..=86_400), "1 to 86400"),
            ("import_concurrency", wide(self.import_concurrency), import_rows, "1 to half of commands_max"),
            ("scan_per_page", wide(self.scan_per_page), (1..=100_000), "1 to 100000"),
        ];
        let bad = checks.into_iter().filter(|(_, given, range, _)| !range.contains(given));
        bad.map(|(field, given, _, allowed)| ConfigError { field, given, allowed }).collect()
    }

    pub(crate) fn deadline_default(&self) -> Duration {
        Duration::from_millis(self.deadline_default_ms)
    }

    pub(crate) fn deadline_max(&self) -> Duration {
        Duration::from_millis(self.deadline_max_ms)
    }

    pub(crate) fn deadline_margin(&self) -> Duration {
        Duration::from_millis(self.deadline_margin_ms)
    }

    pub(crate) fn sweep_interval(&self) -> Duration {
        Duration::from_millis(self.sweep_interval_ms)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }

    pub(crate) fn hint_age(&self) -> Duration {
        Duration::from_secs(self.hint_age_s)
    }

    pub(crate) fn due_lap(&self) -> Duration {
        Duration::from_secs(self.due_lap_s)
    }

    /// The pause before repetition number `attempt` (from 0), spread by `salt` so that two loaders do not keep step.
    pub(crate) fn backoff(&self, attempt: u32, salt: u64) -> Duration {
        let base = self.backoff_ms.saturating_mul(1 << attempt.min(8)).min(250);
        Duration::from_micros(base.saturating_mul(500).saturating_add(salt % base.saturating_mul(500).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_bounds_and_bounds_hold() {
        assert_eq!(Config::default().validate(), []);
        let bad = Config { sweep_interval_ms: 1_001, hint_age_s: 3_599, ..Config::default() };
        let fields: Vec<&str> = bad.validate().iter().map(|e| e.field).collect();
        assert_eq!(fields, ["sweep_interval_ms", "hint_age_s"]);
        let bad = Config { publish_queue_max: 1_000_001, scan_per_page: 100_001, ..Config::default() };
        let fields: Vec<&str> = bad.validate().iter().map(|e| e.field).collect();
        assert_eq!(fields, ["publish_queue_max", "scan_per_page"]);
    }

    #[test]
    fn an_import_has_at_most_half_of_the_commands() {
        let with = |import_concurrency| Config { commands_max: 11, import_concurrency, ..Config::default() };
        assert_eq!(with(5).validate(), []);
        let said: Vec<String> = with(6).validate().iter().map(ToString::to_string).collect();
        assert_eq!(said, ["`import_concurrency` is 6; allowed is 1 to half of commands_max"]);
    }

    #[test]
    fn backoff_grows_to_a_quarter_of_a_second() {
        let config = Config::default();
        assert!(config.backoff(0, 0) < config.backoff(3, 0));
        assert!(config.backoff(40, u64::MAX) <= Duration::from_millis(250));
    }
}
