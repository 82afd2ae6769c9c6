//! The samples in `deploy/settings`, read as the processes read them: every name exists, every value is allowed, nothing is left
//! out, and what is not an address or a folder stands at its default, as the samples say.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tessera_runtime::listener::ListenerConfig;
use tessera_runtime::settings::{self, Sources};
use tessera_runtime::telemetry;

type Backends = tessera_backends::Config;
type Loader = tessera_loader::config::Config;
type Server = tessera_server::Config;
type OfServer = tessera_server::process::Settings<Backends>;
type OfLoader = tessera_loader::process::Settings<Backends>;
type OfDev = tessera_cli::commands::dev::Settings;
type Envoy = tessera_server::ext_authz::settings::Settings;

/// The samples that write everything out.
const WHOLE: [&str; 3] = ["dev.toml", "loader.toml", "server.toml"];
/// Settings of which every deployment has its own, or none.
const OWN: [&str; 9] = [
    "brokers",
    "contact_points",
    "data_dir",
    "local_datacenter",
    "mechanism",
    "password_file",
    "security",
    "snapshot_dir",
    "user",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/settings")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect(name)
}

/// Reads a sample as a process reads its settings file.
#[track_caller]
fn load<T: DeserializeOwned>(text: &str, environment: &[(String, String)]) -> T {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("a file");
    let sources = Sources { file: Some(file.path()), environment: environment.to_vec(), flags: Vec::new() };
    settings::load(sources).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Reads a sample as whoever it is for, refuses what that would refuse, and says what all settings are then.
#[track_caller]
fn as_read(name: &str, text: &str) -> Value {
    let judge = |server: Option<&Server>,
                 loader: Option<&Loader>,
                 listener: &ListenerConfig,
                 telemetry: &telemetry::Config,
                 backends: &Backends| {
        assert_eq!(server.map(Server::validate), server.map(|_| Ok(())), "{name}");
        let ext_authz = server.and_then(|server| server.ext_authz.as_ref());
        assert_eq!(ext_authz.map(Envoy::validate), ext_authz.map(|_| Ok(())), "{name}");
        assert_eq!(loader.map(Loader::validate), loader.map(|_| Vec::new()), "{name}");
        listener.validate().expect(name);
        telemetry.traces.iter().for_each(|traces| traces.validate().expect(name));
        assert_eq!(backends.validate(), Ok(()), "{name}");
    };
    let value = match name {
        "server.toml" => {
            let read: OfServer = load(text, &[]);
            judge(Some(&read.server), None, &read.listener, &read.telemetry, &read.backends);
            assert!(read.backends.is_shared(), "{name}");
            serde_json::to_value(read)
        }
        "loader.toml" => {
            let read: OfLoader = load(text, &[]);
            judge(None, Some(&read.loader), &read.listener, &read.telemetry, &read.backends);
            assert!(read.backends.is_shared(), "{name}");
            serde_json::to_value(read)
        }
        "dev.toml" => {
            let read: OfDev = load(text, &[]);
            judge(Some(&read.server), Some(&read.loader), &read.listener, &read.telemetry, &read.backends);
            assert!(read.backends.data_dir().is_some(), "{name}");
            serde_json::to_value(read)
        }
        // Of every process of the compose file.
        "compose.toml" => {
            let read: OfLoader = load(text, &[]);
            judge(None, Some(&read.loader), &read.listener, &read.telemetry, &read.backends);
            assert!(read.backends.is_shared(), "{name}");
            serde_json::to_value(load::<OfServer>(text, &[]))
        }
        other => panic!("nobody reads `deploy/settings/{other}`"),
    };
    value.expect("JSON")
}

/// The text with the settings that stand there as comments: lines with `#` and no space.
fn with_those_in_comments(text: &str) -> String {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// What a file says, with no defaults.
fn as_written(text: &str) -> Value {
    load(text, &[])
}

/// Names of all settings, with their sections, and what they are.
fn flat(value: &Value, prefix: &str, into: &mut Map<String, Value>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        if value.is_object() {
            flat(value, &format!("{path}."), into);
        } else {
            into.insert(path, value.clone());
        }
    }
}

fn settings_of(value: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    flat(value, "", &mut all);
    all
}

#[test]
fn every_sample_is_read_by_its_process() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, ["compose.toml", "dev.toml", "loader.toml", "server.toml"]);
    for name in &names {
        as_read(name, &text(name));
        as_read(name, &with_those_in_comments(&text(name)));
    }
}

#[test]
fn whole_samples_leave_nothing_out() {
    for name in WHOLE {
        let text = with_those_in_comments(&text(name));
        let (known, written) = (settings_of(&as_read(name, &text)), settings_of(&as_written(&text)));
        let forgotten: Vec<&String> = known.keys().filter(|setting| !written.contains_key(*setting)).collect();
        assert!(forgotten.is_empty(), "deploy/settings/{name} does not have {forgotten:?}");
    }
}

#[test]
fn whole_samples_stand_at_the_defaults() {
    for name in WHOLE {
        let text = text(name);
        let own = |path: &str| path.rsplit('.').next().is_some_and(|setting| OWN.contains(&setting) || setting == "kind");
        // What a file says that makes only the settings that have no default.
        let mut bare = as_written(&text);
        retain(&mut bare, &|path| own(path), "");
        let bare = as_read(name, &to_toml(&bare));
        assert_eq!(settings_of(&as_read(name, &text)), settings_of(&bare), "{name}");
    }
}

/// Removes the settings that `keep` does not want.
fn retain(value: &mut Value, keep: &impl Fn(&str) -> bool, prefix: &str) {
    let Value::Object(fields) = value else { return };
    fields.retain(|name, value| {
        let path = format!("{prefix}{name}");
        retain(value, keep, &format!("{path}."));
        value.is_object() || keep(&path)
    });
}

/// Sections of sections, strings, numbers and lists of strings are all that settings have; JSON writes the latter as TOML does.
fn to_toml(value: &Value) -> String {
    let lines: Vec<String> = settings_of(value).iter().map(|(path, value)| format!("{path} = {value}")).collect();
    lines.join("\n")
}

#[test]
fn the_environment_of_the_compose_file_is_made_of_settings() {
    let compose = std::fs::read_to_string(folder().join("../compose.yaml")).expect("the compose file");
    let compose: Value = serde_saphyr::from_str(&compose).expect("YAML");
    let services = compose.get("services").and_then(Value::as_object).expect("services");
    let mut folders = 0;
    for (name, service) in services.iter().filter(|(name, _)| name.starts_with("server-")) {
        let variables = service.get("environment").and_then(Value::as_object).expect(name);
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())).collect();
        let read: OfServer = load(&text("compose.toml"), &variables);
        assert_eq!(read.server.validate(), Ok(()), "{name}");
        folders += usize::from(read.server.snapshot_folder(read.backends.data_dir()).is_some());
    }
    assert_eq!(folders, 3, "not every server has a folder for its snapshots");
}

#[test]
fn settings_for_kubernetes_are_read_by_their_processes() {
    let folder = folder().join("../kubernetes/settings");
    for name in ["server.toml", "loader.toml"] {
        let text = std::fs::read_to_string(folder.join(name)).expect(name);
        as_read(name, &text);
    }
}
