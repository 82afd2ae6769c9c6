//! What the settings say of callers, `[identity]`, and which listeners that permits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_core::access::{Scope, Scopes};
use tessera_core::aggregate::Actor;
use tessera_core::ids::PlanId;
use tessera_core::shown::shown;

use super::tokens::read_tenants;
use super::{Grant, Principal};
use crate::tls::is_spiffe_id;

/// What the actors of API tokens and of workloads begin with: an issuer of that name could make its callers into theirs.
const NAMES_TAKEN: [&str; 2] = ["token", "spiffe"];

/// Who is let in. With this section everybody has to say who they are, on loopback too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// The file of API tokens, written by `tessera token`. Looked at every two seconds: changes need no restart.
    pub tokens_file: Option<PathBuf>,
    /// Issuers whose JSON Web Tokens are taken.
    pub issuers: Vec<IssuerConfig>,
    /// Workloads that are known by the SPIFFE id of their client certificate; needs `listener.tls.client_ca`.
    pub workloads: Vec<WorkloadConfig>,
    /// Whether listeners beyond loopback may do without TLS, because something before them (a mesh) encrypts. Default no.
    pub allow_plaintext: bool,
}

/// One issuer of JSON Web Tokens (RFC 7519), as OpenID Connect has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// What its callers begin with in the audit log: `<name>:<sub>`. A name as plans have, but not `token` or `spiffe`.
    pub name: String,
    /// What tokens say in `iss`, to the letter.
    pub issuer: String,
    /// Tokens must be for one of these (`aud`). Never empty: a token for somebody else is not one for Tessera.
    pub audiences: Vec<String>,
    /// Where its keys are (RFC 7517). Default: where the issuer's `/.well-known/openid-configuration` says. Only `https`, and
    /// `http` on loopback.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// Certificates of the authorities that vouch for where its keys are, in PEM; no others are trusted there. Read at the
    /// start. Default: those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The claim with the scopes: a list, or one text with spaces between. Default `scope`.
    #[serde(default = "scope_claim")]
    pub scope_claim: String,
    /// What the names of our scopes begin with there, such as `tessera:`. What begins otherwise is not ours. Default nothing.
    #[serde(default)]
    pub scope_prefix: String,
    /// The claim with the tenants that a caller is bound to: a list, or one text. Where this is set, tokens without it are
    /// refused. Default: callers of this issuer see all tenants.
    #[serde(default)]
    pub tenants_claim: Option<String>,
    /// How often the keys are read, in s. 10 to 86,400; default 300.
    #[serde(default = "keys_interval_s")]
    pub keys_interval_s: u64,
    /// How long keys are used while no new ones can be had, in s. 60 to 604,800, and twice `keys_interval_s` at least: else they would
    /// be too old because one reading failed. Default 86,400, a day.
    #[serde(default = "keys_age_max_s")]
    pub keys_age_max_s: u64,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadConfig {
    /// Its SPIFFE id, to the letter, such as `spiffe://example.org/ns/shop/sa/checkout`. Also its name in the audit log.
    pub spiffe_id: String,
    /// What it may do; see [`Scope::name`].
    pub scopes: Vec<String>,
    /// The tenants it is bound to. Default: all.
    #[serde(default)]
    pub tenants: Option<Vec<String>>,
}

fn scope_claim() -> String {
    "scope".to_owned()
}

fn keys_interval_s() -> u64 {
    300
}

fn keys_age_max_s() -> u64 {
    86_400
}

/// What is wrong with `[identity]`, or with a listener under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Nobody could ever be let in.
    #[error("`identity` names nobody; allowed are `tokens_file`, `issuers` and `workloads`, one at least")]
    Nobody,
    /// A field is wrong.
    #[error("`identity.{field}`: {problem}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// Everybody who reaches that address could do everything.
    #[error(
        "refusing to listen on `{0}`: without `[identity]` only loopback addresses are allowed, such as 127.0.0.1:7400 or [::1]:7400"
    )]
    WithoutIdentity(SocketAddr),
    /// Whoever is on the way could read tokens and answers.
    #[error(
        "refusing to listen on `{0}`: without `[listener.tls]` only loopback addresses are allowed; where something before this process \
         encrypts, say `identity.allow_plaintext = true`"
    )]
    WithoutTls(SocketAddr),
}

/// Whether calls may be taken at `address`: beyond loopback only from those who say who they are, and encrypted.
pub fn permit(address: SocketAddr, identity: Option<&IdentityConfig>, tls: bool) -> Result<(), Unsafe> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let identity = identity.ok_or(Unsafe::WithoutIdentity(address))?;
    if tls || identity.allow_plaintext { Ok(()) } else { Err(Unsafe::WithoutTls(address)) }
}

impl IdentityConfig {
    /// Checks every field. `client_certificates`: whether listeners ask for them and verify them.
    pub fn validate(&self, client_certificates: bool) -> Result<(), Unsafe> {
        if self.tokens_file.is_none() && self.issuers.is_empty() && self.workloads.is_empty() {
            return Err(Unsafe::Nobody);
        }
        for (position, issuer) in self.issuers.iter().enumerate() {
            let path = |field: &str| format!("issuers[{position}].{field}");
            issuer.validate().map_err(|(field, problem)| Unsafe::Field { field: path(field), problem })?;
            let twin = |other: &&IssuerConfig| other.name == issuer.name || other.issuer == issuer.issuer;
            if self.issuers.iter().take(position).any(|other| twin(&other)) {
                return Err(Unsafe::Field {
                    field: path("name"),
                    problem: "another issuer has the same name or `issuer`".to_owned(),
                });
            }
        }
        for (position, workload) in self.workloads.iter().enumerate() {
            let path = |field: &str| format!("workloads[{position}].{field}");
            workload.principal().map_err(|(field, problem)| Unsafe::Field { field: path(field), problem })?;
            if self.workloads.iter().take(position).any(|other| other.spiffe_id == workload.spiffe_id) {
                return Err(Unsafe::Field { field: path("spiffe_id"), problem: "another workload has the same".to_owned() });
            }
        }
        if !self.workloads.is_empty() && !client_certificates {
            let problem = "nobody is asked for a client certificate; needed is `listener.tls.client_ca`".to_owned();
            return Err(Unsafe::Field { field: "workloads".to_owned(), problem });
        }
        Ok(())
    }
}

/// Which field is wrong, and how.
pub(super) type Wrong = (&'static str, String);

impl IssuerConfig {
    fn validate(&self) -> Result<(), Wrong> {
        PlanId::check(&self.name)
            .map_err(|error| ("name", format!("`{}` is not a name; allowed are {}", shown(&self.name), error.allowed())))?;
        if NAMES_TAKEN.contains(&self.name.as_str()) {
            return Err(("name", format!("`{}` is what other callers begin with; allowed is any other name", self.name)));
        }
        if self.issuer.is_empty() {
            return Err(("issuer", "it is empty; allowed is what tokens say in `iss`".to_owned()));
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            let problem = "there is none, or an empty one; allowed are one and more, each what tokens say in `aud`";
            return Err(("audiences", problem.to_owned()));
        }
        let uri = self.jwks_uri.as_ref().map_or(("issuer", &self.issuer), |uri| ("jwks_uri", uri));
        if !may_be_read(uri.1) {
            let problem =
                format!("`{}` is no place to read keys from; allowed are `https://…`, and `http://…` on loopback", shown(uri.1));
            return Err((uri.0, problem));
        }
        for (field, given, min, max) in
            [("keys_interval_s", self.keys_interval_s, 10, 86_400), ("keys_age_max_s", self.keys_age_max_s, 60, 604_800)]
        {
            if !(min..=max).contains(&given) {
                return Err((field, format!("`{given}` is not allowed; allowed are {min} to {max}")));
            }
        }
        let least = 2 * self.keys_interval_s;
        if self.keys_age_max_s < least {
            let given = self.keys_age_max_s;
            let problem = format!("`{given}` is not allowed; allowed is {least} and more, twice `keys_interval_s`");
            return Err(("keys_age_max_s", problem));
        }
        Ok(())
    }

    pub(super) fn keys_interval(&self) -> Duration {
        Duration::from_secs(self.keys_interval_s)
    }

    pub(super) fn keys_age_max(&self) -> Duration {
        Duration::from_secs(self.keys_age_max_s)
    }
}

/// Whether keys may come from there: what is read without TLS beyond this machine may come from anybody.
pub(super) fn may_be_read(uri: &str) -> bool {
    let Ok(uri) = reqwest::Url::parse(uri) else { return false };
    match uri.scheme() {
        "https" => uri.has_host(),
        "http" => {
            let host = uri.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    }
}

impl WorkloadConfig {
    /// Who has such a certificate.
    pub(super) fn principal(&self) -> Result<Principal, Wrong> {
        // As strict as what reads certificates: what that would never find in one lets nobody in.
        let actor = Actor::parse("an actor", &self.spiffe_id).ok().filter(|_| is_spiffe_id(&self.spiffe_id));
        let actor = actor.ok_or_else(|| {
            let given = shown(&self.spiffe_id);
            let allowed = "at most 200 bytes, spiffe://domain/path, of a-z 0-9 . - _ and in the path A-Z";
            ("spiffe_id", format!("`{given}` is not a SPIFFE id; allowed are {allowed}"))
        })?;
        let scopes: Scopes = self
            .scopes
            .iter()
            .map(|scope| Scope::parse(scope))
            .collect::<Result<_, _>>()
            .map_err(|error| ("scopes", error.to_string()))?;
        if scopes.is_empty() {
            return Err(("scopes", "there are none; allowed are one and more".to_owned()));
        }
        let tenants = self.tenants.as_ref().map(|tenants| read_tenants(tenants, scopes)).transpose();
        let tenants = tenants.map_err(|problem| ("tenants", problem))?;
        Ok(Principal::new(Grant { actor, scopes, tenants }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "[[issuers]]\nname = \"corp\"\nissuer = \"https://id.example.com\"\naudiences = [\"tessera\"]\n";
    const WORKLOAD: &str = "[[workloads]]\nspiffe_id = \"spiffe://example.org/checkout\"\nscopes = [\"decide\"]\n";

    fn validated(text: &str, client_certificates: bool) -> Result<(), String> {
        let config: IdentityConfig = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        config.validate(client_certificates).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_to_be_known_is_enough() {
        for text in ["tokens_file = \"tokens.toml\"", ISSUER, WORKLOAD] {
            assert_eq!(validated(text, true), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_would_let_in_too_many_or_nobody_is_refused() {
        let issuer = |from: &str, to: &str| ISSUER.replacen(from, to, 1);
        for (text, expected) in [
            (String::new(), &["names nobody", "tokens_file"][..]),
            ("allow_plaintext = true".to_owned(), &["names nobody"]),
            (issuer("[\"tessera\"]", "[]"), &["identity.issuers[0].audiences", "one and more"]),
            (issuer("[\"tessera\"]", "[\"\"]"), &["audiences"]),
            (issuer("audiences = [\"tessera\"]", ""), &["missing field `audiences`"]),
            (issuer("https://id.example.com", "http://id.example.com"), &["issuers[0].issuer", "`https://…`"]),
            (issuer("https://id.example.com", ""), &["issuers[0].issuer", "empty"]),
            (issuer("name = \"corp\"", "name = \"Corp\""), &["issuers[0].name", "`Corp`"]),
            (issuer("name = \"corp\"", "name = \"token\""), &["issuers[0].name", "`token`", "any other name"]),
            (issuer("name = \"corp\"", "name = \"spiffe\""), &["issuers[0].name", "`spiffe`", "any other name"]),
            (format!("{ISSUER}jwks_uri = \"http://192.0.2.1/keys\""), &["jwks_uri", "`http://192.0.2.1/keys`"]),
            (format!("{ISSUER}jwks_uri = \"file:///keys\""), &["jwks_uri"]),
            (format!("{ISSUER}keys_interval_s = 9"), &["keys_interval_s", "`9`", "10 to 86400"]),
            (format!("{ISSUER}keys_age_max_s = 59"), &["keys_age_max_s", "`59`", "60 to 604800"]),
            (format!("{ISSUER}keys_age_max_s = 599"), &["keys_age_max_s", "`599`", "600 and more", "twice `keys_interval_s`"]),
            (format!("{ISSUER}keys_interval_s = 86400"), &["keys_age_max_s", "`86400`", "172800 and more"]),
            (format!("{ISSUER}{ISSUER}"), &["issuers[1].name", "another issuer"]),
            (format!("{ISSUER}secret = 1"), &["unknown field `secret`"]),
            (WORKLOAD.replacen("spiffe://example.org/checkout", "checkout", 1), &["workloads[0].spiffe_id", "`checkout`"]),
            (WORKLOAD.replacen("spiffe://example.org/checkout", "spiffe:///checkout", 1), &["spiffe_id"]),
            (WORKLOAD.replacen("example.org", "Example.org", 1), &["spiffe_id", "`spiffe://Example.org/checkout`", "a-z"]),
            (WORKLOAD.replacen("checkout", "checkout/", 1), &["spiffe_id", "`spiffe://example.org/checkout/`"]),
            (WORKLOAD.replacen("checkout", "checkout?a=b", 1), &["spiffe_id", "`spiffe://example.org/checkout?a=b`"]),
            (WORKLOAD.replacen("[\"decide\"]", "[\"all\"]", 1), &["workloads[0].scopes", "`all`"]),
            (format!("{WORKLOAD}tenants = []"), &["workloads[0].tenants", "there are none"]),
            (format!("{WORKLOAD}{WORKLOAD}"), &["workloads[1].spiffe_id", "another workload"]),
        ] {
            let refused = validated(&text, true).unwrap_err();
            assert!(expected.iter().all(|word| refused.contains(word)), "{text}\n{refused}");
        }
        let refused = validated(WORKLOAD, false).unwrap_err();
        assert!(refused.contains("listener.tls.client_ca"), "{refused}");
        assert_eq!(validated(&format!("{ISSUER}jwks_uri = \"http://127.0.0.1:9/keys\""), false), Ok(()));
    }

    #[test]
    fn beyond_loopback_there_is_identity_and_encryption() {
        let everybody: SocketAddr = "0.0.0.0:7400".parse().unwrap();
        let identity = IdentityConfig::default();
        let meshed = IdentityConfig { allow_plaintext: true, ..IdentityConfig::default() };
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            assert_eq!(permit(loopback.parse().unwrap(), None, false), Ok(()));
        }
        for beyond in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            assert!(permit(beyond.parse().unwrap(), None, true).is_err(), "{beyond}");
        }
        let refused = permit(everybody, None, false).unwrap_err().to_string();
        assert!(refused.contains("`0.0.0.0:7400`") && refused.contains("[identity]"), "{refused}");
        let refused = permit(everybody, Some(&identity), false).unwrap_err().to_string();
        assert!(refused.contains("[listener.tls]") && refused.contains("identity.allow_plaintext"), "{refused}");
        assert_eq!(permit(everybody, Some(&identity), true), Ok(()));
        assert_eq!(permit(everybody, Some(&meshed), false), Ok(()));
    }
}
