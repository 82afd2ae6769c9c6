//! One question in local mode: from memory where that has an answer, else over the wire, else from memory if it has one by then,
//! else by the policy.

use std::future::{IntoFuture, Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use tessera_proto::convert::decision::{Asked, AskedLimit};
use tessera_proto::v1::consistency::Requirement;

use super::answer::Answer;
use super::tenants::{Demand, Elsewhere, Question, Told};
use super::{Local, Shared};
use crate::check::Check;
use crate::error::Error;
use crate::freshness::Revision;

/// A question on its way: await it, or take what is at hand. See [`Local::check`].
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is asked until this is awaited"]
pub struct LocalCheck<'a> {
    local: &'a Local,
    asked: Asked<'a>,
    at_least: Option<&'a Revision>,
    fully_consistent: bool,
    explain: bool,
    deadline: Option<Duration>,
}

impl Local {
    /// Asks one question. Options stand before `.await`:
    ///
    /// ```no_run
    /// # async fn example(local: tessera_client::local::Local) -> Result<(), tessera_client::Error> {
    /// let answer = local.check("acme", "reporting", "exports").limit("max_users", 5).used(95).await?;
    /// println!("{} from {:?}, {:?}", answer.is_entitled(), answer.source(), answer.staleness());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A tenant that was never asked about is subscribed; its first questions go over the wire.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Unauthenticated`] and [`Error::NotAllowed`], which no policy repairs. Trouble of servers and
    /// connections is answered by the policy.
    pub fn check<'a>(&'a self, tenant: &'a str, service: &'a str, feature: &'a str) -> LocalCheck<'a> {
        let asked = Asked { tenant_id: tenant, service, feature, limit: None };
        LocalCheck { local: self, asked, at_least: None, fully_consistent: false, explain: false, deadline: None }
    }

    /// Asks a question that was put together before.
    pub fn ask<'a>(&'a self, check: &'a Check) -> LocalAsk<'a> {
        LocalAsk { local: self, check }
    }
}

impl<'a> LocalCheck<'a> {
    /// See [`Check::limit`].
    pub fn limit(mut self, name: &'a str, amount: i64) -> Self {
        let limit = self.asked.limit.get_or_insert_default();
        (limit.name, limit.amount) = (name, amount);
        self
    }

    /// See [`Check::used`].
    pub fn used(mut self, used: i64) -> Self {
        self.asked.limit.get_or_insert_default().used = Some(used);
        self
    }

    /// See [`Check::at_least`]. Goes over the wire, unless memory has that very revision.
    pub fn at_least(mut self, revision: &'a Revision) -> Self {
        self.at_least = Some(revision);
        self
    }

    /// See [`Check::fully_consistent`]. Goes over the wire.
    pub fn fully_consistent(mut self) -> Self {
        self.fully_consistent = true;
        self
    }

    /// See [`Check::explain`]. Goes over the wire.
    pub fn explain(mut self) -> Self {
        self.explain = true;
        self
    }

    /// How long it may take over the wire, instead of the client's default: 1 ms to 24 h.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The answer if memory has one: no waiting and no allocation. Takes note of what it does not have.
    pub fn at_hand(&self) -> Option<Answer> {
        self.local.shared.tell(&self.question()).ok()
    }

    fn question(&self) -> Question<'a> {
        let demand = match self.at_least {
            _ if self.fully_consistent || self.explain => Demand::Server,
            Some(revision) => Demand::AtLeast(revision.as_bytes()),
            None => Demand::None,
        };
        Question { asked: self.asked, demand }
    }

    /// The same question as it is sent.
    fn owned(&self) -> Check {
        let Asked { tenant_id, service, feature, limit } = self.asked;
        let mut check = Check::new(tenant_id, service, feature);
        if let Some(AskedLimit { name, amount, used }) = limit {
            check = check.limit(name, amount);
            check = if let Some(used) = used { check.used(used) } else { check };
        }
        if let Some(revision) = self.at_least {
            check = check.at_least(revision);
        }
        check = if self.fully_consistent { check.fully_consistent() } else { check };
        if self.explain { check.explain() } else { check }
    }
}

/// A question that was put together before, on its way: await it. See [`Local::ask`].
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is asked until this is awaited"]
pub struct LocalAsk<'a> {
    local: &'a Local,
    check: &'a Check,
}

impl LocalAsk<'_> {
    /// See [`LocalCheck::at_hand`].
    pub fn at_hand(&self) -> Option<Answer> {
        self.local.shared.tell(&question(self.check)).ok()
    }
}

/// What comes of a question: at once, or after the wire was asked.
pub type Answering = Either<Ready<Result<Answer, Error>>, BoxFuture<'static, Result<Answer, Error>>>;

impl IntoFuture for LocalCheck<'_> {
    type Output = Result<Answer, Error>;
    type IntoFuture = Answering;

    fn into_future(self) -> Answering {
        match self.local.shared.tell(&self.question()) {
            Ok(answer) => Either::Left(ready(Ok(answer))),
            Err(_) => Either::Right(self.local.over_the_wire(self.owned(), self.deadline)),
        }
    }
}

impl IntoFuture for LocalAsk<'_> {
    type Output = Result<Answer, Error>;
    type IntoFuture = Answering;

    fn into_future(self) -> Answering {
        match self.local.shared.tell(&question(self.check)) {
            Ok(answer) => Either::Left(ready(Ok(answer))),
            Err(_) => Either::Right(self.local.over_the_wire(self.check.clone(), None)),
        }
    }
}

/// Whether memory and the policies answer in place of this error, which is none of the caller.
fn may_be_decided_here(error: &Error, check: &Check) -> bool {
    // The one that is held, which servers of another world do not know; the watch will let go of it.
    let is_our_revision = !check.is_demanding() && error.reason() == "INVALID_REVISION";
    error.is_transient() || matches!(error, Error::Server(_)) || is_our_revision
}

fn question(check: &Check) -> Question<'_> {
    let request = check.wire();
    let demand = match request.consistency.as_ref().and_then(|consistency| consistency.requirement.as_ref()) {
        _ if request.explain => Demand::Server,
        None | Some(Requirement::MinimizeLatency(_)) => Demand::None,
        Some(Requirement::AtLeast(at_least)) => Demand::AtLeast(&at_least.revision),
        Some(Requirement::FullyConsistent(_)) => Demand::Server,
    };
    Question { asked: Asked::from(request), demand }
}

impl Shared {
    /// The answer out of memory, or what memory knows although it is no answer.
    fn tell(&self, question: &Question<'_>) -> Result<Answer, Option<Told>> {
        let now = self.clock.now();
        match self.tenants.tell(question, now, self.settings.max_staleness) {
            Ok(told) => Ok(Answer::local(told, now.wall)),
            Err(Elsewhere::Outdated(told)) => Err(Some(told)),
            Err(Elsewhere::NotHeld | Elsewhere::Undecided) => Err(None),
            Err(Elsewhere::Wanted) => {
                // When too many wait already, the next check of the tenant says it again.
                drop(self.wanted.try_send(question.asked.tenant_id.to_owned()));
                Err(None)
            }
        }
    }

    /// What the policy says when nobody else can. `known` is what memory has, however old.
    fn policy(&self, check: &Check, known: Option<Told>, error: Error) -> Answer {
        let policy = self.settings.policies.of(check.service(), check.feature());
        tracing::debug!(error = %error.logged(), ?policy, "neither memory nor the wire has an answer: the policy says");
        Answer::policy(policy, known, self.clock.now().wall, error)
    }
}

impl Local {
    #[cold]
    fn over_the_wire(&self, check: Check, deadline: Option<Duration>) -> BoxFuture<'static, Result<Answer, Error>> {
        // Nothing older than what is held: a server that lags would undo what was said before. Two demands at once cannot be sent.
        let held = self.shared.tenants.held(check.tenant()).filter(|_| !check.is_demanding());
        let mut call = self.shared.client.ask(check.clone());
        if let Some(held) = held {
            call = call.at_least(held.document.revision());
        }
        if let Some(deadline) = deadline {
            call = call.deadline(deadline);
        }
        let (shared, call) = (Arc::clone(&self.shared), call.into_future());
        async move {
            match call.await {
                Ok(decision) => Ok(Answer::wire(decision)),
                Err(error) if may_be_decided_here(&error, &check) => {
                    // While the wire was asked, the watch went on: what it brought is newer than what was known before.
                    Ok(shared.tell(&question(&check)).unwrap_or_else(|known| shared.policy(&check, known, error)))
                }
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}
