//! The task behind a watch: opens a stream, tells its user what arrives, and opens another when it breaks, for ever.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use tessera_proto::v1;
use tessera_proto::v1::watch_entitlements_response::Event;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tonic::{Code, Request, Streaming};

use super::wanted::Wanted;
use super::{WatchEvent, event};
use crate::call::name;
use crate::client::Inner;
use crate::document::Entitlements;
use crate::error::Error;
use crate::failure::Failure;
use crate::metrics::Method;
use crate::pool::{Outcome, outcome_of};
use crate::retry::{RetryPolicy, Verdict, verdict};

/// Longest pause before a subscription is tried again that a server has no room for. It may have none as long as both live, and
/// refuse thousands.
const NO_ROOM_PAUSE_MAX: Duration = Duration::from_mins(1);

/// What the user's handles and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something was subscribed that the present stream cannot do.
    outdated: Notify,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    /// Which stream may send: they are counted.
    stream: u64,
    /// Whoever waits for something to send.
    sender: Option<Waker>,
}

/// What is sent on one stream: asked for by the connection when it has room, so nothing queues up.
struct Outgoing {
    shared: Arc<Shared>,
    stream: u64,
}

/// How a stream ended.
enum End {
    /// It broke; an end in order says nothing against the endpoint.
    Broken(Failure, Option<Outcome>),
    /// A new one is needed.
    Outdated,
    /// Nobody listens.
    Unwatched,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(subscriptions_max: usize) -> Self {
        let state = State { wanted: Wanted::new(subscriptions_max), stream: 0, sender: None };
        Self { state: Mutex::new(state), outdated: Notify::new() }
    }

    /// Changes what is wanted, and wakes whoever has to act on it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Wanted) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.wanted);
        let (sender, outdated) = (state.sender.take(), state.wanted.is_outdated());
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
        if outdated {
            self.outdated.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Outgoing {
    type Item = v1::WatchEntitlementsRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.lock();
        if state.stream != self.stream {
            return Poll::Ready(None);
        }
        if let Some(action) = state.wanted.next_action(Instant::now()) {
            return Poll::Ready(Some(v1::WatchEntitlementsRequest { action: Some(action) }));
        }
        state.sender = Some(context.waker().clone());
        Poll::Pending
    }
}

// === the task ===

/// Runs until nobody listens.
pub(super) async fn drive(inner: Arc<Inner>, shared: Arc<Shared>, events: mpsc::Sender<WatchEvent>) {
    let (mut failed, mut resumed, mut told) = (0u32, false, false);
    let mut asked: Vec<usize> = Vec::new();
    loop {
        let begun = Instant::now();
        let request_id = inner.random.request_id();
        let permit = inner.pool.pick(&asked);
        let (index, endpoint) = (permit.index(), permit.endpoint().to_owned());
        let (client, token) = (permit.client(), inner.token_number());
        let opened = open(&inner, &shared, client, &request_id).await;
        let end = match opened {
            Err(failure) => {
                permit.finish(outcome_of(&failure));
                End::Broken(failure, None)
            }
            Ok(messages) => {
                permit.finish(Outcome::Answered);
                tracing::debug!(endpoint, request_id, resumed, "a watch is connected");
                let connected = WatchEvent::Connected { endpoint: endpoint.clone(), resumed };
                if events.send(connected).await.is_err() {
                    return;
                }
                (resumed, told) = (true, false);
                let (end, heard) = listen(&inner, &shared, messages, &events).await;
                if heard {
                    failed = 0;
                    asked.clear();
                }
                if let End::Broken(_, Some(outcome)) = end {
                    inner.pool.note(index, outcome);
                }
                end
            }
        };
        let failure = match end {
            End::Unwatched => return,
            End::Outdated => continue,
            End::Broken(failure, _) => failure,
        };
        failed = failed.saturating_add(1);
        let failure = failure.at(&endpoint, &request_id, failed);
        inner.metrics.attempt_ended(Method::Watch, &endpoint, failure.code(), begun.elapsed());
        asked.push(index);
        if asked.len() >= inner.pool.len() {
            asked.clear();
        }
        let within = Instant::now() + inner.settings.deadline;
        let retry_in = if inner.has_newer_token(&failure, token, within).await {
            Duration::ZERO
        } else {
            let after = verdict(&failure).after(!asked.is_empty());
            inner.settings.retry.pause(failed, after, inner.random.next())
        };
        tracing::debug!(failure = %failure.logged(), ?retry_in, "a watch broke");
        // Said once: nobody but an operator can mend it, and not everybody looks at events.
        if failure.is_refusal() && !retry_in.is_zero() && !std::mem::replace(&mut told, true) {
            tracing::warn!(failure = %failure.logged(), "a watch is not let in; it goes on trying");
        }
        if events.send(WatchEvent::Disconnected { error: failure.into(), retry_in }).await.is_err() {
            return;
        }
        sleep(retry_in).await;
    }
}

async fn open(
    inner: &Inner,
    shared: &Arc<Shared>,
    client: Option<crate::wire::Client>,
    request_id: &str,
) -> Result<Streaming<v1::WatchEntitlementsResponse>, Failure> {
    let outgoing = {
        let mut state = shared.lock();
        state.stream += 1;
        state.wanted.opened();
        // The stream before has nothing more to send.
        if let Some(sender) = state.sender.take() {
            sender.wake();
        }
        Outgoing { shared: Arc::clone(shared), stream: state.stream }
    };
    let mut client = client.ok_or_else(|| Failure::local(Code::Internal, "there is no endpoint"))?;
    let mut request = Request::new(outgoing);
    name(&mut request, request_id);
    let within = inner.settings.deadline;
    match timeout_at(Instant::now() + within, client.watch_entitlements(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Failure::of_status(&status)),
        Err(_) => Err(Failure::no_answer_in_time(format!("no stream within {within:?}"))),
    }
}

/// Passes on what arrives, until the end; says whether anything did.
async fn listen(
    inner: &Inner,
    shared: &Shared,
    mut messages: Streaming<v1::WatchEntitlementsResponse>,
    events: &mpsc::Sender<WatchEvent>,
) -> (End, bool) {
    let silence = inner.settings.watch_silence_max;
    let (mut heard, mut silent_until) = (false, Instant::now() + silence);
    let mut told = false;
    loop {
        if shared.lock().wanted.is_outdated() {
            return (End::Outdated, heard);
        }
        let due = shared.lock().wanted.next_due();
        let received = tokio::select! {
            () = shared.outdated.notified() => continue,
            () = sleep_until(due.unwrap_or(silent_until)), if due.is_some() => {
                shared.change(|wanted| wanted.pass(Instant::now()));
                continue;
            }
            received = timeout_at(silent_until, messages.message()) => received,
        };
        let message = match received {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return (End::Broken(Failure::broken("the server ended the stream"), None), heard),
            Ok(Err(status)) => {
                let failure = Failure::of_status(&status);
                let outcome = outcome_of(&failure);
                return (End::Broken(failure, Some(outcome)), heard);
            }
            Err(_) => {
                let failure = Failure::no_answer_in_time(format!("not even a heartbeat within {silence:?}"));
                return (End::Broken(failure, Some(Outcome::Unanswered)), heard);
            }
        };
        heard = true;
        if let Some(event) = message.event.and_then(|event| taken(inner, shared, event)) {
            // Said once per stream: nobody but an operator can mend it.
            if let Some(failure) = event.no_room().and_then(|(_, error)| error.failure())
                && !std::mem::replace(&mut told, true)
            {
                tracing::warn!(failure = %failure.logged(), "a server has no room for all tenants of a watch; it goes on trying");
            }
            if events.send(event).await.is_err() {
                return (End::Unwatched, heard);
            }
        }
        // While the user took their time, the server could not be heard.
        silent_until = Instant::now() + silence;
    }
}

/// What an event means to the user, if anything.
fn taken(inner: &Inner, shared: &Shared, event: Event) -> Option<WatchEvent> {
    match event {
        Event::Heartbeat(heartbeat) => Some(event::heartbeat(heartbeat)),
        Event::Document(document) => {
            let wanted = shared.change(|wanted| wanted.document(&document.tenant_id, &document.revision));
            wanted.then(|| WatchEvent::Document(Box::new(Entitlements::of_wire(document))))
        }
        Event::Error(v1::WatchError { tenant_id, status }) => {
            let failure = Failure::of_item(&status.unwrap_or_default());
            // In one go: what the user subscribes meanwhile is not what was refused.
            let lacks_room = matches!(verdict(&failure), Verdict::After(_));
            let retry_in = shared.change(|wanted| {
                let refusals = wanted.refused(&tenant_id, lacks_room)?;
                let retry_in = retry_in(&inner.settings.retry, &failure, refusals, inner.random.next());
                match retry_in {
                    Some(pause) => wanted.subscribe_again(&tenant_id, Instant::now() + pause),
                    None if !wanted.end(&tenant_id) => return None,
                    None => {}
                }
                Some(retry_in)
            })?;
            Some(WatchEvent::Refused { tenant: tenant_id, error: Error::from(failure), retry_in })
        }
    }
}

/// When a subscription that was refused is tried again; `None` when that would change nothing.
fn retry_in(policy: &RetryPolicy, failure: &Failure, refusals: u32, random: u64) -> Option<Duration> {
    let verdict = verdict(failure);
    let pause_max = match verdict {
        Verdict::GiveUp => return None,
        Verdict::Elsewhere(_) => policy.pause_max,
        Verdict::After(_) => NO_ROOM_PAUSE_MAX,
    };
    Some(RetryPolicy { pause_max, ..*policy }.pause(refusals, verdict.after(false), random))
}

#[cfg(test)]
mod tests {
    use tessera_proto::status as server;

    use super::*;

    #[test]
    fn a_subscription_without_room_is_tried_again_ever_more_rarely() {
        let policy = RetryPolicy::default();
        let pause = |failure: &server::Failure, refusals| {
            retry_in(&policy, &Failure::of_item(&failure.to_rpc_status()), refusals, u64::MAX).unwrap()
        };
        let full = server::Failure::rate_limited("this watch has `1000` subscriptions", server::RETRY_AFTER);
        let pauses: Vec<Duration> = (1..100).map(|refusals| pause(&full, refusals)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.first(), Some(&(policy.pause_min + server::RETRY_AFTER)));
        assert_eq!(pauses.last(), Some(&(NO_ROOM_PAUSE_MAX + server::RETRY_AFTER)));
        // What a server has yet to hear of comes soon.
        assert_eq!(pause(&server::Failure::revision_not_reached(), 100), policy.pause_max + server::RETRY_AFTER);
        let unknown = Failure::of_item(&server::Failure::invalid_field("tenant_id", "no tenant").to_rpc_status());
        assert_eq!(retry_in(&policy, &unknown, 1, 0), None);
    }
}
