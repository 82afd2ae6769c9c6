//! Credentials: where they come from, to whom they are shown, and TLS against a server of this process.

use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::question::Mode;
use crate::wire::{self, Head};

const PATIENCE: Duration = Duration::from_secs(30);

fn with_token() -> Credentials {
    Files::default().read_beside(Some("secret".to_owned())).unwrap()
}

fn way(credentials: &Credentials, address: &str) -> Result<Way, String> {
    credentials.way(&address.parse().unwrap(), "--data-addr").map_err(|error| format!("{error:#}"))
}

#[test]
fn a_token_is_not_sent_in_the_open() {
    for fine in ["127.0.0.1:1", "[::1]:1", "localhost:1", "http://192.0.2.1:1"] {
        let way = way(&with_token(), fine).unwrap();
        assert_eq!(way.authorization().unwrap(), "Bearer secret", "{fine}");
        assert!(way.tls().is_none(), "{fine}");
    }
    let refused = way(&with_token(), "192.0.2.1:1").unwrap_err();
    for part in ["--data-addr", "`192.0.2.1:1`", "https://192.0.2.1:1"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(way(&Credentials::default(), "192.0.2.1:1").unwrap().authorization().is_none(), "there is no secret to keep");
}

#[test]
fn what_is_no_credential_is_refused_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for bad in [&b""[..], b" \n", b"secret secret", b"secret\x7f", b"secret\xff"] {
        std::fs::write(&path, bad).unwrap();
        let files = Files { token_file: Some(path.clone()), ..Files::default() };
        let refused = format!("{:#}", files.read_beside(None).unwrap_err());
        assert!(refused.contains("--token-file") && refused.contains("no token"), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
    let missing = Files { ca_file: Some(folder.path().join("none")), ..Files::default() };
    assert!(format!("{:#}", missing.read_beside(None).unwrap_err()).contains("--ca-file: cannot read"));
    let no_certificates = Files { ca_file: Some(path.clone()), ..Files::default() };
    let refused = format!("{:#}", no_certificates.read_beside(None).unwrap_err());
    assert!(refused.contains(&format!("--ca-file: `{}`: it has no certificate", path.display())), "{refused}");
    let no_certificate = Credentials { ca: Some(b"secret".to_vec()), ..Credentials::default() };
    let refused = way(&no_certificate, "https://192.0.2.1:1").unwrap_err();
    assert!(refused.contains("--ca-file") && refused.contains("no certificate"), "{refused}");
    assert!(way(&no_certificate, "http://192.0.2.1:1").unwrap_err().contains("allowed is https://192.0.2.1:1"));
}

#[test]
fn a_file_goes_before_the_environment_and_neither_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "of-the-file\n").unwrap();
    let files = Files { token_file: Some(path), ..Files::default() };
    let credentials = files.read_beside(Some("secret".to_owned())).unwrap();
    let way = way(&credentials, "127.0.0.1:1").unwrap();
    assert_eq!(way.authorization().unwrap(), "Bearer of-the-file");
    let said = format!("{files:?} {credentials:?} {way:?} {:?} {:?}", way.bearer(), way.authorization());
    assert!(!said.contains("of-the-file"), "{said}");
    assert!(files.read_beside(Some(String::new())).is_ok() && Files::default().read_beside(Some(String::new())).is_ok());
}

// === TLS ===

/// An authority, and a pair of it that servers and clients can use.
struct Authority {
    pem: String,
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Self { pem, certificate, key: key.serialize_pem() }
    }

    fn credentials(&self) -> Credentials {
        let client = Pair { certificate: self.certificate.clone().into(), key: self.key.clone().into() };
        Credentials { ca: Some(self.pem.clone().into()), client: Some(client), ..with_token() }
    }

    /// A configuration that wants certificates of clients.
    fn server(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config
    }
}

/// Answers every call with what it showed as its token; ends with the test.
async fn serve(listener: TcpListener, config: ServerConfig) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((socket, _)) = listener.accept().await {
        let Ok(socket) = acceptor.accept(socket).await else { continue };
        let Ok(mut connection) = h2::server::handshake(socket).await else { continue };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let token =
                request.headers().get("authorization").map_or_else(Bytes::new, |token| Bytes::copy_from_slice(token.as_bytes()));
            assert_eq!(request.uri().scheme_str(), Some("https"));
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            let mut message = vec![0];
            message.extend(u32::try_from(token.len()).unwrap().to_be_bytes());
            message.extend(token);
            send.send_data(message.into(), false).unwrap();
            let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
            send.send_trailers(http::HeaderMap::from_iter([status])).unwrap();
        }
    }
}

#[tokio::test]
async fn calls_go_over_tls_to_who_is_known_and_show_the_token() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let asking = async {
        let ours = way(&ours.credentials(), &address).unwrap();
        let (mut sender, connection) = wire::connect(&ours, PATIENCE).await.unwrap();
        let call = async {
            let (answer, mut body) = Head::new(&ours, Mode::Unary, PATIENCE).unwrap().begin(&mut sender).unwrap();
            body.send_data(Bytes::new(), true).unwrap();
            wire::only_message(answer).await.unwrap()
        };
        let message = tokio::select! {
            message = call => message,
            ended = connection => panic!("{ended:?}"),
        };
        assert_eq!(message, "Bearer secret");
        drop(sender);
        let foreign = Credentials { ca: Some(theirs.pem.clone().into()), ..theirs.credentials() };
        let failed = wire::connect(&way(&foreign, &address).unwrap(), PATIENCE).await.err().unwrap();
        assert!(failed.said.contains("invalid peer certificate"), "{failed:?}");
        // The same for what is not load.
        let told = crate::control::connect(&way(&foreign, &address).unwrap(), "--data-addr", PATIENCE).await;
        let said = told.err().unwrap().to_string();
        assert!(said.contains("invalid peer certificate") && said.contains(&address), "{said}");
    };
    tokio::select! {
        () = asking => {}
        () = serve(listener, ours.server()) => panic!("the server ended"),
    }
}
