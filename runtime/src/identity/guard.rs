//! What stands before the services: every call has its caller known and its scope looked at before anything of its message is
//! read. The services find the caller in the extensions of the request, as [`Principal`].

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use tessera_core::access::Scope;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use super::authenticator::Authenticator;
use super::{Principal, Refused, metric_definitions as metrics};
use crate::listener::Peer;
use crate::overload::HEALTH;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody: it tells nothing of any tenant or plan.
    Open,
    /// Whoever is known.
    Known,
    /// Whoever has that scope.
    Scope(Scope),
}

impl Access {
    /// To what every listener has beside the services of Tessera: health for everybody, all else (reflection) for the known.
    pub fn beside_ours(path: &str) -> Self {
        if path.starts_with(HEALTH) { Self::Open } else { Self::Known }
    }
}

/// What a guard goes by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who callers are.
    pub authenticator: Arc<Authenticator>,
    /// Who may call the method at a path. What it does not know nobody should be let in to.
    pub access: fn(&str) -> Access,
    /// What whoever is refused hears.
    pub refusal: fn(&Refused) -> Status,
}

/// A service with a guard before it, or, without rules, as it is. Cheap to clone if the service is.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    rules: Option<Arc<Rules>>,
}

impl<S> Guarded<S> {
    /// Puts a guard before `inner`; without rules everybody is let in and nobody is known.
    pub fn new(inner: S, rules: Option<Rules>) -> Self {
        Self { inner, rules: rules.map(Arc::new) }
    }
}

/// What a call shows of its caller.
#[derive(Debug)]
struct Shown {
    access: Access,
    headers: http::HeaderMap,
    workload: Option<String>,
}

impl Rules {
    /// The caller, if the call may be made; `None` where nobody is asked.
    fn admit(&self, request: &http::Request<Body>) -> Result<Option<Principal>, Refused> {
        let access = (self.access)(request.uri().path());
        if access == Access::Open {
            return Ok(None);
        }
        let principal = self.authenticator.identify(request.headers(), workload(request))?;
        allowed(access, principal).map(Some)
    }

    /// As [`Self::admit`], where a key may have to be read first.
    async fn admit_later(&self, shown: Shown) -> Result<Principal, Refused> {
        let principal = self.authenticator.identify_with_new_keys(&shown.headers, shown.workload.as_deref()).await?;
        allowed(shown.access, principal)
    }

    fn shown(&self, request: &http::Request<Body>) -> Shown {
        let access = (self.access)(request.uri().path());
        Shown { access, headers: request.headers().clone(), workload: workload(request).map(str::to_owned) }
    }

    fn refuse(&self, refused: &Refused) -> http::Response<Body> {
        metrics::refused(refused);
        (self.refusal)(refused).into_http()
    }
}

fn allowed(access: Access, principal: Principal) -> Result<Principal, Refused> {
    match access {
        Access::Scope(scope) if !principal.may(scope) => Err(Refused::Lacking(scope)),
        Access::Scope(_) | Access::Known | Access::Open => Ok(principal),
    }
}

fn workload(request: &http::Request<Body>) -> Option<&str> {
    request.extensions().get::<Peer>()?.certificate.as_ref()?.spiffe_id.as_deref()
}

type Answering = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Answering>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some(rules) = &self.rules else { return Either::Left(self.inner.call(request)) };
        match rules.admit(&request) {
            Ok(None) => Either::Left(self.inner.call(request)),
            Ok(Some(principal)) => {
                request.extensions_mut().insert(principal);
                Either::Left(self.inner.call(request))
            }
            Err(Refused::KeyUnknown) => {
                let (rules, mut inner, shown) = (Arc::clone(rules), self.inner.clone(), rules.shown(&request));
                let answering = async move {
                    match rules.admit_later(shown).await {
                        Ok(principal) => {
                            request.extensions_mut().insert(principal);
                            std::future::poll_fn(|context| inner.poll_ready(context)).await?;
                            inner.call(request).await
                        }
                        Err(refused) => Ok(rules.refuse(&refused)),
                    }
                };
                Either::Right(answering.boxed())
            }
            Err(refused) => {
                let response = rules.refuse(&refused);
                Either::Right(async { Ok(response) }.boxed())
            }
        }
    }
}

#[cfg(test)]
mod tests;
