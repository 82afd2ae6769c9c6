//! Streams end with what they were opened with: a token that expires or is revoked, a certificate that ends. The client of the
//! SDK opens them again with what it has then.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tessera_client::{Error, Tessera, Watch, WatchEvent};
use tessera_e2e::authority::Authority;
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Dev, Planes};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::exposed::{settings, write};
use super::issued::{Key, Served, issuer, now};
use super::{Place, Shows, is, reason, tessera};

/// Clocks of issuers may be so far apart, in seconds.
const LEEWAY_S: u64 = 30;

/// Streams that somebody has opened, by their names; each gives how it ended.
type Streams = JoinSet<(&'static str, Status)>;

/// Follows a stream to its end, which is an error.
async fn end<T: Debug>(mut answers: Streaming<T>) -> Status {
    let ends = async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.unwrap_or_else(|_| Status::ok("the stream goes on and on"))
}

/// What is asked at first, and then nothing more, though the stream stays open.
fn asks<T: Send + 'static>(first: T) -> impl tokio_stream::Stream<Item = T> + Send + 'static {
    tokio_stream::once(first).chain(tokio_stream::pending())
}

fn subscribes() -> v1::WatchEntitlementsRequest {
    let subscribe = v1::Subscribe { tenant_id: "acme".to_owned(), ..Default::default() };
    v1::WatchEntitlementsRequest { action: Some(v1::watch_entitlements_request::Action::Subscribe(subscribe)) }
}

fn frame() -> v1::StreamCheckEntitlementRequest {
    let check = v1::CheckEntitlementRequest {
        tenant_id: "acme".to_owned(),
        service: "entity-management".to_owned(),
        ..Default::default()
    };
    v1::StreamCheckEntitlementRequest { id: 1, checks: vec![check], ..Default::default() }
}

/// Opens every kind of stream there is with that token.
async fn every_stream(dev: &Dev, token: &str) -> anyhow::Result<Streams> {
    let planes = dev.planes().await?;
    let shows = Shows::token(token);
    let mut checks: EntitlementServiceClient<InterceptedService<Channel, Shows>> =
        EntitlementServiceClient::with_interceptor(planes.data, shows.clone());
    let mut tenants = TenantServiceClient::with_interceptor(planes.control, shows);
    let mut streams = Streams::new();
    let watch = checks.watch_entitlements(asks(subscribes())).await?.into_inner();
    streams.spawn(async { ("a watch", end(watch).await) });
    let waiting = checks.stream_check_entitlement(asks(frame())).await?.into_inner();
    streams.spawn(async { ("checks, of which one was asked", end(waiting).await) });
    // Never without something to say.
    let busy = checks.stream_check_entitlement(tokio_stream::iter(std::iter::repeat_with(frame))).await?.into_inner();
    streams.spawn(async { ("checks without a pause", end(busy).await) });
    let start = v1::ImportStart { import_id: "import".to_owned(), mode: v1::ImportMode::Upsert.into() };
    let start = v1::ImportTenantsRequest { item: Some(v1::import_tenants_request::Item::Start(start)) };
    let import = tenants.import_tenants(asks(start)).await?.into_inner();
    streams.spawn(async { ("an import", end(import).await) });
    Ok(streams)
}

/// A watch of the SDK that has the tenant's document.
async fn watch(dev: &Dev, token_file: &std::path::Path) -> anyhow::Result<Watch> {
    let builder = Tessera::builder().endpoint(format!("http://{}", dev.addresses().data)).token_file(token_file);
    let tessera = builder.deadline(PATIENCE).connect_timeout(PATIENCE).connect().await?;
    let mut watch = tessera.watch();
    watch.subscribe("acme")?;
    resumed(&mut watch, false).await?;
    Ok(watch)
}

/// Waits until it has a stream, and over it the tenant's document; gives the error that it had before, if it had one.
async fn resumed(watch: &mut Watch, expected: bool) -> anyhow::Result<Option<Error>> {
    let (mut broke, mut is_connected) = (None, false);
    loop {
        let event = tokio::time::timeout(PATIENCE, watch.next()).await.context("nothing is heard")?;
        match event.context("a watch does not end")? {
            WatchEvent::Disconnected { error, .. } => broke = Some(error),
            WatchEvent::Connected { resumed, .. } => {
                anyhow::ensure!(resumed == expected, "resumed: {resumed}");
                is_connected = true;
            }
            WatchEvent::Document(document) if is_connected => {
                anyhow::ensure!(document.tenant == "acme", "{document:?}");
                return Ok(broke);
            }
            WatchEvent::Refused { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_token_expires_and_a_watch_goes_on_with_the_next() -> anyhow::Result<()> {
    let (place, key, served) = (Place::new(), Key::new("first"), Served::default());
    *served.lock().unwrap() = Some(json!({ "keys": [key.public()] }));
    let issuer = issuer(Arc::clone(&served)).await;
    let settings =
        format!("[identity]\n[[identity.issuers]]\nname = \"corp\"\nissuer = \"{issuer}\"\naudiences = [\"tessera\"]\n");
    let dev = place.launch(&settings).ready().await?;
    let token = |expires: u64| {
        key.sign(&json!({
            "iss": issuer, "aud": "tessera", "sub": "alice", "exp": expires, "scope": "decide write:tenants"
        }))
    };
    let next = token(now() + 600);
    let knows = |token: &str| is(tessera(&dev, token, &["check", "acme", "entity-management"]).code == Some(0));
    eventually("the keys are read", async || knows(&next)).await?;

    let expires = now() + 15;
    let short = token(expires - LEEWAY_S);
    let file = place.write("shop.token", &short);
    let mut watch = watch(&dev, &file).await?;
    let mut streams = every_stream(&dev, &short).await?;
    place.write("shop.token", &next);
    while let Some(ended) = streams.join_next().await {
        let (name, status) = ended?;
        anyhow::ensure!(now() >= expires, "{name} ended too soon: {status:?}");
        anyhow::ensure!(
            (status.code(), reason(&status).as_str()) == (Code::Unauthenticated, "TOKEN_INVALID"),
            "{name}: {status:?}"
        );
        anyhow::ensure!(status.message().contains("expired; come again"), "{name}: {status:?}");
    }
    let broke = resumed(&mut watch, true).await?;
    anyhow::ensure!(matches!(broke, Some(Error::Unauthenticated(_))), "{broke:?}");
    dev.metric_reaches("tessera_identity_streams_ended_total{reason=\"expired\"}", 5.0).await?;
    dev.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_token_is_revoked_or_rotated_out() -> anyhow::Result<()> {
    let place = Place::new();
    let stays = place.create(&["stays", "--scope", "decide,write:tenants"]);
    let goes = place.create(&["goes", "--scope", "decide,write:tenants"]);
    let file = place.write("shop.token", &place.create(&["shop", "--scope", "decide"]));
    let dev = place.dev().await;
    let mut watch = watch(&dev, &file).await?;
    let planes = dev.planes().await?;
    let mut checks = EntitlementServiceClient::with_interceptor(planes.data, Shows::token(&stays));
    let open = checks.watch_entitlements(asks(subscribes())).await?.into_inner();
    let (mut staying, mut going) = (JoinSet::new(), every_stream(&dev, &goes).await?);
    staying.spawn(end(open));

    place.token(&["revoke", "goes", "--yes"]).success()?;
    while let Some(ended) = going.join_next().await {
        let (name, status) = ended?;
        anyhow::ensure!(
            (status.code(), reason(&status).as_str()) == (Code::Unauthenticated, "TOKEN_INVALID"),
            "{name}: {status:?}"
        );
        anyhow::ensure!(status.message().contains("no longer"), "{name}: {status:?}");
    }
    let next = place.token(&["rotate", "shop", "--keep", "0s"]).success()?;
    place.write("shop.token", &next);
    let broke = resumed(&mut watch, true).await?;
    anyhow::ensure!(matches!(broke, Some(Error::Unauthenticated(_))), "{broke:?}");
    anyhow::ensure!(staying.try_join_next().is_none(), "others go on");
    staying.shutdown().await;
    dev.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_certificate_of_their_client_does() -> anyhow::Result<()> {
    let place = Place::new();
    let [servers, clients] = [Authority::new()?, Authority::new()?];
    write(&place, "server", &servers.server(&["127.0.0.1"])?);
    place.write("clients.pem", &clients.pem);
    let workload = "spiffe://example.org/checkout";
    let identity = format!("[identity]\n[[identity.workloads]]\nspiffe_id = \"{workload}\"\nscopes = [\"decide\"]\n");
    let dev = place.launch(&settings(&place, &identity)).ready().await?;

    let ends = now() + 15;
    let short = clients.workload_until(workload, ends)?;
    let planes = Planes::connect_over_tls(dev.addresses(), &servers.pem, Some(&short)).await?;
    let open = planes.entitlements().watch_entitlements(asks(subscribes())).await?.into_inner();
    let status = end(open).await;
    anyhow::ensure!(now() >= ends, "it ended too soon: {status:?}");
    anyhow::ensure!((status.code(), reason(&status).as_str()) == (Code::Unauthenticated, "TOKEN_INVALID"), "{status:?}");
    // Both connections, of which that of the stream had to wait for it.
    dev.metric_reaches("tessera_connections_ended_total{cause=\"certificate\"}", 2.0).await?;
    let again =
        tokio::time::timeout(Duration::from_secs(30), Planes::connect_over_tls(dev.addresses(), &servers.pem, Some(&short)));
    let refused = match again.await? {
        Ok(planes) => planes.entitlements().watch_entitlements(asks(subscribes())).await.is_err(),
        Err(_) => true,
    };
    anyhow::ensure!(refused, "it is let in with a certificate that has ended");
    let planes = Planes::connect_over_tls(dev.addresses(), &servers.pem, Some(&clients.workload(workload)?)).await?;
    planes.entitlements().watch_entitlements(asks(subscribes())).await?;
    drop(planes);
    dev.stop()
}
