//! What the handle of a checker, its streams and their tasks share: the queue, and who is woken when it changes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use tessera_proto::v1;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::queue::{Limits, Queue, Waiter};
use crate::decision::Decision;
use crate::failure::Failure;
use crate::retry::{Budget, RetryPolicy};

/// Where an answer goes.
pub(super) type Sender = oneshot::Sender<Result<Decision, Failure>>;

impl Waiter for Sender {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something waits, and no stream may be there to take it.
    pub(super) demand: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: Queue<Sender>,
    streams: Vec<StreamState>,
    /// Bounds the frames that are sent again.
    budget: Budget,
    /// Why the last stream broke, for those who run out of time meanwhile.
    pub(super) last_failure: Option<Failure>,
}

#[derive(Debug, Default)]
struct StreamState {
    /// Which connection may send: they are counted.
    number: u64,
    /// The endpoint that it is connected to.
    endpoint: Option<usize>,
    /// The connection, when it asked for a frame and there was none.
    sender: Option<Waker>,
    /// A frame was sent after a time without.
    sent: Arc<Notify>,
}

/// What is sent on one stream: frames are made when the connection asks for one.
pub(super) struct Outgoing {
    shared: Arc<Shared>,
    stream: usize,
    number: u64,
    with_revisions: bool,
    with_details: bool,
}

impl Shared {
    pub(super) fn new(limits: Limits, streams: usize, policy: &RetryPolicy) -> Self {
        let state = State {
            queue: Queue::new(limits),
            streams: std::iter::repeat_with(StreamState::default).take(streams).collect(),
            budget: Budget::new(policy, Instant::now()),
            last_failure: None,
        };
        Self { state: Mutex::new(state), demand: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a check and wakes who can send it; see [`Queue::push`].
    pub(super) fn push(&self, check: v1::CheckEntitlementRequest, waiter: Sender, until: Instant) -> Result<u64, usize> {
        let mut state = self.lock();
        let number = state.queue.push(check, waiter, until)?;
        self.wake_one(state);
        Ok(number)
    }

    /// Something waits: the least busy connection that asked for it may send. Where none did, tasks are told to connect.
    fn wake_one(&self, mut state: MutexGuard<'_, State>) {
        if !state.queue.has_waiting() {
            return;
        }
        let State { queue, streams, .. } = &mut *state;
        let ready = streams.iter_mut().enumerate().filter(|(index, stream)| stream.sender.is_some() && queue.has_room(*index));
        let sender = ready.min_by_key(|(index, _)| queue.in_flight(*index)).and_then(|(_, stream)| stream.sender.take());
        drop(state);
        match sender {
            Some(sender) => sender.wake(),
            None => self.demand.notify_waiters(),
        }
    }

    /// A stream begins on an endpoint.
    pub(super) fn open(
        self: &Arc<Self>,
        stream: usize,
        endpoint: usize,
        revisions: bool,
        details: bool,
    ) -> (Outgoing, Arc<Notify>) {
        let mut state = self.lock();
        let (mut number, mut sent) = (0, Arc::default());
        if let Some(stream) = state.streams.get_mut(stream) {
            stream.number += 1;
            stream.endpoint = Some(endpoint);
            (number, sent) = (stream.number, Arc::clone(&stream.sent));
        }
        drop(state);
        let shared = Arc::clone(self);
        (Outgoing { shared, stream, number, with_revisions: revisions, with_details: details }, sent)
    }

    /// Endpoints that other streams are connected to.
    pub(super) fn taken_by_others(&self, stream: usize) -> Vec<usize> {
        let state = self.lock();
        let others = state.streams.iter().enumerate().filter(|(other, _)| *other != stream);
        others.filter_map(|(_, other)| other.endpoint).collect()
    }

    /// A frame was answered; `None` when the stream sent no such frame.
    pub(super) fn answered(&self, stream: usize, frame: u64) -> Option<Vec<Sender>> {
        let mut state = self.lock();
        let waiters = state.queue.answered(stream, frame)?;
        // There is room for the next one.
        let sender = state.streams.get_mut(stream).and_then(|stream| stream.sender.take());
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
        Some(waiters)
    }

    /// A stream ended. What was on its way waits again, where the budget allows.
    pub(super) fn lost(&self, stream: usize, failure: &Failure) {
        let now = Instant::now();
        self.ended(stream, failure, |queue, _, budget| queue.lost(stream, || budget.take(now)));
    }

    /// A server does not let the stream in. Nor will another; only where there is another stream, that one knows for itself.
    pub(super) fn refused(&self, stream: usize, failure: &Failure) {
        self.ended(stream, failure, |queue, streams, _| {
            let mut given_up = queue.lost(stream, || false);
            let is_last = !streams.iter().enumerate().any(|(other, state)| other != stream && state.endpoint.is_some());
            if is_last {
                given_up.extend(queue.give_up());
            }
            given_up
        });
    }

    /// A stream ended; `given_up` says who hears of it at once.
    fn ended(
        &self,
        stream: usize,
        failure: &Failure,
        given_up: impl FnOnce(&mut Queue<Sender>, &[StreamState], &mut Budget) -> Vec<Sender>,
    ) {
        let mut state = self.lock();
        let State { queue, streams, budget, last_failure } = &mut *state;
        let given_up = given_up(queue, streams, budget);
        *last_failure = Some(failure.clone());
        let sender = streams.get_mut(stream).and_then(|stream| {
            // Whatever still sends for it must not take frames any more.
            stream.number += 1;
            stream.endpoint = None;
            stream.sender.take()
        });
        self.wake_one(state);
        if let Some(sender) = sender {
            sender.wake();
        }
        for waiter in given_up {
            // Who has gone needs no answer.
            let _ = waiter.send(Err(failure.clone()));
        }
    }
}

impl Stream for Outgoing {
    type Item = v1::StreamCheckEntitlementRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.lock();
        let State { queue, streams, budget, .. } = &mut *state;
        let Some(stream) = streams.get_mut(self.stream).filter(|stream| stream.number == self.number) else {
            return Poll::Ready(None);
        };
        let was_idle = queue.in_flight(self.stream) == 0;
        let Some((id, checks)) = queue.next_frame(self.stream, Instant::now()) else {
            stream.sender = Some(context.waker().clone());
            return Poll::Pending;
        };
        budget.pay_in();
        if was_idle {
            stream.sent.notify_one();
        }
        let (with_revisions, with_details) = (self.with_revisions, self.with_details);
        Poll::Ready(Some(v1::StreamCheckEntitlementRequest { id, checks, with_revisions, with_details }))
    }
}
