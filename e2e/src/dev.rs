//! A running `tessera dev`: both planes in one process over a data directory.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, ExitStatus};

use crate::process::{Running, Start};
use crate::{Planes, binary, tools};
use tessera_benches::quota::MemoryLimit;

/// How to start it.
#[derive(Debug)]
pub struct Launch(Start);

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

/// A process that was started and has not been seen to end; what every process can do is [`Running`]'s.
#[derive(Debug)]
pub struct Dev {
    running: Running,
    addresses: Addresses,
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

    /// As [`Launch::over`], with a limit on its memory.
    pub fn limited(memory: &MemoryLimit, data: &Path) -> anyhow::Result<Self> {
        Ok(Self::with(memory.start(&binary::tessera()?), data))
    }

    fn with(mut command: Command, data: &Path) -> Self {
        // Of a build without optimisation on a busy machine: a write is to be seen, however late.
        command.arg("dev").arg("--data").arg(data).env("TESSERA_SERVER__AT_LEAST_WAIT_MS", "5000");
        Self(Start::new(command, &["data", "control", "http"]))
    }

    /// With documents to apply.
    #[must_use]
    pub fn apply(mut self, documents: &Path) -> Self {
        self.command().arg("--apply").arg(documents);
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        Self(self.0.env(name, value))
    }

    /// The command itself, for what is not said here.
    pub fn command(&mut self) -> &mut Command {
        self.0.command()
    }

    /// Starts it and waits until it is ready.
    pub async fn ready(self) -> anyhow::Result<Dev> {
        let dev = self.listening()?;
        dev.is_ready().await?;
        Ok(dev)
    }

    /// Starts it and waits until it has said where it listens.
    pub fn listening(self) -> anyhow::Result<Dev> {
        let running = self.0.listening()?;
        let address = |name| running.address(name);
        let addresses = Addresses { data: address("data")?, control: address("control")?, http: address("http")? };
        Ok(Dev { running, addresses })
    }

    /// Starts it and waits for its end: how it ended, and its log.
    pub fn until_it_ends(self) -> anyhow::Result<(ExitStatus, String)> {
        self.0.until_it_ends()
    }
}

// === impl Dev ===

impl Deref for Dev {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl Dev {
    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Clients of both planes.
    pub async fn planes(&self) -> anyhow::Result<Planes> {
        Planes::connect(self.addresses).await
    }

    /// `tessera <arguments>` against it.
    pub fn tessera(&self, arguments: &[&str]) -> anyhow::Result<binary::Finished> {
        let mut command = Command::new(binary::tessera()?);
        command.args(arguments).env("TESSERA_DATA_ADDR", self.addresses.data.to_string());
        command.env("TESSERA_CONTROL_ADDR", self.addresses.control.to_string());
        command.env("TESSERA_HTTP_ADDR", self.addresses.http.to_string());
        binary::run(&mut command)
    }

    /// As [`Running::ended`].
    pub fn ended(self) -> anyhow::Result<ExitStatus> {
        self.running.ended()
    }

    /// As [`Running::kill`].
    pub fn kill(self) -> anyhow::Result<Option<i32>> {
        self.running.kill()
    }

    /// As [`Running::stop`].
    pub fn stop(self) -> anyhow::Result<()> {
        self.running.stop()
    }

    /// As [`Running::finished_well`].
    pub fn finished_well(self) -> anyhow::Result<()> {
        self.running.finished_well()
    }
}
