//! What stands before the services: every call has its caller known and its scope looked at before anything of its message is
//! read. The services find the caller in the extensions of the request, as [`super::Principal`]. A call that lasts is looked at again
//! and again while it does ([`lasting`]).

mod lasting;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use tessera_core::access::Scope;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::{Service, http};

use super::authenticator::{Authenticator, Identified};
use super::{Refused, metric_definitions as metrics};
use crate::listener::{Peer, PeerCertificate};
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
    /// Whether the answer of the method at a path is a stream.
    pub is_stream: fn(&str) -> bool,
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
    /// Of all headers those that say who it is.
    authorization: http::HeaderMap,
    certificate: Option<Arc<PeerCertificate>>,
}

impl Shown {
    fn by(request: &http::Request<Body>, access: Access) -> Self {
        let values = request.headers().get_all(AUTHORIZATION).iter();
        let authorization = values.map(|value| (AUTHORIZATION, value.clone())).collect();
        Self { access, authorization, certificate: certificate(request).cloned() }
    }
}

impl Rules {
    /// The caller, if the call may be made; `None` where nobody is asked.
    fn admit(&self, access: Access, request: &http::Request<Body>) -> Result<Option<Identified>, Refused> {
        if access == Access::Open {
            return Ok(None);
        }
        let known = self.authenticator.identify(request.headers(), certificate(request).map(Arc::as_ref))?;
        allowed(access, known).map(Some)
    }

    /// As [`Self::admit`], where a key may have to be read first.
    async fn admit_later(&self, shown: &Shown) -> Result<Identified, Refused> {
        let known = self.authenticator.identify_with_new_keys(&shown.authorization, shown.certificate.as_deref()).await?;
        allowed(shown.access, known)
    }

    /// As [`Self::admit`], of what was shown before.
    fn admit_again(&self, shown: &Shown) -> Result<Identified, Refused> {
        allowed(shown.access, self.authenticator.identify(&shown.authorization, shown.certificate.as_deref())?)
    }

    /// Whether a call may last so long that its caller has to be looked at again. What stands beside our services may.
    fn may_last(&self, access: Access, path: &str) -> bool {
        access == Access::Known || (self.is_stream)(path)
    }

    fn refuse(&self, refused: &Refused) -> http::Response<Body> {
        metrics::refused(refused);
        (self.refusal)(refused).into_http()
    }
}

fn allowed(access: Access, known: Identified) -> Result<Identified, Refused> {
    match access {
        Access::Scope(scope) if !known.principal.may(scope) => Err(Refused::Lacking(scope)),
        Access::Scope(_) | Access::Known | Access::Open => Ok(known),
    }
}

fn certificate(request: &http::Request<Body>) -> Option<&Arc<PeerCertificate>> {
    request.extensions().get::<Peer>()?.certificate.as_ref()
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
        let access = (rules.access)(request.uri().path());
        match rules.admit(access, &request) {
            Ok(None) => Either::Left(self.inner.call(request)),
            Ok(Some(known)) => {
                let lasting = rules.may_last(access, request.uri().path());
                let lasting = lasting.then(|| (Arc::clone(rules), Shown::by(&request, access)));
                request.extensions_mut().insert(known.principal.clone());
                let answering = self.inner.call(request);
                match lasting {
                    None => Either::Left(answering),
                    Some((rules, shown)) => Either::Right(lasting::answer(answering, rules, shown, known).boxed()),
                }
            }
            Err(Refused::KeyUnknown) => {
                let (rules, mut inner, shown) = (Arc::clone(rules), self.inner.clone(), Shown::by(&request, access));
                let answering = async move {
                    match rules.admit_later(&shown).await {
                        Ok(known) => {
                            request.extensions_mut().insert(known.principal.clone());
                            std::future::poll_fn(|context| inner.poll_ready(context)).await?;
                            let may_last = rules.may_last(access, request.uri().path());
                            let answering = inner.call(request);
                            if may_last { lasting::answer(answering, rules, shown, known).await } else { answering.await }
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
