//! One damaged row of the embedded store, met by a data plane that has never seen a good one. In one process, since a start looks
//! at the end of every stream: the row is damaged between that and the hydration.

use std::sync::Arc;
use std::time::Duration;

use tessera_backends::{Config, Opening, Purpose, SqliteConfig};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_runtime::clock::{SystemClock, SystemIds};
use tessera_runtime::lifecycle::Tasks;
use tessera_runtime::listener::{self, ListenerConfig};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

use crate::binary::dev::Dev;

/// Far beyond what a hydration of a few tenants takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hydration_goes_past_a_damaged_row_and_does_not_take_it_for_unknown() {
    let folder = tempfile::tempdir().unwrap();
    Dev::ready(folder.path()).stop();
    let opening = Opening { purpose: Purpose::Loading, ids: Arc::new(SystemIds), clock: Arc::new(SystemClock) };
    let backends = tessera_backends::open(&Config::Sqlite(SqliteConfig::new(folder.path())), &opening).await.unwrap().ports;
    let behind = rusqlite::Connection::open(folder.path().join("tessera.db")).unwrap();
    let damage = "UPDATE stream SET sum = sum + 1 WHERE key IN ('acme', 'school-district')";
    assert_eq!(behind.execute(damage, []).unwrap(), 2, "a tenant and a plan");

    let tasks = Tasks::new();
    let dependencies = tessera_server::Dependencies { store: backends.store, feed: backends.feed, clock: Arc::new(SystemClock) };
    // Rows that wait for the damaged plan are not waited for until the test is over.
    let config = tessera_server::Config { ready_parked_wait_ms: 100, ..tessera_server::Config::default() };
    let server = tessera_server::build(config, dependencies, &tasks).unwrap();
    let listener = listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (services, shutdown) = (server.services(), tasks.shutdown());
    let handle = server.start(&tasks);
    tasks.spawn("listener", async move { listener::serve(listener, services, &ListenerConfig::default(), shutdown).await });
    tokio::time::timeout(PATIENCE, handle.loaded()).await.expect("one row stops the hydration");

    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = EntitlementServiceClient::new(channel);
    // Others are there, whatever stands before and behind it in the table.
    for (tenant, service, feature) in [
        ("globex", "entity-management", "team-management"),
        ("school:12", "school-supply", "inventory"),
        ("no-exports", "api-gateway", "bulk-api"),
    ] {
        assert_eq!(check(&mut client, tenant, service, feature).await, Ok(true), "{tenant}");
    }
    // Nobody knows what it may do; that it exists is known.
    let unavailable = |reason: &str| Err((Code::Unavailable, reason.to_owned()));
    assert_eq!(check(&mut client, "acme", "reporting", "exports").await, unavailable("READER_TOO_OLD"));
    assert_eq!(check(&mut client, "district:north", "school-supply", "reports").await, unavailable("CATALOG_BEHIND"));
    assert_eq!(check(&mut client, "nobody", "reporting", "exports").await, Ok(false));
}

/// Whether it is entitled, or code and reason of the error.
async fn check(
    client: &mut EntitlementServiceClient<Channel>,
    tenant: &str,
    service: &str,
    feature: &str,
) -> Result<bool, (Code, String)> {
    let request = v1::CheckEntitlementRequest {
        tenant_id: tenant.to_owned(),
        service: service.to_owned(),
        feature: feature.to_owned(),
        ..Default::default()
    };
    match client.check_entitlement(request).await {
        Ok(answer) => Ok(answer.into_inner().entitled),
        Err(status) => Err((status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())),
    }
}
