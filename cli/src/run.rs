//! From the command line to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use tessera_runtime::process::{self, open_files};

use crate::arguments::{Arguments, Command};
use crate::commands::check::Verdict;
use crate::commands::{self, apply, audit, catalog, check, data, dev, export, import, offer, tenant, token, watch};
use crate::console::{Console, say};
use crate::document;
use crate::offers::OfferKind;

/// The exit code of a denial, so that scripts can tell it from an error.
const DENIED: u8 = 3;

/// Runs the command that `arguments` (with the program's name) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. A closed standard error is nobody's business here.
            drop(error.print());
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let code = if matches!(arguments.command, Command::Dev(_)) {
        // It serves many, as the other commands do not.
        open_files::raise();
        process::block_on(dispatch(arguments))
    } else {
        run_and_leave(dispatch(arguments))
    };
    code.unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

/// What `command` leaves behind are threads that wait for standard input, or for the end of standard output: nobody waits for them.
fn run_and_leave(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let code = runtime.block_on(command);
    runtime.shutdown_background();
    code
}

async fn dispatch(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { command, place, output } = arguments;
    let console = Console { format: output };
    let done = |()| ExitCode::SUCCESS;
    let verdict = |verdict| match verdict {
        Verdict::Entitled => ExitCode::SUCCESS,
        Verdict::Denied => ExitCode::from(DENIED),
    };
    match command {
        Command::Dev(arguments) => Box::pin(dev::run(&console, arguments)).await,
        Command::Check(arguments) => check::check(&place.planes()?, &console, arguments, false).await.map(verdict),
        Command::Explain(arguments) => check::check(&place.planes()?, &console, arguments, true).await.map(verdict),
        Command::List { tenant, freshness } => check::list(&place.planes()?, &console, tenant, &freshness).await.map(done),
        Command::Watch(arguments) => watch::watch(&place.planes()?, &console, arguments).await.map(done),
        Command::Catalog(command) => catalog::run(&place.planes()?, &console, command).await.map(done),
        Command::Plan(command) => offer::run(&place.planes()?, &console, OfferKind::Plan, command).await.map(done),
        Command::AddOn(command) => offer::run(&place.planes()?, &console, OfferKind::AddOn, command).await.map(done),
        Command::Tenant(command) => tenant::run(&place.planes()?, &console, command).await.map(done),
        Command::Apply(arguments) => apply::run(&place.planes()?, &console, arguments).await.map(done),
        Command::Export(arguments) if arguments.is_history() => export::history(&console, arguments).await.map(done),
        Command::Export(arguments) => export::run(&place.planes()?, &console, arguments).await.map(done),
        Command::Import(arguments) if arguments.is_history() => import::history(&console, arguments).await.map(done),
        Command::Import(arguments) => import::whole(&place.planes()?, &console, arguments).await.map(done),
        Command::Migrate(arguments) => data::migrate(&console, arguments).await.map(done),
        Command::Restore(arguments) => data::restore(&console, &arguments).map(done),
        Command::Digest(arguments) => data::digest(&place, &console, arguments).await.map(done),
        Command::Token(command) => token::run(&console, command).map(done),
        Command::Audit(command) => audit::run(&place.planes()?, &console, command).await.map(done),
        Command::Completions { shell } => commands::completions(&console, shell, Arguments::command()).map(done),
        Command::Version => commands::version(&console).map(done),
        Command::Schema => console.print(&format!("{:#}\n", document::schema())).map(done),
    }
}
