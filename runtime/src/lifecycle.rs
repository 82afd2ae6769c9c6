//! The life of a process: tasks, signals, draining, the exit code.
//!
//! Four kinds of task. *Work* ([`Tasks::spawn`]) must end by itself once [`Shutdown::soft`] is cancelled; the process waits
//! for it. *Company* ([`Tasks::spawn_behind`]: feeds, heartbeats, health pages) is needed for as long as work goes on and is
//! stopped after it. *Outlets* ([`Tasks::spawn_outlet`]) take what work leaves them, and have a moment for the last of it when work
//! has ended. *Errands* ([`Tasks::run`]) belong to one request that waits for the result, and go on when it leaves.
//!
//! The first SIGTERM or SIGINT drains. A second one, or [`DRAIN_MAX`], aborts; only after a second one outlets have no moment
//! either. A task that is no errand and panics or returns an error has *died*: the process drains and exits with 1. This is the
//! only file that spawns tasks.

mod signals;

use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, error, info, warn};

pub use signals::Signals;

/// How long draining may take before what still runs is abandoned; below the 60 s an orchestrator commonly grants.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How long outlets may go on when work has ended. What they do not get done must be safe with somebody else.
const OUTLETS_MAX: Duration = Duration::from_secs(2);

/// Tells tasks to come to an end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Draining has begun: report not ready, begin nothing of one's own, finish what is under way. Calls are still taken.
    pub soft: CancellationToken,
    /// No more calls are taken, and streams end: `listener.drain_delay_s` after [`Self::soft`].
    pub closing: CancellationToken,
    /// Stop at once, whatever is under way.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Begins draining.
    pub fn drain(&self) {
        self.soft.cancel();
    }

    /// Whether no more calls are taken.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Drains, and has no more calls taken.
    pub fn close(&self) {
        self.drain();
        self.closing.cancel();
    }

    /// Stops everything at once.
    pub fn abort(&self) {
        self.close();
        self.hard.cancel();
    }
}

/// How a process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything finished.
    Drained,
    /// A task panicked or failed.
    Died,
    /// A second signal or the time limit cut work short.
    Aborted,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Drained => Self::SUCCESS,
            Ending::Died | Ending::Aborted => Self::FAILURE,
        }
    }
}

/// An errand panicked, or the process stopped before it was done: what it did is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task `{name}` ended without a result")]
pub struct Lost {
    /// Which errand.
    pub name: &'static str,
}

/// All tasks of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    shutdown: Shutdown,
    work: TaskTracker,
    outlets: TaskTracker,
    company: TaskTracker,
    /// Work is done, and outlets hear of it.
    work_done: CancellationToken,
    /// Stops company and what is left of outlets.
    alone: CancellationToken,
    died: Arc<Mutex<Vec<&'static str>>>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What tasks listen to.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Spawns work: it must end by itself once `soft` is cancelled, and is dropped when `hard` is.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (tasks, hard) = (self.clone(), self.shutdown.hard.clone());
        self.work.spawn(async move {
            tokio::select! {
                biased;
                () = hard.cancelled() => debug!(task = name, "dropped"),
                ended = std::panic::AssertUnwindSafe(future).catch_unwind() => tasks.ended(name, ended),
            }
        });
    }

    /// Spawns company: it may run for ever, and is dropped when all work has ended.
    pub fn spawn_behind<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.company.spawn(self.until_alone(name, future));
    }

    /// Spawns an outlet: as company, but what it makes with `outlet` is told when all work has ended, and should then end by itself;
    /// it is dropped two seconds later.
    pub fn spawn_outlet<F>(&self, name: &'static str, outlet: impl FnOnce(WaitForCancellationFutureOwned) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.outlets.spawn(self.until_alone(name, outlet(self.work_done.clone().cancelled_owned())));
    }

    fn until_alone<F>(&self, name: &'static str, future: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (tasks, alone) = (self.clone(), self.alone.clone());
        async move {
            tokio::select! {
                biased;
                () = alone.cancelled() => debug!(task = name, "dropped"),
                ended = std::panic::AssertUnwindSafe(future).catch_unwind() => tasks.ended(name, ended),
            }
        }
    }

    /// Runs an errand in a task of its own: it starts at once and goes on when the returned future is dropped. A panic in it
    /// is this caller's [`Lost`] and nobody else's.
    pub fn run<T, F>(&self, name: &'static str, future: F) -> impl Future<Output = Result<T, Lost>> + Send + use<T, F>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (errand, result) = errand(name, future, self.shutdown.hard.clone());
        self.work.spawn(errand);
        result
    }

    /// As [`Self::run`], for company: when work has ended it is dropped where it next waits.
    pub fn run_behind<T, F>(&self, name: &'static str, future: F) -> impl Future<Output = Result<T, Lost>> + Send + use<T, F>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (errand, result) = errand(name, future, self.alone.clone());
        self.company.spawn(errand);
        result
    }

    /// Makes the process end, with a failure, when `fatal` comes to say why it must.
    pub fn die_when<R>(&self, name: &'static str, fatal: impl Future<Output = R> + Send + 'static)
    where
        R: std::fmt::Display,
    {
        self.spawn_behind(name, async move {
            let reason = fatal.await.to_string();
            anyhow::bail!(reason)
        });
    }

    /// Drops every task where it stands, as a crash would: nothing finishes and nothing is told. For simulations.
    #[cfg(feature = "test-hooks")]
    pub fn crash(&self) {
        self.shutdown.abort();
        self.alone.cancel();
    }

    /// Waits for the first signal (or for somebody to begin draining), then for work to finish, then for outlets, then stops company.
    pub async fn run_until_stopped(self, mut signals: Signals) -> Ending {
        let mut signalled = tokio::select! {
            name = signals.next() => Some(name),
            () = self.shutdown.soft.cancelled() => None,
        };
        // Before a word: whoever reads the log may be what everybody waits for.
        self.shutdown.drain();
        info!(signal = signalled, "draining");
        self.work.close();
        let mut too_long = pin!(tokio::time::sleep(DRAIN_MAX));
        let (aborted, in_haste) = loop {
            tokio::select! {
                () = self.work.wait() => break (false, false),
                name = signals.next() => {
                    if signalled.replace(name).is_some() {
                        self.shutdown.abort();
                        warn!(signal = name, "second signal, aborting");
                        break (true, true);
                    }
                    info!(signal = name, "draining already");
                }
                () = &mut too_long => {
                    self.shutdown.abort();
                    warn!(seconds = DRAIN_MAX.as_secs(), "draining took too long, aborting");
                    break (true, false);
                }
            }
        };
        self.work.wait().await;
        // A second signal means now: it drops them.
        if !in_haste {
            self.work_done.cancel();
            self.outlets.close();
            tokio::select! {
                () = self.outlets.wait() => {}
                _ = signals.next(), if signalled.is_some() => {}
                () = tokio::time::sleep(OUTLETS_MAX) => {}
            }
        }
        self.alone.cancel();
        self.outlets.close();
        self.outlets.wait().await;
        self.company.close();
        self.company.wait().await;
        self.ending(aborted)
    }

    fn ending(&self, aborted: bool) -> Ending {
        let died = self.died.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (died.is_empty(), aborted) {
            (false, _) => Ending::Died,
            (true, true) => Ending::Aborted,
            (true, false) => Ending::Drained,
        }
    }

    fn ended(&self, name: &'static str, ended: Result<anyhow::Result<()>, Box<dyn std::any::Any + Send>>) {
        // Before a word, as when draining begins.
        let dies = || {
            self.died.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(name);
            self.shutdown.drain();
        };
        match ended {
            Ok(Ok(())) => debug!(task = name, "ended"),
            Ok(Err(reason)) => {
                dies();
                error!(task = name, reason = format!("{reason:#}"), "a task failed");
            }
            Err(panic) => {
                dies();
                error!(task = name, panic = panic_text(&*panic), "a task panicked");
            }
        }
    }
}

/// The task of an errand, which is dropped when `stop` is cancelled, and what waits for its result.
fn errand<T, F>(
    name: &'static str,
    future: F,
    stop: CancellationToken,
) -> (impl Future<Output = ()> + Send, impl Future<Output = Result<T, Lost>> + Send + use<T, F>)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let task = async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => debug!(task = name, "dropped"),
            ended = std::panic::AssertUnwindSafe(future).catch_unwind() => match ended {
                // Nobody may be waiting any more; the errand is done all the same.
                Ok(result) => drop(sender.send(result)),
                Err(panic) => error!(task = name, panic = panic_text(&*panic), "an errand panicked"),
            },
        }
    };
    (task.in_current_span(), async move { receiver.await.map_err(|_| Lost { name }) })
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
