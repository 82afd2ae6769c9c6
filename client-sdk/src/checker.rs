//! Checks of many tasks over few streams: whatever waits when there is room goes out in one frame.
//!
//! There is no timer that waits for more. When few ask, a check leaves at once and alone; when many ask, the frames on their way
//! fill what may be on the way, and meanwhile the next one grows.
//!
//! Servers answer the frames of a stream in order. A check that demands a revision or full consistency may have to wait there, and
//! everybody's checks would wait behind it; so it is sent in a call of its own.

mod driver;
mod queue;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Code;

use crate::check::{Check, ask};
use crate::client::{Inner, Tessera};
use crate::decision::Decision;
use crate::error::Error;
use crate::failure::Failure;
use crate::metrics::Method;
use crate::retry::{Verdict, verdict};
use crate::settings::check_deadline;
use driver::Driver;
use queue::{Attempts, Limits};
use shared::{End, Shared};

/// Longest check, in bytes; a valid one with a long revision stays far below. One that a server would not read would end the
/// stream for everybody's checks.
const CHECK_LEN_MAX: usize = 16 << 10;
/// Streams of a checker unless said otherwise: one per endpoint, up to this many.
const STREAMS: usize = 4;

/// How a checker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckerOptions {
    /// Streams, each to another endpoint where there are as many: 1 to 64; default one per endpoint, up to 4. More on one
    /// endpoint help when a server's single core is the bound.
    pub streams: Option<usize>,
    /// Most checks of a frame: 1 to 1,000; default 1,000.
    pub frame_checks_max: usize,
    /// Most frames of a stream that are on their way: 1 to 1,000; default 4. Fewer make larger frames.
    pub frames_in_flight_max: usize,
    /// Most checks that wait to be sent: 1 to 1,000,000; default 10,000. More are refused with [`Error::QueueFull`].
    pub waiting_max: usize,
    /// Answers that come over streams carry revisions; default no.
    pub with_revisions: bool,
    /// Answers that come over streams carry the facts behind their reasons; default no.
    pub with_details: bool,
}

impl Default for CheckerOptions {
    fn default() -> Self {
        Self {
            streams: None,
            frame_checks_max: 1_000,
            frames_in_flight_max: 4,
            waiting_max: 10_000,
            with_revisions: false,
            with_details: false,
        }
    }
}

/// Asks for many tasks at once; see [`Tessera::checker`]. Clones share the streams, which end with the last of them.
#[derive(Debug, Clone)]
pub struct Checker {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    waiting_max: usize,
    _drivers: Arc<JoinSet<()>>,
}

/// A check that waits or is on its way: forgotten when it is dropped.
struct Ticket<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Tessera {
    /// A checker with default options. Make one and share it: it is what makes many checks cheap.
    ///
    /// ```no_run
    /// # async fn example(tessera: tessera_client::Tessera) -> Result<(), Box<dyn std::error::Error>> {
    /// use tessera_client::Check;
    ///
    /// let checker = tessera.checker();
    /// let decision = checker.check(Check::new("acme", "reporting", "exports")).await?;
    /// println!("{}", decision.reason);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Must be called inside the runtime.
    pub fn checker(&self) -> Checker {
        self.start_checker(CheckerOptions::default())
    }

    /// A checker with options.
    ///
    /// # Errors
    /// [`Error::Setting`] names an option that is out of its bounds.
    pub fn checker_with(&self, options: CheckerOptions) -> Result<Checker, Error> {
        options.validate()?;
        Ok(self.start_checker(options))
    }

    fn start_checker(&self, options: CheckerOptions) -> Checker {
        let inner = Arc::clone(self.inner());
        let limits = Limits {
            frame_checks: options.frame_checks_max,
            frames_in_flight: options.frames_in_flight_max,
            waiting: options.waiting_max,
            attempts: inner.settings.retry.attempts_max,
        };
        let streams = options.streams.unwrap_or_else(|| inner.pool.len().min(STREAMS));
        let shared = Arc::new(Shared::new(limits, streams, &inner.settings.retry));
        let mut drivers = JoinSet::new();
        for stream in 0..streams {
            let driver = Driver { inner: Arc::clone(&inner), shared: Arc::clone(&shared), stream, options };
            drivers.spawn(driver.run());
        }
        Checker { inner, shared, waiting_max: options.waiting_max, _drivers: Arc::new(drivers) }
    }
}

impl CheckerOptions {
    fn validate(&self) -> Result<(), Error> {
        let within = |setting, given: usize, max: usize, allowed| {
            if (1..=max).contains(&given) { Ok(()) } else { Err(Error::Setting { setting, given: given.to_string(), allowed }) }
        };
        within("checker.streams", self.streams.unwrap_or(1), 64, "allowed are 1 to 64")?;
        within("checker.frame_checks_max", self.frame_checks_max, 1_000, "allowed are 1 to 1,000")?;
        within("checker.frames_in_flight_max", self.frames_in_flight_max, 1_000, "allowed are 1 to 1,000")?;
        within("checker.waiting_max", self.waiting_max, 1_000_000, "allowed are 1 to 1,000,000")
    }
}

impl Checker {
    /// Asks a question, within the client's default deadline. Dropping the future frees its place.
    ///
    /// One with [`Check::at_least`] or [`Check::fully_consistent`] is sent in a call of its own, as [`Tessera::ask`] does, and has
    /// no place here: it may have to wait, which nobody else's should. Its answer has revision and facts in any case.
    ///
    /// # Errors
    /// As a single check; [`Error::QueueFull`] at once when too many wait.
    pub async fn check(&self, check: Check) -> Result<Decision, Error> {
        self.check_within(check, self.inner.settings.deadline).await
    }

    /// As [`Checker::check`], with a deadline of its own: 1 ms to 24 h.
    pub async fn check_within(&self, check: Check, deadline: Duration) -> Result<Decision, Error> {
        if check.is_demanding() {
            return ask(&self.inner, check, deadline).await;
        }
        check_deadline(deadline)?;
        let begun = Instant::now();
        let attempts = Attempts::default();
        self.inner.budget().pay_in();
        let result = self.ask_over_streams(check, begun + deadline, deadline, &attempts).await;
        let code = result.as_ref().err().and_then(Error::code).unwrap_or(Code::Ok);
        self.inner.metrics.call_ended(Method::StreamCheck, code, attempts.number(), begun.elapsed());
        result
    }

    async fn ask_over_streams(
        &self,
        check: Check,
        until: Instant,
        deadline: Duration,
        attempts: &Attempts,
    ) -> Result<Decision, Error> {
        let check = check.into_wire();
        let len = check.encoded_len();
        if len > CHECK_LEN_MAX {
            let message = format!("it has `{len}` bytes; allowed are {CHECK_LEN_MAX}");
            return Err(Error::Invalid(Failure::invalid("check", message)));
        }
        let policy = &self.inner.settings.retry;
        loop {
            let end = self.answer(check.clone(), until, attempts).await?;
            let sent = attempts.number();
            let failure = match end {
                Some(End::Answered(Ok(decision))) => return Ok(decision),
                Some(End::Answered(Err(failure))) => failure.tried(sent),
                Some(End::GivenUp(failure)) => {
                    // It had attempts left: the budget had none.
                    if sent < policy.attempts_max && !failure.is_refusal() {
                        self.inner.metrics.retry_refused(Method::StreamCheck);
                    }
                    return Err(failure.tried(sent).into());
                }
                None => {
                    let none = || Failure::no_answer_in_time("nothing went wrong but the time");
                    let failure = self.shared.lock().last_failure.clone().unwrap_or_else(none).tried(sent);
                    return Err(Error::DeadlineExceeded { deadline, failure });
                }
            };
            // With its stream it was sent again already; here is what a server said of this check alone.
            let after = match verdict(&failure) {
                Verdict::After(after) | Verdict::Elsewhere(Some(after)) => after,
                Verdict::GiveUp | Verdict::Elsewhere(None) => return Err(failure.into()),
            };
            let again_at = Instant::now() + policy.pause(sent, Some(after), self.inner.random.next());
            if sent >= policy.attempts_max || again_at >= until {
                return Err(failure.into());
            }
            if !self.inner.budget().take(Instant::now()) {
                self.inner.metrics.retry_refused(Method::StreamCheck);
                return Err(failure.into());
            }
            sleep_until(again_at).await;
        }
    }

    /// What comes of a check; `None` when the time is over.
    async fn answer(
        &self,
        check: tessera_proto::v1::CheckEntitlementRequest,
        until: Instant,
        attempts: &Attempts,
    ) -> Result<Option<End>, Error> {
        let (sender, receiver) = oneshot::channel();
        let pushed = self.shared.push(check, sender, until, attempts.clone());
        let number = pushed.map_err(|waiting| Error::QueueFull { waiting, allowed: self.waiting_max })?;
        let _ticket = Ticket { shared: &self.shared, number };
        Ok(match timeout_at(until, receiver).await {
            Ok(Ok(end)) => Some(end),
            // It left the queue because its time was over, a moment before ours.
            Ok(Err(_)) if Instant::now() >= until => None,
            Ok(Err(_)) => Some(End::GivenUp(Failure::broken("the checker ended"))),
            Err(_) => None,
        })
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.lock().queue.forget(self.number);
    }
}
