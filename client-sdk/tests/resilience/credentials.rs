//! Who asks: tokens that are shown, rotated and refused, and TLS in both directions. Certificates are made by the tests.

use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tessera_client::fake::FakeError;
use tessera_client::{Check, Code, Error, Method, Tessera, Watch, WatchEvent};
use tokio::time::timeout;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::server::{PATIENCE, Record, SLACK, Server, client, eventually};

fn unauthenticated<T: std::fmt::Debug>(answer: Result<T, Error>) -> Error {
    let error = answer.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated(_)), "{error:?}");
    assert_eq!((error.code(), error.is_transient()), (Some(Code::Unauthenticated), false));
    error
}

async fn next(watch: &mut Watch) -> WatchEvent {
    timeout(PATIENCE, watch.next()).await.expect("an event").expect("a watch does not end")
}

/// The next document; how often the stream was lost before.
async fn lost_before_document(watch: &mut Watch) -> usize {
    let mut lost = 0;
    loop {
        match next(watch).await {
            WatchEvent::Document(_) => return lost,
            WatchEvent::Disconnected { .. } => lost += 1,
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_kind_of_call_shows_the_token() {
    let server = Server::start("gold").await;
    server.want("secret-one");
    let tessera = client(&[server.endpoint()]).token(" secret-one\n").connect().await.unwrap();
    assert!(tessera.check("acme", "reporting", "exports").await.unwrap().is_entitled());
    let batch = tessera.batch([Check::new("acme", "reporting", "exports")]).await.unwrap();
    assert!(batch.results[0].as_ref().unwrap().is_entitled());
    assert!(tessera.list("acme").await.unwrap().is_entitled("reporting", "exports"));
    assert!(tessera.checker().check(Check::new("acme", "reporting", "exports")).await.unwrap().is_entitled());
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    assert_eq!(lost_before_document(&mut watch).await, 0);
    let local = tessera.local().preload(["acme"]).start().unwrap();
    timeout(PATIENCE, local.loaded()).await.unwrap();
    assert!(local.check("acme", "reporting", "exports").await.unwrap().is_entitled());
}

#[tokio::test]
async fn who_is_not_known_is_told_so_once_and_at_once() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    one.want("secret-one");
    two.want("secret-one");
    let begun = Instant::now();
    for builder in [client(&[one.endpoint(), two.endpoint()]), client(&[one.endpoint(), two.endpoint()]).token("secret-two")] {
        unauthenticated(builder.clone().connect().await);
        let record = Record::default();
        let tessera = builder.metrics(record.clone()).connect_lazy().unwrap();
        let error = unauthenticated(tessera.check("acme", "reporting", "exports").await).to_string();
        assert!(error.contains("TOKEN_INVALID") && error.contains("needs a token or a client certificate"), "{error}");
        unauthenticated(tessera.batch([Check::new("acme", "reporting", "exports")]).await);
        unauthenticated(tessera.list("acme").await);
        let local = tessera.local().start().unwrap();
        unauthenticated(local.check("acme", "reporting", "exports").await);
        // Its watch goes on trying.
        drop(local);
        assert_eq!(record.calls().len(), 4);
        assert!(record.calls().iter().all(|(_, _, attempts)| *attempts == 1), "{:?}", record.calls());
        let seen = || one.seen.lock().unwrap().len() + two.seen.lock().unwrap().len();
        let before = seen();
        let checker = tessera.checker();
        let checks = (0..100).map(|_| checker.check(Check::new("acme", "reporting", "exports")));
        for answer in futures::future::join_all(checks).await {
            unauthenticated(answer);
        }
        assert!(seen() <= before + 2, "each of the two streams is opened once: {}", seen() - before);
        let mut watch = tessera.watch();
        let WatchEvent::Disconnected { error, retry_in } = next(&mut watch).await else { panic!("it is let in") };
        assert!(matches!(error, Error::Unauthenticated(_)) && !retry_in.is_zero(), "{error:?}");
    }
    assert!(begun.elapsed() < PATIENCE, "somebody waited for a deadline: {:?}", begun.elapsed());
    assert_eq!((one.fake.calls(), two.fake.calls()), (0, 0));
}

#[tokio::test]
async fn who_may_not_is_told_so_once() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    one.fake.fail_always(FakeError::NotAllowed);
    two.fake.fail_always(FakeError::NotAllowed);
    let tessera = client(&[one.endpoint(), two.endpoint()]).token("secret").connect_lazy().unwrap();
    let error = tessera.check("acme", "reporting", "exports").await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed(_)) && error.reason() == "SCOPE_MISSING", "{error:?}");
    assert!(error.to_string().contains("`decide`"), "{error}");
    assert_eq!(one.fake.calls() + two.fake.calls(), 1);
    let refused = client(&[one.endpoint(), two.endpoint()]).connect().await.unwrap_err();
    assert!(matches!(refused, Error::NotAllowed(_)), "{refused:?}");
}

#[tokio::test]
async fn a_local_mode_that_is_not_let_in_says_so_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "secret-old").unwrap();
    let server = Server::start("gold").await;
    server.want("secret-new");
    let tessera = client(&[server.endpoint()]).token_file(&path).connect_lazy().unwrap();
    let local = tessera.local().preload(["acme"]).start().unwrap();
    eventually("the refusal", async || matches!(local.trouble(), Some(Error::Unauthenticated(_)))).await;
    assert!(!local.status().connected);
    let seen = || server.seen.lock().unwrap().len();
    let before = seen();
    eventually("further attempts", async || seen() >= before + 3).await;
    assert!(matches!(local.trouble(), Some(Error::Unauthenticated(_))));
    // What is wrong now is said, and not what was.
    server.want("secret-new");
    server.fake.fail_always(FakeError::NotAllowed);
    std::fs::write(&path, "secret-new").unwrap();
    eventually("another refusal", async || matches!(local.trouble(), Some(Error::NotAllowed(_)))).await;
    server.fake.recover();
    timeout(PATIENCE, local.loaded()).await.unwrap();
    assert!(local.trouble().is_none() && local.status().connected);
    assert!(local.check("acme", "reporting", "exports").await.unwrap().is_entitled());
}

#[tokio::test]
async fn a_token_is_rotated_under_a_running_client() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "secret-0\n").unwrap();
    let server = Server::start("gold").await;
    server.want("secret-0");
    let record = Record::default();
    let tessera = client(&[server.endpoint()]).token_file(&path).metrics(record.clone()).connect().await.unwrap();
    let checker = tessera.checker();
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    lost_before_document(&mut watch).await;
    assert!(checker.check(Check::new("acme", "reporting", "exports")).await.unwrap().is_entitled());
    let rotate = |number: u32| {
        let token = format!("secret-{number}");
        std::fs::write(&path, &token).unwrap();
        server.want(&token);
    };

    rotate(1);
    let many = (0..20).map(|_| async { tessera.check("acme", "reporting", "exports").await.unwrap() });
    futures::future::join_all(many).await;
    let attempts: Vec<u32> = record.calls().into_iter().filter(|call| call.0 == Method::Check).map(|call| call.2).collect();
    // One attempt is enough for who comes after somebody else has found out.
    assert!(attempts.len() == 20 && attempts.iter().all(|attempts| *attempts <= 2), "{attempts:?}");

    // Streams go on as what they are, and show the new token when they are opened again.
    rotate(2);
    server.fake.break_streams();
    assert!((1..=2).contains(&lost_before_document(&mut watch).await));
    rotate(3);
    server.fake.break_streams();
    assert!(checker.check(Check::new("acme", "reporting", "exports")).await.unwrap().is_entitled());

    // Nothing is new: that is said, and what was shown before is shown when it counts again.
    server.want("secret-5");
    unauthenticated(tessera.check("acme", "reporting", "exports").await);
    std::fs::remove_file(&path).unwrap();
    unauthenticated(tessera.check("acme", "reporting", "exports").await);
    server.want("secret-3");
    assert!(tessera.check("acme", "reporting", "exports").await.unwrap().is_entitled());
}

// === TLS ===

/// An authority that makes certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn pair(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A server of a certificate for `localhost` and 127.0.0.1; `clients` is who makes those of clients.
    async fn server(&self, plan: &str, clients: Option<&Authority>) -> (Server, String) {
        let Pair { certificate, key } = self.pair("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        if let Some(clients) = clients {
            tls = tls.client_ca_root(Certificate::from_pem(&clients.pem));
        }
        let server = Server::with(plan, tonic::transport::Server::builder().tls_config(tls).unwrap()).await;
        let endpoint = format!("https://{}", server.address);
        (server, endpoint)
    }

    fn client(&self, endpoint: &str) -> tessera_client::Builder {
        client(&[endpoint.to_owned()]).connect_timeout(SLACK).certificate_authority(self.pem.clone())
    }
}

#[tokio::test]
async fn a_server_is_known_by_its_authority() {
    let ours = Authority::new();
    let (server, endpoint) = ours.server("gold", None).await;
    server.want("secret");
    let tessera = ours.client(&endpoint).token("secret").connect().await.unwrap();
    let decision = tessera.check("acme", "reporting", "exports").await.unwrap();
    assert_eq!(decision.plan.unwrap().id, "gold");
    let by_name = format!("https://localhost:{}", server.address.port());
    assert!(ours.client(&by_name).token("secret").connect().await.is_ok());
    let asked = server.seen.lock().unwrap().len();

    // Another authority, that of the system's, another name, and no TLS.
    let foreign = Authority::new().client(&endpoint).token("secret").connect_lazy().unwrap();
    let error = foreign.check("acme", "reporting", "exports").deadline(SLACK).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert!(client(std::slice::from_ref(&endpoint)).token("secret").connect().await.is_err());
    let other_name = endpoint.replace("127.0.0.1", "127.0.0.2");
    assert!(ours.client(&other_name).token("secret").connect().await.is_err());
    assert!(client(&[server.endpoint()]).token("secret").connect().await.is_err());
    assert_eq!(server.seen.lock().unwrap().len(), asked, "somebody was told the token");
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (_server, endpoint) = ours.server("gold", Some(&theirs)).await;
    let Pair { certificate, key } = theirs.pair("service", ExtendedKeyUsagePurpose::ClientAuth);
    let known = ours.client(&endpoint).client_certificate(certificate, key).connect().await.unwrap();
    assert!(known.check("acme", "reporting", "exports").await.unwrap().is_entitled());
    let mut watch = known.watch();
    watch.subscribe("acme").unwrap();
    assert_eq!(lost_before_document(&mut watch).await, 0);
    let Pair { certificate, key } = ours.pair("service", ExtendedKeyUsagePurpose::ClientAuth);
    for stranger in [ours.client(&endpoint), ours.client(&endpoint).client_certificate(certificate, key)] {
        let stranger = stranger.deadline(Duration::from_secs(2)).connect_lazy().unwrap();
        assert!(stranger.check("acme", "reporting", "exports").await.is_err());
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_told_when_the_client_is_built() {
    let ours = Authority::new();
    let Pair { certificate, key } = ours.pair("service", ExtendedKeyUsagePurpose::ClientAuth);
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let secure = || ours.client("https://127.0.0.1:1");
    let text = "-----BEGIN CERTIFICATE-----\nsecret!\n-----END CERTIFICATE-----\n";
    for (builder, expected) in [
        (secure().certificate_authority("secret"), "`certificate_authority`: it has no certificate"),
        (secure().certificate_authority(text), "`certificate_authority`: it cannot be used for `https://127.0.0.1:1`"),
        (secure().client_certificate("secret", key.as_str()), "`client_certificate`: it has no certificate"),
        (secure().client_certificate(certificate.as_str(), "secret"), "`client_certificate`: it cannot be used"),
        (secure().client_certificate(certificate.as_str(), other_key.as_str()), "`client_certificate`: it cannot be used"),
        (secure().token("secret secret"), "`token`: it is no token"),
        (secure().token_file("/nowhere/token"), "`token_file`: cannot read `/nowhere/token`"),
        (ours.client("http://127.0.0.1:1"), "endpoint `http://127.0.0.1:1`: it is without TLS, and certificates were given"),
    ] {
        let said = builder.connect_lazy().unwrap_err().to_string();
        assert!(said.starts_with(expected) && !said.contains("secret"), "{said}");
    }
    assert!(secure().client_certificate(certificate, key).connect_lazy().is_ok());
}

#[tokio::test]
async fn secrets_are_in_no_debug_and_no_error() {
    let server = Server::start("gold").await;
    server.want("another");
    let ours = Authority::new();
    let Pair { certificate, key } = ours.pair("service", ExtendedKeyUsagePurpose::ClientAuth);
    let of_key: String = key.lines().nth(1).unwrap().chars().take(20).collect();
    let secure = ours.client("https://127.0.0.1:1").client_certificate(certificate, key).token("secret");
    let plain = client(&[server.endpoint()]).token("secret");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "secret").unwrap();
    let of_file = client(&[server.endpoint()]).token_file(path);
    let mut said = Vec::new();
    for builder in [secure, plain, of_file] {
        let tessera: Tessera = builder.clone().connect_lazy().unwrap();
        let call = tessera.check("acme", "reporting", "exports").deadline(Duration::from_secs(2));
        said.push(format!("{builder:#?} {tessera:#?} {call:#?} {:#?} {:#?}", tessera.checker(), tessera.watch()));
        let error = call.await.unwrap_err();
        said.push(format!("{error} {error:#?}"));
    }
    let said = said.concat();
    assert!(!said.contains("secret") && !said.contains(&of_key), "{said}");
    assert!(said.contains("Unauthenticated"), "{said}");
}
