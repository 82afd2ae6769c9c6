//! Callers of `tessera-server` and `tessera-loader` themselves, exposed as they are in a cluster; each has an embedded store of
//! its own, since who may call has nothing to do with what is stored.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tessera_e2e::authority::Authority;
use tessera_e2e::dev::Addresses;
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Planes, Start, binary};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::{Code, Response, Status};

use super::exposed::{settings, write};
use super::{Place, Shows, is};

fn check() -> v1::CheckEntitlementRequest {
    v1::CheckEntitlementRequest { tenant_id: "acme".to_owned(), service: "files".to_owned(), ..Default::default() }
}

fn code<T>(answer: Result<Response<T>, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// What server and loader say to whoever shows nothing.
async fn to_nobody(planes: &Planes) -> [Code; 2] {
    let check = planes.entitlements().check_entitlement(check()).await;
    [code(check), code(planes.tenants().list_tenants(v1::ListTenantsRequest::default()).await)]
}

/// What server and loader say to whoever shows that token.
async fn to(planes: &Planes, token: &str) -> [Code; 2] {
    let shows = Shows::token(token);
    let mut checks = EntitlementServiceClient::with_interceptor(planes.data.clone(), shows.clone());
    let mut tenants = TenantServiceClient::with_interceptor(planes.control.clone(), shows);
    let check = checks.check_entitlement(check()).await;
    [code(check), code(tenants.list_tenants(v1::ListTenantsRequest::default()).await)]
}

#[tokio::test]
async fn server_and_loader_know_callers_by_one_file_of_tokens() -> anyhow::Result<()> {
    const REFUSED: [Code; 2] = [Code::Unauthenticated; 2];
    const TAKEN: [Code; 2] = [Code::Ok; 2];
    let place = Place::new();
    let [servers, clients] = [Authority::new()?, Authority::new()?];
    write(&place, "server", &servers.server(&["127.0.0.1"])?);
    place.write("clients.pem", &clients.pem);
    let first = place.create(&["first", "--scope", "decide,read"]);
    let identity = format!("[identity]\ntokens_file = \"{}\"\n", place.path("tokens.toml").display());
    let start = |program: PathBuf, plane: &str| {
        let backends = format!("[backends]\nkind = \"sqlite\"\ndata_dir = \"{}\"\n", place.path(plane).display());
        let file = place.write(&format!("{plane}.toml"), &format!("{}{backends}", settings(&place, &identity)));
        let mut command = Command::new(program);
        command.arg("--settings").arg(file).args([&format!("--{plane}-listen"), "0.0.0.0:0"]);
        Start::new(command, &["http"])
    };
    let server = start(binary::server()?, "data").ready().await?;
    let loader = start(binary::loader()?, "control").ready().await?;
    let addresses = Addresses {
        data: SocketAddr::from(([127, 0, 0, 1], server.address("data")?.port())),
        control: SocketAddr::from(([127, 0, 0, 1], loader.address("control")?.port())),
        http: server.address("http")?,
    };
    let planes = Planes::connect_over_tls(addresses, &servers.pem, None).await?;

    assert_eq!(to_nobody(&planes).await, REFUSED);
    assert_eq!(to(&planes, "tessera_bad").await, REFUSED);
    assert_eq!(to(&planes, &first).await, TAKEN);
    let later = place.create(&["later", "--scope", "decide,read"]);
    eventually("the new token is known", async || is(to(&planes, &later).await == TAKEN)).await?;
    place.token(&["revoke", "first", "--yes"]).success()?;
    eventually("the revoked token is refused", async || is(to(&planes, &first).await == REFUSED)).await?;
    assert_eq!(to(&planes, &later).await, TAKEN);
    drop(planes);
    server.stop()?;
    loader.stop()
}
