//! Clients that speak TLS to Envoy: the tenant stands in their certificate, or behind the name that they ask for. The settings are
//! those of `docs/ENVOY.md`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tessera_e2e::authority::{Authority, Signed};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::exchange::{Answer, Request};
use super::proxy::{Envoy, Settings};
use super::service::Service;
use super::{documented, envoys, tessera};

/// A name that stands for no tenant.
const SHOP: &str = "shop.example";
/// Names that Envoy's certificate is for; the last is an address, for which clients name nobody in TLS.
const NAMES: [&str; 4] = [SHOP, "acme.shop.example", "corner-shop.shop.example", "127.0.0.1"];

/// Who signs for Envoy, and who for tenants.
struct World {
    servers: Authority,
    tenants: Authority,
    folder: tempfile::TempDir,
}

/// Somebody with a certificate or without one.
struct Client(TlsConnector);

impl World {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { servers: Authority::new()?, tenants: Authority::new()?, folder: tempfile::tempdir()? })
    }

    /// The block of the page, with files that are there.
    fn transport_socket(&self) -> anyhow::Result<String> {
        let envoy = self.servers.server(&NAMES)?;
        let mut block = documented("DownstreamTlsContext")?;
        for (name, text) in [("tls.crt", &envoy.certificate), ("tls.key", &envoy.key), ("clients.crt", &self.tenants.pem)] {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text)?;
            block = block.replace(&format!("/etc/envoy/tls/{name}"), &path.display().to_string());
        }
        anyhow::ensure!(!block.contains("/etc/envoy"), "{block}");
        Ok(block)
    }

    /// The same, but whoever shows no certificate is let in to be judged.
    fn optional(transport_socket: &str) -> anyhow::Result<String> {
        let optional = transport_socket.replace("require_client_certificate: true", "require_client_certificate: false");
        anyhow::ensure!(optional != transport_socket, "{transport_socket}");
        Ok(optional)
    }

    /// An Envoy that takes the tenant from TLS, asking clients for certificates as the block says.
    fn settings(service: &Service, tessera: SocketAddr, transport_socket: &str) -> anyhow::Result<Settings> {
        let settings = Settings::before(service.address)?.asks(tessera)?.patient()?.without_tokens_of_users()?;
        let settings =
            settings.with_block("transport_api_version: V3", "transport_api_version: V3\ninclude_tls_session: true")?;
        let block = transport_socket.trim_end().replace('\n', "\n  ");
        settings.with_block("- filters:", &format!("- {block}\n  filters:"))
    }

    fn client(&self, certificate: Option<&Signed>) -> anyhow::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.servers.pem.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots);
        let config = match certificate {
            Some(signed) => {
                let certificate = CertificateDer::from_pem_slice(signed.certificate.as_bytes())?;
                config.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_slice(signed.key.as_bytes())?)?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Client(TlsConnector::from(Arc::new(config))))
    }

    /// With the certificate of somebody whom Envoy takes certificates of.
    fn with_id(&self, id: &str) -> anyhow::Result<Client> {
        self.client(Some(&self.tenants.workload(id)?))
    }
}

impl Client {
    /// Asks for `/exports`, and in TLS for that name. An error: no answer came back.
    async fn ask(&self, ingress: SocketAddr, name: &str) -> anyhow::Result<Answer> {
        self.send(ingress, name, &Request::get("/exports")).await
    }

    async fn send(&self, ingress: SocketAddr, name: &str, request: &Request) -> anyhow::Result<Answer> {
        let name = ServerName::try_from(name.to_owned())?;
        let stream = TcpStream::connect(ingress).await.context("connect")?;
        request.send_over(self.0.connect(name, stream).await.context("handshake")?).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_who_asks() -> anyhow::Result<()> {
    let (world, service, envoys) = (World::new()?, Service::begin().await?, envoys()?);
    let written = world.folder.path().join("tessera.toml");
    std::fs::write(&written, documented("from = \"principal\"")?)?;
    let dev = tessera(&written, world.folder.path()).await?;
    let block = world.transport_socket()?;
    let settings = World::settings(&service, dev.addresses().data, &block)?;
    let optional = World::settings(&service, dev.addresses().data, &World::optional(&block)?)?;

    let of = |tenant: &str| world.with_id(&format!("spiffe://mesh.example/tenant/{tenant}"));
    let (acme, corner_shop, nobody) = (of("acme")?, of("corner-shop")?, of("nobody")?);
    let not_a_tenant = of("")?;
    let another_domain = world.with_id("spiffe://other.example/tenant/acme")?;
    let another_kind = world.with_id("spiffe://mesh.example/service/acme")?;
    let named_alike = world.client(Some(&world.tenants.server(&["acme"])?))?;
    let strangers = Authority::new()?;
    let without = [
        ("no certificate", world.client(None)?),
        ("a stranger's", world.client(Some(&strangers.workload("spiffe://mesh.example/tenant/acme")?))?),
        ("of who signs for servers", world.client(Some(&world.servers.workload("spiffe://mesh.example/tenant/acme")?))?),
    ];
    for program in &envoys {
        let envoy = Envoy::begin(program, &settings).await?;
        let at = envoy.ingress;
        let seen = acme.ask(at, SHOP).await?.seen().with_context(|| program.display().to_string())?;
        assert_eq!(
            (&seen["x-tessera-tenant"][..], &seen["x-tessera-plan"][..]),
            (&["acme".to_owned()][..], &["gold".to_owned()][..])
        );
        for (client, status, reason) in [
            (&corner_shop, 402, "FEATURE_NOT_IN_PLAN"),
            (&nobody, 403, "TENANT_UNKNOWN"),
            (&not_a_tenant, 403, "TENANT_MISSING"),
            (&another_domain, 403, "TENANT_MISSING"),
            (&another_kind, 403, "TENANT_MISSING"),
            (&named_alike, 403, "TENANT_MISSING"),
        ] {
            // What a client writes besides makes nobody else of it.
            let request = Request::get("/exports").to("acme.shop.example").with("x-tenant-id: acme");
            let request = request.with("x-forwarded-client-cert: URI=spiffe://mesh.example/tenant/acme");
            assert_eq!(client.send(at, SHOP, &request).await?.denied()?, (status, reason.to_owned()));
        }
        // A certificate that proves nothing is not made up for by the name of a tenant.
        for client in [&not_a_tenant, &another_domain, &another_kind, &named_alike] {
            let denied = client.ask(at, "acme.shop.example").await?.denied()?;
            assert_eq!(denied, (403, "TENANT_MISSING".to_owned()));
        }
        service.reached();
        for (what, client) in &without {
            let answer = client.ask(at, "acme.shop.example").await;
            assert!(answer.is_err(), "{what}: {:?}", answer.map(|answer| answer.status));
        }
        assert!(service.reached().is_empty(), "somebody was let in");
        // Name and certificate have to agree where both say something.
        assert_eq!(acme.ask(at, "acme.shop.example").await?.seen()?["x-tessera-tenant"], ["acme"]);
        let conflict = acme.ask(at, "corner-shop.shop.example").await?.denied()?;
        assert_eq!(conflict, (403, "SOURCES_CONFLICT".to_owned()));
        // Nor is one that is missing made up for by a name.
        let envoy = Envoy::begin(program, &optional).await?;
        let [(_, anybody), ..] = &without;
        for name in [SHOP, "acme.shop.example"] {
            let denied = anybody.ask(envoy.ingress, name).await?.denied()?;
            assert_eq!(denied, (403, "TENANT_MISSING".to_owned()), "{name}");
        }
        let seen = acme.ask(envoy.ingress, "acme.shop.example").await?.seen()?;
        assert_eq!(seen["x-tessera-tenant"], ["acme"]);
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_that_was_asked_for_in_tls_says_who_asks() -> anyhow::Result<()> {
    let (world, service, envoys) = (World::new()?, Service::begin().await?, envoys()?);
    let written = world.folder.path().join("tessera.toml");
    std::fs::write(&written, documented("the choice of a door")?)?;
    let dev = tessera(&written, world.folder.path()).await?;
    let optional = World::optional(&world.transport_socket()?)?;
    let settings = World::settings(&service, dev.addresses().data, &optional)?;
    let silent = settings.with("include_tls_session: true", "include_tls_session: false")?;

    let (anybody, acme) = (world.client(None)?, world.with_id("spiffe://mesh.example/tenant/acme")?);
    let strangers = Authority::new()?;
    let stranger = world.client(Some(&strangers.workload("spiffe://mesh.example/tenant/acme")?))?;
    for program in &envoys {
        let envoy = Envoy::begin(program, &settings).await?;
        let at = envoy.ingress;
        let seen = anybody.ask(at, "acme.shop.example").await?.seen().with_context(|| program.display().to_string())?;
        assert_eq!(seen["x-tessera-tenant"], ["acme"]);
        let denied = anybody.ask(at, "corner-shop.shop.example").await?.denied()?;
        assert_eq!(denied, (402, "FEATURE_NOT_IN_PLAN".to_owned()));
        // It is the name in TLS that counts, and not that in the request.
        let address = IpAddr::from(Ipv4Addr::LOCALHOST).to_string();
        for name in [SHOP, &address] {
            let request = Request::get("/exports").to("acme.shop.example").with("x-tenant-id: acme");
            assert_eq!(anybody.send(at, name, &request).await?.denied()?, (403, "TENANT_MISSING".to_owned()), "{name}");
        }
        // Nor is it a certificate, of which nobody asks.
        assert_eq!(acme.ask(at, &address).await?.denied()?, (403, "TENANT_MISSING".to_owned()));
        assert_eq!(acme.ask(at, "corner-shop.shop.example").await?.denied()?, (402, "FEATURE_NOT_IN_PLAN".to_owned()));
        // Whoever shows a certificate shows a good one, or gets nothing.
        service.reached();
        assert!(stranger.ask(at, "acme.shop.example").await.is_err());
        assert!(service.reached().is_empty(), "a stranger was let in");
        // An Envoy that does not tell of TLS leaves nothing to go by.
        let envoy = Envoy::begin(program, &silent).await?;
        assert_eq!(anybody.ask(envoy.ingress, "acme.shop.example").await?.denied()?.1, "TENANT_MISSING");
    }
    dev.stop()
}
