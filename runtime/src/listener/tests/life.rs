//! What becomes of connections and calls, over real sockets: limits, ends, panics, deadlines, readers that do not read.

use std::future::pending;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::super::call::MESSAGE_LEN_MAX;
use super::super::traffic::HEALTH_CALLS_MAX;
use super::super::*;
use crate::lifecycle::Tasks;

/// A good beginning of HTTP/2, with an empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service that does what it is asked for by name.
#[derive(Debug)]
struct Probe {
    /// Told when a stream, or a call that is never answered, is dropped, and when such a call comes.
    dropped: mpsc::UnboundedSender<&'static str>,
}

#[derive(Debug)]
struct TellsWhenDropped(&'static str, mpsc::UnboundedSender<&'static str>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        // Nobody may listen any more.
        let _ = self.1.send(self.0);
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Probe {
    async fn check(&self, request: tonic::Request<HealthCheckRequest>) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().expect("whoever asks is known");
        let remote = request.remote_addr();
        let headers = request.metadata().len();
        match request.into_inner().service.as_str() {
            "panic" => panic!("as asked for"),
            "never" => {
                let _tells = TellsWhenDropped("never", self.dropped.clone());
                self.dropped.send("asked").unwrap();
                pending::<()>().await;
            }
            "tcp" => assert!(peer.address.is_some() && peer.address == remote, "{peer:?} {remote:?}"),
            "unix" => assert_eq!((peer, remote), (Peer::default(), None)),
            "headers" => assert_eq!(headers, 0),
            _ => {}
        }
        Ok(tonic::Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = Answers;

    async fn watch(&self, request: tonic::Request<HealthCheckRequest>) -> Result<tonic::Response<Answers>, Status> {
        let one = || Ok(HealthCheckResponse { status: 1 });
        let tells = |name| TellsWhenDropped(name, self.dropped.clone());
        let answers: Answers = match request.into_inner().service.as_str() {
            "endless" => {
                let tells = tells("endless");
                Box::pin(stream::repeat_with(move || {
                    let _ = &tells;
                    one()
                }))
            }
            "panic" => Box::pin(stream::poll_fn(|_| panic!("as asked for"))),
            _ => {
                let tells = tells("silent");
                Box::pin(stream::iter([one()]).chain(stream::poll_fn(move |_| {
                    let _ = &tells;
                    Poll::Pending
                })))
            }
        };
        Ok(tonic::Response::new(answers))
    }
}

use std::task::Poll;

struct Served {
    tasks: Tasks,
    address: SocketAddr,
    dropped: mpsc::UnboundedReceiver<&'static str>,
    metrics: PrometheusHandle,
    _recorder: metrics::LocalRecorderGuard<'static>,
}

/// Serves a probe on this thread, where its metrics are.
async fn served(config: ListenerConfig) -> Served {
    served_with(config, Memory::default()).await
}

async fn served_with(config: ListenerConfig, memory: Memory) -> Served {
    let tasks = Tasks::new();
    let tcp = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = tcp.local_addr().unwrap();
    // Lives as long as the test's process: a guard borrows it.
    let recorder: &'static PrometheusRecorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let (dropped_sender, dropped) = mpsc::unbounded_channel();
    let unix = config.unix_socket.as_deref().map(|path| bind_unix(path, 0o600).unwrap());
    let routes = Routes::new(HealthServer::new(Probe { dropped: dropped_sender })).prepare();
    let shutdown = tasks.shutdown();
    let guard = metrics::set_default_local_recorder(recorder);
    let sockets = Sockets::from(tcp).with_unix(unix).with_seed(1).with_refusals(Policy::default(), memory);
    tasks.spawn("listener", async move { serve(sockets, routes, &config, shutdown).await });
    Served { tasks, address, dropped, metrics: recorder.handle(), _recorder: guard }
}

impl Served {
    async fn client(&self) -> HealthClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        HealthClient::new(endpoint.connect().await.unwrap())
    }

    fn count(&self, series: &str) -> u64 {
        let page = self.metrics.render();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(str::parse);
        value.transpose().unwrap().unwrap_or_default()
    }

    /// Waits until as many connections have ended so.
    async fn ended(&self, cause: &str, count: u64) {
        let series = format!("tessera_connections_ended_total{{cause=\"{cause}\"}}");
        until(|| self.count(&series) >= count).await;
        assert_eq!(self.count(&series), count, "{}", self.metrics.render());
    }

    /// A client's HTTP/2 connection, with what drives it.
    async fn http(&self, builder: &h2::client::Builder) -> h2::client::SendRequest<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        drop(self.tasks.run("test.client", connection));
        sender
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Looks every few milliseconds.
async fn until(mut is_so: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    within(async {
        while !is_so() {
            looks.tick().await;
        }
    })
    .await;
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// A request for the stream `endless`, in frames.
fn endless() -> (Request<()>, Bytes) {
    let request = Request::post("http://localhost/grpc.health.v1.Health/Watch");
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    (request.body(()).unwrap(), Bytes::from_static(b"\0\0\0\0\x09\x0a\x07endless"))
}

#[tokio::test]
async fn a_panic_is_internal_is_counted_and_hurts_nobody_else() {
    let served = served(ListenerConfig::default()).await;
    let client = served.client().await;
    let mut silent = client.clone().watch(asking("silent")).await.unwrap().into_inner();
    assert!(silent.message().await.unwrap().is_some());
    for round in 1..=2 {
        let status = client.clone().check(asking("panic")).await.unwrap_err();
        assert_eq!((status.code(), status.message().contains("mistake of the server's")), (Code::Internal, true), "{status:?}");
        let mut answers = client.clone().watch(asking("panic")).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap_err().code(), Code::Internal);
        assert_eq!(served.count("tessera_call_panics_total"), 2 * round);
        assert_eq!(client.clone().check(asking("")).await.unwrap().into_inner().status, 1);
    }
    assert_eq!(served.count("tessera_connections"), 1, "all on one connection");
}

#[tokio::test]
async fn whoever_asks_is_known_over_tcp_and_over_the_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.sock");
    let served = served(ListenerConfig { unix_socket: Some(path.clone()), ..ListenerConfig::default() }).await;
    served.client().await.check(asking("tcp")).await.unwrap();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    HealthClient::new(channel).check(asking("unix")).await.unwrap();
    served.tasks.shutdown().drain();
    until(|| std::fs::read_dir(folder.path()).unwrap().next().is_none()).await;
}

#[tokio::test]
async fn a_call_that_waits_ends_at_its_callers_deadline() {
    let served = served(ListenerConfig::default()).await;
    // Tonic's client would end it by itself.
    let mut http = served.http(&h2::client::Builder::new()).await.ready().await.unwrap();
    let request = Request::post("http://localhost/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
    let request = request.header("te", "trailers").header("grpc-timeout", "200m").body(()).unwrap();
    let (answer, mut sender) = http.send_request(request, false).unwrap();
    sender.send_data(Bytes::from_static(b"\0\0\0\0\x07\x0a\x05never"), true).unwrap();
    let answer = within(answer).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "the deadline of the call has passed"));
}

#[tokio::test]
async fn a_call_that_waits_ends_when_it_is_taken_back_and_when_its_connection_ends() {
    let mut served = served(ListenerConfig::default()).await;
    for taken_back in [true, false] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let driver = async move {
            tokio::select! {
                _ = connection => {}
                _ = ended => {}
            }
            pending::<()>().await;
        };
        let asks = async {
            let request =
                Request::post("http://localhost/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
            let request = request.header("te", "trailers").body(()).unwrap();
            let (answer, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
            body.send_data(Bytes::from_static(b"\0\0\0\0\x07\x0a\x05never"), true).unwrap();
            assert_eq!(served.dropped.recv().await, Some("asked"));
            if taken_back {
                body.send_reset(h2::Reason::CANCEL);
            } else {
                end.send(()).unwrap();
            }
            assert_eq!(served.dropped.recv().await, Some("never"), "taken back: {taken_back}");
            drop(answer);
        };
        within(async {
            tokio::select! {
                () = driver => {}
                () = asks => {}
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_has_few_calls_to_health_under_way_and_others_have_theirs() {
    let served = served(ListenerConfig::default()).await;
    let mut client = served.client().await;
    let mut open = Vec::new();
    for _ in 0..HEALTH_CALLS_MAX {
        let mut silent = client.watch(asking("silent")).await.unwrap().into_inner();
        assert!(silent.message().await.unwrap().is_some());
        open.push(silent);
    }
    for count in [1, 2] {
        let refused = if count == 1 { client.check(asking("")).await.err() } else { client.watch(asking("")).await.err() };
        let refused = refused.unwrap();
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "too much is asked at a time"));
        assert_eq!(served.count("tessera_calls_refused_total{cause=\"health\"}"), count);
    }
    served.client().await.check(asking("tcp")).await.unwrap();
    open.pop();
    within(async { while client.check(asking("")).await.is_err() {} }).await;
}

#[tokio::test]
async fn of_a_call_to_health_nothing_is_held_but_its_message() {
    let served = served(ListenerConfig::default()).await;
    let mut http = served.http(&h2::client::Builder::new()).await.ready().await.unwrap();
    let mut request = Request::post("http://localhost/grpc.health.v1.Health/Check?of=what").header("te", "trailers");
    for _ in 0..1_000 {
        request = request.header("x-filler", "y");
    }
    let request = request.header("content-type", "application/grpc").body(()).unwrap();
    let (answer, mut sender) = http.send_request(request, false).unwrap();
    sender.send_data(Bytes::from_static(b"\0\0\0\0\x09\x0a\x07headers"), true).unwrap();
    let mut answer = within(answer).await.unwrap().into_body();
    assert_eq!(within(answer.data()).await.unwrap().unwrap(), b"\0\0\0\0\x02\x08\x01"[..], "SERVING");
}

#[tokio::test]
async fn a_message_comes_in_time_and_a_stream_of_questions_has_all_the_time() {
    let tasks = Tasks::new();
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, gone) = watch::channel(false);
    // A stream answers what it is asked when it is; anything else once all of its message is there, and not before it is let go.
    let service = tower::service_fn(move |request: Request<Body>| {
        let mut gone = gone.clone();
        async move {
            if request.uri().path() == "/stream" {
                return Ok(Response::new(request.into_body()));
            }
            let mut message = request.into_body();
            while let Some(Ok(_)) = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut message), cx)).await {}
            gone.wait_for(|gone| *gone).await.unwrap();
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let (config, shutdown) = (ListenerConfig { message_timeout_s: 1, ..ListenerConfig::default() }, tasks.shutdown());
    tasks.spawn("listener", async move { serve(listener, service, &config, shutdown).await });
    let stream = TcpStream::connect(address).await.unwrap();
    let (http, connection) = h2::client::handshake(stream).await.unwrap();
    drop(tasks.run("test.client", connection));
    let mut http = http.ready().await.unwrap();
    let mut begins = |path: &str| {
        let request = Request::post(format!("http://localhost{path}")).body(()).unwrap();
        http.send_request(request, false).unwrap()
    };
    let (answer, mut asks) = begins("/stream");
    let mut echo = within(answer).await.unwrap().into_body();
    let (whole, mut more_of_whole) = begins("/whole");
    more_of_whole.send_data(Bytes::from_static(b"all"), true).unwrap();
    let (half, mut more_of_half) = begins("/half");
    more_of_half.send_data(Bytes::from_static(b"half"), false).unwrap();
    for late in [begins("/nothing").0, half] {
        let answer = within(late).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        let expected = "the message of the call did not come in time after its headers";
        assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, expected));
    }
    // It has waited for longer, and not for its message.
    go.send(true).unwrap();
    assert!(Status::from_header_map(within(whole).await.unwrap().headers()).is_none());
    asks.send_data(Bytes::from_static(b"later"), false).unwrap();
    assert_eq!(within(echo.data()).await.unwrap().unwrap(), "later");
}

#[tokio::test]
async fn a_peer_has_no_more_connections_than_it_may() {
    let config =
        ListenerConfig { connections_per_peer_max: 2, connections_per_peer_per_second: 100_000, ..ListenerConfig::default() };
    let served = served(config).await;
    let first = served.client().await;
    let _second = served.client().await;
    let mut third = TcpStream::connect(served.address).await.unwrap();
    let closed = within(third.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(served.count("tessera_connections_refused_total{cause=\"peer\"}"), 1);
    drop(first);
    served.ended("peer", 1).await;
    served.client().await.check(asking("tcp")).await.unwrap();
}

#[tokio::test]
async fn who_comes_when_there_is_no_place_waits_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.sock");
    let served =
        served(ListenerConfig { connections_max: 1, unix_socket: Some(path.clone()), ..ListenerConfig::default() }).await;
    let mut first = served.client().await;
    let mut second = TcpStream::connect(served.address).await.unwrap();
    second.write_all(PREFACE).await.unwrap();
    // Those of the Unix socket have places of their own.
    let _neighbour = UnixStream::connect(path).await.unwrap();
    until(|| served.count("tessera_connections") == 2).await;
    for _ in 0..20 {
        first.check(asking("tcp")).await.unwrap();
        assert_eq!(served.count("tessera_connections"), 2);
    }
    drop(first);
    assert!(within(second.read(&mut [0; 1])).await.unwrap() > 0, "it is served");
}

#[tokio::test]
async fn who_answers_no_ping_is_gone() {
    let served = served(ListenerConfig { keepalive_interval_s: 1, keepalive_timeout_s: 1, ..ListenerConfig::default() }).await;
    let mut still = TcpStream::connect(served.address).await.unwrap();
    still.write_all(PREFACE).await.unwrap();
    let mut good = served.client().await;
    served.ended("keepalive", 1).await;
    good.check(asking("tcp")).await.unwrap();
}

#[tokio::test]
async fn long_messages_are_not_taken_in_when_memory_is_short() {
    let memory = Memory::default();
    let served = served_with(ListenerConfig::default(), memory.clone()).await;
    let mut http = served.http(&h2::client::Builder::new()).await.ready().await.unwrap();
    let mut half = |len: usize| {
        let request = Request::post("http://localhost/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(()).unwrap();
        let (answer, mut sender) = http.send_request(request, false).unwrap();
        let head = [&[0, 0, 1, 0x86, 0xa0][..], &vec![0; len]].concat();
        sender.send_data(head.into(), false).unwrap();
        (answer, sender)
    };
    // A hundred thousand bytes each, of which some have come.
    let ((long, mut more_of_long), (short, _more_of_short)) = (half(MESSAGE_LEN_MAX + 1 - 1_000), half(1_000));
    memory.set(90);
    more_of_long.send_data(vec![0; 2_000].into(), false).unwrap();
    let answer = within(long).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too much is asked at a time"));
    assert_eq!(served.count("tessera_calls_refused_total{cause=\"memory\"}"), 1);
    assert!(futures::FutureExt::now_or_never(short).is_none(), "a short one waits for its rest");
}

#[tokio::test]
async fn half_a_beginning_is_no_beginning() {
    let served = served(ListenerConfig { first_bytes_timeout_s: 3, ..ListenerConfig::default() }).await;
    let mut streams = Vec::new();
    for len in [0, 1, 23, 24, 32] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(&PREFACE[..len]).await.unwrap();
        streams.push(stream);
    }
    let mut whole = TcpStream::connect(served.address).await.unwrap();
    whole.write_all(PREFACE).await.unwrap();
    for stream in &mut streams {
        // It may have said its own SETTINGS before.
        let mut said = Vec::new();
        drop(within(stream.read_to_end(&mut said)).await);
    }
    served.ended("preface", 5).await;
    assert_eq!(served.count("tessera_connections"), 1, "the one that began well");
    let mut other = TcpStream::connect(served.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    served.ended("protocol", 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_one_with_a_stream_is_not() {
    let served = served(ListenerConfig { idle_max_s: 1, ..ListenerConfig::default() }).await;
    let mut busy = served.client().await;
    let mut silent = busy.watch(asking("silent")).await.unwrap().into_inner();
    assert!(silent.message().await.unwrap().is_some());
    let mut idle = served.client().await;
    served.ended("idle", 1).await;
    busy.check(asking("")).await.unwrap();
    // A channel connects again by itself, once it has noticed.
    within(async { while idle.check(asking("")).await.is_err() {} }).await;
}

#[tokio::test]
async fn at_its_age_a_connection_goes_and_its_streams_are_told_why() {
    let mut served = served(ListenerConfig { age_max_s: 3, age_grace_s: 1, ..ListenerConfig::default() }).await;
    let mut client = served.client().await;
    let mut silent = client.watch(asking("silent")).await.unwrap().into_inner();
    assert!(silent.message().await.unwrap().is_some());
    let status = within(silent.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the connection ends; open another"), "{status:?}");
    assert_eq!(within(served.dropped.recv()).await, Some("silent"));
    served.ended("age", 1).await;
    within(async { while client.check(asking("")).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_reset_and_its_neighbours_are_not() {
    let mut served = served(ListenerConfig { slow_reader_timeout_s: 1, ..ListenerConfig::default() }).await;
    for window in [0, 1, 20_000, 65_535, 1 << 20] {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(8 << 20);
        let mut http = served.http(&builder).await.ready().await.unwrap();
        let (request, message) = endless();
        let (answer, mut sender) = http.send_request(request, false).unwrap();
        sender.send_data(message, true).unwrap();
        let body = within(answer).await.unwrap().into_body();
        // Nothing is read: no credit is given.
        assert_eq!(within(served.dropped.recv()).await, Some("endless"), "window {window}");
        let mut body = body;
        let reset = within(async {
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    other => break other,
                }
            }
        })
        .await;
        let reason = reset.and_then(|data| data.unwrap_err().reason());
        assert_eq!(reason, Some(h2::Reason::ENHANCE_YOUR_CALM), "window {window}");
        // The connection goes on.
        let (request, _) = endless();
        assert!(http.ready().await.unwrap().send_request(request, false).is_ok());
    }
    assert_eq!(served.count("tessera_slow_readers_total"), 5);
}

#[tokio::test]
async fn a_reader_that_reads_has_all_the_time() {
    // A step goes by at once: what is left of the time is for a busy machine.
    const STEP: Duration = Duration::from_secs(20);
    let mut served = served(ListenerConfig { slow_reader_timeout_s: 30, ..ListenerConfig::default() }).await;
    let mut http = served.http(&h2::client::Builder::new()).await.ready().await.unwrap();
    let (request, message) = endless();
    let (answer, mut sender) = http.send_request(request, false).unwrap();
    sender.send_data(message, true).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    // Reads for longer than a reader may stand still.
    for _ in 0..4 {
        tokio::time::pause();
        tokio::time::advance(STEP).await;
        tokio::time::resume();
        // More than there was room for.
        let mut heard = 0;
        while heard < 4 * 65_535 {
            let data = within(body.data()).await.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            heard += data.len();
        }
    }
    assert!(served.dropped.try_recv().is_err());
    assert_eq!(served.count("tessera_slow_readers_total"), 0);
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_closed_whatever_credit_it_gives() {
    let mut served = served(ListenerConfig { slow_reader_timeout_s: 1, ..ListenerConfig::default() }).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size((1 << 31) - 1).initial_connection_window_size((1 << 31) - 1);
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (sender, mut connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let (request, message) = endless();
    // It is driven until the answer begins, and then stands still, as a process does that was stopped.
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = async move {
        tokio::select! {
            _ = &mut connection => {}
            _ = stopped => {}
        }
        // Kept, so that the socket stays open.
        (connection,)
    };
    let asks = async move {
        let mut sender = sender.ready().await.unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(message, true).unwrap();
        let answer = answer.await.unwrap();
        drop(stop);
        (sender, answer)
    };
    let (_connection, _answer) = within(async { tokio::join!(driver, asks) }).await;
    assert_eq!(within(served.dropped.recv()).await, Some("endless"));
    served.ended("slow_reader", 1).await;
}

#[tokio::test]
async fn a_flood_of_pings_ends_its_connection_alone() {
    let served = served(ListenerConfig::default()).await;
    let mut good = served.client().await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut reads, mut writes) = stream.into_split();
    let flood = async {
        writes.write_all(PREFACE).await?;
        let pings = b"\0\0\x08\x06\0\0\0\0\0flooding".repeat(100);
        loop {
            writes.write_all(&pings).await?;
        }
    };
    let mut pongs = vec![0; 1 << 16];
    let takes = async { while !matches!(reads.read(&mut pongs).await, Ok(0) | Err(_)) {} };
    let flood: Result<(), std::io::Error> = within(async { tokio::join!(flood, takes).0 }).await;
    assert!(flood.is_err());
    served.ended("chatter", 1).await;
    good.check(asking("tcp")).await.unwrap();
}
