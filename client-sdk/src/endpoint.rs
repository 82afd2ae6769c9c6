//! Addresses of servers: checked when the client is built, so that a slip is told at once and not by calls that fail.

use std::fmt;

use tonic::codegen::http::Uri;

use crate::error::Error;

/// What is allowed, for messages.
const ALLOWED: &str = "allowed are `https://host:port` and, without TLS, `http://host:port`";
/// Longest piece of a wrong address that a message repeats, in characters.
const SHOWN_LEN_MAX: usize = 80;

/// `https://host:port` or `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Uri);

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |problem: &'static str| Error::Endpoint { endpoint: shown(text), problem, allowed: ALLOWED };
        let uri: Uri = text.parse().map_err(|_| wrong("it is not an address"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
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

    /// Whether TLS is spoken there.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether what is sent there stays on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.0.scheme_str().unwrap_or_default())
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
        for good in ["http://127.0.0.1:7400", "http://[::1]:7400", "https://tessera.internal:443/"] {
            let address = Address::parse(good).unwrap();
            assert_eq!(address.to_string(), good.trim_end_matches('/'));
        }
    }

    #[test]
    fn what_stays_on_this_machine_is_told_from_what_does_not() {
        for near in ["http://127.0.0.1:1", "http://127.8.0.1:1", "http://[::1]:1", "https://localhost:1"] {
            assert!(Address::parse(near).unwrap().is_loopback(), "{near}");
        }
        for far in ["http://192.0.2.1:1", "http://[2001:db8::1]:1", "http://localhost.example:1"] {
            assert!(!Address::parse(far).unwrap().is_loopback(), "{far}");
        }
    }

    #[test]
    fn wrong_ones_are_refused_with_what_is_allowed() {
        for (wrong, problem) in [
            ("", "it is not an address"),
            ("127.0.0.1:7400", "it has no scheme"),
            ("localhost", "it has no scheme"),
            ("/run/tessera.sock", "it has no scheme"),
            ("https://127.0.0.1", "it has no port"),
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
