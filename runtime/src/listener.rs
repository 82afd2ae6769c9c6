//! gRPC listeners: an address (or a Unix socket) is bound early, served later, and drained at the end. Connections are run by us
//! from their first byte to their last (docs/adr/0020); what is served is a tower service, mostly tonic's routes with layers
//! round them.
//!
//! TLS is of [`crate::tls`]; who may do what, and where may be listened at all, is of [`crate::identity`], which finds a [`Peer`] in
//! every request.
//!
//! - `config`: what can be set;
//! - `incoming`, `unix`: where connections come in, and how many;
//! - `cores`: threads that serve;
//! - `connection`, `course`, `keepalive`: the life of one, as shell and as pure steps;
//! - `http2`: its calls come in and their answers go out;
//! - `transport`, `traffic`: its bytes, and what is seen of them;
//! - `call`, `answer`: one call, and the body of its answer;
//! - `peer`: who is at the other end.

mod answer;
mod call;
mod config;
mod connection;
mod cores;
mod course;
mod http2;
mod incoming;
mod keepalive;
mod peer;
mod traffic;
mod transport;
mod unix;

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::{Request, Response};
use tessera_ports::memory::SplitMix64;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tracing::error;

use crate::lifecycle::Shutdown;
use crate::overload::limiter::Limiter;
use crate::overload::memory::Memory;
use crate::overload::{Policy, Refusals};
use crate::tls::{self, Tls};
use connection::Rules;
use cores::{Cores, Load};
use incoming::{Accepted, Doors};

pub use config::ListenerConfig;
pub(crate) use incoming::Peers;
pub(crate) use peer::Origin;
pub use peer::{Peer, PeerCertificate};
pub use unix::UnixSocket;

/// Longest request to health, in bytes: the name of a service. Anybody may ask, known or not.
pub const HEALTH_REQUEST_LEN_MAX: usize = 4 << 10;
/// Longest request to reflection, in bytes: a name or two.
pub const REFLECTION_REQUEST_LEN_MAX: usize = 64 << 10;

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The path of the Unix socket cannot be had.
    #[error("cannot listen on `{}`", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
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
    /// The mode of the Unix socket is none.
    #[error("`unix_socket_mode` is `{given}`; allowed are `600` to `777`, in octal, with all rights of the owner but to execute")]
    Mode {
        /// What was given.
        given: String,
    },
    /// TLS cannot be had.
    #[error(transparent)]
    Tls(tls::Error),
}

/// What a listener serves: a service of its own, or `tonic::service::Routes`, prepared (`Routes::prepare`), with or without layers.
pub trait Calls:
    tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Calls for S where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Where a listener takes connections from, and what they are wrapped in. An address alone is one, too.
#[derive(Debug)]
pub struct Sockets {
    tcp: Option<TcpListener>,
    unix: Option<UnixSocket>,
    tls: Option<Tls>,
    policy: Policy,
    memory: Memory,
    draws: SplitMix64,
}

impl From<TcpListener> for Sockets {
    fn from(listener: TcpListener) -> Self {
        // Where chance comes in: the hasher has its keys from the system.
        let draws = SplitMix64::new(RandomState::new().hash_one(0));
        Self { tcp: Some(listener), unix: None, tls: None, policy: Policy::default(), memory: Memory::default(), draws }
    }
}

impl Sockets {
    /// With TLS on the address. The Unix socket speaks plain text: its file says who may connect.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// With a Unix socket besides.
    #[must_use]
    pub fn with_unix(self, unix: Option<UnixSocket>) -> Self {
        Self { unix, ..self }
    }

    /// With calls refused by that policy, and when that memory is short, too.
    #[must_use]
    pub(crate) fn with_refusals(self, policy: Policy, memory: Memory) -> Self {
        Self { policy, memory, ..self }
    }

    /// With numbers drawn from `seed` instead of chance: they spread the ages of connections.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { draws: SplitMix64::new(seed), ..self }
    }
}

/// Takes an address; port 0 takes any free port. Whether calls may be taken there is for [`crate::identity::settings::permit`]
/// to say; pages that show no tenant and no plan (health, metrics) may be anywhere.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}

/// Takes a path for a Unix socket, for whoever `mode` lets connect. What a dead process left there is replaced; what a living
/// one uses, or what is no socket, is an error. Needs a runtime.
pub fn bind_unix(path: &Path, mode: u32) -> Result<UnixSocket, Error> {
    UnixSocket::bind(path, mode)
}

/// Serves `service` on the runtime of the caller until `shutdown`: `drain_delay_s` after soft, connections are told to go and unary
/// calls finish (services are told by `closing`, and end their own streams); on hard, everything is dropped.
pub async fn serve<S: Calls>(
    sockets: impl Into<Sockets>,
    service: S,
    config: &ListenerConfig,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let Sockets { tcp, unix, tls, policy, memory, draws } = sockets.into();
    let rules = Arc::new(Rules::new(config, tls, Refusals::new(policy, memory, config)));
    let sockets = futures::stream::unfold(Doors::new(tcp, unix, config), |doors| async {
        let accepted = doors.next().await;
        Some(((accepted, None), doors))
    });
    serve_sockets(sockets, service, config, rules, draws, shutdown).await
}

/// As [`serve`], but on `threads` threads with a runtime of their own each: a connection is served by the thread that has the
/// fewest, from its first byte (the TLS handshake, too) to its last.
///
/// A runtime of one thread costs a small call two thirds of what one of several threads does, since nothing is handed from thread
/// to thread. Whatever `service` spawns runs there, too, and ends with the listener: what must outlive it belongs elsewhere.
pub async fn serve_on_threads<S: Calls>(
    sockets: impl Into<Sockets>,
    service: S,
    config: &ListenerConfig,
    threads: NonZeroUsize,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let Sockets { tcp, unix, tls, policy, memory, mut draws } = sockets.into();
    let rules = Arc::new(Rules::new(config, tls, Refusals::new(policy, memory, config)));
    let mut cores = Cores::start(threads, &service, config, &rules, &mut draws, &shutdown)?;
    let first = {
        let doors = Doors::new(tcp, unix, config);
        let mut drained = pin!(drained(config, &shutdown));
        loop {
            tokio::select! {
                accepted = doors.next() => cores.give(accepted),
                () = &mut drained => break Ok(()),
                // It died, or it had nothing to finish and heard before us that it is to drain: the others may have.
                ended = cores.first_ended() => break ended,
            }
        }
        // Here the address is given back.
    };
    if first.is_err() {
        // The others would go on for as long as their callers like.
        shutdown.close();
    }
    first.and(cores.all_ended().await)
}

/// Serves sockets on this runtime.
async fn serve_sockets<S: Calls>(
    sockets: impl Stream<Item = (Accepted, Option<Load>)>,
    service: S,
    config: &ListenerConfig,
    rules: Arc<Rules>,
    mut draws: SplitMix64,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let drained = drained(config, &shutdown);
    // Of this runtime: in the control plane's, of all its threads.
    let limiter = Limiter::new(config.wait_target(), Instant::now());
    let serving = async move {
        let mut connections = JoinSet::new();
        let draining = CancellationToken::new();
        {
            let (mut sockets, mut drained) = (pin!(sockets), pin!(drained));
            loop {
                tokio::select! {
                    next = sockets.next() => {
                        // Whoever hands sockets over may stop before this runtime hears that it is to drain.
                        let Some((accepted, load)) = next else { break };
                        let (rules, service, draining) = (Arc::clone(&rules), service.clone(), draining.clone());
                        let limiter = limiter.clone();
                        let served = connection::serve(accepted, rules, service, limiter, draws.next_u64(), draining);
                        connections.spawn(async move {
                            let _load = load;
                            served.await;
                        });
                    }
                    Some(ended) = connections.join_next() => note(ended),
                    () = &mut drained => break,
                }
            }
        }
        draining.cancel();
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    tokio::select! {
        () = serving => {}
        () = shutdown.hard.cancelled() => {}
    }
    Ok(())
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(reason) = ended {
        error!(%reason, "a connection panicked");
    }
}

/// Completes when no new connections and calls are to be taken any more, and tells everybody.
fn drained(config: &ListenerConfig, shutdown: &Shutdown) -> impl Future<Output = ()> + Send + use<> {
    let (shutdown, delay) = (shutdown.clone(), Duration::from_secs(config.drain_delay_s));
    async move {
        shutdown.soft.cancelled().await;
        tokio::time::sleep(delay).await;
        shutdown.close();
    }
}

#[cfg(test)]
mod tests;
