//! Rules on the documents: what the README tells people to run, the length of the architecture page, the list of ADRs.

use super::findings::{Finding, SourceFile, wanted};

/// A page that is read, not searched.
const ARCHITECTURE_LINES_MAX: usize = 400;

/// The two commands a newcomer starts with.
const FIRST_COMMANDS: [&str; 2] = ["cargo run --release -- dev --apply examples/quickstart", "cargo xtask test"];

const CHORES: [&str; 7] = ["test", "bench", "codegen", "tidy", "engines", "up", "down"];

/// All rules on documents.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    match wanted(files, "README.md") {
        Ok(readme) => findings.extend(commands(readme, files)),
        Err(finding) => findings.push(finding),
    }
    match wanted(files, "ARCHITECTURE.md") {
        Ok(page) => findings.extend(length(page)),
        Err(finding) => findings.push(finding),
    }
    match wanted(files, "docs/adr/README.md") {
        Ok(index) => findings.extend(decisions(index, files)),
        Err(finding) => findings.push(finding),
    }
    findings
}

/// Lines of the README's shell blocks name chores and files that exist.
fn commands(readme: &SourceFile, files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = shell_lines(&readme.text);
    for wanted in FIRST_COMMANDS {
        if !lines.iter().any(|(_, line)| *line == wanted) {
            findings.push(readme.finding(format!("the command `{wanted}` is not shown")));
        }
    }
    for (number, line) in lines {
        if let Some(chore) = line.strip_prefix("cargo xtask ").and_then(|rest| rest.split(' ').next())
            && !CHORES.contains(&chore)
        {
            findings.push(readme.finding_at(number, format!("there is no chore `{chore}`")));
        }
        for path in line.split(' ').filter(|word| word.starts_with("examples/") || word.starts_with("docs/")) {
            let folder = format!("{}/", path.trim_end_matches('/'));
            if !files.iter().any(|file| file.path == path || file.path.starts_with(&folder)) {
                findings.push(readme.finding_at(number, format!("`{path}` does not exist")));
            }
        }
    }
    findings
}

/// Lines within ```` ```sh ```` fences, numbered from 1.
fn shell_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            lines.push((index + 1, line));
        }
    }
    lines
}

fn length(page: &SourceFile) -> Option<Finding> {
    let lines = page.text.lines().count();
    (lines > ARCHITECTURE_LINES_MAX)
        .then(|| page.finding(format!("{lines} lines, and at most {ARCHITECTURE_LINES_MAX} are read")))
}

/// Every decision is listed, every number is used once.
fn decisions(index: &SourceFile, files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut numbers: Vec<&str> = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("docs/adr/") && file.path != index.path) {
        let name = file.file_name();
        let number = name.get(..4).unwrap_or_default();
        if numbers.contains(&number) {
            findings.push(file.finding(format!("number {number} is used twice")));
        }
        numbers.push(number);
        if !index.text.contains(&format!("({name})")) {
            findings.push(index.finding(format!("`{name}` is not listed")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::findings::assert_found;
    use super::*;

    fn readme(more: &str) -> SourceFile {
        let [first, second] = FIRST_COMMANDS;
        SourceFile::for_test("README.md", &format!("# T\n```sh\n{first}\n{second}\n{more}\n```\ncargo xtask prose\n"))
    }

    fn files() -> Vec<SourceFile> {
        vec![SourceFile::for_test("examples/quickstart/plans.yaml", "")]
    }

    #[test]
    fn commands_that_exist() {
        assert_found(&commands(&readme("cargo xtask tidy"), &files()), &[]);
    }

    #[test]
    fn commands_that_do_not() {
        assert_found(&commands(&readme("cargo xtask fly"), &files()), &["README.md:5: there is no chore `fly`"]);
        assert_found(&commands(&readme("tessera apply -f examples/gone"), &files()), &["`examples/gone` does not exist"]);
        let empty = SourceFile::for_test("README.md", "");
        assert_found(&commands(&empty, &files()), &["is not shown", "is not shown"]);
    }

    #[test]
    fn a_page_too_long() {
        let page = SourceFile::for_test("ARCHITECTURE.md", &"line\n".repeat(ARCHITECTURE_LINES_MAX + 1));
        assert!(length(&page).is_some());
    }

    #[test]
    fn decisions_are_listed_and_numbered_once() {
        let index = SourceFile::for_test("docs/adr/README.md", "- [one](0001-one.md)");
        let one = SourceFile::for_test("docs/adr/0001-one.md", "");
        let two = SourceFile::for_test("docs/adr/0001-two.md", "");
        assert_found(&decisions(&index, &[one.clone(), index.clone()]), &[]);
        assert_found(&decisions(&index, &[one, two]), &["used twice", "`0001-two.md` is not listed"]);
    }
}
