//! The bare twin of the server: the same proto, listener, runtime and allocator, and what tonic generates. It answers every
//! check with what it was told on its command line, and so tells what everything but deciding costs.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_server::{EntitlementService, EntitlementServiceServer};
use tessera_runtime::lifecycle::{Signals, Tasks};
use tessera_runtime::listener::{self, ListenerConfig};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is said.
struct Echo {
    alone: v1::CheckEntitlementResponse,
    among_many: v1::CheckResult,
}

/// What is said to an Envoy.
struct EnvoyEcho(CheckResponse);

#[tonic::async_trait]
impl Authorization for EnvoyEcho {
    async fn check(&self, _request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EntitlementService for Echo {
    async fn check_entitlement(
        &self,
        _request: Request<v1::CheckEntitlementRequest>,
    ) -> Result<Response<v1::CheckEntitlementResponse>, Status> {
        Ok(Response::new(self.alone.clone()))
    }

    type StreamCheckEntitlementStream = Answers<v1::StreamCheckEntitlementResponse>;

    async fn stream_check_entitlement(
        &self,
        request: Request<Streaming<v1::StreamCheckEntitlementRequest>>,
    ) -> Result<Response<Self::StreamCheckEntitlementStream>, Status> {
        let said = self.among_many.clone();
        let answers = request.into_inner().map(move |frame| {
            let frame = frame?;
            let results = vec![said.clone(); frame.checks.len()];
            Ok(v1::StreamCheckEntitlementResponse { id: frame.id, results, frame_error: None })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn batch_check_entitlement(
        &self,
        request: Request<v1::BatchCheckEntitlementRequest>,
    ) -> Result<Response<v1::BatchCheckEntitlementResponse>, Status> {
        let results = vec![self.among_many.clone(); request.into_inner().checks.len()];
        Ok(Response::new(v1::BatchCheckEntitlementResponse { results, evaluated_at: self.alone.evaluated_at }))
    }

    async fn list_entitlements(
        &self,
        _request: Request<v1::ListEntitlementsRequest>,
    ) -> Result<Response<v1::ListEntitlementsResponse>, Status> {
        Err(Status::unimplemented("the twin knows checks alone"))
    }

    type WatchEntitlementsStream = Answers<v1::WatchEntitlementsResponse>;

    async fn watch_entitlements(
        &self,
        _request: Request<Streaming<v1::WatchEntitlementsRequest>>,
    ) -> Result<Response<Self::WatchEntitlementsStream>, Status> {
        Err(Status::unimplemented("the twin knows checks alone"))
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let mut answer = || -> anyhow::Result<Vec<u8>> {
        Ok(STANDARD.decode(arguments.next().context("usage: echo-twin ANSWER ANSWER_AMONG_MANY ANSWER_TO_ENVOY, in base64")?)?)
    };
    let alone = v1::CheckEntitlementResponse::decode(&*answer()?)?;
    let among_many = v1::CheckEntitlementResponse::decode(&*answer()?)?;
    let among_many = v1::CheckResult { result: Some(v1::check_result::Result::Response(among_many)) };
    let held = EnvoyEcho(CheckResponse::decode(&*answer()?)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(Echo { alone, among_many }, held))
}

async fn serve(echo: Echo, held: EnvoyEcho) -> anyhow::Result<ExitCode> {
    let (tasks, signals) = (Tasks::new(), Signals::of_process()?);
    let listener = listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("{}", serde_json::json!({ "data": listener.local_addr()?.to_string() }));
    let routes = Routes::new(EntitlementServiceServer::new(echo)).add_service(AuthorizationServer::new(held)).prepare();
    let shutdown = tasks.shutdown();
    tasks.spawn("calls.listener", async move {
        // It is asked for as much as there is time for, at times by a tool that makes everything wait.
        let config = ListenerConfig { wait_target_ms: 1_000, ..ListenerConfig::default() };
        listener::serve_on_threads(listener, routes, &config, NonZeroUsize::MIN, shutdown).await
    });
    Ok(tasks.run_until_stopped(signals).await.into())
}
