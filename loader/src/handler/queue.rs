//! One queue per stream: commands that come while a group is under way wait, and go together into the next.
//!
//! Within one process no two appends to a stream compete; between processes the append's condition sees to it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_core::stream::StreamId;

use super::Desk;
use super::group::Group;
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

impl<A: Handled> Queues<A> {
    pub(super) fn new(config: &Config) -> Self {
        let waiting = Waiting { streams: HashMap::new(), commands: 0, bytes: 0 };
        Self {
            stream_queue_max: config.stream_queue_max,
            commands_max: config.commands_max,
            command_bytes_max: config.command_bytes_max,
            waiting: Mutex::new(waiting),
        }
    }

    /// Queues a command; starts its stream's task if none runs.
    pub(super) fn push(self: &Arc<Self>, desk: &Arc<Desk<A>>, pending: Pending<A>) -> Result<(), Refusal> {
        let stream = pending.request.stream.clone();
        {
            let mut waiting = self.lock();
            let bytes = waiting.bytes.saturating_add(pending.request.len);
            if waiting.commands >= self.commands_max || bytes > self.command_bytes_max {
                return Err(Refusal::Overloaded("the process has as many commands under way as it may"));
            }
            if let Some(queue) = waiting.streams.get_mut(&stream) {
                if queue.len() >= self.stream_queue_max {
                    return Err(Refusal::Overloaded("as many commands wait for this resource as may"));
                }
                queue.push_back(pending);
                waiting.commands += 1;
                waiting.bytes = bytes;
                return Ok(());
            }
            waiting.streams.insert(stream.clone(), VecDeque::from([pending]));
            waiting.commands += 1;
            waiting.bytes = bytes;
        }
        let task = Task { queues: Arc::clone(self), desk: Arc::clone(desk), stream, finished: false };
        drop(desk.tasks.run("loader.stream", task.run()));
        Ok(())
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

/// Works off one stream's queue until nothing waits.
struct Task<A: Handled> {
    queues: Arc<Queues<A>>,
    desk: Arc<Desk<A>>,
    stream: StreamId,
    /// The queue was found empty and its entry is gone; another task may have made a new one.
    finished: bool,
}

impl<A: Handled> Task<A> {
    async fn run(mut self) {
        while let Some(members) = self.queues.take(&self.stream) {
            let count = members.len();
            metrics::group_begun(A::NAME, count);
            let bytes = members.iter().map(|member| member.request.len).sum();
            let counted = Counted { queues: &self.queues, count, bytes };
            // Whoever waits has left by then; a call of the store that hangs must not hold the stream for ever.
            let latest = members.iter().map(Pending::cutoff).max();
            let group = Group::new(&self.desk, &self.stream, members);
            match latest {
                Some(latest) => drop(tokio::time::timeout_at(latest, Box::pin(group.run())).await),
                None => group.run().await,
            }
            drop(counted);
        }
        self.finished = true;
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
struct Counted<'a, A: Handled> {
    queues: &'a Queues<A>,
    count: usize,
    bytes: usize,
}

impl<A: Handled> Drop for Counted<'_, A> {
    fn drop(&mut self) {
        let mut waiting = self.queues.lock();
        waiting.commands = waiting.commands.saturating_sub(self.count);
        waiting.bytes = waiting.bytes.saturating_sub(self.bytes);
    }
}
