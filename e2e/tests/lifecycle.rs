//! A process from its start to its end: addresses, readiness, health, pages, draining, exit code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use rustix::process::Signal;
use tessera_e2e::commands::{Change, Command, Ledger};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Launch, Planes, shop};
use tessera_proto::v1;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_types::StatusExt as _;

const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_exits_0_and_loses_no_acknowledged_write() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;

    let stopping = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_until_refused(planes.clone(), writer, Arc::clone(&stopping)));
    }
    let first_writes = eventually("writes of every writer", async || {
        let tenants = planes.all_tenants().await?.len();
        anyhow::ensure!(tenants >= 3 * WRITERS, "{tenants} tenants");
        Ok(())
    });
    first_writes.await?;
    stopping.store(true, Ordering::SeqCst);
    dev.signal(Signal::TERM)?;

    let mut ledger = Ledger::default();
    let mut unknown = Vec::new();
    for (written, pending) in writers.join_all().await {
        ledger.append(written);
        unknown.push(pending);
    }
    dev.finished_well()?;
    assert!(ledger.len() >= 3 * WRITERS);

    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    for command in unknown {
        let answer = command.send(&planes, true).await.with_context(|| format!("send {command:?} again"))?;
        ledger.note(command, answer);
    }
    ledger.check_streams(&planes).await?;
    ledger.check_replays(&planes, 4 * WRITERS).await?;
    planes.verify_audit().await?;
    dev.stop()
}

/// Creates one tenant after the other until the process does not want more; ends with the refused or unanswered command.
async fn write_until_refused(planes: Planes, writer: usize, stopping: Arc<AtomicBool>) -> (Ledger, Command) {
    let mut ledger = Ledger::default();
    let mut number = 0;
    loop {
        let name = format!("load-{writer}-{number}");
        number += 1;
        let command = Command { tenant: name.clone(), request_id: name, change: Change::Create };
        match command.send(&planes, false).await {
            Ok(answer) => ledger.note(command, answer),
            Err(status) => {
                assert!(stopping.load(Ordering::SeqCst), "refused before it was asked to stop: {status:?}");
                return (ledger, command);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_turns_not_serving_before_anything_closes_and_streams_end() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;

    let mut watches = Vec::new();
    for channel in [&planes.data, &planes.control] {
        let request = HealthCheckRequest { service: String::new() };
        let mut watch = HealthClient::new(channel.clone()).watch(request).await?.into_inner();
        let now = watch.next().await.context("a first health status")??.status();
        assert_eq!(now, ServingStatus::Serving);
        watches.push(watch);
    }
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut checks = planes.entitlements().stream_check_entitlement(outgoing).await?.into_inner();
    requests.send(v1::StreamCheckEntitlementRequest { id: 7, ..Default::default() }).await?;
    assert_eq!(checks.next().await.context("an answer")??.id, 7);

    dev.signal(Signal::TERM)?;
    for mut watch in watches {
        let next = watch.next().await.context("a health status while draining")??.status();
        assert_eq!(next, ServingStatus::NotServing);
    }
    // The stream ends although this side could go on.
    let rest = checks.next().await;
    assert!(!matches!(rest, Some(Ok(_))), "an answer nobody asked for: {rest:?}");
    drop(requests);
    dev.finished_well()
}

/// Balancers take a while to notice that it drains: until then whoever has a connection is served as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_drain_delay_is_over_calls_and_streams_are_served_on_both_planes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.env("TESSERA_LISTENER__DRAIN_DELAY_S", "10").ready().await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    let open = async || {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let answers = planes.entitlements().stream_check_entitlement(outgoing).await?.into_inner();
        anyhow::Ok((requests, answers))
    };
    let mut streams = vec![open().await?];

    dev.signal(Signal::TERM)?;
    assert!(dev.readiness(503).await?.contains("draining"));
    let create = Command { tenant: "late".into(), request_id: "late".into(), change: Change::Create };
    create.send(&planes, false).await?;
    assert!(planes.check("late", shop::SERVICE, shop::FEATURE).await?.entitled, "it was published");
    assert_eq!(planes.all_tenants().await?.len(), 1);
    streams.push(open().await?);
    for (requests, answers) in &mut streams {
        requests.send(v1::StreamCheckEntitlementRequest { id: 7, ..Default::default() }).await?;
        assert_eq!(answers.next().await.context("an answer")??.id, 7);
    }
    for (_requests, answers) in &mut streams {
        let end = answers.next().await.context("how it ends")?.err().context("an answer nobody asked for")?;
        assert_eq!(end.get_details_error_info().map(|info| info.reason).as_deref(), Some("DRAINING"), "{end:?}");
    }
    drop(streams);
    dev.finished_well()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_is_healthy_by_name_and_described() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    let of_data: &[&str] = &["tessera.v1.EntitlementService"];
    let of_control: &[&str] = &["PlanService", "AddOnService", "CatalogService", "TenantService", "AuditService"];
    let of_control: Vec<String> = of_control.iter().map(|name| format!("tessera.v1.{name}")).collect();
    let named = of_data.iter().map(|name| (&planes.data, (*name).to_owned()));
    for (channel, service) in named.chain(of_control.into_iter().map(|name| (&planes.control, name))) {
        let answer = HealthClient::new(channel.clone()).check(HealthCheckRequest { service: service.clone() }).await;
        assert_eq!(answer.with_context(|| service.clone())?.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    dev.stop()
}

/// A stream of a service that is not ours, with its questions' half open.
async fn open_reflection(channel: Channel) -> anyhow::Result<tonic::Streaming<ServerReflectionResponse>> {
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let list = ServerReflectionRequest { host: String::new(), message_request };
    let asks = tokio_stream::once(list).chain(tokio_stream::pending());
    let mut answers = ServerReflectionClient::new(channel).server_reflection_info(asks).await?.into_inner();
    answers.next().await.context("an answer")??;
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_with_a_code_of_its_own() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    // What would hold up the end.
    let _open = open_reflection(dev.planes().await?.data).await?;
    dev.signal(Signal::TERM)?;
    // Two of one kind may be told as one.
    dev.signal(Signal::INT)?;
    assert_eq!(dev.ended()?.code(), Some(4));
    Launch::over(folder.path())?.ready().await?.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_ours_and_stays_open_holds_up_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    let mut open = Vec::new();
    for channel in [planes.data, planes.control] {
        open.push(open_reflection(channel).await?);
    }
    dev.signal(Signal::TERM)?;
    for answers in &mut open {
        // Its service may end it first, in order, since its questions end.
        if let Some(last) = answers.next().await {
            let end = last.err().context("an answer nobody asked for")?;
            assert_eq!(end.get_details_error_info().map(|info| info.reason).as_deref(), Some("CONNECTION_ENDS"), "{end:?}");
        }
    }
    // With the questions' half still open.
    dev.finished_well()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_connection_that_is_old_end_by_name_and_the_next_one_serves() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let launch = Launch::over(folder.path())?.env("TESSERA_LISTENER__AGE_MAX_S", "10").env("TESSERA_LISTENER__AGE_GRACE_S", "1");
    let dev = launch.ready().await?;
    let planes = dev.planes().await?;
    let lives = async |channel: &Channel| {
        let whole = HealthCheckRequest { service: String::new() };
        let mut watch = HealthClient::new(channel.clone()).watch(whole.clone()).await?.into_inner();
        assert_eq!(watch.next().await.context("a first health status")??.status(), ServingStatus::Serving);
        let end = watch.next().await.context("how it ends")?.err().context("a status that nothing changed")?;
        assert_eq!(end.code(), tonic::Code::Unavailable, "{end:?}");
        assert_eq!(end.get_details_error_info().map(|info| info.reason).as_deref(), Some("CONNECTION_ENDS"), "{end:?}");
        assert!(end.get_details_retry_info().is_some(), "{end:?}");
        // A channel connects again by itself, once it has noticed.
        let again = eventually("the next connection", async || {
            Ok(HealthClient::new(channel.clone()).check(whole.clone()).await?.into_inner().status())
        });
        assert_eq!(again.await?, ServingStatus::Serving);
        anyhow::Ok(())
    };
    tokio::try_join!(lives(&planes.data), lives(&planes.control))?;
    dev.stop()
}

/// What one version of the reflection protocol answers to "list services", from one plane.
macro_rules! listed {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$version::{ServerReflectionRequest, ServerReflectionResponse};
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let mut client = ServerReflectionClient::new($channel.clone());
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
        let answer: ServerReflectionResponse = answers.next().await.context("an answer")??;
        match answer.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|service| service.name).collect(),
            other => anyhow::bail!("an answer to something else: {other:?}"),
        }
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_reflection_list_the_same() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    for (channel, service) in [(&planes.data, "tessera.v1.EntitlementService"), (&planes.control, "tessera.v1.TenantService")] {
        let newer: Vec<String> = listed!(v1, channel);
        let older: Vec<String> = listed!(v1alpha, channel);
        assert!(newer.iter().any(|name| name == service), "{newer:?}");
        assert_eq!(newer, older);
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_tell_liveness_readiness_metrics_and_digest() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    for page in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(dev.page(page).await?.status, 200, "{page}");
    }
    assert_eq!(dev.page("/nothing-here").await?.status, 404);
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    let create = Command { tenant: "secret-tenant".into(), request_id: "r".into(), change: Change::Create };
    create.send(&planes, false).await?;
    assert!(planes.check("secret-tenant", shop::SERVICE, shop::FEATURE).await?.entitled);
    let metrics = dev.page("/metrics").await?;
    assert_eq!(metrics.status, 200);
    for part in ["tessera_commands_total", "tessera_checks_total"] {
        assert!(metrics.body.lines().any(|line| line.starts_with(part)), "no {part}:\n{}", metrics.body);
    }
    let digest = dev.page("/digest").await?;
    assert_eq!(digest.status, 200);
    for page in [&metrics.body, &digest.body] {
        assert!(!page.contains("secret-tenant"), "a page names a tenant: {page}");
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unix_socket_answers_as_the_address_does_and_outlives_no_process() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("data.sock");
    let launch = || anyhow::Ok(Launch::over(folder.path())?.env("TESSERA_LISTENER__UNIX_SOCKET", &path.display().to_string()));
    let dev = launch()?.ready().await?;
    shop::open(&dev.planes().await?).await?;
    let create = Command { tenant: "acme".into(), request_id: "r".into(), change: Change::Create };
    create.send(&dev.planes().await?, false).await?;
    let entitled = async |dev: &tessera_e2e::Dev| {
        let data = tonic::transport::Endpoint::from_shared(format!("unix://{}", path.display()))?.connect().await?;
        let planes = Planes { data, ..dev.planes().await? };
        anyhow::Ok(planes.check("acme", shop::SERVICE, shop::FEATURE).await?.entitled)
    };
    assert!(entitled(&dev).await?);
    dev.kill()?;
    assert!(path.exists(), "nobody was there to remove it");
    let dev = launch()?.ready().await?;
    assert!(entitled(&dev).await?);
    dev.stop()?;
    assert!(!path.exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_ends_it_as_sigterm_does() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    dev.signal(Signal::INT)?;
    dev.finished_well()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_seen_by_a_check_that_demands_its_revision() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    let planes = dev.planes().await?;
    shop::open(&planes).await?;
    let create = v1::CreateTenantRequest { tenant_id: "acme".into(), plan_id: shop::PLAN.into(), ..Default::default() };
    let mut revision = planes.tenants().create_tenant(create).await?.into_inner().revision;
    for suspended in [true, false, true, false] {
        let check = v1::CheckEntitlementRequest {
            tenant_id: "acme".into(),
            service: shop::SERVICE.into(),
            feature: shop::FEATURE.into(),
            consistency: Some(v1::Consistency {
                requirement: Some(v1::consistency::Requirement::AtLeast(v1::AtLeast { revision })),
            }),
            ..Default::default()
        };
        let answer = planes.entitlements().check_entitlement(check).await?.into_inner();
        assert!(answer.entitled, "{answer:?}");
        revision = if suspended {
            let request = v1::SuspendTenantRequest { tenant_id: "acme".into(), reason: "payment".into(), ..Default::default() };
            let suspended = planes.tenants().suspend_tenant(request).await?.into_inner();
            let denied = planes.check("acme", shop::SERVICE, shop::FEATURE).await?;
            assert_eq!((denied.entitled, denied.reason()), (false, v1::Reason::TenantSuspended), "{suspended:?}");
            let request = v1::ResumeTenantRequest { tenant_id: "acme".into(), ..Default::default() };
            planes.tenants().resume_tenant(request).await?.into_inner().revision
        } else {
            let request = v1::UpdateTenantRequest { tenant_id: "acme".into(), title: "Acme".into(), ..Default::default() };
            planes.tenants().update_tenant(request).await?.into_inner().revision
        };
    }
    dev.stop()
}
