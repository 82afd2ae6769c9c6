//! Connections of the pages: how many there may be, and for how long. Whoever reaches the pages is asked for nothing, so none of
//! them may take what others need: a silent connection is a file descriptor that a listener of calls does not get.
//!
//! Beyond [`CONNECTIONS_MAX`] further ones wait in the kernel; beyond those that one peer may have ([`PER_PEER_MAX`]) its own are closed,
//! so that it keeps nobody else from seeing that the process lives. A request's head has [`HEAD_MAX`], which is also how long a
//! connection may stay open with nothing asked; a request as a whole, its answer included, has [`REQUEST_MAX`] unless its page
//! takes more time ([`Deadline`]).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, error, warn};

use crate::listener::{Origin, Peers};

/// Most connections at a time: several of everybody who watches a process, and with all of their buffers no more than 30 MB.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Of these, those of one IPv4 address, or one IPv6 network of 64 bits.
pub(super) const PER_PEER_MAX: usize = 8;
/// For the head of a request, from the connection or from the answer before it on.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(5);
/// From the head of a request to the end of its answer.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Pause after a failed accept: the usual cause, no free file descriptors, does not go away by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// When the request under way has to be over. A page finds it among the request's extensions.
#[derive(Debug, Clone)]
pub(super) struct Deadline(watch::Sender<Instant>);

impl Deadline {
    /// The request has so long from now on.
    pub(super) fn allow(&self, time: Duration) {
        self.0.send_replace(Instant::now() + time);
    }
}

/// Serves connections until `hard`; those that are open then finish what they are about.
pub(super) async fn serve(listener: TcpListener, router: Router, hard: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let (mut connections, peers) = (JoinSet::new(), Arc::new(Peers::default()));
    loop {
        tokio::select! {
            (stream, peer) = accept(&listener), if connections.len() < CONNECTIONS_MAX => {
                let Some(place) = Peers::count_in(&peers, Origin::from(peer.ip()), PER_PEER_MAX) else {
                    debug!(%peer, "a peer has as many connections to the pages as it may");
                    continue;
                };
                let lived = live(&http, stream, peer, router.clone(), hard.clone());
                connections.spawn(async move {
                    let _place = place;
                    lived.await;
                });
            }
            Some(ended) = connections.join_next() => note(ended),
            () = hard.cancelled() => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection to the pages");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection from its first request to its end.
fn live(
    http: &http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    hard: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (sender, until) = watch::channel(Instant::now() + REQUEST_MAX);
    let deadline = Deadline(sender);
    let service = service_fn(move |mut request: Request<Incoming>| {
        deadline.allow(REQUEST_MAX);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(deadline.clone());
        router.clone().call(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service);
    async move {
        let (mut connection, mut time_is_up) = (pin!(connection), pin!(time_is_up(until)));
        let mut is_told = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%error, %peer, "a connection to the pages broke off");
                    }
                    return;
                }
                () = time_is_up.as_mut() => {
                    debug!(%peer, "a request for a page took too long");
                    return;
                }
                () = hard.cancelled(), if !is_told => {
                    connection.as_mut().graceful_shutdown();
                    is_told = true;
                }
            }
        }
    }
}

/// Completes when a request has not ended in its time.
async fn time_is_up(mut until: watch::Receiver<Instant>) {
    loop {
        let end = *until.borrow_and_update();
        if !matches!(tokio::time::timeout_at(end, until.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(reason) = ended {
        error!(%reason, "a page panicked");
    }
}
