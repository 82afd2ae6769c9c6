//! Many questions at one time.

use std::future::IntoFuture;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_proto::v1;
use tonic::Code;

use crate::call::unary;
use crate::check::{Check, at_least, fully_consistent};
use crate::client::Tessera;
use crate::decision::{Decision, time};
use crate::error::Error;
use crate::failure::Failure;
use crate::freshness::Revision;
use crate::metrics::Method;

/// Most checks of a batch.
const CHECKS_MAX: usize = 10_000;
/// Most of them with revisions or details: their answers are long.
const CHECKS_WITH_MORE_MAX: usize = 1_000;
/// Most of them when one asks to be explained.
const CHECKS_EXPLAINED_MAX: usize = 100;

/// The answers to a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BatchAnswer {
    /// One per question, in order. One that is wrong fails alone.
    pub results: Vec<Result<Decision, Error>>,
    /// The one time all decisions were made for.
    pub evaluated_at: Option<SystemTime>,
}

/// A batch on its way: await it. See [`Tessera::batch`].
#[derive(Debug)]
#[must_use = "nothing is asked until this is awaited"]
pub struct BatchCall {
    client: Tessera,
    request: v1::BatchCheckEntitlementRequest,
    deadline: Duration,
}

impl Tessera {
    /// Asks up to 10,000 questions at one evaluation time; up to 1,000 with revisions or details, up to 100 when one asks to be
    /// explained. More are refused, never split: two halves would be decided at two times.
    ///
    /// ```no_run
    /// # async fn example(tessera: tessera_client::Tessera) -> Result<(), Box<dyn std::error::Error>> {
    /// use tessera_client::Check;
    ///
    /// let features = ["exports", "dashboards", "custom-reports"];
    /// let answer = tessera.batch(features.map(|feature| Check::new("acme", "reporting", feature))).await?;
    /// for (feature, result) in features.iter().zip(&answer.results) {
    ///     match result {
    ///         Ok(decision) => println!("{feature}: {}", decision.reason),
    ///         Err(error) => eprintln!("{feature}: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch(&self, checks: impl IntoIterator<Item = Check>) -> BatchCall {
        let checks = checks.into_iter().map(Check::into_wire).collect();
        let request = v1::BatchCheckEntitlementRequest { checks, ..Default::default() };
        BatchCall { client: self.clone(), request, deadline: self.inner().settings.deadline }
    }
}

impl BatchCall {
    /// Every answer without a demand of its own must be at least as new as this.
    pub fn at_least(mut self, revision: &Revision) -> Self {
        self.request.consistency = Some(at_least(revision));
        self
    }

    /// See [`Check::fully_consistent`], for every question without a demand of its own.
    pub fn fully_consistent(mut self) -> Self {
        self.request.consistency = Some(fully_consistent());
        self
    }

    /// Also answers with revisions.
    pub fn with_revisions(mut self) -> Self {
        self.request.with_revisions = true;
        self
    }

    /// Also answers with the facts behind the reasons.
    pub fn with_details(mut self) -> Self {
        self.request.with_details = true;
        self
    }

    /// How long this call may take in all, instead of the client's default: 1 ms to 24 h.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn checks_max(&self) -> usize {
        if self.request.checks.iter().any(|check| check.explain) {
            CHECKS_EXPLAINED_MAX
        } else if self.request.with_revisions || self.request.with_details {
            CHECKS_WITH_MORE_MAX
        } else {
            CHECKS_MAX
        }
    }

    async fn ask(self) -> Result<BatchAnswer, Error> {
        let (given, allowed) = (self.request.checks.len(), self.checks_max());
        if given > allowed {
            return Err(Error::TooManyChecks { given, allowed });
        }
        let inner = self.client.inner();
        let send =
            |mut client: crate::wire::Client, request| async move { client.batch_check_entitlement(request).await }.boxed();
        let answer = unary(inner, Method::Batch, self.deadline, self.request, send).await?;
        if answer.results.len() != given {
            let message = format!("`{}` answers to `{given}` checks", answer.results.len());
            return Err(Error::Server(Failure::local(Code::Internal, message)));
        }
        let results = answer.results.into_iter().map(|result| result_of(result).map_err(Error::from)).collect();
        Ok(BatchAnswer { results, evaluated_at: time(answer.evaluated_at) })
    }
}

/// One of many answers.
pub(crate) fn result_of(result: v1::CheckResult) -> Result<Decision, Failure> {
    match result.result {
        Some(v1::check_result::Result::Response(response)) => Ok(Decision::of_wire(response)),
        Some(v1::check_result::Result::Error(status)) => Err(Failure::of_item(&status)),
        None => Err(Failure::local(Code::Internal, "neither a decision nor an error came back")),
    }
}

impl IntoFuture for BatchCall {
    type Output = Result<BatchAnswer, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.ask().boxed()
    }
}
