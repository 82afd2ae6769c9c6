//! Prometheus and Grafana as they are provisioned: they ask the processes that there are, and each other. Whether the metrics of
//! the dashboard exist is what `cargo xtask tidy` compares.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;

use super::compose::{file, flag, services, variable, words};

#[test]
fn prometheus_asks_every_process() -> anyhow::Result<()> {
    let configuration: Value = serde_saphyr::from_str(&file("prometheus/prometheus.yml")?)?;
    let mut asked = BTreeMap::new();
    for job in configuration.get("scrape_configs").and_then(Value::as_array).context("no jobs")? {
        let name = job.get("job_name").and_then(Value::as_str).context("a job without a name")?.to_owned();
        let groups = job.get("static_configs").and_then(Value::as_array).context("no targets")?;
        let targets: BTreeSet<String> = groups.iter().flat_map(|group| words(group, "targets")).map(str::to_owned).collect();
        asked.insert(name, targets);
    }
    let mut running: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for service in services()?.values() {
        if let (Some(pages), Some(program)) = (flag(service, "--http-listen"), words(service, "command").first()) {
            running.entry((*program).to_owned()).or_default().insert(pages.to_owned());
        }
    }
    assert_eq!(asked, running);
    Ok(())
}

#[test]
fn grafana_finds_prometheus_and_the_dashboard() -> anyhow::Result<()> {
    let services = services()?;
    let sources: Value = serde_saphyr::from_str(&file("grafana/provisioning/datasources/prometheus.yaml")?)?;
    let source = sources.pointer("/datasources/0").context("no data source")?;
    let prometheus = words(services.get("prometheus").context("no prometheus")?, "command");
    let listens = prometheus.iter().find_map(|word| word.strip_prefix("--web.listen-address=")).context("it listens nowhere")?;
    assert_eq!(source.get("url"), Some(&Value::String(format!("http://{listens}"))));

    let dashboard = file("grafana/dashboards/tessera.json")?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let uid = source.get("uid").context("no uid")?;
    for source in all(&dashboard, "datasource") {
        assert_eq!(source.get("uid"), Some(uid), "a panel asks another data source");
    }

    let providers: Value = serde_saphyr::from_str(&file("grafana/provisioning/dashboards/tessera.yaml")?)?;
    let path = providers.pointer("/providers/0/options/path").and_then(Value::as_str).context("no path")?;
    let grafana = services.get("grafana").context("no grafana")?;
    assert!(words(grafana, "volumes").contains(&format!("./grafana/dashboards:{path}:ro").as_str()));
    assert!(words(grafana, "volumes").contains(&"./grafana/provisioning:/etc/grafana/provisioning:ro"));
    let home = variable(grafana, "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH");
    assert_eq!(home, Some(format!("{path}/tessera.json")));
    Ok(())
}

#[test]
fn panels_have_a_place_of_their_own_and_say_what_they_show() -> anyhow::Result<()> {
    let dashboard: Value = serde_json::from_str(&file("grafana/dashboards/tessera.json")?)?;
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard.get("panels").and_then(Value::as_array).context("no panels")? {
        let title = panel.get("title").and_then(Value::as_str).context("a panel without a title")?;
        assert!(ids.insert(panel.get("id").and_then(Value::as_u64).context("no id")?), "{title}: its id is used twice");
        let at = |name: &str| panel.pointer(&format!("/gridPos/{name}")).and_then(Value::as_u64).context("no place");
        let (left, top, width, height) = (at("x")?, at("y")?, at("w")?, at("h")?);
        assert!(left + width <= 24, "{title} is beyond the edge");
        for cell in (left..left + width).flat_map(|x| (top..top + height).map(move |y| (x, y))) {
            assert!(places.insert(cell), "{title} covers another panel");
        }
        if panel.get("type").and_then(Value::as_str) != Some("row") {
            let about = panel.get("description").and_then(Value::as_str).unwrap_or_default();
            assert!(!about.is_empty(), "{title} does not say what it shows");
            assert!(
                panel.get("targets").and_then(Value::as_array).is_some_and(|queries| !queries.is_empty()),
                "{title} asks nothing"
            );
        }
    }
    assert!(ids.len() > 20);
    Ok(())
}

/// Every value of that name, however deep.
fn all<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(field, value)| if field == name { vec![value] } else { all(value, name) }).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| all(item, name)).collect(),
        _ => Vec::new(),
    }
}
