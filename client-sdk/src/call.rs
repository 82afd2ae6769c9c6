//! One call from its beginning to its end: picks endpoints, tries again where that can help, and never outlasts its deadline.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use crate::client::Inner;
use crate::error::Error;
use crate::failure::Failure;
use crate::metrics::Method;
use crate::pool::{Outcome, Permit, outcome_of};
use crate::retry::{Verdict, verdict};
use crate::wire::Client;

/// The name of the metadata that names a call.
const REQUEST_ID: &str = "tessera-request-id";
/// Of this is an attempt that timed out held against the endpoint: nobody answers in less.
const FAIR_TIME: Duration = Duration::from_millis(20);

/// Sends a message to one endpoint.
pub(crate) type Send<Q, A> = fn(Client, Request<Q>) -> BoxFuture<'static, Result<Response<A>, Status>>;

/// A call under way.
struct Call<'a> {
    inner: &'a Inner,
    method: Method,
    deadline: Duration,
    until: Instant,
    request_id: String,
    attempts: u32,
    asked: Vec<usize>,
    /// The token that the last attempt showed.
    token: u64,
    /// A token that servers did not know was replaced by another.
    renewed: bool,
}

/// Asks until there is an answer, an error that another attempt would not mend, or no time.
pub(crate) async fn unary<Q: Clone, A>(
    inner: &Inner,
    method: Method,
    deadline: Duration,
    message: Q,
    send: Send<Q, A>,
) -> Result<A, Error> {
    crate::settings::check_deadline(deadline)?;
    let begun = Instant::now();
    let request_id = inner.random.request_id();
    let span = tracing::debug_span!("tessera.call", %method, request_id, attempts = tracing::field::Empty);
    let (until, token) = (begun + deadline, inner.token_number());
    let mut call = Call { inner, method, deadline, until, request_id, attempts: 0, asked: Vec::new(), token, renewed: false };
    inner.budget().pay_in();
    let result = call.run(message, send).instrument(span.clone()).await;
    span.record("attempts", call.attempts);
    let code = result.as_ref().err().and_then(Error::code).unwrap_or(Code::Ok);
    inner.metrics.call_ended(method, code, call.attempts, begun.elapsed());
    result
}

impl Call<'_> {
    async fn run<Q: Clone, A>(&mut self, message: Q, send: Send<Q, A>) -> Result<A, Error> {
        loop {
            let permit = self.inner.pool.pick(&self.asked);
            let index = permit.index();
            match self.attempt(permit, message.clone(), send).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    tracing::debug!(failure = %failure.logged(), "an attempt failed");
                    // Once only, and beside all other attempts: servers have not looked at the question.
                    if !self.renewed && self.inner.has_newer_token(&failure, self.token, self.until).await {
                        self.renewed = true;
                        continue;
                    }
                    self.asked.push(index);
                    self.wait_for_next(failure).await?;
                }
            }
        }
    }

    async fn attempt<Q, A>(&mut self, permit: Permit, message: Q, send: Send<Q, A>) -> Result<A, Failure> {
        let begun = Instant::now();
        let until = self.attempt_until(begun, &permit);
        let time = until.saturating_duration_since(begun);
        self.attempts += 1;
        self.token = self.inner.token_number();
        let mut request = Request::new(message);
        request.set_timeout(time);
        name(&mut request, &self.request_id);
        let answer = match permit.client() {
            Some(client) => timeout_at(until, send(client, request)).await,
            None => Ok(Err(Status::internal("a permit without an endpoint"))),
        };
        let failure = match answer {
            Ok(Ok(answer)) => {
                self.told(&permit, Code::Ok, begun);
                permit.finish(Outcome::Answered);
                return Ok(answer.into_inner());
            }
            Ok(Err(status)) => Failure::of_status(&status),
            Err(_) => Failure::no_answer_in_time(format!("no answer within {time:?}")),
        };
        let failure = failure.at(permit.endpoint(), &self.request_id, self.attempts);
        self.told(&permit, failure.code(), begun);
        let unfair = failure.timed_out() && time < FAIR_TIME;
        permit.finish(if unfair { Outcome::Abandoned } else { outcome_of(&failure) });
        Err(failure)
    }

    /// An attempt that may be followed by one elsewhere leaves half of the time for it.
    fn attempt_until(&self, now: Instant, permit: &Permit) -> Instant {
        let may_follow = self.attempts + 1 < self.inner.settings.retry.attempts_max && permit.has_other();
        if may_follow && self.inner.budget().has_one(now) {
            now + self.until.saturating_duration_since(now) / 2
        } else {
            self.until
        }
    }

    /// Waits until the next attempt may begin, or says why there is none.
    async fn wait_for_next(&self, failure: Failure) -> Result<(), Error> {
        let now = Instant::now();
        let policy = &self.inner.settings.retry;
        let random = self.inner.random.next();
        let verdict = verdict(&failure);
        if verdict == Verdict::GiveUp {
            return Err(self.error(failure));
        }
        let another = self.asked.len() < self.inner.pool.len();
        let pause = policy.pause(self.attempts, verdict.after(another), random);
        if now >= self.until || (failure.timed_out() && now + pause >= self.until) {
            return Err(Error::DeadlineExceeded { deadline: self.deadline, failure });
        }
        // Waiting for what cannot come in time would only be late with the bad news.
        if self.attempts >= policy.attempts_max || now + pause >= self.until {
            return Err(self.error(failure));
        }
        // What no server has looked at adds nothing to their load.
        if !failure.unseen() && !self.inner.budget().take(now) {
            self.inner.metrics.retry_refused(self.method);
            return Err(self.error(failure));
        }
        sleep_until(now + pause).await;
        Ok(())
    }

    fn error(&self, failure: Failure) -> Error {
        if failure.timed_out() || failure.code() == Code::DeadlineExceeded {
            return Error::DeadlineExceeded { deadline: self.deadline, failure };
        }
        failure.into()
    }

    fn told(&self, permit: &Permit, code: Code, begun: Instant) {
        self.inner.metrics.attempt_ended(self.method, permit.endpoint(), code, begun.elapsed());
    }
}

/// Names a request for the servers' logs.
pub(crate) fn name<Q>(request: &mut Request<Q>, request_id: &str) {
    // Hexadecimal digits are always a value of metadata.
    if let Ok(value) = AsciiMetadataValue::try_from(request_id) {
        request.metadata_mut().insert(REQUEST_ID, value);
    }
}
