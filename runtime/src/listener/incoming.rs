//! Accepting connections: no more than allowed at a time, and none that stays silent from its beginning. A socket is accepted by
//! one runtime and served, perhaps, by another. At the end, who does not answer when told to go is gone already.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// A peer answers the PING that comes with being told to go. From whom nothing was heard for so long after it, nothing will be:
/// a host that vanished, a process that stands still.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Whether connections have been told to go. Set before they are.
#[derive(Debug, Clone, Default)]
pub(super) struct Farewell(Arc<AtomicBool>);

impl Farewell {
    pub(super) fn say(&self) {
        self.0.store(true, Ordering::Release);
    }
}

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
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    warn!(%error, "cannot set TCP_NODELAY");
                }
                match stream.into_std() {
                    Ok(stream) => return stream,
                    // This connection's trouble alone: the next one need not wait.
                    Err(error) => warn!(%error, "cannot hand on a connection"),
                }
            }
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
    farewell: Farewell,
    /// Runs from the farewell until something is heard.
    silence: Silence,
    _permit: OwnedSemaphorePermit,
    _load: Option<Load>,
}

/// What was heard of a peer since the farewell.
#[derive(Debug)]
enum Silence {
    NotYetToldToGo,
    Since(Pin<Box<Sleep>>),
    Heard,
}

impl Connection {
    /// Hands the socket to the runtime that calls this, where it is served. `load` counts it meanwhile.
    pub(super) fn begin(accepted: Accepted, first_bytes: Duration, farewell: Farewell, load: Option<Load>) -> io::Result<Self> {
        let stream = TcpStream::from_std(accepted.stream)?;
        let first_bytes = Some(Box::pin(tokio::time::sleep(first_bytes)));
        let silence = Silence::NotYetToldToGo;
        Ok(Self { stream, first_bytes, farewell, silence, _permit: accepted.permit, _load: load })
    }

    /// Whether nothing was heard for too long since the farewell. Being told to go makes whoever serves the connection look.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if matches!(self.silence, Silence::NotYetToldToGo) && self.farewell.0.load(Ordering::Acquire) {
            self.silence = Silence::Since(Box::pin(tokio::time::sleep(FAREWELL_MAX)));
        }
        match &mut self.silence {
            Silence::Since(timer) => timer.as_mut().poll(cx).is_ready(),
            Silence::NotYetToldToGo | Silence::Heard => false,
        }
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
            if matches!(self.silence, Silence::Since(_)) {
                self.silence = Silence::Heard;
            }
        } else if self.is_gone(cx) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing was heard after the connection was told to go",
            )));
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
