//! Which store is meant: what settings and environment name, as for `tessera dev`, or a data directory that somebody says.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tessera_backends::{Config, ScyllaConfig, SqliteConfig};
use tessera_runtime::settings::{self, Sources};

/// Where data is kept when nobody says where.
const DATA_DIR: &str = ".tessera";
/// Names the settings file where no flag does. Not clap's: it would take this for the flag, which others exclude or need.
const SETTINGS_FILE: &str = "TESSERA_SETTINGS";

type Environment = [(String, String)];

/// Which settings of the backends somebody has made, whatever they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Made {
    backends: serde_json::Map<String, serde_json::Value>,
}

impl Made {
    fn load(file: Option<&Path>, environment: &Environment) -> anyhow::Result<Self> {
        settings::load(Sources { file, environment: environment.to_vec(), flags: Vec::new() }).context("settings")
    }

    fn is_sqlite(&self) -> bool {
        self.backends.get("kind").is_none_or(|kind| kind == "sqlite")
    }
}

/// The part of the settings that names the backends; the others are their processes' business.
#[derive(Debug, Deserialize)]
struct Backends {
    backends: Config,
}

/// The variables of this process. One that is not text is nobody's setting.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Settings of file and environment; where data is kept and in what has defaults here, and `data` wins.
pub(super) fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: &Environment,
    data: Option<&Path>,
) -> anyhow::Result<T> {
    let made = Made::load(file, environment)?;
    let mut flags = Vec::new();
    if let Some(data) = data {
        flags.push(("backends.data_dir", data.to_str().context("--data: the path is not UTF-8")?.to_owned()));
    } else if !made.backends.contains_key("data_dir") && made.is_sqlite() {
        flags.push(("backends.data_dir", DATA_DIR.to_owned()));
    }
    if !made.backends.contains_key("kind") {
        flags.push(("backends.kind", "sqlite".to_owned()));
    }
    settings::load(Sources { file, environment: environment.to_vec(), flags }).context("settings")
}

/// The store of a command that opens it itself.
pub(super) fn config(settings: Option<&Path>, data: Option<&Path>) -> anyhow::Result<Config> {
    config_of(settings, data, &environment())
}

fn config_of(settings: Option<&Path>, data: Option<&Path>, environment: &Environment) -> anyhow::Result<Config> {
    if let Some(data) = data {
        // The environment may be of a cluster, which has nothing to say of a directory that somebody names.
        return Ok(Config::Sqlite(SqliteConfig::new(data)));
    }
    let of_environment = || environment.iter().find(|(name, _)| name == SETTINGS_FILE).map(|(_, file)| Path::new(file));
    Ok(load::<Backends>(settings.or_else(of_environment), environment, None)?.backends)
}

/// Which store that is, in words.
pub(super) fn named(config: &Config) -> String {
    match config {
        Config::Sqlite(sqlite) => format!("the database in `{}`", sqlite.data_dir.display()),
        Config::Cluster(cluster) => {
            let ScyllaConfig { keyspace, contact_points, .. } = &cluster.scylla;
            format!("keyspace `{keyspace}` at `{}`", contact_points.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQLITE: &str = "[backends]\ndata_dir = \"of-the-file\"\n[server]\nthreads = 1\n";
    const CLUSTER: &str = "[backends]\nkind = \"cluster\"\nscylla = { contact_points = [\"a:1\"], keyspace = \"k\" }\n\
                           kafka = { brokers = [\"b:2\"] }\n";

    /// The store that is meant where the first file is named by a flag and the second by the environment.
    fn meant(flag: Option<&str>, variable: Option<&str>, data: Option<&str>, more: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let flag = flag.map(|text| written("flag.toml", text));
        let variable = variable.map(|text| written("variable.toml", text).display().to_string());
        let mut environment: Vec<_> = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        environment.extend(variable.map(|path| (SETTINGS_FILE.to_owned(), path)));
        named(&config_of(flag.as_deref(), data.map(Path::new), &environment).expect("a store"))
    }

    #[test]
    fn it_is_the_one_of_tessera_dev_unless_somebody_says_another() {
        let database = |folder: &str| format!("the database in `{folder}`");
        let keyspace = "keyspace `k` at `a:1`";
        assert_eq!(meant(None, None, None, &[]), database(".tessera"));
        assert_eq!(meant(None, Some("[server]\nthreads = 1\n"), None, &[]), database(".tessera"));
        assert_eq!(meant(None, Some(SQLITE), None, &[]), database("of-the-file"));
        assert_eq!(meant(None, Some(CLUSTER), None, &[]), keyspace);
        assert_eq!(meant(Some(SQLITE), Some(CLUSTER), None, &[]), database("of-the-file"));
        assert_eq!(meant(Some(CLUSTER), Some(SQLITE), None, &[]), keyspace);
        let variable = [("TESSERA_BACKENDS__DATA_DIR", "of-the-variable")];
        assert_eq!(meant(None, None, None, &variable), database("of-the-variable"));
        assert_eq!(meant(None, Some(SQLITE), None, &variable), database("of-the-variable"));
        for variable_file in [None, Some(SQLITE), Some(CLUSTER)] {
            assert_eq!(meant(None, variable_file, Some("said"), &[]), database("said"));
        }
        assert_eq!(meant(None, None, Some("said"), &variable), database("said"));
    }

    #[test]
    fn a_settings_file_that_the_environment_names_is_there() {
        let environment = [(SETTINGS_FILE.to_owned(), "/nonexistent.toml".to_owned())];
        let error = config_of(None, None, &environment).expect_err("no file");
        assert!(format!("{error:#}").contains("`/nonexistent.toml`"), "{error:#}");
        let said = config_of(None, Some(Path::new("said")), &environment).expect("nobody reads it");
        assert_eq!(named(&said), "the database in `said`");
    }
}
