//! docs/METRICS.md against the metrics of the code: every name is listed, every listed one exists, all begin alike. Dashboards
//! and alert rules ask for nothing that is not listed, and runbooks name nothing else.

use std::collections::BTreeSet;

use super::findings::{Finding, SourceFile, wanted};

const METRICS: &str = "docs/METRICS.md";
const DEFINITIONS: &str = "metric_definitions.rs";
const PREFIX: &str = "tessera_";
/// Where queries are.
const QUERIES: [&str; 3] = ["deploy/grafana/dashboards/", "deploy/prometheus/rules/", "deploy/prometheus/tests/"];
const RUNBOOKS: &str = "docs/runbooks/";
/// What Prometheus makes of a histogram.
const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Compares the constants of all `metric_definitions.rs` with the rows of the document.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let document = match wanted(files, METRICS) {
        Ok(document) => document,
        Err(finding) => return vec![finding],
    };
    let mut listed = rows(&document.text);
    let mut findings = queries(files, &document.text);
    findings.extend(runbooks(files, &document.text));
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

/// Whatever dashboards and rules name that the page does not list.
fn queries(files: &[SourceFile], page: &str) -> Vec<Finding> {
    let (all, histograms) = (rows(page), histograms(page));
    let is_listed = |name: &str| {
        let of_histogram = PARTS.iter().find_map(|part| name.strip_suffix(part)).is_some_and(|name| histograms.contains(name));
        of_histogram || (all.contains(name) && !histograms.contains(name))
    };
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| QUERIES.iter().any(|folder| file.path.starts_with(folder))) {
        let asked: Vec<(usize, &str)> =
            file.text.lines().enumerate().flat_map(|(index, line)| words(line).map(move |word| (index + 1, word))).collect();
        if asked.is_empty() {
            findings.push(file.finding("asks for no metric"));
        }
        let unlisted = asked.into_iter().filter(|(_, name)| !is_listed(name));
        findings.extend(unlisted.map(|(line, name)| file.finding_at(line, format!("{METRICS} does not list `{name}`"))));
    }
    findings
}

/// Whatever runbooks name that is not how a listed metric begins: they look for several at a time.
fn runbooks(files: &[SourceFile], page: &str) -> Vec<Finding> {
    let all = rows(page);
    let begins_one = |word: &str| all.iter().any(|name| name.starts_with(word));
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with(RUNBOOKS)) {
        let named = file.text.lines().enumerate().flat_map(|(index, line)| words(line).map(move |word| (index + 1, word)));
        let unlisted = named.filter(|(_, word)| !begins_one(word));
        findings.extend(unlisted.map(|(line, word)| file.finding_at(line, format!("{METRICS} lists nothing like `{word}`"))));
    }
    findings
}

/// Names of metrics within a line. A histogram itself has no series, only its parts have.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_')).filter(|word| word.starts_with(PREFIX))
}

fn histograms(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| line.starts_with("| `") && line.contains("` | histogram |"))
        .filter_map(|line| line.split('`').nth(1))
        .collect()
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

    #[test]
    fn dashboards_and_rules_ask_for_what_there_is() {
        let page = "| `tessera_checks_total` | counter |\n| `tessera_check_duration_seconds` | histogram |\n";
        let found = |dashboard: &str| queries(&[SourceFile::for_test("deploy/grafana/dashboards/a.json", dashboard)], page);
        let rules = [SourceFile::for_test("deploy/prometheus/rules/a.yml", "expr: tessera_gone_total > 0")];
        assert_found(&queries(&rules, page), &["a.yml:1: docs/METRICS.md does not list `tessera_gone_total`"]);
        assert_found(&found(r#""expr": "rate(tessera_checks_total[1m]) / rate(tessera_check_duration_seconds_count[1m])""#), &[]);
        assert_found(
            &found("{\n\"expr\": \"tessera_gone_total{}\""),
            &["a.json:2: docs/METRICS.md does not list `tessera_gone_total`"],
        );
        assert_found(&found("tessera_checks_total_bucket"), &["does not list `tessera_checks_total_bucket`"]);
        assert_found(&found("tessera_check_duration_seconds"), &["does not list `tessera_check_duration_seconds`"]);
        assert_found(&found("{}"), &["asks for no metric"]);
    }

    #[test]
    fn runbooks_name_what_there_is_or_how_it_begins() {
        let page = "| `tessera_heartbeats_total` | counter |\n| `tessera_heartbeats_missed_total` | counter |\n";
        let found = |text: &str| runbooks(&[SourceFile::for_test("docs/runbooks/A.md", text)], page);
        assert_found(&found("grep 'tessera_heartbeats\\|tessera_heartbeats_total'"), &[]);
        assert_found(
            &found("x\ngrep tessera_heartbeat_total"),
            &["A.md:2: docs/METRICS.md lists nothing like `tessera_heartbeat_total`"],
        );
    }
}
