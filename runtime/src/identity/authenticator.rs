//! From the headers and the certificate of a request to its caller. What is in memory decides, without waiting; only a key of an
//! issuer that is not known yet is waited for.
//!
//! `authorization` goes before the certificate: who shows a token that is refused is refused, whatever else it has. JSON Web Tokens
//! that were verified are remembered for a while (`authenticator/proven.rs`).

mod proven;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tokio::time::Instant;
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::AUTHORIZATION;
use tracing::{error, info};

use super::issuer::Issuer;
use super::jwt::Unverified;
use super::metric_definitions as metrics;
use super::settings::{IdentityConfig, Unsafe, Wrong};
use super::tokens::{PREFIX, Table, TokenFileError, hash_of};
use super::{Principal, Refused};
use crate::lifecycle::Tasks;
use crate::listener::PeerCertificate;
use proven::Proven;

/// The file of tokens is looked at so often: who revokes a token waits no longer.
const FILE_INTERVAL: Duration = Duration::from_secs(2);
/// That a file cannot be used is told again after so long: until it can, nobody's token can be revoked.
const TELL_INTERVAL: Duration = Duration::from_mins(10);
/// A JSON Web Token is not verified again for so long: who changes keys in a hurry waits no longer.
const PROVEN_FOR: Duration = Duration::from_mins(1);
/// What is remembered of them is tidied up so often.
const PROVEN_INTERVAL: Duration = Duration::from_secs(10);

/// Why nobody could be known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// What the settings name cannot be used.
    #[error(transparent)]
    Settings(#[from] Unsafe),
}

/// A caller, and how long that stands before it has to be asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// Who it is.
    pub principal: Principal,
    /// Its credentials are good for so long at least, unless somebody revokes them.
    pub good_for: Duration,
}

/// Knows callers. One per process.
#[derive(Debug)]
pub struct Authenticator {
    tokens: Option<(PathBuf, ArcSwap<Table>)>,
    issuers: Vec<Arc<Issuer>>,
    workloads: HashMap<String, Principal>,
    proven: Proven,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Reads the files that the settings name. These were validated.
    pub fn new(config: IdentityConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        metrics::describe();
        let read = |path: PathBuf| Table::read(&path).map(|table| (path, ArcSwap::from_pointee(table)));
        let tokens = config.tokens_file.map(read).transpose()?;
        if tokens.is_some() {
            metrics::token_file_followed();
        }
        let issuers = config.issuers.into_iter().enumerate().map(|(position, issuer)| {
            let wrong = |(field, problem): Wrong| Unsafe::Field { field: format!("issuers[{position}].{field}"), problem };
            Issuer::new(issuer, Arc::clone(&clock)).map(Arc::new).map_err(wrong)
        });
        let issuers = issuers.collect::<Result<_, _>>()?;
        let workloads = config.workloads.into_iter();
        let workloads = workloads.filter_map(|workload| Some((workload.spiffe_id.clone(), workload.principal().ok()?))).collect();
        Ok(Self { tokens, issuers, workloads, proven: Proven::default(), clock })
    }

    /// Begins to follow the file of tokens and the keys of issuers, for as long as there are calls.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        for issuer in &self.issuers {
            tasks.spawn_behind("identity.issuer", Arc::clone(issuer).follow());
        }
        if !self.issuers.is_empty() {
            tasks.spawn_behind("identity.proven", Arc::clone(self).tidy_proven());
        }
        if self.tokens.is_some() {
            tasks.spawn_behind("identity.tokens", Arc::clone(self).follow_tokens());
        }
    }

    /// The caller who has these headers and that certificate.
    pub fn identify(&self, headers: &HeaderMap, certificate: Option<&PeerCertificate>) -> Result<Identified, Refused> {
        let now = self.clock.now();
        let (principal, until) = match bearer(headers)? {
            Some(token) => self.by_token(token, now)?,
            None => self.by_certificate(certificate, now)?,
        };
        Ok(Identified { principal, good_for: until.saturating_since(now) })
    }

    /// As [`Self::identify`], but after the keys of the token's issuer were read once more, if it is time for that.
    pub async fn identify_with_new_keys(
        &self,
        headers: &HeaderMap,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Identified, Refused> {
        if let Some(token) = bearer(headers)? {
            let token = Unverified::read(token)?;
            self.issuer_of(&token)?.read_anew().await;
        }
        self.identify(headers, certificate)
    }

    fn by_token(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let hash = hash_of(token);
        if token.starts_with(PREFIX) {
            let (_, tokens) = self.tokens.as_ref().ok_or(Refused::Unknown)?;
            return tokens.load().find(&hash, now);
        }
        if let Some(proven) = self.proven.find(&hash, now) {
            return Ok(proven);
        }
        let token = Unverified::read(token)?;
        let (principal, expires) = self.issuer_of(&token)?.verify(&token, now)?;
        let until = expires.min(now.saturating_add(PROVEN_FOR));
        self.proven.remember(hash, principal.clone(), until);
        Ok((principal, until))
    }

    /// The handshake has looked at the certificate, when the connection was young.
    fn by_certificate(&self, certificate: Option<&PeerCertificate>, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let certificate = certificate.ok_or(Refused::Missing)?;
        let workload = certificate.spiffe_id.as_deref().ok_or(Refused::Missing)?;
        let principal = self.workloads.get(workload).cloned().ok_or(Refused::Unknown)?;
        let ends = certificate.ends.unwrap_or(Timestamp::MAX);
        if ends <= now { Err(Refused::Expired) } else { Ok((principal, ends)) }
    }

    fn issuer_of(&self, token: &Unverified<'_>) -> Result<&Arc<Issuer>, Refused> {
        let said = token.issuer().ok_or(Refused::Unfit("`iss` is missing"))?;
        self.issuers.iter().find(|issuer| issuer.issuer() == said).ok_or(Refused::Unknown)
    }

    /// Its own task: where memory is short no call gets here that could make room.
    async fn tidy_proven(self: Arc<Self>) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(PROVEN_INTERVAL).await;
            self.proven.forget_before(self.clock.now());
        }
    }

    async fn follow_tokens(self: Arc<Self>) -> anyhow::Result<()> {
        let mut told = None;
        loop {
            tokio::time::sleep(FILE_INTERVAL).await;
            let (looks, before) = (Arc::clone(&self), told);
            // A read of a file, which may be far away.
            told = tokio::task::spawn_blocking(move || looks.look(before)).await?;
        }
    }

    /// Looks at the file once; what of it was told before, and what then.
    fn look(&self, mut told: Option<Told>) -> Option<Told> {
        if let Some((path, tokens)) = &self.tokens {
            look(path, tokens, &mut told);
        }
        told
    }
}

/// What was told of a file that cannot be used, and when.
type Told = (String, Instant);

/// Takes a changed file of tokens over. What was good stays in use while it cannot be: nobody is shut out by a slip, but somebody
/// who was revoked meanwhile is let in, so that it is an error for as long as it lasts.
fn look(path: &Path, tokens: &ArcSwap<Table>, told: &mut Option<Told>) {
    match tokens.load().newer(path) {
        Ok(None) => *told = None,
        Ok(Some(table)) => {
            info!(path = %path.display(), tokens = table.len(), "the file of API tokens was read");
            tokens.store(Arc::new(table));
            metrics::token_file_read("ok");
            *told = None;
        }
        Err(error) => {
            let problem = format!("{:#}", anyhow::Error::from(error));
            let is_told = told.as_ref().is_some_and(|(said, at)| *said == problem && at.elapsed() < TELL_INTERVAL);
            if !is_told {
                error!(
                    problem,
                    "the file of API tokens cannot be used; the tokens that are known stay in use, those revoked since, too"
                );
                metrics::token_file_read("failed");
                *told = Some((problem, Instant::now()));
            }
        }
    }
}

/// The token of the one `authorization` header there may be.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::Malformed("there is more than one `authorization`"));
    }
    let value = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token = value.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let token = token.filter(|token| !token.is_empty());
    token.map(Some).ok_or(Refused::Malformed("allowed is `authorization: Bearer <token>`"))
}

#[cfg(test)]
mod tests;
