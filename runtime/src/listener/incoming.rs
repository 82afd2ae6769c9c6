//! Accepting connections: no more than allowed at a time, of all peers and of one, and of one no more than allowed in a time. A
//! socket is accepted by one runtime and served, perhaps, by another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use super::config::ListenerConfig;
use super::peer::Origin;
use super::unix::UnixSocket;
use crate::metric_definitions::CONNECTIONS_REFUSED;
use crate::overload::buckets::Buckets;

/// Pause after a failed accept: the usual cause, no free file descriptors, does not go away by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that was accepted and belongs to no runtime yet.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) raw: Raw,
    /// Held for as long as the connection lives.
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Raw {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A place among the allowed connections, of all and of one peer.
#[derive(Debug)]
pub(super) struct Place {
    _among_all: OwnedSemaphorePermit,
    _of_peer: Option<OfPeer>,
}

/// Where connections come in. Those over the Unix socket have places of their own, so that nobody from outside can take them.
#[derive(Debug)]
pub(super) struct Doors {
    tcp: Option<TcpListener>,
    unix: Option<UnixSocket>,
    tcp_places: Arc<Semaphore>,
    unix_places: Arc<Semaphore>,
    peers: Arc<Peers>,
    per_peer_max: usize,
    /// How often each peer has connected of late.
    connecting: Buckets,
    begun: Instant,
}

impl Doors {
    pub(super) fn new(tcp: Option<TcpListener>, unix: Option<UnixSocket>, config: &ListenerConfig) -> Self {
        let places = || Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
        let (tcp_places, unix_places) = (places(), places());
        let (connecting, per_peer_max) = (Buckets::new(config.connecting()), config.connections_per_peer_max);
        Self { tcp, unix, tcp_places, unix_places, peers: Arc::default(), per_peer_max, connecting, begun: Instant::now() }
    }

    /// The next connection. Nothing is lost when this is dropped.
    pub(super) async fn next(&self) -> Accepted {
        tokio::select! {
            accepted = self.next_tcp() => accepted,
            accepted = self.next_unix() => accepted,
        }
    }

    async fn next_tcp(&self) -> Accepted {
        let Some(listener) = &self.tcp else { return pending().await };
        loop {
            let among_all = place(&self.tcp_places).await;
            let (stream, address) = accept(|| listener.accept()).await;
            let origin = Origin::from(address.ip());
            let Some(of_peer) = Peers::count_in(&self.peers, origin, self.per_peer_max) else {
                counter!(CONNECTIONS_REFUSED, "cause" => "peer").increment(1);
                continue;
            };
            // Behind the count: who has too many open pays for none.
            if self.connecting.take(origin, 1, self.begun.elapsed()).is_err() {
                counter!(CONNECTIONS_REFUSED, "cause" => "rate").increment(1);
                continue;
            }
            if let Err(error) = stream.set_nodelay(true) {
                warn!(%error, "cannot set TCP_NODELAY");
            }
            match stream.into_std() {
                Ok(stream) => {
                    let place = Place { _among_all: among_all, _of_peer: Some(of_peer) };
                    return Accepted { raw: Raw::Tcp(stream), place };
                }
                // This connection's trouble alone: the next one need not wait.
                Err(error) => warn!(%error, "cannot hand on a connection"),
            }
        }
    }

    async fn next_unix(&self) -> Accepted {
        let Some(socket) = &self.unix else { return pending().await };
        loop {
            let among_all = place(&self.unix_places).await;
            let (stream, _) = accept(|| socket.listener().accept()).await;
            match stream.into_std() {
                Ok(stream) => {
                    return Accepted { raw: Raw::Unix(stream), place: Place { _among_all: among_all, _of_peer: None } };
                }
                Err(error) => warn!(%error, "cannot hand on a connection"),
            }
        }
    }
}

async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    match Arc::clone(places).acquire_owned().await {
        Ok(place) => place,
        // It is never closed.
        Err(_) => pending().await,
    }
}

async fn accept<T, A: Future<Output = io::Result<T>>>(listener: impl Fn() -> A) -> T {
    loop {
        match listener().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How many connections each peer has.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<Origin, usize>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct OfPeer {
    peers: Arc<Peers>,
    origin: Origin,
}

impl Peers {
    /// Counts a connection, unless the peer has as many as it may.
    pub(crate) fn count_in(peers: &Arc<Self>, origin: Origin, max: usize) -> Option<OfPeer> {
        let mut counts = peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(origin).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(OfPeer { peers: Arc::clone(peers), origin })
    }
}

impl Drop for OfPeer {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.origin) {
            *count.get_mut() -= 1;
            // Who has gone is forgotten: addresses are many.
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_peer_has_its_share_and_gets_it_back() {
        let peers = Arc::new(Peers::default());
        let of = |text: &str| Peers::count_in(&peers, Origin::from(text.parse::<IpAddr>().unwrap()), 2);
        let first = of("192.0.2.1").unwrap();
        let second = of("192.0.2.1").unwrap();
        assert!(of("192.0.2.1").is_none());
        let other = of("192.0.2.2").unwrap();
        drop(first);
        let third = of("192.0.2.1").unwrap();
        assert!(of("::ffff:192.0.2.1").is_none(), "the same address");
        drop((second, third, other));
        assert!(peers.0.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_connects_no_more_often_than_it_may() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config =
            ListenerConfig { connections_per_peer_max: 3, connections_per_peer_per_second: 10, ..ListenerConfig::default() };
        let doors = Doors::new(Some(listener), None, &config);
        let connect = || async { TcpStream::connect(address).await.unwrap() };
        let is_closed = async |mut peer: TcpStream| {
            let mut said = [0; 1];
            tokio::select! {
                _ = doors.next() => false,
                read = peer.read(&mut said) => matches!(read, Ok(0) | Err(_)),
            }
        };
        for _ in 0..3 {
            let _peer = connect().await;
            // It ends at once, and counts all the same.
            drop(doors.next().await);
        }
        for _ in 0..5 {
            assert!(is_closed(connect().await).await);
        }
        tokio::time::advance(Duration::from_millis(100)).await;
        let _peer = connect().await;
        drop(doors.next().await);
        assert!(is_closed(connect().await).await);
    }
}
