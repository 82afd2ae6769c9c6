//! Who is at the other end of a connection, as far as the connection itself tells: an address, and what a verified certificate
//! says. What that allows is decided elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

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
}
