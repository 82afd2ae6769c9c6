//! Tokens that are good, and each way in which one is not.

use jsonwebtoken::{EncodingKey, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::json;

use super::*;

/// Signs, and has its public key in a set.
pub(crate) struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

impl Signer {
    pub(crate) fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDSA => &PKCS_ED25519,
            Algorithm::RS256 | Algorithm::PS256 => &PKCS_RSA_SHA256,
            other => panic!("no key for {other:?}"),
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let private = pair.serialize_der();
        let key = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&private),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&private),
            // Inside the 26 bytes by which PKCS #8 says that it is RSA.
            _ => EncodingKey::from_rsa_der(&private[26..]),
        };
        let mut public = if algorithm == Algorithm::EdDSA {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(pair.public_key_raw()), "alg": "EdDSA" })
        } else {
            serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap()
        };
        public["kid"] = json!(id);
        Self { id, algorithm, key, public }
    }

    pub(crate) fn public(&self) -> Value {
        self.public.clone()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) }, claims)
    }

    fn sign_as(&self, header: &Header, claims: &Value) -> String {
        encode(header, claims, &self.key).unwrap()
    }
}

pub(crate) fn set_of(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

pub(crate) fn issuer() -> IssuerConfig {
    toml::from_str("name = \"corp\"\nissuer = \"https://id.example.com\"\naudiences = [\"tessera\", \"tessera-2\"]").unwrap()
}

/// The time that all tests are at, in seconds since 1970.
pub(crate) const NOW: i64 = 1_767_225_600;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_seconds(NOW).unwrap()
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": "tessera", "sub": "alice", "exp": NOW + 600,
        "scope": "openid decide write:tenants", "tenants": ["acme"]
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(field)),
        value => claims[field] = value,
    }
    claims
}

fn verify_by(token: &str, keys: &[Value], config: &IssuerConfig) -> Result<(Principal, Timestamp), Refused> {
    let keys = Keys::read(&set_of(keys)).unwrap();
    Unverified::read(token)?.verify(&keys, config, now())
}

#[test]
fn a_good_token_is_its_caller_with_each_kind_of_key() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256, Algorithm::PS256] {
        let signer = Signer::new("k", algorithm);
        let (principal, expires) = verify_by(&signer.sign(&claims()), &[signer.public()], &issuer()).unwrap();
        assert_eq!(principal.actor().as_str(), "corp:alice");
        assert!(principal.may(Scope::Decide) && principal.may(Scope::WriteTenants) && !principal.may(Scope::Audit));
        assert!(principal.sees("anybody"));
        assert_eq!(expires.seconds(), NOW + 630);
    }
}

#[test]
fn scopes_and_tenants_are_where_the_settings_say() {
    let signer = Signer::new("k", Algorithm::ES256);
    let token = signer.sign(&with("roles", json!(["tessera:audit", "read", "tessera:everything"])));
    let config = IssuerConfig {
        scope_claim: "roles".to_owned(),
        scope_prefix: "tessera:".to_owned(),
        tenants_claim: Some("tenants".to_owned()),
        ..issuer()
    };
    let (principal, _) = verify_by(&token, &[signer.public()], &config).unwrap();
    assert_eq!(Scope::ALL.into_iter().filter(|scope| principal.may(*scope)).collect::<Vec<_>>(), [Scope::Audit]);
    assert!(principal.sees("acme") && !principal.sees("globex"));
    for (tenants, scope) in [
        (json!(null), "decide"),
        (json!([]), "decide"),
        (json!([7]), "decide"),
        (json!("a b"), "decide"),
        (json!(["acme"]), "write:plans"),
    ] {
        let mut said = with("tenants", tenants.clone());
        said["scope"] = json!(scope);
        let config = IssuerConfig { tenants_claim: Some("tenants".to_owned()), ..issuer() };
        let refused = verify_by(&signer.sign(&said), &[signer.public()], &config);
        assert!(matches!(refused, Err(Refused::Unfit(_))), "{tenants} {scope}: {refused:?}");
    }
}

#[test]
fn what_is_missing_or_for_somebody_else_is_refused() {
    let signer = Signer::new("k", Algorithm::ES256);
    for (field, value) in [
        ("iss", json!(null)),
        ("iss", json!("https://id.example.com/")),
        ("iss", json!(["https://id.example.com"])),
        ("aud", json!(null)),
        ("aud", json!("tesserae")),
        ("aud", json!([])),
        ("aud", json!({ "tessera": true })),
        ("sub", json!(null)),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("a".repeat(200))),
        ("exp", json!(null)),
        // A text is no time: a library that skipped it would take the token for ever.
        ("exp", json!("9999999999")),
        ("exp", json!({})),
        ("nbf", json!("soon")),
        ("nbf", json!(NOW + 31)),
        ("scope", json!(7)),
    ] {
        let refused = verify_by(&signer.sign(&with(field, value.clone())), &[signer.public()], &issuer());
        assert!(matches!(refused, Err(Refused::Unfit(_))), "{field} {value}: {refused:?}");
    }
    let expired = signer.sign(&with("exp", json!(NOW - 30)));
    assert_eq!(verify_by(&expired, &[signer.public()], &issuer()).unwrap_err(), Refused::Expired);
    for (field, value) in [
        ("aud", json!(["other", "tessera-2"])),
        ("exp", json!(NOW - 29)),
        ("exp", json!(1e300)),
        ("nbf", json!(NOW + 30)),
        ("scope", json!(null)),
    ] {
        let taken = verify_by(&signer.sign(&with(field, value.clone())), &[signer.public()], &issuer());
        assert!(taken.is_ok(), "{field} {value}: {taken:?}");
    }
}

#[test]
fn only_its_issuers_key_makes_a_token() {
    let (ours, other) = (Signer::new("k", Algorithm::ES256), Signer::new("k", Algorithm::ES256));
    let forged = verify_by(&other.sign(&claims()), &[ours.public()], &issuer());
    assert_eq!(forged.unwrap_err(), Refused::Unfit("it is not signed by its issuer"));

    let token = ours.sign(&claims());
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let more = BASE64_URL_SAFE_NO_PAD.encode(with("scope", json!("decide write:plans")).to_string());
    for changed in [format!("{header}.{more}.{signature}"), format!("{head}."), format!("{head}.{}", "A".repeat(signature.len()))]
    {
        assert!(verify_by(&changed, &[ours.public()], &issuer()).is_err(), "{changed}");
    }

    let unknown = Signer::new("l", Algorithm::ES256);
    assert_eq!(verify_by(&unknown.sign(&claims()), &[ours.public()], &issuer()).unwrap_err(), Refused::KeyUnknown);
    // Without a name it is not tried which of several keys fits.
    let nameless = ours.sign_as(&Header::new(Algorithm::ES256), &claims());
    assert!(verify_by(&nameless, &[ours.public()], &issuer()).is_ok());
    assert_eq!(verify_by(&nameless, &[ours.public(), unknown.public()], &issuer()).unwrap_err(), Refused::KeyUnknown);
}

#[test]
fn the_key_decides_the_algorithm() {
    let rsa = Signer::new("k", Algorithm::RS256);
    let public = rsa.public();
    let header = |algorithm| Header { kid: Some("k".to_owned()), ..Header::new(algorithm) };
    // The classic: the public key as a shared secret.
    let secret = EncodingKey::from_secret(public["n"].as_str().unwrap().as_bytes());
    let confused = encode(&header(Algorithm::HS256), &claims(), &secret).unwrap();
    let refused = verify_by(&confused, std::slice::from_ref(&public), &issuer());
    assert_eq!(refused.unwrap_err(), Refused::Unfit("`alg` is not what its key is for"));
    // A set with a shared secret has no key.
    let shared = json!({ "kty": "oct", "kid": "k", "k": BASE64_URL_SAFE_NO_PAD.encode("secret"), "alg": "HS256" });
    assert_eq!(Keys::read(&set_of(&[shared])).unwrap().len(), 0);
    // A key for one algorithm takes no other, and a key without one takes those of its kind.
    let mut open = public.clone();
    open.as_object_mut().unwrap().remove("alg");
    let padded = rsa.sign_as(&header(Algorithm::PS256), &claims());
    assert!(verify_by(&padded, &[open.clone()], &issuer()).is_ok());
    assert!(verify_by(&padded, std::slice::from_ref(&public), &issuer()).is_err());
    // A key for encryption signs nothing.
    let mut encrypting = public;
    encrypting["use"] = json!("enc");
    assert_eq!(Keys::read(&set_of(&[encrypting])).unwrap().len(), 0);
    // `none` is no algorithm.
    let unsigned = |header: &str| {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims().to_string());
        format!("{}.{claims}.", BASE64_URL_SAFE_NO_PAD.encode(header))
    };
    for header in ["{\"alg\":\"none\"}", "{\"alg\":\"None\",\"kid\":\"k\"}", "{}"] {
        assert!(matches!(Unverified::read(&unsigned(header)), Err(Refused::Malformed(_))), "{header}");
    }
    // Demands that are not understood are not met.
    let demanding = rsa.sign_as(&Header { crit: Some(vec!["b64".to_owned()]), ..header(Algorithm::RS256) }, &claims());
    assert!(matches!(Unverified::read(&demanding), Err(Refused::Unfit(_))));
}

#[test]
fn what_is_no_token_is_malformed() {
    let long = format!("{}.{}.{}", "a".repeat(4_096), "b".repeat(4_096), "c");
    for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "ünïcode", long.as_str()] {
        assert!(matches!(Unverified::read(text), Err(Refused::Malformed(_))), "{text}");
    }
}

#[test]
fn sets_of_keys_have_bounds() {
    let key = Signer::new("k", Algorithm::ES256).public();
    assert!(Keys::read(&set_of(&vec![key.clone(); KEYS_MAX])).is_ok());
    assert!(Keys::read(&set_of(&vec![key; KEYS_MAX + 1])).unwrap_err().contains("at most 64"));
    for text in ["", "{}", "[]", "{\"keys\": 1}"] {
        assert!(Keys::read(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(Keys::read(b"{\"keys\": []}").unwrap().len(), 0, "all were withdrawn");
}
