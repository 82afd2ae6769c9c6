//! Who is at the other end of a connection, as far as the connection itself tells: an address, and what a verified certificate
//! says. What that allows is decided elsewhere.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tessera_core::time::Timestamp;

/// The other end of the connection that a request came over: an extension of every request. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it calls from; `None` over the Unix socket.
    pub address: Option<SocketAddr>,
    /// Its certificate, verified; `None` without TLS, and where it sent none and need not.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// What a verified client certificate says of its holder. Its common name says nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The SPIFFE id: of a certificate that has exactly one URI among its names, and that is one. Any other names nobody.
    pub spiffe_id: Option<String>,
    /// All URIs among its names.
    pub uri_names: Vec<String>,
    /// When it ends; `None` when that is beyond all times.
    pub ends: Option<Timestamp>,
}

/// What counts as one peer where connections are counted. One host has all addresses of an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
            IpAddr::V4(address) => Self(address.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_one_origin_however_it_writes_its_address() {
        let of = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
