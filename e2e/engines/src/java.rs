//! The Java that runs the engines: finding one, and writing its arguments to a file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The newest that Cassandra supports and the oldest that Kafka does. Newer ones are tried where there is none of it.
const WANTED: u32 = 17;

/// The Java to use: that of `JAVA_HOME`, of PATH, or of the place where distributions put several; the first of version 17, else
/// the first that is newer. The error says what is missing.
pub(crate) fn find() -> Result<&'static Path, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(search).as_deref().map_err(Clone::clone)
}

/// Whether a program of this name is on PATH.
pub(crate) fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn search() -> Result<PathBuf, String> {
    let mut newer = None;
    let mut older = Vec::new();
    for program in candidates() {
        match version_of(&program) {
            Some(WANTED) => return Ok(program),
            Some(version) if version > WANTED => newer = newer.or(Some(program)),
            Some(version) => older.push(format!("`{}` is version {version}", program.display())),
            None => {}
        }
    }
    let seen = if older.is_empty() { "there is none".to_owned() } else { older.join(", ") };
    newer.ok_or_else(|| format!("a Java of version {WANTED} or newer: {seen}"))
}

fn candidates() -> Vec<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let mut candidates: Vec<PathBuf> = home.into_iter().collect();
    candidates.push(PathBuf::from("java"));
    let distributions = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    candidates.extend(distributions.map(|entry| entry.path().join("bin/java")));
    candidates
}

fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("-version").stdin(Stdio::null()).output().ok()?;
    version_in(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "17.0.15" 2025-04-15` is 17; what is as old as `"1.8.0_402"` is 1.
fn version_in(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// The text of an argument file of `java`: one word a line, quoted, so that folders may have spaces in their names.
pub(crate) fn argument_file(words: &[String]) -> String {
    let mut text = String::new();
    for word in words {
        let quoted = word.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "\"{quoted}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_both_styles() {
        assert_eq!(version_in("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(version_in("java version \"1.8.0_402\""), Some(1));
        assert_eq!(version_in("openjdk version \"21-ea\""), Some(21));
        assert_eq!(version_in("command not found"), None);
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(argument_file(&["-cp".into(), "a b/\\\"*".into()]), "\"-cp\"\n\"a b/\\\\\\\"*\"\n");
    }
}
