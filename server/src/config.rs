//! Settings of the data plane, each with its unit, its bounds and its reason.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::snapshot::folder::Directory;
use crate::{decision_log, ext_authz};

/// How the data plane behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Threads that serve calls, each with a runtime of its own. 0 to 1,024; default 0, one per core.
    pub threads: usize,
    /// Longest wait for a revision, in ms; a caller's own deadline may be shorter. 1 to 10,000; default 200.
    pub at_least_wait_ms: u64,
    /// After so long, in ms, a stream that parked rows wait for is read from the store. 1 to 60,000; default 1,000.
    pub parked_fetch_after_ms: u64,
    /// Longest wait of readiness for parked rows, in ms. 0 to 60,000; default 10,000.
    pub ready_parked_wait_ms: u64,
    /// A read of the store is given up after so long, in ms. 10 to 60,000; default 2,000.
    pub store_read_timeout_ms: u64,
    /// Most reads of single streams under way at a time, so that revisions from the future cannot press the store. 1 to 1,000;
    /// default 16.
    pub fetches_at_once_max: usize,
    /// Whether the never-ending scan runs. Only tests of the other repair paths say no.
    pub repair_scan: bool,
    /// A lap of the scan aims to take no longer, in s. 1 to 900; default 600.
    pub scan_lap_s: u64,
    /// Longest pause between two pages of the scan, in ms, so that small stores are repaired sooner. 1 to 60,000; default 1,000.
    pub scan_pause_max_ms: u64,
    /// The scan reads no more rows than that per second, even if a lap then takes longer. 1 to 10,000,000; default 50,000.
    pub scan_rows_per_second_max: u64,
    /// Rows per page of a scan, the hydrating one too. 1 to 10,000; default 256: a page of the largest tenants is 64 MiB.
    pub scan_page_rows: usize,
    /// Ranges that hydration scans at once. 1 to 256; default 8.
    pub hydration_ranges_at_once: usize,
    /// Records of one read of the feed. 1 to 100,000; default 1,000.
    pub feed_read_records: usize,
    /// Longest wait of one read of the feed, in ms. 1 to 60,000; default 1,000.
    pub feed_wait_ms: u64,
    /// Whether snapshots are written, and started from. Default yes, where there is a place for them.
    pub snapshots: bool,
    /// Folder of the snapshots, of this process alone; made (mode 0700) if it is not there. Default: `snapshots` in the data
    /// directory of an embedded database; without one, no snapshots.
    pub snapshot_dir: Option<PathBuf>,
    /// A snapshot is written so often, in ms. What was published since is read at the next start, and the disk is written to
    /// with the size of the matrix each time. 100 to 86,400,000; default 300,000, five minutes.
    pub snapshot_interval_ms: u64,
    /// A server that has loaded a snapshot waits so long, in ms, for store and feed before it serves the snapshot as it is.
    /// Longer and an outage holds up starts; shorter and a slow store makes for stale answers. 0 to 600,000; default 5,000.
    pub snapshot_wait_ms: u64,
    /// A snapshot that was written longer ago, in s, is not used: what it grants may have been taken away for so long. 1 to
    /// 31,536,000; default 86,400, a day.
    pub snapshot_age_max_s: u64,
    /// Most `fully_consistent` reads under way at a time. 1 to 10,000; default 64.
    pub fully_consistent_at_once_max: usize,
    /// Most of them for one caller (a principal, or an address where nobody is asked who they are). 1 to 10,000; default 16.
    pub fully_consistent_per_caller_max: usize,
    /// Checks that one caller (a principal, or an address where nobody is asked who they are) may ask for, per second, whichever call
    /// they come in; a list, and a subscription of a watch, counts as many as there are features. 0 to 1,000,000,000; default 0, which
    /// is no limit: what is too much only who runs it can know, and the limit on waiting (`wait_target_ms` of the listener) holds
    /// anyhow.
    pub caller_checks_per_second: u64,
    /// Of them at once, after a silence; what costs more is charged as much. 1 to 1,000,000,000; default 10,000, the largest batch.
    pub caller_checks_burst: u64,
    /// Checks that may be asked for about one tenant, per second, by all callers that see it. 0 to 1,000,000,000; default 0, which is
    /// no limit.
    pub tenant_checks_per_second: u64,
    /// Of them at once, after a silence. 1 to 1,000,000,000; default 10,000.
    pub tenant_checks_burst: u64,
    /// Most watches at a time. 1 to 100,000; default 1,000.
    pub watch_streams_max: usize,
    /// Most of them for one caller (a principal, or an address where nobody is asked who they are), so that nobody can take all of
    /// them. 1 to 100,000; default 250, a quarter.
    pub watch_streams_per_caller_max: usize,
    /// Most tenants of one watch. 1 to 1,000,000; default 10,000.
    pub watch_subscriptions_max: usize,
    /// Most documents that one watch makes per second, so that a change of the catalog does not starve checks. 1 to 1,000,000;
    /// default 1,000.
    pub watch_documents_per_second_max: u64,
    /// A watch sends a heartbeat after so long without one, in ms. 10 to 600,000; default 5,000.
    pub watch_heartbeat_ms: u64,
    /// How requests that an Envoy holds become checks (`envoy.service.auth.v3`). Default: they do not, and nothing of it is served.
    pub ext_authz: Option<ext_authz::settings::Settings>,
    /// Where decisions are logged, and which. Default: nowhere.
    pub decision_log: Option<decision_log::Settings>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: 0,
            at_least_wait_ms: 200,
            parked_fetch_after_ms: 1_000,
            ready_parked_wait_ms: 10_000,
            store_read_timeout_ms: 2_000,
            fetches_at_once_max: 16,
            repair_scan: true,
            scan_lap_s: 600,
            scan_pause_max_ms: 1_000,
            scan_rows_per_second_max: 50_000,
            scan_page_rows: 256,
            hydration_ranges_at_once: 8,
            feed_read_records: 1_000,
            feed_wait_ms: 1_000,
            snapshots: true,
            snapshot_dir: None,
            snapshot_interval_ms: 300_000,
            snapshot_wait_ms: 5_000,
            snapshot_age_max_s: 86_400,
            fully_consistent_at_once_max: 64,
            fully_consistent_per_caller_max: 16,
            caller_checks_per_second: 0,
            caller_checks_burst: 10_000,
            tenant_checks_per_second: 0,
            tenant_checks_burst: 10_000,
            watch_streams_max: 1_000,
            watch_streams_per_caller_max: 250,
            watch_subscriptions_max: 10_000,
            watch_documents_per_second_max: 1_000,
            watch_heartbeat_ms: 5_000,
            ext_authz: None,
            decision_log: None,
        }
    }
}

/// Why settings are refused; each names the field, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One is out of its bounds.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// Requests that an Envoy holds cannot be made checks.
    #[error(transparent)]
    ExtAuthz(#[from] ext_authz::settings::Refused),
}

/// A setting is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is `{given}`; allowed are {min} to {max}")]
pub struct OutOfBounds {
    field: &'static str,
    given: u64,
    min: u64,
    max: u64,
}

impl Config {
    /// Checks every field against its bounds, and how requests become checks.
    pub fn validate(&self) -> Result<(), Refused> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let bounds = [
            ("threads", count(self.threads), 0, 1_024),
            ("at_least_wait_ms", self.at_least_wait_ms, 1, 10_000),
            ("parked_fetch_after_ms", self.parked_fetch_after_ms, 1, 60_000),
            ("ready_parked_wait_ms", self.ready_parked_wait_ms, 0, 60_000),
            ("store_read_timeout_ms", self.store_read_timeout_ms, 10, 60_000),
            ("fetches_at_once_max", count(self.fetches_at_once_max), 1, 1_000),
            ("scan_lap_s", self.scan_lap_s, 1, 900),
            ("scan_pause_max_ms", self.scan_pause_max_ms, 1, 60_000),
            ("scan_rows_per_second_max", self.scan_rows_per_second_max, 1, 10_000_000),
            ("scan_page_rows", count(self.scan_page_rows), 1, 10_000),
            ("hydration_ranges_at_once", count(self.hydration_ranges_at_once), 1, 256),
            ("feed_read_records", count(self.feed_read_records), 1, 100_000),
            ("feed_wait_ms", self.feed_wait_ms, 1, 60_000),
            ("snapshot_interval_ms", self.snapshot_interval_ms, 100, 86_400_000),
            ("snapshot_wait_ms", self.snapshot_wait_ms, 0, 600_000),
            ("snapshot_age_max_s", self.snapshot_age_max_s, 1, 31_536_000),
            ("fully_consistent_at_once_max", count(self.fully_consistent_at_once_max), 1, 10_000),
            ("fully_consistent_per_caller_max", count(self.fully_consistent_per_caller_max), 1, 10_000),
            ("caller_checks_per_second", self.caller_checks_per_second, 0, 1_000_000_000),
            ("caller_checks_burst", self.caller_checks_burst, 1, 1_000_000_000),
            ("tenant_checks_per_second", self.tenant_checks_per_second, 0, 1_000_000_000),
            ("tenant_checks_burst", self.tenant_checks_burst, 1, 1_000_000_000),
            ("watch_streams_max", count(self.watch_streams_max), 1, 100_000),
            ("watch_streams_per_caller_max", count(self.watch_streams_per_caller_max), 1, 100_000),
            ("watch_subscriptions_max", count(self.watch_subscriptions_max), 1, 1_000_000),
            ("watch_documents_per_second_max", self.watch_documents_per_second_max, 1, 1_000_000),
            ("watch_heartbeat_ms", self.watch_heartbeat_ms, 10, 600_000),
        ];
        let of_log = self.decision_log.iter().flat_map(decision_log::Settings::bounds);
        for (field, given, min, max) in bounds.into_iter().chain(of_log) {
            if !(min..=max).contains(&given) {
                return Err(OutOfBounds { field, given, min, max }.into());
            }
        }
        if let Some(ext_authz) = &self.ext_authz {
            ext_authz.validate()?;
        }
        Ok(())
    }

    /// How many threads are to serve calls.
    pub fn serving_threads(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(self.threads).unwrap_or_else(cores)
    }

    /// Where snapshots are kept: where the settings say, or below the directory of an embedded database; `None`: nowhere.
    pub fn snapshot_folder(&self, data_dir: Option<&Path>) -> Option<Directory> {
        let below = || data_dir.map(|data_dir| data_dir.join("snapshots"));
        let path = self.snapshot_dir.clone().or_else(below)?;
        self.snapshots.then(|| Directory::new(path))
    }

    pub(crate) fn snapshot_interval(&self) -> Duration {
        Duration::from_millis(self.snapshot_interval_ms)
    }

    pub(crate) fn snapshot_wait(&self) -> Duration {
        Duration::from_millis(self.snapshot_wait_ms)
    }

    pub(crate) fn snapshot_age_max(&self) -> Duration {
        Duration::from_secs(self.snapshot_age_max_s)
    }

    pub(crate) fn at_least_wait(&self) -> Duration {
        Duration::from_millis(self.at_least_wait_ms)
    }

    pub(crate) fn store_read_timeout(&self) -> Duration {
        Duration::from_millis(self.store_read_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_bounds_and_what_is_not_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let long_lap = Config { scan_lap_s: 901, ..Config::default() };
        let error = long_lap.validate().unwrap_err().to_string();
        assert_eq!(error, "`scan_lap_s` is `901`; allowed are 1 to 900");
        let nobody_asks = Config { ext_authz: Some(ext_authz::settings::Settings::default()), ..Config::default() };
        let error = nobody_asks.validate().unwrap_err().to_string();
        assert_eq!(error, "`ext_authz.tenant` has no source; allowed is one at least");
    }
}
