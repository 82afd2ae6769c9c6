//! What the generator shows of who it is, and by what it knows the planes: a token, certificates; as `tessera` takes them.
//! Secrets come from files and the environment, never from the command line, which everybody on the machine can read.
//!
//! Read once, when the load begins: it does not outlast a token.

mod tls;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use http::{HeaderValue, header};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tessera_core::shown::shown;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::address::Address;
pub(crate) use tls::HTTP2;

/// The variable with a token.
const TOKEN_VARIABLE: &str = "TESSERA_TOKEN";

/// Where credentials are.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Who asks")]
pub struct Files {
    /// File with a token to show to the planes; `TESSERA_TOKEN` has one, too
    #[arg(long, value_name = "FILE", env = "TESSERA_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) that the planes are known by, for https [default: those of the system]
    #[arg(long, value_name = "FILE", env = "TESSERA_CA_FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to the planes
    #[arg(long, value_name = "FILE", env = "TESSERA_CLIENT_CERTIFICATE", hide_env_values = true, requires = "client_key")]
    pub client_certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", env = "TESSERA_CLIENT_KEY", hide_env_values = true, requires = "client_certificate")]
    pub client_key: Option<PathBuf>,
}

/// Read from there, and from the environment.
#[derive(Clone, Default)]
pub struct Credentials {
    bearer: Bearer,
    ca: Option<Vec<u8>>,
    client: Option<Pair>,
}

/// In PEM.
#[derive(Clone)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Puts a token, if there is one, into every call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

/// The way to one server: where it is, how it is known, and what is shown to it. Cheap to clone.
#[derive(Clone)]
pub struct Way(Arc<Known>);

struct Known {
    address: Address,
    endpoint: Endpoint,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    bearer: Bearer,
    authorization: Option<HeaderValue>,
}

// === impl Files ===

impl Files {
    /// Reads what is there. A file that was named goes before the environment.
    pub fn read(&self) -> anyhow::Result<Credentials> {
        self.read_beside(std::env::var(TOKEN_VARIABLE).ok())
    }

    fn read_beside(&self, variable: Option<String>) -> anyhow::Result<Credentials> {
        let bearer = match (&self.token_file, variable.filter(|token| !token.is_empty())) {
            (Some(path), _) => {
                let token = String::from_utf8(bytes(path, "--token-file")?).unwrap_or_default();
                Bearer::of(&token, &format!("--token-file: `{}`", path.display()))?
            }
            (None, Some(token)) => Bearer::of(&token, TOKEN_VARIABLE)?,
            (None, None) => Bearer::default(),
        };
        let ca = self.ca_file.as_deref().map(|path| certificates(path, "--ca-file")).transpose()?;
        let client = self.client_certificate.as_deref().zip(self.client_key.as_deref());
        let client = client.map(|(certificate, key)| {
            anyhow::Ok(Pair { certificate: certificates(certificate, "--client-certificate")?, key: bytes(key, "--client-key")? })
        });
        Ok(Credentials { bearer, ca, client: client.transpose()? })
    }
}

fn bytes(path: &Path, option: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{option}: cannot read `{}`", path.display()))
}

/// A file of certificates, which has some.
fn certificates(path: &Path, option: &str) -> anyhow::Result<Vec<u8>> {
    let pem = bytes(path, option)?;
    tls::certificates(&pem).with_context(|| format!("{option}: `{}`", path.display()))?;
    Ok(pem)
}

// === impl Bearer ===

impl Bearer {
    /// The message repeats nothing of what is there.
    fn of(token: &str, place: &str) -> anyhow::Result<Self> {
        let token = token.trim();
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(is_token, "{place} has no token; allowed are printable ASCII characters without spaces");
        let mut value = MetadataValue::try_from(format!("Bearer {token}")).with_context(|| format!("{place} has no token"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }

    /// As a header.
    fn header(&self) -> anyhow::Result<Option<HeaderValue>> {
        let Some(value) = &self.0 else { return Ok(None) };
        let mut header = HeaderValue::from_bytes(value.as_bytes())?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(header::AUTHORIZATION.as_str(), token.clone());
        }
        Ok(request)
    }
}

// === impl Credentials ===

impl Credentials {
    /// The way to `address`, which `option` named. Without a scheme it is https where certificates were given, else http.
    pub fn way(&self, address: &Address, option: &str) -> anyhow::Result<Way> {
        self.way_to(address).with_context(|| option.to_owned())
    }

    fn way_to(&self, address: &Address) -> anyhow::Result<Way> {
        let has_certificates = self.ca.is_some() || self.client.is_some();
        let is_https = address.says_https().unwrap_or(has_certificates);
        if has_certificates && !is_https {
            bail!("`{0}` is without TLS, and certificates were given for it; allowed is https://{0}", address.authority());
        }
        // A token on the open network is everybody's; whoever writes `http://` has something that encrypts on the way.
        if self.bearer.0.is_some() && !is_https && address.says_https().is_none() && !address.is_loopback() {
            bail!(
                "refusing to send a token to `{0}` without TLS; allowed are https://{0} and, at your own risk, http://{0}",
                address.authority()
            );
        }
        let scheme = if is_https { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", address.authority()))?.tcp_nodelay(true);
        let mut tls = None;
        if is_https {
            let unusable = || format!("the certificates for `{}` cannot be used", shown(address.authority()));
            endpoint = endpoint.tls_config(self.tonic_tls()).with_context(unusable)?;
            let client = self.client.as_ref().map(|pair| (pair.certificate.as_slice(), pair.key.as_slice()));
            let config = tls::config(self.ca.as_deref(), client).with_context(unusable)?;
            tls = Some((Arc::new(config), ServerName::try_from(address.host().to_owned())?));
        }
        let (bearer, authorization) = (self.bearer.clone(), self.bearer.header()?);
        Ok(Way(Arc::new(Known { address: address.clone(), endpoint, tls, bearer, authorization })))
    }

    fn tonic_tls(&self) -> ClientTlsConfig {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
            None => tls.with_native_roots(),
        };
        match &self.client {
            Some(Pair { certificate, key }) => tls.identity(Identity::from_pem(certificate, key)),
            None => tls,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("bearer", &self.bearer).finish_non_exhaustive()
    }
}

// === impl Way ===

impl Way {
    /// host:port.
    pub fn authority(&self) -> &str {
        self.0.address.authority()
    }

    /// For calls of tonic.
    pub fn endpoint(&self) -> Endpoint {
        self.0.endpoint.clone()
    }

    /// What goes into every call of tonic.
    pub fn bearer(&self) -> Bearer {
        self.0.bearer.clone()
    }

    /// The header with the token, if there is one.
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.0.authorization.clone()
    }

    /// With what TLS is spoken, and to whom; `None` without TLS.
    pub fn tls(&self) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        self.0.tls.clone()
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.address.fmt(f)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("address", &self.0.address).field("tls", &self.0.tls.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
