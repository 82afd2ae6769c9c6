//! TLS below the generator's own HTTP/2, as tonic has it below its own: TLS 1.2 and 1.3, and HTTP/2 by negotiation.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What HTTP/2 is called in the negotiation.
pub(crate) const HTTP2: &[u8] = b"h2";

/// With the authorities in `ca`, or else those of the system; `client` is our certificate and its key. All in PEM.
pub(super) fn config(ca: Option<&[u8]>, client: Option<(&[u8], &[u8])>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in certificates(pem).context("--ca-file")? {
            roots.add(certificate).context("--ca-file")?;
        }
    } else {
        // Some systems have certificates among theirs that nobody can read.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(!roots.is_empty(), "the system has no certificate authorities; --ca-file names some");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificates = certificates(certificate).context("--client-certificate")?;
            // What is wrong with a key is not for messages.
            let key = PrivateKeyDer::from_pem_slice(key).ok().context("--client-key: it has no key in PEM")?;
            builder.with_client_auth_cert(certificates, key).context("--client-certificate and --client-key")?
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

/// All that are in `pem`; an error if there are none: the TLS library takes that for a list without entries.
pub(super) fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().context("read the PEM")?;
    ensure!(!all.is_empty(), "it has no certificate in PEM");
    Ok(all)
}
