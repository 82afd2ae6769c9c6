//! TLS over real sockets, with authorities made for each test. `files.rs` has what is wrong with files.

mod files;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response};
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tessera_core::time::Timestamp;
use tessera_ports::clock::ManualClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::*;
use crate::exposure::Exposure;
use crate::lifecycle::Tasks;
use crate::listener::{self, ListenerConfig, Peer, Sockets};
use crate::overload::Policy;

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Whoever signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// A certificate and its key, in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// For `localhost`.
    pub(super) fn of_server(&self) -> Pair {
        self.sign(|_| {})
    }

    /// With these URIs among its names.
    fn of_client(&self, uris: &[&str]) -> Pair {
        self.sign(|params| {
            let names = uris.iter().map(|uri| SanType::URI(Ia5String::try_from(*uri).unwrap()));
            params.subject_alt_names = names.collect();
            params.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://example.org/common-name");
        })
    }

    pub(super) fn ended(&self) -> Pair {
        self.sign(|params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// A client that trusts this authority.
    fn client(&self, pair: Option<&Pair>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// The files of a server, in a folder of their own.
pub(super) struct Folder {
    folder: TempDir,
    pub(super) config: TlsConfig,
}

impl Folder {
    pub(super) fn with(pair: &Pair, clients: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let config = TlsConfig {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            client_ca: clients.map(|_| path("ca.crt")),
            client_certificates: None,
        };
        let files = Self { folder, config };
        files.write("tls.crt", &pair.certificate);
        files.write("tls.key", &pair.key);
        if let Some(authority) = clients {
            files.write("ca.crt", &authority.pem);
        }
        files
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn load(&self) -> Result<Tls, Error> {
        Tls::load(&self.config, clock())
    }
}

/// Now, for certificates of tests: rustls itself looks at the real clock.
fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000).unwrap()))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Says who asks.
async fn who(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let peer: &Peer = request.extensions().get().expect("whoever asks is known");
    let who = match peer.certificate.as_deref() {
        None => "none",
        Some(PeerCertificate { spiffe_id: Some(id), .. }) => id.as_str(),
        Some(_) => "nobody",
    };
    Ok(Response::builder().header("who", who).body(Body::empty()).unwrap())
}

async fn listen(tasks: &Tasks, tls: &Tls) -> SocketAddr {
    let tcp = listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (sockets, shutdown) = (Sockets::from(tcp).with_tls(Some(tls.clone())), tasks.shutdown());
    let config = ListenerConfig { handshake_timeout_s: 3, ..ListenerConfig::default() };
    tasks.spawn("test.listener", async move { listener::serve(sockets, tower::service_fn(who), &config, shutdown).await });
    address
}

/// A connection to ask over.
struct Asker(h2::client::SendRequest<Bytes>);

impl Asker {
    async fn connect(tasks: &Tasks, address: SocketAddr, client: ClientConfig) -> Result<Self, String> {
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("localhost").unwrap(), stream).await
        };
        let stream = within(connecting).await.map_err(|error| error.to_string())?;
        let (sender, connection) = within(h2::client::handshake(stream)).await.map_err(|error| error.to_string())?;
        drop(tasks.run("test.client", connection));
        Ok(Self(sender))
    }

    async fn ask(&mut self) -> Result<String, String> {
        let asking = async {
            let mut sender = self.0.clone().ready().await?;
            let request = Request::post("https://localhost/who").body(()).unwrap();
            sender.send_request(request, true)?.0.await
        };
        let answer: Result<_, h2::Error> = within(asking).await;
        let answer = answer.map_err(|error| error.to_string())?;
        Ok(answer.headers()["who"].to_str().unwrap().to_owned())
    }
}

async fn ask(tasks: &Tasks, address: SocketAddr, client: ClientConfig) -> Result<String, String> {
    Asker::connect(tasks, address, client).await?.ask().await
}

#[tokio::test]
async fn a_client_is_who_its_one_spiffe_id_says() {
    let (servers, clients, tasks) = (Authority::new(), Authority::new(), Tasks::new());
    let folder = Folder::with(&servers.of_server(), Some(&clients));
    let address = listen(&tasks, &folder.load().unwrap()).await;
    let id = "spiffe://example.org/ns/prod/sa/web";
    for (uris, expected) in [
        (&[id][..], id),
        (&[id, "spiffe://example.org/other"], "nobody"),
        (&[id, "https://example.org/"], "nobody"),
        (&["https://example.org/"], "nobody"),
        (&["spiffe://example.org"], "nobody"),
        // Its common name looks like one.
        (&[], "nobody"),
    ] {
        let pair = clients.of_client(uris);
        for version in BOTH {
            assert_eq!(ask(&tasks, address, servers.client(Some(&pair), &[version])).await.as_deref(), Ok(expected), "{uris:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_cannot_prove_itself_is_not_let_in() {
    let (servers, clients, strangers, tasks) = (Authority::new(), Authority::new(), Authority::new(), Tasks::new());
    let mut folder = Folder::with(&servers.of_server(), Some(&clients));
    let (stranger, ended) = (strangers.of_client(&["spiffe://example.org/web"]), clients.ended());
    let good = clients.of_client(&["spiffe://example.org/web"]);
    for (demand, without) in
        [(None, false), (Some(ClientCertificates::Required), false), (Some(ClientCertificates::Optional), true)]
    {
        folder.config.client_certificates = demand;
        let address = listen(&tasks, &folder.load().unwrap()).await;
        for version in BOTH {
            for (pair, lets_in) in [(Some(&good), true), (Some(&stranger), false), (Some(&ended), false), (None, without)] {
                let asked = ask(&tasks, address, servers.client(pair, &[version])).await;
                assert_eq!(asked.is_ok(), lets_in, "{demand:?} {version:?}: {asked:?}");
            }
        }
        if without {
            assert_eq!(ask(&tasks, address, servers.client(None, &BOTH)).await.as_deref(), Ok("none"));
        }
    }
}

#[tokio::test]
async fn without_an_authority_nobody_is_asked() {
    let (servers, tasks) = (Authority::new(), Tasks::new());
    let address = listen(&tasks, &Folder::with(&servers.of_server(), None).load().unwrap()).await;
    assert_eq!(ask(&tasks, address, servers.client(None, &BOTH)).await.as_deref(), Ok("none"));
    let pair = servers.of_client(&["spiffe://example.org/web"]);
    assert_eq!(ask(&tasks, address, servers.client(Some(&pair), &BOTH)).await.as_deref(), Ok("none"));
}

#[tokio::test]
async fn only_http_2_is_spoken_inside() {
    let (servers, tasks) = (Authority::new(), Tasks::new());
    let address = listen(&tasks, &Folder::with(&servers.of_server(), None).load().unwrap()).await;
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut client = servers.client(None, &BOTH);
        client.alpn_protocols.clone_from(&protocols);
        let asked = ask(&tasks, address, client).await;
        assert!(asked.is_err(), "{protocols:?}: {asked:?}");
    }
}

/// A `ClientHello` of TLS 1.1 (`2`) or 1.2 (`3`) and nothing newer: version, random, no session, a cipher of each, no
/// compression, and the extensions for signatures, curves and their points.
fn hello(version: u8) -> Vec<u8> {
    let extensions = [0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    let mut hello = vec![3, version];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x0a, 1, 0, 0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let len = u8::try_from(hello.len()).unwrap();
    [&[22, 3, 1, 0, len + 4, 1, 0, 0, len], hello.as_slice()].concat()
}

#[tokio::test]
async fn older_versions_plain_text_and_silence_are_turned_away() {
    let (servers, tasks) = (Authority::new(), Tasks::new());
    let address = listen(&tasks, &Folder::with(&servers.of_server(), None).load().unwrap()).await;
    let said = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        // A reset is an end, too.
        let _ = within(stream.read_to_end(&mut said)).await;
        said
    };
    // A handshake (22) goes on; an alert (21), fatal (2), says protocol_version (70).
    assert_eq!(said(&hello(3)).await[0], 22);
    let alert = said(&hello(2)).await;
    assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]), "{alert:?}");
    let plain = said(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(plain.first().is_none_or(|kind| *kind == 21), "{plain:?}");
    // Nothing, and half a hello: until the handshake takes too long.
    let whole = hello(3);
    let silences = [0, 1, 5, 30].map(|len| said(&whole[..len]));
    assert!(futures::future::join_all(silences).await.iter().all(Vec::is_empty));
    assert_eq!(ask(&tasks, address, servers.client(None, &BOTH)).await.as_deref(), Ok("none"));
}

#[tokio::test]
async fn new_certificates_are_taken_while_connections_live() {
    let (before, after, tasks) = (Authority::new(), Authority::new(), Tasks::new());
    let (old_clients, new_clients) = (Authority::new(), Authority::new());
    let folder = Folder::with(&before.of_server(), Some(&old_clients));
    let tls = folder.load().unwrap();
    let address = listen(&tasks, &tls).await;
    let old = old_clients.of_client(&["spiffe://example.org/old"]);
    let mut living = Asker::connect(&tasks, address, before.client(Some(&old), &BOTH)).await.unwrap();
    assert_eq!(living.ask().await.as_deref(), Ok("spiffe://example.org/old"));

    let seen = tls.look(tls.0.first);
    assert_eq!(seen, tls.0.first, "nothing is new");
    let (server, new) = (after.of_server(), new_clients.of_client(&["spiffe://example.org/new"]));
    // One file after the other, as somebody copies them.
    folder.write("tls.crt", &server.certificate);
    let torn = tls.look(seen);
    assert_ne!(torn, seen);
    assert_eq!(ask(&tasks, address, before.client(Some(&old), &BOTH)).await.as_deref(), Ok("spiffe://example.org/old"));
    folder.write("tls.key", &server.key);
    folder.write("ca.crt", &new_clients.pem);
    let whole = tls.look(torn);
    assert_ne!(whole, torn);
    assert_eq!(ask(&tasks, address, after.client(Some(&new), &BOTH)).await.as_deref(), Ok("spiffe://example.org/new"));
    for (authority, pair) in [(&before, &new), (&after, &old)] {
        let asked = ask(&tasks, address, authority.client(Some(pair), &BOTH)).await;
        assert!(asked.is_err(), "{asked:?}");
    }
    assert_eq!(living.ask().await.as_deref(), Ok("spiffe://example.org/old"), "it keeps what it began with");
    assert_eq!(tls.look(whole), whole);
}

#[tokio::test]
async fn what_the_settings_name_is_opened_and_what_is_wrong_is_named() {
    let (servers, tasks) = (Authority::new(), Tasks::new());
    let folder = Folder::with(&servers.of_server(), None);
    let bind = async || listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let path = folder.path().join("data.sock");
    let config =
        ListenerConfig { tls: Some(folder.config.clone()), unix_socket: Some(path.clone()), ..ListenerConfig::default() };
    config.validate().unwrap();
    let tcp = bind().await;
    let (address, shutdown) = (tcp.local_addr().unwrap(), tasks.shutdown());
    let exposed = |tcp| {
        let exposure =
            Exposure::open(config.clone(), None, &[], Policy::default(), &clock()).map_err(|error| format!("{error:#}"))?;
        exposure.sockets_with_unix(tcp).map_err(|error| format!("{error:#}"))
    };
    let sockets = exposed(tcp).unwrap();
    let of_task = config.clone();
    tasks.spawn("test.listener", async move { listener::serve(sockets, tower::service_fn(who), &of_task, shutdown).await });
    assert_eq!(ask(&tasks, address, servers.client(None, &BOTH)).await.as_deref(), Ok("none"));
    // The socket speaks plain text.
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    drop(tasks.run("test.client", connection));
    assert_eq!(Asker(sender).ask().await.as_deref(), Ok("none"));

    let taken = exposed(bind().await).unwrap_err();
    assert!(taken.contains("data.sock") && taken.contains("another process listens there"), "{taken}");
    std::fs::remove_file(&folder.config.key).unwrap();
    let missing = exposed(bind().await).unwrap_err();
    assert!(missing.contains("`key` of TLS") && missing.contains("tls.key"), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn the_files_are_followed_by_a_task() {
    let (before, after, tasks) = (Authority::new(), Authority::new(), Tasks::new());
    let folder = Folder::with(&before.of_server(), None);
    let tls = folder.load().unwrap();
    let first = tls.0.current.load_full();
    tasks.spawn_behind("tls", tls.keep_fresh());
    let pair = after.of_server();
    folder.write("tls.crt", &pair.certificate);
    folder.write("tls.key", &pair.key);
    // Paused time goes on by itself while everybody waits.
    while Arc::ptr_eq(&first, &tls.0.current.load_full()) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
