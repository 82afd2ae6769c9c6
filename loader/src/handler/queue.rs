//! One queue per stream: commands that come while a group is under way wait, and go together into the next.
//!
//! Within one process no two appends to a stream compete; between processes the append's condition sees to it. Commands of many
//! streams that are handed in together, and for which nobody works yet, begin as one batch ([`super::batch`]).
//!
//! A command counts as under way from when it is taken until it is answered ([`Room`]), whoever works on it by then.
//!
//! Whoever hands in many takes [`Queues::room`] for them before: all who do have half of what may be under way, and wait for each
//! other. The other half is left to single commands, which do not wait: they are refused when there is no room.

use std::collections::hash_map::Entry;
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
    /// Commands that wait. A stream has an entry exactly while its task runs.
    streams: Mutex<Streams<A>>,
    /// Commands that there is room for, and bytes of them.
    commands: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// Half of the commands that may be under way.
    rooms: Arc<Semaphore>,
    rooms_max: u32,
    /// Bytes that each of as many commands as may be under way can have.
    bytes_each: usize,
}

type Streams<A> = HashMap<StreamId, VecDeque<Pending<A>>>;

/// What a command takes of what may be under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    _command: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
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
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let rooms = semaphore(config.commands_max / 2);
        Self {
            stream_queue_max: config.stream_queue_max,
            streams: Mutex::default(),
            commands: semaphore(config.commands_max),
            bytes: semaphore(config.command_bytes_max),
            rooms_max: u32::try_from(rooms.available_permits()).unwrap_or(u32::MAX),
            rooms,
            bytes_each: (config.command_bytes_max / config.commands_max).max(1),
        }
    }

    /// Waits for room for so many commands of so many bytes, handed in together; it is theirs until what is returned is dropped.
    /// Those that are long take the room of as many as may have their bytes, so that no more than half of the bytes is taken
    /// either, unless one alone is longer.
    pub(super) async fn room(&self, commands: usize, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let of_bytes = bytes.div_ceil(self.bytes_each);
        let count = u32::try_from(commands.max(of_bytes)).unwrap_or(u32::MAX).min(self.rooms_max);
        // Nobody closes it.
        Arc::clone(&self.rooms).acquire_many_owned(count).await.ok()
    }

    /// Queues a command; starts its stream's task if none runs.
    pub(super) fn push(self: &Arc<Self>, desk: &Arc<Desk<A>>, pending: Pending<A>) -> Result<(), Refusal> {
        let task = {
            let mut streams = self.lock();
            let pending = match self.place(&mut streams, pending) {
                Placed::Queued => return Ok(()),
                Placed::Refused(_, refusal) => return Err(refusal),
                Placed::First(pending) => pending,
            };
            let task = self.task(desk, &pending);
            streams.entry(task.stream.clone()).or_default().push_back(pending);
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
            let mut streams = self.lock();
            for pending in many {
                match self.place(&mut streams, pending) {
                    Placed::Queued => {}
                    Placed::First(pending) => first.push(pending),
                    Placed::Refused(pending, refusal) => refused.push((pending, refusal)),
                }
            }
        }
        if !first.is_empty() {
            let tasks = first.iter().map(|pending| self.task(desk, pending)).collect();
            let batch = Batch { queues: Arc::clone(self), desk: Arc::clone(desk), tasks, members: first };
            drop(desk.tasks.run("loader.batch", batch.run()));
        }
        for (pending, refusal) in refused {
            pending.answer(Err(refusal));
        }
    }

    /// Puts a command where it waits, if there is room for it.
    fn place(&self, streams: &mut Streams<A>, mut pending: Pending<A>) -> Placed<A> {
        let Some(room) = self.room_of_one(pending.request.len) else {
            return Placed::Refused(pending, Refusal::Overloaded("the process has as many commands under way as it may"));
        };
        match streams.entry(pending.request.stream.clone()) {
            Entry::Occupied(queue) if queue.get().len() >= self.stream_queue_max => {
                Placed::Refused(pending, Refusal::Overloaded("as many commands wait for this resource as may"))
            }
            Entry::Occupied(mut queue) => {
                pending.room = Some(room);
                queue.get_mut().push_back(pending);
                Placed::Queued
            }
            Entry::Vacant(free) => {
                pending.room = Some(room);
                free.insert(VecDeque::new());
                Placed::First(pending)
            }
        }
    }

    /// The room of a command of so many bytes, if there is any now.
    fn room_of_one(&self, bytes: usize) -> Option<Room> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let command = Arc::clone(&self.commands).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?;
        Some(Room { _command: command, _bytes: bytes })
    }

    fn task(self: &Arc<Self>, desk: &Arc<Desk<A>>, pending: &Pending<A>) -> Task<A> {
        let stream = pending.request.stream.clone();
        Task { queues: Arc::clone(self), desk: Arc::clone(desk), stream, finished: false }
    }

    /// The next group of a stream; `None` when nothing waits, and then the stream has no entry any more.
    fn take(&self, stream: &StreamId) -> Option<Vec<Pending<A>>> {
        let mut streams = self.lock();
        let queue = streams.get_mut(stream)?;
        let group = take_group(queue);
        if group.is_empty() {
            streams.remove(stream);
            return None;
        }
        Some(group)
    }

    fn lock(&self) -> MutexGuard<'_, Streams<A>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
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
            let latest = latest_cutoff(&members);
            until(latest, Group::new(&self.desk, &self.stream, members).run(Next::AtOnce)).await;
        }
        self.finished = true;
    }

    /// Goes on with a group that a batch has left, and then with the queue.
    async fn run_unfinished(self, unfinished: Unfinished<A>) {
        let latest = latest_cutoff(&unfinished.members);
        let (group, next) = Group::resume(&self.desk, &self.stream, unfinished);
        until(latest, group.run(next)).await;
        self.run().await;
    }

    /// Goes on with what a batch has left of each stream, if anything, and with what has come for it since.
    pub(super) fn go_on(queues: &Queues<A>, desk: &Desk<A>, left: Vec<(Self, Option<Unfinished<A>>)>) {
        let mut busy = Vec::new();
        {
            let mut streams = queues.lock();
            for (mut task, unfinished) in left {
                if unfinished.is_none() && streams.get(&task.stream).is_none_or(VecDeque::is_empty) {
                    streams.remove(&task.stream);
                    task.finished = true;
                } else {
                    busy.push((task, unfinished));
                }
            }
        }
        for (task, unfinished) in busy {
            match unfinished {
                Some(unfinished) => drop(desk.tasks.run("loader.stream", task.run_unfinished(unfinished))),
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
pub(crate) async fn until<T>(latest: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
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
        let left = self.queues.lock().remove(&self.stream).unwrap_or_default();
        for pending in left {
            pending.give_up(Refusal::Draining);
        }
    }
}
