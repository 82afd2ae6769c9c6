//! Addresses of servers: checked when the client is built, so that a slip is told at once and not by calls that fail.

use std::fmt;

use tonic::codegen::http::Uri;

use crate::error::Error;

/// What is allowed, for messages.
const ALLOWED: &str = "allowed is `http://host:port`";
/// Longest piece of a wrong address that a message repeats, in characters.
const SHOWN_LEN_MAX: usize = 80;

/// `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Uri);

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |problem: &'static str| Error::Endpoint { endpoint: shown(text), problem, allowed: ALLOWED };
        let uri: Uri = text.parse().map_err(|_| wrong("it is not an address"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("TLS is not spoken yet")),
            Some(_) => return Err(wrong("its scheme is not known")),
            None => return Err(wrong("it has no scheme")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.host().is_empty() {
            return Err(wrong("it has no host"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("it names a user"));
        }
        if authority.port_u16().is_none_or(|port| port == 0) {
            return Err(wrong("it has no port"));
        }
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err(wrong("something stands behind the port"));
        }
        Ok(Self(uri))
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "http://{authority}")
    }
}

/// Without what could act on a terminal, and not longer than a message should be.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_LEN_MAX).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN_LEN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_are_taken() {
        for good in ["http://127.0.0.1:7400", "http://[::1]:7400", "http://tessera.internal:80/"] {
            let address = Address::parse(good).unwrap();
            assert_eq!(address.to_string(), good.trim_end_matches('/'));
        }
    }

    #[test]
    fn wrong_ones_are_refused_with_what_is_allowed() {
        for (wrong, problem) in [
            ("", "it is not an address"),
            ("127.0.0.1:7400", "it has no scheme"),
            ("localhost", "it has no scheme"),
            ("/run/tessera.sock", "it has no scheme"),
            ("https://127.0.0.1:7400", "TLS is not spoken yet"),
            ("grpc://127.0.0.1:7400", "its scheme is not known"),
            ("http://127.0.0.1", "it has no port"),
            ("http://127.0.0.1:0", "it has no port"),
            ("http://a@127.0.0.1:7400", "it names a user"),
            ("http://127.0.0.1:7400/api", "something stands behind the port"),
            ("http://127.0.0.1:7400?x=1", "something stands behind the port"),
            ("http://:7400", "it has no host"),
            ("http://not an address", "it is not an address"),
        ] {
            let said = Address::parse(wrong).unwrap_err().to_string();
            assert_eq!(said, format!("endpoint `{wrong}`: {problem}; {ALLOWED}"));
        }
        let long = Address::parse(&"x".repeat(10_000)).unwrap_err().to_string();
        assert!(long.len() < 200, "{long}");
        assert!(!Address::parse("\u{1b}[31m").unwrap_err().to_string().contains('\u{1b}'));
    }
}
