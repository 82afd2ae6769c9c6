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
    /// Of those that were answered.
    pub latency: Latency,
}

/// From when a message was due until its answer was there.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Latency {
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
        let report: Report = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the load test ended with {} and no report", output.status))?;
        anyhow::ensure!(report.wrong == 0, "{} answers were wrong", report.wrong);
        report.steps.into_iter().next().context("no step in the report")
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
