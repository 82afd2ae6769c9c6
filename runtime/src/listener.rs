//! gRPC listeners: an address is bound early, served later, and drained at the end.
//!
//! Nothing listens beyond loopback here, since there is no identity yet. TLS and authentication will come between
//! `incoming` and the routes.

mod cores;
mod incoming;
mod peer;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::lifecycle::Shutdown;
use cores::{Cores, Load};
use incoming::{Accepted, Connection, Farewell, accepted};
pub use peer::{Peer, PeerCertificate};

/// How a gRPC listener behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// Most connections at a time; further ones wait in the kernel. 1 to 100,000; default 10,000.
    pub connections_max: usize,
    /// Most streams (calls under way) of one connection. 1 to 100,000; default 1,000.
    pub streams_per_connection_max: u32,
    /// Bytes of a whole connection that may be under way unread. 65,535 to 2^31-1; default 8 MiB.
    pub connection_window_bytes: u32,
    /// Bytes of one stream that may be under way unread. 65,535 to 2^31-1; default 4 MiB, so that a request of 2 MiB never waits.
    pub stream_window_bytes: u32,
    /// A connection that says nothing for so long after being accepted is closed. 1 to 60 s; default 5 s.
    pub first_bytes_timeout_s: u64,
    /// A silent connection is asked after so long whether it is still there. 5 to 3,600 s; default 30 s.
    pub keepalive_interval_s: u64,
    /// How long new calls are still taken after draining began, so that balancers notice. 0 to 20 s; default 0.
    pub drain_delay_s: u64,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            streams_per_connection_max: 1_000,
            connection_window_bytes: 8 << 20,
            stream_window_bytes: 4 << 20,
            first_bytes_timeout_s: 5,
            keepalive_interval_s: 30,
            drain_delay_s: 0,
        }
    }
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not before there is identity.
    #[error(
        "refusing to listen on `{0}`: without authentication only loopback addresses are allowed, such as 127.0.0.1:7400 or [::1]:7400"
    )]
    BeyondLoopback(SocketAddr),
    /// The operating system said no.
    #[error("cannot listen on `{address}`: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting is out of its bounds.
    #[error("`{field}` is `{given}`; allowed are {min} to {max}")]
    Setting {
        /// Which.
        field: &'static str,
        /// What was given.
        given: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
}

impl ListenerConfig {
    /// Checks every field against its bounds.
    pub fn validate(&self) -> Result<(), Error> {
        let connections = u64::try_from(self.connections_max).unwrap_or(u64::MAX);
        let bounds = [
            ("connections_max", connections, 1, 100_000),
            ("streams_per_connection_max", self.streams_per_connection_max.into(), 1, 100_000),
            ("connection_window_bytes", self.connection_window_bytes.into(), 65_535, (1 << 31) - 1),
            ("stream_window_bytes", self.stream_window_bytes.into(), 65_535, (1 << 31) - 1),
            ("first_bytes_timeout_s", self.first_bytes_timeout_s, 1, 60),
            ("keepalive_interval_s", self.keepalive_interval_s, 5, 3_600),
            ("drain_delay_s", self.drain_delay_s, 0, 20),
        ];
        for (field, given, min, max) in bounds {
            if !(min..=max).contains(&given) {
                return Err(Error::Setting { field, given, min, max });
            }
        }
        Ok(())
    }
}

/// Whether gRPC may listen there: refuses everything but loopback.
pub fn permit(address: SocketAddr) -> Result<(), Error> {
    if address.ip().is_loopback() { Ok(()) } else { Err(Error::BeyondLoopback(address)) }
}

/// Takes an address for gRPC that [`permit`] permits; port 0 takes any free port.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    permit(address)?;
    bind_anywhere(address).await
}

/// Takes an address for pages that show no tenant and no plan (health, metrics): these may listen beyond loopback.
pub async fn bind_anywhere(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}

/// Serves `routes` on the runtime of the caller until `shutdown`: on soft, connections are told to go and unary calls finish
/// (services end their own streams); on hard, everything is dropped.
pub async fn serve(listener: TcpListener, routes: Routes, config: &ListenerConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    let sockets = accepted(listener, config.connections_max).map(|socket| (socket, None));
    serve_sockets(sockets, routes, config, shutdown).await
}

/// As [`serve`], but on `threads` threads with a runtime of their own each: a connection is served by the thread that has the
/// fewest, from its first byte to its last.
///
/// A runtime of one thread costs a small call two thirds of what one of several threads does, since nothing is handed from thread
/// to thread. Whatever `routes` spawn runs there, too, and ends with the listener: what must outlive it belongs elsewhere.
pub async fn serve_on_threads(
    listener: TcpListener,
    routes: Routes,
    config: &ListenerConfig,
    threads: NonZeroUsize,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut cores = Cores::start(threads, routes, config, &shutdown)?;
    {
        let mut drained = pin!(drained(config, &shutdown));
        let mut accepted = pin!(accepted(listener, config.connections_max));
        loop {
            tokio::select! {
                Some(socket) = accepted.next() => cores.give(socket),
                () = &mut drained => break,
                ended = cores.first_ended() => return ended,
            }
        }
        // Here the address is given back.
    }
    cores.all_ended().await
}

/// Serves sockets on this runtime.
async fn serve_sockets(
    sockets: impl Stream<Item = (Accepted, Option<Load>)>,
    routes: Routes,
    config: &ListenerConfig,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let (first_bytes, farewell) = (Duration::from_secs(config.first_bytes_timeout_s), Farewell::default());
    let toward = farewell.clone();
    let connections = sockets.map(move |(socket, load)| Connection::begin(socket, first_bytes, toward.clone(), load));
    // Whoever hands sockets over may stop before this runtime hears that it is to drain: then, too, connections are told to go.
    let ends = farewell.clone();
    let connections = connections.chain(futures::stream::poll_fn(move |_| {
        ends.say();
        Poll::Ready(None)
    }));
    let drained = drained(config, &shutdown).inspect(move |()| farewell.say());
    let serving = Server::builder()
        .initial_connection_window_size(config.connection_window_bytes)
        .initial_stream_window_size(config.stream_window_bytes)
        .max_concurrent_streams(config.streams_per_connection_max)
        .http2_keepalive_interval(Some(Duration::from_secs(config.keepalive_interval_s)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, drained);
    tokio::select! {
        served = serving => Ok(served?),
        () = shutdown.hard.cancelled() => Ok(()),
    }
}

/// Completes when no new connections and calls are to be taken any more.
fn drained(config: &ListenerConfig, shutdown: &Shutdown) -> impl Future<Output = ()> + Send + use<> {
    let (soft, delay) = (shutdown.soft.clone(), Duration::from_secs(config.drain_delay_s));
    async move {
        soft.cancelled().await;
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests;
