//! One group of commands, from the strong read to the answers: what the outcomes of an append mean.
//!
//! - *committed*: everybody is answered;
//! - *conflict*: read again, look up again, decide again;
//! - *unknown*: a strong read. Found: done. The head moved: the attempt is dead, decide again. It did not move: the attempt may
//!   still be written, so the **same bytes** are sent again and nothing is decided, for as long as everybody in them waits.
//!
//! No attempt starts after the deadline of anybody whose command is in it. When a caller leaves whose command is in bytes that
//! may still be written, those bytes are not sent again. The others are then decided once more as the retry of a caller would
//! be, at this loader or another: on the head that the bytes in flight expect, with whatever is decided written down,
//! rejections and no-ops too, and nobody answered before it is. So of both attempts one at most is ever stored, and the next
//! read finds by the request ids which.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tessera_core::stream::StreamId;
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::{Append, AppendError, Appended, Question, RequestRow};
use tessera_ports::hint_store::Hint;
use tessera_ports::hooks::{self, Guard};

use super::Desk;
use super::decide::{Attempt, Decided, Plan, decide_group};
use super::pending::Pending;
use super::replay::{FirstResult, first_result};
use crate::aggregate::{Handled, Snapshot};
use crate::metric_definitions as metrics;
use crate::refusal::Refusal;
use crate::unreadable;
use crate::world::SharedWorld;

/// Commands that go into one append.
pub(super) struct Group<'a, A: Handled> {
    desk: &'a Arc<Desk<A>>,
    stream: &'a StreamId,
    members: Vec<Pending<A>>,
    /// Sent, and nobody knows what became of it.
    unknown: Option<Box<Attempt<A>>>,
    /// Hints of every attempt of this group.
    hints: Vec<Hint>,
    first: bool,
    /// Whether the stream is kept decoded once it is committed.
    keeps: bool,
}

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Finished,
    AtOnce,
    AfterPause,
}

/// What follows a read.
pub(super) enum Step<A> {
    Next(Next),
    /// This is to be sent; `again` as in [`Group::send`].
    Send {
        attempt: Box<Attempt<A>>,
        again: bool,
    },
}

/// A group that is not finished, to be gone on with elsewhere.
#[derive(Debug)]
pub(super) struct Unfinished<A: Handled> {
    pub(super) members: Vec<Pending<A>>,
    unknown: Option<Box<Attempt<A>>>,
    hints: Vec<Hint>,
    first: bool,
    next: Next,
}

impl<'a, A: Handled> Group<'a, A> {
    pub(super) fn new(desk: &'a Arc<Desk<A>>, stream: &'a StreamId, members: Vec<Pending<A>>) -> Self {
        Self { desk, stream, members, unknown: None, hints: Vec::new(), first: true, keeps: true }
    }

    /// The group of one command of a batch. What it commits is not kept decoded: who writes many hardly comes back.
    pub(super) fn of_batch(desk: &'a Arc<Desk<A>>, stream: &'a StreamId, member: Pending<A>) -> Self {
        let members = if member.is_alive() { vec![member] } else { Vec::new() };
        Self { keeps: false, ..Self::new(desk, stream, members) }
    }

    /// One that was begun elsewhere; and how it goes on.
    pub(super) fn resume(desk: &'a Arc<Desk<A>>, stream: &'a StreamId, unfinished: Unfinished<A>) -> (Self, Next) {
        let Unfinished { members, unknown, hints, first, next } = unfinished;
        (Self { desk, stream, members, unknown, hints, first, keeps: true }, next)
    }

    /// What is left when somebody else goes on with it.
    pub(super) fn leave(self, next: Next) -> Unfinished<A> {
        let Self { members, unknown, hints, first, .. } = self;
        Unfinished { members, unknown, hints, first, next }
    }

    /// Works until everybody is answered or nobody waits any more.
    pub(super) async fn run(mut self, mut next: Next) {
        let mut pauses = 0;
        loop {
            match next {
                Next::Finished => return,
                Next::AtOnce => {}
                Next::AfterPause => {
                    tokio::time::sleep(self.desk.config.backoff(pauses, self.salt(pauses))).await;
                    pauses = pauses.saturating_add(1);
                }
            }
            self.members.retain(Pending::is_alive);
            if self.members.is_empty() {
                return;
            }
            next = self.step().await;
        }
    }

    async fn step(&mut self) -> Next {
        let read = self.read().await;
        match self.after_read(read, None).await {
            Step::Next(next) => next,
            Step::Send { attempt, again } => self.send(attempt, again).await,
        }
    }

    /// What the strong read means; commands are decided against `shared` if it was read for several groups.
    pub(super) async fn after_read(
        &mut self,
        read: Result<(Snapshot<A>, Vec<RequestRow>), Refusal>,
        shared: Option<&SharedWorld>,
    ) -> Step<A> {
        let (read, rows) = match read {
            Ok(read) => read,
            Err(refusal) => return Step::Next(self.stuck(&refusal)),
        };
        let looks_up = hooks::holds(if self.first { Guard::RequestLookupFirst } else { Guard::RequestLookupAfterConflict });
        self.first = false;
        let rows = if looks_up { rows } else { Vec::new() };
        if let Some(attempt) = self.unknown.take() {
            let unmoved = read.epoch == attempt.append.epoch && read.head == attempt.append.expected;
            if unmoved && hooks::holds(Guard::UnknownSendsSameBytes) {
                if self.everybody_waits(&attempt) {
                    return Step::Send { attempt, again: true };
                }
                return self.decide_without_the_late(attempt, &read).await;
            }
            // It may have been committed, and this read shows what it made: publish that.
            self.publish(&read, &[]);
        }
        if let Err(refusal) = self.answer_known(&read, rows).await {
            return Step::Next(self.stuck(&refusal));
        }
        // Those not found: every attempt so far expected a head that is past, and can never be written any more.
        self.members.retain(Pending::resolve);
        if self.members.is_empty() {
            return Step::Next(Next::Finished);
        }
        let plan = match decide_group(self.desk, self.stream, &read, shared, &mut self.members).await {
            Ok(plan) => plan,
            Err(refusal) => return Step::Next(self.stuck(&refusal)),
        };
        match plan {
            Plan::ReadAgain => Step::Next(Next::AfterPause),
            Plan::Answer => Step::Next(self.answer_decided()),
            Plan::Append(attempt) => {
                // Whoever left while this was decided has been told that nothing was applied: decide without them.
                let before = self.members.len();
                self.members
                    .retain_mut(|member| !attempt.writes(&member.request.caller.request_id) || member.begin(attempt.expected()));
                if self.members.len() < before {
                    self.members.retain(Pending::resolve);
                    return Step::Next(Next::AtOnce);
                }
                Step::Send { attempt, again: false }
            }
        }
    }

    /// Whether nobody's time is over whose command is in the bytes of that attempt.
    fn everybody_waits(&self, attempt: &Attempt<A>) -> bool {
        let waits = |row: &RequestRow| {
            let mut members = self.members.iter();
            members.any(|member| member.request.caller.request_id == row.id && member.is_alive())
        };
        attempt.append.requests.iter().all(waits)
    }

    /// The bytes of `unknown` may still be written, and hold commands of callers whose time is over: an attempt without those.
    async fn decide_without_the_late(&mut self, unknown: Box<Attempt<A>>, read: &Snapshot<A>) -> Step<A> {
        self.members.retain(Pending::is_alive);
        let was_sent = |member: &Pending<A>| unknown.writes(&member.request.caller.request_id);
        for member in self.members.iter_mut().filter(|member| was_sent(member)) {
            member.request.caller.retry = true;
        }
        let refusal = match decide_group(self.desk, self.stream, read, None, &mut self.members).await {
            Ok(Plan::Append(attempt)) => {
                let before = self.members.len();
                self.members
                    .retain_mut(|member| !attempt.writes(&member.request.caller.request_id) || member.begin(attempt.expected()));
                if self.members.len() == before {
                    return Step::Send { attempt, again: true };
                }
                self.members.retain(|member| was_sent(member) || member.resolve());
                self.unknown = Some(unknown);
                return Step::Next(Next::AtOnce);
            }
            Ok(Plan::Answer) => {
                for mut member in self.members.drain(..) {
                    match member.decided.take().map(Decided::into_result) {
                        // What could not be written down says nothing of the bytes in flight.
                        Some(Err(refusal)) if was_sent(&member) => member.give_up(refusal),
                        Some(result) => member.answer(result),
                        None => member.give_up(Refusal::StoreUnavailable("the command was not decided".to_owned())),
                    }
                }
                return Step::Next(Next::Finished);
            }
            Ok(Plan::ReadAgain) => Refusal::StoreUnavailable("the store began another epoch meanwhile".to_owned()),
            Err(refusal) => refusal,
        };
        self.unknown = Some(unknown);
        Step::Next(self.stuck(&refusal))
    }

    /// What the strong read is asked.
    pub(super) fn question(&self) -> Question {
        let ids = self.members.iter().map(|member| member.request.caller.request_id.clone());
        Question { stream: self.stream.clone(), requests: ids.collect() }
    }

    /// The plans and add-ons that the commands name, on the stream as it was read.
    pub(super) fn references(&self, read: &Snapshot<A>) -> BTreeSet<StreamId> {
        let mut named = BTreeSet::new();
        for member in &self.members {
            named.append(&mut read.state.references(&member.request.command));
        }
        named
    }

    /// The strong read that everything else rests on: head, state and request ids of one moment.
    async fn read(&self) -> Result<(Snapshot<A>, Vec<RequestRow>), Refusal> {
        let streams = &self.desk.streams;
        let Question { requests: ids, .. } = self.question();
        if hooks::holds(Guard::RequestLookupInSameRead) {
            return streams.read(self.stream, &ids).await;
        }
        let (_, rows) = streams.read(self.stream, &ids).await?;
        tokio::task::yield_now().await;
        Ok((streams.read(self.stream, &[]).await?.0, rows))
    }

    /// Answers those whose request id is known with their first result, or has that read in a task of its own.
    async fn answer_known(&mut self, read: &Snapshot<A>, rows: Vec<RequestRow>) -> Result<(), Refusal> {
        // They are not told that nothing was applied from here on, however long the events take to come.
        let knows = |member: &Pending<A>| rows.iter().any(|row| row.id == member.request.caller.request_id);
        self.members.retain(|member| !knows(member) || member.found());
        let last_events = rows.iter().map(|row| self.desk.streams.event(self.stream, row.seq));
        let last_events = join_all(last_events).await;
        for (row, last) in rows.into_iter().zip(last_events) {
            let found = self.members.iter().position(|member| member.request.caller.request_id == row.id);
            let Some(position) = found else { continue };
            let Some(member) = self.members.get_mut(position) else { continue };
            if !hooks::holds(Guard::RequestLookupBeforeDecide) {
                decide_group(self.desk, self.stream, read, None, std::slice::from_mut(member)).await?;
                if let Some(Decided::Refused(refusal)) = member.decided.take() {
                    self.members.remove(position).answer(Err(refusal));
                    continue;
                }
            }
            match first_result(member, &row, last, read) {
                Err(refusal @ Refusal::StoreUnavailable(_)) => return Err(refusal),
                // An earlier call's: what is decided now is written behind it, and found in its place from then on.
                Err(Refusal::Rejected(_)) if !member.request.rejection_stands && !member.wrote(&row) => {}
                Err(refusal) => self.members.remove(position).answer(Err(refusal)),
                Ok(FirstResult::Known(done)) => self.members.remove(position).answer(Ok(done)),
                Ok(FirstResult::InHistory(replay)) => replay.start(self.desk, self.members.remove(position)),
            }
        }
        Ok(())
    }

    /// Answers everybody as decided.
    fn answer_decided(&mut self) -> Next {
        for mut member in self.members.drain(..) {
            match member.decided.take() {
                Some(decided) => member.answer(decided.into_result()),
                None => member.give_up(Refusal::StoreUnavailable("the command was not decided".to_owned())),
            }
        }
        Next::Finished
    }

    /// One attempt. `again`: the outcome of an earlier one with the same bytes is unknown, so that no answer but "committed"
    /// settles anything.
    async fn send(&mut self, attempt: Box<Attempt<A>>, again: bool) -> Next {
        let attempt = match self.before_sending(attempt, again).await {
            Ok(attempt) => attempt,
            Err(next) => return next,
        };
        let outcome = self.desk.streams.store().append(Append::clone(&attempt.append)).await;
        metrics::appends_answered(A::NAME, std::slice::from_ref(&outcome));
        self.sent(attempt, again, outcome)
    }

    /// What has to be before an attempt. `Err`: it is not to be made now.
    pub(super) async fn before_sending(&mut self, attempt: Box<Attempt<A>>, again: bool) -> Result<Box<Attempt<A>>, Next> {
        let store = self.desk.streams.store();
        hooks::fail_point("loader.hint.before");
        if !store.feeds_itself()
            && let Err(error) = self.put_hint(&attempt).await
        {
            return Err(self.not_sent(attempt, again, &error.into()));
        }
        hooks::fail_point("loader.hint.written");
        if !hooks::holds(Guard::PublishAfterCommit) {
            self.publish(&attempt.after, &[]);
        }
        // Deciding and writing the hint took time: no attempt starts after the deadline of anybody who is in it.
        if !self.everybody_waits(&attempt) {
            self.unknown = again.then_some(attempt);
            self.unmark(again);
            return Err(Next::AtOnce);
        }
        hooks::fail_point("loader.append.before");
        Ok(attempt)
    }

    /// What the answer to an attempt means.
    pub(super) fn sent(&mut self, attempt: Box<Attempt<A>>, again: bool, outcome: Result<Appended, AppendError>) -> Next {
        match outcome {
            Ok(Appended::Committed) => self.committed(&attempt),
            Ok(Appended::Conflict) => {
                // The next read tells whether an earlier attempt of these bytes was the reason.
                self.unknown = again.then_some(attempt);
                self.unmark(again);
                Next::AtOnce
            }
            Err(AppendError::Unknown(_)) if !hooks::holds(Guard::UnknownIsNeverDone) => self.committed(&attempt),
            Err(AppendError::Unknown(why)) if !hooks::holds(Guard::UnknownIsNeverFailed) => {
                for member in self.members.drain(..) {
                    member.answer(Err(Refusal::StoreUnavailable(why.clone())));
                }
                Next::Finished
            }
            Err(AppendError::Unknown(why)) => {
                tracing::warn!(stream = %self.stream, seq = attempt.expected(), why, "the outcome of an append is unknown");
                self.unknown = Some(attempt);
                Next::AfterPause
            }
            Err(AppendError::DiskFull) if !again => {
                for member in self.members.drain(..) {
                    member.answer(Err(Refusal::DiskFull));
                }
                Next::Finished
            }
            Err(AppendError::DiskFull) => self.not_sent(attempt, again, &Refusal::DiskFull),
            Err(AppendError::NotAttempted(why)) => self.not_sent(attempt, again, &Refusal::StoreUnavailable(why)),
        }
    }

    /// This attempt was not made: try again later, as long as somebody waits.
    fn not_sent(&mut self, attempt: Box<Attempt<A>>, again: bool, why: &Refusal) -> Next {
        self.unknown = again.then_some(attempt);
        self.unmark(again);
        self.stuck(why)
    }

    fn unmark(&mut self, again: bool) {
        if !again {
            self.members.retain(Pending::resolve);
        }
    }

    fn committed(&mut self, attempt: &Attempt<A>) -> Next {
        hooks::fail_point("loader.append.committed");
        if self.keeps {
            self.desk.streams.remember(self.stream, &attempt.after);
        }
        self.publish(&attempt.after, &attempt.append.cells);
        hooks::fail_point("loader.committed.unanswered");
        self.answer_decided()
    }

    /// The store does not answer, or not with what it should.
    fn stuck(&mut self, refusal: &Refusal) -> Next {
        if matches!(refusal, Refusal::StoreUnavailable(_) | Refusal::DiskFull) {
            tracing::debug!(stream = %self.stream, reason = %refusal, "waiting for the store");
            return Next::AfterPause;
        }
        if let Refusal::StoreDamaged(why) = refusal {
            unreadable::tell(why);
        }
        for member in self.members.drain(..) {
            member.give_up(refusal.clone());
        }
        Next::Finished
    }

    /// Notes, before the attempt, that the stream may move beyond its head: if this process dies, somebody publishes that.
    async fn put_hint(&mut self, attempt: &Attempt<A>) -> Result<(), tessera_ports::event_store::ReadError> {
        if !hooks::holds(Guard::HintBeforeAppend) {
            return Ok(());
        }
        let Some(row) = attempt.append.requests.first() else { return Ok(()) };
        let head = if hooks::holds(Guard::HintPerAttempt) { attempt.expected() } else { 0 };
        let hint = Hint { stream: self.stream.clone(), request_id: row.id.clone(), head, at: self.desk.clock.now() };
        self.desk.hints.put(&hint).await?;
        if !self.hints.iter().any(|known| known.head == hint.head && known.request_id == hint.request_id) {
            self.hints.push(hint);
        }
        Ok(())
    }

    /// Publishes a state that was committed or strongly read, and then erases the hints it is beyond. `cells` are its newest events,
    /// as many as are at hand.
    fn publish(&mut self, now: &Snapshot<A>, cells: &[Bytes]) {
        if now.head.seq == 0 {
            return;
        }
        let change = Change { epoch: now.epoch, stream: self.stream.clone(), seq: now.head.seq, state: now.bytes.clone() };
        let beyond = self.hints.extract_if(.., |hint| hint.head < now.head.seq).collect();
        self.desk.due.note(self.stream, now.state.next_due(now.last_event_at));
        self.desk.outgoing.offer(change, beyond, cells);
    }

    /// Spreads pauses, so that two loaders do not keep step on one stream.
    fn salt(&self, pauses: u32) -> u64 {
        let mut hasher = DefaultHasher::new();
        pauses.hash(&mut hasher);
        for member in &self.members {
            member.request.caller.request_id.hash(&mut hasher);
        }
        hasher.finish()
    }
}
