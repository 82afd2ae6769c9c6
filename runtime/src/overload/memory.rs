//! How much of the memory that the process may have is in use, as its control group counts it. The kernel kills a process that
//! passes its limit, and with it every answer; so new calls are refused before (F6: nothing is aborted, load is shed).
//!
//! What the kernel takes back by itself when it is short (pages of files: what was read from or written to disk) does not count:
//! else a snapshot would look like an overload. Pages that were read more than once are on the list of active ones, as all of a
//! database are that is scanned lap after lap; the kernel takes them back, too, so neither list counts. Memory that processes
//! share is on neither, and counts. Where there is no limit, or nobody can tell, nothing is refused. Both versions of control
//! groups are read: cgroup v2 (`memory.max`, `memory.current`) and v1 (`memory.limit_in_bytes`, `memory.usage_in_bytes`).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::gauge;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::lifecycle::Tasks;
use crate::metric_definitions::MEMORY_USED_RATIO;

/// It is looked at so often: at a gigabit a second, what can come in meanwhile is 12 MB.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A group with a limit is looked for so often where none was found: there may have been no file descriptor to look with.
const FIND_EVERY: Duration = Duration::from_secs(10);
/// For so long the last figure is as good as a new one.
const FIGURE_AGE_MAX: Duration = Duration::from_secs(5);
/// More than any machine has: how version 1 says that there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// A control group with a limit. How high it is may be changed at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

/// What the files of a version are called.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    limit: &'static str,
    used: &'static str,
    /// Of `memory.stat`, groups below included.
    given_back: [&'static str; 2],
}

const SECOND_VERSION: Names = Names { limit: "memory.max", used: "memory.current", given_back: ["inactive_file", "active_file"] };
const FIRST_VERSION: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    given_back: ["total_inactive_file", "total_active_file"],
};

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
            let group = Self { folder: folder.to_owned(), names };
            let limit = group.limit().filter(|limit| *limit < NO_LIMIT)?;
            Some((limit, group))
        });
        limited.min_by_key(|(limit, _)| *limit).map(|(_, group)| group)
    }

    /// In bytes; version 2 says in a word that there is none any more.
    fn limit(&self) -> Option<u64> {
        let limit = std::fs::read_to_string(self.folder.join(self.names.limit)).ok()?;
        if limit.trim() == "max" { Some(u64::MAX) } else { limit.trim().parse().ok() }
    }

    /// Bytes in use that the kernel cannot take back.
    fn used(&self) -> Option<u64> {
        let used = number(&self.folder.join(self.names.used))?;
        let stat = match std::fs::read_to_string(self.folder.join("memory.stat")) {
            Ok(stat) => stat,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            // Without it pages of files would count.
            Err(_) => return None,
        };
        let bytes = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let given_back = self.names.given_back.into_iter().filter_map(bytes).fold(0, u64::saturating_add);
        Some(used.saturating_sub(given_back))
    }

    /// What is in use, in percent of the limit as it is now.
    fn percent(&self) -> Option<u64> {
        Some(self.used()?.saturating_mul(100) / self.limit()?.max(1))
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

    /// Begins to look at the group of this process, if it has a limit, or as soon as it is seen to have one; for as long as there
    /// are calls.
    pub(crate) fn start(&self, tasks: &Tasks) {
        tasks.spawn_behind("overload.memory", self.clone().follow(PathBuf::from("/")));
    }

    async fn follow(self, system: PathBuf) -> anyhow::Result<()> {
        let (mut found, mut looks) = (None, Looks::default());
        loop {
            if found.is_none() {
                found = Group::of_process(&system);
                if let Some(limit) = found.as_ref().and_then(Group::limit) {
                    info!(limit_bytes = limit, "memory has a limit: calls are refused when it is nearly used up");
                }
            }
            if let Some(group) = &found {
                match looks.note(group.percent(), Instant::now()) {
                    Some(Turn::Lost) => {
                        let folder = group.folder.display();
                        warn!(group = %folder, "cannot read how much memory is in use: soon nothing is refused for it");
                    }
                    Some(Turn::Back) => info!("it can be read again how much memory is in use"),
                    None => {}
                }
                self.0.store(looks.percent, Ordering::Relaxed);
                gauge!(MEMORY_USED_RATIO).set(u32::try_from(looks.percent).map_or(0.0, |percent| f64::from(percent) / 100.0));
            }
            let pause = if found.is_some() { LOOK_EVERY } else { FIND_EVERY };
            tokio::time::sleep(pause).await;
        }
    }

    /// As if so much were in use.
    #[cfg(test)]
    pub(crate) fn set(&self, percent: u64) {
        self.0.store(percent, Ordering::Relaxed);
    }
}

/// What many looks come to.
#[derive(Debug, Default)]
struct Looks {
    /// In use as far as is known; 0 when it is not.
    percent: u64,
    /// Since when nothing could be read.
    lost: Option<Instant>,
}

/// Something to be told, once each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Lost,
    Back,
}

impl Looks {
    /// Takes note of what a look at `now` has seen. A figure that cannot be had any more is kept for a moment, since file
    /// descriptors are short when much is asked, and not for ever: calls would be refused, or not, whatever is in use.
    fn note(&mut self, seen: Option<u64>, now: Instant) -> Option<Turn> {
        if let Some(percent) = seen {
            self.percent = percent;
            return self.lost.take().map(|_| Turn::Back);
        }
        let is_new = self.lost.is_none();
        let lost = *self.lost.get_or_insert(now);
        if now.duration_since(lost) >= FIGURE_AGE_MAX {
            self.percent = 0;
        }
        is_new.then_some(Turn::Lost)
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
            ("sys/fs/cgroup/a/memory.stat", "anon 300\nshmem 90\ninactive_file 200\nactive_file 150\nslab 1\n"),
        ];
        assert_eq!(percent(&files), Some(55), "the limit is of the group above, and pages of files do not count");
        let inside = [
            ("proc/self/cgroup", "0::/kubepods/pod7\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "900\n"),
        ];
        assert_eq!(percent(&inside), Some(90), "inside of a container the path may be that outside of it");
    }

    #[test]
    fn the_first_version_is_read() {
        let stat = "inactive_file 9\nactive_file 8\ntotal_inactive_file 100\ntotal_active_file 160\n";
        let limit = |limit| {
            percent(&[
                ("proc/self/cgroup", "9:name=systemd:/\n8:cpu,memory:/a\n0::/\n"),
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "500\n"),
                ("sys/fs/cgroup/memory/a/memory.stat", stat),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ])
        };
        assert_eq!(limit("800\n"), Some(30));
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

    #[test]
    fn a_limit_that_is_changed_is_the_one_that_counts() {
        let system = system(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "900\n"),
        ]);
        let group = Group::of_process(system.path()).unwrap();
        for (limit, percent) in [("1000\n", 90), ("2000\n", 45), ("900\n", 100), ("max\n", 0), ("1800\n", 50)] {
            fs::write(system.path().join("sys/fs/cgroup/memory.max"), limit).unwrap();
            assert_eq!(group.percent(), Some(percent), "{limit}");
        }
        fs::remove_file(system.path().join("sys/fs/cgroup/memory.max")).unwrap();
        assert_eq!(group.percent(), None, "nobody can tell");
    }

    #[test]
    fn pages_of_files_that_cannot_be_told_apart_are_no_figure() {
        let system = system(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "900\n"),
            // A folder is there and cannot be read.
            ("sys/fs/cgroup/memory.stat/x", ""),
        ]);
        assert_eq!(Group::of_process(system.path()).unwrap().percent(), None);
    }

    #[test]
    fn a_figure_is_kept_for_a_moment_and_each_outage_is_told_once() {
        let (mut looks, mut now) = (Looks::default(), Instant::now());
        let mut note = |seen, later: Duration| {
            now += later;
            let turn = looks.note(seen, now);
            (looks.percent, turn)
        };
        for _ in 0..2 {
            note(Some(90), LOOK_EVERY);
            assert_eq!(note(None, LOOK_EVERY), (90, Some(Turn::Lost)));
            assert_eq!(note(None, FIGURE_AGE_MAX.saturating_sub(LOOK_EVERY)), (90, None));
            assert_eq!(note(None, LOOK_EVERY), (0, None), "nobody knows any more");
            assert_eq!(note(None, FIGURE_AGE_MAX), (0, None));
            assert_eq!(note(Some(91), LOOK_EVERY), (91, Some(Turn::Back)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_cannot_be_found_at_first_is_found_later() {
        let (system, tasks, memory) = (system(&[("proc/self/cgroup", "0::/\n")]), Tasks::new(), Memory::default());
        tasks.spawn_behind("memory", memory.clone().follow(system.path().to_owned()));
        // Calls are still taken then.
        tasks.shutdown().drain();
        tokio::task::yield_now().await;
        assert_eq!(memory.percent(), 0);
        let group = system.path().join("sys/fs/cgroup");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.max"), "1000\n").unwrap();
        fs::write(group.join("memory.current"), "900\n").unwrap();
        let found = async {
            while memory.percent() != 90 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(2 * FIND_EVERY, found).await.expect("found");
    }
}
