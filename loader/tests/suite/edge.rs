//! What every call has: request ids in metadata, retries, deadlines, draining, health, reflection.

use std::time::Duration;

use futures::StreamExt as _;
use tessera_core::stream::StreamKind;
use tessera_ports::memory::{AppendFault, Operation};
use tessera_proto::v1;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;
use tonic_types::StatusExt as _;

use crate::bench::{Bench, create, stream};
use crate::rig::{Rig, create_tenant, fields, refused};

#[tokio::test]
async fn answers_and_errors_carry_the_request_id() {
    let mut rig = Rig::furnished().await;
    let asked = v1::CreateTenantRequest { request_id: "mine".to_owned(), ..create_tenant("acme") };
    let answer = rig.tenants.create_tenant(asked).await.unwrap();
    assert_eq!(answer.metadata().get("tessera-request-id").unwrap(), "mine");
    let asked = v1::CreateTenantRequest { request_id: "other".to_owned(), ..create_tenant("acme") };
    let status = rig.tenants.create_tenant(asked).await.unwrap_err();
    assert_eq!(status.metadata().get("tessera-request-id").unwrap(), "other");
    let status = rig.tenants.create_tenant(create_tenant("Bad Id")).await.unwrap_err();
    assert!(status.metadata().get("tessera-request-id").is_some());
    let asked = v1::CreateTenantRequest { request_id: "ü".to_owned(), ..create_tenant("acme") };
    assert_eq!(fields(rig.tenants.create_tenant(asked).await), ["request_id"]);
}

#[tokio::test]
async fn a_retry_says_so_in_metadata() {
    let mut rig = Rig::furnished().await;
    for (name, value, events) in [("tessera-retry", "1", 1), ("grpc-previous-rpc-attempts", "2", 2), ("tessera-retry", "0", 2)] {
        let mut asked = Request::new(v1::DeleteTenantRequest { tenant_id: "acme".to_owned(), ..Default::default() });
        asked.metadata_mut().insert(name, value.parse().unwrap());
        assert_eq!(refused(rig.tenants.delete_tenant(asked).await), (Code::NotFound, "TENANT_NOT_FOUND".to_owned()));
        assert_eq!(rig.bench.stored("acme").1, events);
    }
}

#[tokio::test]
async fn deadlines_are_kept_and_say_what_is_known() {
    let mut rig = Rig::furnished().await;
    let faults = rig.bench.store.inner.faults();
    for _ in 0..1_000 {
        faults.next_append(AppendFault::UnknownNotApplied);
    }
    let mut asked = Request::new(v1::CreateTenantRequest { request_id: "r1".to_owned(), ..create_tenant("acme") });
    asked.set_timeout(Duration::from_millis(300));
    let status = rig.tenants.create_tenant(asked).await.unwrap_err();
    assert_eq!(status.metadata().get("tessera-request-id").unwrap(), "r1");
    assert_eq!(status.get_details_error_info().unwrap().metadata["request_id"], "r1");
    assert_eq!(refused(Err::<(), _>(status)), (Code::Aborted, "OUTCOME_UNKNOWN".to_owned()));
    faults.calm();

    faults.fail_next(Operation::Read, u32::MAX);
    let mut asked = Request::new(create_tenant("globex"));
    asked.set_timeout(Duration::from_millis(300));
    let status = rig.tenants.create_tenant(asked).await.unwrap_err();
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(refused(Err::<(), _>(status)), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
    let get = v1::GetTenantRequest { tenant_id: "acme".to_owned(), show_deleted: false };
    assert_eq!(refused(rig.tenants.get_tenant(get.clone()).await), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
    faults.calm();

    let late = |mut request: Request<_>| {
        request.metadata_mut().insert("grpc-timeout", "0n".parse().unwrap());
        request
    };
    // The listener may answer first, without our ErrorInfo: then the outcome is as unknown.
    let status = rig.tenants.get_tenant(late(Request::new(get))).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    rig.bench.store.inner.faults().disk_full(true);
    assert_eq!(
        refused(rig.tenants.create_tenant(create_tenant("initech")).await),
        (Code::ResourceExhausted, "DISK_FULL".to_owned())
    );
    rig.bench.store.inner.faults().damage(stream("hooli"));
    assert_eq!(refused(rig.tenants.create_tenant(create_tenant("hooli")).await), (Code::Internal, "INTERNAL".to_owned()));
}

#[tokio::test]
async fn health_follows_the_store_and_draining() {
    let rig = Rig::new().await;
    let mut health = HealthClient::new(rig.channel.clone());
    let mut watch = health
        .watch(tonic_health::pb::HealthCheckRequest { service: "tessera.v1.TenantService".to_owned() })
        .await
        .unwrap()
        .into_inner();
    while watch.next().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    assert_eq!(rig.handle.ready(), Ok(Vec::new()));
    rig.bench.tasks.shutdown().drain();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(rig.handle.ready().is_err());
}

#[tokio::test]
async fn a_store_that_never_answered_is_not_served() {
    let bench = Bench::new();
    bench.store.inner.faults().fail_next(Operation::Identity, u32::MAX);
    let rig = Rig::over(bench).await;
    let mut health = HealthClient::new(rig.channel.clone());
    let check = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let mut watch = health.watch(check).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(rig.handle.ready(), Err(vec!["the store has not answered yet".to_owned()]));
    rig.bench.store.inner.faults().calm();
    while watch.next().await.unwrap().unwrap().status() != ServingStatus::Serving {}
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    let rig = Rig::new().await;
    let mut names = Vec::new();
    let list =
        || ServerReflectionRequest { message_request: Some(MessageRequest::ListServices(String::new())), ..Default::default() };
    let mut answers = ServerReflectionClient::new(rig.channel.clone())
        .server_reflection_info(futures::stream::iter([list()]))
        .await
        .unwrap()
        .into_inner();
    if let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await.unwrap().unwrap().message_response {
        names.extend(list.service.into_iter().map(|service| service.name));
    }
    names.sort();
    for name in ["AddOnService", "AuditService", "CatalogService", "PlanService", "TenantService"] {
        assert!(names.contains(&format!("tessera.v1.{name}")), "{names:?}");
    }
    assert!(!names.contains(&"tessera.v1.EntitlementService".to_owned()), "{names:?}");
    let file = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "google.rpc.ErrorInfo".to_owned(),
        )),
        ..Default::default()
    };
    let mut answers = v1alpha::server_reflection_client::ServerReflectionClient::new(rig.channel.clone())
        .server_reflection_info(futures::stream::iter([file]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(
        matches!(answer, v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)),
        "error details can be read by reflection: {answer:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_digest_names_no_tenant_and_changes_with_every_change() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    let before = loader.digest().await.unwrap();
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let after = loader.digest().await.unwrap();
    assert_ne!(before["digest"], after["digest"]);
    assert_eq!((&after["epoch"], &after["streams"]["tenant"], &after["streams"]["plan"]), (&1.into(), &1.into(), &2.into()));
    assert!(!after.to_string().contains("acme"));
    assert_eq!(StreamKind::ALL.len(), after["streams"].as_object().unwrap().len());
}
