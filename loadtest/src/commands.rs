//! From the command line to an exit code.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
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
        eprintln!("error: {error:#}");
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
                eprintln!(
                    "{} plans published, {} tenants created or changed, {} as they should be",
                    done.plans, done.tenants, done.unchanged
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(arguments) => {
            let report = runtime.block_on(run::run(&arguments, seed))?;
            tell(&arguments, &report)?;
            Ok(exit_code(&report))
        }
        Command::Expect(arguments) => expect(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Questions(arguments) => print(&ghz::data(&arguments)?).map(|()| ExitCode::SUCCESS),
        Command::Schema => print(&format!("{:#}\n", report::schema())).map(|()| ExitCode::SUCCESS),
    }
}

fn tell(arguments: &Run, report: &Report) -> anyhow::Result<()> {
    let to_standard_output = arguments.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(report)? + "\n";
        if to_standard_output {
            print(&json)?;
        } else {
            std::fs::write(path, json).with_context(|| format!("--json: write `{}`", path.display()))?;
        }
    }
    if !arguments.quiet && !to_standard_output {
        print(&report::table(report))?;
    }
    Ok(())
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

/// Prints to standard output. Somebody who stops reading (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to standard output"),
        _ => Ok(()),
    }
}
