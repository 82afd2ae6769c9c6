//! The decision log: a line of JSON for each sampled decision, for those who want to know afterwards what was answered and why.
//! Off unless `[server.decision_log]` is set, or a dry run of `ext_authz` is to tell what it would have denied.
//!
//! Whoever decides throws dice (allowed and denied have chances of their own) and, if they say so, copies what was asked and
//! answered into a bounded queue; one thread writes it (`decision_log/writer.rs`). A queue that is full, a disk that is: lines are
//! dropped and counted, and no check waits. What is not sampled allocates nothing; while the log is off a check pays one branch.
//! Documents (`ListEntitlements`, watches) and errors are not in it.

mod record;
mod sink;
mod writer;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use metrics::{Counter, counter};
use serde::{Deserialize, Serialize};
use tessera_core::time::Timestamp;
use tessera_ports::memory::SplitMix64;
use tessera_runtime::lifecycle::Tasks;
use tonic::codegen::http::HeaderValue;

use crate::Config;
use crate::decide::Check;
use crate::metric_definitions::{DECISION_LOG_DROPPED, Mode};
use crate::wire::encode::Answer;
use record::Record;
use sink::Sink;
use writer::Writer;

/// All of a million.
const ALL: u32 = 1_000_000;

/// Which decisions are logged, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A file, made (mode 0600) if it is not there, and made anew when it was renamed away; or `stdout`.
    pub file: PathBuf,
    /// How many of a million decisions that allow are logged. 0 to 1,000,000; default 1,000, one in a thousand.
    #[serde(default = "allow_per_million")]
    pub allow_per_million: u32,
    /// How many of a million decisions that deny are logged. 0 to 1,000,000; default 1,000,000, all.
    #[serde(default = "deny_per_million")]
    pub deny_per_million: u32,
    /// Most lines that wait to be written; further ones are dropped. 1 to 100,000; default 10,000, some 4 MiB.
    #[serde(default = "queue_max")]
    pub queue_max: usize,
}

fn allow_per_million() -> u32 {
    1_000
}

fn deny_per_million() -> u32 {
    ALL
}

fn queue_max() -> usize {
    10_000
}

impl Settings {
    /// Names, values and bounds of what has bounds.
    pub(crate) fn bounds(&self) -> [(&'static str, u64, u64, u64); 3] {
        let queue_max = u64::try_from(self.queue_max).unwrap_or(u64::MAX);
        [
            ("decision_log.allow_per_million", self.allow_per_million.into(), 0, ALL.into()),
            ("decision_log.deny_per_million", self.deny_per_million.into(), 0, ALL.into()),
            ("decision_log.queue_max", queue_max, 1, 100_000),
        ]
    }
}

/// Why there can be no decision log.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its file cannot be written to.
    #[error("`decision_log.file` is `{path}`, which cannot be written to; allowed are a file and `stdout`", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no thread for it.
    #[error("start the thread of the decision log")]
    Thread(#[source] std::io::Error),
}

/// The log, or none.
#[derive(Debug, Default)]
pub(crate) struct DecisionLog(Option<On>);

struct On {
    queue: SyncSender<Record>,
    allow_per_million: u32,
    deny_per_million: u32,
    /// Nothing but what Envoys ask.
    envoys_alone: bool,
    /// Where the dice of the next thread begin.
    seed: AtomicU64,
    queue_full: Counter,
}

impl std::fmt::Debug for On {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("On")
    }
}

/// How the decisions of one message are logged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged<'a> {
    log: &'a On,
    mode: Mode,
    dry_run: bool,
}

tokio::task_local! {
    /// What the call of this task is named by; only set while there is a log.
    pub(crate) static CALL: HeaderValue;
}

impl DecisionLog {
    /// Opens the log that the settings want, if they want one; writes until everything else in the process has ended. `now`
    /// is where the dice begin.
    pub(crate) fn start(config: &Config, now: Timestamp, tasks: &Tasks) -> Result<Self, Refused> {
        let dry_run = config.ext_authz.as_ref().is_some_and(|ext_authz| ext_authz.dry_run);
        let (sink, settings, envoys_alone) = match &config.decision_log {
            Some(settings) => (Sink::open(&settings.file)?, settings.clone(), false),
            // Allows and logs: where nobody says where, that is the log of the process.
            None if dry_run => {
                let (file, queue_max) = (PathBuf::new(), queue_max());
                (Sink::process_log(), Settings { file, allow_per_million: 0, deny_per_million: ALL, queue_max }, true)
            }
            None => return Ok(Self(None)),
        };
        let (queue, records) = sync_channel(settings.queue_max);
        let writer = Writer::start(records, sink).map_err(Refused::Thread)?;
        let seed = u64::try_from(now.as_nanos()).unwrap_or(0);
        tasks.spawn_behind("server.decision_log", async move {
            // Dropped when everything else has ended: then the rest is written.
            let _writer = writer;
            std::future::pending().await
        });
        Ok(Self(Some(On::new(queue, &settings, envoys_alone, seed))))
    }

    /// Whether there is one.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// How decisions that are asked for in this way are logged, if they are.
    pub(crate) fn of(&self, mode: Mode, dry_run: bool) -> Option<Logged<'_>> {
        let log = self.0.as_ref().filter(|log| !log.envoys_alone || mode == Mode::ExtAuthz)?;
        Some(Logged { log, mode, dry_run })
    }
}

impl Logged<'_> {
    /// Whether this decision is sampled. What a dry run would have denied always is.
    #[inline]
    pub(crate) fn samples(&self, entitled: bool) -> bool {
        let per_million = match (entitled, self.dry_run) {
            (true, _) => self.log.allow_per_million,
            (false, false) => self.log.deny_per_million,
            (false, true) => ALL,
        };
        per_million != 0 && self.log.throw() < per_million
    }

    /// Logs a decision that was sampled.
    #[cold]
    pub(crate) fn decided(&self, at: Timestamp, check: &Check<'_>, answer: &Answer<'_>, revision: &[u8]) {
        self.hand_over(Record::of_decision(at, check, answer, revision, self.mode, self.dry_run));
    }

    /// Logs that nothing could be asked: denied, or allowed in a dry run.
    pub(crate) fn refused(&self, at: Timestamp, reason: &'static str) {
        if self.samples(false) {
            self.hand_over(Record::of_refusal(at, reason, self.mode, self.dry_run));
        }
    }

    fn hand_over(&self, record: Record) {
        if self.log.queue.try_send(record).is_err() {
            self.log.queue_full.increment(1);
        }
    }
}

impl On {
    fn new(queue: SyncSender<Record>, settings: &Settings, envoys_alone: bool, seed: u64) -> Self {
        Self {
            queue,
            allow_per_million: settings.allow_per_million,
            deny_per_million: settings.deny_per_million,
            envoys_alone,
            seed: AtomicU64::new(seed),
            queue_full: counter!(DECISION_LOG_DROPPED, "cause" => "queue"),
        }
    }

    /// A number below a million, by a generator of this thread (splitmix64): cheap, even, and of no worth to whoever guesses.
    fn throw(&self) -> u32 {
        thread_local! {
            static DICE: Cell<Option<SplitMix64>> = const { Cell::new(None) };
        }
        DICE.with(|dice| {
            // Threads begin far from each other.
            let begin = || SplitMix64::new(SplitMix64::new(self.seed.fetch_add(1, Ordering::Relaxed)).next_u64());
            let mut random = dice.take().unwrap_or_else(begin);
            let thrown = random.below(ALL.into());
            dice.set(Some(random));
            u32::try_from(thrown).unwrap_or(0)
        })
    }
}

/// Whether a path stands for the standard output.
fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "stdout"
}

#[cfg(test)]
mod tests;
