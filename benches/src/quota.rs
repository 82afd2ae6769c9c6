//! Less of the machine than there is: processes with a part of a core, or with a limit on their memory. Control groups of either
//! version do it where this user may make some.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

/// Where control groups are.
const MOUNTED: &str = "/sys/fs/cgroup";
/// What is measured out: so much of a core in each such time. Shorter than what anybody waits for.
const PERIOD: Duration = Duration::from_millis(4);
const SHARE: u32 = 4;

/// A control group of our own; taken away when dropped, which needs the processes in it to have ended, or to be let go.
#[derive(Debug)]
struct ControlGroup {
    folder: PathBuf,
}

impl ControlGroup {
    /// With limits, which are written to these files of the first version of control groups or to that of the second; `None` where
    /// we may not.
    fn make(controller: &str, of_first: &[(&str, u128)], of_second: (&str, String)) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mounted = Path::new(MOUNTED);
        let first = mounted.join(controller);
        let is_first = first.join("cgroup.procs").exists();
        let name = format!("tessera-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = if is_first { first } else { mounted.to_owned() }.join(name);
        fs::create_dir(&folder).ok()?;
        let group = Self { folder };
        if !is_first {
            fs::write(group.folder.join(of_second.0), of_second.1).ok()?;
            return Some(group);
        }
        for (file, value) in of_first {
            fs::write(group.folder.join(file), value.to_string()).ok()?;
        }
        Some(group)
    }

    fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Whoever is left goes up again.
        let left = fs::read_to_string(self.processes()).unwrap_or_default();
        let above = self.folder.parent().map(|above| above.join("cgroup.procs"));
        for pid in left.lines() {
            drop(above.as_ref().map(|above| fs::write(above, pid)));
        }
        drop(fs::remove_dir(&self.folder));
    }
}

/// A process has a quarter of a core as long as this lives.
#[derive(Debug)]
pub struct QuarterCore {
    _group: Option<ControlGroup>,
    stopped: Option<(Sender<()>, JoinHandle<()>)>,
}

impl QuarterCore {
    /// Of that process. Where we may make no control groups, it is stopped for three quarters of the time.
    pub fn of(pid: Pid) -> Self {
        let (quota, period) = (PERIOD.as_micros() / u128::from(SHARE), PERIOD.as_micros());
        let of_first = [("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota)];
        let group = ControlGroup::make("cpu", &of_first, ("cpu.max", format!("{quota} {period}")));
        let number = pid.as_raw_nonzero().to_string();
        if let Some(group) = group.filter(|group| fs::write(group.processes(), number).is_ok()) {
            return Self { _group: Some(group), stopped: None };
        }
        let (over, is_over) = mpsc::channel::<()>();
        let goes_on = move |time| is_over.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        let stopping = std::thread::spawn(move || {
            // That it has ended is for others to notice.
            while kill_process(pid, Signal::STOP).is_ok() {
                let mut more = goes_on(PERIOD.saturating_sub(PERIOD / SHARE));
                more &= kill_process(pid, Signal::CONT).is_ok();
                if !more || !goes_on(PERIOD / SHARE) {
                    break;
                }
            }
        });
        Self { _group: None, stopped: Some((over, stopping)) }
    }
}

impl Drop for QuarterCore {
    fn drop(&mut self) {
        if let Some((over, stopping)) = self.stopped.take() {
            drop(over);
            drop(stopping.join());
        }
    }
}

/// Processes with a limit on their memory.
#[derive(Debug)]
pub struct MemoryLimit(ControlGroup);

impl MemoryLimit {
    /// So many bytes for all of them; `None` where we may make no control groups.
    pub fn of(bytes: u64) -> Option<Self> {
        let group = ControlGroup::make("memory", &[("memory.limit_in_bytes", bytes.into())], ("memory.max", bytes.to_string()))?;
        // Whether somebody may be put into it is seen only then.
        let mut someone = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().ok()?;
        let may = fs::write(group.processes(), someone.id().to_string()).is_ok();
        drop(someone.kill());
        drop(someone.wait());
        may.then_some(Self(group))
    }

    /// So many bytes of it are in use as long as the file lives, which is in memory.
    pub fn fill(&self, bytes: u64) -> anyhow::Result<NamedTempFile> {
        let file = NamedTempFile::new_in("/dev/shm").context("a file in memory")?;
        let mut zeros = self.start(Path::new("head"));
        let written = zeros.arg("-c").arg(bytes.to_string()).arg("/dev/zero").stdout(file.reopen()?).status()?;
        ensure!(written.success(), "fill the memory: {written}");
        Ok(file)
    }

    /// What starts `program` in it.
    pub fn start(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.0.processes()).arg(program);
        command
    }
}
