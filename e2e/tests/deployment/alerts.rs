//! The alert rules: each can fire and can be quiet, says whom it wakes, and has its page in `docs/runbooks`, which has no other
//! pages. Whether the metrics exist is what `cargo xtask tidy` compares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tessera_e2e::{binary, tools};

use super::compose::{services, words};

/// What a page about an alert says, in this order.
const SECTIONS: [&str; 4] = ["## What it means", "## What users notice", "## Look at", "## Do"];

fn folder(name: &str) -> PathBuf {
    binary::repository().join("deploy/prometheus").join(name)
}

/// The YAML files of a folder, by name.
fn files(name: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder(name)).with_context(|| format!("list {name}"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let value = serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), value);
    }
    ensure!(!files.is_empty(), "deploy/prometheus/{name} is empty");
    Ok(files)
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Every alert by its name.
fn alerts() -> anyhow::Result<BTreeMap<String, Value>> {
    let mut alerts = BTreeMap::new();
    for (file, rules) in files("rules")? {
        for rule in list(&rules, "groups").flat_map(|group| list(group, "rules")) {
            if let Some(name) = rule.get("alert").and_then(Value::as_str) {
                ensure!(alerts.insert(name.to_owned(), rule.clone()).is_none(), "{file}: `{name}` is there twice");
            }
        }
    }
    Ok(alerts)
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() -> anyhow::Result<()> {
    let pages = binary::repository().join("docs/runbooks");
    let mut written = BTreeSet::new();
    for entry in std::fs::read_dir(&pages)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        written.extend(name.strip_suffix(".md").filter(|name| *name != "README").map(str::to_owned));
    }
    let index = std::fs::read_to_string(pages.join("README.md"))?;
    let alerts = alerts()?;
    assert_eq!(
        written,
        alerts.keys().cloned().collect(),
        "left: pages in docs/runbooks, right: alerts in deploy/prometheus/rules"
    );
    for (name, rule) in &alerts {
        let said = |field: &str| rule.pointer(field).and_then(Value::as_str).unwrap_or_default();
        let severity = said("/labels/severity");
        assert!(["page", "ticket"].contains(&severity), "{name}: the severity `{severity}` is neither page nor ticket");
        assert!(!said("/annotations/summary").is_empty() && !said("/annotations/description").is_empty(), "{name} says nothing");
        let page = format!("docs/runbooks/{name}.md");
        assert_eq!(said("/annotations/runbook_url"), page, "{name} points elsewhere");
        let text = std::fs::read_to_string(binary::repository().join(&page))?;
        assert!(text.starts_with(&format!("# {name}: ")), "{page} has another title");
        let places: Vec<Option<usize>> = SECTIONS.iter().map(|section| text.find(&format!("\n{section}\n"))).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{page} lacks one of {SECTIONS:?}, or has another order"
        );
        assert!(text.contains("\n```sh\n"), "{page} has no command");
        let row = format!("| [{name}]({name}.md) | {severity} |");
        assert!(index.contains(&row), "docs/runbooks/README.md lacks the row {row}");
    }
    Ok(())
}

#[test]
fn every_alert_is_tried_when_it_must_be_quiet_and_when_it_must_fire() -> anyhow::Result<()> {
    let mut tried = BTreeSet::new();
    for (file, tests) in files("tests")? {
        assert!(folder("rules").join(&file).is_file(), "tests/{file} is of no file in rules/");
        for test in list(&tests, "tests") {
            let name = test.get("name").and_then(Value::as_str).context("a test without a name")?;
            let expression = format!("count(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}})");
            let expected: Vec<usize> = list(test, "promql_expr_test")
                .filter(|asked| asked.get("expr").and_then(Value::as_str) == Some(&expression))
                .filter_map(|asked| Some(asked.get("exp_samples")?.as_array()?.len()))
                .collect();
            assert_eq!(expected, [0, 1], "{file}: {name} is not tried both ways");
            tried.insert(name.to_owned());
        }
    }
    assert_eq!(tried, alerts()?.into_keys().collect(), "left: what is tried, right: what there is");
    Ok(())
}

#[test]
fn promtool_takes_the_rules_and_their_tests_hold() -> anyhow::Result<()> {
    let Some(promtool) = tools::find("promtool")? else { return Ok(()) };
    let paths = |name: &str| -> anyhow::Result<Vec<PathBuf>> {
        Ok(files(name)?.into_keys().map(|file| folder(name).join(file)).collect())
    };
    binary::run(Command::new(&promtool).args(["check", "config"]).arg(folder("prometheus.yml")))?.success()?;
    binary::run(Command::new(&promtool).args(["check", "rules", "--lint=all", "--lint-fatal"]).args(paths("rules")?))?
        .success()?;
    binary::run(Command::new(&promtool).args(["test", "rules"]).args(paths("tests")?))?.success()?;
    Ok(())
}

#[test]
fn prometheus_of_the_compose_file_has_the_rules() -> anyhow::Result<()> {
    let configuration: Value = serde_saphyr::from_str(&super::compose::file("prometheus/prometheus.yml")?)?;
    assert_eq!(words(&configuration, "rule_files"), ["rules/*.yml"]);
    let services = services()?;
    let mounted = words(services.get("prometheus").context("no prometheus")?, "volumes");
    assert!(mounted.contains(&"./prometheus/rules:/etc/prometheus/rules:ro"), "{mounted:?}");
    Ok(())
}
