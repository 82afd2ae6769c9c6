//! The services of a data plane as one: whose method a call is, its path says. Those that are called all the time are found by the
//! beginning of the path, which costs nothing beside axum's router with its boxes and its extracted parameters: a tenth of a check.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Either};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::service::Routes;

use super::ext_authz::{self, ExtAuthzServer};
use super::server::{self, EntitlementServer};

/// Everything that a data plane answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    entitlements: EntitlementServer,
    /// For Envoys, where there are settings for them.
    authorization: Option<ExtAuthzServer>,
    /// Health and reflection; also says of everything unknown that there is no such method.
    others: Routes,
}

impl Services {
    pub(crate) fn new(entitlements: EntitlementServer, authorization: Option<ExtAuthzServer>, others: Routes) -> Self {
        Self { entitlements, authorization, others: others.prepare() }
    }
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future =
        Either<BoxFuture<'static, Result<Self::Response, Infallible>>, <Routes as Service<http::Request<Body>>>::Future>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // All of them always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        match &mut self.authorization {
            _ if is_of(path, server::NAME) => Either::Left(self.entitlements.call(request)),
            Some(authorization) if is_of(path, ext_authz::NAME) => Either::Left(authorization.call(request)),
            _ => Either::Right(self.others.call(request)),
        }
    }
}

/// Whether the path is of a method of that service.
fn is_of(path: &str, service: &str) -> bool {
    let method = path.strip_prefix('/').and_then(|path| path.strip_prefix(service));
    method.is_some_and(|method| method.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_paths_below_its_name_and_no_others() {
        for (path, is) in [("/a.B/C", true), ("/a.B/", true), ("/a.B", false), ("/a.BC/D", false), ("a.B/C", false), ("/", false)]
        {
            assert_eq!(is_of(path, "a.B"), is, "{path}");
        }
    }
}
