//! Callers with JSON Web Tokens of an issuer that stands on loopback for the time of the test.

use std::sync::{Arc, Mutex};

use anyhow::ensure;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use tessera_e2e::waiting::eventually;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Place, tessera};

/// One key of the issuer.
pub(super) struct Key {
    id: &'static str,
    pair: KeyPair,
}

impl Key {
    pub(super) fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate_for(&PKCS_ED25519).unwrap() }
    }

    pub(super) fn public(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id, "x": x })
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &EncodingKey::from_ed_der(&self.pair.serialize_der())).unwrap()
    }
}

/// What the issuer has at `/keys`; nothing is an error.
pub(super) type Served = Arc<Mutex<Option<Value>>>;

/// Serves it until the test ends; gives the issuer's name.
pub(super) async fn issuer(served: Served) -> String {
    issuer_over(None, served).await
}

/// As [`issuer`], over TLS if there is one.
pub(super) async fn issuer_over(tls: Option<TlsAcceptor>, served: Served) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let issuer = format!("{scheme}://{}", listener.local_addr().unwrap());
    let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }).to_string();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            match &tls {
                None => answer(stream, &discovery, &served).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, &discovery, &served).await;
                    }
                }
            }
        }
    });
    issuer
}

/// Answers one request, whoever asks.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, discovery: &str, served: &Served) {
    let (mut request, mut buffer) = (Vec::new(), [0; 1_024]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(len) => request.extend_from_slice(&buffer[..len]),
        }
    }
    let keys = served.lock().unwrap().as_ref().map(ToString::to_string);
    let body = if request.starts_with(b"GET /keys ") { keys } else { Some(discovery.to_owned()) };
    let (status, body) = body.map_or(("500 Broken", String::new()), |body| ("200 OK", body));
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    drop(stream.write_all(answer.as_bytes()).await);
    // What TLS still has in hand goes out with it.
    drop(stream.shutdown().await);
}

pub(super) fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the process under test has the real clock")]
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_issuer_is_its_subject_bound_to_its_tenants() {
    let (place, key, served) = (Place::new(), Key::new("first"), Served::default());
    *served.lock().unwrap() = Some(json!({ "keys": [key.public()] }));
    let issuer = issuer(Arc::clone(&served)).await;
    let settings = format!(
        "[identity]\n[[identity.issuers]]\nname = \"corp\"\nissuer = \"{issuer}\"\naudiences = [\"tessera\"]\n\
         tenants_claim = \"tenants\"\nkeys_interval_s = 10\n"
    );
    let dev = place.launch(&settings).ready().await.unwrap();
    let claims = |change: &[(&str, Value)]| {
        let mut claims = json!({
            "iss": issuer, "aud": "tessera", "sub": "alice", "exp": now() + 600,
            "scope": "openid decide write:tenants audit", "tenants": ["acme"]
        });
        for (name, value) in change {
            claims[name] = value.clone();
        }
        claims
    };
    let asked = |token: &str| tessera(&dev, token, &["check", "acme", "entity-management", "role-permissions"]);
    let good = key.sign(&claims(&[]));
    let known = async |token: &str| {
        let asked = asked(token);
        // Denied, once the tenant is suspended, is an answer, too.
        ensure!(matches!(asked.code, Some(0 | 3)), "{}", asked.stderr);
        Ok(())
    };
    eventually("the keys are read", async || known(&good).await).await.unwrap();
    tessera(&dev, &good, &["tenant", "suspend", "acme", "--reason", "payment", "--yes"]).success().unwrap();
    let events = tessera(&dev, &good, &["audit", "list", "--tenant", "acme"]).success().unwrap();
    assert!(events.contains("corp:alice"), "{events}");
    let other = tessera(&dev, &good, &["list", "globex"]);
    assert!(other.stderr.contains("TENANT_NOT_FOUND"), "{}", other.stderr);

    for (field, value, expected) in [
        ("exp", json!(now() - 31), "expired"),
        ("exp", json!("9999999999"), "`exp`"),
        ("aud", json!("others"), "`aud`"),
        ("iss", json!("http://127.0.0.1:1"), "not known here"),
        ("tenants", json!([]), "tenants"),
        ("sub", json!(""), "`sub`"),
        ("nbf", json!(now() + 600), "`nbf`"),
    ] {
        let refused = asked(&key.sign(&claims(&[(field, value.clone())])));
        assert!(
            refused.stderr.contains(expected) && refused.stderr.contains("TOKEN_INVALID"),
            "{field} {value}: {}",
            refused.stderr
        );
    }
    let forged = asked(&Key::new("first").sign(&claims(&[])));
    assert!(forged.stderr.contains("not signed by its issuer"), "{}", forged.stderr);

    // The issuer breaks down, and comes back with another key: the first is good until then.
    let (next, interval) = (Key::new("next"), "issuer=\"corp\",result=\"failed\"");
    *served.lock().unwrap() = None;
    eventually("the keys cannot be read", async || {
        let metrics = tessera_e2e::http::get(dev.addresses().http, "/metrics").await?.body;
        ensure!(metrics.contains(interval), "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
    known(&good).await.unwrap();
    *served.lock().unwrap() = Some(json!({ "keys": [next.public()] }));
    let new = next.sign(&claims(&[]));
    eventually("the new key is known", async || known(&new).await).await.unwrap();
    let old = asked(&key.sign(&claims(&[("sub", json!("bob"))])));
    assert!(old.stderr.contains("key of the token is not known"), "{}", old.stderr);
    dev.stop().unwrap();
}
