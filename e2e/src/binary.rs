//! Which binary is tested, running it to its end, and which fail points its code has. A process that keeps running is the business
//! of [`crate::process`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

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

fn beside_this_test(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("find this test")?;
    // target/<profile>/deps/<test>
    let profile = test.parent().and_then(Path::parent).context("this test is not in a target folder")?;
    let binary = profile.join(name);
    anyhow::ensure!(binary.is_file(), "`{}` is not built; `cargo xtask test` builds it", binary.display());
    Ok(binary)
}

/// Runs a program in the root of the repository until it ends; nothing is on its standard input.
pub fn run(command: &mut Command) -> anyhow::Result<Finished> {
    let output = command
        .current_dir(repository())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{}`", command.get_program().display()))?;
    Ok(Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
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
