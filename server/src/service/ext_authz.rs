//! `envoy.service.auth.v3.Authorization/Check`: a decision for a request that an Envoy holds.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_proto::convert::decision as convert;
use tessera_proto::status::Failure;
use tessera_runtime::telemetry::traces;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::UnaryService;
use tonic::{Request, Response, Status};

use super::Entitlements;
use super::server::{Call, Counted, unary};
use crate::consistency::Caller;
use crate::decide::{Check, Moment, Wants, decide};
use crate::ext_authz::answer::{self, About};
use crate::ext_authz::rules::{Denial, NoQuestion, Rules};
use crate::metric_definitions::{CheckCounters, Metrics, Mode};
use crate::wire::codec::Encoded;

/// The full name of the service.
pub(crate) const NAME: &str = "envoy.service.auth.v3.Authorization";
/// Its one method.
pub(crate) const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
/// First size of an answer, in bytes: most fit.
const ANSWER_BYTES: usize = 1_024;

/// Serves the calls of Envoys. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ExtAuthzServer {
    service: Entitlements,
    rules: Arc<Rules>,
}

impl ExtAuthzServer {
    pub(crate) fn new(service: Entitlements, rules: Rules) -> Self {
        Self { service, rules: Arc::new(rules) }
    }
}

impl Service<http::Request<Body>> for ExtAuthzServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == METHOD {
            let rules = Arc::clone(&self.rules);
            return unary(self.service.clone(), request, |call| Authorize { call, rules });
        }
        async { Ok(Status::unimplemented("there is no such method").into_http()) }.boxed()
    }
}

struct Authorize {
    call: Call,
    rules: Arc<Rules>,
}

impl Counted for Authorize {
    fn counters(metrics: &Metrics) -> Option<&CheckCounters> {
        Some(&metrics.ext_authz)
    }
}

impl UnaryService<Encoded> for Authorize {
    type Response = Encoded;
    type Future = std::future::Ready<Result<Response<Encoded>, Status>>;

    fn call(&mut self, request: Request<Encoded>) -> Self::Future {
        let caller = self.call.caller(&request);
        let answer = self.call.service.authorize(&self.rules, &request.into_inner(), &caller);
        std::future::ready(answer.map(Response::new).map_err(Status::from))
    }
}

impl Entitlements {
    /// Judges a request. What a client behind an Envoy writes never makes it fail; asking too often does, where there are buckets.
    fn authorize(&self, rules: &Rules, message: &Encoded, caller: &Caller) -> Result<Encoded, Failure> {
        let counters = &self.0.shared.metrics.ext_authz;
        let began = counters.request();
        let answer = self.authorized(rules, message, caller);
        counters.answered(began);
        answer.inspect_err(|failure| counters.error(failure.reason()))
    }

    fn authorized(&self, rules: &Rules, message: &Encoded, caller: &Caller) -> Result<Encoded, Failure> {
        let shared = &self.0.shared;
        let mut out = Vec::with_capacity(ANSWER_BYTES);
        let log = shared.decision_log.of(Mode::ExtAuthz, rules.dry_run());
        let refuse = |mut out: Vec<u8>, denial: Denial| {
            Metrics::ext_authz_refused(denial.name());
            if let Some(log) = &log {
                log.refused(shared.evaluation.now(), denial.name());
            }
            answer::refused(&mut out, denial, rules.dry_run());
            Ok(out.into())
        };
        let mut path = String::new();
        let asked = match rules.question(message, &mut path) {
            Ok(asked) => asked,
            Err(NoQuestion::Denied(denial)) => return refuse(out, denial),
            Err(NoQuestion::Malformed) => {
                return Err(Failure::invalid_field("request", "the bytes are not a CheckRequest of Envoy"));
            }
        };
        // What is wrong with a name was written by a client.
        let Ok(query) = convert::query(&asked) else { return refuse(out, Denial::NameInvalid) };
        let wants = Wants { revision: true, ..Wants::default() };
        self.0.limits.charge_caller(caller, 1)?;
        self.0.limits.charge_tenant(caller, asked.tenant_id, 1)?;
        let hidden = !caller.sees(asked.tenant_id);
        let check = Check { tenant: asked.tenant_id, query, wants, unchecked: None, hidden, log };
        traces::note_tenant(asked.tenant_id);
        let about = About { tenant: asked.tenant_id, service: asked.service, feature: asked.feature };
        let moment = Moment::of(shared);
        let mut revision = Vec::with_capacity(64);
        let (reason, ()) = decide(&shared.matrix(), &check, &moment, &mut revision, |decided| {
            answer::decided(&mut out, &about, decided, rules.dry_run());
        })?;
        shared.metrics.ext_authz.one(reason);
        Ok(out.into())
    }
}
