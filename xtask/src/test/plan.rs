//! Which steps there are, in which order. Suites are found by the names of their test targets.
//!
//! Every cargo call of the suites names the whole workspace and the same features: anything else would resolve other
//! features for the dependencies and build them a second time. `xtask` stands apart: it is already built when it runs.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::step::{Action, Step};
use crate::tidy;
use crate::workspace::Workspace;

/// The crate of the black-box suites: each of its test targets is a step of its own.
const BLACK_BOX: &str = "tessera-e2e";
/// How the names of those begin that share a Cassandra and a Kafka.
const ON_ENGINES: &str = "cluster";
/// The crate that drives the shipped loader and server over faulty ports.
const SIMULATION: &str = "tessera-simulation";

/// Lints the checked-in descriptor set, which holds the imports too: nothing is fetched.
const BUF_LINT: [&str; 7] =
    ["buf", "lint", "proto/src/generated/descriptor.bin#format=binpb", "--config", "proto/buf.yaml", "--path", "tessera"];

/// All steps, cheap ones first.
pub(crate) fn steps(workspace: &Workspace) -> anyhow::Result<Vec<Step>> {
    let hooks = workspace.test_hooks();
    let targets = workspace.test_targets();
    let ourselves = std::env::current_exe().context("find this program")?.display().to_string();
    let mut steps = vec![
        step("fmt", command(&["cargo", "fmt", "--all", "--check"])),
        step("tidy", Action::Check(tidy::run)),
        Step { needs: Some("buf"), ..step("buf lint", command(&BUF_LINT)) },
        Step { needs: Some("pip"), ..step("codegen --check", command(&[&ourselves, "codegen", "--check"])) },
        Step {
            needs: Some("cargo-deny"),
            ..step("cargo deny", command(&["cargo-deny", "check", "bans", "licenses", "sources"]))
        },
        // As it is shipped; then with all that tests it.
        step("clippy", clippy(&[])),
        step("clippy with test-hooks", clippy(&["--all-targets", "--features", &hooks])),
        step(
            "build with test-hooks",
            command(&["cargo", "build", "--workspace", "--exclude", "xtask", "--all-targets", "--features", &hooks]),
        ),
        step("xtask tests", Action::Tests(owned(&["cargo", "test", "--package", "xtask"]))),
        step("unit and crate tests", tests(&hooks, &["--lib", "--bins"], &named(&targets, Suite::Crate))),
        step("doc tests", examples_in_comments(&hooks)),
        step("documentation", command(&["cargo", "doc", "--workspace", "--no-deps"])),
    ];
    for (name, suite) in [("conformance", Suite::Conformance), ("simulation", Suite::Simulation)] {
        let names = named(&targets, suite);
        if !names.is_empty() {
            steps.push(Step { engines: suite == Suite::Conformance, ..step(name, tests(&hooks, &[], &names)) });
        }
    }
    for name in named(&targets, Suite::BlackBox) {
        let needs = ["grpcurl", "ghz", "envoy"].into_iter().find(|tool| *tool == name);
        let action = tests(&hooks, &[], std::slice::from_ref(&name));
        steps.push(Step { name: format!("e2e: {name}"), needs, engines: name.starts_with(ON_ENGINES), action });
    }
    Ok(steps)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suite {
    Crate,
    Conformance,
    Simulation,
    BlackBox,
}

fn suite_of(package: &str, target: &str) -> Suite {
    if package == BLACK_BOX {
        return Suite::BlackBox;
    }
    if package == SIMULATION {
        return Suite::Simulation;
    }
    if target.starts_with("conformance") { Suite::Conformance } else { Suite::Crate }
}

fn named(targets: &[(String, String)], suite: Suite) -> Vec<String> {
    let of_suite = targets.iter().filter(|(package, target)| package != "xtask" && suite_of(package, target) == suite);
    of_suite.map(|(_, target)| target.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn step(name: &str, action: Action) -> Step {
    Step { name: name.to_owned(), needs: None, engines: false, action }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn command(words: &[&str]) -> Action {
    Action::Command(owned(words))
}

fn clippy(extra: &[&str]) -> Action {
    let mut words = vec!["cargo", "clippy", "--workspace"];
    words.extend(extra);
    words.extend(["--", "-D", "warnings"]);
    command(&words)
}

fn test_command(hooks: &str, which: &[&str]) -> Vec<String> {
    let mut words = owned(&["cargo", "test", "--workspace", "--exclude", "xtask", "--no-fail-fast", "--features", hooks]);
    words.extend(owned(which));
    words
}

/// There may be none: most of what they would show is tested elsewhere.
fn examples_in_comments(hooks: &str) -> Action {
    Action::Command(test_command(hooks, &["--doc"]))
}

fn tests(hooks: &str, which: &[&str], targets: &[String]) -> Action {
    let mut words = test_command(hooks, which);
    for target in targets {
        words.extend(["--test".to_owned(), target.clone()]);
    }
    Action::Tests(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_told_apart_by_their_targets() {
        assert_eq!(suite_of("tessera-e2e", "conformance"), Suite::BlackBox);
        assert_eq!(suite_of("tessera-sqlite", "conformance"), Suite::Conformance);
        assert_eq!(suite_of("tessera-simulation", "guards"), Suite::Simulation);
        assert_eq!(suite_of("tessera-loader", "commands"), Suite::Crate);
    }

    #[test]
    fn a_target_of_two_crates_is_named_once() {
        let targets = [("a".to_owned(), "conformance".to_owned()), ("b".to_owned(), "conformance".to_owned())];
        assert_eq!(named(&targets, Suite::Conformance), ["conformance"]);
    }

    #[test]
    fn engines_are_started_for_those_who_share_them_alone() {
        let steps = steps(&Workspace::load().unwrap()).unwrap();
        for step in steps {
            let shares = step.name == "conformance" || step.name.starts_with("e2e: cluster");
            assert_eq!(step.engines, shares, "{}", step.name);
        }
    }

    #[test]
    fn every_test_target_of_the_workspace_has_a_step() {
        let workspace = Workspace::load().unwrap();
        let steps = steps(&workspace).unwrap();
        let words = |step: &Step| match &step.action {
            Action::Tests(words) => words.clone(),
            Action::Command(_) | Action::Check(_) => Vec::new(),
        };
        for (package, target) in workspace.test_targets() {
            assert!(package == "xtask" || steps.iter().any(|step| words(step).contains(&target)), "`{target}` of {package}");
        }
    }
}
