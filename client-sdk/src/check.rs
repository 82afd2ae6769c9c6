//! One question, and asking it. Batches and checkers take the same questions.

use std::future::IntoFuture;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_proto::v1;
use tessera_proto::v1::consistency::Requirement;

use crate::call::unary;
use crate::client::{Inner, Tessera};
use crate::decision::Decision;
use crate::error::Error;
use crate::freshness::Revision;
use crate::metrics::Method;

/// A question: may this tenant use this feature of this service, and how much of it?
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a question does nothing until it is asked"]
pub struct Check {
    request: v1::CheckEntitlementRequest,
}

impl Check {
    /// Asks for a feature; an empty one asks for the service itself.
    pub fn new(tenant: impl Into<String>, service: impl Into<String>, feature: impl Into<String>) -> Self {
        let request = v1::CheckEntitlementRequest {
            tenant_id: tenant.into(),
            service: service.into(),
            feature: feature.into(),
            ..Default::default()
        };
        Self { request }
    }

    /// Also asks whether `amount` more of a limit fits; 0 asks "am I over?".
    pub fn limit(mut self, name: impl Into<String>, amount: i64) -> Self {
        let limit = self.request.limit_check.get_or_insert_default();
        limit.name = name.into();
        limit.amount = amount;
        self
    }

    /// How much of the limit is used already; 0 unless said. Means nothing without [`Check::limit`].
    pub fn used(mut self, used: i64) -> Self {
        self.request.limit_check.get_or_insert_default().used = Some(used);
        self
    }

    /// The answer must be at least as new as this.
    pub fn at_least(mut self, revision: &Revision) -> Self {
        self.request.consistency = Some(at_least(revision));
        self
    }

    /// The answer must rest on everything that was acknowledged before it was asked. Costs reads of the store: for the few
    /// moments that need it.
    pub fn fully_consistent(mut self) -> Self {
        self.request.consistency = Some(fully_consistent());
        self
    }

    /// Also asks for the outcome of every step.
    pub fn explain(mut self) -> Self {
        self.request.explain = true;
        self
    }

    /// Which tenant.
    pub fn tenant(&self) -> &str {
        &self.request.tenant_id
    }

    /// Which service.
    pub fn service(&self) -> &str {
        &self.request.service
    }

    /// Which feature; empty for the service itself.
    pub fn feature(&self) -> &str {
        &self.request.feature
    }

    /// Whether it demands an answer that a server may have to wait for.
    pub(crate) fn is_demanding(&self) -> bool {
        let requirement = self.request.consistency.as_ref().and_then(|consistency| consistency.requirement.as_ref());
        matches!(requirement, Some(Requirement::AtLeast(_) | Requirement::FullyConsistent(_)))
    }

    /// As it would be sent.
    #[cfg(feature = "local")]
    pub(crate) fn wire(&self) -> &v1::CheckEntitlementRequest {
        &self.request
    }

    /// As it is sent.
    pub(crate) fn into_wire(self) -> v1::CheckEntitlementRequest {
        self.request
    }

    #[cfg(feature = "fake")]
    pub(crate) fn of_wire(request: v1::CheckEntitlementRequest) -> Self {
        Self { request }
    }
}

pub(crate) fn at_least(revision: &Revision) -> v1::Consistency {
    let at_least = v1::AtLeast { revision: revision.to_wire() };
    v1::Consistency { requirement: Some(Requirement::AtLeast(at_least)) }
}

pub(crate) fn fully_consistent() -> v1::Consistency {
    let fully = v1::FullyConsistent {};
    v1::Consistency { requirement: Some(Requirement::FullyConsistent(fully)) }
}

/// Asks one question in a call of its own.
pub(crate) async fn ask(inner: &Inner, check: Check, deadline: Duration) -> Result<Decision, Error> {
    let send = |mut client: crate::wire::Client, request| async move { client.check_entitlement(request).await }.boxed();
    let answer = unary(inner, Method::Check, deadline, check.into_wire(), send).await?;
    Ok(Decision::of_wire(answer))
}

/// A question on its way: await it. See [`Tessera::check`].
#[derive(Debug)]
#[must_use = "nothing is asked until this is awaited"]
pub struct CheckCall {
    client: Tessera,
    check: Check,
    deadline: Duration,
}

impl Tessera {
    /// Asks one question. Options stand before `.await`:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(tessera: tessera_client::Tessera) -> Result<(), Box<dyn std::error::Error>> {
    /// let decision = tessera
    ///     .check("acme", "reporting", "exports")
    ///     .limit("max_users", 5)
    ///     .used(95)
    ///     .deadline(Duration::from_millis(200))
    ///     .await?
    ///     .require()?;
    /// println!("{} until {:?}", decision.reason, decision.valid_until);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Many questions of many tasks are cheaper through [`Tessera::checker`].
    pub fn check(&self, tenant: impl Into<String>, service: impl Into<String>, feature: impl Into<String>) -> CheckCall {
        self.ask(Check::new(tenant, service, feature))
    }

    /// Asks a question that was put together before.
    pub fn ask(&self, check: Check) -> CheckCall {
        CheckCall { client: self.clone(), check, deadline: self.inner().settings.deadline }
    }
}

impl CheckCall {
    /// See [`Check::limit`].
    pub fn limit(mut self, name: impl Into<String>, amount: i64) -> Self {
        self.check = self.check.limit(name, amount);
        self
    }

    /// See [`Check::used`].
    pub fn used(mut self, used: i64) -> Self {
        self.check = self.check.used(used);
        self
    }

    /// See [`Check::at_least`].
    pub fn at_least(mut self, revision: &Revision) -> Self {
        self.check = self.check.at_least(revision);
        self
    }

    /// See [`Check::fully_consistent`].
    pub fn fully_consistent(mut self) -> Self {
        self.check = self.check.fully_consistent();
        self
    }

    /// See [`Check::explain`].
    pub fn explain(mut self) -> Self {
        self.check = self.check.explain();
        self
    }

    /// How long this call may take in all, instead of the client's default: 1 ms to 24 h.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl IntoFuture for CheckCall {
    type Output = Result<Decision, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move { ask(self.client.inner(), self.check, self.deadline).await }.boxed()
    }
}
