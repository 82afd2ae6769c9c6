//! Who is asked, and about whom: what layers and extractors share.

use std::fmt;
use std::future::IntoFuture as _;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::request::Parts;

use super::Amount;
use super::refusal::Why;
use crate::check::Check;
use crate::client::Tessera;
use crate::error::Error;
use crate::local::{Answer, Local, LocalCheck};

/// Whose request it is: put into its extensions by whatever has verified who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(pub Arc<str>);

impl Tenant {
    /// The tenant with this id.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }
}

/// A question about the tenant of a request.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Which tenant.
    pub tenant: &'a str,
    /// Which service.
    pub service: &'a str,
    /// Which feature; empty asks for the service itself.
    pub feature: &'a str,
    /// How much of which limit, too.
    pub limit: Option<(&'a str, Amount)>,
}

/// Answers questions about requests.
pub trait Gate: Send + Sync + 'static {
    /// The answer, if it can be had without waiting.
    fn at_hand(&self, question: &Question<'_>) -> Option<Answer>;

    /// The answer.
    fn ask(&self, question: &Question<'_>) -> BoxFuture<'static, Result<Answer, Error>>;
}

/// Who is asked, and how a request tells its tenant. Cheap to clone; the state of axum's [`crate::extract::Entitled`].
#[derive(Clone)]
pub struct Access {
    gate: Arc<dyn Gate>,
    tenant: Arc<TenantOf>,
}

/// Finds the tenant of a request.
type TenantOf = dyn for<'r> Fn(&'r Parts) -> Option<&'r str> + Send + Sync;

impl Access {
    /// Asks `gate` about the [`Tenant`] in the extensions of a request.
    pub fn new(gate: impl Gate) -> Self {
        Self::shared(Arc::new(gate))
    }

    /// As [`Access::new`], with a gate that others have too.
    pub fn shared(gate: Arc<dyn Gate>) -> Self {
        fn of_extensions(request: &Parts) -> Option<&str> {
            Some(&*request.extensions.get::<Tenant>()?.0)
        }
        Self { gate, tenant: Arc::new(of_extensions) }
    }

    /// Finds the tenant otherwise. What it reads must have been verified: whoever can choose it can be any tenant. A request of
    /// which it says nothing is refused.
    #[must_use]
    pub fn tenant_by(mut self, tenant: impl for<'r> Fn(&'r Parts) -> Option<&'r str> + Send + Sync + 'static) -> Self {
        self.tenant = Arc::new(tenant);
        self
    }

    pub(crate) fn tenant<'r>(&self, request: &'r Parts) -> Option<&'r str> {
        (self.tenant)(request)
    }

    pub(crate) fn gate(&self) -> &dyn Gate {
        &*self.gate
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// The answer if it lets through, or why not.
pub(crate) fn admitted(answer: Result<Answer, Error>) -> Result<Answer, Why> {
    match answer {
        Ok(answer) if answer.is_entitled() => Ok(answer),
        Ok(answer) => Err(answer.reason().map_or(Why::Undecided, Why::Denied)),
        Err(Error::Invalid(failure)) if failure.violations().iter().any(|wrong| wrong.field == "tenant_id") => Err(Why::NoTenant),
        Err(error) => {
            tracing::warn!(error = %error.logged(), "a request is refused: whether its tenant is entitled cannot be decided");
            Err(Why::Undecided)
        }
    }
}

impl Gate for Tessera {
    /// Never: a server is asked.
    fn at_hand(&self, _question: &Question<'_>) -> Option<Answer> {
        None
    }

    fn ask(&self, question: &Question<'_>) -> BoxFuture<'static, Result<Answer, Error>> {
        let mut check = Check::new(question.tenant, question.service, question.feature);
        if let Some((name, Amount { amount, used })) = question.limit {
            check = check.limit(name, amount).used(used);
        }
        Tessera::ask(self, check).into_future().map(|decision| decision.map(Answer::wire)).boxed()
    }
}

impl Gate for Local {
    fn at_hand(&self, question: &Question<'_>) -> Option<Answer> {
        as_local(self, question).at_hand()
    }

    fn ask(&self, question: &Question<'_>) -> BoxFuture<'static, Result<Answer, Error>> {
        as_local(self, question).into_future().boxed()
    }
}

fn as_local<'a>(local: &'a Local, question: &Question<'a>) -> LocalCheck<'a> {
    let check = local.check(question.tenant, question.service, question.feature);
    match question.limit {
        None => check,
        Some((name, Amount { amount, used })) => check.limit(name, amount).used(used),
    }
}
