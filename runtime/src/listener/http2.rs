//! HTTP/2 of one connection, over h2: hands out calls as they come, and sends what comes of them.
//!
//! A call is a task of its own, which is woken when its connection ends, and ends then; a small one is served within the step that
//! the connection's task is making. How long a connection lives is the business of `connection.rs`.
//!
//! An answer leaves in slices, each of which waits until there is room for a byte of it. To claim more beforehand would have
//! streams hold room on the connection that none of them can use yet. A reader is slow when that takes too long, and its stream is
//! reset with `ENHANCE_YOUR_CALM`, which gRPC has for this case (HTTP2 Transport Mapping, "Errors": `RESOURCE_EXHAUSTED`, and what is
//! exhausted is bandwidth). What waits stands before anything else that could be said, trailers too.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::Frame;
use metrics::counter;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tracing::debug;

use super::Calls;
use super::answer::Answer;
use super::call::{Call, Taker};
use super::transport::Transport;
use crate::metric_definitions::SLOW_READERS;

/// Longest slice that is handed to HTTP/2: what it puts into one frame unless told otherwise. It is handed over whole as soon as there
/// is room for a byte of it, so it is also what a stream can hold beyond its buffer.
const SLICE_LEN_MAX: usize = 16 << 10;

/// HTTP/2 of one connection.
pub(super) struct Http2<S> {
    stage: Stage,
    taker: Taker<S>,
    slow_reader: Duration,
    /// It is to say GOAWAY as soon as it can.
    goes: bool,
}

enum Stage {
    Begins(Handshake<Transport, Bytes>),
    Serves { connection: Connection<Transport, Bytes>, pings: Option<PingPong> },
}

impl<S: Calls> Http2<S> {
    pub(super) fn begin(builder: &Builder, transport: Transport, taker: Taker<S>, slow_reader: Duration) -> Self {
        Self { stage: Stage::Begins(builder.handshake(transport)), taker, slow_reader, goes: false }
    }

    /// Serves until the connection is over. Whoever drops it then, or before, ends the calls that are under way.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.stage {
                Stage::Begins(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if self.goes {
                        connection.graceful_shutdown();
                    }
                    let pings = connection.ping_pong();
                    self.stage = Stage::Serves { connection, pings };
                }
                Stage::Serves { connection, .. } => match ready!(connection.poll_accept(cx)) {
                    Some(Ok((request, reply))) => self.take(request, reply),
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    /// Says GOAWAY: calls that have begun are finished, and no others begin.
    pub(super) fn go(&mut self) {
        match &mut self.stage {
            Stage::Begins(_) => self.goes = true,
            Stage::Serves { connection, .. } => connection.graceful_shutdown(),
        }
    }

    /// Asks the peer whether it is still there. What it says to that is heard as anything else is.
    pub(super) fn ask(&mut self) {
        let Stage::Serves { pings: Some(pings), .. } = &mut self.stage else { return };
        // An answer that came is taken before another may be asked for.
        let _answer = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
        if let Err(error) = pings.send_ping(Ping::opaque()) {
            debug!(%error, "a peer cannot be asked whether it is there");
        }
    }

    fn take(&self, request: Request<RecvStream>, reply: SendResponse<Bytes>) {
        let call = self.taker.call(request);
        let at_once = call.is_served_at_once();
        let exchange = Exchange { reply, stage: ExchangeStage::Called { call }, slow_reader: self.slow_reader };
        if !at_once {
            return spawn(exchange);
        }
        let mut exchange = Box::pin(exchange);
        // What is not done by then is polled again by its task, whose waker counts.
        if exchange.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            spawn(exchange);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "calls are woken when their connection ends, and end then")]
fn spawn(exchange: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(exchange);
}

pin_project! {
    /// A call from its headers to the last byte of its answer.
    struct Exchange<S: Calls> {
        reply: SendResponse<Bytes>,
        #[pin]
        stage: ExchangeStage<S>,
        slow_reader: Duration,
    }
}

pin_project! {
    #[project = ExchangeStageProjection]
    enum ExchangeStage<S: Calls> {
        Called {
            #[pin]
            call: Call<S>,
        },
        Answered { sending: Sending },
    }
}

impl<S: Calls> Future for Exchange<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let ended = loop {
            match this.stage.as_mut().project() {
                ExchangeStageProjection::Called { call } => {
                    let Poll::Ready(response) = call.poll(cx) else {
                        // Whoever has taken the call back is not worked for.
                        break ready!(this.reply.poll_reset(cx)).map(drop);
                    };
                    let (head, answer) = response.into_parts();
                    let is_over = answer.is_end_stream();
                    match this.reply.send_response(Response::from_parts(head, ()), is_over) {
                        Ok(to) if !is_over => {
                            let sending = Sending { to, answer, rest: Bytes::new(), waits: None };
                            this.stage.set(ExchangeStage::Answered { sending });
                        }
                        Ok(_) => return Poll::Ready(()),
                        Err(error) => {
                            this.reply.send_reset(Reason::INTERNAL_ERROR);
                            break Err(error);
                        }
                    }
                }
                ExchangeStageProjection::Answered { sending } => break ready!(sending.poll(*this.slow_reader, cx)),
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a call broke off");
        }
        Poll::Ready(())
    }
}

/// An answer that is being sent.
struct Sending {
    to: SendStream<Bytes>,
    answer: Answer,
    /// What is left of the frame that was made last.
    rest: Bytes,
    /// Runs while that waits for room.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Sending {
    fn poll(&mut self, slow_reader: Duration, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            while !self.rest.is_empty() {
                self.to.reserve_capacity(1);
                if !ready!(self.poll_room(slow_reader, cx))? {
                    return Poll::Ready(Ok(()));
                }
                let slice = self.rest.split_to(self.rest.len().min(SLICE_LEN_MAX));
                let is_last = self.rest.is_empty() && self.answer.is_end_stream();
                self.answer.leaves();
                self.to.send_data(slice, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = self.answer.poll_frame(cx) else {
                // Whoever has taken the call back is not worked for.
                return self.to.poll_reset(cx).map_ok(drop);
            };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => self.rest = data,
                Some(Err(trailers)) => {
                    let Ok(trailers) = trailers.into_trailers() else { continue };
                    self.to.reserve_capacity(0);
                    return Poll::Ready(self.to.send_trailers(trailers));
                }
                None => return Poll::Ready(self.to.send_data(Bytes::new(), true)),
            }
        }
    }

    /// Whether there is room for some of it; not when its reader is slow, or has taken the call back.
    fn poll_room(&mut self, slow_reader: Duration, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        while self.to.capacity() == 0 {
            match self.to.poll_capacity(cx) {
                Poll::Ready(Some(room)) => drop(room?),
                Poll::Ready(None) => return Poll::Ready(Ok(false)),
                Poll::Pending => {
                    let timer = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(slow_reader)));
                    ready!(timer.as_mut().poll(cx));
                    counter!(SLOW_READERS).increment(1);
                    debug!("the reader of a stream takes nothing: the stream is reset");
                    self.to.send_reset(Reason::ENHANCE_YOUR_CALM);
                    return Poll::Ready(Ok(false));
                }
            }
        }
        self.waits = None;
        Poll::Ready(Ok(true))
    }
}

/// The next part of a message; [`None`] after its last.
pub(super) fn poll_message(message: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    let next = match ready!(message.poll_data(cx)) {
        Some(Ok(data)) => {
            // Room for as much again: what reads it bounds what it keeps.
            message.flow_control().release_capacity(data.len()).map(|()| Some(Frame::data(data)))
        }
        Some(Err(error)) => Err(error),
        None => ready!(message.poll_trailers(cx)).map(|trailers| trailers.map(Frame::trailers)),
    };
    Poll::Ready(next.transpose())
}

#[cfg(test)]
mod tests;
