//! `cargo xtask test`: everything that has to hold, step by step, with the time of each.
//!
//! All steps run whatever fails; the table at the end and the exit code tell. A step whose tool is absent is skipped
//! visibly, except in CI (`CI=true`), where it fails. Which suites exist is read from cargo, so that a new one cannot be forgotten.
//!
//! Engines are started before the first step that needs them and shared by all; they end with the run.
//!
//! Properties are tried on the same cases every time, so that a change fails for what it changed; `--explore` draws new ones.

mod plan;
mod step;

use std::hash::{BuildHasher as _, RandomState};

use anyhow::{Context as _, bail};

use crate::engines::ForSuites;
use crate::workspace::Workspace;
use step::{Outcome, Report, SEED_VARIABLE};

/// Any number, as long as it stays the same.
const SEED: &str = "2026";

/// Runs the steps that the arguments select.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let selection = Selection::parse(arguments)?;
    let steps = plan::steps(&Workspace::load()?)?;
    if selection.list {
        for step in &steps {
            println!("{}", step.name);
        }
        return Ok(());
    }
    if let Some(unknown) = selection.only.iter().find(|name| steps.iter().all(|step| step.name != **name)) {
        bail!("no step is named `{unknown}`; `cargo xtask test --list` names them");
    }
    let chosen = steps.into_iter().filter(|step| selection.takes(&step.name));
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(seed) => seed,
        Err(_) if selection.explore => RandomState::new().hash_one("seed").to_string(),
        Err(_) => SEED.to_owned(),
    };
    println!("{SEED_VARIABLE}={seed}");
    let mut engines = ForSuites::default();
    let reports: Vec<Report> = chosen.map(|step| step.run(tessera_engines::in_ci(), &seed, &mut engines)).collect();
    // Before the table, so that nothing is said after it.
    drop(engines);
    conclude(&reports)
}

/// Prints the table and the closing line; an error names what failed.
fn conclude(reports: &[Report]) -> anyhow::Result<()> {
    println!("\n{:<34} {:>8} {:>9}  outcome", "step", "tests", "time");
    for report in reports {
        let tests = report.tests.map_or_else(String::new, |count| count.to_string());
        let idle = match report.idle {
            0 => String::new(),
            some => format!(", {some} with nothing to do here: see `SKIP` above"),
        };
        println!("{:<34} {tests:>8} {:>7.1} s  {}{idle}", report.name, report.elapsed.as_secs_f64(), report.outcome);
    }
    let count = |wanted: fn(&Outcome) -> bool| reports.iter().filter(|report| wanted(&report.outcome)).count();
    let failed: Vec<&str> =
        reports.iter().filter(|report| report.outcome.is_failure()).map(|report| report.name.as_str()).collect();
    println!("\nsteps:");
    println!(
        "{} passed, {} failed, {} skipped",
        count(|outcome| matches!(outcome, Outcome::Passed)),
        failed.len(),
        count(|outcome| matches!(outcome, Outcome::Skipped(_))),
    );
    if failed.is_empty() {
        return Ok(());
    }
    Err(anyhow::anyhow!("failed: {}", failed.join(", ")))
}

#[derive(Debug, Default)]
struct Selection {
    list: bool,
    explore: bool,
    only: Vec<String>,
}

impl Selection {
    fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut selection = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--list" => selection.list = true,
                "--explore" => selection.explore = true,
                "--only" => selection.only.push((*rest.next().context("`--only` without a step")?).to_owned()),
                other => bail!("unknown argument `{other}`; allowed are --list, --explore and --only STEP"),
            }
        }
        Ok(selection)
    }

    fn takes(&self, step: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == step)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(name: &str, outcome: Outcome) -> Report {
        Report { name: name.to_owned(), outcome, tests: None, idle: 0, elapsed: Duration::ZERO }
    }

    #[test]
    fn a_failed_step_fails_the_run_and_is_named() {
        let reports = [report("fmt", Outcome::Passed), report("clippy", Outcome::Failed("exit code 1".into()))];
        assert_eq!(conclude(&reports).unwrap_err().to_string(), "failed: clippy");
    }

    #[test]
    fn a_skipped_step_does_not_fail_the_run() {
        assert!(conclude(&[report("buf lint", Outcome::Skipped("buf is absent".into()))]).is_ok());
    }

    #[test]
    fn only_selects_by_name() {
        let selection = Selection::parse(&["--only", "fmt"]).unwrap();
        assert!(selection.takes("fmt") && !selection.takes("tidy"));
        assert!(Selection::parse(&["--only"]).is_err());
        assert!(Selection::parse(&["fmt"]).is_err());
    }
}
