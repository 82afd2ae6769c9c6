//! From files to what rustls serves with, or to a message that names the file. Reads; keeps nothing.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp as Shown;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tessera_core::time::Timestamp;
use tracing::warn;

use super::{ClientCertificates, Error, TlsConfig, certificate};

/// What is spoken inside, by its name in ALPN (RFC 7301; RFC 9113, 3.2).
pub(super) const PROTOCOL: &[u8] = b"h2";
/// Longest file that is read: a chain has a few KiB, a list of authorities perhaps a few hundred.
const FILE_LEN_MAX: u64 = 4 << 20;

/// What tells contents of files apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of_problem(error: &Error) -> Self {
        Self(Sha256::digest(error.to_string()).into())
    }
}

/// The contents of all files.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What can be served with.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) server: Arc<ServerConfig>,
    /// When the certificate ends, for the log and, in seconds since 1970, for the metric.
    pub(super) ends: Shown,
    pub(super) ends_at: f64,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There is a key in it.
        f.write_str("Files")
    }
}

impl Files {
    pub(super) fn read(config: &TlsConfig) -> Result<Self, Error> {
        Ok(Self {
            certificate: read("certificate", &config.certificate)?,
            key: read("key", &config.key)?,
            client_ca: config.client_ca.as_deref().map(|path| read("client_ca", path)).transpose()?,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        for part in [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            // With its length, so that no two divisions of the same bytes are the same.
            hasher.update(part.len().to_be_bytes());
            hasher.update(part);
        }
        Digest(hasher.finalize().into())
    }

    /// Makes of them what can be served with at `now`.
    pub(super) fn build(&self, config: &TlsConfig, now: Timestamp) -> Result<Ready, Error> {
        let chain = certificates("certificate", &config.certificate, &self.certificate)?;
        let of_certificate = |problem: String| Error::File { field: "certificate", path: config.certificate.clone(), problem };
        let ends_at = chain.first().and_then(certificate::ends_at);
        let ends_at = ends_at.ok_or_else(|| of_certificate("the first certificate in it cannot be read".to_owned()))?;
        let ends = Shown::from_second(ends_at).unwrap_or(Shown::MAX);
        if ends_at <= now.seconds() {
            return Err(Error::Ended { path: config.certificate.clone(), ends });
        }
        let of_key = |problem: String| Error::File { field: "key", path: config.key.clone(), problem };
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            of_key(format!("no private key can be read from it ({error}); allowed is PEM without a password"))
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13, &TLS12]);
        let builder = builder.map_err(|error| of_certificate(error.to_string()))?;
        let builder = match (&config.client_ca, &self.client_ca) {
            (Some(path), Some(bytes)) => {
                let of_ca = |problem: String| Error::File { field: "client_ca", path: path.clone(), problem };
                let mut roots = RootCertStore::empty();
                for authority in certificates("client_ca", path, bytes)? {
                    roots.add(authority).map_err(|error| of_ca(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match config.client_certificates.unwrap_or_default() {
                    ClientCertificates::Required => verifier,
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| of_ca(error.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| Error::Pair {
            certificate: config.certificate.clone(),
            key: config.key.clone(),
            problem: error.to_string(),
        })?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        if is_readable_by_all(&config.key) {
            // Not an error: it is how orchestrators mount secrets, into a file system that nobody else has.
            warn!(path = %config.key.display(), "every user of this machine may read the key of TLS");
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds of this age are far below 2^52")]
        let ends_at = ends_at as f64;
        Ok(Ready { server: Arc::new(server), ends, ends_at })
    }
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |problem: String| Error::File { field, path: path.to_owned(), problem };
    let len = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if len > FILE_LEN_MAX {
        return Err(failed(format!("it has `{len}` bytes; allowed are at most {FILE_LEN_MAX}")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

fn certificates(field: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |problem: String| Error::File { field, path: PathBuf::from(path), problem };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| failed(format!("it is not PEM: {error}")))?;
    if read.is_empty() { Err(failed("there is no certificate in it; allowed is PEM".to_owned())) } else { Ok(read) }
}

fn is_readable_by_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}
