//! The metrics that every process has, whichever plane it is, and how they are read. docs/METRICS.md lists them, and a test
//! compares.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::telemetry;

/// Memory of the process that is in RAM.
pub const RESIDENT_MEMORY: &str = "tessera_resident_memory_bytes";

/// Always 1; its labels say what runs.
pub const BUILD_INFO: &str = "tessera_build_info";
/// Lines of the log, by level.
pub const LOG_LINES: &str = "tessera_log_lines_total";
/// Spans that were sampled, and sent or lost.
pub const TRACE_SPANS_SENT: &str = "tessera_trace_spans_sent_total";
/// Spans that were sampled and lost, by cause.
pub const TRACE_SPANS_DROPPED: &str = "tessera_trace_spans_dropped_total";

/// Name, kind, labels, meaning: what docs/METRICS.md shows.
const ALL: [(&str, &str, &str, &str); 5] = [
    (BUILD_INFO, "gauge", "`version`, `commit`", "always 1: what runs; the commit is `unknown` where the build was not told"),
    (RESIDENT_MEMORY, "gauge", "–", "memory of the process that is in RAM, in bytes; Linux only"),
    (LOG_LINES, "counter", "`level`", "lines logged at `error` and `warn`"),
    (TRACE_SPANS_SENT, "counter", "–", "spans that the collector has taken"),
    (TRACE_SPANS_DROPPED, "counter", "`cause`", "spans that were sampled and lost: `queue` full, or `export` failed"),
];

/// Which version this is: that of the crates.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What was built, where whoever built it said so in the environment.
pub const COMMIT: &str = match option_env!("TESSERA_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Says what they mean, to the recorder of this process.
pub(crate) fn describe() {
    for (name, kind, _, meaning) in ALL {
        let unit = if name.ends_with("_bytes") { Unit::Bytes } else { Unit::Count };
        match kind {
            "counter" => describe_counter!(name, unit, meaning),
            _ => describe_gauge!(name, unit, meaning),
        }
    }
    gauge!(BUILD_INFO, "version" => VERSION, "commit" => COMMIT).set(1.0);
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
    use super::*;

    #[test]
    fn the_page_lists_them() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md")).unwrap();
        for (name, kind, labels, meaning) in ALL {
            let row = format!("| `{name}` | {kind} | {labels} | {meaning} |");
            assert!(page.contains(&row), "docs/METRICS.md lacks the row\n{row}");
        }
    }

    #[test]
    fn what_linux_says_is_read() {
        let status = "Name:\ttessera\nVmPeak:\t  300000 kB\nVmRSS:\t  123456 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(resident(status), Some(126_418_944.0));
        assert_eq!(resident("VmRSS:\t12 pages\n"), None);
        assert_eq!(resident(""), None);
    }
}
