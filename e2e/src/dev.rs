//! A running `tessera dev` on ports that the system picked. Dropping it kills it; [`Dev::stop`] asks it to end and looks at how.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};

use crate::http::{self, Page};
use crate::lines::Lines;
use crate::waiting::{PATIENCE, eventually};
use crate::{Planes, binary, tools};

/// How to start it.
#[derive(Debug)]
pub struct Launch {
    command: Command,
}

/// Where it listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Checks.
    pub data: SocketAddr,
    /// Commands.
    pub control: SocketAddr,
    /// Pages.
    pub http: SocketAddr,
}

/// A process that was started and has not been seen to end.
#[derive(Debug)]
pub struct Dev {
    /// Standard output.
    pub stdout: Lines,
    /// Standard error: the log.
    pub log: Lines,
    addresses: Addresses,
    process: Process,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    exit: mpsc::Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
}

// === impl Launch ===

impl Launch {
    /// `tessera dev` over the data directory `data`.
    pub fn over(data: &Path) -> anyhow::Result<Self> {
        Ok(Self::of(&binary::tessera()?, data))
    }

    /// As [`Launch::over`], of another copy of the binary.
    pub fn of(program: &Path, data: &Path) -> Self {
        Self::with(Command::new(program), data)
    }

    /// As [`Launch::over`], with a file system of its own mounted at `data`, in memory and empty, that nobody else sees and
    /// that goes with the process. `options` are those of mount(8). `None` where the system does not let us.
    pub fn mounted(data: &Path, options: &str) -> anyhow::Result<Option<Self>> {
        let may = Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|output| output.status.success());
        if !may {
            tools::absent("unshare -rm")?;
            return Ok(None);
        }
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o \"$0\" tmpfs \"$1\" && shift && exec \"$@\"";
        command.args(["-rm", "sh", "-c", script, options]).arg(data).arg(binary::tessera()?);
        Ok(Some(Self::with(command, data)))
    }

    fn with(mut command: Command, data: &Path) -> Self {
        command.arg("dev").arg("--data").arg(data).arg("--print-addresses");
        for listener in ["--data-listen", "--control-listen", "--http-listen"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.current_dir(binary::repository()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// With documents to apply.
    #[must_use]
    pub fn apply(mut self, documents: &Path) -> Self {
        self.command.arg("--apply").arg(documents);
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// The command itself, for what is not said here.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it and waits until it is ready.
    pub async fn ready(self) -> anyhow::Result<Dev> {
        let dev = self.listening()?;
        let wait = eventually("readiness", async || {
            let page = http::get(dev.addresses.http, "/readyz").await?;
            anyhow::ensure!(page.status == 200, "not ready: {}", page.body);
            Ok(())
        });
        wait.await.with_context(|| dev.account())?;
        Ok(dev)
    }

    /// Starts it and waits until it has said where it listens.
    pub fn listening(self) -> anyhow::Result<Dev> {
        let (process, stdout, log) = self.spawn()?;
        let Some(addresses) = stdout.wait_for(PATIENCE, addresses_in) else {
            let said = log.whole(PATIENCE).join("\n");
            bail!("ended, or did not say where it listens\n{}\n{said}", stdout.all().join("\n"));
        };
        Ok(Dev { stdout, log, addresses, process })
    }

    /// Starts it and waits for its end: how it ended, and its log.
    pub fn until_it_ends(self) -> anyhow::Result<(ExitStatus, String)> {
        let (mut process, _stdout, log) = self.spawn()?;
        let status = process.wait()?;
        Ok((status, log.whole(PATIENCE).join("\n")))
    }

    fn spawn(mut self) -> anyhow::Result<(Process, Lines, Lines)> {
        let mut child = self.command.spawn().with_context(|| format!("start `{}`", self.command.get_program().display()))?;
        let stdout = Lines::follow(child.stdout.take().context("no standard output")?);
        let log = Lines::follow(child.stderr.take().context("no standard error")?);
        let pid = Pid::from_child(&child);
        let (sender, exit) = mpsc::channel();
        std::thread::spawn(move || child.wait().map(|status| sender.send(status)));
        Ok((Process { pid, exit, ended: None }, stdout, log))
    }
}

fn addresses_in(line: &str) -> Option<Addresses> {
    let said: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| said.get(name)?.as_str()?.parse().ok();
    Some(Addresses { data: address("data")?, control: address("control")?, http: address("http")? })
}

// === impl Dev ===

impl Dev {
    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Clients of both planes.
    pub async fn planes(&self) -> anyhow::Result<Planes> {
        Planes::connect(self.addresses).await
    }

    /// One of its pages.
    pub async fn page(&self, path: &str) -> anyhow::Result<Page> {
        http::get(self.addresses.http, path).await
    }

    /// `tessera <arguments>` against it.
    pub fn tessera(&self, arguments: &[&str]) -> anyhow::Result<binary::Finished> {
        let mut command = Command::new(binary::tessera()?);
        command.args(arguments).env("TESSERA_DATA_ADDR", self.addresses.data.to_string());
        command.env("TESSERA_CONTROL_ADDR", self.addresses.control.to_string());
        command.env("TESSERA_HTTP_ADDR", self.addresses.http.to_string());
        binary::run(&mut command)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        rustix::process::kill_process(self.process.pid, signal).context("send a signal")
    }

    /// Waits for its end after something else ended it; logged errors are expected then.
    pub fn ended(mut self) -> anyhow::Result<ExitStatus> {
        self.process.wait()
    }

    /// Kills it at once; says by which signal it ended, which is another one if it was dead already.
    pub fn kill(mut self) -> anyhow::Result<Option<i32>> {
        self.process.kill();
        Ok(self.process.wait()?.signal())
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
        let lines = self.log.whole(if self.process.ended.is_some() { PATIENCE } else { std::time::Duration::ZERO });
        lines.into_iter().filter(|line| line.contains("ERROR") || line.contains("panicked at")).collect()
    }

    /// `path` as the process sees it, whatever is mounted for it alone.
    pub fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process.pid.as_raw_nonzero()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn account(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout.all().join("\n"), self.log.all().join("\n"))
    }
}

// === impl Process ===

impl Process {
    fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = self.exit.recv_timeout(PATIENCE).context("the process does not end")?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Kills it unless it was seen to end: its number may belong to somebody else then.
    fn kill(&mut self) {
        if self.ended.is_none()
            && let Ok(status) = self.exit.try_recv()
        {
            self.ended = Some(status);
        }
        if self.ended.is_none() {
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

    /// Runs a script in place of `tessera`.
    fn script(text: &str) -> Launch {
        let mut command = Command::new("sh");
        command.arg("-c").arg(text);
        Launch::with(command, Path::new("nowhere"))
    }

    const ADDRESSES: &str = r#"{"data":"127.0.0.1:1","control":"127.0.0.1:2","http":"127.0.0.1:3"}"#;

    #[test]
    fn an_error_in_the_log_is_not_overlooked() {
        let quiet = script(&format!("echo '{ADDRESSES}'; echo INFO fine >&2")).listening().unwrap();
        assert_eq!(quiet.addresses().control.port(), 2);
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
    fn a_killed_process_says_by_which_signal() {
        let dev = script(&format!("echo '{ADDRESSES}'; exec cat /dev/zero >/dev/null")).listening().unwrap();
        assert_eq!(dev.kill().unwrap(), Some(Signal::KILL.as_raw()));
    }
}
