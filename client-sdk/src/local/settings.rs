//! How much a local mode holds, and how old its answers may be.

use std::collections::BTreeSet;
use std::time::Duration;

use super::policy::Policies;
use crate::error::Error;

/// Most tenants of one watch: what a server takes by its own default.
const TENANTS_MAX: usize = 10_000;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) max_staleness: Duration,
    pub(crate) idle_after: Duration,
    pub(crate) unknown_for: Duration,
    pub(crate) tenants_max: usize,
    pub(crate) preloaded: BTreeSet<String>,
    pub(crate) policies: Policies,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Six heartbeats of a server with its own default.
            max_staleness: Duration::from_secs(30),
            idle_after: Duration::from_mins(10),
            unknown_for: Duration::from_secs(10),
            tenants_max: TENANTS_MAX,
            preloaded: BTreeSet::new(),
            policies: Policies::default(),
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let lengths = [
            ("max_staleness", self.max_staleness, "allowed are 1 ms to 24 h", Duration::from_millis(1)),
            ("idle_after", self.idle_after, "allowed are 1 s to 24 h", Duration::from_secs(1)),
            ("unknown_for", self.unknown_for, "allowed are 1 s to 24 h", Duration::from_secs(1)),
        ];
        for (setting, given, allowed, least) in lengths {
            if given < least || given > Duration::from_hours(24) {
                return Err(Error::Setting { setting, given: format!("{given:?}"), allowed });
            }
        }
        if !(1..=TENANTS_MAX).contains(&self.tenants_max) {
            return Err(Error::Setting {
                setting: "tenants_max",
                given: self.tenants_max.to_string(),
                allowed: "allowed are 1 to 10,000",
            });
        }
        if self.preloaded.len() > self.tenants_max {
            let given = format!("{} tenants", self.preloaded.len());
            return Err(Error::Setting { setting: "preload", given, allowed: "allowed are as many as `tenants_max`" });
        }
        Ok(())
    }

    pub(crate) fn idle_ns(&self) -> u64 {
        nanos(self.idle_after)
    }

    pub(crate) fn unknown_ns(&self) -> u64 {
        nanos(self.unknown_for)
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        Settings::default().check().unwrap();
        let table: [(Settings, &str); 5] = [
            (Settings { max_staleness: Duration::ZERO, ..Settings::default() }, "max_staleness"),
            (Settings { idle_after: Duration::from_hours(25), ..Settings::default() }, "idle_after"),
            (Settings { unknown_for: Duration::from_millis(999), ..Settings::default() }, "unknown_for"),
            (Settings { tenants_max: 0, ..Settings::default() }, "tenants_max"),
            (Settings { tenants_max: 1, preloaded: ["a", "b"].map(str::to_owned).into(), ..Settings::default() }, "preload"),
        ];
        for (settings, named) in table {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{named}` is `")), "{error}");
        }
    }
}
