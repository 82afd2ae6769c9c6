//! The keys of one issuer of JSON Web Tokens: read at the start and ever again, used on while they cannot be read. An issuer
//! that answers with none has withdrawn them all.
//!
//! A token whose key is not known has them read at once, but no more than every half minute: issuers publish a key before they
//! sign with it, so that this is for those who do not. What cannot be had in five seconds is had another time. What it is asked
//! with is made at the start, where what is wrong with it can still be said to whoever made the settings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use serde::Deserialize;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::jwt::{Keys, Unverified};
use super::metric_definitions as metrics;
use super::settings::{IssuerConfig, Wrong, may_be_read};
use super::{Principal, Refused};

/// Longest answer, in bytes.
const ANSWER_LEN_MAX: usize = 256 << 10;
/// Longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// A caller whose key is unknown waits so long for it to become known.
const CALLER_WAIT: Duration = Duration::from_secs(2);
/// Where there are no keys that are good they are read as often.
const WITHOUT_KEYS_INTERVAL: Duration = Duration::from_secs(2);
/// Unknown keys do not have the keys read more often.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(30);

/// One issuer.
#[derive(Debug)]
pub(super) struct Issuer {
    config: IssuerConfig,
    client: reqwest::Client,
    keys: ArcSwap<Known>,
    clock: Arc<dyn Clock>,
    /// Somebody has met an unknown key.
    wanted: Notify,
    /// When keys were read, or could not be, the last time.
    tried: watch::Sender<Option<Instant>>,
}

/// Keys, and when they were read; `None` before the first time. By two clocks: one that nobody sets back, and one that goes on while
/// the machine is suspended.
#[derive(Debug, Default)]
struct Known {
    keys: Keys,
    at: Option<(Instant, Timestamp)>,
}

/// The part of OpenID Connect Discovery that is needed.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Nobody is asked yet, but `ca_file` is read.
    pub(super) fn new(config: IssuerConfig, clock: Arc<dyn Clock>) -> Result<Self, Wrong> {
        let client = client(&config)?;
        Ok(Self { config, client, keys: ArcSwap::default(), clock, wanted: Notify::new(), tried: watch::Sender::default() })
    }

    /// What tokens say in `iss`.
    pub(super) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// The caller of a token, and until when it is good.
    pub(super) fn verify(&self, token: &Unverified<'_>, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let known = self.keys.load();
        if !self.is_good(&known, now) {
            return Err(Refused::KeyUnknown);
        }
        token.verify(&known.keys, &self.config, now)
    }

    /// Whether there are any, and they were read not too long ago.
    fn is_good(&self, known: &Known, now: Timestamp) -> bool {
        let age = known.at.map(|(read, at)| read.elapsed().max(now.saturating_since(at)));
        known.keys.len() > 0 && age.is_some_and(|age| age <= self.config.keys_age_max())
    }

    /// Asks for the keys to be read, and waits a moment until that was tried, unless it was only just tried.
    pub(super) async fn read_anew(&self) {
        let mut tried = self.tried.subscribe();
        if tried.borrow_and_update().is_some_and(|at| at.elapsed() < UNKNOWN_INTERVAL) {
            return;
        }
        self.wanted.notify_one();
        // Too late or not at all: the caller hears that the key is unknown.
        drop(tokio::time::timeout(CALLER_WAIT, tried.changed()).await);
    }

    /// Reads the keys for ever.
    pub(super) async fn follow(self: Arc<Self>) -> anyhow::Result<()> {
        loop {
            let read = self.fetch().await;
            self.note(read);
            let next = Instant::now() + self.pause();
            let wanted = async {
                tokio::time::sleep(UNKNOWN_INTERVAL).await;
                self.wanted.notified().await;
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = wanted => {}
            }
        }
    }

    /// Without keys that are good nobody is let in: they are tried for more often.
    fn pause(&self) -> Duration {
        let interval = self.config.keys_interval();
        if self.is_good(&self.keys.load(), self.clock.now()) { interval } else { interval.min(WITHOUT_KEYS_INTERVAL) }
    }

    fn note(&self, read: Result<Keys, String>) {
        let name = &self.config.name;
        match read {
            Ok(keys) => {
                let known = self.keys.load();
                let is_news = known.at.is_none() || known.keys.len() != keys.len();
                match keys.len() {
                    // Told once: they are read every two seconds now.
                    0 if is_news => error!(
                        issuer = name,
                        "an issuer has no key for signing (RSA, P-256, P-384, Ed25519); all its tokens are refused"
                    ),
                    count if is_news => info!(issuer = name, keys = count, "the keys of an issuer were read"),
                    _ => {}
                }
                metrics::keys_read(name, "ok");
                metrics::keys(name, keys.len());
                self.keys.store(Arc::new(Known { keys, at: Some((Instant::now(), self.clock.now())) }));
            }
            Err(problem) => {
                warn!(
                    issuer = name,
                    problem, "the keys of an issuer cannot be had; those that are known stay in use for a while"
                );
                metrics::keys_read(name, "failed");
                if !self.is_good(&self.keys.load(), self.clock.now()) {
                    metrics::keys(name, 0);
                }
            }
        }
        self.tried.send_replace(Some(Instant::now()));
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let uri = match &self.config.jwks_uri {
            Some(uri) => uri.clone(),
            None => self.discovered().await?,
        };
        Keys::read(&answer(&self.client, &uri).await?)
    }

    /// Where the issuer says that its keys are.
    async fn discovered(&self) -> Result<String, String> {
        let uri = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let found = answer(&self.client, &uri).await?;
        let found: Discovery = serde_json::from_slice(&found).map_err(|error| format!("{uri} is no such document: {error}"))?;
        if found.issuer != self.config.issuer {
            return Err(format!("{uri} is of another issuer"));
        }
        if !may_be_read(&found.jwks_uri) {
            return Err(format!("{uri} names a `jwks_uri` that is not https"));
        }
        Ok(found.jwks_uri)
    }
}

/// What asks the issuer. Where there is no TLS, it does not matter whom the system trusts, if it trusts anybody.
fn client(config: &IssuerConfig) -> Result<reqwest::Client, Wrong> {
    let whose = config.ca_file.as_ref().map_or_else(|| "the system".to_owned(), |path| format!("`{}`", path.display()));
    let wrong = |problem: String| {
        let allowed = "a file with certificates in PEM, or none where the system has some (package `ca-certificates`)";
        ("ca_file", format!("the authorities of {whose} cannot be used: {problem}; allowed is {allowed}"))
    };
    let builder = reqwest::Client::builder()
        .timeout(ANSWER_WAIT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("tessera/", env!("CARGO_PKG_VERSION")));
    let builder = match (&config.ca_file, &config.jwks_uri) {
        (Some(path), _) => builder.tls_certs_only(authorities(path).map_err(wrong)?),
        (None, Some(uri)) if uri.starts_with("http://") => builder.tls_certs_only(Vec::new()),
        _ => builder,
    };
    builder.build().map_err(|error| wrong(chain(&error)))
}

/// The certificates in a file, one at least.
fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| chain(&error))?;
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

/// The body that is found at `uri`.
async fn answer(client: &reqwest::Client, uri: &str) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| format!("{uri}: {}", chain(&error.without_url()));
    let response = client.get(uri).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("{uri} answered {}", response.status()));
    }
    let (mut body, mut chunks) = (Vec::new(), response.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(failed)?);
        if body.len() > ANSWER_LEN_MAX {
            return Err(format!("{uri}: the answer is longer than {ANSWER_LEN_MAX} bytes, the most that is read"));
        }
    }
    Ok(body)
}

/// An error with everything that led to it.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
