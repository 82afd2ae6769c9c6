//! docs/GUARDS.md against the guards of the code: every guard is described, consulted and taken away by a test.

use std::collections::BTreeMap;

use super::findings::{Finding, SourceFile, wanted};

const HOOKS: &str = "ports/src/hooks.rs";
const GUARDS: &str = "docs/GUARDS.md";

/// Compares the list in the code with the one in the document, and both with who uses them.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let (hooks, document) = match (wanted(files, HOOKS), wanted(files, GUARDS)) {
        (Ok(hooks), Ok(document)) => (hooks, document),
        (hooks, document) => return [hooks.err(), document.err()].into_iter().flatten().collect(),
    };
    let guards = variants(&hooks.text);
    let rows = rows(&document.text);
    let mut findings = Vec::new();
    for guard in &guards {
        match rows.get(guard) {
            None => findings.push(document.finding(format!("guard `{guard}` has no row"))),
            Some(tests) if tests.is_empty() => findings.push(document.finding(format!("the row of `{guard}` names no test"))),
            Some(tests) => findings.extend(unknown_tests(document, guard, tests, files)),
        }
        if !consulted(guard, files) {
            findings.push(hooks.finding(format!("no shipped code asks `holds(Guard::{guard})`")));
        }
    }
    for row in rows.keys().filter(|row| !guards.contains(*row)) {
        findings.push(document.finding(format!("`{row}` is no guard of {HOOKS}")));
    }
    findings
}

/// The names of `pub enum Guard`.
fn variants(text: &str) -> Vec<String> {
    let body = text.lines().skip_while(|line| !line.starts_with("pub enum Guard")).skip(1).take_while(|line| *line != "}");
    let names = body.map(|line| line.trim().trim_end_matches(','));
    names.filter(|name| !name.is_empty() && name.chars().all(char::is_alphanumeric)).map(str::to_owned).collect()
}

/// Guard → tests named in the last column, of every row that begins with a name in backticks.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
        let backticks = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        if let (Some(first), Some(last)) = (cells.first(), cells.last())
            && let Some(name) = backticks(first).into_iter().next()
        {
            rows.insert(name, backticks(last));
        }
    }
    rows
}

fn unknown_tests(document: &SourceFile, guard: &str, tests: &[String], files: &[SourceFile]) -> Vec<Finding> {
    let exists = |test: &str| {
        let declaration = format!("fn {test}(");
        files.iter().any(|file| file.is_rust() && file.text.contains(&declaration))
    };
    let missing = tests.iter().filter(|test| !exists(test));
    missing.map(|test| document.finding(format!("the row of `{guard}` names `{test}`, and no test has that name"))).collect()
}

fn consulted(guard: &str, files: &[SourceFile]) -> bool {
    let name = format!("Guard::{guard}");
    let names_it = |text: &str| {
        let after = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
        text.split(&name).skip(1).any(after)
    };
    let shipped = files.iter().filter(|file| file.path.contains("/src/") && file.path != HOOKS && !file.path.starts_with("e2e/"));
    // `holds(if first { Guard::A } else { Guard::B })` asks for both.
    let questions = shipped.flat_map(|file| file.text.split("holds(").skip(1)).filter_map(|rest| rest.split(';').next());
    questions.into_iter().any(names_it)
}

#[cfg(test)]
mod tests {
    use super::super::findings::assert_found;
    use super::*;

    fn files(document: &str, code: &str) -> Vec<SourceFile> {
        vec![
            SourceFile::for_test(HOOKS, "/// The guards.\npub enum Guard {\n    SeqGate,\n    Parking,\n}\n"),
            SourceFile::for_test(GUARDS, document),
            SourceFile::for_test("server/src/apply.rs", code),
        ]
    }

    const CODE: &str = "if holds(Guard::SeqGate) {}\nif holds(Guard::Parking) {}\nfn answers_go_back() {}\nfn rows_wait() {}\n";

    #[test]
    fn both_lists_agree() {
        let document =
            "| guard | without | test |\n|---|---|---|\n| `SeqGate` | x | `answers_go_back` |\n| `Parking` | y | `rows_wait` |\n";
        assert_found(&check(&files(document, CODE)), &[]);
    }

    #[test]
    fn a_guard_without_a_row_a_row_without_a_guard() {
        let document = "| `SeqGate` | x | `answers_go_back` |\n| `Luck` | y | `rows_wait` |\n";
        assert_found(&check(&files(document, CODE)), &["`Parking` has no row", "`Luck` is no guard"]);
    }

    #[test]
    fn a_row_without_a_test_and_with_one_that_does_not_exist() {
        let document = "| `SeqGate` | x | |\n| `Parking` | y | `never_written` |\n";
        assert_found(&check(&files(document, CODE)), &["`SeqGate` names no test", "no test has that name"]);
    }

    #[test]
    fn a_guard_that_nobody_consults() {
        let document = "| `SeqGate` | x | `answers_go_back` |\n| `Parking` | y | `rows_wait` |\n";
        let code = CODE.replace("holds(Guard::Parking)", "true");
        assert_found(&check(&files(document, &code)), &["no shipped code asks `holds(Guard::Parking)`"]);
    }
}
