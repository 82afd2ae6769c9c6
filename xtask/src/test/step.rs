//! One step: a command or a check, timed, with its tests counted from the runner's own closing lines.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::engines::ForSuites;
use crate::{tools, workspace};

/// What a step does.
pub(crate) enum Action {
    /// Runs a program with arguments in the repository's root.
    Command(Vec<String>),
    /// Runs a program that must have executed at least one test.
    Tests(Vec<String>),
    /// Calls a function of ours.
    Check(fn() -> anyhow::Result<()>),
}

/// A step of the plan.
pub(crate) struct Step {
    pub(crate) name: String,
    /// A program without which the step cannot run.
    pub(crate) needs: Option<&'static str>,
    /// Whether its suites share the engines.
    pub(crate) engines: bool,
    pub(crate) action: Action,
}

/// What proptest reads its seed from.
pub(super) const SEED_VARIABLE: &str = "PROPTEST_RNG_SEED";
/// What suites of processes read theirs from.
const PROCESSES_SEED_VARIABLE: &str = "TESSERA_SEED";

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// What is told of a step.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// How many tests ran, where the step runs tests.
    pub(crate) tests: Option<u64>,
    /// How many of them said that they had nothing to do here.
    pub(crate) idle: u64,
    pub(crate) elapsed: Duration,
}

impl Step {
    /// Runs it with `seed` for its properties; only a step that needs engines has them started.
    pub(crate) fn run(self, in_ci: bool, seed: &str, engines: &mut ForSuites) -> Report {
        println!("\n=== {}", self.name);
        if let Some(tool) = self.needs
            && tools::find(tool).is_none()
        {
            let outcome = absent(tool, in_ci);
            println!("{outcome}");
            return Report { name: self.name, outcome, tests: None, idle: 0, elapsed: Duration::ZERO };
        }
        let started = now();
        let mut variables = vec![(SEED_VARIABLE, seed.to_owned())];
        if std::env::var_os(PROCESSES_SEED_VARIABLE).is_none() {
            variables.push((PROCESSES_SEED_VARIABLE, seed.to_owned()));
        }
        let ready = if self.engines { engines.variables().map(|named| variables.extend(named)) } else { Ok(()) };
        let result = match &self.action {
            _ if ready.is_err() => ready.map(|()| None).context("start the engines"),
            Action::Command(command) => run_command(command, variables).map(|_| None),
            Action::Tests(command) => run_command(command, variables).and_then(some_tests).map(Some),
            Action::Check(check) => check().map(|()| None),
        };
        let elapsed = started.elapsed();
        let (outcome, told) = match result {
            Ok(told) => (Outcome::Passed, told),
            Err(error) => (Outcome::Failed(format!("{error:#}")), None),
        };
        let (tests, idle) = (told.map(|told| told.tests), told.map_or(0, |told| told.idle));
        println!("=== {}: {outcome} after {:.1} s", self.name, elapsed.as_secs_f64());
        Report { name: self.name, outcome, tests, idle, elapsed }
    }
}

#[expect(clippy::disallowed_methods, reason = "a chore measures its own steps; nothing is decided by it")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// A missing tool is a skip for a newcomer and a failure in CI, where it would hide a suite.
fn absent(tool: &str, in_ci: bool) -> Outcome {
    let why = format!("`{tool}` is neither in target/tools/bin nor on PATH; .ci/run installs it");
    if in_ci { Outcome::Failed(why) } else { Outcome::Skipped(why) }
}

/// What the output of a command tells of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Told {
    tests: u64,
    idle: u64,
}

impl Told {
    fn note(&mut self, line: &str) {
        self.tests += tests_in(line);
        // Where tests run one at a time, the runner has begun the line with the name of the test.
        self.idle += u64::from(line.contains("SKIP: "));
    }
}

fn some_tests(told: Told) -> anyhow::Result<Told> {
    anyhow::ensure!(told.tests > 0, "no test ran");
    Ok(told)
}

/// Runs a command, showing its output.
fn run_command(command: &[String], variables: Vec<(&str, String)>) -> anyhow::Result<Told> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    println!("$ {}", command.join(" "));
    let mut child = Command::new(tools::find(program).unwrap_or_else(|| program.into()))
        .args(arguments)
        .current_dir(workspace::root())
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{program}`"))?;
    let mut told = Told::default();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).context("read output")? > 0 {
            std::io::stdout().write_all(&line).context("show output")?;
            told.note(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    let status = child.wait().context("wait for the command")?;
    anyhow::ensure!(status.success(), "`{program}` ended with {status}");
    Ok(told)
}

/// How many tests a closing line of libtest speaks of: `test result: ok. 12 passed; 1 failed; …`.
fn tests_in(line: &str) -> u64 {
    let Some((_, counts)) = line.trim().strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
        return 0;
    };
    let run = counts.split("; ").filter_map(|part| part.split_once(' ')).filter(|(_, word)| matches!(*word, "passed" | "failed"));
    run.filter_map(|(count, _)| count.parse::<u64>().ok()).sum()
}

// === impl Outcome ===

impl Outcome {
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::Skipped(why) => write!(f, "SKIP: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_ran_not_what_was_filtered() {
        assert_eq!(
            tests_in("test result: ok. 12 passed; 1 failed; 3 ignored; 0 measured; 9 filtered out; finished in 0.1s\n"),
            13
        );
        assert_eq!(tests_in("test foo ... ok"), 0);
        assert_eq!(tests_in("running 3 tests"), 0);
    }

    #[test]
    fn tests_that_had_nothing_to_do_are_counted() {
        let mut told = Told::default();
        told.note("SKIP: `promtool` is not to be had here\n");
        told.note("test alerts::fire ... SKIP: `promtool` is not to be had here\n");
        told.note("test alerts::fire ... ok\n");
        told.note("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n");
        assert_eq!(told, Told { tests: 2, idle: 2 });
    }

    #[test]
    fn an_absent_tool_fails_only_in_ci() {
        assert!(matches!(absent("buf", false), Outcome::Skipped(_)));
        assert!(matches!(absent("buf", true), Outcome::Failed(_)));
    }

    #[test]
    fn a_suite_without_a_test_fails() {
        let step = Step { name: "nothing".into(), needs: None, engines: false, action: Action::Tests(vec!["true".into()]) };
        assert!(step.run(false, "1", &mut ForSuites::default()).outcome.is_failure());
    }

    #[test]
    fn an_exit_code_is_a_failure() {
        let step = Step { name: "false".into(), needs: None, engines: false, action: Action::Command(vec!["false".into()]) };
        assert!(step.run(false, "1", &mut ForSuites::default()).outcome.is_failure());
    }
}
