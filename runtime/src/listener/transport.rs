//! The bytes of a connection, whatever carries them: TCP, TLS over it, or a Unix socket. Counts what comes, and gives up on a
//! peer that takes nothing of what is written, or that only chatters.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::traffic::{Frames, Reading, Traffic};

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// A socket that is watched.
#[derive(Debug)]
pub(super) struct Transport {
    socket: Socket,
    traffic: Arc<Traffic>,
    frames: Frames,
    slow_reader: Duration,
    /// Runs while the peer takes nothing.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Runs while nothing is to be read, since it would be refused.
    later: Option<Pin<Box<Sleep>>>,
}

/// Calls a method of whatever carries the bytes.
macro_rules! carried {
    ($transport:expr, $method:ident ( $($argument:expr),* )) => {
        match &mut $transport.socket {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl Transport {
    pub(super) fn new(socket: Socket, traffic: Arc<Traffic>, slow_reader: Duration) -> Self {
        let frames = Frames::new(Instant::now());
        Self { socket, traffic, frames, slow_reader, blocked: None, later: None }
    }

    /// How many bytes are to be read now, at most. Whoever has to wait for that is woken when it may be time.
    fn may_read(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if let Some(later) = &mut self.later {
            ready!(later.as_mut().poll(cx));
            self.later = None;
        }
        match self.traffic.may_read(self.frames.rest(), Instant::now()) {
            Reading::Freely => return Poll::Ready(usize::MAX),
            Reading::AtMost(len) => return Poll::Ready(len),
            Reading::AfterOthers => {}
            Reading::Later(pause) => {
                let later = self.later.insert(Box::pin(tokio::time::sleep(pause)));
                // For its waker.
                ready!(later.as_mut().poll(cx));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what fits into `buf`, and no more than that many bytes.
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, len_max: usize) -> Poll<io::Result<()>> {
        if len_max >= buf.remaining() {
            return carried!(self, poll_read(cx, buf));
        }
        let mut some = ReadBuf::new(buf.initialize_unfilled_to(len_max));
        ready!(carried!(self, poll_read(cx, &mut some)))?;
        let len = some.filled().len();
        buf.advance(len);
        Poll::Ready(Ok(()))
    }

    /// What came of writing, unless the peer has taken nothing for too long.
    fn unless_blocked<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let timer = self.blocked.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.slow_reader)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.traffic.is_blocked();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what is written")))
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let len_max = ready!(self.may_read(cx));
        let before = buf.filled().len();
        let read = self.read(cx, buf, len_max);
        if matches!(read, Poll::Ready(Ok(()))) {
            let came = buf.filled().get(before..).unwrap_or_default();
            self.traffic.heard(came.len());
            let this = &mut *self;
            this.frames.take_in(came);
            if this.frames.are_too_many(|| this.traffic.answered()) {
                this.traffic.chatters();
                let problem = "more frames than calls account for";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, problem)));
            }
        }
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = carried!(self, poll_write(cx, buf));
        self.unless_blocked(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = carried!(self, poll_flush(cx));
        self.unless_blocked(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = carried!(self, poll_shutdown(cx));
        self.unless_blocked(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = carried!(self, poll_write_vectored(cx, buffers));
        self.unless_blocked(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
