//! What a client shows of who it is, and by what it knows the servers: a token, certificates. Looked at when the client is
//! built, so that a slip is told at once; nothing secret is repeated by a message or by `Debug`.

pub(crate) mod bearer;

use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::endpoint::Address;
use crate::error::Error;
use bearer::Bearer;

/// What every certificate in PEM begins with.
const CERTIFICATE_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

/// As they were given to the builder.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    token: Option<Token>,
    /// Certificates of the authorities that servers are known by; those of the system when there are none.
    authority: Option<Vec<u8>>,
    client: Option<Pair>,
}

#[derive(Clone)]
enum Token {
    Given(String),
    File(PathBuf),
}

/// In PEM.
#[derive(Clone)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Credentials {
    pub(crate) fn token(&mut self, token: String) {
        self.token = Some(Token::Given(token));
    }

    pub(crate) fn token_file(&mut self, path: PathBuf) {
        self.token = Some(Token::File(path));
    }

    pub(crate) fn authority(&mut self, pem: Vec<u8>) {
        self.authority = Some(pem);
    }

    pub(crate) fn client(&mut self, certificate: Vec<u8>, key: Vec<u8>) {
        self.client = Some(Pair { certificate, key });
    }

    /// The token, if there is one; reads its file.
    pub(crate) fn bearer(&self) -> Result<Option<Bearer>, Error> {
        match &self.token {
            None => Ok(None),
            Some(Token::Given(token)) => Bearer::of(token).map(Some),
            Some(Token::File(path)) => Bearer::of_file(path.clone()).map(Some),
        }
    }

    /// The way to a server: with TLS where its address says so, and never without where certificates were given.
    pub(crate) fn secure(&self, address: &Address, endpoint: Endpoint) -> Result<Endpoint, Error> {
        if address.is_https() {
            let tls = self.tls()?;
            return endpoint.tls_config(tls).map_err(|error| {
                let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                Error::Credentials { setting: self.named(), problem: format!("it cannot be used for `{address}`: {cause}") }
            });
        }
        if self.authority.is_some() || self.client.is_some() {
            let problem = "it is without TLS, and certificates were given for it";
            return Err(Error::Endpoint { endpoint: address.to_string(), problem, allowed: "allowed is `https://host:port`" });
        }
        // An address without a scheme is refused, so whoever is here wrote `http://` and may have something that encrypts on
        // the way; whoever has not should hear of it.
        if self.token.is_some() && !address.is_loopback() {
            tracing::warn!(endpoint = %address, "a token is sent without TLS");
        }
        Ok(endpoint)
    }

    fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.authority {
            Some(pem) => {
                has_certificate("certificate_authority", pem)?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_native_roots(),
        };
        if let Some(Pair { certificate, key }) = &self.client {
            has_certificate("client_certificate", certificate)?;
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        Ok(tls)
    }

    /// Which setting is at fault when TLS cannot be had: what it is about is told by the cause.
    fn named(&self) -> &'static str {
        if self.client.is_some() { "client_certificate" } else { "certificate_authority" }
    }
}

/// What holds none is taken by the TLS library for a list without entries, and then no server would be known.
fn has_certificate(setting: &'static str, pem: &[u8]) -> Result<(), Error> {
    if String::from_utf8_lossy(pem).contains(CERTIFICATE_BEGINS) {
        return Ok(());
    }
    Err(Error::Credentials { setting, problem: format!("it has no certificate; allowed is PEM with `{CERTIFICATE_BEGINS}`") })
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|token| match token {
            Token::Given(_) => "given".to_owned(),
            Token::File(path) => format!("in `{}`", path.display()),
        });
        f.debug_struct("Credentials")
            .field("token", &token)
            .field("has_authority", &self.authority.is_some())
            .field("has_client_certificate", &self.client.is_some())
            .finish()
    }
}
