//! docs/METRICS.md against the metrics of the code: every name is listed, every listed one exists, all begin alike.

use std::collections::BTreeSet;

use super::findings::{Finding, SourceFile, wanted};

const METRICS: &str = "docs/METRICS.md";
const DEFINITIONS: &str = "metric_definitions.rs";
const PREFIX: &str = "tessera_";

/// Compares the constants of all `metric_definitions.rs` with the rows of the document.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let document = match wanted(files, METRICS) {
        Ok(document) => document,
        Err(finding) => return vec![finding],
    };
    let mut listed = rows(&document.text);
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.file_name() == DEFINITIONS) {
        for name in names(&file.text) {
            if !name.starts_with(PREFIX) {
                findings.push(file.finding(format!("`{name}` does not begin with `{PREFIX}`")));
            }
            if !listed.remove(name) {
                findings.push(document.finding(format!("`{name}` of {} is not listed", file.path)));
            }
        }
    }
    findings.extend(listed.iter().map(|name| document.finding(format!("no `{DEFINITIONS}` defines `{name}`"))));
    findings
}

/// Values of `pub const NAME: &str = "value";`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let constants =
        text.lines().filter(|line| line.trim().starts_with("pub") && line.contains(" const ") && line.contains(": &str = \""));
    constants.filter_map(|line| line.split('"').nth(1))
}

fn rows(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('`').nth(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::findings::assert_found;
    use super::*;

    #[test]
    fn both_lists_agree_and_names_begin_alike() {
        let code = "/// Checks.\npub const CHECKS: &str = \"tessera_checks_total\";\npub const OTHER: &str = \"other_total\";\n";
        let document = "| `tessera_checks_total` | x |\n| `tessera_gone_total` | y |\n";
        let files = [SourceFile::for_test(METRICS, document), SourceFile::for_test("server/src/metric_definitions.rs", code)];
        let expected =
            ["`other_total` does not begin", "`other_total` of server/src/metric_definitions.rs is not listed", "gone_total`"];
        assert_found(&check(&files), &expected);
        let files = [SourceFile::for_test(METRICS, "| `tessera_checks_total` | x |\n")];
        assert_found(&check(&files), &["defines `tessera_checks_total`"]);
    }
}
