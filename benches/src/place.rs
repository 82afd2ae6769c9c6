//! Where processes and threads run: on which core, and before whom.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// The core of what is measured: the first that we may have.
pub fn serving_core() -> usize {
    ours().next().unwrap_or_default()
}

/// The core of what asks it: the last one.
pub fn asking_core() -> usize {
    ours().last().unwrap_or_default()
}

/// The cores that we may have.
fn ours() -> impl Iterator<Item = usize> {
    let cores = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(move |core| cores.is_set(*core))
}

/// A command that runs on that core alone, where the system has `taskset`; elsewhere it runs anywhere.
pub fn pinned(program: &Path, core: usize) -> Command {
    started_by(&["taskset", "-c", &core.to_string()], program).unwrap_or_else(|| Command::new(program))
}

/// As [`pinned`], and before all others there, where that is allowed: who shares a core with whoever asks too much then sees what
/// the server makes of that, and not what the scheduler does.
pub fn pinned_before_others(program: &Path, core: usize) -> Command {
    let words = ["chrt", "--fifo", "10", "taskset", "-c", &core.to_string()];
    started_by(&words, program).unwrap_or_else(|| pinned(program, core))
}

/// A program that is started by other words, if they can do that.
fn started_by(words: &[&str], program: &Path) -> Option<Command> {
    let (first, rest) = words.split_first()?;
    let start = |program| {
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    };
    let tried = start(Path::new("true")).stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success()).then(|| start(program))
}

/// Moves a thread to a core; its own if no other is named.
pub fn move_thread(thread: Option<Pid>, core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(thread, &cores).with_context(|| format!("move a thread to core {core}"))
}

/// Moves all threads of a process to a core.
pub fn move_process(process: Pid, core: usize) -> anyhow::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{process}/task")).context("the threads of a process")? {
        let name = task?.file_name();
        let thread = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        move_thread(Some(thread.with_context(|| format!("thread `{}`", name.display()))?), core)?;
    }
    Ok(())
}

/// Puts the thread that calls into the scheduler's real-time class; whether that is allowed.
pub fn go_before_everybody() -> bool {
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "50", &gettid().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    chrt.status().is_ok_and(|status| status.success())
}
