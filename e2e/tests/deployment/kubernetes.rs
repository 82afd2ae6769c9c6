//! The manifests for Kubernetes: valid by its schemas, no more allowed than is needed, and in step with what they start. Nothing
//! here runs a cluster.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tessera_e2e::{binary, tools};

use super::compose::words;

/// The files with manifests.
const FILES: [&str; 5] = ["loader.yaml", "migrate.yaml", "namespace.yaml", "network.yaml", "server.yaml"];
/// The oldest and the newest version of Kubernetes that they are held against.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// How long a process may drain, in seconds: `DRAIN_MAX` of its life cycle.
const DRAIN_MAX_S: u64 = 30;
/// And the whole end, from the signal on, also of a process that is stuck.
const END_MAX_S: u64 = 45;
/// What variables may be set by: nothing that is a secret.
const VARIABLES: [&str; 1] = ["TESSERA_SERVER__SNAPSHOT_DIR"];

fn folder() -> PathBuf {
    binary::repository().join("deploy/kubernetes")
}

fn file(name: &str) -> anyhow::Result<String> {
    let path = folder().join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Every manifest.
fn manifests() -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for name in FILES {
        for document in file(name)?.split("\n---\n") {
            all.push(serde_saphyr::from_str(document).with_context(|| format!("read {name}"))?);
        }
    }
    Ok(all)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn of_kind<'a>(all: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    all.iter().filter(move |manifest| text(manifest, "/kind") == kind)
}

/// Whatever starts pods, with its name.
fn workloads(all: &[Value]) -> Vec<(&str, &Value)> {
    let kinds = ["StatefulSet", "Deployment", "Job"];
    let found = kinds.into_iter().flat_map(|kind| of_kind(all, kind));
    found.map(|manifest| (text(manifest, "/metadata/name"), manifest)).collect()
}

/// Those that run for ever, and their only container.
fn processes(all: &[Value]) -> anyhow::Result<Vec<(&str, &Value, &Value)>> {
    let for_ever = workloads(all).into_iter().filter(|(_, manifest)| text(manifest, "/kind") != "Job");
    for_ever.map(|(name, manifest)| Ok((name, manifest, container(manifest)?))).collect()
}

fn container(manifest: &Value) -> anyhow::Result<&Value> {
    let containers = manifest.pointer("/spec/template/spec/containers").and_then(Value::as_array).context("no containers")?;
    ensure!(containers.len() == 1, "{} containers", containers.len());
    containers.first().context("no container")
}

fn flag<'a>(container: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    let found = words(container, "command").into_iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.with_context(|| format!("no {name}"))
}

#[test]
fn schemas_of_kubernetes_take_them() -> anyhow::Result<()> {
    let Some(validate) = tools::find("kubernetes-validate")? else { return Ok(()) };
    let run = |version: &str, path: PathBuf| {
        let finished = binary::run(Command::new(&validate).args(["--strict", "--no-warn", "-k", version]).arg(path))?;
        anyhow::Ok(finished)
    };
    for version in VERSIONS {
        for name in FILES {
            run(version, folder().join(name))?.success().with_context(|| format!("{name} of Kubernetes {version}"))?;
        }
    }
    // That it would say so.
    let spoilt = tempfile::tempdir()?;
    let wrong = spoilt.path().join("server.yaml");
    std::fs::write(&wrong, file("server.yaml")?.replace("readinessProbe:", "readynessProbe:"))?;
    assert!(run(VERSIONS[1], wrong)?.success().is_err(), "a field that does not exist is not noticed");
    Ok(())
}

#[test]
fn the_kustomization_names_what_there_is() -> anyhow::Result<()> {
    let kustomization: Value = serde_saphyr::from_str(&file("kustomization.yaml")?)?;
    let named: BTreeSet<&str> = words(&kustomization, "resources").into_iter().collect();
    let expected: BTreeSet<&str> = FILES.into_iter().filter(|name| *name != "migrate.yaml").collect();
    assert_eq!(named, expected);
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(folder())? {
        there.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let known = FILES.into_iter().chain(["README.md", "kustomization.yaml", "settings"]).map(str::to_owned).collect();
    assert_eq!(there, known);
    for settings in words(kustomization.pointer("/configMapGenerator/0").context("no settings")?, "files") {
        file(settings)?;
    }
    Ok(())
}

#[test]
fn the_migration_has_what_the_readme_makes_before_anything_runs() -> anyhow::Result<()> {
    let all = manifests()?;
    let (_, job) = workloads(&all).into_iter().find(|(name, _)| *name == "tessera-migrate").context("no migration")?;
    let volumes = job.pointer("/spec/template/spec/volumes").and_then(Value::as_array).context("no volumes")?;
    let names = ["/configMap/name", "/secret/secretName"];
    let names = names.into_iter().flat_map(|name| volumes.iter().filter_map(move |volume| volume.pointer(name)));
    let readme = file("README.md")?;
    let at = |words: &str| readme.find(words).with_context(|| format!("README.md has no `{words}`"));
    let applied = at("apply --kustomize")?;
    let migrated = at("replace --force")?;
    assert!(migrated < applied, "processes start before the migration");
    let mut made = 0;
    for name in names {
        let name = name.as_str().context("a name")?;
        let words = [format!("create configmap {name} "), format!("create secret generic {name} ")];
        let first = words.iter().filter_map(|words| readme.find(words)).min();
        assert!(first.is_some_and(|first| first < migrated), "`{name}` is not made before the migration");
        made += 1;
    }
    assert_eq!(made, 2);
    Ok(())
}

#[test]
fn pods_keep_to_the_restricted_standard_and_hold_no_secret_in_the_open() -> anyhow::Result<()> {
    let all = manifests()?;
    let namespace = of_kind(&all, "Namespace").next().context("no namespace")?;
    let enforced = namespace.pointer("/metadata/labels/pod-security.kubernetes.io~1enforce");
    assert_eq!(enforced, Some(&json!("restricted")));
    assert_eq!(of_kind(&all, "Secret").count(), 0, "a secret is no business of the repository");
    let workloads = workloads(&all);
    assert_eq!(workloads.len(), 3);
    for (name, manifest) in workloads {
        let pod = manifest.pointer("/spec/template/spec").context("no pod")?;
        assert_eq!(pod.get("automountServiceAccountToken"), Some(&json!(false)), "{name}");
        let around = pod.get("securityContext").context("no context")?;
        assert_eq!(around.get("runAsNonRoot"), Some(&json!(true)), "{name}");
        assert_eq!(around.pointer("/seccompProfile/type"), Some(&json!("RuntimeDefault")), "{name}");
        for shared in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            assert_eq!(pod.get(shared), None, "{name}: {shared}");
        }
        let container = container(manifest)?;
        let expected = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(container.get("securityContext"), Some(&expected), "{name}");
        for limit in ["/resources/requests/cpu", "/resources/requests/memory", "/resources/limits/memory"] {
            assert!(container.pointer(limit).is_some(), "{name} has no {limit}");
        }
        let variables = container.get("env").and_then(Value::as_array).into_iter().flatten();
        for variable in variables {
            assert!(VARIABLES.contains(&text(variable, "/name")) && variable.get("valueFrom").is_none(), "{name}: {variable}");
        }
        assert_eq!(container.get("envFrom"), None, "{name}");
        let secret = |word: &&str| ["password", "token", "key"].iter().any(|secret| word.contains(secret));
        assert_eq!(words(container, "command").iter().find(|word| secret(word)), None, "{name}");
        let mounts = container.get("volumeMounts").and_then(Value::as_array).context("no mounts")?;
        let volumes = pod.get("volumes").and_then(Value::as_array).context("no volumes")?;
        for volume in volumes {
            let mount = mounts.iter().find(|mount| mount.get("name") == volume.get("name")).context("a volume is not mounted")?;
            assert_eq!(mount.get("readOnly"), Some(&json!(true)), "{name} can write to {volume}");
            // In decimal digits: 0440 is one number to one reader of YAML and another to the next.
            let mode = volume.pointer("/secret/defaultMode").and_then(Value::as_u64);
            assert!(volume.get("secret").is_none() || mode == Some(0o440), "{name}: others can read {volume}");
        }
    }
    Ok(())
}

#[test]
fn what_they_start_exists_and_is_the_version_of_this_repository() -> anyhow::Result<()> {
    let all = manifests()?;
    for (name, manifest) in workloads(&all) {
        let container = container(manifest)?;
        assert_eq!(text(container, "/image"), format!("tessera:{}", env!("CARGO_PKG_VERSION")), "{name}");
        let command = words(container, "command");
        let program = match *command.first().context("no command")? {
            "tessera" => binary::tessera()?,
            "tessera-server" => binary::server()?,
            "tessera-loader" => binary::loader()?,
            other => anyhow::bail!("`{other}` is none of our programs"),
        };
        let subcommands = command.iter().skip(1).take_while(|word| !word.starts_with("--"));
        let help = binary::run(Command::new(program).args(subcommands).arg("--help"))?.success()?;
        for flag in command.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().unwrap_or_default();
            let known = help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
            assert!(known, "{name} has no flag `{flag}`:\n{help}");
        }
        let settings = flag(container, "--settings")?.strip_prefix("/etc/tessera/").context("settings elsewhere")?;
        file(settings)?;
    }
    Ok(())
}

#[test]
fn probes_ask_the_pages_and_the_end_is_waited_for() -> anyhow::Result<()> {
    let all = manifests()?;
    let processes = processes(&all)?;
    assert_eq!(processes.len(), 2);
    for (name, manifest, container) in processes {
        for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
            let asked = container.pointer(&format!("/{probe}/httpGet")).with_context(|| format!("{name} has no {probe}"))?;
            assert_eq!(asked, &json!({ "path": path, "port": "pages" }), "{name}");
        }
        assert!(container.get("startupProbe").is_none(), "{name} is killed while it waits for the store");
        let ports = container.get("ports").and_then(Value::as_array).context("no ports")?;
        let port = |name: &str| {
            let found = ports.iter().find(|port| text(port, "/name") == name);
            found.and_then(|port| port.get("containerPort")?.as_u64()).context("no port")
        };
        assert_eq!(flag(container, "--http-listen")?, format!("0.0.0.0:{}", port("pages")?), "{name}");
        let plane = if name == "tessera-server" { "--data-listen" } else { "--control-listen" };
        assert_eq!(flag(container, plane)?, format!("0.0.0.0:{}", port("grpc")?), "{name}");
        let grace = manifest.pointer("/spec/template/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
        assert!(grace.is_some_and(|grace| grace >= END_MAX_S + 5), "{name} is killed before it ends: {grace:?}");
        let delay = file(flag(container, "--settings")?.trim_start_matches("/etc/tessera/"))?;
        let delay = delay.lines().find_map(|line| line.strip_prefix("drain_delay_s = ")).context("no drain_delay_s")?;
        let delay: u64 = delay.parse()?;
        // Endpoints are told after a probe has failed, and it fails at the next look.
        let look = container.pointer("/readinessProbe/periodSeconds").and_then(Value::as_u64).context("no period")?;
        assert!(delay > look && delay < DRAIN_MAX_S, "{name}: calls are refused before anybody has noticed");
    }
    Ok(())
}

#[test]
fn they_are_spread_budgeted_and_reachable_only_where_it_is_said() -> anyhow::Result<()> {
    let all = manifests()?;
    for (name, manifest, _) in processes(&all)? {
        let labels = manifest.pointer("/spec/selector/matchLabels").context("no selector")?;
        assert_eq!(manifest.pointer("/spec/template/metadata/labels/app.kubernetes.io~1name"), Some(&json!(name)));
        let spread = manifest.pointer("/spec/template/spec/topologySpreadConstraints").and_then(Value::as_array);
        let keys: Vec<&str> = spread.into_iter().flatten().map(|rule| text(rule, "/topologyKey")).collect();
        assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"], "{name}");
        assert!(manifest.pointer("/spec/replicas").and_then(Value::as_u64) >= Some(2), "{name} is alone");
        let budget =
            of_kind(&all, "PodDisruptionBudget").find(|budget| budget.pointer("/spec/selector/matchLabels") == Some(labels));
        assert_eq!(budget.and_then(|budget| budget.pointer("/spec/maxUnavailable")), Some(&json!(1)), "{name}");
        let service = of_kind(&all, "Service").find(|service| service.pointer("/spec/selector") == Some(labels));
        assert!(service.is_some(), "{name} has no service");
    }
    let policies: Vec<&Value> = of_kind(&all, "NetworkPolicy").collect();
    let nothing = policies.iter().find(|policy| policy.pointer("/spec/podSelector") == Some(&json!({}))).context("no default")?;
    assert_eq!(nothing.pointer("/spec/policyTypes"), Some(&json!(["Ingress", "Egress"])));
    assert!(nothing.pointer("/spec/ingress").is_none() && nothing.pointer("/spec/egress").is_none(), "the default lets some in");
    for rule in policies.iter().flat_map(|policy| {
        let rules = |name: &str| policy.pointer(&format!("/spec/{name}")).and_then(Value::as_array).cloned().unwrap_or_default();
        [rules("ingress"), rules("egress")].concat()
    }) {
        let who = rule.get("from").or_else(|| rule.get("to")).and_then(Value::as_array);
        assert!(who.is_some_and(|who| !who.is_empty()), "everybody may: {rule}");
        assert!(rule.get("ports").and_then(Value::as_array).is_some_and(|ports| !ports.is_empty()), "every port: {rule}");
        assert!(!rule.to_string().contains("0.0.0.0/0"), "everywhere: {rule}");
    }
    Ok(())
}

#[test]
fn the_alert_on_memory_knows_the_limit_of_a_server() -> anyhow::Result<()> {
    let all = manifests()?;
    let (_, _, server) = *processes(&all)?.iter().find(|(name, ..)| *name == "tessera-server").context("no server")?;
    let gib: u64 = text(server, "/resources/limits/memory").strip_suffix("Gi").context("not in GiB")?.parse()?;
    let rules = super::compose::file("prometheus/rules/process.yml")?;
    assert!(rules.contains(&format!("expr: vector({})\n", gib << 30)), "the rules go by another limit than {gib} GiB");
    Ok(())
}
