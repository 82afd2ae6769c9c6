//! One process of an engine: started so that it ends with us, or so that it does not; signalled, and reaped. The crate's own
//! documentation says how the watchdog works and why there is one. What the program is, is none of this file's business.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};

use crate::waiting;

/// Runs the program in this shell's place once a line has come; without one (the starter is gone) it ends.
const UPON_A_WORD: &str = r#"read -r word && exec "$@" < /dev/null"#;

/// Ends at a line. Without one the starter is gone: the process is killed and its folder, if any, removed, twice because a
/// process that is being killed may still make a file.
const WATCH: &str =
    r#"read -r word || { kill -9 "$1"; test -z "$2" || rm -rf -- "$2" || { sleep 1; rm -rf -- "$2"; }; } 2> /dev/null"#;

/// How long the kernel may take to end a process that was killed.
const DEATH: Duration = Duration::from_secs(30);

/// What is run, and where.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The program and its arguments.
    pub(crate) words: &'a [OsString],
    /// Its working folder.
    pub(crate) folder: &'a Path,
    /// Where its output goes.
    pub(crate) log: File,
}

/// A running child, or one that ended and was not looked at yet.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Watchdog {
    child: Child,
    /// Dropped without a word, it kills.
    pipe: Option<ChildStdin>,
}

// === impl Process ===

impl Process {
    /// Starts a process that ends with ours. When ours ends without having ended it, `throwaway` is removed besides.
    pub(crate) fn start(program: Program<'_>, throwaway: Option<&Path>) -> anyhow::Result<Self> {
        let errors = program.log.try_clone().context("share the log")?;
        let mut child = Command::new("sh")
            .args(["-c", UPON_A_WORD, "engine"])
            .args(program.words)
            .current_dir(program.folder)
            .stdin(Stdio::piped())
            .stdout(program.log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .context("start `sh`")?;
        let word = child.stdin.take();
        let watchdog = match Watchdog::start(child.id(), throwaway) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                drop(word);
                child.wait().context("reap the shell")?;
                return Err(error);
            }
        };
        let process = Self { child, watchdog: Some(watchdog) };
        word.context("no pipe to the shell")?.write_all(b"\n").context("tell the shell to go on")?;
        Ok(process)
    }

    /// Starts a process in a session of its own, which goes on when ours ends.
    pub(crate) fn start_detached(program: Program<'_>) -> anyhow::Result<Self> {
        let errors = program.log.try_clone().context("share the log")?;
        let child = Command::new("setsid")
            .args(program.words)
            .current_dir(program.folder)
            .stdin(Stdio::null())
            .stdout(program.log)
            .stderr(errors)
            .spawn()
            .context("start `setsid`")?;
        Ok(Self { child, watchdog: None })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did. It is reaped then.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.child.try_wait().context("look at the process")?;
        if status.is_some() {
            self.dismiss_watchdog();
        }
        Ok(status)
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // Not reaped yet, so the number is still its own.
        if self.ended()?.is_none() {
            let pid = Pid::from_child(&self.child);
            rustix::process::kill_process(pid, signal).with_context(|| format!("send {signal:?}"))?;
        }
        Ok(())
    }

    /// Kills it, whatever it does, and reaps it.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(DEATH).map(drop)
    }

    /// Waits until it has ended; an error after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let ended = waiting::until(patience, || self.ended().transpose());
        ended.with_context(|| format!("process {} has not ended within {patience:?}", self.child.id()))?
    }

    /// Only after the child was reaped: until then the watchdog is needed, and afterwards its number may be another's.
    fn dismiss_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            if let Some(mut pipe) = watchdog.pipe.take() {
                // It fails only when somebody else has ended the watchdog.
                let _ = pipe.write_all(b"\n");
            }
            let _ = watchdog.child.wait();
        }
    }
}

// === impl Watchdog ===

impl Watchdog {
    fn start(pid: u32, throwaway: Option<&Path>) -> anyhow::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", WATCH, "watchdog", &pid.to_string()])
            .arg(throwaway.map_or_else(|| OsStr::new(""), Path::as_os_str))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the watchdog")?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn words(script: &str) -> Vec<OsString> {
        ["sh", "-c", script].map(OsString::from).to_vec()
    }

    fn start(folder: &Path, script: &str, throwaway: Option<&Path>) -> Process {
        let log = File::create(folder.join("log")).unwrap();
        Process::start(Program { words: &words(script), folder, log }, throwaway).unwrap()
    }

    #[test]
    fn output_goes_to_the_log_and_the_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = start(folder.path(), "echo out; echo err >&2; exit 3", None);
        assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(3));
        assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap(), "out\nerr\n");
    }

    #[test]
    fn a_killed_process_is_reaped_even_while_it_is_suspended() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = start(folder.path(), "exec tail -f /dev/null", None);
        process.signal(Signal::STOP).unwrap();
        process.kill().unwrap();
        assert!(process.ended().unwrap().is_some());
        // A second time there is nobody to kill.
        process.kill().unwrap();
    }

    #[test]
    fn a_broken_pipe_kills_the_process_and_removes_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let throwaway = folder.path().join("throwaway");
        std::fs::create_dir_all(throwaway.join("data")).unwrap();
        let mut process = start(folder.path(), "exec tail -f /dev/null", Some(&throwaway));
        assert!(process.ended().unwrap().is_none());
        // What the kernel does when the starter is killed.
        drop(process.watchdog.as_mut().unwrap().pipe.take());
        let status = process.child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        waiting::until(PATIENCE, || (!throwaway.exists()).then_some(())).expect("the folder is removed");
    }

    #[test]
    fn an_ended_process_leaves_its_folder_to_us() {
        let folder = tempfile::tempdir().unwrap();
        let throwaway = folder.path().join("throwaway");
        std::fs::create_dir(&throwaway).unwrap();
        let mut process = start(folder.path(), "exec tail -f /dev/null", Some(&throwaway));
        process.kill().unwrap();
        assert!(process.watchdog.is_none() && throwaway.exists());
    }
}
