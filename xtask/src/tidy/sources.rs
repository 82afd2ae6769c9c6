//! Rules on single source files: headers, names, forbidden words. Generated code is exempt: nobody writes it.

use super::findings::{Finding, SourceFile};

/// All rules on one file; only the one on home folders looks beyond Rust.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = home_folders(file);
    if file.is_rust() && !is_generated(file) {
        findings.extend(header(file));
        findings.extend(name(file));
        findings.extend(forbidden_everywhere(file));
        findings.extend(backends_named_in_main_only(file));
    }
    findings
}

fn is_generated(file: &SourceFile) -> bool {
    file.path.contains("/generated/") || file.text.lines().take(3).any(|line| line.contains("@generated"))
}

fn header(file: &SourceFile) -> Option<Finding> {
    let has_header = file.text.trim_start().starts_with("//!");
    (!has_header).then(|| file.finding("no `//!` header: say what the file is for and what it does not do"))
}

fn name(file: &SourceFile) -> Option<Finding> {
    let stem = file.file_name().trim_end_matches(".rs");
    let says_nothing = ["util", "utils", "helper", "helpers", "misc", "manager", "common"].contains(&stem);
    if says_nothing {
        return Some(file.finding(format!("`{stem}` says nothing of what the file knows")));
    }
    (stem == "mod").then(|| file.finding("modules are `foo.rs` beside `foo/`, not `mod.rs`"))
}

/// Words that may stand nowhere, each with the reason. Put together here so that this file does not find itself.
const FORBIDDEN: [(&str, &str); 10] = [
    (concat!("#[al", "low("), "use `#[expect(lint, reason = \"…\")]`: it speaks up when it is no longer needed"),
    (concat!("#![al", "low("), "use `#![expect(lint, reason = \"…\")]`: it speaks up when it is no longer needed"),
    (concat!("to", "do!("), "nothing half-done is merged"),
    (concat!("unimpl", "emented!("), "nothing half-done is merged"),
    (concat!("FIX", "ME"), "open an issue, or do it"),
    (concat!("TO", "DO"), "open an issue, or do it"),
    (concat!("HA", "CK"), "say why it has to be so, in a sentence"),
    (concat!("XX", "X"), "say what it is, in a sentence"),
    (concat!("#[ign", "ore"), "a test that does not run proves nothing"),
    (concat!("#[should_", "panic"), "assert on an error instead: a panic may come from anywhere"),
];

fn forbidden_everywhere(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in numbered(&file.text) {
        for (word, reason) in FORBIDDEN {
            // An attribute stands at the beginning; within a line it is text, of a generator for instance.
            let breaks = if word.starts_with('#') { line.trim_start().starts_with(word) } else { has_word(line, word) };
            if breaks {
                findings.push(file.finding_at(number, format!("`{word}`: {reason}")));
            }
        }
    }
    findings
}

/// Whether `word` stands in the line without a letter right before or after it.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |neighbour: Option<char>| neighbour.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let begins_in_letters = is_part(word.chars().next());
    let ends_in_letters = is_part(word.chars().next_back());
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let continues = (begins_in_letters && is_part(before)) || (ends_in_letters && is_part(after));
        !continues
    })
}

/// Tests wait for conditions. In time that stands still until everybody waits, a pause only says how long work takes.
/// Test code: files under `tests/` or `e2e/`, files of tests, and all below `#[cfg(test)] mod`.
pub(crate) fn sleep_in_tests(file: &SourceFile, files: &[SourceFile]) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    let is_test_file = file.path.contains("/tests/")
        || file.path.starts_with("e2e/")
        || file.file_name() == "tests.rs"
        || file.file_name().ends_with("_tests.rs");
    let suite_is_paused = has_paused_tests(suite(&file.path), files);
    // Of the test above; before the first one stands what tests share.
    let mut test_is_paused = suite_is_paused;
    let mut in_tests = is_test_file;
    let mut after_attribute = false;
    let mut findings = Vec::new();
    for (number, line) in numbered(&file.text) {
        let code = line.trim();
        in_tests = in_tests || (after_attribute && code.starts_with("mod ") && code.ends_with('{'));
        after_attribute = code == "#[cfg(test)]" || (after_attribute && code.starts_with("#["));
        if code.starts_with("#[tokio::test") {
            test_is_paused = code.contains("start_paused = true");
        }
        let pauses = has_word(code, concat!("sle", "ep("));
        let in_paused_time = test_is_paused && code.contains(concat!("tokio::time::sle", "ep("));
        if in_tests && !code.starts_with("//") && pauses && !in_paused_time {
            findings.push(file.finding_at(number, "a test waits for a condition, never for time to pass"));
        }
    }
    findings
}

/// What is built into one test program with the file: everything below a folder of `tests/`, all of the simulation, or the
/// file alone.
fn suite(path: &str) -> &str {
    const SIMULATION: &str = "e2e/simulation/";
    if path.starts_with(SIMULATION) {
        return SIMULATION;
    }
    let folder = path.find("/tests/").map(|at| at + "/tests/".len());
    let end = folder.and_then(|start| path.get(start..)?.find('/').map(|length| start + length + 1));
    end.and_then(|end| path.get(..end)).unwrap_or(path)
}

/// Whether a suite has tests in paused time.
fn has_paused_tests(suite: &str, files: &[SourceFile]) -> bool {
    let mut of_suite = files.iter().filter(|file| file.path.starts_with(suite));
    of_suite.any(|file| file.text.contains("start_paused = true") || file.text.contains("start_paused(true)"))
}

/// In the two processes only `main.rs` may name concrete backends.
fn backends_named_in_main_only(file: &SourceFile) -> Vec<Finding> {
    let is_process = file.path.starts_with("server/src/") || file.path.starts_with("loader/src/");
    if !is_process || file.file_name() == "main.rs" {
        return Vec::new();
    }
    let naming = numbered(&file.text).filter(|(_, line)| has_word(line, "tessera_backends"));
    naming.map(|(number, _)| file.finding_at(number, "only `main.rs` names backends; take the port as an argument")).collect()
}

fn home_folders(file: &SourceFile) -> Vec<Finding> {
    let folders = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut findings = Vec::new();
    for (number, line) in numbered(&file.text) {
        if folders.iter().any(|folder| line.contains(folder)) {
            findings.push(file.finding_at(number, "a path of one person's machine"));
        }
    }
    findings
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::super::findings::assert_found;
    use super::*;

    #[track_caller]
    fn check_finds(path: &str, text: &str, expected: &[&str]) {
        assert_found(&check(&SourceFile::for_test(path, text)), expected);
    }

    #[track_caller]
    fn check_pauses(path: &str, text: &str, expected: &[&str]) {
        let file = SourceFile::for_test(path, text);
        assert_found(&sleep_in_tests(&file, std::slice::from_ref(&file)), expected);
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        check_finds("core/src/ids.rs", "//! Ids.\n\nfn f() {}\n", &[]);
    }

    #[test]
    fn a_header_is_missing() {
        check_finds("core/src/ids.rs", "use std::fmt;\n", &["no `//!` header"]);
    }

    #[test]
    fn generated_code_is_exempt() {
        check_finds("proto/src/generated/v1.rs", concat!("#[al", "low(dead_code)]\nstruct S;\n"), &[]);
        check_finds("proto/src/v1.rs", "// @generated by xtask codegen\nstruct S;\n", &[]);
    }

    #[test]
    fn names_that_say_nothing() {
        check_finds("core/src/util.rs", "//! U.\n", &["`util` says nothing"]);
        check_finds("core/src/plan/mod.rs", "//! P.\n", &["not `mod.rs`"]);
    }

    #[test]
    fn forbidden_words_are_found_with_their_line() {
        check_finds("a/b.rs", concat!("//! B.\n#[al", "low(dead_code)]\n"), &["a/b.rs:2: `#[al"]);
        check_finds("a/b.rs", concat!("//! B.\n fn f() { to", "do!() }\n"), &["a/b.rs:2"]);
        check_finds("a/b.rs", concat!("//! B.\n// FIX", "ME later\n"), &["a/b.rs:2"]);
        check_finds("a/b.rs", concat!("//! B.\n#[ign", "ore = \"slow\"]\n"), &["a/b.rs:2"]);
        check_finds("a/b.rs", concat!("//! B.\nconst MAXX", "XL: u8 = 1;\n"), &[]);
    }

    #[test]
    fn tests_do_not_sleep_and_shells_may() {
        let call = concat!("thread::sle", "ep(second)");
        check_pauses("a/tests/b.rs", &format!("//! B.\n{call};\n"), &["waits for a condition"]);
        check_pauses("a/src/b.rs", &format!("//! B.\n{call};\n"), &[]);
        check_pauses("a/src/b.rs", &format!("//! B.\n#[cfg(test)]\nmod tests {{\n{call};\n}}\n"), &["a/src/b.rs:4"]);
        let call = concat!("tokio::time::sle", "ep(second)");
        check_pauses("a/tests/b.rs", &format!("//! B.\n#[tokio::test(start_paused = true)]\n{call};\n"), &[]);
        check_pauses("a/tests/b.rs", &format!("//! B.\n#[tokio::test]\n{call};\n"), &["a/tests/b.rs:3"]);
    }

    #[test]
    fn what_tests_share_follows_their_suite() {
        let file = |path: &str, text: &str| SourceFile::for_test(path, text);
        let bench = file("a/tests/suite/bench.rs", concat!("//! B.\ntokio::time::sle", "ep(second);\n"));
        let paused = file("a/tests/suite/main.rs", "//! M.\n#[tokio::test(start_paused = true)]\n");
        let other = file("a/tests/other/main.rs", "//! O.\n#[tokio::test]\n");
        assert_found(&sleep_in_tests(&bench, &[bench.clone(), paused, other]), &[]);
        let files = [bench.clone(), file("a/tests/suite/main.rs", "//! M.\n#[tokio::test]\n")];
        assert_found(&sleep_in_tests(&bench, &files), &["a/tests/suite/bench.rs:2"]);
        assert_eq!(suite("e2e/simulation/src/run.rs"), suite("e2e/simulation/tests/simulation.rs"));
    }

    #[test]
    fn only_main_names_backends() {
        check_finds("server/src/hydration.rs", "//! H.\nuse tessera_backends::open;\n", &["only `main.rs`"]);
        check_finds("server/src/main.rs", "//! M.\nuse tessera_backends::open;\n", &[]);
        check_finds("cli/src/dev.rs", "//! D.\nuse tessera_backends::open;\n", &[]);
    }

    #[test]
    fn home_folders_are_found_in_documents_too() {
        check_finds("README.md", concat!("see /ho", "me/me/x\n"), &["README.md:1"]);
    }
}
