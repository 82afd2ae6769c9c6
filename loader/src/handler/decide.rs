//! Deciding a group: each command on the state that those before it leave, all of them into one append.

use std::sync::Arc;

use bytes::Bytes;
use tessera_core::aggregate::{Context, Recorded, References, Settled};
use tessera_core::rejection::Rejection;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::event_store::{Append, CellHash, Head, RequestRow};
use tessera_ports::hooks::{self, Guard};
use tessera_proto::storage::{self, StoredEvent};

use super::pending::Pending;
use super::{Desk, Done};
use crate::aggregate::{Handled, Snapshot};
use crate::refusal::Refusal;
use crate::world::{ReadWorld, SharedWorld};

/// What was decided about one command.
#[derive(Debug, Clone)]
pub(super) enum Decided<A> {
    /// It changes the stream.
    Changed(Done<A>),
    /// It changes nothing.
    Unchanged(Done<A>),
    /// It is refused.
    Refused(Refusal),
}

impl<A> Decided<A> {
    pub(super) fn into_result(self) -> Result<Done<A>, Refusal> {
        match self {
            Self::Changed(done) | Self::Unchanged(done) => Ok(done),
            Self::Refused(refusal) => Err(refusal),
        }
    }
}

/// An append of a group, and the stream once it is committed. Sent again as it is when its outcome is unknown.
#[derive(Debug, Clone)]
pub(super) struct Attempt<A> {
    pub(super) append: Arc<Append>,
    pub(super) after: Snapshot<A>,
}

/// What is to be done for a group.
#[derive(Debug)]
pub(super) enum Plan<A> {
    /// Nothing is to be written: every command can be answered.
    Answer,
    /// This is to be appended first.
    Append(Box<Attempt<A>>),
    /// What was read belongs to different lives of the store: read again.
    ReadAgain,
}

/// Decides every command of `members` on the stream as it was read, against what was read for them and others (`shared`) or is
/// read for all of them here, and notes in each what was decided. All had been asked for before, so that one read is as strong
/// for each as one of its own. `Err` when the store does not answer; nothing was decided then.
pub(super) async fn decide_group<A: Handled>(
    desk: &Desk<A>,
    stream: &StreamId,
    read: &Snapshot<A>,
    shared: Option<&SharedWorld>,
    members: &mut [Pending<A>],
) -> Result<Plan<A>, Refusal> {
    let here;
    let worlds = if let Some(shared) = shared {
        shared
    } else {
        // On the state that others before it leave, a command names nothing but what it names on this one, or what they name.
        let named = members.iter().flat_map(|member| read.state.references(&member.request.command)).collect();
        here = desk.world.read_for_many(A::NEEDS_CATALOG, named).await;
        &here
    };
    let mut draft = Draft::new(stream, read, members.len());
    for member in members {
        let references = draft.state.references(&member.request.command);
        let world = match worlds.of(read.epoch, references) {
            Ok(Some(world)) => world,
            Ok(None) => return Ok(Plan::ReadAgain),
            Err(refusal @ Refusal::StoreUnavailable(_)) => return Err(refusal),
            Err(refusal) => {
                member.decided = Some(Decided::Refused(refusal));
                continue;
            }
        };
        // Asked for each command, after everything it rests on was read.
        let now = desk.clock.now().max(draft.last_event_at);
        member.decided = Some(draft.decide(member, &world, now));
    }
    Ok(draft.into_plan(read))
}

/// The stream as it would be after the commands decided so far.
struct Draft<'a, A: Handled> {
    stream: &'a StreamId,
    epoch: u64,
    head: Head,
    last_event_at: Timestamp,
    state: Arc<A>,
    cells: Vec<Bytes>,
    rows: Vec<RequestRow>,
    bytes: Bytes,
}

/// Events of one command, encoded.
struct Step<A> {
    head: Head,
    state: A,
    cells: Vec<Bytes>,
    bytes: Bytes,
}

impl<'a, A: Handled> Draft<'a, A> {
    fn new(stream: &'a StreamId, read: &Snapshot<A>, commands: usize) -> Self {
        Self {
            stream,
            epoch: read.epoch,
            head: read.head,
            last_event_at: read.last_event_at,
            state: Arc::clone(&read.state),
            cells: Vec::with_capacity(commands),
            rows: Vec::with_capacity(commands),
            bytes: read.bytes.clone(),
        }
    }

    fn decide(&mut self, member: &Pending<A>, world: &ReadWorld, now: Timestamp) -> Decided<A> {
        let decided = self.verdict(member, world, now).and_then(|events| {
            let step = self.step(member, &world.references, now, events);
            self.check_len(&member.request.command, &step)?;
            Ok(step)
        });
        // A rejection or no change on a retry is written down: so the head moves, and an earlier attempt still in flight dies.
        let settles = member.request.caller.retry && hooks::holds(Guard::RetrySettlesRejection);
        match decided {
            Ok(step) if !step.cells.is_empty() => {
                self.take(member, step, now);
                Decided::Changed(self.done(true))
            }
            Ok(_) if settles => {
                self.settle(member, &world.references, now, Settled::NoChange);
                Decided::Unchanged(self.done(false))
            }
            Ok(_) => Decided::Unchanged(self.done(false)),
            Err(rejection) => {
                if settles {
                    self.settle(member, &world.references, now, Settled::Rejected(rejection.clone()));
                }
                Decided::Refused(rejection.into())
            }
        }
    }

    /// The events of a command, or why it is refused: the etag first, then the aggregate.
    fn verdict(&self, member: &Pending<A>, world: &ReadWorld, now: Timestamp) -> Result<Vec<A::Event>, Rejection> {
        let request = &member.request;
        let current = request.etag.as_ref().and_then(|_| self.state.etag(&request.command, self.epoch, self.head.seq));
        if let (Some(given), Some(current)) = (&request.etag, &current)
            && given != current
        {
            return Err(Refusal::etag_mismatch(given, Some(current)));
        }
        let caller = &request.caller;
        let context = Context { now, actor: &caller.actor, request_id: &caller.request_id, world: &world.world };
        let events = self.state.decide(&request.command, &context)?;
        match (&request.etag, &current) {
            (Some(given), None) => Err(Refusal::etag_mismatch(given, None)),
            _ => Ok(events),
        }
    }

    /// Whether what a command makes fits. Beyond what may be stated everything does that makes the state no longer, so that
    /// whoever has stated too much can state less.
    fn check_len(&self, command: &A::Command, step: &Step<A>) -> Result<(), Rejection> {
        let len = step.bytes.len();
        let len_max = if A::states(command) && len > self.bytes.len() { A::STATED_LEN_MAX } else { A::STATE_LEN_MAX };
        if len > len_max { Err(Refusal::state_too_large(len, len_max)) } else { Ok(()) }
    }

    /// What those events make of the stream. Nothing is taken over yet.
    fn step(&self, member: &Pending<A>, references: &References, now: Timestamp, events: Vec<A::Event>) -> Step<A> {
        let request = &member.request;
        let mut step = Step {
            head: self.head,
            state: (*self.state).clone(),
            cells: Vec::with_capacity(events.len()),
            bytes: self.bytes.clone(),
        };
        for event in events {
            let seq = step.head.seq.saturating_add(1);
            let recorded = Recorded { seq, at: now, references: references.clone(), event };
            step.state = step.state.evolve(&recorded);
            let cell = Bytes::from(storage::encode_event::<A>(&StoredEvent {
                previous_hash: step.head.hash.0,
                request_id: request.caller.request_id.clone(),
                command_digest: request.digest.0,
                actor: request.caller.actor.clone(),
                recorded,
            }));
            step.head = Head { seq, hash: CellHash::of(&cell) };
            step.cells.push(cell);
        }
        if !step.cells.is_empty() {
            step.bytes = storage::encode_state(&step.state, now).into();
        }
        step
    }

    fn settle(&mut self, member: &Pending<A>, references: &References, now: Timestamp, settled: Settled) {
        let step = self.step(member, references, now, vec![A::settle(settled)]);
        self.take(member, step, now);
    }

    fn take(&mut self, member: &Pending<A>, step: Step<A>, now: Timestamp) {
        self.head = step.head;
        self.state = Arc::new(step.state);
        self.cells.extend(step.cells);
        self.bytes = step.bytes;
        self.last_event_at = now;
        let request = &member.request;
        self.rows.push(RequestRow { id: request.caller.request_id.clone(), seq: self.head.seq, digest: request.digest });
    }

    fn done(&self, changed: bool) -> Done<A> {
        Done { epoch: self.epoch, seq: self.head.seq, state: Arc::clone(&self.state), replay: false, changed }
    }

    fn into_plan(self, read: &Snapshot<A>) -> Plan<A> {
        if self.cells.is_empty() {
            return Plan::Answer;
        }
        let append = Append {
            epoch: self.epoch,
            stream: self.stream.clone(),
            expected: read.head,
            cells: self.cells,
            state: self.bytes.clone(),
            requests: self.rows,
        };
        let after = Snapshot {
            epoch: self.epoch,
            head: self.head,
            last_event_at: self.last_event_at,
            state: self.state,
            bytes: self.bytes,
        };
        Plan::Append(Box::new(Attempt { append: Arc::new(append), after }))
    }
}

impl<A> Attempt<A> {
    /// Whether a command has events in it.
    pub(super) fn writes(&self, id: &tessera_core::ids::RequestId) -> bool {
        self.append.requests.iter().any(|row| row.id == *id)
    }

    /// The head it expects.
    pub(super) fn expected(&self) -> Seq {
        self.append.expected.seq
    }
}
