//! The task behind one stream of a checker: connects when something waits, hands out answers, and connects elsewhere when the
//! stream breaks or does not answer.

use std::sync::Arc;
use std::time::Duration;

use tessera_proto::v1;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Request, Streaming};

use super::CheckerOptions;
use super::shared::{End, Outgoing, Shared};
use crate::batch::result_of;
use crate::call::name;
use crate::client::Inner;
use crate::decision::Decision;
use crate::failure::Failure;
use crate::metrics::Method;
use crate::pool::{Outcome, Permit, outcome_of};
use crate::retry::verdict;

/// The shortest patience, however short the deadline: silence speaks against the endpoint at once, and for some tens of
/// milliseconds a process that is well may stall. Each check keeps its own deadline.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// What patience is stretched by for answers that have arrived and are not read yet: this process may itself have stood still.
const READING: Duration = Duration::from_millis(10);

/// One stream.
pub(super) struct Driver {
    pub(super) inner: Arc<Inner>,
    pub(super) shared: Arc<Shared>,
    pub(super) stream: usize,
    pub(super) options: CheckerOptions,
}

/// An open stream.
struct Open {
    answers: Streaming<v1::StreamCheckEntitlementResponse>,
    /// A frame was sent after a time without, or the stream is to leave.
    news: Arc<Notify>,
    endpoint: String,
    request_id: String,
    /// The longest wait for an answer.
    patience: Duration,
}

/// What a stream has tried in vain since its last answer.
#[derive(Default)]
struct Tries {
    count: u32,
    /// Endpoints that had their turn: each failure leads to another one, until all had theirs.
    asked: Vec<usize>,
}

impl Tries {
    fn failed(&mut self, endpoint: usize, endpoints: usize) {
        self.count = self.count.saturating_add(1);
        self.asked.push(endpoint);
        if self.asked.len() >= endpoints {
            self.asked.clear();
        }
    }

    /// Where not to go next: where it was, and to the endpoint that failed last; to that alone where nobody else would be left.
    fn avoid(&self, failed_last: Option<usize>, endpoints: usize) -> Vec<usize> {
        let mut avoid = self.asked.clone();
        avoid.extend(failed_last.filter(|failed| !avoid.contains(failed)));
        if avoid.len() < endpoints { avoid } else { failed_last.into_iter().collect() }
    }
}

/// How a stream ended.
enum Ended {
    /// It broke, or the server ended it; that may say something of the endpoint.
    Broken(Failure, Option<Outcome>),
    /// It left an endpoint on which another stream failed.
    Left,
}

impl Driver {
    /// Runs until the checker is dropped.
    pub(super) async fn run(self) {
        let mut tries = Tries::default();
        loop {
            self.demand().await;
            let begun = Instant::now();
            let (failed_last, others) = self.shared.elsewhere(self.stream);
            let permit = self.inner.pool.pick_apart(&tries.avoid(failed_last, self.inner.pool.len()), &others);
            let (index, endpoint, token) = (permit.index(), permit.endpoint().to_owned(), self.inner.token_number());
            let request_id = self.inner.random.request_id();
            // Not longer than half a deadline where somebody else may still answer in time.
            let whole = self.inner.settings.deadline;
            let share = if permit.has_other() { whole / 2 } else { whole };
            let patience = share.max(PATIENCE_MIN);
            let (outgoing, news) = self.shared.open(self.stream, index, self.options.with_revisions, self.options.with_details);
            let (failure, outcome) = match open(&permit, outgoing, &request_id, patience).await {
                Err(failure) => {
                    let outcome = outcome_of(&failure);
                    permit.finish(outcome);
                    (failure, Some(outcome))
                }
                Ok(answers) => {
                    permit.finish(Outcome::Answered);
                    let open = Open { answers, news, endpoint: endpoint.clone(), request_id: request_id.clone(), patience };
                    let Ended::Broken(failure, outcome) = self.listen(open, &mut tries).await else {
                        self.shared.left(self.stream);
                        continue;
                    };
                    if let Some(outcome) = outcome {
                        self.inner.pool.note(index, outcome);
                    }
                    (failure, outcome)
                }
            };
            let failure = failure.at(&endpoint, &request_id, 1);
            // Before what was lost waits again.
            if matches!(outcome, Some(Outcome::Refused | Outcome::Unanswered)) {
                self.shared.endpoint_failed(index, self.inner.pool.has_other(index));
            }
            tracing::debug!(failure = %failure.logged(), stream = self.stream, "a stream of a checker ended");
            self.inner.metrics.attempt_ended(Method::StreamCheck, &endpoint, failure.code(), begun.elapsed());
            let within = Instant::now() + self.inner.settings.deadline;
            if self.inner.has_newer_token(&failure, token, within).await {
                self.shared.lost(self.stream, &failure);
                continue;
            }
            if failure.is_refusal() {
                self.shared.refused(self.stream, &failure);
            } else {
                self.shared.lost(self.stream, &failure);
            }
            tries.failed(index, self.inner.pool.len());
            let after = verdict(&failure).after(!tries.asked.is_empty());
            sleep(self.inner.settings.retry.pause(tries.count, after, self.inner.random.next())).await;
        }
    }

    /// Waits until something waits.
    async fn demand(&self) {
        loop {
            let mut demanded = std::pin::pin!(self.shared.demand.notified());
            demanded.as_mut().enable();
            if self.shared.lock().queue.has_waiting() {
                return;
            }
            demanded.await;
        }
    }

    /// Hands out answers until the stream ends. With an answer, none of the `tries` was in vain.
    async fn listen(&self, mut open: Open, tries: &mut Tries) -> Ended {
        loop {
            let (oldest, is_leaving) = self.shared.awaited(self.stream);
            if is_leaving && oldest.is_none() {
                return Ended::Left;
            }
            let message = tokio::select! {
                // In this order: an answer that is there is no silence, however late it is looked at.
                biased;
                message = open.answers.message() => message,
                () = open.news.notified(), if oldest.is_none() => continue,
                () = sleep_until(oldest.unwrap_or_else(Instant::now) + open.patience), if oldest.is_some() => {
                    let Ok(message) = timeout(READING, open.answers.message()).await else {
                        let failure = Failure::no_answer_in_time(format!("no answer to a frame within {:?}", open.patience));
                        return Ended::Broken(failure, Some(Outcome::Unanswered));
                    };
                    message
                }
            };
            match message {
                Ok(Some(answer)) => {
                    if let Err(failure) = self.hand_out(answer, &open) {
                        return Ended::Broken(failure, Some(Outcome::Refused));
                    }
                    *tries = Tries::default();
                }
                // In order, as at the end of a connection's time: that says nothing against the endpoint.
                Ok(None) => return Ended::Broken(Failure::broken("the server ended the stream"), None),
                Err(status) => {
                    let failure = Failure::of_status(&status);
                    let outcome = outcome_of(&failure);
                    return Ended::Broken(failure, Some(outcome));
                }
            }
        }
    }

    /// Each answer to whoever waits for it.
    fn hand_out(&self, answer: v1::StreamCheckEntitlementResponse, open: &Open) -> Result<(), Failure> {
        let Some(waiters) = self.shared.answered(self.stream, answer.id) else {
            let message = format!("an answer to frame `{}`, which was not sent", answer.id);
            return Err(Failure::local(Code::Internal, message));
        };
        let results: Vec<Result<Decision, Failure>> = match &answer.frame_error {
            Some(status) => waiters.iter().map(|_| Err(Failure::of_item(status))).collect(),
            None if answer.results.len() == waiters.len() => answer.results.into_iter().map(result_of).collect(),
            None => {
                let message = format!("`{}` answers to `{}` checks", answer.results.len(), waiters.len());
                waiters.iter().map(|_| Err(Failure::local(Code::Internal, message.clone()))).collect()
            }
        };
        for (waiter, result) in waiters.into_iter().zip(results) {
            let result = result.map_err(|failure| failure.at(&open.endpoint, &open.request_id, 1));
            // Who has gone needs no answer.
            let _ = waiter.send(End::Answered(result));
        }
        Ok(())
    }
}

async fn open(
    permit: &Permit,
    outgoing: Outgoing,
    request_id: &str,
    patience: Duration,
) -> Result<Streaming<v1::StreamCheckEntitlementResponse>, Failure> {
    let mut client = permit.client().ok_or_else(|| Failure::local(Code::Internal, "there is no endpoint"))?;
    let mut request = Request::new(outgoing);
    name(&mut request, request_id);
    match timeout(patience, client.stream_check_entitlement(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Failure::of_status(&status)),
        Err(_) => Err(Failure::no_answer_in_time(format!("no stream within {patience:?}"))),
    }
}
