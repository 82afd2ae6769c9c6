//! Which binary is tested, running it to its end, and which fail points its code has. A process that keeps running is the business
//! of [`crate::process`].

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::process::Process;

/// A run that takes longer hangs. Some start engines, and build what starts them.
const RUN_MAX: Duration = Duration::from_mins(10);

/// What a finished run left behind.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    ours.parent().unwrap_or(ours).to_path_buf()
}

/// The `tessera` to test: `TESSERA_BINARY`, else the one that was built beside this test.
pub fn tessera() -> anyhow::Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("TESSERA_BINARY") {
        return Ok(chosen.into());
    }
    beside_this_test("tessera")
}

/// A copy of `tessera` in a folder, both for any user to run.
pub fn for_everybody(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    let copy = folder.join("tessera");
    // By somebody else: what this process has open for writing, whatever it starts meanwhile has open too, and then nobody may run it.
    let mut install = Command::new("install");
    run(install.args(["-m", "755"]).arg(tessera()?).arg(&copy))?.success().context("copy the binary")?;
    Ok(copy)
}

/// The `tessera-server` that was built beside this test.
pub fn server() -> anyhow::Result<PathBuf> {
    beside_this_test("tessera-server")
}

/// The `tessera-loader` that was built beside this test.
pub fn loader() -> anyhow::Result<PathBuf> {
    beside_this_test("tessera-loader")
}

/// The load generator that was built beside this test.
pub fn loadtest() -> anyhow::Result<PathBuf> {
    beside_this_test("tessera-loadtest")
}

/// An example that was built beside this test.
pub fn example(name: &str) -> anyhow::Result<PathBuf> {
    beside_this_test(&format!("examples/{name}"))
}

fn beside_this_test(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("find this test")?;
    // target/<profile>/deps/<test>
    let profile = test.parent().and_then(Path::parent).context("this test is not in a target folder")?;
    let binary = profile.join(name);
    anyhow::ensure!(binary.is_file(), "`{}` is not built; `cargo xtask test` builds it", binary.display());
    Ok(binary)
}

/// Runs a program in the root of the repository until it ends; nothing is on its standard input. One that does not end in ten
/// minutes is killed, and the error shows what it has printed.
pub fn run(command: &mut Command) -> anyhow::Result<Finished> {
    Begun::start(command)?.finish(RUN_MAX)
}

/// A run that has not been seen to end. Dropping it kills the program. It prints into files: a pipe would have to be read
/// meanwhile, and stays open as long as anything that the program has started.
struct Begun {
    process: Process,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

// === impl Begun ===

impl Begun {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let (stdout, stderr) = (NamedTempFile::new()?, NamedTempFile::new()?);
        command.current_dir(repository()).stdin(Stdio::null()).stdout(stdout.reopen()?).stderr(stderr.reopen()?);
        let child = command.spawn().with_context(|| format!("start `{}`", command.get_program().display()))?;
        Ok(Self { process: Process::of(child), stdout, stderr })
    }

    fn finish(mut self, patience: Duration) -> anyhow::Result<Finished> {
        let ended = self.process.ends_within(patience);
        let (stdout, stderr) = (printed(&self.stdout)?, printed(&self.stderr)?);
        let status = ended.with_context(|| format!("stdout:\n{stdout}\nstderr:\n{stderr}"))?;
        Ok(Finished { code: status.code(), stdout, stderr })
    }
}

fn printed(file: &NamedTempFile) -> anyhow::Result<String> {
    let bytes = std::fs::read(file.path()).context("read what a program has printed")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

// === impl Finished ===

impl Finished {
    /// Its standard output, if it ended with 0.
    pub fn success(self) -> anyhow::Result<String> {
        anyhow::ensure!(self.code == Some(0), "exit code {:?}\n{}\n{}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

/// The names of all fail points of the code in these folders of the repository, read from the code, so that none is forgotten.
pub fn fail_points(folders: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let mut points = BTreeSet::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| repository().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for rest in std::fs::read_to_string(&path)?.split("fail_point(\"").skip(1) {
                if let Some((name, _)) = rest.split_once('"') {
                    points.insert(name.to_owned());
                }
            }
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(text);
        command
    }

    #[test]
    fn a_run_leaves_what_it_printed_and_how_it_ended() {
        let Finished { code, stdout, stderr } = run(&mut script("echo out; echo err >&2; exit 3")).unwrap();
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(3), "out\n", "err\n"));
    }

    #[test]
    fn a_run_that_hangs_is_killed_and_told_with_what_it_printed() {
        let begun = Begun::start(&mut script("echo out; echo stuck >&2; exec tail -f /dev/null")).unwrap();
        while printed(&begun.stderr).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let error = format!("{:#}", begun.finish(Duration::ZERO).unwrap_err());
        assert!(error.starts_with("stdout:\nout\n\nstderr:\nstuck\n: it does not end within 0ns"), "{error}");
    }
}
