//! The dependency table of ARCHITECTURE.md against what cargo knows, and what the domain must not be built from.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Finding, SourceFile, wanted};
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- dependency table: checked by `cargo xtask tidy` -->";
const END: &str = "<!-- end of dependency table -->";

type Edges = BTreeMap<String, BTreeSet<String>>;

/// Compares the table with the workspace, and looks through the tree of the domain.
pub(crate) fn check(files: &[SourceFile], workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let file = match wanted(files, ARCHITECTURE) {
        Ok(file) => file,
        Err(finding) => return Ok(vec![finding]),
    };
    let mut findings = compare(file, &table(&file.text), &workspace.edges());
    findings.extend(domain(file, &workspace.tree("tessera-core")?));
    Ok(findings)
}

/// The rows between the two marks: first column the crate, last column what it may depend on, names in backticks.
fn table(text: &str) -> Edges {
    let rows = text.lines().skip_while(|line| *line != BEGIN).take_while(|line| *line != END);
    let mut edges = Edges::new();
    for row in rows.filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        if let (Some(first), Some(last)) = (cells.first(), cells.last())
            && let Some(name) = in_backticks(first).into_iter().next()
        {
            edges.insert(name, in_backticks(last));
        }
    }
    edges
}

fn in_backticks(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn compare(file: &SourceFile, table: &Edges, real: &Edges) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, dependencies) in real {
        let Some(allowed) = table.get(name) else {
            findings.push(file.finding(format!("`{name}` has no row in the dependency table")));
            continue;
        };
        for forbidden in dependencies.difference(allowed) {
            findings.push(file.finding(format!("`{name}` depends on `{forbidden}`, which its row does not allow")));
        }
    }
    let known = |name: &&String| real.contains_key(*name);
    let named: BTreeSet<&String> = table.iter().flat_map(|(name, allowed)| std::iter::once(name).chain(allowed)).collect();
    for unknown in named.into_iter().filter(|name| !known(name)) {
        findings.push(file.finding(format!("the dependency table names `{unknown}`, which is no crate of the workspace")));
    }
    findings
}

/// What would make the domain wait for, or speak with, anything outside.
const OUTSIDE: [&str; 11] =
    ["tokio", "tonic", "prost", "hyper", "rusqlite", "scylla", "redis", "rdkafka", "tracing-subscriber", "mio", "reqwest"];

fn domain(file: &SourceFile, tree: &BTreeSet<String>) -> Vec<Finding> {
    let bad = OUTSIDE.into_iter().filter(|name| tree.contains(*name));
    bad.map(|name| file.finding(format!("`tessera-core` is built from `{name}`: the domain does no I/O"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::findings::assert_found;
    use super::*;

    fn edges(rows: &[(&str, &[&str])]) -> Edges {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        rows.iter().map(|(name, allowed)| ((*name).to_owned(), set(allowed))).collect()
    }

    fn architecture() -> SourceFile {
        let table = "| crate | knows | may depend on |\n|---|---|---|\n| `a` | all | `b` |\n| `b` | nothing | none |\n";
        SourceFile::for_test(ARCHITECTURE, &format!("| `z` | | `q` |\n{BEGIN}\n{table}{END}\n| `y` | | `q` |\n"))
    }

    #[test]
    fn the_table_is_what_stands_between_the_marks() {
        assert_eq!(table(&architecture().text), edges(&[("a", &["b"]), ("b", &[])]));
    }

    #[test]
    fn an_edge_that_is_not_in_the_table() {
        let file = architecture();
        let real = edges(&[("a", &["b"]), ("b", &["a"])]);
        assert_found(&compare(&file, &table(&file.text), &real), &["`b` depends on `a`"]);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate() {
        let file = architecture();
        let real = edges(&[("a", &[]), ("c", &[])]);
        assert_found(&compare(&file, &table(&file.text), &real), &["`c` has no row", "names `b`"]);
    }

    #[test]
    fn the_domain_does_no_io() {
        let tree = ["tessera-core", "tokio"].into_iter().map(str::to_owned).collect();
        assert_found(&domain(&architecture(), &tree), &["built from `tokio`"]);
    }
}
