//! Whose certificate an issuer of JSON Web Tokens may have: that of an authority that the settings name, else of one of the
//! system, where there are any.

use std::sync::Arc;

use anyhow::ensure;
use serde_json::json;
use tessera_e2e::Launch;
use tessera_e2e::authority::{Authority, Signed};
use tessera_e2e::waiting::eventually;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::issued::{Key, Served, issuer_over, now};
use super::{Place, is, tessera};

fn acceptor(signed: &Signed) -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_slice(signed.certificate.as_bytes())?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(signed.key.as_bytes())?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// On a system that trusts no authority, with one issuer.
fn launch(place: &Place, issuer: &str, more: &str) -> Launch {
    let issuer = format!("name = \"corp\"\nissuer = \"{issuer}\"\naudiences = [\"tessera\"]\n{more}");
    let nowhere = place.path("nowhere").display().to_string();
    let launch = place.launch(&format!("[identity]\n[[identity.issuers]]\n{issuer}"));
    launch.env("SSL_CERT_FILE", &nowhere).env("SSL_CERT_DIR", &nowhere)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_from_whoever_the_authorities_of_the_issuer_vouch_for() -> anyhow::Result<()> {
    let (place, key, served, authority) = (Place::new(), Key::new("first"), Served::default(), Authority::new()?);
    *served.lock().unwrap() = Some(json!({ "keys": [key.public()] }));
    let issuer = issuer_over(Some(acceptor(&authority.server(&["127.0.0.1"])?)?), served).await;
    let ca_file = place.write("issuer.pem", &authority.pem);
    let dev = launch(&place, &issuer, &format!("ca_file = \"{}\"\n", ca_file.display())).ready().await?;
    let claims = json!({ "iss": issuer, "aud": "tessera", "sub": "alice", "exp": now() + 600, "scope": "decide" });
    let token = key.sign(&claims);
    let asked = async || is(tessera(&dev, &token, &["check", "acme", "entity-management"]).code == Some(0));
    eventually("the keys are read", asked).await?;
    dev.stop()
}

#[tokio::test]
async fn where_nobody_is_trusted_no_process_starts_that_would_have_to_trust_somebody() -> anyhow::Result<()> {
    let (place, issuer) = (Place::new(), "https://id.example.com");
    let (status, log) = launch(&place, issuer, "").until_it_ends()?;
    ensure!(status.code() == Some(1), "{status}: {log}");
    ensure!(log.contains("identity.issuers[0].ca_file") && log.contains("ca-certificates"), "{log}");
    // Without TLS there is nobody to be trusted. That nobody answers there is an outage of the issuer, and none of the process.
    let dev = launch(&place, issuer, "jwks_uri = \"http://127.0.0.1:9/keys\"\n").ready().await?;
    dev.metric_reaches("tessera_identity_issuer_keys_read_total{issuer=\"corp\",result=\"failed\"}", 1.0).await?;
    dev.stop()
}
