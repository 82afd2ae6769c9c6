//! A thread that sends its share of the messages and looks at the answers.
//!
//! One thread, one runtime, nothing shared with other workers but a few counters for the progress bar: tasks of a worker share
//! its [`Desk`] without locks. When a message is due is fixed beforehand ([`crate::schedule`]); a worker that is late sends at
//! once and counts the wait as latency. A message that could not be sent before its deadline is over is never sent.

mod calls;
mod desk;
mod line;
mod streams;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::account::{Account, Hold};
use crate::credentials::Way;
use crate::pacing::Alarm;
use crate::popularity::Popularity;
use crate::question::{Mode, Questions};
use crate::schedule::Schedule;
use desk::{Desk, Times};
pub use desk::{Progress, facts};
use line::Line;

/// After so many messages in one go the answers get their turn.
const MESSAGES_IN_A_GO: u32 = 32;

/// What a worker is to do, the same in every step.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Where each of its connections goes.
    pub connections: Vec<Way>,
    /// Streams on each, in stream mode.
    pub streams: u32,
    /// How questions are packed.
    pub mode: Mode,
    /// Checks in a message.
    pub size: usize,
    /// Most messages under way.
    pub under_way_max: usize,
    /// From when a message is due until its answer is of no use.
    pub deadline: Duration,
    /// Which tenants are asked about.
    pub popularity: Popularity,
    /// Of the questions.
    pub seed: u64,
}

/// A step: when it begins, what is due in it, and where its account goes.
#[derive(Debug)]
pub struct Order {
    /// When it begins.
    pub begin: Instant,
    /// When what is due.
    pub schedule: Schedule,
    /// Where the account goes.
    pub done: oneshot::Sender<Done>,
}

/// A worker's part of a finished step.
#[derive(Debug)]
pub struct Done {
    /// What became of the messages.
    pub account: Account,
    /// CPU time of its thread.
    pub cpu: Duration,
    /// From the beginning until the last message had its fate.
    pub elapsed: Duration,
}

/// Works until there are no more orders. Blocks this thread.
pub fn work(
    assignment: &Assignment,
    progress: std::sync::Arc<Progress>,
    mut orders: mpsc::Receiver<Order>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let worker = Worker::new(assignment, progress, stop)?;
        while let Some(order) = orders.recv().await {
            worker.step(order).await?;
        }
        anyhow::Ok(())
    })
}

struct Worker {
    desk: Rc<Desk>,
    lanes: Lanes,
    size: usize,
    alarm: Alarm,
    stop: watch::Receiver<bool>,
    backlog: Cell<Backlog>,
}

/// What piles up while something takes no messages is late for that reason, not for the generator's slowness.
#[derive(Debug, Clone, Copy, Default)]
struct Backlog(Option<(Instant, Hold)>);

/// Where messages go.
enum Lanes {
    Calls(calls::Calls),
    Streams(streams::Streams),
}

/// What came of offering a message.
enum Offered {
    /// It is under way.
    Sent,
    /// Nothing takes it at the moment.
    Held(Hold),
}

impl Worker {
    fn new(assignment: &Assignment, progress: std::sync::Arc<Progress>, stop: watch::Receiver<bool>) -> anyhow::Result<Self> {
        let Assignment { mode, size, under_way_max, deadline, popularity, seed, streams, .. } = *assignment;
        let questions = Questions::new(seed, popularity, mode)?;
        let desk = Rc::new(Desk::new(questions, mode, deadline, under_way_max, progress)?);
        let connections: Vec<_> =
            assignment.connections.iter().map(|way| Line::open(way, mode, &desk)).collect::<Result<_, _>>()?;
        let lanes = match mode {
            Mode::Unary | Mode::Batch => Lanes::Calls(calls::Calls::over(connections)),
            Mode::Stream => Lanes::Streams(streams::Streams::over(&connections, streams, &desk)),
        };
        Ok(Self { desk, lanes, size, alarm: Alarm::new()?, stop, backlog: Cell::default() })
    }

    /// One step, to the fate of its last message.
    async fn step(&self, order: Order) -> anyhow::Result<()> {
        let Order { begin, schedule, done } = order;
        self.desk.begin()?;
        self.ready_until(begin).await;
        self.alarm.until(begin).await?;
        let cpu = thread_cpu();
        self.send_all(begin, schedule).await?;
        self.desk.idle().await;
        let account = self.desk.begin()?;
        let (elapsed, cpu) = (begin.elapsed(), thread_cpu().saturating_sub(cpu));
        // Nobody waits any more when the run was given up.
        drop(done.send(Done { account, cpu, elapsed }));
        Ok(())
    }

    /// Connections come up before the first message is due; what cannot be had by then is held against the messages.
    async fn ready_until(&self, begin: Instant) {
        let up = async {
            while !self.lanes.all_up() {
                self.desk.changed().await;
            }
        };
        drop(tokio::time::timeout_at(begin, up).await);
    }

    async fn send_all(&self, begin: Instant, schedule: Schedule) -> anyhow::Result<()> {
        let mut stop = self.stop.clone();
        let mut in_a_go = 0;
        for offset in schedule {
            let due = begin + offset;
            if due > Instant::now() {
                tokio::select! {
                    biased;
                    // Whoever would say so is gone: that is a stop, too.
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                    woken = self.alarm.until(due) => woken?,
                }
                in_a_go = 0;
            } else if in_a_go == MESSAGES_IN_A_GO {
                tokio::task::yield_now().await;
                in_a_go = 0;
            }
            in_a_go += 1;
            if *stop.borrow() {
                return Ok(());
            }
            self.message(due, &mut stop).await?;
        }
        Ok(())
    }

    /// Sends one message as soon as something takes it, or never.
    async fn message(&self, due: Instant, stop: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
        let over = due + self.desk.deadline;
        let mut held = self.backlog.get().of(due);
        loop {
            let now = Instant::now();
            if now >= over {
                self.desk.not_sent(held.unwrap_or(Hold::Generator));
                return Ok(());
            }
            match self.lanes.offer(&self.desk, Times { due, sent: now }, self.size)? {
                Offered::Sent => {
                    self.desk.sent(now.saturating_duration_since(due), held.is_some());
                    return Ok(());
                }
                Offered::Held(by) => held = Some(by),
            }
            tokio::select! {
                () = self.desk.changed() => {}
                () = tokio::time::sleep_until(over) => {}
                _ = stop.wait_for(|stop| *stop) => {
                    self.desk.not_sent(held.unwrap_or(Hold::Generator));
                    return Ok(());
                }
            }
            self.backlog.set(Backlog(held.map(|hold| (Instant::now(), hold))));
        }
    }
}

impl Backlog {
    /// What held a message up that was due while messages before it waited.
    fn of(self, due: Instant) -> Option<Hold> {
        self.0.filter(|(until, _)| due <= *until).map(|(_, hold)| hold)
    }
}

impl Lanes {
    fn all_up(&self) -> bool {
        match self {
            Self::Calls(calls) => calls.all_up(),
            Self::Streams(streams) => streams.all_up(),
        }
    }

    fn offer(&self, desk: &Rc<Desk>, times: Times, size: usize) -> anyhow::Result<Offered> {
        if desk.full() {
            return Ok(Offered::Held(Hold::UnderWay));
        }
        match self {
            Self::Calls(calls) => calls.offer(desk, times, size),
            Self::Streams(streams) => streams.offer(desk, times, size),
        }
    }
}

/// CPU time of this thread so far.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests;
