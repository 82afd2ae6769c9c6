//! What leaves and what comes in, over real sockets. `listener/tests` has what becomes of connections and of slow readers.

use std::convert::Infallible;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::body::Body;

use super::*;
use crate::lifecycle::Tasks;
use crate::listener::answer::tests::Says;
use crate::listener::{ListenerConfig, bind, serve};

/// A good beginning of HTTP/2, with an empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Kinds of frames.
const DATA: u8 = 0;
const PING: u8 = 6;

/// Serves that, and says where.
async fn served<S: Calls>(tasks: &Tasks, service: S, config: ListenerConfig) -> TcpStream {
    let tcp = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let shutdown = tasks.shutdown();
    tasks.spawn("listener", async move { serve(tcp, service, &config, shutdown).await });
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn long_answers_leave_in_slices_and_nothing_is_lost() {
    let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let frames = [b"short".to_vec(), Vec::new(), long, b"end".to_vec()];
    let said = frames.concat();
    let service = tower::service_fn(move |_: Request<Body>| {
        let body = Body::new(Says::these(&frames));
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let tasks = Tasks::new();
    for window in [1_000, 20_000, 65_535, 1 << 20] {
        let stream = served(&tasks, service.clone(), ListenerConfig::default()).await;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        drop(tasks.run("test.client", connection));
        let request = Request::post("http://localhost/some/path").body(()).unwrap();
        let (answer, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let mut heard = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            heard.extend_from_slice(&data);
        }
        assert!(heard == said, "window {window}: {} bytes of {}", heard.len(), said.len());
        assert_eq!(body.trailers().await.unwrap(), None);
    }
}

/// Kind, flags and payload of the next frame.
async fn next(stream: &mut TcpStream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("who behaves is not sent away");
    let [_, len_high, len_low, kind, flags, ..] = head;
    let mut payload = vec![0; u16::from_be_bytes([len_high, len_low]).into()];
    stream.read_exact(&mut payload).await.unwrap();
    (kind, flags, payload)
}

#[tokio::test]
async fn small_messages_of_a_stream_may_wait_to_be_read_however_small_the_window() {
    const COUNT: usize = 1_000;
    let (go, gone) = watch::channel(false);
    // Says what it hears, once it is let go.
    let service = tower::service_fn(move |request: Request<Body>| {
        let mut gone = gone.clone();
        async move {
            gone.wait_for(|gone| *gone).await.unwrap();
            Ok::<_, Infallible>(Response::new(request.into_body()))
        }
    });
    let config = ListenerConfig { connection_window_bytes: 65_535, stream_window_bytes: 65_535, ..ListenerConfig::default() };
    config.validate().unwrap();
    let tasks = Tasks::new();
    let mut stream = served(&tasks, service, config).await;
    // POST, http, `/` and `localhost` (RFC 7541, Appendix A); each message in a frame of its own; and a PING behind them all.
    let call = b"\0\0\x0e\x01\x04\0\0\0\x01\x83\x86\x84\x41\x09localhost";
    let message = b"\0\0\x14\0\0\0\0\0\x01\0\0\0\0\x0ffifteen letters";
    let said = [PREFACE, call, &message.repeat(COUNT), b"\0\0\x08\x06\0\0\0\0\0all came"].concat();
    stream.write_all(&said).await.unwrap();
    while next(&mut stream).await != (PING, 1, b"all came".to_vec()) {}
    go.send(true).unwrap();
    let mut heard = 0;
    while heard < COUNT * 20 {
        let (kind, _, payload) = next(&mut stream).await;
        heard += if kind == DATA { payload.len() } else { 0 };
    }
    assert_eq!(heard, COUNT * 20);
}

#[tokio::test]
async fn who_answers_pings_is_asked_again_and_again() {
    let service = tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let config = ListenerConfig { keepalive_interval_s: 1, keepalive_timeout_s: 20, ..ListenerConfig::default() };
    let tasks = Tasks::new();
    let mut stream = served(&tasks, service, config).await;
    stream.write_all(PREFACE).await.unwrap();
    let mut pings = 0;
    while pings < 3 {
        let (kind, flags, payload) = next(&mut stream).await;
        if (kind, flags) == (PING, 0) {
            stream.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0], payload.as_slice()].concat()).await.unwrap();
            pings += 1;
        }
    }
}
