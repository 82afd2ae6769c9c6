//! Every metric of the data plane: names, meanings, labels, and the handles, resolved once. docs/METRICS.md lists them all, and
//! a test compares. Labels are bounded: nothing here names a tenant, a plan or a caller.

use std::sync::Arc;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use tessera_core::decision::Reason;
use tessera_core::stream::StreamKind;
use tessera_runtime::telemetry::Latency;
use tokio::time::Instant;

/// Decisions, by shape of the call and reason.
pub const CHECKS: &str = "tessera_checks_total";
/// Checks without a decision, by shape of the call and cause.
pub const CHECK_ERRORS: &str = "tessera_check_errors_total";
/// Requests and frames that carried checks, by shape of the call.
pub const CHECK_REQUESTS: &str = "tessera_check_requests_total";
/// Time from a message with checks to its answer, by shape of the call.
pub const CHECK_DURATION: &str = "tessera_check_duration_seconds";
/// Requests that an Envoy holds and that ask nothing, by why.
pub const EXT_AUTHZ_REFUSED: &str = "tessera_ext_authz_refused_total";
/// Lines of the decision log.
pub const DECISION_LOG_LINES: &str = "tessera_decision_log_lines_total";
/// Decisions that were sampled and are not in it, by cause.
pub const DECISION_LOG_DROPPED: &str = "tessera_decision_log_dropped_total";
/// What the histogram of that time means.
const CHECK_DURATION_MEANING: &str =
    "time from a message with checks, read, to its answer, encoded; waits for a revision are in it";
/// Documents made for `ListEntitlements`.
pub const LISTS: &str = "tessera_lists_total";
/// Changes that were newer than what was applied and are applied, by kind of stream and where they came from.
pub const CHANGES_APPLIED: &str = "tessera_changes_applied_total";
/// Changes that were not newer than what was applied, by where they came from.
pub const CHANGES_BEHIND: &str = "tessera_changes_behind_total";
/// Changes that had to wait for what they name, by kind of stream.
pub const CHANGES_PARKED: &str = "tessera_changes_parked_total";
/// Changes that cannot be used, by cause.
pub const CHANGES_BAD: &str = "tessera_changes_bad_total";
/// Streams that are parked now.
pub const PARKED: &str = "tessera_parked_streams";
/// Streams whose newest state cannot be used now.
pub const BAD: &str = "tessera_bad_streams";
/// Changes that arrived another way than by the feed, by that way.
pub const REPAIRS: &str = "tessera_repairs_total";
/// States that differ from the store's at the same seq.
pub const CHECKSUM_ALARMS: &str = "tessera_checksum_alarms_total";
/// Hydrations begun, by cause.
pub const HYDRATIONS: &str = "tessera_hydrations_total";
/// How long the last hydration took.
pub const HYDRATION_SECONDS: &str = "tessera_hydration_seconds";
/// Rows that scans have read.
pub const SCAN_ROWS: &str = "tessera_scan_rows_total";
/// How long the last lap of the scan took.
pub const SCAN_LAP: &str = "tessera_scan_lap_seconds";
/// Reads of store and feed that failed.
pub const READ_ERRORS: &str = "tessera_read_errors_total";
/// Now minus up to when everything committed is in the answers: the newest heartbeat on the worst partition, or less while
/// something newer than what answers is parked.
pub const STALENESS: &str = "tessera_staleness_seconds";
/// Streams that the matrix holds, by kind.
pub const MATRIX_STREAMS: &str = "tessera_matrix_streams";
/// The epoch that is served.
pub const MATRIX_EPOCH: &str = "tessera_matrix_epoch";
/// Where each partition of the feed is read on from.
pub const FEED_POSITION: &str = "tessera_feed_position";
/// 1 once the data is loaded.
pub const READY: &str = "tessera_ready";
/// Waits for a revision that was not there yet, by outcome.
pub const AT_LEAST_WAITS: &str = "tessera_at_least_waits_total";
/// Strong reads for `fully_consistent`, by outcome.
pub const FULLY_CONSISTENT: &str = "tessera_fully_consistent_total";
/// Snapshots, by what became of writing them.
pub const SNAPSHOTS: &str = "tessera_snapshots_total";
/// Snapshots that were found and not used, by cause.
pub const SNAPSHOTS_REFUSED: &str = "tessera_snapshots_refused_total";
/// Now minus the time of the newest snapshot.
pub const SNAPSHOT_AGE: &str = "tessera_snapshot_age_seconds";
/// Size of the last one that was written.
pub const SNAPSHOT_BYTES: &str = "tessera_snapshot_bytes";
/// How long writing it took.
pub const SNAPSHOT_SECONDS: &str = "tessera_snapshot_seconds";
/// 1 while a snapshot is served whose store has not been caught up with.
pub const SNAPSHOT_SERVED: &str = "tessera_snapshot_served";
/// Watches open now.
pub const WATCH_STREAMS: &str = "tessera_watch_streams";
/// Tenants watched now, over all watches.
pub const WATCH_SUBSCRIPTIONS: &str = "tessera_watch_subscriptions";
/// Documents sent to watches.
pub const WATCH_DOCUMENTS: &str = "tessera_watch_documents_total";

/// Name, whether it is a counter, labels with their values, meaning: what docs/METRICS.md shows.
pub const ALL: [(&str, bool, &str, &str); 36] = [
    (CHECKS, true, "mode, reason, entitled", "decisions"),
    (CHECK_ERRORS, true, "mode, cause", "checks without a decision"),
    (
        EXT_AUTHZ_REFUSED,
        true,
        "reason",
        "requests held by an Envoy about which nothing could be asked: denied, or allowed in a dry run",
    ),
    (CHECK_REQUESTS, true, "mode", "requests and frames that carried checks"),
    (DECISION_LOG_LINES, true, "", "lines written to the decision log"),
    (
        DECISION_LOG_DROPPED,
        true,
        "cause",
        "sampled decisions that are not in the decision log: `queue` full, `write` failed, or beyond the `rate` of the process's log",
    ),
    (LISTS, true, "", "documents made for ListEntitlements"),
    (CHANGES_APPLIED, true, "kind, source", "changes applied"),
    (CHANGES_BEHIND, true, "source", "changes that were not newer than what was applied"),
    (CHANGES_PARKED, true, "kind", "changes that had to wait for what they name"),
    (CHANGES_BAD, true, "cause", "changes that cannot be used; the last good state answers"),
    (PARKED, false, "", "streams that are parked now"),
    (BAD, false, "", "streams whose newest state cannot be used now"),
    (REPAIRS, true, "path", "changes that arrived another way before they arrived by the feed"),
    (CHECKSUM_ALARMS, true, "", "states that differed from the store's at the same seq and were replaced; a human must look"),
    (HYDRATIONS, true, "cause", "hydrations begun"),
    (HYDRATION_SECONDS, false, "", "how long the last hydration took, in seconds; of a start from a snapshot, catching up"),
    (SCAN_ROWS, true, "", "rows that scans have read"),
    (SCAN_LAP, false, "", "how long the last lap of the scan took, in seconds"),
    (READ_ERRORS, true, "source", "reads that failed and are tried again"),
    (
        STALENESS,
        false,
        "",
        "now minus up to when everything committed is in the answers, in seconds; NaN when nothing is known of that",
    ),
    (MATRIX_STREAMS, false, "kind", "streams that the matrix holds"),
    (MATRIX_EPOCH, false, "", "the epoch that is served"),
    (FEED_POSITION, false, "partition", "where each partition of the feed is read on from"),
    (READY, false, "", "1 once the data is loaded, else 0"),
    (AT_LEAST_WAITS, true, "outcome", "waits for a revision that was not there yet"),
    (FULLY_CONSISTENT, true, "outcome", "fully consistent reads"),
    (SNAPSHOTS, true, "outcome", "snapshots that were to be written"),
    (SNAPSHOTS_REFUSED, true, "cause", "snapshots that were found and not used"),
    (SNAPSHOT_AGE, false, "", "now minus the time of the newest snapshot, in seconds; NaN when there is none"),
    (SNAPSHOT_BYTES, false, "", "size of the last snapshot that was written, in bytes"),
    (SNAPSHOT_SECONDS, false, "", "how long writing the last snapshot took, in seconds"),
    (SNAPSHOT_SERVED, false, "", "1 while answers come from a snapshot whose store has not been caught up with, else 0"),
    (WATCH_STREAMS, false, "", "watches open now"),
    (WATCH_SUBSCRIPTIONS, false, "", "tenants watched now, over all watches"),
    (WATCH_DOCUMENTS, true, "", "documents sent to watches"),
];

/// Name, label and meaning of the histograms: what docs/METRICS.md shows.
pub const HISTOGRAMS: [(&str, &str, &str); 1] = [(CHECK_DURATION, "mode", CHECK_DURATION_MEANING)];

/// How a check came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Unary,
    Batch,
    Stream,
    ExtAuthz,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Batch => "batch",
            Self::Stream => "stream",
            Self::ExtAuthz => "ext_authz",
        }
    }
}

/// How a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Feed,
    Hydration,
    Scan,
    Fetch,
    Snapshot,
}

impl Source {
    pub(crate) const ALL: [Self; 5] = [Self::Feed, Self::Hydration, Self::Scan, Self::Fetch, Self::Snapshot];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Hydration => "hydration",
            Self::Scan => "scan",
            Self::Fetch => "fetch",
            Self::Snapshot => "snapshot",
        }
    }
}

const REASONS: usize = Reason::ALL.len();

/// Counters of the checks of one mode.
#[derive(Clone)]
pub(crate) struct CheckCounters {
    pub(crate) mode: Mode,
    requests: Counter,
    by_reason: [Counter; REASONS],
    duration: Arc<Latency>,
}

/// Decisions of one request, counted up before they are added to the shared counters at once.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CheckTally([u32; REASONS]);

impl CheckTally {
    pub(crate) fn count(&mut self, reason: Reason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}

impl CheckCounters {
    fn new(mode: Mode) -> Self {
        let by_reason = Reason::ALL.map(|reason| {
            let entitled = if reason.entitles() { "true" } else { "false" };
            counter!(CHECKS, "mode" => mode.name(), "reason" => reason_name(reason), "entitled" => entitled)
        });
        let requests = counter!(CHECK_REQUESTS, "mode" => mode.name());
        let duration = Latency::of(CHECK_DURATION, CHECK_DURATION_MEANING, ("mode", mode.name()));
        Self { mode, requests, by_reason, duration }
    }

    /// A message with checks has come, now.
    pub(crate) fn request(&self) -> Instant {
        self.requests.increment(1);
        Instant::now()
    }

    /// It is answered, with checks, an error or both.
    pub(crate) fn answered(&self, came: Instant) {
        self.duration.record(came.elapsed());
    }

    pub(crate) fn one(&self, reason: Reason) {
        if let Some(counter) = self.by_reason.get(reason as usize) {
            counter.increment(1);
        }
    }

    pub(crate) fn many(&self, tally: &CheckTally) {
        for (counter, count) in self.by_reason.iter().zip(tally.0) {
            if count > 0 {
                counter.increment(u64::from(count));
            }
        }
    }

    /// Errors are rare, their causes few: resolved when needed.
    pub(crate) fn error(&self, cause: &str) {
        counter!(CHECK_ERRORS, "mode" => self.mode.name(), "cause" => bounded_cause(cause)).increment(1);
    }
}

/// The causes that become labels; everything else is `OTHER`.
const CAUSES: [&str; 12] = [
    "INVALID_FIELD",
    "INVALID_REVISION",
    "TOO_LARGE",
    "NOT_READY",
    "DRAINING",
    "REVISION_NOT_REACHED",
    "CATALOG_BEHIND",
    "STORE_UNAVAILABLE",
    "READER_TOO_OLD",
    "OVERLOADED",
    "RATE_LIMITED",
    "DEADLINE_EXCEEDED",
];

fn bounded_cause(cause: &str) -> &'static str {
    CAUSES.into_iter().find(|known| *known == cause).unwrap_or("OTHER")
}

/// The reason as it stands in the API, without its prefix.
pub(crate) fn reason_name(reason: Reason) -> &'static str {
    let name = tessera_proto::convert::decision::to_reason(reason).as_str_name();
    name.strip_prefix("REASON_").unwrap_or(name)
}

type ByKind<T> = [T; StreamKind::ALL.len()];

fn of_kind<T>(all: &ByKind<T>, kind: StreamKind) -> Option<&T> {
    all.get(usize::from(kind as u8).saturating_sub(1))
}

/// All handles. Made after the process's recorder is installed; without one they count nothing.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) unary: CheckCounters,
    pub(crate) batch: CheckCounters,
    pub(crate) stream: CheckCounters,
    pub(crate) ext_authz: CheckCounters,
    pub(crate) lists: Counter,
    applied: [ByKind<Counter>; Source::ALL.len()],
    behind: [Counter; Source::ALL.len()],
    parked_kind: ByKind<Counter>,
    pub(crate) bad_malformed: Counter,
    pub(crate) bad_reader_too_old: Counter,
    pub(crate) bad_record: Counter,
    pub(crate) parked: Gauge,
    pub(crate) bad: Gauge,
    pub(crate) repaired_by_scan: Counter,
    pub(crate) repaired_by_fetch: Counter,
    pub(crate) checksum_alarms: Counter,
    pub(crate) hydration_seconds: Gauge,
    pub(crate) scan_rows: Counter,
    pub(crate) scan_lap: Gauge,
    pub(crate) feed_errors: Counter,
    pub(crate) store_errors: Counter,
    pub(crate) staleness: Gauge,
    streams: ByKind<Gauge>,
    pub(crate) epoch: Gauge,
    pub(crate) ready: Gauge,
    pub(crate) waits_reached: Counter,
    pub(crate) waits_timed_out: Counter,
    pub(crate) fully_consistent_read: Counter,
    pub(crate) fully_consistent_failed: Counter,
    pub(crate) fully_consistent_refused: Counter,
    pub(crate) snapshots_written: Counter,
    pub(crate) snapshots_failed: Counter,
    pub(crate) snapshots_abandoned: Counter,
    pub(crate) snapshot_age: Gauge,
    pub(crate) snapshot_bytes: Gauge,
    pub(crate) snapshot_seconds: Gauge,
    pub(crate) snapshot_served: Gauge,
    pub(crate) watch_streams: Gauge,
    pub(crate) watch_subscriptions: Gauge,
    pub(crate) watch_documents: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe();
        Self {
            unary: CheckCounters::new(Mode::Unary),
            ext_authz: CheckCounters::new(Mode::ExtAuthz),
            batch: CheckCounters::new(Mode::Batch),
            stream: CheckCounters::new(Mode::Stream),
            lists: counter!(LISTS),
            applied: Source::ALL.map(|source| {
                StreamKind::ALL.map(|kind| counter!(CHANGES_APPLIED, "kind" => kind.name(), "source" => source.name()))
            }),
            behind: Source::ALL.map(|source| counter!(CHANGES_BEHIND, "source" => source.name())),
            parked_kind: StreamKind::ALL.map(|kind| counter!(CHANGES_PARKED, "kind" => kind.name())),
            bad_malformed: counter!(CHANGES_BAD, "cause" => "malformed"),
            bad_reader_too_old: counter!(CHANGES_BAD, "cause" => "reader_too_old"),
            bad_record: counter!(CHANGES_BAD, "cause" => "record"),
            parked: gauge!(PARKED),
            bad: gauge!(BAD),
            repaired_by_scan: counter!(REPAIRS, "path" => "scan"),
            repaired_by_fetch: counter!(REPAIRS, "path" => "fetch"),
            checksum_alarms: counter!(CHECKSUM_ALARMS),
            hydration_seconds: gauge!(HYDRATION_SECONDS),
            scan_rows: counter!(SCAN_ROWS),
            scan_lap: gauge!(SCAN_LAP),
            feed_errors: counter!(READ_ERRORS, "source" => "feed"),
            store_errors: counter!(READ_ERRORS, "source" => "store"),
            staleness: gauge!(STALENESS),
            streams: StreamKind::ALL.map(|kind| gauge!(MATRIX_STREAMS, "kind" => kind.name())),
            epoch: gauge!(MATRIX_EPOCH),
            ready: gauge!(READY),
            waits_reached: counter!(AT_LEAST_WAITS, "outcome" => "reached"),
            waits_timed_out: counter!(AT_LEAST_WAITS, "outcome" => "timed_out"),
            fully_consistent_read: counter!(FULLY_CONSISTENT, "outcome" => "read"),
            fully_consistent_failed: counter!(FULLY_CONSISTENT, "outcome" => "failed"),
            fully_consistent_refused: counter!(FULLY_CONSISTENT, "outcome" => "refused"),
            snapshots_written: counter!(SNAPSHOTS, "outcome" => "written"),
            snapshots_failed: counter!(SNAPSHOTS, "outcome" => "failed"),
            snapshots_abandoned: counter!(SNAPSHOTS, "outcome" => "abandoned"),
            snapshot_age: gauge!(SNAPSHOT_AGE),
            snapshot_bytes: gauge!(SNAPSHOT_BYTES),
            snapshot_seconds: gauge!(SNAPSHOT_SECONDS),
            snapshot_served: gauge!(SNAPSHOT_SERVED),
            watch_streams: gauge!(WATCH_STREAMS),
            watch_subscriptions: gauge!(WATCH_SUBSCRIPTIONS),
            watch_documents: counter!(WATCH_DOCUMENTS),
        }
    }

    pub(crate) fn applied(&self, source: Source, kind: StreamKind) {
        if let Some(counter) = self.applied.get(source as usize).and_then(|kinds| of_kind(kinds, kind)) {
            counter.increment(1);
        }
        match source {
            Source::Scan => self.repaired_by_scan.increment(1),
            Source::Fetch => self.repaired_by_fetch.increment(1),
            Source::Feed | Source::Hydration | Source::Snapshot => {}
        }
    }

    pub(crate) fn behind(&self, source: Source) {
        if let Some(counter) = self.behind.get(source as usize) {
            counter.increment(1);
        }
    }

    pub(crate) fn parked(&self, kind: StreamKind) {
        if let Some(counter) = of_kind(&self.parked_kind, kind) {
            counter.increment(1);
        }
    }

    /// A request that an Envoy holds asks nothing: rare, and few reasons.
    pub(crate) fn ext_authz_refused(reason: &'static str) {
        counter!(EXT_AUTHZ_REFUSED, "reason" => reason).increment(1);
    }

    pub(crate) fn hydration(cause: &'static str) {
        counter!(HYDRATIONS, "cause" => cause).increment(1);
    }

    pub(crate) fn snapshot_refused(cause: &'static str) {
        counter!(SNAPSHOTS_REFUSED, "cause" => cause).increment(1);
    }

    pub(crate) fn position(partition: u32, position: u64) {
        gauge!(FEED_POSITION, "partition" => partition.to_string()).set(approximate(position));
    }

    pub(crate) fn streams(&self, kind: StreamKind, count: u64) {
        if let Some(gauge) = of_kind(&self.streams, kind) {
            gauge.set(approximate(count));
        }
    }
}

/// For gauges: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
pub(crate) fn approximate(count: u64) -> f64 {
    count as f64
}

/// Tells the recorder what each metric means.
fn describe() {
    for (name, is_counter, _, meaning) in ALL {
        let unit = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        if is_counter {
            describe_counter!(name, unit, meaning);
        } else {
            describe_gauge!(name, unit, meaning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_and_the_page_lists_every_metric() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md")).unwrap();
        let others =
            ALL.map(|(name, is_counter, labels, meaning)| (name, if is_counter { "counter" } else { "gauge" }, labels, meaning));
        let histograms = HISTOGRAMS.map(|(name, labels, meaning)| (name, "histogram", labels, meaning));
        for (name, kind, labels, meaning) in others.into_iter().chain(histograms) {
            assert!(name.starts_with("tessera_") && name.ends_with("_total") == (kind == "counter"), "{name}");
            let labels = if labels.is_empty() { "–".to_owned() } else { format!("`{}`", labels.replace(", ", "`, `")) };
            let row = format!("| `{name}` | {kind} | {labels} | {meaning} |");
            assert!(page.contains(&row), "docs/METRICS.md lacks the row\n{row}");
        }
        assert_eq!(ALL.map(|(name, ..)| name).iter().collect::<std::collections::HashSet<_>>().len(), ALL.len());
    }

    #[test]
    fn reasons_count_in_their_own_place() {
        let mut tally = CheckTally::default();
        for reason in Reason::ALL {
            tally.count(reason);
        }
        assert_eq!(tally.0, [1; REASONS]);
    }
}
