//! One queue per stream: commands that come while a group is under way wait, and go together into the next.
//!
//! Within one process no two appends to a stream compete; between processes the append's condition sees to it. Commands of many
//! streams that are handed in together, and for which nobody works yet, begin as one batch ([`super::batch`]).
//!
//! Whoever hands in many takes [`Queues::room`] for them before: all who do have half of what may be under way, and wait for each
//! other. The other half is left to single commands, which do not wait: they are refused when there is no room.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_core::stream::StreamId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Desk;
use super::batch::Batch;
use super::group::{Group, Next, Unfinished};
use super::pending::Pending;
use crate::aggregate::Handled;
use crate::config::Config;
use crate::metric_definitions as metrics;
use crate::refusal::Refusal;

/// Most commands in one append: bounds what one failed attempt delays.
const GROUP_COMMANDS_MAX: usize = 32;
/// Most bytes of commands in one append, unless one alone is longer.
const GROUP_BYTES_MAX: usize = 256 * 1024;

/// The queues of one aggregate.
#[derive(Debug)]
pub(super) struct Queues<A: Handled> {
    stream_queue_max: usize,
    commands_max: usize,
    command_bytes_max: usize,
    waiting: Mutex<Waiting<A>>,
    /// Half of the commands that may be under way.
    rooms: Arc<Semaphore>,
    rooms_max: u32,
}

#[derive(Debug)]
struct Waiting<A: Handled> {
    /// A stream has an entry exactly while its task runs.
    streams: HashMap<StreamId, VecDeque<Pending<A>>>,
    /// Commands that wait or run.
    commands: usize,
    /// Their bytes.
    bytes: usize,
}

/// What became of a command that was handed in.
enum Placed<A: Handled> {
    /// It waits for the task of its stream.
    Queued,
    /// Its stream had no entry, and has an empty one now: the caller sees to both.
    First(Pending<A>),
    /// There is no room for it.
    Refused(Pending<A>, Refusal),
}

impl<A: Handled> Queues<A> {
    pub(super) fn new(config: &Config) -> Self {
        let waiting = Waiting { streams: HashMap::new(), commands: 0, bytes: 0 };
        let rooms = (config.commands_max / 2).min(Semaphore::MAX_PERMITS);
        Self {
            stream_queue_max: config.stream_queue_max,
            commands_max: config.commands_max,
            command_bytes_max: config.command_bytes_max,
            waiting: Mutex::new(waiting),
            rooms: Arc::new(Semaphore::new(rooms)),
            rooms_max: u32::try_from(rooms).unwrap_or(u32::MAX),
        }
    }

    /// Waits for room for so many commands of so many bytes, handed in together; it is theirs until what is returned is dropped.
    /// Those that are long take the room of as many as may have their bytes, so that no more than half of the bytes is taken
    /// either, unless one alone is longer.
    pub(super) async fn room(&self, commands: usize, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let of_bytes = bytes.div_ceil((self.command_bytes_max / self.commands_max).max(1));
        let count = u32::try_from(commands.max(of_bytes)).unwrap_or(u32::MAX).min(self.rooms_max);
        // Nobody closes it.
        Arc::clone(&self.rooms).acquire_many_owned(count).await.ok()
    }

    /// Queues a command; starts its stream's task if none runs.
    pub(super) fn push(self: &Arc<Self>, desk: &Arc<Desk<A>>, pending: Pending<A>) -> Result<(), Refusal> {
        let task = {
            let mut waiting = self.lock();
            let pending = match self.place(&mut waiting, pending) {
                Placed::Queued => return Ok(()),
                Placed::Refused(_, refusal) => return Err(refusal),
                Placed::First(pending) => pending,
            };
            let task = self.task(desk, &pending);
            waiting.streams.entry(task.stream.clone()).or_default().push_back(pending);
            task
        };
        drop(desk.tasks.run("loader.stream", task.run()));
        Ok(())
    }

    /// Queues commands of many streams; those whose stream nobody works on go into one batch. Who cannot be taken is answered.
    pub(super) fn push_many(self: &Arc<Self>, desk: &Arc<Desk<A>>, many: Vec<Pending<A>>) {
        let mut first = Vec::with_capacity(many.len());
        let mut refused = Vec::new();
        {
            let mut waiting = self.lock();
            for pending in many {
                match self.place(&mut waiting, pending) {
                    Placed::Queued => {}
                    Placed::First(pending) => first.push(pending),
                    Placed::Refused(pending, refusal) => refused.push((pending, refusal)),
                }
            }
        }
        if !first.is_empty() {
            let counted = Counted::new(self, &first);
            let tasks = first.iter().map(|pending| self.task(desk, pending)).collect();
            let batch = Batch { desk: Arc::clone(desk), tasks, members: first, counted };
            drop(desk.tasks.run("loader.batch", batch.run()));
        }
        for (pending, refusal) in refused {
            pending.answer(Err(refusal));
        }
    }

    /// Puts a command where it waits, if there is room for it.
    fn place(&self, waiting: &mut Waiting<A>, pending: Pending<A>) -> Placed<A> {
        let bytes = waiting.bytes.saturating_add(pending.request.len);
        if waiting.commands >= self.commands_max || bytes > self.command_bytes_max {
            return Placed::Refused(pending, Refusal::Overloaded("the process has as many commands under way as it may"));
        }
        let placed = match waiting.streams.get_mut(&pending.request.stream) {
            Some(queue) if queue.len() >= self.stream_queue_max => {
                return Placed::Refused(pending, Refusal::Overloaded("as many commands wait for this resource as may"));
            }
            Some(queue) => {
                queue.push_back(pending);
                Placed::Queued
            }
            None => {
                waiting.streams.insert(pending.request.stream.clone(), VecDeque::new());
                Placed::First(pending)
            }
        };
        waiting.commands += 1;
        waiting.bytes = bytes;
        placed
    }

    fn task(self: &Arc<Self>, desk: &Arc<Desk<A>>, pending: &Pending<A>) -> Task<A> {
        let stream = pending.request.stream.clone();
        Task { queues: Arc::clone(self), desk: Arc::clone(desk), stream, finished: false }
    }

    /// The next group of a stream; `None` when nothing waits, and then the stream has no entry any more.
    fn take(&self, stream: &StreamId) -> Option<Vec<Pending<A>>> {
        let mut waiting = self.lock();
        let queue = waiting.streams.get_mut(stream)?;
        let group = take_group(queue);
        if group.is_empty() {
            waiting.streams.remove(stream);
            return None;
        }
        Some(group)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes from the front what fits one append. Each request id at most once: a repeated one is looked up in the next group.
fn take_group<A: Handled>(queue: &mut VecDeque<Pending<A>>) -> Vec<Pending<A>> {
    let mut group: Vec<Pending<A>> = Vec::new();
    let mut ids = HashSet::new();
    let mut len = 0_usize;
    while let Some(next) = queue.front() {
        len = len.saturating_add(next.request.len);
        let fits = group.is_empty() || (group.len() < GROUP_COMMANDS_MAX && len <= GROUP_BYTES_MAX);
        if !fits || !ids.insert(next.request.caller.request_id.clone()) {
            break;
        }
        group.extend(queue.pop_front());
    }
    group
}

/// Works off one stream's queue until nothing waits. Whoever has it has the stream's entry.
#[derive(Debug)]
pub(super) struct Task<A: Handled> {
    queues: Arc<Queues<A>>,
    desk: Arc<Desk<A>>,
    stream: StreamId,
    /// The queue was found empty and its entry is gone; another task may have made a new one.
    finished: bool,
}

impl<A: Handled> Task<A> {
    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }

    async fn run(mut self) {
        while let Some(members) = self.queues.take(&self.stream) {
            metrics::group_begun(A::NAME, members.len());
            let counted = Counted::new(&self.queues, &members);
            let latest = latest_cutoff(&members);
            until(latest, Group::new(&self.desk, &self.stream, members).run(Next::AtOnce)).await;
            drop(counted);
        }
        self.finished = true;
    }

    /// Goes on with a group that a batch has left, and then with the queue.
    async fn run_unfinished(self, unfinished: Unfinished<A>, counted: Counted<A>) {
        let latest = latest_cutoff(&unfinished.members);
        let (group, next) = Group::resume(&self.desk, &self.stream, unfinished);
        until(latest, group.run(next)).await;
        drop(counted);
        self.run().await;
    }

    /// Goes on with what a batch has left of each stream, if anything, and with what has come for it since. `counted`: all that
    /// was in the batch.
    pub(super) fn go_on(desk: &Desk<A>, left: Vec<(Self, Option<Unfinished<A>>)>, mut counted: Counted<A>) {
        let mut busy = Vec::new();
        {
            let mut waiting = counted.queues.lock();
            for (mut task, unfinished) in left {
                if unfinished.is_none() && waiting.streams.get(&task.stream).is_none_or(VecDeque::is_empty) {
                    waiting.streams.remove(&task.stream);
                    task.finished = true;
                } else {
                    busy.push((task, unfinished));
                }
            }
        }
        for (task, unfinished) in busy {
            match unfinished {
                Some(unfinished) => {
                    let counted = counted.hand_over(&unfinished.members);
                    drop(desk.tasks.run("loader.stream", task.run_unfinished(unfinished, counted)));
                }
                None => drop(desk.tasks.run("loader.stream", task.run())),
            }
        }
    }
}

/// When nobody of them waits any more.
pub(super) fn latest_cutoff<A: Handled>(members: &[Pending<A>]) -> Option<Instant> {
    members.iter().map(Pending::cutoff).max()
}

/// Whoever waits has left by `latest`; a call of the store that hangs must not hold the stream for ever.
pub(super) async fn until<T>(latest: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match latest {
        Some(latest) => tokio::time::timeout_at(latest, Box::pin(work)).await.ok(),
        None => Some(work.await),
    }
}

impl<A: Handled> Drop for Task<A> {
    /// A task that was dropped or panicked leaves no entry behind that would hold later commands for ever; those that waited
    /// in it are told what is known.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let left = {
            let mut waiting = self.queues.lock();
            let left = waiting.streams.remove(&self.stream).unwrap_or_default();
            waiting.commands = waiting.commands.saturating_sub(left.len());
            waiting.bytes = waiting.bytes.saturating_sub(left.iter().map(|pending| pending.request.len).sum());
            left
        };
        for pending in left {
            pending.give_up(Refusal::Draining);
        }
    }
}

/// Commands of a group under way, for the bound over all.
#[derive(Debug)]
pub(super) struct Counted<A: Handled> {
    queues: Arc<Queues<A>>,
    count: usize,
    bytes: usize,
}

impl<A: Handled> Counted<A> {
    fn new(queues: &Arc<Queues<A>>, members: &[Pending<A>]) -> Self {
        let bytes = members.iter().map(|member| member.request.len).sum();
        Self { queues: Arc::clone(queues), count: members.len(), bytes }
    }

    /// Some of them are counted by themselves from now on.
    fn hand_over(&mut self, members: &[Pending<A>]) -> Self {
        let part = Self::new(&self.queues, members);
        self.count = self.count.saturating_sub(part.count);
        self.bytes = self.bytes.saturating_sub(part.bytes);
        part
    }
}

impl<A: Handled> Drop for Counted<A> {
    fn drop(&mut self) {
        let mut waiting = self.queues.lock();
        waiting.commands = waiting.commands.saturating_sub(self.count);
        waiting.bytes = waiting.bytes.saturating_sub(self.bytes);
    }
}
