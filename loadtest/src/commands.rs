//! From the command line to an exit code.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tessera_benches::scenario::{self, ALL_FEATURES, Tenant};

use crate::arguments::{Arguments, Command, Expect, Run};
use crate::expected::Oracle;
use crate::report::{self, Report};
use crate::worker::facts;
use crate::{ghz, prepare, run};

/// Answers were wrong.
const WRONG: u8 = 3;
/// Messages failed or were not sent.
const FAILED: u8 = 4;
/// Somebody interrupted it, as shells tell it.
const INTERRUPTED: u8 = 130;

/// Does what `arguments` (with the program's name) ask for.
pub fn commands(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. A closed standard error is nobody's business here.
            drop(error.print());
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    dispatch(arguments.command).unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    // Nobody has to guess it: it is for not meeting what was there before.
    let seed = RandomState::new().build_hasher().finish();
    match command {
        Command::Prepare(arguments) => {
            let done = runtime.block_on(prepare::prepare(&arguments, seed))?;
            if !arguments.quiet {
                say(&format!(
                    "{} plans published, {} tenants created or changed, {} as they should be",
                    done.plans, done.tenants, done.unchanged
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(arguments) => {
            arguments.validate()?;
            // A run may take hours: that nothing can be written there is told before it.
            let json = arguments.json.as_deref().filter(|path| !is_standard_output(path)).map(open).transpose()?;
            let report = runtime.block_on(run::run(&arguments, seed))?;
            let told = tell(&arguments, json, &report);
            Ok(outcome(exit_code(&report), told))
        }
        Command::Expect(arguments) => expect(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Questions(arguments) => print(&ghz::data(&arguments)?).map(|()| ExitCode::SUCCESS),
        Command::Schema => print(&format!("{:#}\n", report::schema())).map(|()| ExitCode::SUCCESS),
    }
}

fn is_standard_output(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What is in the file stays there until there is a report: the run may find no load to report.
fn open(path: &Path) -> anyhow::Result<(&Path, File)> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    Ok((path, file.with_context(|| format!("--json: open `{}`", path.display()))?))
}

/// Tells what can be told: what does not reach one place still goes to the other.
fn tell(arguments: &Run, json: Option<(&Path, File)>, report: &Report) -> anyhow::Result<()> {
    let to_standard_output = arguments.json.as_deref().is_some_and(is_standard_output);
    let text = || anyhow::Ok(serde_json::to_string_pretty(report)? + "\n");
    let printed = match (to_standard_output, arguments.quiet) {
        (true, _) => text().and_then(|json| print(&json)),
        (false, false) => print(&report::table(report)),
        (false, true) => Ok(()),
    };
    if let Some((path, file)) = json {
        text().and_then(|json| Ok(replace(file, &json)?)).with_context(|| format!("--json: write `{}`", path.display()))?;
    }
    printed
}

/// Pipes and devices have nothing to replace.
fn replace(mut file: File, text: &str) -> std::io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

/// Of a run: that its report did not get through is told by a message, and by the code unless that has worse to tell.
fn outcome(code: ExitCode, told: anyhow::Result<()>) -> ExitCode {
    match told {
        Ok(()) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            if code == ExitCode::SUCCESS { ExitCode::FAILURE } else { code }
        }
    }
}

/// What weighs most is told.
fn exit_code(report: &Report) -> ExitCode {
    match report {
        Report { wrong: 1.., .. } => ExitCode::from(WRONG),
        Report { interrupted: true, .. } => ExitCode::from(INTERRUPTED),
        Report { failed: 1.., .. } | Report { gave_up: true, .. } => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// The tenant, and what the deployment must say of it.
fn expect(arguments: &Expect) -> anyhow::Result<()> {
    let tenant = Tenant(arguments.tenant);
    let mut oracle = Oracle::new()?;
    let mut text = format!("{}\n", tenant.id());
    for feature in 0..ALL_FEATURES {
        let verdict = oracle.expected(tenant, feature)?;
        let (service, name) = scenario::names(feature);
        let told = facts(verdict.entitled, verdict.reason, oracle.plan_id(verdict.plan), verdict.familiarity_basis_points);
        text.extend([&service, " ", &name, ": ", &told, "\n"]);
    }
    print(&text)
}

/// Says something on standard error. That nobody reads it there does not undo what was done, and is no error.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Prints to standard output. Somebody who stops reading (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to standard output"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// In the environment of the process that nobody listens to.
    const UNHEARD: &str = "TESSERA_TEST_UNHEARD";

    /// No test by itself: what [`a_failure_that_nobody_hears_of_has_its_exit_code`] runs in a process of its own.
    #[test]
    fn fails_when_told_to() {
        if std::env::var_os(UNHEARD).is_some() {
            assert_eq!(
                commands(["tessera-loadtest", "run", "--data-addr", "127.0.0.1:1"].map(OsString::from)),
                ExitCode::FAILURE
            );
            assert_eq!(outcome(ExitCode::from(WRONG), Err(anyhow::anyhow!("it is not written"))), ExitCode::from(WRONG));
        }
    }

    #[test]
    fn a_failure_that_nobody_hears_of_has_its_exit_code() {
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", "commands::tests::fails_when_told_to"]).env(UNHEARD, "1");
        let ended = command.stdin(Stdio::null()).stderr(closed).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.contains("1 passed"), "{said}");
    }

    fn dispatched(words: &[&str]) -> String {
        let words = ["tessera-loadtest", "run"].iter().chain(words);
        let arguments = Arguments::try_parse_from(words).unwrap();
        format!("{:#}", dispatch(arguments.command).unwrap_err())
    }

    #[test]
    fn a_report_that_cannot_be_written_is_refused_before_the_load() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("none/report.json").display().to_string();
        // Nobody listens there: whoever tried the load first would say that.
        let error = dispatched(&["--data-addr", "127.0.0.1:1", "--json", &nowhere]);
        assert!(error.contains("--json") && error.contains(&nowhere), "{error}");
    }

    #[test]
    fn a_report_replaces_another_only_when_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, "a longer report of a run before").unwrap();
        let error = dispatched(&["--data-addr", "127.0.0.1:1", "--json", &path.display().to_string()]);
        assert!(error.contains("--data-addr"), "{error}");
        let (_, file) = open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a longer report of a run before");
        replace(file, "a report\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a report\n");
    }

    #[test]
    fn a_report_that_is_not_written_hides_no_wrong_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, "").unwrap();
        // Open for reading only: it cannot be written.
        let failed = || replace(File::open(&path).unwrap(), "a report\n").map_err(anyhow::Error::from);
        assert!(failed().is_err());
        for code in [WRONG, FAILED, INTERRUPTED].map(ExitCode::from) {
            assert_eq!(outcome(code, failed()), code);
            assert_eq!(outcome(code, Ok(())), code);
        }
        assert_eq!(outcome(ExitCode::SUCCESS, failed()), ExitCode::FAILURE);
        assert_eq!(outcome(ExitCode::SUCCESS, Ok(())), ExitCode::SUCCESS);
    }
}
