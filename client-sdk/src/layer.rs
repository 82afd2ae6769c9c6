//! A tower layer that lets a request through when its tenant is entitled to a feature, and refuses it otherwise.
//!
//! Who the tenant is, the layer does not find out: something before it has verified who calls, and says it with a [`Tenant`] in the
//! request's extensions. A header that anybody can send is no such thing. Where a gateway that strips and sets one stands before
//! every request, [`RequireFeature::tenant_by`] can read it.
//!
//! ```no_run
//! # use tessera_client::{Tessera, layer::RequireFeature};
//! # use tower::Layer as _;
//! # fn example<S>(tessera: Tessera, service: S) {
//! let guarded = RequireFeature::new(tessera.clone(), "reporting", "exports").layer(service);
//! // How much of a limit a request takes, and how much is used already, is known here alone.
//! let limited = RequireFeature::new(tessera, "identity", "users").limit("max_users", |_request| Amount { amount: 1, used: 95 });
//! # use tessera_client::layer::Amount;
//! # }
//! ```
//!
//! What goes through carries the [`Answer`] in its extensions. What does not is answered 402, 403 or 429 by reason, or 503 when
//! it cannot be decided (and the policy is not to let it through), with `x-tessera-reason` and a body of
//! `application/problem+json` (RFC 9457) that names no tenant.

mod access;
mod refusal;

use std::fmt;
use std::future::{Ready, ready};
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use http::request::Parts;
use http::{Request, Response};
use tower::{Layer, Service};

#[cfg(feature = "axum")]
pub(crate) use access::admitted;
pub use access::{Access, Gate, Question, Tenant};
pub use refusal::Refusal;
pub(crate) use refusal::Why;

use crate::error::Error;
use crate::local::Answer;

/// Requires a feature (or, with an empty one, a service) of the tenant of every request.
#[derive(Clone)]
#[must_use = "it guards nothing until it is laid round a service"]
pub struct RequireFeature {
    access: Access,
    service: Arc<str>,
    feature: Arc<str>,
    limit: Option<Limit>,
}

#[derive(Clone)]
struct Limit {
    name: Arc<str>,
    amount: Arc<dyn Fn(&Parts) -> Amount + Send + Sync>,
}

/// How much of a limit a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// How much more, 0 or more; 0 asks "am I over?".
    pub amount: i64,
    /// How much is used already, 0 or more.
    pub used: i64,
}

impl RequireFeature {
    /// Asks `gate`, which is a [`crate::Tessera`] or a [`crate::local::Local`].
    pub fn new(gate: impl Gate, service: &str, feature: &str) -> Self {
        Self::of(Access::new(gate), service, feature)
    }

    /// As [`RequireFeature::new`], with access that is shared.
    pub fn of(access: Access, service: &str, feature: &str) -> Self {
        Self { access, service: service.into(), feature: feature.into(), limit: None }
    }

    /// See [`Access::tenant_by`].
    pub fn tenant_by(mut self, tenant: impl for<'r> Fn(&'r Parts) -> Option<&'r str> + Send + Sync + 'static) -> Self {
        self.access = self.access.tenant_by(tenant);
        self
    }

    /// Also requires that so much of a limit is left.
    pub fn limit(mut self, name: &str, amount: impl Fn(&Parts) -> Amount + Send + Sync + 'static) -> Self {
        self.limit = Some(Limit { name: name.into(), amount: Arc::new(amount) });
        self
    }

    fn question<'r>(&'r self, request: &'r Parts) -> Option<Question<'r>> {
        let limit = self.limit.as_ref().map(|limit| (&*limit.name, (limit.amount)(request)));
        Some(Question { tenant: self.access.tenant(request)?, service: &self.service, feature: &self.feature, limit })
    }

    fn refused(&self, why: Why) -> Refusal {
        Refusal::new(why, &self.service, &self.feature)
    }

    /// Leaves the answer with the request, or refuses it.
    fn admit(&self, request: &mut Parts, answer: Result<Answer, Error>) -> Result<(), Refusal> {
        let answer = access::admitted(answer).map_err(|why| self.refused(why))?;
        request.extensions.insert(answer);
        Ok(())
    }
}

impl fmt::Debug for RequireFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit.as_ref().map(|limit| &limit.name);
        f.debug_struct("RequireFeature")
            .field("service", &self.service)
            .field("feature", &self.feature)
            .field("limit", &limit)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RequireFeature {
    type Service = Require<S>;

    fn layer(&self, inner: S) -> Require<S> {
        Require { inner, required: self.clone() }
    }
}

/// A service behind a [`RequireFeature`].
#[derive(Debug, Clone)]
pub struct Require<S> {
    inner: S,
    required: RequireFeature,
}

/// What becomes of a request: let through at once, refused at once, or decided over the wire.
pub type Requiring<F, T, E> = Either<Either<F, Ready<Result<T, E>>>, BoxFuture<'static, Result<T, E>>>;

impl<S, B, R> Service<Request<B>> for Require<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Requiring<S::Future, Response<R>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let Some(question) = self.required.question(&head) else {
            let refusal = self.required.refused(Why::NoTenant);
            return Either::Left(Either::Right(ready(Ok(refusal.into_response()))));
        };
        if let Some(answer) = self.required.access.gate().at_hand(&question) {
            return Either::Left(match self.required.admit(&mut head, Ok(answer)) {
                Ok(()) => Either::Left(self.inner.call(Request::from_parts(head, body))),
                Err(refusal) => Either::Right(ready(Ok(refusal.into_response()))),
            });
        }
        let answer = self.required.access.gate().ask(&question);
        // The one that is ready is called; a copy takes its place.
        let copy = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, copy);
        let required = self.required.clone();
        let decided = async move {
            match required.admit(&mut head, answer.await) {
                Ok(()) => inner.call(Request::from_parts(head, body)).await,
                Err(refusal) => Ok(refusal.into_response()),
            }
        };
        Either::Right(decided.boxed())
    }
}
