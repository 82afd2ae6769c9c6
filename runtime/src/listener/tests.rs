//! Draining over real sockets, with the health service standing for any unary service and any stream. `life.rs` has what else
//! becomes of connections.

mod life;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::ServiceExt as _;

use super::*;
use crate::lifecycle::{Ending, Signals, Tasks};

/// A unary call that answers when it is let go; it reports each call that reached it.
#[derive(Debug)]
struct Slow {
    reached: mpsc::Sender<()>,
    go: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Health for Slow {
    async fn check(
        &self,
        _request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        self.reached.send(()).await.unwrap();
        self.go.clone().wait_for(|go| *go).await.unwrap();
        Ok(tonic::Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = futures::stream::Pending<Result<HealthCheckResponse, tonic::Status>>;

    async fn watch(
        &self,
        _request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Ok(tonic::Response::new(futures::stream::pending()))
    }
}

struct Running {
    tasks: Tasks,
    address: SocketAddr,
    reached: mpsc::Receiver<()>,
    go: watch::Sender<bool>,
    client: HealthClient<tonic::transport::Channel>,
}

/// Both ways to serve: on the runtime of the caller, and on threads of its own.
const BOTH: [Option<NonZeroUsize>; 2] = [None, NonZeroUsize::new(2)];

async fn running(config: ListenerConfig, threads: Option<NonZeroUsize>) -> Running {
    let tasks = Tasks::new();
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reached_sender, reached) = mpsc::channel(8);
    let (go, go_receiver) = watch::channel(false);
    let routes = Routes::new(HealthServer::new(Slow { reached: reached_sender, go: go_receiver }));
    let shutdown = tasks.shutdown();
    tasks.spawn("listener", async move {
        match threads {
            None => serve(listener, routes, &config, shutdown).await,
            Some(threads) => serve_on_threads(listener, routes, &config, threads, shutdown).await,
        }
    });
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = HealthClient::new(endpoint.connect().await.unwrap());
    Running { tasks, address, reached, go, client }
}

#[tokio::test]
async fn a_unary_call_under_way_is_answered_and_new_connections_are_refused() {
    for threads in BOTH {
        answered_while_draining(running(ListenerConfig::default(), threads).await).await;
    }
}

async fn answered_while_draining(running: Running) {
    let Running { tasks, address, mut reached, go, mut client } = running;
    let call = async move { client.check(HealthCheckRequest::default()).await };
    let (sender, receiver) = mpsc::channel(2);
    let stopping = async {
        reached.recv().await.unwrap();
        sender.send("SIGTERM").await.unwrap();
        let refused = async {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            go.send(true).unwrap();
        };
        let (ending, ()) = tokio::join!(tasks.run_until_stopped(Signals::of_channel(receiver)), refused);
        ending
    };
    let (answer, ending) = tokio::join!(call, stopping);
    assert_eq!(answer.unwrap().into_inner().status, 1);
    assert_eq!(ending, Ending::Drained);
}

#[tokio::test]
async fn a_second_signal_drops_the_call() {
    for threads in BOTH {
        dropped_by_a_second_signal(running(ListenerConfig::default(), threads).await).await;
    }
}

async fn dropped_by_a_second_signal(running: Running) {
    let Running { tasks, mut reached, mut client, go: _go, .. } = running;
    let (sender, receiver) = mpsc::channel(2);
    let stopping = async {
        reached.recv().await.unwrap();
        sender.send("SIGTERM").await.unwrap();
        sender.send("SIGTERM").await.unwrap();
        tasks.run_until_stopped(Signals::of_channel(receiver)).await
    };
    let ending = tokio::select! {
        ending = stopping => ending,
        answer = client.check(HealthCheckRequest::default()) => panic!("answered: {answer:?}"),
    };
    assert_eq!(ending, Ending::Aborted);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let config = ListenerConfig { first_bytes_timeout_s: 1, ..ListenerConfig::default() };
    for threads in BOTH {
        let running = running(config.clone(), threads).await;
        let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after 20 s");
    }
}

#[tokio::test]
async fn a_peer_that_stands_still_does_not_hold_up_the_end() {
    for threads in BOTH {
        let Running { tasks, address, mut reached, go: _go, client: _client } = running(ListenerConfig::default(), threads).await;
        // A good beginning (preface, empty SETTINGS, a PING), and then not a word.
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        stream.write_all(b"\0\0\x08\x06\0\0\0\0\0standing").await.unwrap();
        let mut heard = Vec::new();
        while !heard.windows(8).any(|bytes| bytes == b"standing") {
            stream.read_buf(&mut heard).await.unwrap();
        }
        let (sender, receiver) = mpsc::channel(1);
        sender.send("SIGTERM").await.unwrap();
        let ending = tasks.run_until_stopped(Signals::of_channel(receiver)).await;
        assert_eq!(ending, Ending::Drained);
        assert!(reached.try_recv().is_err());
    }
}

/// A service on so many threads, and where it is.
async fn on_threads(threads: usize, service: impl Calls) -> (Tasks, tonic::transport::Endpoint) {
    let tasks = Tasks::new();
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (threads, shutdown) = (NonZeroUsize::new(threads).unwrap(), tasks.shutdown());
    tasks.spawn(
        "listener",
        async move { serve_on_threads(listener, service, &ListenerConfig::default(), threads, shutdown).await },
    );
    (tasks, tonic::transport::Endpoint::from_shared(address).unwrap())
}

#[tokio::test]
async fn a_thread_without_calls_ends_before_one_that_has_some_and_is_not_the_end() {
    let (sender, mut reached) = mpsc::channel(1);
    let (go, go_receiver) = watch::channel(false);
    let routes = Routes::new(HealthServer::new(Slow { reached: sender, go: go_receiver }));
    // Every thread has a clone of the service, and with it of this.
    let held = Arc::new(());
    let holding = Arc::clone(&held);
    let service = routes.map_request(move |request| {
        let _ = &holding;
        request
    });
    let (tasks, endpoint) = on_threads(2, service).await;
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let call = Tasks::new().run("call", async move { client.check(HealthCheckRequest::default()).await });
    reached.recv().await.unwrap();
    let before = Arc::strong_count(&held);
    tasks.shutdown().drain();
    while Arc::strong_count(&held) == before {
        // And so that the listener, which is on this thread, hears of both at once.
        std::thread::yield_now();
    }
    let (_sender, signals) = mpsc::channel(1);
    let mut stopping = std::pin::pin!(tasks.run_until_stopped(Signals::of_channel(signals)));
    for _ in 0..100 {
        assert!(futures::poll!(&mut stopping).is_pending(), "ended with a call under way");
        tokio::task::yield_now().await;
    }
    go.send(true).unwrap();
    assert_eq!(stopping.await, Ending::Drained);
    assert_eq!(call.await.unwrap().unwrap().into_inner().status, 1);
    assert_eq!(Arc::strong_count(&held), 1, "somebody still has the service");
}

/// A part of a service whose clones cannot be had any more once it is broken.
#[derive(Default)]
struct Fragile(Arc<AtomicBool>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Ordering::SeqCst), "on purpose");
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn a_thread_that_dies_ends_the_others_streams_and_the_process() {
    let (reached, _) = mpsc::channel(1);
    let (_go, go) = watch::channel(false);
    let fragile = Fragile::default();
    let (broken, fragile) = (Arc::clone(&fragile.0), fragile);
    let service = Routes::new(HealthServer::new(Slow { reached, go })).map_request(move |request| {
        let _ = &fragile;
        request
    });
    let (tasks, endpoint) = on_threads(2, service).await;
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    broken.store(true, Ordering::SeqCst);
    // It goes to the thread that has none yet, which takes a clone for it.
    let _other = endpoint.connect().await;
    let (_sender, signals) = mpsc::channel(1);
    assert_eq!(tasks.run_until_stopped(Signals::of_channel(signals)).await, Ending::Died);
    assert!(stream.message().await.is_err(), "the stream has no good end");
}

/// Answers, and tells which thread it was asked on.
#[derive(Debug)]
struct Whereabouts(std::sync::Mutex<BTreeMap<String, usize>>);

#[tonic::async_trait]
impl Health for Whereabouts {
    async fn check(
        &self,
        _request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        *self.0.lock().unwrap().entry(thread).or_default() += 1;
        Ok(tonic::Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = futures::stream::Pending<Result<HealthCheckResponse, tonic::Status>>;

    async fn watch(
        &self,
        _request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Ok(tonic::Response::new(futures::stream::pending()))
    }
}

#[tokio::test]
async fn connections_go_to_the_thread_with_the_fewest() {
    let whereabouts = Arc::new(Whereabouts(std::sync::Mutex::default()));
    let (_tasks, endpoint) = on_threads(3, Routes::new(HealthServer::from_arc(Arc::clone(&whereabouts)))).await;
    // One after the other, each open while the next one comes.
    let mut clients = Vec::new();
    for _ in 0..9 {
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        client.check(HealthCheckRequest::default()).await.unwrap();
        clients.push(client);
    }
    let seen = whereabouts.0.lock().unwrap().clone();
    assert_eq!(seen, ["calls-0", "calls-1", "calls-2"].map(|thread| (thread.to_owned(), 3)).into());
}

#[test]
fn draws_follow_from_the_seed_and_differ() {
    let of = |seed| {
        let mut draws = SplitMix64::new(seed);
        [draws.next_u64(), draws.next_u64(), draws.next_u64()]
    };
    assert_eq!(of(7), of(7));
    let all: std::collections::BTreeSet<u64> = (0..100).flat_map(of).collect();
    assert_eq!(all.len(), 300);
}
