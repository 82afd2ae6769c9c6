//! API tokens: secrets that name a caller. A file has their hashes, one entry per secret; who has the file can ask nobody for
//! anything with it.
//!
//! A token is `tessera_` and 43 characters of base64url: 256 bits of chance, so that one round of SHA-256 keeps it as well as
//! a slow hash would a password, and finds it in a table. Two entries may have one name: while a token is rotated, the old
//! secret and the new one are good.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tessera_core::access::{Scope, Scopes};
use tessera_core::aggregate::Actor;
use tessera_core::ids::{PlanId, TenantId};
use tessera_core::shown::shown;
use tessera_core::time::Timestamp;

use super::{Grant, Principal, Refused};
use crate::time_text::{format_time, parse_time};

/// What every token begins with, so that those who look for secrets in places where none should be find it.
pub const PREFIX: &str = "tessera_";
/// What comes behind it, in bytes before base64url.
const SECRET_BYTES: usize = 32;
/// Longest file, in bytes: some ten thousand entries.
const FILE_LEN_MAX: u64 = 4 << 20;
/// A token is good for at most this: ten years.
pub const LIFE_MAX: Duration = Duration::from_hours(24 * 3_653);

/// The SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

/// The hash that a token is found by.
pub(super) fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Why a file of tokens cannot be used. Says where, and repeats nothing that may be secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It is not there, or cannot be read or written.
    #[error("the file of tokens `{path}` cannot be used")]
    File {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what such a file is.
    #[error("the file of tokens `{path}`: {problem}")]
    Content {
        /// Which file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// The file: what `tessera token` writes and servers and loaders read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// Every secret. That there is none has to be said: a file that was cut off would shut everybody out.
    #[serde(rename = "token")]
    pub tokens: Vec<TokenEntry>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Whose it is: a name as plans have. In the audit log it is `token:<name>`.
    pub name: String,
    /// SHA-256 of the token, in 64 hexadecimal digits.
    pub sha256: String,
    /// What it may do; see [`Scope::name`].
    pub scopes: Vec<String>,
    /// The tenants it is bound to; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<String>>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// From when on it is refused, RFC 3339.
    pub expires: String,
}

/// A token that was just made: the one moment at which it can be read.
pub struct FreshToken(String);

impl std::fmt::Debug for FreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FreshToken")
    }
}

impl FreshToken {
    /// Of that much chance.
    pub fn new(chance: [u8; SECRET_BYTES]) -> Self {
        Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(chance)))
    }

    /// The token, to be handed to whoever it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its hash in hexadecimal, to be kept.
    pub fn sha256(&self) -> String {
        use std::fmt::Write as _;
        hash_of(&self.0).iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    }
}

impl TokenEntry {
    /// Who has it, its hash, and until when it is good; else what is wrong with the entry.
    fn read(&self) -> Result<(TokenHash, Timestamp, Principal), String> {
        PlanId::check(&self.name).map_err(|error| {
            format!("name: `{}` is not the name of a token; allowed are {}", shown(&self.name), error.allowed())
        })?;
        let about = |field: &str, problem: String| format!("token `{}`: {field}: {problem}", self.name);
        let hash = read_hash(&self.sha256);
        let hash =
            hash.ok_or_else(|| about("sha256", "allowed are 64 hexadecimal digits, as `tessera token` writes them".to_owned()))?;
        let scopes: Scopes = self
            .scopes
            .iter()
            .map(|scope| Scope::parse(scope))
            .collect::<Result<_, _>>()
            .map_err(|error| about("scopes", error.to_string()))?;
        if scopes.is_empty() {
            return Err(about("scopes", "there are none; allowed are one and more".to_owned()));
        }
        let tenants = self.tenants.as_ref().map(|tenants| read_tenants(tenants, scopes)).transpose();
        let tenants = tenants.map_err(|problem| about("tenants", problem))?;
        parse_time(&self.created).map_err(|problem| about("created", problem))?;
        let expires = parse_time(&self.expires).map_err(|problem| about("expires", problem))?;
        let actor =
            Actor::parse("an actor", &format!("token:{}", self.name)).map_err(|error| about("name", error.to_string()))?;
        Ok((hash, expires, Principal::new(Grant { actor, scopes, tenants })))
    }
}

/// The tenants that somebody with these scopes is bound to.
pub(super) fn read_tenants(tenants: &[String], scopes: Scopes) -> Result<BTreeSet<TenantId>, String> {
    if tenants.is_empty() {
        return Err("there are none; allowed are one and more, or to leave the field out for all tenants".to_owned());
    }
    if scopes.has(Scope::WritePlans) {
        return Err("whoever has the scope `write:plans` changes what all tenants share; allowed is no such field".to_owned());
    }
    tenants.iter().map(|tenant| TenantId::parse(tenant).map_err(|error| error.to_string())).collect()
}

fn read_hash(text: &str) -> Option<TokenHash> {
    let mut hash = TokenHash::default();
    let digits = text.as_bytes();
    if digits.len() != 2 * hash.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

impl TokenFile {
    /// Reads one.
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        Self::parse(path, &text_of(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, TokenFileError> {
        toml::from_str(text).map_err(|error| {
            // Its place and kind; the library would show the whole line.
            let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            content(path, &format!("line {line}: {}", error.message()))
        })
    }

    /// The text that [`Self::read`] reads.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        let said = "# API tokens of Tessera, by their hashes; written by `tessera token`.\n";
        Ok(format!("{said}\n{}", toml::to_string(self)?))
    }

    /// An entry for a token that is good from `now` until `expires`; refused when nobody could use it.
    pub fn entry(
        name: &str,
        token: &FreshToken,
        scopes: &[Scope],
        tenants: Option<Vec<String>>,
        (now, expires): (Timestamp, Timestamp),
    ) -> Result<TokenEntry, String> {
        let entry = TokenEntry {
            name: name.to_owned(),
            sha256: token.sha256(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            tenants,
            created: format_time(now),
            expires: format_time(expires),
        };
        if expires <= now || expires.saturating_since(now) > LIFE_MAX {
            return Err(format!(
                "token `{name}`: expires: `{}` is not allowed; allowed are later times, up to 3653d",
                entry.expires
            ));
        }
        entry.read().map(|_| entry)
    }
}

fn content(path: &Path, problem: &str) -> TokenFileError {
    TokenFileError::Content { path: path.display().to_string(), problem: without_tokens(problem) }
}

/// What is wrong, without what follows the prefix of a token: wherever something is wrong, somebody may have pasted one.
fn without_tokens(problem: &str) -> String {
    let mut parts = problem.split(PREFIX);
    let mut said = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
        said.extend([PREFIX, "…", after]);
    }
    said
}

fn text_of(path: &Path) -> Result<String, TokenFileError> {
    let failed = |source| TokenFileError::File { path: path.display().to_string(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_LEN_MAX {
        return Err(content(path, &format!("it is longer than {FILE_LEN_MAX} bytes, the most that is allowed")));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// All tokens of a file, to be found by their hashes.
#[derive(Debug, Default)]
pub(super) struct Table {
    tokens: HashMap<TokenHash, (Timestamp, Principal)>,
    /// Of the file it was read from.
    content: TokenHash,
}

impl Table {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, TokenFileError> {
        Self::parse(path, &text_of(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, TokenFileError> {
        let mut tokens = HashMap::new();
        for entry in &TokenFile::parse(path, text)?.tokens {
            let (hash, expires, principal) = entry.read().map_err(|problem| content(path, &problem))?;
            if tokens.insert(hash, (expires, principal)).is_some() {
                return Err(content(path, &format!("token `{}`: sha256: another entry has the same", entry.name)));
            }
        }
        Ok(Self { tokens, content: hash_of(text) })
    }

    /// The table of the file as it is now; `None` when it says what this one says.
    pub(super) fn newer(&self, path: &Path) -> Result<Option<Self>, TokenFileError> {
        let text = text_of(path)?;
        if hash_of(&text) == self.content { Ok(None) } else { Self::parse(path, &text).map(Some) }
    }

    /// Whose token it is, and until when.
    pub(super) fn find(&self, hash: &TokenHash, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let (expires, principal) = self.tokens.get(hash).ok_or(Refused::Unknown)?;
        if *expires <= now { Err(Refused::Expired) } else { Ok((principal.clone(), *expires)) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests;
