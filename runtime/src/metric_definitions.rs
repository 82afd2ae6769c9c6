//! The metrics that every process has, whichever plane it is, and how they are read. docs/METRICS.md lists them, and a test
//! compares.

use metrics::{Unit, describe_gauge, gauge};

/// Memory of the process that is in RAM.
pub const RESIDENT_MEMORY: &str = "tessera_resident_memory_bytes";

const RESIDENT_MEMORY_MEANING: &str = "memory of the process that is in RAM, in bytes; Linux only";

/// Says what they mean, to the recorder of this process.
pub(crate) fn describe() {
    describe_gauge!(RESIDENT_MEMORY, Unit::Bytes, RESIDENT_MEMORY_MEANING);
}

/// Reads them anew. Where the system does not tell, they stay away.
pub(crate) fn observe() {
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
        let row = format!("| `{RESIDENT_MEMORY}` | gauge | – | {RESIDENT_MEMORY_MEANING} |");
        assert!(page.contains(&row), "docs/METRICS.md lacks the row\n{row}");
    }

    #[test]
    fn what_linux_says_is_read() {
        let status = "Name:\ttessera\nVmPeak:\t  300000 kB\nVmRSS:\t  123456 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(resident(status), Some(126_418_944.0));
        assert_eq!(resident("VmRSS:\t12 pages\n"), None);
        assert_eq!(resident(""), None);
    }
}
