//! Where a server is: `host:port`, `http://host:port` or `https://host:port`, and nothing that would quietly mean another place.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use tessera_core::shown::shown;

/// Where a server is. What it shows is host:port, with `https://` before it if that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    authority: String,
    https: Option<bool>,
}

impl Address {
    /// host:port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether TLS is spoken there; `None` where nothing was said.
    pub fn says_https(&self) -> Option<bool> {
        self.https
    }

    /// The host, an address of IPv6 without its brackets.
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https == Some(true) { "https://" } else { "" };
        write!(f, "{scheme}{}", self.authority)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let says_scheme = text.contains("://");
        let with_scheme = if says_scheme { text.to_owned() } else { format!("http://{text}") };
        let uri = Uri::try_from(with_scheme).ok().filter(|uri| {
            let has_host = uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some_and(|port| port > 0);
            let names_nobody = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            let is_all = matches!(uri.path(), "" | "/") && uri.query().is_none();
            has_host && names_nobody && is_all && matches!(uri.scheme_str(), Some("http" | "https"))
        });
        let wrong = || {
            let given = shown(text);
            format!(
                "`{given}` is not an address; allowed is host:port with a port from 1 to 65535, such as 127.0.0.1:7400, with or \
                 without http:// or https:// before it"
            )
        };
        let uri = uri.ok_or_else(wrong)?;
        let authority = uri.authority().ok_or_else(wrong)?.as_str().to_owned();
        Ok(Self { authority, https: says_scheme.then(|| uri.scheme_str() == Some("https")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_whole_or_refused() {
        for (good, shown, https) in [
            ("127.0.0.1:7400", "127.0.0.1:7400", None),
            ("http://127.0.0.1:7400", "127.0.0.1:7400", Some(false)),
            ("http://127.0.0.1:7400/", "127.0.0.1:7400", Some(false)),
            ("https://tessera.internal:7400", "https://tessera.internal:7400", Some(true)),
        ] {
            let address: Address = good.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.says_https()), (shown, https), "{good}");
        }
        let six: Address = "[::1]:7400".parse().unwrap();
        assert_eq!((six.authority(), six.host(), six.is_loopback()), ("[::1]:7400", "::1", true));
        let far: Address = "localhost.example:7400".parse().unwrap();
        assert_eq!((far.host(), far.is_loopback()), ("localhost.example", false));
        let bad = [
            "",
            "7400",
            "localhost",
            "localhost:",
            "localhost:0",
            "a:70000",
            "ftp://a:1",
            "https://a",
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
