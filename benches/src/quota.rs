//! Less of the machine than there is: processes with a part of a core, or with a limit on their memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::place;

/// What is measured out: so much of a core in each such time. Shorter than what anybody waits for.
const PERIOD: Duration = Duration::from_millis(1);
/// The others have so much of it.
const OTHERS_PART: Duration = Duration::from_micros(750);

/// A process has a quarter of a core as long as this lives.
///
/// Control groups are too coarse for that: the kernel looks at its ticks how much of a quota is used. Where there are 250 of those a
/// second, 1 ms of every 4 is in truth 4 ms of every 16, and whoever is to be served waits up to 12 ms for the kernel alone.
#[derive(Debug)]
pub struct QuarterCore {
    over: Option<Sender<()>>,
    taking: Option<JoinHandle<()>>,
    /// There is one at a time in a process: two of them would leave nothing of the core.
    _only: MutexGuard<'static, ()>,
}

impl QuarterCore {
    /// Of that process, all threads of which move to one. A thread of ours that goes before everybody is busy there for the rest
    /// of the time; where we may not have such a thread, the process is stopped instead.
    pub fn of(pid: Pid) -> anyhow::Result<Self> {
        static ONLY: Mutex<()> = Mutex::new(());
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let core = place::serving_core();
        place::move_process(pid, core)?;
        let (over, is_over) = mpsc::channel();
        let taking = std::thread::spawn(move || {
            let moved = place::move_thread(None, core);
            if moved.is_ok() && place::go_before_everybody() { be_busy(&is_over) } else { stop_and_go(pid, &is_over) }
        });
        Ok(Self { over: Some(over), taking: Some(taking), _only: only })
    }

    /// From now on it has that core to itself; no other process is held to a quarter before this is dropped.
    pub fn lift(&mut self) {
        drop(self.over.take());
        drop(self.taking.take().map(JoinHandle::join));
    }
}

impl Drop for QuarterCore {
    fn drop(&mut self) {
        self.lift();
    }
}

/// Leaves a part of the time to the others on its core.
fn be_busy(is_over: &Receiver<()>) {
    let mut begun = Instant::now();
    loop {
        // What a moment of standing still took is not made up for.
        while begun.elapsed() < OTHERS_PART {
            std::hint::spin_loop();
        }
        begun += PERIOD;
        if !goes_on(is_over, begun.saturating_duration_since(Instant::now())) {
            return;
        }
    }
}

fn stop_and_go(pid: Pid, is_over: &Receiver<()>) {
    // That it has ended is for others to notice.
    while kill_process(pid, Signal::STOP).is_ok() {
        let mut more = goes_on(is_over, OTHERS_PART);
        more &= kill_process(pid, Signal::CONT).is_ok();
        if !more || !goes_on(is_over, PERIOD.saturating_sub(OTHERS_PART)) {
            return;
        }
    }
}

/// After that time, unless it is over.
fn goes_on(is_over: &Receiver<()>, after: Duration) -> bool {
    is_over.recv_timeout(after) == Err(RecvTimeoutError::Timeout)
}

/// Processes with a limit on their memory, by a control group of our own.
#[derive(Debug)]
pub struct MemoryLimit {
    group: PathBuf,
}

impl MemoryLimit {
    /// So many bytes for all of them; `None` where we may make no control group, of either version.
    pub fn of(bytes: u64) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mounted = Path::new("/sys/fs/cgroup");
        let of_first = mounted.join("memory");
        let is_first = of_first.join("cgroup.procs").exists();
        let (above, file) = if is_first { (of_first.as_path(), "memory.limit_in_bytes") } else { (mounted, "memory.max") };
        let group = above.join(format!("tessera-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&group).ok()?;
        let limit = Self { group };
        fs::write(limit.group.join(file), bytes.to_string()).ok()?;
        // Whether somebody may be put into it is seen only then.
        let mut someone = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().ok()?;
        let may = fs::write(limit.processes(), someone.id().to_string()).is_ok();
        drop(someone.kill());
        drop(someone.wait());
        may.then_some(limit)
    }

    fn processes(&self) -> PathBuf {
        self.group.join("cgroup.procs")
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
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.processes()).arg(program);
        command
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Whoever is left goes up again.
        let left = fs::read_to_string(self.processes()).unwrap_or_default();
        let above = self.group.parent().map(|above| above.join("cgroup.procs"));
        for pid in left.lines() {
            drop(above.as_ref().map(|above| fs::write(above, pid)));
        }
        drop(fs::remove_dir(&self.group));
    }
}
