//! A process that is measured: started on ports that the system picks, asked what it uses, stopped or killed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// How long a process may take to become ready or to end.
const PATIENCE: Duration = Duration::from_mins(5);
/// Between two looks at a page.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A running process that printed its addresses. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it printed.
    pub addresses: Value,
}

/// The binary of that name beside this one.
pub fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let ourselves = std::env::current_exe().context("find this program")?;
    let binary = ourselves.with_file_name(name);
    anyhow::ensure!(binary.is_file(), "`{}` is not built; `cargo xtask bench` builds it", binary.display());
    Ok(binary)
}

impl Running {
    /// Starts it and reads the line with its addresses. What it logs goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(log).with_context(|| format!("make `{}`", log.display()))?;
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = child.with_context(|| format!("start `{}`", command.get_program().display()))?;
        let line = read_line(&mut child).with_context(|| format!("{command:?} ended before it listened"))?;
        let addresses = serde_json::from_str(&line).with_context(|| format!("addresses in `{line}`"))?;
        Ok(Self { child, addresses })
    }

    /// The address of that name.
    pub fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let text = self.addresses.get(name).and_then(Value::as_str);
        Ok(text.with_context(|| format!("no address `{name}` in {}", self.addresses))?.parse()?)
    }

    /// Waits until `/readyz` says so.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        self.ready_seen_every(LOOK_AGAIN)
    }

    /// As [`Self::ready`], with so long between two looks: each costs the process a call.
    pub fn ready_seen_every(&mut self, pause: Duration) -> anyhow::Result<()> {
        let (address, until) = (self.address("http")?, Instant::now() + PATIENCE);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended before it was ready: {status}");
            }
            if page(address, "/readyz").is_ok_and(|page| page.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            std::thread::sleep(pause);
        }
        bail!("not ready after {PATIENCE:?}")
    }

    /// CPU time of all its threads so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id())).context("its threads")? {
            // A thread that has just ended has taken its time along; those that serve do not end.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let first = text.split_whitespace().next().context("an empty schedstat")?;
            nanos += first.parse::<u64>().with_context(|| format!("schedstat `{first}`"))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that was resident at any time so far, in bytes.
    pub fn resident_most(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{name} `{line}`"))?;
        Ok(kib << 10)
    }

    /// The value of a metric that its page shows under exactly that name.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let page = page(self.address("http")?, "/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric `{name}`"))?.trim().parse()?)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to its standard input and reads one from its standard output.
    pub fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        let input = self.child.stdin.as_mut().context("no standard input")?;
        writeln!(input, "{line}")?;
        input.flush()?;
        read_line(&mut self.child)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("its process id")?;
        rustix::process::kill_process(id, Signal::TERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// CPU time so far of any process, threads that have ended included, in steps of 10 ms.
pub fn cpu_of(process: u32) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).context("what the system says of a process")?;
    // The name before it may hold anything.
    let (_, fields) = text.rsplit_once(") ").context("a name in brackets")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// For how long so far the cores of this machine had nothing to do, one after the other, in steps of 10 ms.
pub fn idle() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("what the system says of its cores")?;
    let fields = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("all cores in one line")?;
    // Behind user, nice and system: idle, and idle while a disk is waited for.
    let ticks = fields.split_whitespace().skip(3).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// One line of its standard output, read without a buffer that would swallow the next.
fn read_line(child: &mut Child) -> anyhow::Result<String> {
    let output = child.stdout.as_mut().context("no standard output")?;
    let (mut text, mut byte) = (Vec::new(), [0]);
    while byte != [b'\n'] {
        output.read_exact(&mut byte).context("its standard output is closed")?;
        text.push(byte[0]);
    }
    Ok(String::from_utf8(text)?.trim_end().to_owned())
}

/// A page over HTTP/1.1, head and all.
pub fn page(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
