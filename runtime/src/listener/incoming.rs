//! Accepting connections: no more than allowed at a time, and none that stays silent from its beginning. A socket is accepted by
//! one runtime and served, perhaps, by another.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::warn;

use super::cores::Load;

/// Pause after a failed accept: the usual cause, no free file descriptors, does not go away by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that was accepted and belongs to no runtime yet.
#[derive(Debug)]
pub(super) struct Accepted {
    stream: std::net::TcpStream,
    permit: OwnedSemaphorePermit,
}

/// Accepted sockets, at most `connections_max` alive at a time.
pub(super) fn accepted(listener: TcpListener, connections_max: usize) -> impl Stream<Item = Accepted> {
    let permits = Arc::new(Semaphore::new(connections_max));
    futures::stream::unfold((listener, permits), move |(listener, permits)| async move {
        // The semaphore is never closed.
        let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
        let stream = accept(&listener).await;
        Some((Accepted { stream, permit }, (listener, permits)))
    })
}

async fn accept(listener: &TcpListener) -> std::net::TcpStream {
    loop {
        match listener.accept().await.and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            stream.into_std()
        }) {
            Ok(stream) => return stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that holds its place among the allowed ones.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Runs until the first bytes have come.
    first_bytes: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
    _load: Option<Load>,
}

impl Connection {
    /// Hands the socket to the runtime that calls this, where it is served. `load` counts it meanwhile.
    pub(super) fn begin(accepted: Accepted, first_bytes: Duration, load: Option<Load>) -> io::Result<Self> {
        let stream = TcpStream::from_std(accepted.stream)?;
        let first_bytes = Some(Box::pin(tokio::time::sleep(first_bytes)));
        Ok(Self { stream, first_bytes, _permit: accepted.permit, _load: load })
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.first_bytes = None;
        } else if let Some(timer) = &mut self.first_bytes
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no bytes came after the connection")));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
