//! What the command line shows of who it is, and by what it knows the planes: a token, certificates. Secrets come from files and
//! the environment, never from the command line, which everybody on the machine can read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use tessera_core::shown::shown;

/// The variable with a token.
const TOKEN_VARIABLE: &str = "TESSERA_TOKEN";
/// What a certificate in PEM begins with.
const CERTIFICATE_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

/// Where credentials are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// A token.
    pub token: Option<PathBuf>,
    /// The authorities that make the planes' certificates; without it, those of the system.
    pub ca: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Read from there, and from the environment.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    bearer: Bearer,
    ca: Option<Certificate>,
    client: Option<Identity>,
}

/// Puts a token, if there is one, into every call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Bearer {
    fn of(token: &str, place: &str) -> anyhow::Result<Self> {
        let token = token.trim();
        ensure!(!token.is_empty(), "the token in {place} is empty");
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = MetadataValue::try_from(format!("Bearer {token}")).ok().filter(|_| printable);
        let mut value =
            value.with_context(|| format!("what is in {place} is no token; allowed are printable ASCII characters"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Files {
    /// Reads what is there. A file that was named goes before the environment.
    pub fn read(&self) -> anyhow::Result<Credentials> {
        let bearer = match (&self.token, std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty())) {
            (Some(path), _) => Bearer::of(&text(path, "token")?, &format!("`{}`", path.display()))?,
            (None, Some(token)) => Bearer::of(&token, TOKEN_VARIABLE)?,
            (None, None) => Bearer::default(),
        };
        let ca =
            self.ca.as_deref().map(|path| certificates(path, "certificate authority").map(Certificate::from_pem)).transpose()?;
        let client = self.client.as_ref().map(|(certificate, key)| {
            anyhow::Ok(Identity::from_pem(certificates(certificate, "client certificate")?, text(key, "client key")?))
        });
        Ok(Credentials { bearer, ca, client: client.transpose()? })
    }
}

fn text(path: &Path, what: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read the {what} in `{}`", path.display()))
}

/// What holds none is taken by the TLS library for a list without entries, and then no server would be known.
fn certificates(path: &Path, what: &str) -> anyhow::Result<String> {
    let pem = text(path, what)?;
    ensure!(
        pem.contains(CERTIFICATE_BEGINS),
        "there is no {what} in `{}`; allowed is PEM with `{CERTIFICATE_BEGINS}`",
        path.display()
    );
    Ok(pem)
}

impl Credentials {
    /// What goes into every call.
    pub fn bearer(&self) -> Bearer {
        self.bearer.clone()
    }

    /// Whether addresses without a scheme are `https`.
    pub fn has_certificates(&self) -> bool {
        self.ca.is_some() || self.client.is_some()
    }

    /// The way to an address: `host:port`, `http://host:port` or `https://host:port`. Without a scheme it is `https` where
    /// certificates were given, else `http`.
    pub fn endpoint(&self, address: &str) -> anyhow::Result<Endpoint> {
        let scheme = if self.has_certificates() { "https" } else { "http" };
        let says_scheme = address.contains("://");
        let uri = if says_scheme { address.to_owned() } else { format!("{scheme}://{address}") };
        let endpoint = Endpoint::from_shared(uri).ok().filter(is_whole).with_context(|| {
            format!(
                "`{}` is not an address; allowed is host:port with a port from 1 to 65535, such as 127.0.0.1:7400, with or without \
                 http:// or https:// before it",
                shown(address)
            )
        })?;
        if endpoint.uri().scheme_str() == Some("https") {
            let mut tls = ClientTlsConfig::new();
            tls = match &self.ca {
                Some(ca) => tls.ca_certificate(ca.clone()),
                None => tls.with_native_roots(),
            };
            if let Some(client) = &self.client {
                tls = tls.identity(client.clone());
            }
            return endpoint.tls_config(tls).with_context(|| format!("the certificates for `{}` cannot be used", shown(address)));
        }
        if self.has_certificates() {
            bail!("`{}` is without TLS, and certificates were given for it; allowed is https://", shown(address));
        }
        // A token on the open network is everybody's; whoever writes `http://` has something that encrypts on the way.
        if self.bearer.0.is_some() && !says_scheme && !is_loopback(&endpoint) {
            bail!(
                "refusing to send a token to `{0}` without TLS; allowed are https://{0} and, at your own risk, http://{0}",
                shown(address)
            );
        }
        Ok(endpoint)
    }
}

/// Anything more than host and port, or a port that there is not, would quietly mean another place or be left out.
fn is_whole(endpoint: &Endpoint) -> bool {
    let uri = endpoint.uri();
    let has_host = uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some_and(|port| port > 0);
    let names_nobody = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    has_host
        && names_nobody
        && matches!(uri.scheme_str(), Some("http" | "https"))
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
}

fn is_loopback(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token() -> Credentials {
        Credentials { bearer: Bearer::of("tessera_secret", "a test").unwrap(), ..Credentials::default() }
    }

    #[test]
    fn a_token_is_not_sent_in_the_open() {
        for fine in ["127.0.0.1:1", "[::1]:1", "localhost:1", "http://192.0.2.1:1"] {
            assert!(with_token().endpoint(fine).is_ok(), "{fine}");
        }
        let refused = with_token().endpoint("192.0.2.1:1").unwrap_err().to_string();
        assert!(refused.contains("`192.0.2.1:1`") && refused.contains("https://192.0.2.1:1"), "{refused}");
        assert!(Credentials::default().endpoint("192.0.2.1:1").is_ok(), "there is no secret to keep");
        assert!(!format!("{:?}", with_token()).contains("tessera_secret"), "{:?}", with_token());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let not_whole = ["", "127.0.0.1", "127.0.0.1:0", "https://127.0.0.1", "a b:1"];
        for bad in not_whole.into_iter().chain(["ftp://127.0.0.1:1", "http://127.0.0.1:1/x", "u@a:1", "https://u@a:1"]) {
            let refused = Credentials::default().endpoint(bad).unwrap_err().to_string();
            assert!(refused.contains("host:port"), "{bad}: {refused}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN PRIVATE KEY-----\n").unwrap();
        let path = file.path().to_path_buf();
        for (files, expected) in [
            (Files { ca: Some(path.clone()), ..Files::default() }, "no certificate authority in"),
            (Files { client: Some((path.clone(), path.clone())), ..Files::default() }, "no client certificate in"),
        ] {
            let refused = files.read().unwrap_err().to_string();
            assert!(refused.contains(expected) && refused.contains(path.to_str().unwrap()), "{refused}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (text, expected) in [("", "empty"), (" \n", "empty"), ("tessera_\u{7f}", "no token"), ("tesserä", "no token")] {
            std::fs::write(&path, text).unwrap();
            let files = Files { token: Some(path.clone()), ..Files::default() };
            let refused = format!("{:#}", files.read().unwrap_err());
            assert!(refused.contains(expected) && refused.contains(path.to_str().unwrap()), "{refused}");
            assert!(!refused.contains("tesser"), "{refused}");
        }
        let missing = Files { ca: Some(folder.path().join("none")), ..Files::default() };
        assert!(format!("{:#}", missing.read().unwrap_err()).contains("certificate authority"));
        let cross = Credentials { ca: Some(Certificate::from_pem("x")), ..Credentials::default() };
        assert!(cross.endpoint("http://192.0.2.1:1").unwrap_err().to_string().contains("https://"));
    }
}
