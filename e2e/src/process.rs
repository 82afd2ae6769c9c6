//! A running process of ours, whichever binary it is, on ports that the system picked. Dropping it kills it; [`Running::stop`]
//! asks it to end and looks at how. What a binary is told to be one of a kind is the business of [`crate::dev`] and
//! [`crate::cluster`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};

use crate::binary;
use crate::http::{self, Page};
use crate::lines::Lines;
use crate::waiting::{PATIENCE, eventually};

/// How to start it.
#[derive(Debug)]
pub struct Start {
    command: Command,
}

/// A process that was started and has not been seen to end.
#[derive(Debug)]
pub struct Running {
    /// Standard output.
    pub stdout: Lines,
    /// Standard error: the log.
    pub log: Lines,
    /// Where it listens, by the names it prints.
    addresses: BTreeMap<String, SocketAddr>,
    process: Process,
}

/// A process of the system, waited for on a thread of its own. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    exit: mpsc::Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
}

// === impl Start ===

impl Start {
    /// Of this command, which prints where it listens, in the root of the repository. Listeners named here are on a free port.
    pub fn new(mut command: Command, listeners: &[&str]) -> Self {
        command.arg("--print-addresses");
        for listener in listeners {
            command.args([&format!("--{listener}-listen"), "127.0.0.1:0"]);
        }
        // What is asked at a time here takes longer in a build that is not optimized than anybody should wait.
        command.env("TESSERA_LISTENER__WAIT_TARGET_MS", "1000");
        command.current_dir(binary::repository()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Dies at that fail point, `name` or `name:n`, or stands still there: `name:n:stop`.
    #[must_use]
    pub fn fail_point(self, point: &str) -> Self {
        self.env("TESSERA_TEST_FAIL_POINT", point)
    }

    /// With a clock that is ahead of the machine's by whole seconds, behind it where they are negative; or by as many as the file
    /// of that name says at the time.
    #[must_use]
    pub fn clock_ahead(self, seconds: &str) -> Self {
        self.env("TESSERA_TEST_CLOCK_AHEAD_S", seconds)
    }

    /// The command itself, for what is not said here.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it and waits until it is ready.
    pub async fn ready(self) -> anyhow::Result<Running> {
        let running = self.listening()?;
        running.is_ready().await?;
        Ok(running)
    }

    /// Starts it and waits until it has said where it listens.
    pub fn listening(self) -> anyhow::Result<Running> {
        let (process, stdout, log) = self.spawn()?;
        let Some(addresses) = stdout.wait_for(PATIENCE, addresses_in) else {
            let said = log.whole(PATIENCE).join("\n");
            bail!("ended, or did not say where it listens\n{}\n{said}", stdout.all().join("\n"));
        };
        Ok(Running { stdout, log, addresses, process })
    }

    /// Starts it and waits for its end: how it ended, and its log.
    pub fn until_it_ends(self) -> anyhow::Result<(ExitStatus, String)> {
        let (mut process, _stdout, log) = self.spawn()?;
        let status = process.wait().with_context(|| log.all().join("\n"))?;
        Ok((status, log.whole(PATIENCE).join("\n")))
    }

    fn spawn(mut self) -> anyhow::Result<(Process, Lines, Lines)> {
        let mut child = self.command.spawn().with_context(|| format!("start `{}`", self.command.get_program().display()))?;
        let stdout = Lines::follow(child.stdout.take().context("no standard output")?);
        let log = Lines::follow(child.stderr.take().context("no standard error")?);
        Ok((Process::of(child), stdout, log))
    }
}

fn addresses_in(line: &str) -> Option<BTreeMap<String, SocketAddr>> {
    let said: serde_json::Value = serde_json::from_str(line).ok()?;
    said.as_object()?.iter().map(|(name, address)| Some((name.clone(), address.as_str()?.parse().ok()?))).collect()
}

// === impl Running ===

impl Running {
    /// Where one of its listeners is: `data`, `control` or `http`.
    pub fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        self.addresses.get(name).copied().with_context(|| format!("it does not listen for `{name}`: {:?}", self.addresses))
    }

    /// One of its pages.
    pub async fn page(&self, path: &str) -> anyhow::Result<Page> {
        http::get(self.address("http")?, path).await
    }

    /// Waits until it says that it is ready; the error shows what it has printed.
    pub async fn is_ready(&self) -> anyhow::Result<()> {
        self.readiness(200).await.map(drop)
    }

    /// Waits until `/readyz` answers with that status: what it says then.
    pub async fn readiness(&self, status: u16) -> anyhow::Result<String> {
        let wait = eventually("readiness", async || {
            let page = self.page("/readyz").await?;
            anyhow::ensure!(page.status == status, "it answers {}, wanted is {status}: {}", page.status, page.body);
            Ok(page.body)
        });
        wait.await.with_context(|| self.account())
    }

    /// A metric's value, with its labels in the name if it has any; `None` when the page does not have it.
    pub async fn metric(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let page = self.page("/metrics").await?.body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().with_context(|| format!("metric `{name}`"))).transpose()
    }

    /// The sum of a metric over all its labels; 0 when the page does not have it.
    pub async fn metric_sum(&self, name: &str) -> anyhow::Result<f64> {
        let page = self.page("/metrics").await?.body;
        let values = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit_once(' ')?.1.parse::<f64>().ok()
        });
        Ok(values.sum())
    }

    /// Waits until the metric has at least that value.
    pub async fn metric_reaches(&self, name: &str, least: f64) -> anyhow::Result<()> {
        let reached = async || {
            let value = self.metric(name).await?.with_context(|| format!("no metric `{name}`"))?;
            anyhow::ensure!(value >= least, "{name} is {value}");
            Ok(())
        };
        eventually(name, reached).await.with_context(|| self.log.all().join("\n"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        rustix::process::kill_process(self.process.pid, signal).context("send a signal")
    }

    /// Waits for its end after something else ended it; logged errors are expected then.
    pub fn ended(mut self) -> anyhow::Result<ExitStatus> {
        self.process.wait()
    }

    /// Its memory that is in RAM.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most of its memory that was ever in RAM.
    pub fn resident_peak_bytes(&self) -> anyhow::Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.process.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        Ok(kib.with_context(|| format!("no {name} in {path}"))?.trim().parse::<u64>()? << 10)
    }

    /// Whether it stands still: it was stopped, or has stopped itself.
    pub fn stands_still(&self) -> anyhow::Result<bool> {
        let path = format!("/proc/{}/stat", self.process.pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // Behind its name, which stands in brackets and may be anything.
        let (_, state) = stat.rsplit_once(") ").with_context(|| format!("{path} says `{stat}`"))?;
        Ok(state.starts_with('T'))
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.look()
    }

    /// Kills it at once; says by which signal it ended, which is another one if it was dead already.
    pub fn kill(mut self) -> anyhow::Result<Option<i32>> {
        self.process.kill();
        Ok(self.process.wait()?.signal())
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Asks it to end, and insists on exit code 0 and a log without errors.
    pub fn stop(self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        self.finished_well()
    }

    /// Waits for its end, and insists on exit code 0 and a log without errors.
    pub fn finished_well(mut self) -> anyhow::Result<()> {
        let status = self.process.wait().with_context(|| self.account())?;
        let errors = self.errors();
        anyhow::ensure!(status.success(), "ended with {status}\n{}", self.account());
        anyhow::ensure!(errors.is_empty(), "errors in the log:\n{}", errors.join("\n"));
        Ok(())
    }

    /// Lines of the log that say a human must look.
    pub fn errors(&self) -> Vec<String> {
        let lines = self.log.whole(if self.process.ended.is_some() { PATIENCE } else { Duration::ZERO });
        lines.into_iter().filter(|line| line.contains("ERROR") || line.contains("panicked at")).collect()
    }

    /// `path` as the process sees it, whatever is mounted for it alone.
    pub fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process.pid.as_raw_nonzero()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Everything it has printed.
    pub fn account(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout.all().join("\n"), self.log.all().join("\n"))
    }
}

// === impl Process ===

impl Process {
    pub(crate) fn of(mut child: Child) -> Self {
        let pid = Pid::from_child(&child);
        let (sender, exit) = mpsc::channel();
        std::thread::spawn(move || child.wait().map(|status| sender.send(status)));
        Self { pid, exit, ended: None }
    }

    fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.ends_within(PATIENCE)
    }

    pub(crate) fn ends_within(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = self.exit.recv_timeout(patience).with_context(|| format!("it does not end within {patience:?}"))?;
        self.ended = Some(status);
        Ok(status)
    }

    fn look(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.exit.try_recv().ok();
        }
        self.ended
    }

    /// Kills it unless it was seen to end: its number may belong to somebody else then.
    fn kill(&mut self) {
        if self.look().is_none() {
            // It may end in this very moment; then there is nobody to kill, which is what is wanted.
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script in place of a binary.
    fn script(text: &str) -> Start {
        let mut command = Command::new("sh");
        command.arg("-c").arg(text);
        Start::new(command, &[])
    }

    const ADDRESSES: &str = r#"{"data":"127.0.0.1:1","control":"127.0.0.1:2","http":"127.0.0.1:3"}"#;

    #[test]
    fn an_error_in_the_log_is_not_overlooked() {
        let quiet = script(&format!("echo '{ADDRESSES}'; echo INFO fine >&2")).listening().unwrap();
        assert_eq!(quiet.address("control").unwrap().port(), 2);
        assert!(quiet.address("debug").is_err());
        assert!(quiet.finished_well().is_ok());
        let loud = script(&format!("echo '{ADDRESSES}'; echo ERROR broken >&2")).listening().unwrap();
        assert!(loud.finished_well().unwrap_err().to_string().contains("ERROR broken"));
        let failed = script(&format!("echo '{ADDRESSES}'; exit 3")).listening().unwrap();
        assert!(failed.finished_well().is_err());
    }

    #[test]
    fn an_early_end_is_told_with_the_log() {
        let error = script("echo no such directory >&2; exit 1").listening().unwrap_err();
        assert!(error.to_string().contains("no such directory"));
        let (status, log) = script("echo gone >&2; exit 4").until_it_ends().unwrap();
        assert_eq!((status.code(), log.as_str()), (Some(4), "gone"));
    }

    #[test]
    fn a_stopped_process_stands_still() {
        let running = script(&format!("echo '{ADDRESSES}'; exec cat /dev/zero >/dev/null")).listening().unwrap();
        assert!(!running.stands_still().unwrap());
        running.signal(Signal::STOP).unwrap();
        while !running.stands_still().unwrap() {
            std::thread::yield_now();
        }
        running.kill().unwrap();
    }

    #[test]
    fn a_killed_process_says_by_which_signal() {
        let mut running = script(&format!("echo '{ADDRESSES}'; exec cat /dev/zero >/dev/null")).listening().unwrap();
        assert_eq!(running.has_ended(), None);
        assert_eq!(running.kill().unwrap(), Some(Signal::KILL.as_raw()));
    }
}
