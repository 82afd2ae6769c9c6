//! Peers that mean no good: HTTP/2 written frame by frame over a socket of their own (RFC 9113), from a loopback address of
//! their own, so that their connections are counted apart from those of clients that behave. What becomes of them is for the
//! suite to say.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::waiting::PATIENCE;

/// What a connection begins with, but for the SETTINGS that have to follow.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub mod kind {
    /// Part of a message.
    pub const DATA: u8 = 0;
    /// A call begins.
    pub const HEADERS: u8 = 1;
    /// A call is cancelled.
    pub const RST_STREAM: u8 = 3;
    /// What this side wants.
    pub const SETTINGS: u8 = 4;
    /// Asks for an answer.
    pub const PING: u8 = 6;
    /// Says that the connection ends.
    pub const GOAWAY: u8 = 7;
    /// More headers.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Nothing follows on the stream.
    pub const END_STREAM: u8 = 1;
    /// Of SETTINGS: those of the other side are taken.
    pub const ACK: u8 = 1;
    /// The headers are complete.
    pub const END_HEADERS: u8 = 4;
}

/// A frame. At most 16 KiB go into one.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a gRPC call of `path`, packed without a table (RFC 7541, 6.2.2).
pub fn call(path: &str) -> Vec<u8> {
    // POST, http, and by their places in the static table: path, authority, content type.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(&[0x04][..], path), (&[0x01], "localhost"), (&[0x0f, 0x10], "application/grpc")] {
        block.extend(name);
        text(&mut block, value);
    }
    block.extend(header("te", "trailers"));
    block
}

/// One more header.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    text(&mut block, name);
    text(&mut block, value);
    block
}

fn text(block: &mut Vec<u8>, text: &str) {
    // Below 127 the length is one byte; beyond, seven bits at a time behind it.
    match u8::try_from(text.len()) {
        Ok(len) if len < 127 => block.push(len),
        _ => {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(0x80 | u8::try_from(rest % 128).unwrap_or_default());
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    block.extend(text.as_bytes());
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Which call it is of; 0 of none.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// A connection of a hostile peer.
#[derive(Debug)]
pub struct Hostile(TcpStream);

impl From<Hostile> for TcpStream {
    fn from(hostile: Hostile) -> Self {
        hostile.0
    }
}

impl Hostile {
    /// Connects from that address, which is one of 127.0.0.0/8, and says nothing.
    pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into()).with_context(|| format!("call from {from}"))?;
        Ok(Self(socket.connect(to).await.with_context(|| format!("connect from {from}"))?))
    }

    /// Connects and begins well, with these settings: pairs of name and value.
    pub async fn begin(from: Ipv4Addr, to: SocketAddr, settings: &[(u16, u32)]) -> anyhow::Result<Self> {
        let mut hostile = Self::connect(from, to).await?;
        let pairs = settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let pairs: Vec<u8> = pairs.collect();
        hostile.say(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &pairs)].concat()).await?;
        Ok(hostile)
    }

    /// Writes all of it.
    pub async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Writes the same again and again, and reads whatever comes, until the other side has had enough.
    pub async fn flood(self, bytes: &[u8]) -> anyhow::Result<()> {
        let (mut reads, mut writes) = self.0.into_split();
        let floods = async { while writes.write_all(bytes).await.is_ok() {} };
        let mut heard = vec![0; 1 << 16];
        let listens = async { while !matches!(reads.read(&mut heard).await, Ok(0) | Err(_)) {} };
        let both = async { tokio::join!(floods, listens) };
        tokio::time::timeout(PATIENCE, both).await.context("the flood goes on and on")?;
        Ok(())
    }

    /// Writes one piece after the other, with pauses, until the other side has had enough or there are no more.
    pub async fn dribble(self, pieces: impl IntoIterator<Item: AsRef<[u8]>>, pause: Duration) -> anyhow::Result<()> {
        let (mut reads, mut writes) = self.0.into_split();
        let mut heard = vec![0; 1 << 10];
        let listens = async { while !matches!(reads.read(&mut heard).await, Ok(0) | Err(_)) {} };
        let dribbles = async {
            let mut pauses = tokio::time::interval(pause);
            for piece in pieces {
                pauses.tick().await;
                if writes.write_all(piece.as_ref()).await.is_err() {
                    return;
                }
            }
        };
        let both = async { tokio::join!(dribbles, listens) };
        tokio::time::timeout(PATIENCE, both).await.context("the connection is not closed")?;
        Ok(())
    }

    /// Waits for the end of the connection and reads nothing of what comes before.
    pub async fn is_closed(&mut self) -> anyhow::Result<()> {
        let mut heard = vec![0; 1 << 16];
        let listens = async { while !matches!(self.0.read(&mut heard).await, Ok(0) | Err(_)) {} };
        tokio::time::timeout(PATIENCE, listens).await.context("the connection is not closed")
    }

    /// The next frame; `None` when there are no more.
    pub async fn next(&mut self) -> anyhow::Result<Option<Frame>> {
        let reads = async {
            let mut head = [0; 9];
            match self.0.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
            let [high, middle, low, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)];
            self.0.read_exact(&mut payload).await?;
            Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }))
        };
        Ok(tokio::time::timeout(PATIENCE, reads).await.context("nothing comes")??)
    }

    /// The next frame of that kind.
    pub async fn next_of(&mut self, kind: u8) -> anyhow::Result<Frame> {
        loop {
            let frame = self.next().await?.with_context(|| format!("the connection was closed before a frame of kind {kind}"))?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }
}
