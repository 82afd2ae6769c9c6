//! The bytes of a connection, whatever carries them: TCP, TLS over it, or a Unix socket. Counts what comes, and gives up on a
//! peer that takes nothing of what is written, or that only chatters.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::ReusableBoxFuture;

use super::traffic::{Frames, Reading, Traffic};

/// The longest part of a reader's room that is filled at once.
const PART_LEN: usize = 16 << 10;

thread_local! {
    /// Where bytes go first when no more than a part of the reader's room may be filled. That part itself would have to be zeroed
    /// before each read, and is far longer than what mostly comes: for small calls a twentieth of all that they cost.
    static PART: RefCell<Box<[u8]>> = RefCell::new(vec![0; PART_LEN].into());
}

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Socket {
    /// Bytes that have come and were not read, as far as the kernel has them.
    fn unread(&self) -> usize {
        let len = match self {
            Self::Tcp(stream) => rustix::io::ioctl_fionread(stream),
            Self::Tls(stream) => rustix::io::ioctl_fionread(stream.get_ref().0),
            Self::Unix(stream) => rustix::io::ioctl_fionread(stream),
        };
        len.map_or(0, |len| usize::try_from(len).unwrap_or(usize::MAX))
    }
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
    /// Nothing is to be read before the others of the thread were seen, with which `others` completes.
    yields: bool,
    others: ReusableBoxFuture<'static, ()>,
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
        let others = ReusableBoxFuture::new(tokio::task::yield_now());
        Self { socket, traffic, frames, slow_reader, blocked: None, yields: false, others }
    }

    /// How many bytes are to be read now, at most. Whoever has to wait for that is woken when it may be time.
    fn may_read(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            let has_yielded = self.yields;
            if has_yielded {
                ready!(self.others.poll(cx));
                self.yields = false;
            }
            let unread = || self.socket.unread();
            match self.traffic.may_read(self.frames.rest(), unread, has_yielded, cx.waker(), Instant::now()) {
                Reading::AtMost(len) => return Poll::Ready(len),
                // The runtime looks which sockets have something before it goes on with this one.
                Reading::AfterOthers => {
                    self.yields = true;
                    self.others.set(tokio::task::yield_now());
                }
                Reading::InTurn => return Poll::Pending,
            }
        }
    }

    /// Reads what fits into `buf`, and no more than that many bytes.
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, len_max: usize) -> Poll<io::Result<()>> {
        if len_max >= buf.remaining() {
            return carried!(self, poll_read(cx, buf));
        }
        PART.with_borrow_mut(|part| {
            let len = len_max.min(part.len());
            let mut part = ReadBuf::new(part.get_mut(..len).unwrap_or_default());
            ready!(carried!(self, poll_read(cx, &mut part)))?;
            buf.put_slice(part.filled());
            Poll::Ready(Ok(()))
        })
    }

    /// What came of writing bytes.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(len)) = &written {
            self.traffic.wrote(*len);
        }
        self.unless_blocked(cx, written)
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
            let this = &mut *self;
            this.frames.take_in(came);
            this.traffic.heard(came.len(), this.frames.called());
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
        if self.traffic.holds_back() {
            return Poll::Pending;
        }
        let written = carried!(self, poll_write(cx, buf));
        self.wrote(cx, written)
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
        if self.traffic.holds_back() {
            return Poll::Pending;
        }
        let written = carried!(self, poll_write_vectored(cx, buffers));
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
