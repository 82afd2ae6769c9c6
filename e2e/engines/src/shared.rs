//! One engine of each kind for all suites that do it no harm: named by a variable, or started at the first call and ended with
//! the process. Suites share it with others and so use names of their own for keyspaces and topics.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write as _;
use std::sync::OnceLock;

use anyhow::bail;

use crate::{Cassandra, Kafka, Options, installing, java};

/// Names a running Cassandra as `host:port`; `cargo xtask test` starts one for all suites and sets it.
pub const CASSANDRA_VARIABLE: &str = "TESSERA_TEST_CASSANDRA";
/// Names a running Kafka as `host:port`; `cargo xtask test` starts one for all suites and sets it.
pub const KAFKA_VARIABLE: &str = "TESSERA_TEST_KAFKA";

/// Whether engines can be started here; else what is missing.
pub fn present() -> Result<(), String> {
    java::find()?;
    if installing::is_complete() || java::is_program("mvn") {
        return Ok(());
    }
    Err("`mvn` (Maven), which fetches the engines the first time".to_owned())
}

/// Whether CI runs us: then nothing may be skipped.
pub fn in_ci() -> bool {
    is_ci(std::env::var_os("CI").as_deref())
}

/// Whether this is CI, by what the variable `CI` says. Services say `true`, `1`, or their names.
fn is_ci(said: Option<&OsStr>) -> bool {
    said.is_some_and(|said| !said.is_empty() && said != "0" && !said.eq_ignore_ascii_case("false"))
}

/// Whether a test that needs engines can run. `Ok(false)` has said that it is skipped; in CI, where nothing may be skipped, it
/// is an error.
pub fn available() -> anyhow::Result<bool> {
    let Err(missing) = present() else { return Ok(true) };
    if in_ci() {
        bail!("there are no engines here for want of {missing}, and CI skips nothing");
    }
    tell_skip(format_args!("there are no engines here for want of {missing}; `.ci/run` installs what can be installed"));
    Ok(false)
}

/// Says that a test has nothing to do here. Past the runner, which shows nothing of a test that passes; `cargo xtask test`
/// counts such lines.
pub fn tell_skip(why: impl Display) {
    // A test is no less skipped when nobody listens.
    let _ = writeln!(std::io::stdout(), "SKIP: {why}");
}

/// The shared Cassandra as `host:port`. `None` has said that the test is skipped, see [`available`].
pub fn shared_cassandra() -> anyhow::Result<Option<String>> {
    static SHARED: OnceLock<Result<Cassandra, String>> = OnceLock::new();
    shared(CASSANDRA_VARIABLE, &SHARED, Cassandra::throwaway, |cassandra| cassandra.contact_point().to_string())
}

/// The shared Kafka as `host:port`. `None` has said that the test is skipped, see [`available`].
pub fn shared_kafka() -> anyhow::Result<Option<String>> {
    static SHARED: OnceLock<Result<Kafka, String>> = OnceLock::new();
    shared(KAFKA_VARIABLE, &SHARED, Kafka::throwaway, Kafka::bootstrap)
}

/// A static is never dropped: the watchdog ends the engine and removes its folder.
fn shared<T>(
    variable: &str,
    shared: &OnceLock<Result<T, String>>,
    start: fn(&Options) -> anyhow::Result<T>,
    address: fn(&T) -> String,
) -> anyhow::Result<Option<String>> {
    if let Ok(named) = std::env::var(variable) {
        return Ok(Some(named));
    }
    if !available()? {
        return Ok(None);
    }
    match shared.get_or_init(|| start(&Options::default()).map_err(|error| format!("{error:#}"))) {
        Ok(engine) => Ok(Some(address(engine))),
        Err(error) => bail!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_says_that_it_is_ci_is_ci() {
        for (said, expected) in [
            (None, false),
            (Some(""), false),
            (Some("0"), false),
            (Some("false"), false),
            (Some("False"), false),
            (Some("true"), true),
            (Some("TRUE"), true),
            (Some("1"), true),
            (Some("woodpecker"), true),
        ] {
            assert_eq!(is_ci(said.map(OsStr::new)), expected, "{said:?}");
        }
    }
}
