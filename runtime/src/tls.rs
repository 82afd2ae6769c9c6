//! TLS of gRPC listeners: a certificate and its key, client certificates if there is a CA for them, and both read anew while
//! connections live. TLS 1.2 and 1.3, HTTP/2 and nothing else.
//!
//! What is swapped is a whole configuration, and only one that was built without a problem; a connection keeps the one that it
//! began with. Sessions are not resumed: connections live long, and a resumed one would be judged by what was right before. What
//! a client's certificate allows is not decided here: [`crate::listener::Peer`] carries what it says.

mod certificate;
mod files;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{counter, gauge};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::listener::PeerCertificate;
use crate::metric_definitions::{TLS_EXPIRY, TLS_RELOADS};
use files::{Digest, Files};

pub(crate) use certificate::is_spiffe_id;

/// How often the files are looked at. Certificates are renewed hours before they end; a few seconds are for whoever watches.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Where the certificates are, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate of this server, and behind it what leads to its root.
    pub certificate: PathBuf,
    /// The key of the certificate, not encrypted.
    pub key: PathBuf,
    /// Certificates of the authorities whose clients are let in. Without it no client is asked for a certificate.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is let in; only with `client_ca`. Default `required`.
    #[serde(default)]
    pub client_certificates: Option<ClientCertificates>,
}

/// Whether clients need certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// There is no connection without one.
    #[default]
    Required,
    /// A client that sends none is let in and is nobody; one that is sent has to be good.
    Optional,
}

/// Why there is no TLS, or why what is in the files is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or is not what it should be.
    #[error("`{field}` of TLS, `{}`: {problem}", path.display())]
    File {
        /// Which setting names it.
        field: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The certificate has ended, by the clock of this machine.
    #[error("`certificate` of TLS, `{}`: the certificate has ended at {ends}", path.display())]
    Ended {
        /// Its file.
        path: PathBuf,
        /// When it ended.
        ends: jiff::Timestamp,
    },
    /// Certificate and key are not of one pair.
    #[error("the key in `{}` does not belong to the certificate in `{}`: {problem}", key.display(), certificate.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Clients are to have certificates, and nobody is said to make them.
    #[error("`client_certificates` of TLS is set without `client_ca`; allowed are both or neither")]
    NoAuthority,
}

impl TlsConfig {
    /// Checks what can be checked without reading the files.
    pub fn validate(&self) -> Result<(), Error> {
        match (&self.client_ca, self.client_certificates) {
            (None, Some(_)) => Err(Error::NoAuthority),
            _ => Ok(()),
        }
    }
}

/// TLS of a listener. Cheap to clone; all clones follow the files.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: TlsConfig,
    clock: Arc<dyn Clock>,
    current: ArcSwap<ServerConfig>,
    /// What the first configuration was made of.
    first: Seen,
}

/// What was found in the files at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    digest: Digest,
    /// When its certificate has ended, if it was refused for that: it is good once the clock says another time.
    ended: Option<jiff::Timestamp>,
}

impl Tls {
    /// Reads the files and checks that they can be served with: that they belong together and that the certificate has not ended.
    pub fn load(config: &TlsConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        config.validate()?;
        let files = Files::read(config)?;
        let ready = files.build(config, clock.now())?;
        gauge!(TLS_EXPIRY).set(ready.ends_at);
        for outcome in ["taken", "refused"] {
            // There from the start, so that the first one is seen to be one more.
            counter!(TLS_RELOADS, "outcome" => outcome).increment(0);
        }
        let current = ArcSwap::new(ready.server);
        Ok(Self(Arc::new(Shared { config: config.clone(), clock, current, first: Seen { digest: files.digest(), ended: None } })))
    }

    /// Follows the files for ever. Spawn it behind the work. A pair that cannot be served with changes nothing but the log and a
    /// metric.
    pub fn keep_fresh(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let tls = self.clone();
        async move {
            let mut seen = tls.0.first;
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (looks, before) = (tls.clone(), seen);
                // Reads of files, which may be far away.
                seen = tokio::task::spawn_blocking(move || looks.look(before)).await?;
            }
        }
    }

    /// Looks at the files once; `seen` is what was looked at before. The same again is not tried again, unless the clock was set back.
    fn look(&self, seen: Seen) -> Seen {
        let (shared, now) = (&self.0, self.now());
        let read = Files::read(&shared.config);
        let digest = read.as_ref().map_or_else(Digest::of_problem, Files::digest);
        if digest == seen.digest && seen.ended.is_none_or(|ended| ended.as_second() <= now.seconds()) {
            return seen;
        }
        let mut ended = None;
        match read.and_then(|files| files.build(&shared.config, now)) {
            Ok(ready) => {
                shared.current.store(ready.server);
                gauge!(TLS_EXPIRY).set(ready.ends_at);
                counter!(TLS_RELOADS, "outcome" => "taken").increment(1);
                info!(ends = %ready.ends, "TLS has new certificates; connections that live keep theirs");
            }
            Err(error) => {
                if let Error::Ended { ends, .. } = error {
                    ended = Some(ends);
                }
                counter!(TLS_RELOADS, "outcome" => "refused").increment(1);
                warn!(%error, "the new certificates of TLS are not used; the ones before are");
            }
        }
        Seen { digest, ended }
    }

    /// The time that certificates are judged by.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Shakes hands over a socket: the stream, and what the client's certificate says if it sent one.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let stream = TlsAcceptor::from(self.0.current.load_full()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(files::PROTOCOL) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client did not ask for HTTP/2 (ALPN `h2`)"));
        }
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(certificate::of_peer);
        Ok((stream, certificate))
    }
}

#[cfg(test)]
pub(crate) mod tests;
