//! `cargo xtask bench`: builds what is measured and what measures, for release, and hands over to `tessera-bench`.

use std::process::Command;

use anyhow::Context as _;

use crate::workspace;

/// Builds and measures; the arguments are `tessera-bench`'s.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let packages = ["tessera-cli", "tessera-server", "tessera-loader", "tessera-loadtest", "tessera-benches"];
    let packages = packages.map(|package| format!("--package={package}"));
    // What counting starts is a part of that.
    let counted =
        ["tessera", "tessera-server", "tessera-bench", "counted-server", "echo-twin"].map(|binary| format!("--bin={binary}"));
    let which = if arguments.contains(&"--short") { counted.to_vec() } else { vec!["--bins".to_owned()] };
    let mut build = Command::new("cargo");
    finish(build.args(["build", "--release"]).args(which).args(packages), "build what is measured")?;
    finish(Command::new(workspace::root().join("target/release/tessera-bench")).args(arguments), "measure")
}

fn finish(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let status = command.current_dir(workspace::root()).status().context(what.to_owned())?;
    anyhow::ensure!(status.success(), "{what}: {status}");
    Ok(())
}
