//! How much of the memory that the process may have is in use, as its control group counts it. The kernel kills a process that
//! passes its limit, and with it every answer; so new calls are refused before (F6: nothing is aborted, load is shed).
//!
//! What the kernel gives back by itself when it is short (`inactive_file`, what was read from or written to disk) does not count:
//! else a snapshot would look like an overload. Where there is no limit nothing is refused. Both versions of control groups are
//! read: cgroup v2 (`memory.max`, `memory.current`) and v1 (`memory.limit_in_bytes`, `memory.usage_in_bytes`).

use std::path::{Path, PathBuf};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::gauge;
use tracing::{info, warn};

use crate::lifecycle::{Shutdown, Tasks};
use crate::metric_definitions::MEMORY_USED_RATIO;

/// It is looked at so often: at a gigabit a second, what can come in meanwhile is 12 MB.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// More than any machine has: how version 1 says that there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// A control group with a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    limit: u64,
    names: &'static Names,
}

/// What the files of a version are called.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    limit: &'static str,
    used: &'static str,
    /// Of `memory.stat`.
    given_back: &'static str,
}

const SECOND_VERSION: Names = Names { limit: "memory.max", used: "memory.current", given_back: "inactive_file" };
const FIRST_VERSION: Names =
    Names { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", given_back: "total_inactive_file" };

impl Group {
    /// The group with the lowest limit of those that the process is in. `system` is the root of all files.
    fn of_process(system: &Path) -> Option<Self> {
        let groups = std::fs::read_to_string(system.join("proc/self/cgroup")).ok()?;
        let mounted = system.join("sys/fs/cgroup");
        let first = path_of(&groups, |controllers| controllers.split(',').any(|name| name == "memory"))
            .and_then(|path| Self::lowest(&mounted.join("memory"), path, &FIRST_VERSION));
        first.or_else(|| Self::lowest(&mounted, path_of(&groups, str::is_empty)?, &SECOND_VERSION))
    }

    /// The one with the lowest limit from `path` up to `root`. Inside of a container the path may be that outside of it, which is
    /// not there; the root is.
    fn lowest(root: &Path, path: &str, names: &'static Names) -> Option<Self> {
        let own = root.join(path.trim_start_matches('/'));
        let groups = own.ancestors().take_while(|folder| folder.starts_with(root));
        let limited = groups.filter_map(|folder| {
            let limit = number(&folder.join(names.limit)).filter(|limit| *limit < NO_LIMIT)?;
            Some(Self { folder: folder.to_owned(), limit, names })
        });
        limited.min_by_key(|group| group.limit)
    }

    /// Bytes in use that the kernel cannot take back.
    fn used(&self) -> Option<u64> {
        let used = number(&self.folder.join(self.names.used))?;
        let stat = std::fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let given_back = stat.lines().find_map(|line| line.strip_prefix(self.names.given_back)?.trim().parse::<u64>().ok());
        Some(used.saturating_sub(given_back.unwrap_or(0)))
    }

    /// What is in use, in percent of the limit.
    fn percent(&self) -> Option<u64> {
        Some(self.used()?.saturating_mul(100) / self.limit.max(1))
    }
}

/// The path of the group in the line of `/proc/self/cgroup` whose controllers are these.
fn path_of(groups: &str, is_it: impl Fn(&str) -> bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        is_it(controllers).then_some(path)
    })
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What was seen last. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<AtomicU64>);

impl Memory {
    /// Percent of the limit that are in use; 0 where there is none.
    pub(crate) fn percent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins to look at the group of this process, if it has a limit.
    pub(crate) fn start(&self, tasks: &Tasks) {
        let Some(group) = Group::of_process(Path::new("/")) else { return };
        info!(limit_bytes = group.limit, "memory has a limit: calls are refused when it is nearly used up");
        tasks.spawn("overload.memory", self.clone().follow(group, tasks.shutdown()));
    }

    async fn follow(self, group: Group, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut told = false;
        loop {
            match group.percent() {
                Some(percent) => {
                    self.0.store(percent, Ordering::Relaxed);
                    gauge!(MEMORY_USED_RATIO).set(u32::try_from(percent).map_or(0.0, |percent| f64::from(percent) / 100.0));
                }
                None if told => {}
                None => {
                    told = true;
                    self.0.store(0, Ordering::Relaxed);
                    warn!(group = %group.folder.display(), "cannot read how much memory is in use: nothing is refused for it");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.soft.cancelled() => return Ok(()),
            }
        }
    }

    /// As if so much were in use.
    #[cfg(test)]
    pub(crate) fn set(&self, percent: u64) {
        self.0.store(percent, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let system = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = system.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        system
    }

    fn percent(files: &[(&str, &str)]) -> Option<u64> {
        Group::of_process(system(files).path())?.percent()
    }

    #[test]
    fn the_second_version_is_read() {
        let files = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/memory.current", "900\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 300\ninactive_file 200\nslab 1\n"),
        ];
        assert_eq!(percent(&files), Some(70), "the limit is of the group above");
        let inside = [
            ("proc/self/cgroup", "0::/kubepods/pod7\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "900\n"),
        ];
        assert_eq!(percent(&inside), Some(90), "inside of a container the path may be that outside of it");
    }

    #[test]
    fn the_first_version_is_read() {
        let limit = |limit| {
            percent(&[
                ("proc/self/cgroup", "9:name=systemd:/\n8:cpu,memory:/a\n0::/\n"),
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "500\n"),
                ("sys/fs/cgroup/memory/a/memory.stat", "inactive_file 9\ntotal_inactive_file 100\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ])
        };
        assert_eq!(limit("800\n"), Some(50));
        assert_eq!(limit("9223372036854771712\n"), None);
    }

    #[test]
    fn where_there_is_no_limit_there_is_nothing_to_look_at() {
        assert_eq!(percent(&[]), None);
        assert_eq!(percent(&[("proc/self/cgroup", "0::/\n")]), None);
        assert_eq!(percent(&[("proc/self/cgroup", "nonsense\n::\n")]), None);
        let no_figures = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "1000\n")];
        assert_eq!(percent(&no_figures), None);
    }
}
