//! Settings: a TOML file, then the environment, then flags, merged into one typed value; each later one wins.
//!
//! A value is decoded with `deny_unknown_fields`, so a misspelt name is an error wherever it stands, and so is a value of the wrong kind: nothing is
//! rounded or guessed. Environment variables are `TESSERA_<SECTION>__<FIELD>`, in capitals; those without the double underscore belong to others. What
//! they hold is read as a value of TOML (`8`, `true`, `["a:1", "b:2"]`), and is text if it is none. Bounds are each component's own business (its
//! `validate()`).

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

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
    /// Something is set in what is no section.
    #[error("`{name}` is set, and `{section}` is no section but a value")]
    NoSection {
        /// What is set, by its dotted name.
        name: String,
        /// Of that, what is a value.
        section: String,
    },
}

/// Where settings come from, from weakest to strongest.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// A TOML file.
    pub file: Option<&'a Path>,
    /// Environment variables; give `std::env::vars()` or a test's own.
    pub environment: Vec<(String, String)>,
    /// Flags, by dotted name (`backends.data_dir`); always text. Those not given are left out.
    pub flags: Vec<(&'static str, String)>,
}

/// Merges and decodes. Fields nobody sets keep the default of `T`.
pub fn load<T: DeserializeOwned>(sources: Sources<'_>) -> Result<T, Error> {
    let mut merged = Table::new();
    if let Some(path) = sources.file {
        let file_error = |reason: String| Error::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| file_error(error.to_string()))?;
        // Parsed by itself for a message with line and column.
        merged = text.parse().map_err(|error: toml::de::Error| file_error(error.to_string()))?;
    }
    let mut environment = sources.environment;
    // Sections before what is in them, whatever order the system has them in.
    environment.sort_unstable();
    let mut variables = Vec::new();
    for (variable, value) in environment {
        let ours = variable.strip_prefix(ENVIRONMENT_PREFIX).and_then(|rest| rest.strip_prefix('_'));
        let Some(name) = ours.filter(|rest| rest.contains("__")) else { continue };
        let name = name.to_lowercase().replace("__", ".");
        let value = match value.parse() {
            // No setting is a date.
            Ok(Value::Datetime(_)) | Err(_) => Value::String(value),
            Ok(value) => value,
        };
        set(&mut merged, &name, value)?;
        variables.push((name, variable));
    }
    for (name, value) in sources.flags {
        set(&mut merged, name, Value::String(value))?;
    }
    merged.try_into().map_err(|error: toml::de::Error| {
        let said = error.to_string().trim_end().to_owned();
        match variables.into_iter().find(|(name, _)| said.contains(&format!("`{name}`"))) {
            // Quotes that a shell takes away are no quotes.
            Some((_, variable)) => {
                Error::Value(format!("{said}, as {variable} says; text that looks like a value is `'123'` there"))
            }
            None => Error::Value(said),
        }
    })
}

/// Sets what the dotted `name` names, with the sections on the way.
fn set(whole: &mut Table, name: &str, value: Value) -> Result<(), Error> {
    let (sections, field) = name.rsplit_once('.').unwrap_or(("", name));
    let mut table = whole;
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let no_section = || Error::NoSection { name: name.to_owned(), section: section.to_owned() };
        table = inner.as_table_mut().ok_or_else(no_section)?;
    }
    table.insert(field.to_owned(), value);
    Ok(())
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
        listed: Vec<String>,
    }

    impl Default for Part {
        fn default() -> Self {
            Self { batch_max: 1, name: "a".to_owned(), listen: ([127, 0, 0, 1], 0).into(), listed: Vec::new() }
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
            flags: vec![("server.name", "4".to_owned())],
        })
        .unwrap();
        let expected = Part { batch_max: 3, name: "4".to_owned(), listen: ([127, 0, 0, 1], 9).into(), listed: Vec::new() };
        assert_eq!(loaded, Whole { server: expected });
        assert_eq!(load::<Whole>(Sources::default()).unwrap(), Whole::default());
    }

    fn of_environment(name: &str, value: &str) -> Result<Whole, Error> {
        load(Sources { environment: environment(&[(name, value)]), ..Sources::default() })
    }

    fn of_file(text: &str) -> Result<Whole, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(Sources { file: Some(file.path()), ..Sources::default() })
    }

    #[test]
    fn unknown_names_and_wrong_kinds_are_named() {
        let unknown = of_environment("TESSERA_SERVER__BACH_MAX", "3").unwrap_err().to_string();
        assert!(unknown.contains("bach_max") && unknown.contains("batch_max"), "{unknown}");
        let wrong = of_environment("TESSERA_SERVER__BATCH_MAX", "many").unwrap_err().to_string();
        assert!(wrong.contains("many") && wrong.contains("batch_max"), "{wrong}");
        let missing = Sources { file: Some(Path::new("/nonexistent.toml")), ..Sources::default() };
        assert!(load::<Whole>(missing).unwrap_err().to_string().contains("/nonexistent.toml"));
        let mut pairs = [("TESSERA_SERVER__NAME", "a"), ("TESSERA_SERVER__NAME__FIRST", "b")];
        for _ in 0..2 {
            let environment = environment(&pairs);
            let deeper = load::<Whole>(Sources { environment, ..Sources::default() }).unwrap_err().to_string();
            assert_eq!(deeper, "`server.name.first` is set, and `name` is no section but a value");
            pairs.reverse();
        }
    }

    #[test]
    fn nothing_is_rounded_or_guessed() {
        for value in ["2.7", "true", "-1", "4294967296", "\"2\""] {
            let error = of_file(&format!("[server]\nbatch_max = {value}")).unwrap_err().to_string();
            assert!(error.contains("batch_max"), "{value}: {error}");
        }
        let torn = of_file("[server]\nbatch_max = ").unwrap_err().to_string();
        assert!(torn.contains("line 2"), "{torn}");
    }

    #[test]
    fn the_environment_holds_values_or_text() {
        let named = |name: &str| Whole { server: Part { name: name.to_owned(), ..Part::default() } };
        for (value, name) in [("0123", "0123"), ("'123'", "123"), ("a b", "a b"), ("2026-01-01", "2026-01-01"), ("", "")] {
            assert_eq!(of_environment("TESSERA_SERVER__NAME", value).unwrap(), named(name), "{value}");
        }
        let number = of_environment("TESSERA_SERVER__NAME", "123").unwrap_err().to_string();
        assert!(
            number.contains("`server.name`, as TESSERA_SERVER__NAME says; text that looks like a value is `'123'`"),
            "{number}"
        );
        let listed = of_environment("TESSERA_SERVER__LISTED", "['a:1', 'b:2']").unwrap();
        assert_eq!(listed.server.listed, ["a:1", "b:2"]);
    }
}
