//! One connection from its handshake to its end: performs what `course.rs` says. A connection is one task, and its calls are
//! tasks that are woken when it ends, and end then.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use h2::server::Builder;
use metrics::{counter, gauge};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected as _, TcpConnectInfo};
use tracing::debug;

use super::Calls;
use super::call::Taker;
use super::config::ListenerConfig;
use super::course::{Cause, Course, Step};
use super::http2::Http2;
use super::incoming::{Accepted, Raw};
use super::keepalive::Beat;
use super::peer::Peer;
use super::traffic::{Presence, Traffic};
use super::transport::{Socket, Transport};
use crate::metric_definitions::{CONNECTIONS, CONNECTIONS_ENDED};
use crate::overload::Refusals;
use crate::overload::limiter::Limiter;
use crate::tls::Tls;

/// What HTTP/2 keeps besides the bytes of small parts of messages that came and were not read, in bytes, has a limit of its own: up to
/// 256 for each. It is half of the connection's window unless it is told otherwise, as little as a hundred and fifty checks of a
/// stream where that window is small, and whoever oversteps it loses the connection.
const SMALL_FRAMES_MIN: usize = 4 << 20;

/// What all connections of a listener have in common.
#[derive(Debug)]
pub(super) struct Rules {
    config: ListenerConfig,
    tls: Option<Tls>,
    http: Builder,
    refusals: Arc<Refusals>,
}

impl Rules {
    pub(super) fn new(config: &ListenerConfig, tls: Option<Tls>, refusals: Refusals) -> Self {
        let window = usize::try_from(config.connection_window_bytes).unwrap_or(usize::MAX);
        let mut http = Builder::new();
        http.initial_connection_window_size(config.connection_window_bytes)
            .initial_window_size(config.stream_window_bytes)
            .data_frame_budget((window / 2).max(SMALL_FRAMES_MIN))
            .max_concurrent_streams(config.streams_per_connection_max)
            .max_send_buffer_size(config.send_buffer_bytes)
            .max_header_list_size(config.header_list_bytes_max)
            .max_pending_accept_reset_streams(config.pending_resets_max)
            .max_local_error_reset_streams(Some(config.error_resets_max));
        Self { config: config.clone(), tls, http, refusals: Arc::new(refusals) }
    }

    /// How long the certificate of a peer is good from now on, if it has one that ends.
    fn certificate_good_for(&self, peer: &Peer) -> Option<Duration> {
        let ends = peer.certificate.as_ref()?.ends?;
        Some(ends.saturating_since(self.tls.as_ref()?.now()))
    }
}

/// A connection that is open, as the metric counts it.
struct Open;

impl Open {
    fn count() -> Self {
        gauge!(CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
    }
}

/// Serves a connection until its end, on the thread of `limiter`. `draw` is a random number; `draining` says that it must go.
pub(super) async fn serve<S: Calls>(
    accepted: Accepted,
    rules: Arc<Rules>,
    service: S,
    limiter: Limiter,
    draw: u64,
    draining: CancellationToken,
) {
    let Accepted { raw, place } = accepted;
    let open = Open::count();
    let ended = match shake_hands(raw, &rules, &draining).await {
        Ok((socket, peer, addresses)) => {
            let traffic = Arc::new(Traffic::new(limiter, rules.refusals.connection_ends()));
            let refusals = Arc::clone(&rules.refusals);
            let message_max = Duration::from_secs(rules.config.message_timeout_s);
            let taker = Taker { service, peer, addresses, traffic: Arc::clone(&traffic), refusals, message_max };
            let transport = Transport::new(socket, Arc::clone(&traffic), rules.config.slow_reader());
            live(transport, taker, &rules, traffic, draw, draining).await
        }
        Err(cause) => cause,
    };
    counter!(CONNECTIONS_ENDED, "cause" => ended).increment(1);
    drop((open, place));
}

/// Makes the socket the runtime's own, and TLS of TCP where that is wanted; the error is why there is no connection.
async fn shake_hands(
    raw: Raw,
    rules: &Rules,
    draining: &CancellationToken,
) -> Result<(Socket, Peer, Option<TcpConnectInfo>), &'static str> {
    let failed = |error: io::Error| {
        debug!(%error, "a connection cannot be served");
        "peer"
    };
    let stream = match raw {
        Raw::Tcp(stream) => TcpStream::from_std(stream).map_err(failed)?,
        Raw::Unix(stream) => {
            let stream = UnixStream::from_std(stream).map_err(failed)?;
            return Ok((Socket::Unix(stream), Peer::default(), None));
        }
    };
    let addresses = stream.connect_info();
    let peer = Peer { address: addresses.remote_addr, certificate: None };
    let Some(tls) = &rules.tls else { return Ok((Socket::Tcp(stream), peer, Some(addresses))) };
    let time_max = Duration::from_secs(rules.config.handshake_timeout_s);
    let shaken = tokio::select! {
        biased;
        () = draining.cancelled() => return Err("drain"),
        shaken = tokio::time::timeout(time_max, tls.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok((stream, certificate))) => {
            Ok((Socket::Tls(Box::new(stream)), Peer { certificate: certificate.map(Arc::new), ..peer }, Some(addresses)))
        }
        Ok(Err(error)) => {
            debug!(%error, peer = ?peer.address, "no TLS with a peer");
            Err("handshake")
        }
        Err(_) => Err("handshake_timeout"),
    }
}

/// From the first byte of HTTP/2 to the last: why it ended.
async fn live<S: Calls>(
    transport: Transport,
    taker: Taker<S>,
    rules: &Rules,
    traffic: Arc<Traffic>,
    draw: u64,
    draining: CancellationToken,
) -> &'static str {
    let _presence = Presence(Arc::clone(&traffic));
    let mut course = Course::begin(&rules.config, Instant::now(), draw, rules.certificate_good_for(&taker.peer));
    let mut keepalive = rules.config.keepalive(Instant::now());
    let mut http = Http2::begin(&rules.http, transport, taker, rules.config.slow_reader());
    let mut timer = pin!(tokio::time::sleep_until(Instant::now() + Duration::from_secs(rules.config.first_bytes_timeout_s)));
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| {
                traffic.begin_step();
                let mut polled = http.poll(cx);
                // All answers of the step together.
                while traffic.let_go() && polled.is_pending() {
                    polled = http.poll(cx);
                }
                traffic.end_step();
                polled
            }) => {
                let ended_by_us = traffic.given_up().or_else(|| course.cause().map(name));
                return match ended {
                    Ok(()) => ended_by_us.unwrap_or("peer"),
                    Err(error) => ended_by_us.unwrap_or_else(|| cause_of(&error)),
                };
            }
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                if course.drain(Instant::now(), traffic.seen()) {
                    http.go();
                }
            }
            () = timer.as_mut() => {}
        }
        loop {
            match course.next(Instant::now(), traffic.seen()) {
                Step::Wait(until) => match keepalive.next(Instant::now(), traffic.seen().read) {
                    Beat::Wait(look) => {
                        timer.as_mut().reset(until.min(look));
                        break;
                    }
                    Beat::Ask => http.ask(),
                    Beat::Gone => return "keepalive",
                },
                Step::TellToGo => http.go(),
                Step::EndStreams => traffic.end_streams(),
                Step::Drop => return course.cause().map_or("peer", name),
            }
        }
    }
}

fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::Preface => "preface",
        Cause::Idle => "idle",
        Cause::Age => "age",
        Cause::Certificate => "certificate",
        Cause::Drain => "drain",
    }
}

/// Why HTTP/2 ended with an error that is not ours.
fn cause_of(error: &h2::Error) -> &'static str {
    debug!(%error, "a connection ended with an error");
    match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) if error.is_library() => "excess",
        Some(_) if error.is_library() => "protocol",
        _ => "peer",
    }
}
