//! A running engine of either kind, and what can be done to it. What it is told, and what makes it ready, comes as a recipe.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, Program};
use crate::{java, listening, ports, waiting};

/// How long an engine may take until it answers, on a machine that does other things besides.
const READY_WITHIN: Duration = Duration::from_mins(3);
/// How long it may take to end by itself: Cassandra writes out what it holds.
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// How much of the end of a log an error shows, in bytes.
const TAIL_BYTES: u64 = 8 * 1024;
/// How often ports are chosen again because somebody else has taken one of them meanwhile.
const ATTEMPTS: u32 = 3;

/// How an engine is to differ from what all of them are told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The port for clients; `None` chooses a free one.
    pub port: Option<u16>,
    /// Settings by their names in the engine's own file; they replace ours of the same name.
    pub settings: Vec<(String, String)>,
}

/// How long an engine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// As long as the process that starts it.
    WithStarter,
    /// So does its folder.
    Throwaway,
    /// Until somebody ends it; its number stands in the file `pid` of its folder. The port of its options is only a wish.
    OnItsOwn,
}

/// What an engine of one kind is told.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// For messages and the name of the log.
    pub(crate) name: &'static str,
    /// Arguments of Java up to the main class, which go to a file.
    pub(crate) java: Vec<String>,
    /// Main class and arguments to run first where this file is not there yet.
    pub(crate) prepare: Option<(PathBuf, Vec<String>)>,
    /// Main class and arguments of the engine.
    pub(crate) main: Vec<String>,
    /// Files to be written, below the folder of the engine.
    pub(crate) files: Vec<(&'static str, String)>,
    /// All its ports; the first is that of clients.
    pub(crate) ports: Vec<u16>,
    /// Whether it answers.
    pub(crate) is_ready: fn(SocketAddr) -> bool,
}

/// A running engine. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Engine {
    recipe: Recipe,
    folder: PathBuf,
    life: Life,
    process: Option<Process>,
    /// Removed after the engine was reaped, for fields are dropped last.
    temporary: Option<TempDir>,
}

/// A folder that is removed with its engine.
pub(crate) fn throwaway_folder(name: &str) -> anyhow::Result<TempDir> {
    let builder = tempfile::Builder::new().prefix(&format!("tessera-{name}-")).tempdir();
    builder.context("make a throwaway folder")
}

impl Engine {
    /// Starts what `recipe` says for ports that it is given, and waits until it is ready. When somebody else has taken one of
    /// the ports meanwhile, others are chosen.
    pub(crate) fn start(
        folder: &Path,
        options: &Options,
        life: Life,
        recipe: impl Fn(&Path, &Options) -> anyhow::Result<Recipe>,
    ) -> anyhow::Result<Self> {
        let mut options = options.clone();
        let mut attempt = 1;
        loop {
            let folder = std::path::absolute(folder).context("make the folder's path absolute")?;
            let recipe = recipe(&folder, &options)?;
            let mut engine = Self { recipe, folder, life, process: None, temporary: None };
            let Err(error) = engine.begin() else { return Ok(engine) };
            engine.kill()?;
            let taken = engine.recipe.ports.iter().find(|port| !ports::is_free(**port));
            let is_replaced = |port: &&u16| life == Life::OnItsOwn || Some(**port) != options.port;
            let Some(taken) = taken.filter(|port| is_replaced(port) && attempt < ATTEMPTS) else {
                return Err(error);
            };
            if life == Life::OnItsOwn {
                options.port = None;
            }
            eprintln!("{}: somebody else listens on port {taken} now; trying others", engine.recipe.name);
            attempt += 1;
        }
    }

    pub(crate) fn keep(mut self, temporary: TempDir) -> Self {
        self.temporary = Some(temporary);
        self
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        let port = self.recipe.ports.first().copied().unwrap_or_default();
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// The number of its process; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Where everything is that it owns: data, settings, log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it with SIGKILL, also while it is suspended. Nothing happens when it is down already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().with_context(|| format!("kill {}", self.recipe.name))?;
        }
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits until it has, for a minute at most: then it is killed, and that is an error.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        // A suspended process would not hear it.
        process.signal(Signal::CONT)?;
        let outcome = process.wait(STOPPED_WITHIN).map(drop);
        process.kill()?;
        outcome.with_context(|| format!("stop {}", self.recipe.name))
    }

    /// Makes it stand still with SIGSTOP: its sockets stay open, and nobody answers.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Self::suspend`].
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Starts it again on the same ports and data, and waits until it is ready. It is killed first if it runs.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        self.begin()
    }

    /// Starts it again as [`Self::restart`] does, but does not wait: [`Self::wait_until_ready`] does.
    pub fn restart_without_waiting(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        self.launch()
    }

    /// Waits until it answers, for three minutes at most. When it does not, or ends, the error shows the end of its log.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let name = self.recipe.name;
        let address = self.address();
        let is_ready = self.recipe.is_ready;
        let process = self.process.as_mut().with_context(|| format!("{name} is down"))?;
        let seen = waiting::until(READY_WITHIN, || match process.ended() {
            // Whoever answers has to be this process.
            Ok(None) if is_ready(address) && listening::listens(process.id(), address.port()) => Some(Ok(())),
            Ok(None) => None,
            Ok(Some(status)) => Some(Err(anyhow::anyhow!("{name} ended before it was ready: {status}"))),
            Err(error) => Some(Err(error)),
        });
        let outcome = seen.unwrap_or_else(|| Err(anyhow::anyhow!("{name} was not ready on {address} within {READY_WITHIN:?}")));
        outcome.map_err(|error| error.context(self.what_the_log_says()))
    }

    /// The end of what it has logged.
    pub fn log_tail(&self) -> String {
        tail(&self.log_path()).unwrap_or_else(|error| format!("its log cannot be read: {error}"))
    }

    /// Leaves it running: nobody here ends it any more.
    pub(crate) fn leave(mut self) {
        self.process = None;
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_until_ready()
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| format!("make `{}`", self.folder.display()))?;
        let arguments = self.folder.join("java.arguments");
        let written = [("java.arguments", java::argument_file(&self.recipe.java))];
        for (name, text) in written.iter().chain(&self.recipe.files) {
            std::fs::write(self.folder.join(name), text).with_context(|| format!("write `{name}` of {}", self.recipe.name))?;
        }
        let java = java::find().map_err(|missing| anyhow::anyhow!("{missing}"))?;
        let words = |main: &[String]| -> Vec<OsString> {
            let file = OsString::from(format!("@{}", arguments.display()));
            [OsString::from(java), file].into_iter().chain(main.iter().map(OsString::from)).collect()
        };
        if let Some((unless, main)) = &self.recipe.prepare
            && !unless.exists()
        {
            let words = words(main);
            let program = Program { words: &words, folder: &self.folder, log: self.log()? };
            let status = Process::start(program, self.throwaway())?.wait(READY_WITHIN)?;
            if !status.success() {
                bail!("preparing {} ended with {status}\n{}", self.recipe.name, self.what_the_log_says());
            }
        }
        let words = words(&self.recipe.main);
        let program = Program { words: &words, folder: &self.folder, log: self.log()? };
        self.process = Some(match self.life {
            Life::WithStarter | Life::Throwaway => Process::start(program, self.throwaway())?,
            Life::OnItsOwn => {
                let process = Process::start_detached(program)?;
                std::fs::write(self.folder.join("pid"), format!("{}\n", process.id())).context("write the file `pid`")?;
                process
            }
        });
        Ok(())
    }

    /// What the watchdog is to remove.
    fn throwaway(&self) -> Option<&Path> {
        (self.life == Life::Throwaway).then_some(&*self.folder)
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.process.as_mut().with_context(|| format!("{} is down", self.recipe.name))?.signal(signal)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.recipe.name))
    }

    fn log(&self) -> anyhow::Result<File> {
        let path = self.log_path();
        OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("open `{}`", path.display()))
    }

    fn what_the_log_says(&self) -> String {
        format!("the end of `{}`:\n{}\n", self.log_path().display(), self.log_tail())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// `file`'s last bytes, from the beginning of a line.
fn tail(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let begin = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let whole_lines = if begin == 0 { None } else { text.split_once('\n').map(|(_, rest)| rest.to_owned()) };
    Ok(whole_lines.unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::TcpListener;

    use super::*;

    /// How often a start is tried that always fails, for an engine with that port.
    fn attempts(port: u16, options: &Options) -> u32 {
        let folder = tempfile::tempdir().unwrap();
        let attempts = Cell::new(0);
        let recipe = |_: &Path, _: &Options| {
            attempts.set(attempts.get() + 1);
            Ok(Recipe {
                name: "nothing",
                java: Vec::new(),
                prepare: None,
                main: vec!["no.such.Class".to_owned()],
                files: Vec::new(),
                ports: vec![port],
                is_ready: |_| false,
            })
        };
        let error = Engine::start(folder.path(), options, Life::WithStarter, recipe).unwrap_err();
        assert!(format!("{error:#}").contains("no.such.Class"), "{error:#}");
        attempts.get()
    }

    #[test]
    fn ports_that_somebody_else_took_are_chosen_again() {
        if !crate::available().unwrap() {
            return;
        }
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = busy.local_addr().unwrap().port();
        assert_eq!(attempts(port, &Options::default()), ATTEMPTS);
        let wanted = Options { port: Some(port), ..Options::default() };
        assert_eq!(attempts(port, &wanted), 1, "a port that was asked for is not replaced");
        assert_eq!(attempts(ports::choose().unwrap(), &Options::default()), 1, "it failed for another reason");
    }

    #[test]
    fn a_tail_begins_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        std::fs::write(&file, "short\n").unwrap();
        assert_eq!(tail(&file).unwrap(), "short\n");
        let many = "a line of a log\n".repeat(10_000) + "the last line\n";
        std::fs::write(&file, &many).unwrap();
        let tail = tail(&file).unwrap();
        assert!(tail.starts_with("a line of a log\n") && tail.ends_with("the last line\n"), "{tail}");
        assert!(tail.len() as u64 <= TAIL_BYTES && tail.len() as u64 > TAIL_BYTES / 2);
    }
}
