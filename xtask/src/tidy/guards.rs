//! docs/GUARDS.md against the guards of the code: every guard is described, consulted and taken away by a test; the simulation
//! misses it, and the document says in which mode, and by which properties.

use std::collections::BTreeMap;

use super::findings::{Finding, SourceFile, wanted};

const HOOKS: &str = "ports/src/hooks.rs";
const GUARDS: &str = "docs/GUARDS.md";
const SIMULATION: &str = "e2e/simulation/tests/simulation_guards.rs";
/// The modes of the simulation, and what the document calls them.
const MODES: [(&str, &str); 5] =
    [("Scan", "scan"), ("NoScan", "no scan"), ("Overtaking", "overtaking"), ("Restarts", "restarts"), ("SetBacks", "set-backs")];

/// Compares the list in the code with the one in the document, and both with who uses them.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let (hooks, document, simulation) = match (wanted(files, HOOKS), wanted(files, GUARDS), wanted(files, SIMULATION)) {
        (Ok(hooks), Ok(document), Ok(simulation)) => (hooks, document, simulation),
        (hooks, document, simulation) => {
            return [hooks.err(), document.err(), simulation.err()].into_iter().flatten().collect();
        }
    };
    let guards = variants(&hooks.text);
    let rows = rows(&document.text);
    let mut findings = Vec::new();
    for guard in &guards {
        let listed = listed(&simulation.text, guard);
        match listed.as_slice() {
            [listed] => findings.extend(said_otherwise(document, guard, listed, rows.get(guard))),
            [] => findings.push(simulation.finding(format!("`{guard}` is not listed with a mode, a seed and properties"))),
            _ => findings.push(simulation.finding(format!("`{guard}` is listed more than once"))),
        }
        match rows.get(guard).map(|row| &row.tests) {
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

/// What the document says of a guard.
struct Row {
    /// The properties that are violated without it: the last column but two.
    properties: String,
    /// How the simulation sees it missing: the last column but one.
    simulation: String,
    /// The tests named in the last column.
    tests: Vec<String>,
}

/// What the list of the simulation says of a guard.
struct Listed<'a> {
    /// What the document calls the mode.
    mode: &'static str,
    /// The properties of which one is violated.
    properties: &'a str,
}

/// Every entry of a guard in the list of the simulation. One, if all is well.
fn listed<'a>(simulation: &'a str, guard: &str) -> Vec<Listed<'a>> {
    let name = format!("Guard::{guard}");
    let rests = simulation.split(&name).skip(1).filter(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()));
    let entry = |rest: &'a str| {
        let (named, rest) = rest.strip_prefix(", Mode::")?.split_once(", ")?;
        let (_seed, properties) = rest.split_once(", \"")?;
        let (properties, _) = properties.split_once("\")")?;
        let (_, mode) = MODES.into_iter().find(|(mode, _)| *mode == named)?;
        Some(Listed { mode, properties })
    };
    rests.filter_map(entry).collect()
}

fn said_otherwise(document: &SourceFile, guard: &str, listed: &Listed<'_>, row: Option<&Row>) -> Vec<Finding> {
    let Some(row) = row else { return Vec::new() };
    let said = [("the simulation", &*row.simulation, listed.mode), ("properties", &row.properties, listed.properties)];
    let otherwise = said.into_iter().filter(|(_, said, listed)| said != listed);
    let finding = |(of, said, listed)| {
        document.finding(format!("the row of `{guard}` says `{said}` of {of}, the list of the simulation says `{listed}`"))
    };
    otherwise.map(finding).collect()
}

/// Every row that begins with a name in backticks, by that name.
fn rows(text: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
        let backticks = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        if let ([first, ..], [.., properties, simulation, last]) = (cells.as_slice(), cells.as_slice())
            && let Some(name) = backticks(first).into_iter().next()
        {
            let (properties, simulation) = (properties.trim().to_owned(), simulation.trim().to_owned());
            rows.insert(name, Row { properties, simulation, tests: backticks(last) });
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

    const LIST: &str =
        "const SEEN: &[_] = &[(Guard::SeqGate, Mode::NoScan, 1, \"c\"), (Guard::Parking, Mode::SetBacks, 7, \"f, p1\")];\n";
    const DOCUMENT: &str = "| guard | without | property | simulation | test |\n|---|---|---|---|---|\n\
        | `SeqGate` | x | c | no scan | `answers_go_back` |\n| `Parking` | y | f, p1 | set-backs | `rows_wait` |\n";

    fn files(document: &str, code: &str) -> Vec<SourceFile> {
        vec![
            SourceFile::for_test(HOOKS, "/// The guards.\npub enum Guard {\n    SeqGate,\n    Parking,\n}\n"),
            SourceFile::for_test(GUARDS, document),
            SourceFile::for_test(SIMULATION, LIST),
            SourceFile::for_test("server/src/apply.rs", code),
        ]
    }

    const CODE: &str = "if holds(Guard::SeqGate) {}\nif holds(Guard::Parking) {}\nfn answers_go_back() {}\nfn rows_wait() {}\n";

    #[test]
    fn all_lists_agree() {
        assert_found(&check(&files(DOCUMENT, CODE)), &[]);
    }

    #[test]
    fn a_guard_without_a_row_a_row_without_a_guard() {
        let document = DOCUMENT.replace("`Parking`", "`Luck`");
        assert_found(&check(&files(&document, CODE)), &["`Parking` has no row", "`Luck` is no guard"]);
    }

    #[test]
    fn a_row_without_a_test_and_with_one_that_does_not_exist() {
        let document = DOCUMENT.replace("`answers_go_back`", "").replace("`rows_wait`", "`never_written`");
        assert_found(&check(&files(&document, CODE)), &["`SeqGate` names no test", "no test has that name"]);
    }

    #[test]
    fn a_guard_that_nobody_consults() {
        let code = CODE.replace("holds(Guard::Parking)", "true");
        assert_found(&check(&files(DOCUMENT, &code)), &["no shipped code asks `holds(Guard::Parking)`"]);
    }

    #[test]
    fn a_guard_that_the_simulation_does_not_list_or_lists_otherwise_than_the_document_says() {
        let mut files = files(&DOCUMENT.replace("set-backs", "scan"), CODE);
        assert_found(
            &check(&files),
            &["the row of `Parking` says `scan` of the simulation, the list of the simulation says `set-backs`"],
        );
        files[1] = SourceFile::for_test(GUARDS, &DOCUMENT.replace("f, p1", "f"));
        assert_found(&check(&files), &["the row of `Parking` says `f` of properties, the list of the simulation says `f, p1`"]);
        files[1] = SourceFile::for_test(GUARDS, DOCUMENT);
        for without in [
            "(Guard::SeqGate, Mode::NoScan, 1, \"c\")",
            "(Guard::SeqGate, Mode::NoScan, 1, \"c\"), (Guard::Parking, Mode::Scan, 1)",
        ] {
            files[2] = SourceFile::for_test(SIMULATION, &format!("const SEEN: &[_] = &[{without}];\n"));
            assert_found(&check(&files), &["`Parking` is not listed with a mode"]);
        }
        files[2] = SourceFile::for_test(SIMULATION, &format!("{LIST}{LIST}"));
        assert_found(&check(&files), &["`SeqGate` is listed more than once", "`Parking` is listed more than once"]);
    }
}
