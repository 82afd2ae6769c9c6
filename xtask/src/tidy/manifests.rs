//! Rules on Cargo.toml files: one table of dependencies with a reason for each, none that nothing uses, lints taken from the workspace.

use super::findings::{Finding, SourceFile};

/// All rules on one manifest.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    match file.path.as_str() {
        "Cargo.toml" => reasons(file),
        path if path.ends_with("/Cargo.toml") => [lints(file), versions(file)].concat(),
        _ => Vec::new(),
    }
}

/// In the root table every dependency stands in a group that begins with a comment.
fn reasons(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut has_reason = false;
    for (number, line) in section_lines(&file.text, |section| section == "workspace.dependencies") {
        if line.is_empty() {
            has_reason = false;
        } else if line.starts_with('#') {
            has_reason = true;
        } else if !has_reason && let Some((name, _)) = line.split_once('=') {
            findings.push(file.finding_at(number, format!("`{}` has no comment above it that says what it is for", name.trim())));
        }
    }
    findings
}

fn lints(file: &SourceFile) -> Vec<Finding> {
    let inherits = section_lines(&file.text, |section| section == "lints").any(|(_, line)| line == "workspace = true");
    if inherits { Vec::new() } else { vec![file.finding("no `[lints] workspace = true`")] }
}

/// Versions stand in the root table alone.
fn versions(file: &SourceFile) -> Vec<Finding> {
    let of_dependencies = |section: &str| section.ends_with("dependencies");
    let mut findings = Vec::new();
    for (number, line) in section_lines(&file.text, of_dependencies) {
        let is_entry = !line.is_empty() && !line.starts_with('#') && line.contains('=');
        // A crate's tests may ask for a feature of the crate itself.
        let is_itself = line.contains("path = \".\"");
        if is_entry && !is_itself && !line.contains("workspace = true") {
            findings.push(file.finding_at(number, "take the dependency from the root table with `.workspace = true`"));
        }
    }
    findings
}

/// What a member depends on stands in its sources by name: in `src/`, or anywhere in its folder for what tests alone need.
pub(crate) fn unused(file: &SourceFile, files: &[SourceFile]) -> Vec<Finding> {
    let Some(folder) = file.path.strip_suffix("/Cargo.toml") else { return Vec::new() };
    let mut findings = Vec::new();
    for (section, sources) in [("dependencies", format!("{folder}/src/")), ("dev-dependencies", format!("{folder}/"))] {
        let (own, others): (Vec<_>, Vec<_>) =
            files.iter().filter(|other| other.is_rust()).partition(|other| other.path.starts_with(&sources));
        // Also of what they take in of another crate.
        let paths =
            || own.iter().flat_map(|file| file.text.lines()).filter_map(|line| line.trim().strip_prefix("#[path = \"../"));
        let taken: Vec<&str> = paths().map(|path| path.trim_start_matches("../").trim_end_matches("\"]")).collect();
        let texts: Vec<&str> = others
            .iter()
            .filter(|other| taken.iter().any(|path| other.path == *path))
            .chain(&own)
            .map(|file| &*file.text)
            .collect();
        for (number, line) in section_lines(&file.text, |named| named == section) {
            let Some((name, _)) = line.split_once(['.', '=', ' ']).filter(|_| !line.starts_with('#')) else { continue };
            if !texts.iter().any(|text| has_word(text, &name.replace('-', "_"))) {
                findings.push(file.finding_at(number, format!("`{name}` stands in no source under `{sources}`")));
            }
        }
    }
    findings
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + word.len()..).unwrap_or_default());
        !before.ends_with(part) && !after.starts_with(part)
    })
}

/// Trimmed lines of the sections whose name is wanted, numbered from 1.
fn section_lines(text: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().map(str::trim).enumerate().filter_map(move |(index, line)| {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = wanted(section);
            return None;
        }
        inside.then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::super::findings::assert_found;
    use super::*;

    #[track_caller]
    fn check_finds(path: &str, text: &str, expected: &[&str]) {
        assert_found(&check(&SourceFile::for_test(path, text)), expected);
    }

    #[test]
    fn a_dependency_without_a_reason() {
        let text = "[workspace.dependencies]\n# Errors.\nthiserror = \"2\"\nanyhow = \"1\"\n\nleft-pad = \"1\"\n";
        check_finds("Cargo.toml", text, &["Cargo.toml:6: `left-pad`"]);
    }

    #[test]
    fn other_sections_need_no_reason() {
        check_finds("Cargo.toml", "[profile.release]\nlto = \"thin\"\n", &[]);
    }

    #[test]
    fn a_dependency_that_nothing_uses() {
        let text = "[dependencies]\nserde_json.workspace = true\nrand = { workspace = true }\n[dev-dependencies]\ntempfile.workspace = true\n";
        let manifest = SourceFile::for_test("core/Cargo.toml", text);
        let sources = [
            SourceFile::for_test("core/src/lib.rs", "use serde_json::Value; // operand"),
            SourceFile::for_test("core/tests/all.rs", "use rand::random;\n#[path = \"../../e2e/shared.rs\"]\nmod shared;"),
            SourceFile::for_test("e2e/shared.rs", "fn made() { tempfile::tempdir(); }"),
        ];
        assert_found(&unused(&manifest, &sources), &["core/Cargo.toml:3: `rand` stands in no source under `core/src/`"]);
    }

    #[test]
    fn a_member_inherits_lints_and_versions() {
        let good = "[lints]\nworkspace = true\n\n[dependencies]\nserde.workspace = true\ntokio = { workspace = true, features = [\"rt\"] }\n";
        check_finds("core/Cargo.toml", good, &[]);
        let bad = "[dependencies]\nserde = \"1\"\n";
        check_finds("core/Cargo.toml", bad, &["no `[lints]", "core/Cargo.toml:2"]);
    }
}
