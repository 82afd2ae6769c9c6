//! `cargo xtask tidy`: the house rules that no compiler and no linter knows. Only reads; the remedy is the writer's.
//!
//! Every rule is a function from text to findings, tested on a small bad example; this file gathers the texts.

mod documents;
mod edges;
mod findings;
mod guards;
mod manifests;
mod metrics;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::workspace::{self, Workspace};
use findings::SourceFile;

/// Checks everything and prints what it finds; an error when there is anything.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = read_all(&workspace::root())?;
    let mut findings = Vec::new();
    for file in &files {
        findings.extend(sources::check(file));
        findings.extend(sources::sleep_in_tests(file, &files));
        findings.extend(manifests::check(file));
        findings.extend(manifests::unused(file, &files));
    }
    findings.extend(edges::check(&files, &Workspace::load()?)?);
    findings.extend(guards::check(&files));
    findings.extend(metrics::check(&files));
    findings.extend(documents::check(&files));
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings; docs/STYLE.md has the rules and their reasons", findings.len());
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

const TEXT: [&str; 11] = ["rs", "toml", "md", "proto", "yaml", "yml", "json", "sh", "sql", "txt", "run"];

/// Every text file that is not built, downloaded or kept out of the repository.
fn read_all(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path: PathBuf = entry.context("list a folder")?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !matches!(name.as_ref(), "target" | ".git" | ".tessera" | "node_modules") {
                    folders.push(path);
                }
            } else if TEXT.contains(&path.extension().unwrap_or_default().to_string_lossy().as_ref()) || path.ends_with(".ci/run")
            {
                let relative = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                let text = std::fs::read_to_string(&path).with_context(|| format!("read {relative}"))?;
                files.push(SourceFile { path: relative, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}
