//! The load test, on cores that do not serve: messages at a rate, whether they are answered or not, which is what overload needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

use crate::child;
use crate::place::{asking_core, pinned, pinned_before_others};

/// A load test that is running. Dropping it kills it.
#[derive(Debug)]
pub struct Generator(Option<Child>);

/// What is taken of its report, whose form `tessera-loadtest schema` prints.
#[derive(Debug, Deserialize)]
struct Report {
    steps: Vec<Step>,
    wrong: u64,
    warnings: Vec<String>,
}

/// What became of the messages of one rate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Step {
    /// That were due: each is answered, failed or not sent.
    pub due: u64,
    /// In time.
    pub answered: u64,
    /// Sent, and refused or not answered in time.
    pub failed: u64,
    /// Not sent before their deadline, by what held them.
    pub not_sent: BTreeMap<String, u64>,
    /// Answered a second: until the last message had its fate, at least as long as messages were to be due.
    pub answered_per_second: f64,
    /// Until the last message had its fate.
    pub elapsed_seconds: f64,
    /// Of those that were answered: from when they were due.
    pub latency: Latency,
    /// Of the failed, those that were told that more is asked than can be done; `None` if there were none.
    pub refused: Option<Refused>,
    /// What to know before believing it.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// How soon refusals came.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Refused {
    /// From when their messages were due.
    pub latency: Latency,
    /// From when they were sent.
    pub since_sent: Latency,
}

/// How long until something came back.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Latency {
    /// In µs.
    pub p50_us: f64,
    /// In µs.
    pub p99_us: f64,
}

impl Generator {
    /// Asks that server about the first `tenants` tenants of the scenario; `words` say how, and the tenants of several are told
    /// apart by their seeds.
    pub fn start(server: SocketAddr, tenants: u64, words: &str) -> anyhow::Result<Self> {
        Self::of(pinned(&child::beside("tessera-loadtest")?, asking_core()), server, tenants, words)
    }

    /// As [`Self::start`], and does not wait for others who ask.
    pub fn start_before_others(server: SocketAddr, tenants: u64, words: &str) -> anyhow::Result<Self> {
        Self::of(pinned_before_others(&child::beside("tessera-loadtest")?, asking_core()), server, tenants, words)
    }

    fn of(mut command: Command, server: SocketAddr, tenants: u64, words: &str) -> anyhow::Result<Self> {
        command.args(["run", "--skip-probe", "--json", "-", "--warm-up", "0s", "--give-up-after", "60s"]);
        command.args(["--data-addr", &server.to_string(), "--tenants", &tenants.to_string()]);
        command.args(words.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Self(Some(command.spawn().context("start the load test")?)))
    }

    /// Waits until it has ended. That calls failed is no error, that one was answered wrongly is.
    pub fn step(mut self) -> anyhow::Result<Step> {
        let running = self.0.take().context("it was started")?;
        let output = running.wait_with_output()?;
        read(&output.stdout).with_context(|| format!("the load test ended with {}", output.status))
    }
}

fn read(report: &[u8]) -> anyhow::Result<Step> {
    let Report { steps, wrong, warnings } = serde_json::from_slice(report).context("no report")?;
    anyhow::ensure!(wrong == 0, "{wrong} answers were wrong");
    let step = steps.into_iter().next().context("no step in the report")?;
    Ok(Step { warnings, ..step })
}

impl Step {
    /// Says on standard error what makes the figures the load test's own.
    pub fn warn(&self, what: &str) {
        for warning in &self.warnings {
            eprintln!("bench: {what}: {warning}");
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(refused: &str, wrong: u32) -> anyhow::Result<Step> {
        let latency = r#"{"p50_us": 1000.0, "p99_us": 2000.0, "max_us": 3000.0}"#;
        let refused = refused.replace("LATENCY", latency);
        let step = format!(
            r#"{{"due": 10, "answered": 8, "failed": 2, "not_sent": {{}}, "answered_per_second": 8.0, "elapsed_seconds": 1.0,
                "latency": {latency}, "refused": {refused}}}"#
        );
        read(format!(r#"{{"steps": [{step}], "wrong": {wrong}, "warnings": ["it was late"]}}"#).as_bytes())
    }

    #[test]
    fn a_report_is_read_with_and_without_refusals() {
        let none = step("null", 0).unwrap();
        assert_eq!((none.refused, none.warnings), (None, vec!["it was late".to_owned()]));
        let refused = step(r#"{"count": 2, "latency": LATENCY, "since_sent": LATENCY}"#, 0).unwrap().refused.unwrap();
        assert_eq!((refused.latency.p50_us, refused.since_sent.p99_us), (1_000.0, 2_000.0));
        assert!(step("null", 1).unwrap_err().to_string().contains("1 answers were wrong"));
    }
}
