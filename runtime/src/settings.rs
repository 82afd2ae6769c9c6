//! Settings: a TOML file, then the environment, then flags, merged into one typed value; each later one wins.
//!
//! A value is decoded with `deny_unknown_fields`, so a misspelt name is an error wherever it stands. Environment variables are
//! `TESSERA_<SECTION>__<FIELD>`, in capitals; those without the double underscore belong to others. Bounds are each
//! component's own business (its `validate()`).

use std::collections::HashMap;
use std::path::Path;

use serde::de::DeserializeOwned;

/// What environment variables that are settings begin with.
pub const ENVIRONMENT_PREFIX: &str = "TESSERA";

/// Why settings cannot be had; says which field, what was given, and where from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or cannot be read.
    #[error("cannot read the settings file `{path}`: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The file is not TOML, a name is unknown, or a value is of the wrong kind.
    #[error("{0}")]
    Value(String),
}

/// Where settings come from, from weakest to strongest.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// A TOML file.
    pub file: Option<&'a Path>,
    /// Environment variables; give `std::env::vars()` or a test's own.
    pub environment: Vec<(String, String)>,
    /// Flags, by dotted name (`server.batch_max`); those not given are left out.
    pub flags: Vec<(&'static str, String)>,
}

/// Merges and decodes. Fields nobody sets keep the default of `T`.
pub fn load<T: DeserializeOwned>(sources: Sources<'_>) -> Result<T, Error> {
    let mut builder = config::Config::builder();
    if let Some(path) = sources.file {
        let file_error = |reason: String| Error::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| file_error(error.to_string()))?;
        // Parsed here for a message with line and column.
        builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
    }
    let prefix = format!("{ENVIRONMENT_PREFIX}_");
    let ours = |name: &String| name.strip_prefix(&prefix).is_some_and(|rest| rest.contains("__"));
    let environment: HashMap<String, String> = sources.environment.into_iter().filter(|(name, _)| ours(name)).collect();
    let environment = config::Environment::with_prefix(ENVIRONMENT_PREFIX)
        .prefix_separator("_")
        .separator("__")
        .try_parsing(true)
        .source(Some(environment.into_iter().collect()));
    builder = builder.add_source(environment);
    for (name, value) in sources.flags {
        builder = builder.set_override(name, value).map_err(|error| Error::Value(error.to_string()))?;
    }
    let merged = builder.build().map_err(|error| Error::Value(error.to_string()))?;
    merged.try_deserialize().map_err(|error| Error::Value(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Whole {
        server: Part,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Part {
        batch_max: u32,
        name: String,
        listen: std::net::SocketAddr,
    }

    impl Default for Part {
        fn default() -> Self {
            Self { batch_max: 1, name: "a".to_owned(), listen: ([127, 0, 0, 1], 0).into() }
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn later_sources_win_and_the_rest_keeps_its_default() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[server]\nbatch_max = 2\nname = \"file\"\n").unwrap();
        let loaded: Whole = load(Sources {
            file: Some(file.path()),
            environment: environment(&[
                ("TESSERA_SERVER__BATCH_MAX", "3"),
                ("TESSERA_SERVER__LISTEN", "127.0.0.1:9"),
                ("TESSERA_DATA_ADDR", "not a setting"),
                ("OTHER__THING", "1"),
            ]),
            flags: vec![("server.batch_max", "4".to_owned())],
        })
        .unwrap();
        let expected = Part { batch_max: 4, name: "file".to_owned(), listen: ([127, 0, 0, 1], 9).into() };
        assert_eq!(loaded, Whole { server: expected });
        assert_eq!(load::<Whole>(Sources::default()).unwrap(), Whole::default());
    }

    #[test]
    fn unknown_names_and_wrong_kinds_are_named() {
        let unknown = Sources { environment: environment(&[("TESSERA_SERVER__BACH_MAX", "3")]), ..Sources::default() };
        let error = load::<Whole>(unknown).unwrap_err().to_string();
        assert!(error.contains("bach_max") && error.contains("batch_max"), "{error}");
        let wrong = Sources { environment: environment(&[("TESSERA_SERVER__BATCH_MAX", "many")]), ..Sources::default() };
        let error = load::<Whole>(wrong).unwrap_err().to_string();
        assert!(error.contains("many") && error.contains("batch_max"), "{error}");
        let missing = Sources { file: Some(Path::new("/nonexistent.toml")), ..Sources::default() };
        assert!(load::<Whole>(missing).unwrap_err().to_string().contains("/nonexistent.toml"));
    }
}
