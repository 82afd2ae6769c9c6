//! Commands of many streams that were asked for together, as an import asks: one read of the store for all of them, one read of
//! what they are decided against, one hand-over of all appends. Each is a [`Group`] of its own all the same, with an append, a
//! condition and an outcome of its own; what is not finished when the appends are answered goes on by itself as any other group.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tessera_ports::event_store::{Append, AppendError, Appended, RequestRow};

use super::Desk;
use super::group::{Group, Next, Step, Unfinished};
use super::pending::Pending;
use super::queue::{Queues, Task, latest_cutoff, until};
use crate::aggregate::Handled;
use crate::metric_definitions as metrics;

/// One command for each of many streams that nobody else works on.
pub(super) struct Batch<A: Handled> {
    pub(super) queues: Arc<Queues<A>>,
    pub(super) desk: Arc<Desk<A>>,
    /// The streams, each an entry of the queues.
    pub(super) tasks: Vec<Task<A>>,
    /// Their commands, in the same order.
    pub(super) members: Vec<Pending<A>>,
}

impl<A: Handled> Batch<A> {
    pub(super) async fn run(self) {
        let Self { queues, desk, tasks, members } = self;
        metrics::groups_of_one_begun(A::NAME, members.len());
        let latest = latest_cutoff(&members);
        // When their time is over, those whose append was not answered are told so by what they wait on.
        let unfinished = until(latest, begin(&desk, &tasks, members)).await.unwrap_or_default();
        let unfinished = unfinished.into_iter().chain(std::iter::repeat_with(|| None));
        Task::go_on(&queues, &desk, tasks.into_iter().zip(unfinished).collect());
    }
}

/// A group, and how far its first attempt has come.
struct Begun<'a, A: Handled> {
    group: Group<'a, A>,
    step: Step<A>,
}

/// The first attempt of all groups. What is left of each, in the same order.
async fn begin<A: Handled>(desk: &Arc<Desk<A>>, tasks: &[Task<A>], members: Vec<Pending<A>>) -> Vec<Option<Unfinished<A>>> {
    let store = desk.streams.store();
    let mut begun = decide(desk, tasks, members).await;
    if store.feeds_itself() {
        for begun in &mut begun {
            begun.prepare().await;
        }
    } else {
        join_all(begun.iter_mut().map(Begun::prepare)).await;
    }
    let appends: Vec<Arc<Append>> = begun.iter().filter_map(Begun::append).collect();
    let outcomes = if appends.is_empty() { Vec::new() } else { store.append_many(&appends).await };
    metrics::appends_answered(A::NAME, &outcomes);
    let mut outcomes = outcomes.into_iter();
    begun.into_iter().map(|begun| begun.finish(&mut outcomes)).collect()
}

/// Decides every command on what one read of all streams returned, against what one more read returned.
async fn decide<'a, A: Handled>(desk: &'a Arc<Desk<A>>, tasks: &'a [Task<A>], members: Vec<Pending<A>>) -> Vec<Begun<'a, A>> {
    let groups = tasks.iter().zip(members).map(|(task, member)| Group::of_batch(desk, task.stream(), member));
    let groups: Vec<Group<'_, A>> = groups.collect();
    let reads = desk.streams.read_many(groups.iter().map(Group::question).collect()).await;
    // One by one: whoever collects sorts them all first, and hundreds of commands name the same few.
    let mut named = BTreeSet::new();
    for (group, read) in groups.iter().zip(&reads) {
        if let Ok((read, _)) = read {
            named.extend(group.references(read));
        }
    }
    let shared = desk.world.read_for_many(A::NEEDS_CATALOG, named).await;

    let with_step = |(group, read)| (Begun { group, step: Step::Next(Next::AtOnce) }, Some(read));
    let mut begun: Vec<_> = groups.into_iter().zip(reads).map(with_step).collect();
    let is_new = |read: &mut Result<(_, Vec<RequestRow>), _>| read.as_ref().is_ok_and(|(_, rows)| rows.is_empty());
    for (begun, read) in &mut begun {
        if let Some(read) = read.take_if(is_new) {
            begun.step = begun.group.after_read(read, Some(&shared)).await;
        }
    }
    // Those whose request id is known read what came of them then.
    let replays = begun.iter_mut().filter_map(|(begun, read)| Some((begun, read.take()?)));
    let replays = replays.map(async |(begun, read)| begun.step = begun.group.after_read(read, Some(&shared)).await);
    join_all(replays).await;
    begun.into_iter().map(|(begun, _)| begun).collect()
}

impl<A: Handled> Begun<'_, A> {
    /// Everything that has to be before its append.
    async fn prepare(&mut self) {
        self.step = match std::mem::replace(&mut self.step, Step::Next(Next::AtOnce)) {
            Step::Send { attempt, again } => match self.group.before_sending(attempt, again).await {
                Ok(attempt) => Step::Send { attempt, again },
                Err(next) => Step::Next(next),
            },
            step @ Step::Next(_) => step,
        };
    }

    /// What is to be appended, if anything.
    fn append(&self) -> Option<Arc<Append>> {
        match &self.step {
            Step::Send { attempt, .. } => Some(Arc::clone(&attempt.append)),
            Step::Next(_) => None,
        }
    }

    /// Takes the next outcome if it has an append; what is left of it then.
    fn finish(mut self, outcomes: &mut impl Iterator<Item = Result<Appended, AppendError>>) -> Option<Unfinished<A>> {
        let next = match self.step {
            Step::Send { attempt, again } => {
                let unanswered = || Err(AppendError::Unknown("the store gave no answer".to_owned()));
                self.group.sent(attempt, again, outcomes.next().unwrap_or_else(unanswered))
            }
            Step::Next(next) => next,
        };
        (next != Next::Finished).then(|| self.group.leave(next))
    }
}
