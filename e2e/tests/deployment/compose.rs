//! The compose file and the image: programs and flags that exist, versions that are pinned, files that are there, addresses that
//! nobody reaches from another machine and no two share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;
use tessera_e2e::binary;

/// A file of `deploy/`.
pub(crate) fn file(name: &str) -> anyhow::Result<String> {
    let path = folder().join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn folder() -> PathBuf {
    binary::repository().join("deploy")
}

/// The services of the compose file, by name, with what they take over from others.
pub(crate) fn services() -> anyhow::Result<BTreeMap<String, Value>> {
    let compose = compose()?;
    let services = compose.get("services").and_then(Value::as_object).context("there are no services")?;
    Ok(services.iter().map(|(name, service)| (name.clone(), service.clone())).collect())
}

fn compose() -> anyhow::Result<Value> {
    serde_saphyr::from_str(&file("compose.yaml")?).context("read compose.yaml")
}

/// The words of a list, such as a command; none when there is no such list.
pub(crate) fn words<'a>(service: &'a Value, list: &str) -> Vec<&'a str> {
    service.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What follows a flag in a service's command.
pub(crate) fn flag<'a>(service: &'a Value, name: &str) -> Option<&'a str> {
    let command = words(service, "command");
    let at = command.iter().position(|word| *word == name)?;
    command.get(at + 1).copied()
}

fn is_ours(service: &Value) -> bool {
    service.get("image").and_then(Value::as_str).is_some_and(|image| image.starts_with("tessera:"))
}

/// What a program says of its flags.
fn help(command: &[&str]) -> anyhow::Result<String> {
    let program = match command.first() {
        Some(&"tessera") => binary::tessera()?,
        Some(&"tessera-server") => binary::server()?,
        Some(&"tessera-loader") => binary::loader()?,
        other => anyhow::bail!("{other:?} is none of our programs"),
    };
    let commands = command.iter().skip(1).take_while(|word| !word.starts_with('-'));
    binary::run(Command::new(program).args(commands).arg("--help"))?.success()
}

#[test]
fn it_is_the_deployment_that_it_says_it_is() -> anyhow::Result<()> {
    let names: Vec<String> = services()?.into_keys().collect();
    let expected =
        ["grafana", "kafka", "loader-1", "loader-2", "migrate", "prometheus", "scylladb", "server-1", "server-2", "server-3"];
    assert_eq!(names, expected);
    Ok(())
}

#[test]
fn every_command_exists_with_its_flags() -> anyhow::Result<()> {
    let mut programs = BTreeSet::new();
    for (name, service) in services()?.iter().filter(|(_, service)| is_ours(service)) {
        let command = words(service, "command");
        let help = help(&command).with_context(|| name.clone())?;
        let flags: Vec<&str> = command.iter().filter(|word| word.starts_with("--")).copied().collect();
        assert!(flags.contains(&"--settings"), "{name} has no settings");
        for flag in flags {
            let known = help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
            assert!(known, "{name}: `{}` has no flag `{flag}`:\n{help}", command.join(" "));
        }
        programs.extend(command.first().map(|program| (*program).to_owned()));
    }
    assert_eq!(programs.into_iter().collect::<Vec<_>>(), ["tessera", "tessera-loader", "tessera-server"]);
    Ok(())
}

#[test]
fn images_are_pinned() -> anyhow::Result<()> {
    let services = services()?;
    let mut images: Vec<String> =
        services.values().filter_map(|service| service.get("image")?.as_str()).map(str::to_owned).collect();
    assert_eq!(images.len(), services.len(), "a service has no image");
    let dockerfile = file("Dockerfile")?;
    let bases = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).filter_map(|rest| rest.split(' ').next());
    images.extend(bases.map(str::to_owned));
    for image in &images {
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).with_context(|| format!("`{image}` has no tag"))?;
        let version = tag.trim_start_matches('v').split('-').next().unwrap_or_default();
        let numbers: Vec<&str> = version.split('.').collect();
        let all_numbers = numbers.iter().all(|number| number.parse::<u32>().is_ok());
        assert!(numbers.len() >= 2 && all_numbers, "`{image}` does not say which version");
    }
    let toolchain = std::fs::read_to_string(binary::repository().join("rust-toolchain.toml"))?;
    let channel = toolchain.split('"').nth(1).context("rust-toolchain.toml names no channel")?;
    assert!(images.contains(&format!("rust:{channel}-bookworm")), "the image is not built by Rust {channel}: {images:?}");
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={channel}\n")));
    let ours = format!("tessera:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(images.iter().filter(|image| image.starts_with("tessera:") && **image != ours).count(), 0, "ours is {ours}");
    Ok(())
}

#[test]
fn nothing_runs_as_root_or_keeps_a_secret() -> anyhow::Result<()> {
    let dockerfile = file("Dockerfile")?;
    let last_user = dockerfile.lines().rfind(|line| line.starts_with("USER "));
    assert_eq!(last_user, Some("USER 10001:10001"));
    for (name, service) in services()?.iter().filter(|(_, service)| is_ours(service)) {
        assert_eq!(service.get("user"), None, "{name}");
        assert_eq!(service.get("privileged"), None, "{name}");
        assert_eq!(words(service, "cap_drop"), ["ALL"], "{name}");
    }
    for secret in ["PASSWORD", "SECRET", "TOKEN", "password_file"] {
        assert!(
            !file("compose.yaml")?.contains(secret) && !file("settings/compose.toml")?.contains(&format!("\n{secret}")),
            "{secret}"
        );
    }
    Ok(())
}

#[test]
fn addresses_are_loopback_and_of_one_process_each() -> anyhow::Result<()> {
    let mut taken = BTreeMap::new();
    for (name, service) in services()? {
        let mut addresses: Vec<String> = Vec::new();
        for mapped in words(&service, "ports") {
            let (address, _) = mapped.rsplit_once(':').with_context(|| format!("{name}: `{mapped}`"))?;
            addresses.push(address.to_owned());
        }
        let flags = ["--data-listen", "--control-listen", "--http-listen"];
        addresses.extend(flags.iter().filter_map(|name| flag(&service, name)).map(str::to_owned));
        let prometheus = words(&service, "command").into_iter().find_map(|word| word.strip_prefix("--web.listen-address="));
        addresses.extend(prometheus.map(str::to_owned));
        if let Some(host) = variable(&service, "GF_SERVER_HTTP_ADDR") {
            addresses.push(format!("{host}:{}", variable(&service, "GF_SERVER_HTTP_PORT").unwrap_or_default()));
        }
        let in_network_of_host = service.get("network_mode").and_then(Value::as_str) == Some("host");
        assert!(name == "migrate" || !addresses.is_empty(), "{name} listens nowhere");
        assert!(!in_network_of_host || service.get("ports").is_none(), "{name} has the network of the host and maps ports");
        for address in addresses {
            let parsed: SocketAddr = address.parse().with_context(|| format!("{name}: `{address}`"))?;
            assert!(parsed.ip().is_loopback(), "{name} listens on `{address}`");
            if let Some(other) = taken.insert(parsed, name.clone()) {
                panic!("{other} and {name} both listen on `{address}`");
            }
        }
    }
    Ok(())
}

/// A variable of a service's environment.
pub(crate) fn variable(service: &Value, name: &str) -> Option<String> {
    let value = service.get("environment")?.get(name)?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

#[test]
fn mounted_files_exist_and_volumes_are_declared() -> anyhow::Result<()> {
    let compose = compose()?;
    let declared: BTreeSet<String> =
        compose.get("volumes").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let mut used = BTreeSet::new();
    for (name, service) in services()? {
        for mounted in words(&service, "volumes") {
            let (from, to) = mounted.split_once(':').with_context(|| format!("{name}: `{mounted}`"))?;
            if let Some(path) = from.strip_prefix("./") {
                assert!(folder().join(path).exists(), "{name}: deploy/{path} does not exist");
                assert!(to.ends_with(":ro"), "{name} can write to deploy/{path}");
            } else {
                let first = used.insert(from.to_owned());
                assert!(first, "{name} shares `{from}` with another");
            }
        }
        if let Some(settings) = flag(&service, "--settings") {
            let mounted = words(&service, "volumes").iter().any(|volume| volume.contains(&format!(":{settings}:")));
            assert!(mounted, "{name}: `{settings}` is not mounted");
        }
        if let Some(snapshots) = variable(&service, "TESSERA_SERVER__SNAPSHOT_DIR") {
            let volume = words(&service, "volumes")
                .iter()
                .filter_map(|volume| volume.split(':').nth(1))
                .any(|to| snapshots.starts_with(to));
            assert!(volume, "{name}: `{snapshots}` is on no volume");
        }
    }
    assert_eq!(used, declared);
    Ok(())
}

#[test]
fn services_wait_for_what_there_is_to_wait_for() -> anyhow::Result<()> {
    let services = services()?;
    for (name, service) in &services {
        for (other, how) in service.get("depends_on").and_then(Value::as_object).into_iter().flatten() {
            let awaited = services.get(other).with_context(|| format!("{name} waits for `{other}`"))?;
            let condition = how.get("condition").and_then(Value::as_str);
            assert!(condition != Some("service_healthy") || awaited.get("healthcheck").is_some(), "{other} never is healthy");
        }
        if let Some(pages) = flag(service, "--http-listen") {
            let check = service.get("healthcheck").and_then(|check| check.get("test")).context("no health check")?.to_string();
            let pages: SocketAddr = pages.parse()?;
            assert!(check.contains(&format!("/dev/tcp/{}/{} ", pages.ip(), pages.port())), "{name} asks another: {check}");
        }
    }
    Ok(())
}

#[test]
fn settings_name_the_engines_where_they_are() -> anyhow::Result<()> {
    let settings = file("settings/compose.toml")?;
    for (engine, setting) in [("scylladb", "contact_points"), ("kafka", "brokers")] {
        let services = services()?;
        let mapped = words(services.get(engine).context(engine)?, "ports");
        let first = mapped.first().and_then(|mapped| mapped.rsplit_once(':')).map(|(address, _)| address.to_owned());
        let line = format!("{setting} = [\"{}\"]\n", first.context("no port")?);
        assert!(settings.contains(&line), "settings/compose.toml has no line {line}");
    }
    Ok(())
}
