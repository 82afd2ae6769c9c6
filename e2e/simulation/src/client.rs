//! Callers: each does one thing after the other, tries again under the same request id while the outcome is unknown, and notes
//! what it was told.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tessera_core::revision::Revision;
use tessera_core::stream::StreamId;
use tessera_ports::memory::SplitMix64;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::checks;
use crate::cluster::{Cluster, Life, PROCESSES};
use crate::command::{Command, FEATURES, Said, TENANTS};
use crate::journal::{Acknowledged, Journal, Refused};
use crate::rejections::{self, Window};

/// Longest pause of one who only asks.
const READER_PAUSE_MAX: Duration = Duration::from_millis(25);
/// How often a caller asks again before it gives up.
const TRIES: u32 = 5;

/// What a call came to.
enum Outcome {
    Done(Said),
    Refused(String),
    /// This call applied nothing, says the loader; of earlier ones it says nothing.
    Nothing,
    Unknown,
}

/// A caller.
#[derive(Debug)]
pub struct Client {
    /// Tells its request ids from those of others.
    pub name: String,
    /// All its choices.
    pub random: SplitMix64,
    /// The processes.
    pub cluster: Rc<Cluster>,
    /// What everybody was told.
    pub journal: Rc<Journal>,
    /// Begin nothing any more, and do not try again.
    pub stop: Rc<Cell<bool>>,
}

impl Client {
    /// Does one thing after the other until `stop` says so.
    pub async fn run(mut self) {
        let mut count = 0_u64;
        while !self.stop.get() && self.journal.violation().is_none() {
            count += 1;
            let pause = self.random.duration(Duration::from_millis(60));
            tokio::time::sleep(pause).await;
            let id = format!("{}-{count}", self.name);
            let now = self.cluster.now();
            let command = Command::draw(&mut self.random, now);
            self.once(&command, &id).await;
        }
    }

    /// Only asks, as things come, again and again until `stop` says so.
    pub async fn read(mut self) {
        while !self.stop.get() && self.journal.violation().is_none() {
            tokio::time::sleep(self.random.duration(READER_PAUSE_MAX)).await;
            let question = checks::Question {
                tenant: TENANTS[self.random.index(TENANTS.len())],
                feature: FEATURES[self.random.index(FEATURES.len())],
                amount: 0,
                demand: checks::Demand::Nothing,
            };
            checks::ask(&self.cluster, &self.journal, self.random.index(PROCESSES), &question).await;
        }
    }

    async fn once(&mut self, command: &Command, id: &str) {
        let window = Window::open(&self.cluster);
        let before = window.life();
        let (mut outcome, mut asked_in) = (Outcome::Unknown, before);
        for attempt in 0..TRIES {
            // Some do something else first.
            if attempt > 0 && self.random.chance(400) {
                tokio::time::sleep(self.random.duration(Duration::from_millis(300))).await;
            }
            asked_in = self.cluster.life();
            outcome = self.call(command, id, attempt > 0).await;
            if let Outcome::Refused(reason) = &outcome
                && let Err(text) = rejections::check(&self.cluster, &window, (command, id), reason)
            {
                self.journal.violated(text);
            }
            if matches!(outcome, Outcome::Nothing) {
                // Some callers leave it at that: what they were told must then hold for ever.
                let leaves = attempt == 0 && self.random.chance(500);
                outcome = if leaves { Outcome::Refused("nothing was applied".to_owned()) } else { Outcome::Unknown };
            }
            if !matches!(outcome, Outcome::Unknown) || self.stop.get() {
                break;
            }
        }
        let stream = command.stream();
        match outcome {
            Outcome::Unknown | Outcome::Nothing => *self.journal.unknown.borrow_mut() += 1,
            Outcome::Refused(reason) => {
                let refused = Refused { stream, life: before, reason };
                if self.cluster.life() == before {
                    self.journal.refused.borrow_mut().insert(id.to_owned(), refused);
                }
            }
            Outcome::Done(said) => {
                let Ok(revision) = Revision::parse(&said.revision) else {
                    return self.journal.violated(format!("{id}: the revision of a write cannot be read"));
                };
                let Some(seq) = revision.streams.first().map(|named| named.seq) else { return };
                if self.cluster.life() != asked_in {
                    // What was done may be gone since.
                    return;
                }
                let unchanged = command.may_change_nothing();
                let acknowledged = Acknowledged { stream, life: asked_in, seq, unchanged };
                self.journal.acknowledged.borrow_mut().insert(id.to_owned(), acknowledged);
                if !unchanged {
                    self.try_again(command, id, &said, asked_in).await;
                }
                if self.cluster.has_servers() {
                    self.look(command, &said).await;
                }
            }
        }
    }

    async fn call(&mut self, command: &Command, id: &str, retry: bool) -> Outcome {
        let place = self.random.index(PROCESSES);
        let loader = self.cluster.loader(place);
        // Some hardly wait.
        let (least, spread) = if self.random.chance(250) { (10, 60) } else { (100, 1_500) };
        let timeout = Duration::from_millis(least + self.random.below(spread));
        let called = tokio::time::timeout(timeout, command.send(&loader.services, id, retry, timeout, None)).await;
        // A process that crashed meanwhile has answered nobody.
        if self.cluster.loader(place).generation != loader.generation {
            return Outcome::Unknown;
        }
        match called {
            Err(_) => Outcome::Unknown,
            Ok(Ok(said)) => Outcome::Done(said),
            Ok(Err(status)) => {
                let reason = status.get_details_error_info().map(|info| info.reason);
                match (status.code(), reason) {
                    (Code::Unavailable | Code::ResourceExhausted, Some(_)) => Outcome::Nothing,
                    (Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled, _) => {
                        Outcome::Unknown
                    }
                    (Code::Aborted, Some(reason)) if reason == "OUTCOME_UNKNOWN" => Outcome::Unknown,
                    (Code::Internal | Code::Unknown, _) => {
                        self.journal.violated(format!("{id}: a loader failed: {status:?}"));
                        Outcome::Unknown
                    }
                    (_, Some(reason)) => Outcome::Refused(reason),
                    (_, None) => Outcome::Unknown,
                }
            }
        }
    }

    /// (e) The same again returns the same; another command under the same id is refused.
    async fn try_again(&mut self, command: &Command, id: &str, first: &Said, life: Life) {
        if self.random.chance(350) {
            tokio::time::sleep(self.random.duration(Duration::from_millis(200))).await;
            let outcome = self.call(command, id, false).await;
            if self.cluster.life() != life {
                return;
            }
            match outcome {
                Outcome::Refused(reason) => self.journal.violated(format!("e: replay of {id} {command:?} was refused: {reason}")),
                Outcome::Done(said) if said.revision != first.revision || said.resource != first.resource || !said.replay => {
                    self.journal.violated(format!("e: replay of {id} {command:?} returned {said:?}, first {first:?}"));
                }
                _ => {}
            }
        }
        if self.random.chance(150) && !self.stop.get() {
            let outcome = self.call(&command.other(), id, false).await;
            if self.cluster.life() == life {
                match outcome {
                    Outcome::Done(_) => self.journal.violated(format!("e: {id} was accepted for another command")),
                    Outcome::Refused(reason) if reason != "REQUEST_ID_REUSED" => {
                        self.journal.violated(format!("e: {id} for another command was refused as {reason}"));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Asks a server about a tenant, now and then with what was just written as the least it must know.
    async fn look(&mut self, command: &Command, said: &Said) {
        let tenant = match command.stream() {
            StreamId::Tenant(id) => TENANTS.into_iter().find(|tenant| *tenant == id.as_str()).unwrap_or(TENANTS[0]),
            _ => TENANTS[self.random.index(TENANTS.len())],
        };
        let demand = match self.random.below(10) {
            0..2 => checks::Demand::Nothing,
            2..8 => checks::Demand::AtLeast(said.revision.clone()),
            _ => checks::Demand::Everything,
        };
        let question = checks::Question {
            tenant,
            feature: FEATURES[self.random.index(FEATURES.len())],
            amount: i64::try_from(self.random.below(20)).unwrap_or(0),
            demand,
        };
        let place = self.random.index(PROCESSES);
        checks::ask(&self.cluster, &self.journal, place, &question).await;
    }
}
