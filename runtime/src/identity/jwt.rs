//! JSON Web Tokens (RFC 7519, best practices of RFC 8725): from the text to a caller, given the keys of the issuer and the time.
//! Pure; where keys come from is `issuer`'s business.
//!
//! The key decides which algorithms there are, and the token's header must name one of them: never a shared secret, never
//! `none`. `jku`, `jwk`, `x5u` and `x5c` of the header are not looked at. `exp`, `iss`, `aud` and `sub` must be there.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde_json::{Map, Value};
use tessera_core::access::{Scope, Scopes};
use tessera_core::aggregate::Actor;
use tessera_core::time::Timestamp;

use super::settings::IssuerConfig;
use super::tokens::read_tenants;
use super::{Grant, Principal, Refused};

/// Longest token, in bytes.
const TOKEN_LEN_MAX: usize = 8 << 10;
/// Most keys of an issuer that are kept.
const KEYS_MAX: usize = 64;
/// So far may clocks be apart, in seconds.
const LEEWAY_S: f64 = 30.0;

/// A token that was taken apart; nothing of it is proven yet.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    header: Header,
    claims: Map<String, Value>,
    /// Header and claims as they were signed.
    signed: &'a str,
    signature: &'a str,
}

/// A key, and what it may be used with.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: DecodingKey,
    algorithms: &'static [Algorithm],
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(super) fn read(token: &'a str) -> Result<Self, Refused> {
        let malformed = Refused::Malformed("allowed are API tokens and JSON Web Tokens of three parts");
        if token.len() > TOKEN_LEN_MAX {
            return Err(Refused::Malformed("a token has at most 8192 bytes"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed.clone())?;
        let (_, claims) = signed.split_once('.').ok_or_else(|| malformed.clone())?;
        let header = jsonwebtoken::decode_header(token).map_err(|_| malformed.clone())?;
        if header.crit.is_some() {
            return Err(Refused::Unfit("its header demands (`crit`) what is not known here"));
        }
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| malformed.clone())?;
        let claims = serde_json::from_slice(&claims).map_err(|_| malformed)?;
        Ok(Self { header, claims, signed, signature })
    }

    /// Who says to have issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// The caller whom `issuer` made it for, and until when it is good.
    pub(super) fn verify(&self, keys: &Keys, issuer: &IssuerConfig, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        if !keys.signed(self)? {
            return Err(Refused::Unfit("it is not signed by its issuer"));
        }
        if self.issuer() != Some(issuer.issuer.as_str()) {
            return Err(Refused::Unfit("`iss` is another issuer"));
        }
        let audiences = self.texts("aud").ok_or(Refused::Unfit("`aud` is missing"))?;
        if !audiences.iter().any(|audience| issuer.audiences.iter().any(|ours| ours == audience)) {
            return Err(Refused::Unfit("`aud` is somebody else"));
        }
        let expires = self.times(now)?;
        let subject = self.claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or(Refused::Unfit("`sub` is missing"))?;
        let actor = Actor::parse("an actor", &format!("{}:{subject}", issuer.name));
        let actor = actor.map_err(|_| Refused::Unfit("`sub` is too long, or has control characters"))?;
        Ok((Principal::new(self.grant(issuer, actor)?), expires))
    }

    /// What it grants. Scopes of others are nobody's business here; none at all is for the method to refuse.
    fn grant(&self, issuer: &IssuerConfig, actor: Actor) -> Result<Grant, Refused> {
        let named = match self.claims.get(&issuer.scope_claim) {
            Some(Value::String(text)) => text.split(' ').collect(),
            Some(_) => self.texts(&issuer.scope_claim).ok_or(Refused::Unfit("its scopes are neither a list nor a text"))?,
            None => Vec::new(),
        };
        let ours = named.into_iter().filter_map(|name| Scope::parse(name.strip_prefix(&issuer.scope_prefix)?).ok());
        let scopes: Scopes = ours.collect();
        let tenants = match &issuer.tenants_claim {
            None => None,
            Some(claim) => {
                let tenants = self.texts(claim).ok_or(Refused::Unfit("it names no tenants, which tokens of its issuer must"))?;
                let tenants: Vec<String> = tenants.into_iter().map(str::to_owned).collect();
                let read = read_tenants(&tenants, scopes);
                Some(read.map_err(|_| Refused::Unfit("its tenants are none, no ids, or beside a scope that is for all tenants"))?)
            }
        };
        Ok(Grant { actor, scopes, tenants })
    }

    /// Refuses it before and after its time; gives the end of it.
    fn times(&self, now: Timestamp) -> Result<Timestamp, Refused> {
        let time = |claim: &str| self.claims.get(claim).map(|value| value.as_f64().filter(|time| time.is_finite()));
        let expires = time("exp").flatten().ok_or(Refused::Unfit("`exp` is missing, or no number"))?;
        let begins = match time("nbf") {
            None => 0.0,
            Some(begins) => begins.ok_or(Refused::Unfit("`nbf` is no number"))?,
        };
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 until 9999 are exact in a double")]
        let seconds = now.seconds() as f64;
        if seconds >= expires + LEEWAY_S {
            return Err(Refused::Expired);
        }
        if seconds + LEEWAY_S < begins {
            return Err(Refused::Unfit("it is not good yet (`nbf`)"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float that does not fit becomes the greatest number, which is no time"
        )]
        let expires = (expires + LEEWAY_S) as i64;
        Ok(Timestamp::from_seconds(expires).unwrap_or(Timestamp::MAX))
    }

    /// A claim that is one text or a list of texts.
    fn texts(&self, claim: &str) -> Option<Vec<&str>> {
        match self.claims.get(claim)? {
            Value::String(text) => Some(vec![text]),
            Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
            _ => None,
        }
    }
}

impl Keys {
    /// Reads a set of keys (RFC 7517), leaving out those that no token may be signed with. A set of which nothing is left is
    /// one, too: so does an issuer withdraw all that it had.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(text).map_err(|error| format!("it is no set of keys: {error}"))?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!("it has {} keys; allowed are at most {KEYS_MAX}", set.keys.len()));
        }
        Ok(Self(set.keys.iter().filter_map(Key::read).collect()))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a token is signed by its key. A token that names none is taken where there is only one.
    fn signed(&self, token: &Unverified<'_>) -> Result<bool, Refused> {
        let key = match (&token.header.kid, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_ref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let key = key.ok_or(Refused::KeyUnknown)?;
        if !key.algorithms.contains(&token.header.alg) {
            return Err(Refused::Unfit("`alg` is not what its key is for"));
        }
        let verified = jsonwebtoken::crypto::verify(token.signature, token.signed.as_bytes(), &key.public, token.header.alg);
        Ok(verified.unwrap_or(false))
    }
}

impl Key {
    /// `None` for keys that are for something else.
    fn read(jwk: &Jwk) -> Option<Self> {
        if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        let of_kind: &'static [Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => {
                use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
                &[RS256, RS384, RS512, PS256, PS384, PS512]
            }
            AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                // P-521 has no algorithm here; anything else is no curve for signatures.
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            // A shared secret proves nothing of who signed.
            _ => return None,
        };
        let algorithms = match jwk.common.key_algorithm {
            None => of_kind,
            Some(only) => {
                let position = of_kind.iter().position(|algorithm| is(*algorithm, only))?;
                of_kind.get(position..=position)?
            }
        };
        Some(Self { id: jwk.common.key_id.clone(), public: DecodingKey::from_jwk(jwk).ok()?, algorithms })
    }
}

/// Whether both are one algorithm.
fn is(algorithm: Algorithm, named: KeyAlgorithm) -> bool {
    matches!(
        (algorithm, named),
        (Algorithm::RS256, KeyAlgorithm::RS256)
            | (Algorithm::RS384, KeyAlgorithm::RS384)
            | (Algorithm::RS512, KeyAlgorithm::RS512)
            | (Algorithm::PS256, KeyAlgorithm::PS256)
            | (Algorithm::PS384, KeyAlgorithm::PS384)
            | (Algorithm::PS512, KeyAlgorithm::PS512)
            | (Algorithm::ES256, KeyAlgorithm::ES256)
            | (Algorithm::ES384, KeyAlgorithm::ES384)
            | (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
    )
}

#[cfg(test)]
pub(super) mod tests;
