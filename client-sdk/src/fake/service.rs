//! The service of a fake: the five calls over [`State`](super::tenants::State), reached without a network.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use prost_types::Timestamp;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_server::{EntitlementService, EntitlementServiceServer};
use tessera_proto::v1::watch_entitlements_request::Action;
use tessera_proto::v1::watch_entitlements_response::Event;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{Service as _, StdError, http};
use tonic::{Request, Response, Status, Streaming};
use tonic_types::pb;

use super::Fake;
use super::error::unknown_tenant;

/// How often a watch says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A fake, called as a connection would be.
#[derive(Clone)]
pub(crate) struct InProcess(EntitlementServiceServer<Fake>);

/// One watch.
struct Watching {
    fake: Fake,
    input: Streaming<v1::WatchEntitlementsRequest>,
    input_ended: bool,
    /// Each with the tag of the document that was sent.
    subscriptions: BTreeMap<String, String>,
    refused: VecDeque<Event>,
    changes: watch::Receiver<u64>,
    breaks: watch::Receiver<u64>,
    ended: bool,
}

impl InProcess {
    pub(crate) fn of(fake: Fake) -> Self {
        Self(EntitlementServiceServer::new(fake))
    }

    pub(crate) fn answer(&self, request: http::Request<Body>) -> BoxFuture<'static, Result<http::Response<Body>, StdError>> {
        let mut service = self.0.clone();
        async move {
            let answer: Result<http::Response<Body>, Infallible> = service.call(request).await;
            answer.map_err(|never| match never {})
        }
        .boxed()
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl Fake {
    /// Fails as the test said.
    async fn scripted(&self) -> Result<(), Status> {
        let (delay, failure) = self.lock().take_call();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match failure {
            Some(error) => Err(error.happen().await),
            None => Ok(()),
        }
    }

    fn results(&self, checks: Vec<v1::CheckEntitlementRequest>, revisions: bool) -> Vec<v1::CheckResult> {
        let mut state = self.lock();
        let result = |check| match state.check(check) {
            Ok(mut response) => {
                if !revisions {
                    response.revision.clear();
                }
                v1::check_result::Result::Response(response)
            }
            Err(failure) => v1::check_result::Result::Error(failure.to_rpc_status()),
        };
        checks.into_iter().map(result).map(|result| v1::CheckResult { result: Some(result) }).collect()
    }

    async fn frame(
        self,
        frame: Result<v1::StreamCheckEntitlementRequest, Status>,
    ) -> Result<v1::StreamCheckEntitlementResponse, Status> {
        let frame = frame?;
        let mut answer = v1::StreamCheckEntitlementResponse { id: frame.id, ..Default::default() };
        self.scripted().await?;
        answer.results = self.results(frame.checks, frame.with_revisions);
        Ok(answer)
    }

    /// Completes when all streams are to end.
    async fn broken(self) {
        // An error is the end of the fake, which this very future prevents.
        let _ = self.0.breaks.subscribe().changed().await;
    }
}

#[tonic::async_trait]
impl EntitlementService for Fake {
    type StreamCheckEntitlementStream = BoxStream<'static, Result<v1::StreamCheckEntitlementResponse, Status>>;
    type WatchEntitlementsStream = BoxStream<'static, Result<v1::WatchEntitlementsResponse, Status>>;

    async fn check_entitlement(
        &self,
        request: Request<v1::CheckEntitlementRequest>,
    ) -> Result<Response<v1::CheckEntitlementResponse>, Status> {
        self.scripted().await?;
        Ok(Response::new(self.lock().check(request.into_inner())?))
    }

    async fn stream_check_entitlement(
        &self,
        request: Request<Streaming<v1::StreamCheckEntitlementRequest>>,
    ) -> Result<Response<Self::StreamCheckEntitlementStream>, Status> {
        let fake = self.clone();
        let answers = request.into_inner().then(move |frame| fake.clone().frame(frame));
        let end = self.clone().broken().map(|()| Err(Status::from(Failure::draining()))).into_stream();
        // What fails ends the stream, as it does on a wire.
        let mut ended = false;
        let both = futures::stream::select(answers.map(Some).chain(futures::stream::iter([None])), end.map(Some));
        let until_end = both.take_while(move |item| {
            let goes_on = item.is_some() && !ended;
            ended |= matches!(item, Some(Err(_)));
            futures::future::ready(goes_on)
        });
        Ok(Response::new(until_end.filter_map(futures::future::ready).boxed()))
    }

    async fn batch_check_entitlement(
        &self,
        request: Request<v1::BatchCheckEntitlementRequest>,
    ) -> Result<Response<v1::BatchCheckEntitlementResponse>, Status> {
        self.scripted().await?;
        let request = request.into_inner();
        self.lock().meet(request.consistency.as_ref())?;
        let evaluated_at = self.lock().now.map(Timestamp::from);
        let results = self.results(request.checks, request.with_revisions);
        Ok(Response::new(v1::BatchCheckEntitlementResponse { results, evaluated_at }))
    }

    async fn list_entitlements(
        &self,
        request: Request<v1::ListEntitlementsRequest>,
    ) -> Result<Response<v1::ListEntitlementsResponse>, Status> {
        self.scripted().await?;
        let request = request.into_inner();
        let state = self.lock();
        state.meet(request.consistency.as_ref())?;
        let document = state.document(&request.tenant_id).ok_or_else(|| unknown_tenant(&request.tenant_id))?;
        let not_modified = document.document_tag == request.if_document_tag_differs_from;
        Ok(Response::new(v1::ListEntitlementsResponse { document: (!not_modified).then_some(document), not_modified }))
    }

    async fn watch_entitlements(
        &self,
        request: Request<Streaming<v1::WatchEntitlementsRequest>>,
    ) -> Result<Response<Self::WatchEntitlementsStream>, Status> {
        self.scripted().await?;
        let watching = Watching {
            fake: self.clone(),
            input: request.into_inner(),
            input_ended: false,
            subscriptions: BTreeMap::new(),
            refused: VecDeque::new(),
            changes: self.0.changes.subscribe(),
            breaks: self.0.breaks.subscribe(),
            ended: false,
        };
        let events = futures::stream::unfold(watching, |mut watching| async move {
            let item = watching.next().await?;
            Some((item, watching))
        });
        Ok(Response::new(events.boxed()))
    }
}

impl Watching {
    async fn next(&mut self) -> Option<Result<v1::WatchEntitlementsResponse, Status>> {
        while !self.ended {
            if let Some(event) = self.look() {
                return Some(Ok(v1::WatchEntitlementsResponse { event: Some(event) }));
            }
            tokio::select! {
                biased;
                _ = self.breaks.changed() => {
                    self.ended = true;
                    return Some(Err(Failure::draining().into()));
                }
                read = self.input.message(), if !self.input_ended => match read {
                    Ok(Some(request)) => self.take_in(request),
                    Ok(None) => self.input_ended = true,
                    Err(status) => {
                        self.ended = true;
                        return Some(Err(status));
                    }
                },
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(HEARTBEAT) => {
                    let staleness_ms = self.fake.lock().staleness_ms();
                    let event = Event::Heartbeat(v1::Heartbeat { staleness_ms });
                    return Some(Ok(v1::WatchEntitlementsResponse { event: Some(event) }));
                }
            }
        }
        None
    }

    fn take_in(&mut self, request: v1::WatchEntitlementsRequest) {
        match request.action {
            Some(Action::Subscribe(v1::Subscribe { tenant_id, last_revision })) => {
                let reached = self.fake.lock().reached(&last_revision);
                match reached {
                    Ok(()) => drop(self.subscriptions.insert(tenant_id, String::new())),
                    Err(failure) => {
                        let error = v1::WatchError { tenant_id, status: Some(failure.to_rpc_status()) };
                        self.refused.push_back(Event::Error(error));
                    }
                }
            }
            Some(Action::Unsubscribe(unsubscribe)) => drop(self.subscriptions.remove(&unsubscribe.tenant_id)),
            None => {}
        }
    }

    /// The first subscription that has something new.
    fn look(&mut self) -> Option<Event> {
        let state = self.fake.lock();
        for (tenant_id, tag) in &mut self.subscriptions {
            match state.document(tenant_id) {
                Some(document) if document.document_tag == *tag => {}
                Some(document) => {
                    tag.clone_from(&document.document_tag);
                    return Some(Event::Document(document));
                }
                None => {
                    let tenant_id = tenant_id.clone();
                    drop(state);
                    self.subscriptions.remove(&tenant_id);
                    let status = pb::Status::decode(unknown_tenant(&tenant_id).details()).ok();
                    return Some(Event::Error(v1::WatchError { tenant_id, status }));
                }
            }
        }
        drop(state);
        self.refused.pop_front()
    }
}
