//! Where a server is: `host:port` or `http://host:port`, and nothing that would quietly mean another place.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use tessera_core::shown::shown;

/// Where a server is. What it shows is host:port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// host:port.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri = Uri::try_from(with_scheme).ok().filter(|uri| {
            let has_host = uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some_and(|port| port > 0);
            let names_nobody = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            let is_all = matches!(uri.path(), "" | "/") && uri.query().is_none();
            has_host && names_nobody && is_all && uri.scheme_str() == Some("http")
        });
        let authority = uri.as_ref().and_then(Uri::authority);
        authority.map(|authority| Self(authority.as_str().to_owned())).ok_or_else(|| {
            let given = shown(text);
            format!("`{given}` is not an address; allowed is host:port with a port from 1 to 65535, such as 127.0.0.1:7400")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_whole_or_refused() {
        for good in ["127.0.0.1:7400", "http://127.0.0.1:7400", "http://127.0.0.1:7400/"] {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), "127.0.0.1:7400");
        }
        assert_eq!("[::1]:7400".parse::<Address>().unwrap().as_str(), "[::1]:7400");
        let bad = [
            "",
            "7400",
            "localhost",
            "localhost:",
            "localhost:0",
            "a:70000",
            "https://a:1",
            "http://a:1/x",
            "a:1?b",
            "u@a:1",
            "a b:1",
        ];
        for bad in bad {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(error.contains("allowed is host:port"), "{bad}: {error}");
        }
    }
}
