//! The metrics that every process has, whichever plane it is, and how they are read. docs/METRICS.md lists them, and a test
//! compares.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::telemetry;

/// Memory of the process that is in RAM.
pub const RESIDENT_MEMORY: &str = "tessera_resident_memory_bytes";
/// Connections of gRPC listeners that are open.
pub const CONNECTIONS: &str = "tessera_connections";
/// Connections that were closed as soon as they were accepted.
pub const CONNECTIONS_REFUSED: &str = "tessera_connections_refused_total";
/// Connections that ended.
pub const CONNECTIONS_ENDED: &str = "tessera_connections_ended_total";
/// Streams that were reset because nobody read them.
pub const SLOW_READERS: &str = "tessera_slow_readers_total";
/// Calls that were refused since too much was asked.
pub const CALLS_REFUSED: &str = "tessera_calls_refused_total";
/// How much of the memory that the process may have is in use.
pub const MEMORY_USED_RATIO: &str = "tessera_memory_used_ratio";
/// Calls that panicked.
pub const CALL_PANICS: &str = "tessera_call_panics_total";
/// When the certificate in use ends.
pub const TLS_EXPIRY: &str = "tessera_tls_certificate_expiry_seconds";
/// New certificates that were found.
pub const TLS_RELOADS: &str = "tessera_tls_reloads_total";

/// Always 1; its labels say what runs.
pub const BUILD_INFO: &str = "tessera_build_info";
/// Lines of the log, by level.
pub const LOG_LINES: &str = "tessera_log_lines_total";
/// Spans that were sampled, and sent or lost.
pub const TRACE_SPANS_SENT: &str = "tessera_trace_spans_sent_total";
/// Spans that were sampled and lost, by cause.
pub const TRACE_SPANS_DROPPED: &str = "tessera_trace_spans_dropped_total";

/// Which version this is: that of the crates.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What was built, where whoever built it said so in the environment.
pub const COMMIT: &str = match option_env!("TESSERA_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// Every metric: its kind and unit, its labels, and what it means.
const ALL: [(&str, Kind, Unit, &[&str], &str); 14] = [
    (
        BUILD_INFO,
        Kind::Gauge,
        Unit::Count,
        &["version", "commit"],
        "always 1: what runs; the commit is `unknown` where the build was not told",
    ),
    (LOG_LINES, Kind::Counter, Unit::Count, &["level"], "lines of ours (targets `tessera…`) logged at `error` and `warn`"),
    (TRACE_SPANS_SENT, Kind::Counter, Unit::Count, &[], "spans that the collector has taken"),
    (
        TRACE_SPANS_DROPPED,
        Kind::Counter,
        Unit::Count,
        &["cause"],
        "spans that were sampled and lost: `queue` full, or `export` failed",
    ),
    (RESIDENT_MEMORY, Kind::Gauge, Unit::Bytes, &[], "memory of the process that is in RAM, in bytes; Linux only"),
    (CONNECTIONS, Kind::Gauge, Unit::Count, &[], "connections of the gRPC listeners that are open now"),
    (CONNECTIONS_REFUSED, Kind::Counter, Unit::Count, &["cause"], "connections closed as soon as they were accepted"),
    (CONNECTIONS_ENDED, Kind::Counter, Unit::Count, &["cause"], "connections of the gRPC listeners that ended"),
    (SLOW_READERS, Kind::Counter, Unit::Count, &[], "streams that were reset since their reader took nothing for too long"),
    (
        CALLS_REFUSED,
        Kind::Counter,
        Unit::Count,
        &["cause"],
        "calls refused before they were looked at: they would have had to `wait` too long, `memory` is nearly used up, or there were too many to `health`",
    ),
    (
        MEMORY_USED_RATIO,
        Kind::Gauge,
        Unit::Count,
        &[],
        "memory in use in parts of the limit of the control group, 0 to 1; only where there is a limit",
    ),
    (CALL_PANICS, Kind::Counter, Unit::Count, &[], "calls that panicked and were answered INTERNAL; a human must look"),
    (TLS_EXPIRY, Kind::Gauge, Unit::Seconds, &[], "when the certificate in use ends, in seconds since 1970; only with TLS"),
    (TLS_RELOADS, Kind::Counter, Unit::Count, &["outcome"], "changes of the files of TLS that were taken or refused"),
];

/// Says what they mean, to the recorder of this process.
pub(crate) fn describe() {
    for (name, kind, unit, _, meaning) in ALL {
        match kind {
            Kind::Counter => describe_counter!(name, unit, meaning),
            Kind::Gauge => describe_gauge!(name, unit, meaning),
        }
    }
    gauge!(BUILD_INFO, "version" => VERSION, "commit" => COMMIT).set(1.0);
    // There from the start: who compares two readings of a counter sees nothing of one that begins at 1.
    counter!(CALL_PANICS).increment(0);
}

/// Reads them anew. Where the system does not tell, they stay away.
pub(crate) fn observe() {
    let (errors, warnings) = telemetry::lines();
    counter!(LOG_LINES, "level" => "error").absolute(errors);
    counter!(LOG_LINES, "level" => "warn").absolute(warnings);
    if let Some(bytes) = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident(&status)) {
        gauge!(RESIDENT_MEMORY).set(bytes);
    }
}

/// What Linux says of a process, in bytes; it tells in KiB.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(f64::from(kib) * 1024.0)
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn the_page_lists_them() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md")).unwrap();
        for (name, kind, _, labels, meaning) in ALL {
            let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            let row = format!("| `{name}` | {kind} | {labels} | {meaning} |");
            assert!(page.contains(&row), "docs/METRICS.md lacks the row\n{row}");
        }
    }

    #[test]
    fn the_first_panic_is_one_more_than_before() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, describe);
        let page = recorder.handle().render();
        assert!(page.lines().any(|line| line == format!("{CALL_PANICS} 0")), "{page}");
    }

    #[test]
    fn what_linux_says_is_read() {
        let status = "Name:\ttessera\nVmPeak:\t  300000 kB\nVmRSS:\t  123456 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(resident(status), Some(126_418_944.0));
        assert_eq!(resident("VmRSS:\t12 pages\n"), None);
        assert_eq!(resident(""), None);
    }
}
