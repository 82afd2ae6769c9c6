//! What the handle of a checker, its streams and their tasks share: the queue, and who is woken when it changes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use tessera_proto::v1;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::queue::{Attempts, Limits, Queue, Waiter};
use crate::decision::Decision;
use crate::failure::Failure;
use crate::retry::{Budget, RetryPolicy};

/// Where the end of a check goes.
pub(super) type Sender = oneshot::Sender<End>;

/// What came of a check.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are answers, and a box would be one more allocation for each")]
pub(super) enum End {
    /// A server answered, be it with what is wrong with this check alone.
    Answered(Result<Decision, Failure>),
    /// Its stream ended, and it is not sent again.
    GivenUp(Failure),
}

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
    /// Why the last stream broke, for those who run out of time meanwhile. Unset with the next answer.
    pub(super) last_failure: Option<Failure>,
    /// The endpoint that failed last: what it lost goes elsewhere. Unset with the next answer.
    failed: Option<usize>,
}

#[derive(Debug, Default)]
struct StreamState {
    /// Which connection may send: they are counted.
    number: u64,
    /// The endpoint that it is connected to.
    endpoint: Option<usize>,
    /// It ends when what is on its way is answered.
    is_leaving: bool,
    /// The connection, when it asked for a frame and there was none.
    sender: Option<Waker>,
    /// A frame was sent after a time without, or it is to leave.
    news: Arc<Notify>,
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
            failed: None,
        };
        Self { state: Mutex::new(state), demand: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a check and wakes who can send it; see [`Queue::push`].
    pub(super) fn push(
        &self,
        check: v1::CheckEntitlementRequest,
        waiter: Sender,
        until: Instant,
        attempts: Attempts,
    ) -> Result<u64, usize> {
        let mut state = self.lock();
        let number = state.queue.push(check, waiter, until, attempts)?;
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
        let (mut number, mut news) = (0, Arc::default());
        if let Some(stream) = state.streams.get_mut(stream) {
            stream.number += 1;
            stream.endpoint = Some(endpoint);
            (number, news) = (stream.number, Arc::clone(&stream.news));
        }
        drop(state);
        let shared = Arc::clone(self);
        (Outgoing { shared, stream, number, with_revisions: revisions, with_details: details }, news)
    }

    /// The endpoint that a new connection should keep clear of, and those that other streams are connected to.
    pub(super) fn elsewhere(&self, stream: usize) -> (Option<usize>, Vec<usize>) {
        let state = self.lock();
        let others = state.streams.iter().enumerate().filter(|(other, _)| *other != stream);
        (state.failed, others.filter_map(|(_, other)| other.endpoint).collect())
    }

    /// When the oldest frame that a stream has not answered was sent, and whether the stream is to end after the last of them.
    pub(super) fn awaited(&self, stream: usize) -> (Option<Instant>, bool) {
        let state = self.lock();
        (state.queue.oldest_sent(stream), state.streams.get(stream).is_some_and(|stream| stream.is_leaving))
    }

    /// A frame was answered; `None` when the stream sent no such frame.
    pub(super) fn answered(&self, stream: usize, frame: u64) -> Option<Vec<Sender>> {
        let mut state = self.lock();
        let waiters = state.queue.answered(stream, frame)?;
        (state.last_failure, state.failed) = (None, None);
        // There is room for the next one.
        let sender = state.streams.get_mut(stream).and_then(|stream| stream.sender.take());
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
        Some(waiters)
    }

    /// An endpoint failed: new connections keep clear of it. Where there is `another` that is well, so do the streams that are
    /// still connected to it; else what one of them lost could be lost again by the next. They may answer what they have.
    pub(super) fn endpoint_failed(&self, endpoint: usize, another: bool) {
        let mut state = self.lock();
        state.failed = Some(endpoint);
        let still_there = state.streams.iter_mut().filter(|stream| another && stream.endpoint == Some(endpoint));
        let leave = |stream: &mut StreamState| {
            stream.is_leaving = true;
            stream.news.notify_one();
            stream.sender.take()
        };
        let senders: Vec<Waker> = still_there.filter_map(leave).collect();
        drop(state);
        senders.into_iter().for_each(Waker::wake);
    }

    /// A stream has left its endpoint, with nothing on its way.
    pub(super) fn left(&self, stream: usize) {
        if let Some(stream) = self.lock().streams.get_mut(stream) {
            stream.close();
        }
    }

    /// A stream ended. What was on its way waits again, where the budget allows.
    pub(super) fn lost(&self, stream: usize, failure: &Failure) {
        let now = Instant::now();
        // What no server has looked at adds nothing to their load.
        let free = failure.unseen() || failure.is_unauthenticated();
        self.ended(stream, failure, |queue, _, budget| queue.lost(stream, || free || budget.take(now)));
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
        let State { queue, streams, budget, last_failure, .. } = &mut *state;
        let given_up = given_up(queue, streams, budget);
        *last_failure = Some(failure.clone());
        let sender = streams.get_mut(stream).and_then(StreamState::close);
        self.wake_one(state);
        if let Some(sender) = sender {
            sender.wake();
        }
        for waiter in given_up {
            // Who has gone needs no answer.
            let _ = waiter.send(End::GivenUp(failure.clone()));
        }
    }
}

impl StreamState {
    /// It is not connected any more. Returned is whoever may still want to send for it, to be woken.
    fn close(&mut self) -> Option<Waker> {
        // Whatever still sends for it must not take frames any more.
        self.number += 1;
        self.endpoint = None;
        self.is_leaving = false;
        self.sender.take()
    }
}

impl Stream for Outgoing {
    type Item = v1::StreamCheckEntitlementRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.lock();
        let State { queue, streams, budget, .. } = &mut *state;
        let may_send = |stream: &&mut StreamState| stream.number == self.number && !stream.is_leaving;
        let Some(stream) = streams.get_mut(self.stream).filter(may_send) else {
            return Poll::Ready(None);
        };
        let was_idle = queue.in_flight(self.stream) == 0;
        let Some((id, checks)) = queue.next_frame(self.stream, Instant::now()) else {
            stream.sender = Some(context.waker().clone());
            return Poll::Pending;
        };
        budget.pay_in();
        if was_idle {
            stream.news.notify_one();
        }
        let (with_revisions, with_details) = (self.with_revisions, self.with_details);
        Poll::Ready(Some(v1::StreamCheckEntitlementRequest { id, checks, with_revisions, with_details }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt as _, StreamExt as _};
    use tessera_proto::status as server;
    use tonic::Status;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_no_server_has_looked_at_is_sent_again_without_the_budget() {
        let limits = Limits { frame_checks: 1, frames_in_flight: 1, waiting: 1, attempts: 100 };
        let policy = RetryPolicy { budget_percent: 0, budget_per_second: 0, ..RetryPolicy::default() };
        let shared = Arc::new(Shared::new(limits, 1, &policy));
        let (sender, mut end) = oneshot::channel();
        let until = Instant::now() + Duration::from_secs(1);
        shared.push(v1::CheckEntitlementRequest::default(), sender, until, Attempts::default()).unwrap();
        let lose = |failure: server::Failure| {
            let (mut outgoing, _) = shared.open(0, 0, false, false);
            assert!(outgoing.next().now_or_never().flatten().is_some(), "a frame");
            shared.lost(0, &Failure::of_status(&Status::from(failure)));
        };
        for _ in 0..20 {
            lose(server::Failure::token_invalid("it has expired"));
        }
        // Ten retries are saved up.
        for _ in 0..10 {
            lose(server::Failure::not_ready());
        }
        assert!(end.try_recv().is_err());
        lose(server::Failure::not_ready());
        assert!(matches!(end.try_recv(), Ok(End::GivenUp(_))));
    }
}
