//! A command on its way, and the request that waits for it: who may say what at the deadline.
//!
//! Both share one mark. The task marks the command *sent* before an attempt that would write something of it, and unmarks it
//! once that attempt is known to be dead; the request, when its time is over, marks it *gone*. So when the request finds
//! "waiting" and leaves, no attempt will ever start: nothing was applied. When it finds "sent", only a later call can tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tessera_core::stream::Seq;
use tessera_ports::event_store::RequestRow;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::decide::Decided;
use super::queue::Room;
use super::{Done, Request};
use crate::aggregate::Handled;
use crate::config::Config;
use crate::refusal::Refusal;

const WAITING: u8 = 0;
const SENT: u8 = 1;
const GONE: u8 = 2;

/// The task's side.
#[derive(Debug)]
pub(super) struct Pending<A: Handled> {
    /// In a place of its own: it goes through many hands.
    pub(super) request: Box<Request<A::Command>>,
    /// What was decided in the attempt under way.
    pub(super) decided: Option<Decided<A>>,
    /// Once it is taken.
    pub(super) room: Option<Room>,
    /// The head that the first attempt of this call expected, if there was one.
    first_expected: Option<Seq>,
    cutoff: Instant,
    mark: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<Done<A>, Refusal>>,
}

/// The request's side.
#[derive(Debug)]
pub(super) struct Waiting<A: Handled> {
    request_id: tessera_core::ids::RequestId,
    cutoff: Instant,
    mark: Arc<AtomicU8>,
    reply: oneshot::Receiver<Result<Done<A>, Refusal>>,
}

/// Both sides of a command.
pub(super) fn new<A: Handled>(request: Request<A::Command>, config: &Config) -> (Pending<A>, Waiting<A>) {
    let cutoff = cutoff(Instant::now(), request.caller.deadline, config.deadline_margin());
    let mark = Arc::new(AtomicU8::new(WAITING));
    let (sender, receiver) = oneshot::channel();
    let request_id = request.caller.request_id.clone();
    let waiting = Waiting { request_id, cutoff, mark: Arc::clone(&mark), reply: receiver };
    let request = Box::new(request);
    (Pending { request, decided: None, room: None, first_expected: None, cutoff, mark, reply: sender }, waiting)
}

/// When to answer at the latest so that the answer still arrives: the margin before the deadline, but never giving up more
/// than a fifth of the time there is.
pub(crate) fn cutoff(now: Instant, deadline: Instant, margin: Duration) -> Instant {
    let left = deadline.saturating_duration_since(now);
    deadline.checked_sub(margin.min(left / 5)).unwrap_or(deadline)
}

impl<A: Handled> Pending<A> {
    /// Whether somebody still waits, and an attempt for them may start.
    pub(super) fn is_alive(&self) -> bool {
        self.mark.load(Ordering::SeqCst) != GONE && Instant::now() < self.cutoff
    }

    /// When nobody waits any more.
    pub(super) fn cutoff(&self) -> Instant {
        self.cutoff
    }

    /// Marks it sent, behind the head `expected`. `false`: the request has left and said that nothing was applied; it must not be sent.
    pub(super) fn begin(&mut self, expected: Seq) -> bool {
        let begun = match self.mark.compare_exchange(WAITING, SENT, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(found) => found == SENT,
        };
        if begun {
            self.first_expected.get_or_insert(expected);
        }
        begun
    }

    /// Whether `row`, under its id, was written by this call, and not by one before it.
    pub(super) fn wrote(&self, row: &RequestRow) -> bool {
        self.first_expected.is_some_and(|head| row.seq > head)
    }

    /// Unmarks it: every attempt so far is known to be dead. `false`: the request has left.
    pub(super) fn resolve(&self) -> bool {
        match self.mark.compare_exchange(SENT, WAITING, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(found) => found == WAITING,
        }
    }

    /// Marks it sent because it was found in the stream: at its deadline, too, nobody is told that nothing was applied. `false`:
    /// the request has left.
    pub(super) fn found(&self) -> bool {
        self.mark.compare_exchange(WAITING, SENT, Ordering::SeqCst, Ordering::SeqCst) != Err(GONE)
    }

    /// Answers.
    pub(super) fn answer(self, result: Result<Done<A>, Refusal>) {
        // Before: whoever is answered may ask for the next at once.
        drop(self.room);
        // Whoever has left has been told what was known.
        drop(self.reply.send(result));
    }

    /// Answers that the task cannot go on: what is known then.
    pub(super) fn give_up(self, refusal: Refusal) {
        let sent = self.mark.load(Ordering::SeqCst) == SENT;
        let unknown = Refusal::OutcomeUnknown(self.request.caller.request_id.clone());
        self.answer(Err(if sent { unknown } else { refusal }));
    }
}

impl<A: Handled> Waiting<A> {
    /// The command's result, or at the cutoff what is known.
    pub(super) async fn result(self) -> Result<Done<A>, Refusal> {
        if let Ok(Ok(result)) = tokio::time::timeout_at(self.cutoff, self.reply).await {
            return result;
        }
        if self.mark.swap(GONE, Ordering::SeqCst) == SENT {
            return Err(Refusal::OutcomeUnknown(self.request_id));
        }
        Err(Refusal::StoreUnavailable("the command was not decided before its deadline; nothing was applied".to_owned()))
    }
}
