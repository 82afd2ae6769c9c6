//! Over real connections: health, reflection, many small frames.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_runtime::listener::{ListenerConfig, bind, serve};
use tessera_server::Config;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::bench::{Bench, check, refused, without_scan};
use crate::universe::latest;

async fn listen(bench: &Bench) -> SocketAddr {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (services, shutdown) = (bench.services.clone(), bench.tasks.shutdown());
    // What is asked at a time here takes longer in a build that is not optimized than anybody should wait.
    let patient = ListenerConfig { wait_target_ms: 1_000, ..ListenerConfig::default() };
    bench.tasks.spawn("test.listener", async move { serve(listener, services, &patient, shutdown).await });
    address
}

async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn health(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    let HealthCheckResponse { status } = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
    ServingStatus::try_from(status).unwrap()
}

#[tokio::test]
async fn health_says_serving_from_loaded_until_draining() {
    let bench = Bench::not_loaded(Config::default());
    bench.store.faults().fail_next(tessera_ports::memory::Operation::Identity, 2);
    let channel = connect(listen(&bench).await).await;
    for service in ["", "tessera.v1.EntitlementService"] {
        assert_eq!(health(&channel, service).await, ServingStatus::NotServing);
    }
    bench.handle.loaded().await;
    while health(&channel, "").await != ServingStatus::Serving {}
    while health(&channel, "tessera.v1.EntitlementService").await != ServingStatus::Serving {}

    let request = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(channel).watch(request).await.unwrap().into_inner();
    let mut next = async || watch.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::Serving);
    bench.tasks.shutdown().drain();
    assert_eq!(next().await, ServingStatus::NotServing);
}

async fn reflect(channel: &Channel, request: MessageRequest) -> Result<MessageResponse, tonic::Status> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await?.into_inner();
    let answers: Vec<ServerReflectionResponse> = answers.collect::<Result<_, _>>().await?;
    Ok(answers[0].message_response.clone().unwrap())
}

#[tokio::test]
async fn reflection_knows_the_service_and_the_error_details() {
    let bench = Bench::usual().await;
    let channel = connect(listen(&bench).await).await;
    let listed = reflect(&channel, MessageRequest::ListServices(String::new())).await.unwrap();
    let MessageResponse::ListServicesResponse(services) = listed else { panic!("{listed:?}") };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"tessera.v1.EntitlementService") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    for symbol in ["tessera.storage.v1.Event", "tessera.storage.v1.State"] {
        let hidden = reflect(&channel, MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
        assert!(!matches!(hidden, Ok(MessageResponse::FileDescriptorResponse(_))), "{symbol} is shown");
    }
    for symbol in ["tessera.v1.EntitlementService", "google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"] {
        let found = reflect(&channel, MessageRequest::FileContainingSymbol(symbol.to_owned())).await.unwrap();
        assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{symbol}: {found:?}");
    }
}

#[tokio::test]
async fn thousands_of_small_frames_under_way_do_not_end_the_connection() {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    let mut client = EntitlementServiceClient::new(connect(listen(&bench).await).await);
    let frames = (1..=5_000).map(|id| v1::StreamCheckEntitlementRequest {
        id,
        checks: vec![check("acme", "reports", "view")],
        ..Default::default()
    });
    let answers = client.stream_check_entitlement(tokio_stream::iter(frames)).await.unwrap().into_inner();
    let ids: Vec<u64> = answers.map(|answer| answer.unwrap().id).collect().await;
    assert_eq!(ids, (1..=5_000).collect::<Vec<_>>());

    let calls = (0..2_000).map(|_| {
        let mut client = client.clone();
        async move { client.check_entitlement(check("acme", "reports", "view")).await.unwrap().into_inner().entitled }
    });
    let entitled = tokio::time::timeout(Duration::from_mins(1), futures::future::join_all(calls)).await.unwrap();
    assert!(entitled.into_iter().all(|entitled| entitled));
}

#[tokio::test]
async fn a_batch_of_ten_thousand_fits() {
    let mut bench = Bench::with(without_scan()).await;
    let created = bench.universe.create("acme", latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    let mut client = EntitlementServiceClient::new(connect(listen(&bench).await).await);
    let checks = vec![check("acme", "reports", "view"); 10_000];
    let request = v1::BatchCheckEntitlementRequest { checks, ..Default::default() };
    assert!(request.encoded_len() < 2 << 20);
    let answer = client.batch_check_entitlement(request).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 10_000);
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let bench = Bench::usual().await;
    let channel = connect(listen(&bench).await).await;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/tessera.v1.EntitlementService/Nothing");
    let codec = tonic_prost::ProstCodec::<v1::CheckEntitlementRequest, v1::CheckEntitlementResponse>::default();
    let request = tonic::Request::new(check("acme", "reports", "view"));
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

/// A refusal that does not wait for the message overtakes it: the caller must see the status, not a broken stream.
#[tokio::test]
async fn refusals_before_the_message_arrive_over_connections() {
    let bench = Bench::not_loaded(Config::default());
    bench.store.faults().fail_next(tessera_ports::memory::Operation::Identity, u32::MAX);
    let client = EntitlementServiceClient::new(connect(listen(&bench).await).await);
    let checks = vec![check("acme", "reports", "view"); 1_000];
    for round in 0..20 {
        let calls = (0..20).map(|_| {
            let mut client = client.clone();
            let checks = checks.clone();
            async move {
                let request = v1::BatchCheckEntitlementRequest { checks: checks.clone(), ..Default::default() };
                let batch = client.batch_check_entitlement(request).await.map(drop);
                let frame = v1::StreamCheckEntitlementRequest { checks, ..Default::default() };
                let frames = tokio_stream::iter(vec![frame; 3]);
                [batch, client.stream_check_entitlement(frames).await.map(drop)]
            }
        });
        for result in futures::future::join_all(calls).await.into_iter().flatten() {
            assert_eq!(refused(result), (tonic::Code::Unavailable, "NOT_READY".to_owned()), "round {round}");
        }
    }
}
