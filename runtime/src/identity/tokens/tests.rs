//! Files of tokens: what is written is found again, and nothing else is.

use super::*;

fn at(text: &str) -> Timestamp {
    parse_time(text).unwrap()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

const NOW: &str = "2026-01-01T00:00:00Z";

#[test]
fn a_token_that_was_written_is_found_until_it_expires_and_no_other_is() {
    let (token, other) = (FreshToken::new([7; 32]), FreshToken::new([8; 32]));
    let tenants = Some(vec!["acme".to_owned()]);
    let times = (at(NOW), at("2026-02-01T00:00:00Z"));
    let entry = TokenFile::entry("billing", &token, &[Scope::Decide, Scope::Audit], tenants, times).unwrap();
    let written = TokenFile { tokens: vec![entry] };
    let file = file(&written.text().unwrap());
    assert_eq!(TokenFile::read(file.path()).unwrap(), written);
    assert!(!written.text().unwrap().contains(token.reveal()), "the secret is in the file");

    let table = Table::read(file.path()).unwrap();
    let (principal, expires) = table.find(&hash_of(token.reveal()), at(NOW)).unwrap();
    assert_eq!(principal.actor().as_str(), "token:billing");
    assert!(principal.may(Scope::Decide) && principal.may(Scope::Audit) && !principal.may(Scope::Read));
    assert!(principal.sees("acme") && !principal.sees("Acme") && !principal.sees("globex"));
    assert_eq!(table.find(&hash_of(token.reveal()), at("2026-01-31T23:59:59Z")), Ok((principal, expires)));
    assert_eq!(table.find(&hash_of(token.reveal()), at("2026-02-01T00:00:00Z")), Err(Refused::Expired));
    assert_eq!(table.find(&hash_of(other.reveal()), at(NOW)), Err(Refused::Unknown));
    // Who has the file has nothing to show.
    assert_eq!(table.find(&hash_of(&token.sha256()), at(NOW)), Err(Refused::Unknown));
    assert!(table.newer(file.path()).unwrap().is_none());
}

#[test]
fn a_rotated_token_has_two_secrets() {
    let (old, new) = (FreshToken::new([1; 32]), FreshToken::new([2; 32]));
    let times = (at(NOW), at("2026-02-01T00:00:00Z"));
    let entries = [&old, &new].map(|token| TokenFile::entry("ci", token, &[Scope::Read], None, times).unwrap());
    let file = file(&TokenFile { tokens: entries.to_vec() }.text().unwrap());
    let table = Table::read(file.path()).unwrap();
    let found = [&old, &new].map(|token| table.find(&hash_of(token.reveal()), at(NOW)).unwrap());
    assert_eq!(found[0], found[1]);
    assert!(found[0].0.sees("anybody"));
}

#[test]
fn what_is_wrong_in_a_file_is_named_and_nothing_secret_is_repeated() {
    let hash = "ab".repeat(32);
    let good =
        format!("[[token]]\nname = \"ci\"\nsha256 = \"{hash}\"\nscopes = [\"read\"]\ncreated = \"{NOW}\"\nexpires = \"{NOW}\"\n");
    assert_eq!(Table::read(file(&good).path()).unwrap().len(), 1);
    for (from, to, expected) in [
        ("name = \"ci\"", "name = \"C I\"", &["`C I`", "a-z 0-9"][..]),
        (hash.as_str(), "tessera_pasted", &["token `ci`", "sha256", "64 hexadecimal digits"]),
        ("[\"read\"]", "[\"reed\"]", &["token `ci`", "scopes", "`reed`", "write:plans"]),
        ("[\"read\"]", "[]", &["token `ci`", "scopes", "there are none"]),
        ("scopes", "tenants = []\nscopes", &["token `ci`", "tenants", "there are none"]),
        ("scopes", "tenants = [\"a b\"]\nscopes", &["token `ci`", "`a b`", "ASCII letters"]),
        ("scopes = [\"read\"]", "tenants = [\"a\"]\nscopes = [\"write:plans\"]", &["token `ci`", "`write:plans`"]),
        ("expires = \"2026-01-01T00:00:00Z\"", "expires = \"soon\"", &["token `ci`", "expires", "`soon`", "RFC 3339"]),
        ("expires = \"2026-01-01T00:00:00Z\"", "", &["line 1", "missing field `expires`"]),
        ("name =", "secret = \"tessera_pasted\"\nname =", &["line 2", "unknown field `secret`"]),
        ("name = ", "name = tessera_pasted ", &["line 2"]),
        ("name =", "tessera_pasted-_pasted = 1\nname =", &["line 2", "unknown field `tessera_…`, expected"]),
        ("name = \"ci\"", "name = \"tessera_A-_pasted\"", &["name: `tessera_…` is not", "a-z 0-9"]),
        ("[\"read\"]", "\"tessera_pasted-_pasted\"", &["line 4", "string \"tessera_…\", expected"]),
        ("[\"read\"]", "[\"tessera_pasted-_pasted tessera_pasted\"]", &["token `ci`", "scopes", "`tessera_… tessera_…`"]),
        (good.as_str(), "token = \"tessera_pasted-_pasted\"", &["line 1", "string \"tessera_…\", expected"]),
    ] {
        let error = Table::read(file(&good.replacen(from, to, 1)).path()).unwrap_err().to_string();
        assert!(expected.iter().all(|word| error.contains(word)), "{to}: {error}");
        assert!(!error.contains("pasted"), "{to}: {error}");
    }
    let none = TokenFile::default().text().unwrap();
    assert_eq!(Table::read(file(&none).path()).unwrap().len(), 0, "the last one was revoked");
    for cut in ["", "\n", none.split_inclusive('\n').next().unwrap()] {
        let error = Table::read(file(cut).path()).unwrap_err().to_string();
        assert!(error.contains("missing field `token`"), "{cut}: {error}");
    }
    let twice = Table::read(file(&good.repeat(2)).path()).unwrap_err().to_string();
    assert!(twice.contains("another entry"), "{twice}");
    // As whoever starts a process is told.
    let missing = anyhow::Error::from(Table::read(Path::new("/nonexistent/tokens.toml")).unwrap_err());
    let expected = "the file of tokens `/nonexistent/tokens.toml` cannot be used: No such file or directory (os error 2)";
    assert_eq!(format!("{missing:#}"), expected);
}

#[test]
fn nobody_is_given_a_token_that_cannot_be_used() {
    let token = FreshToken::new([1; 32]);
    let made = |name: &str, scopes: &[Scope], tenants: Option<Vec<String>>, expires: &str| {
        TokenFile::entry(name, &token, scopes, tenants, (at(NOW), at(expires))).unwrap_err()
    };
    assert!(made("ci", &[Scope::Read], None, NOW).contains("later times"));
    assert!(made("ci", &[Scope::Read], None, "2037-01-01T00:00:00Z").contains("3653d"));
    assert!(made("ci", &[], None, "2026-02-01T00:00:00Z").contains("there are none"));
    assert!(made("", &[Scope::Read], None, "2026-02-01T00:00:00Z").contains("name"));
}
