//! The README's words for many processes, as they stand there: engines, keyspace and topics, a loader and two servers, a check on
//! each, and nothing left behind.
//!
//! Only the build is left out: the programs are those that were built for the suites, found by their names.

use std::process::Command;

use anyhow::Context as _;
use tessera_e2e::binary;
use tessera_engines::shared;

/// What the words begin with, which belongs to a profile of its own.
const BUILD: &str =
    "cargo build --release -p tessera-cli -p tessera-server -p tessera-loader && PATH=\"$PWD/target/release:$PATH\"";
/// Whatever happens, nothing goes on. Jobs, so that `%1` is the first of them, and the first failure is the end.
const AROUND: &str = "set -em; trap 'kill $(jobs -p) 2> /dev/null || true; cargo xtask down' EXIT";

#[test]
fn the_words_of_the_readme_for_many_processes_work() -> anyhow::Result<()> {
    if !shared::available()? {
        return Ok(());
    }
    let root = binary::repository();
    if root.join("target/cluster").exists() && !tessera_engines::in_ci() {
        shared::tell_skip("there is a cluster in target/cluster already, which `cargo xtask down` would remove");
        return Ok(());
    }
    let readme = std::fs::read_to_string(root.join("README.md")).context("read README.md")?;
    let words = readme.split("```").find(|block| block.contains("cargo xtask up")).context("no words with `cargo xtask up`")?;
    let words = words.strip_prefix("sh\n").context("words for a shell")?;
    let words = words.strip_prefix(BUILD).with_context(|| format!("the words do not begin with `{BUILD}`"))?;

    let binaries = binary::tessera()?;
    let binaries = binaries.parent().context("the folder of the binaries")?;
    let path = std::env::var("PATH").context("PATH")?;
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(format!("{AROUND}\n{words}")).current_dir(&root);
    shell.env("PATH", format!("{}:{path}", binaries.display()));
    let said = binary::run(&mut shell)?.success()?;
    println!("{said}");
    let granted = said.lines().filter(|line| *line == "entitled  GRANTED_BY_PLAN").count();
    anyhow::ensure!(granted == 2, "{granted} of 2 checks were granted\n{said}");
    anyhow::ensure!(!root.join("target/cluster").exists(), "target/cluster is still there");
    Ok(())
}
