//! A server that answers checks as a test says: the frames of a stream in order, each after the one before, as servers do.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Said;
use tessera_proto::v1::entitlement_service_server::{EntitlementService, EntitlementServiceServer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// What comes of the checks of a call or a frame; an error ends its stream.
pub(crate) type Answers = BoxFuture<'static, Result<Vec<Said>, Status>>;

/// Dropping it closes everything.
pub(crate) struct Scripted {
    pub(crate) endpoint: String,
    _tasks: JoinSet<()>,
}

struct Service<A>(A);

/// What a check is answered that is entitled.
pub(crate) fn entitled() -> Said {
    let reason = v1::Reason::GrantedByPlan.into();
    Said::Response(v1::CheckEntitlementResponse { entitled: true, reason, ..Default::default() })
}

impl Scripted {
    pub(crate) async fn start<A>(answer: A) -> Self
    where
        A: Fn(Vec<v1::CheckEntitlementRequest>) -> Answers + Clone + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(EntitlementServiceServer::new(Service(answer)));
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.unwrap() });
        Self { endpoint, _tasks: tasks }
    }
}

#[tonic::async_trait]
impl<A> EntitlementService for Service<A>
where
    A: Fn(Vec<v1::CheckEntitlementRequest>) -> Answers + Clone + Send + Sync + 'static,
{
    type StreamCheckEntitlementStream = BoxStream<'static, Result<v1::StreamCheckEntitlementResponse, Status>>;
    type WatchEntitlementsStream = BoxStream<'static, Result<v1::WatchEntitlementsResponse, Status>>;

    async fn check_entitlement(
        &self,
        request: Request<v1::CheckEntitlementRequest>,
    ) -> Result<Response<v1::CheckEntitlementResponse>, Status> {
        match (self.0)(vec![request.into_inner()]).await?.pop() {
            Some(Said::Response(response)) => Ok(Response::new(response)),
            other => Err(Status::internal(format!("{other:?}"))),
        }
    }

    async fn stream_check_entitlement(
        &self,
        request: Request<Streaming<v1::StreamCheckEntitlementRequest>>,
    ) -> Result<Response<Self::StreamCheckEntitlementStream>, Status> {
        let answer = self.0.clone();
        let answers = request.into_inner().then(move |frame| {
            let answer = answer.clone();
            async move {
                let frame = frame?;
                let results = answer(frame.checks).await?;
                let results = results.into_iter().map(|result| v1::CheckResult { result: Some(result) }).collect();
                Ok(v1::StreamCheckEntitlementResponse { id: frame.id, results, ..Default::default() })
            }
            .boxed()
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn batch_check_entitlement(
        &self,
        _: Request<v1::BatchCheckEntitlementRequest>,
    ) -> Result<Response<v1::BatchCheckEntitlementResponse>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn list_entitlements(
        &self,
        _: Request<v1::ListEntitlementsRequest>,
    ) -> Result<Response<v1::ListEntitlementsResponse>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn watch_entitlements(
        &self,
        _: Request<Streaming<v1::WatchEntitlementsRequest>>,
    ) -> Result<Response<Self::WatchEntitlementsStream>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
}
