//! gRPC over h2, as much of it as a load generator needs: a connection, a call's head, messages out of frames of data.

use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Request, Uri};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::credentials::{HTTP2, Way};
use crate::failure::Failed;
use crate::question::{Mode, PREFIX_LEN};

/// Windows so wide that nobody waits for one.
const WINDOW_BYTES: u32 = 16 << 20;
/// Longest answer that is read: answers are at most 4 MiB by construction.
const ANSWER_LEN_MAX: usize = 8 << 20;

/// What is the same in every call.
#[derive(Debug, Clone)]
pub struct Head {
    uri: Uri,
    timeout: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

/// What HTTP/2 is spoken over.
pub type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A call that was begun: its answer, and where its messages go.
pub type Begun = (h2::client::ResponseFuture, SendStream<Bytes>);

impl Head {
    /// Of calls to a server. Calls that end carry `deadline`; streams that last carry none.
    pub fn new(way: &Way, mode: Mode, deadline: Duration) -> anyhow::Result<Self> {
        let method = match mode {
            Mode::Unary => "CheckEntitlement",
            Mode::Batch => "BatchCheckEntitlement",
            Mode::Stream => "StreamCheckEntitlement",
        };
        let (scheme, authority) = (if way.tls().is_some() { "https" } else { "http" }, way.authority());
        let uri = Uri::try_from(format!("{scheme}://{authority}/tessera.v1.EntitlementService/{method}"))
            .with_context(|| format!("`{way}` is no address"))?;
        // At most eight digits, says gRPC; deadlines are at most an hour.
        let timeout = HeaderValue::try_from(format!("{}m", deadline.as_millis().max(1)))?;
        Ok(Self { uri, timeout: (mode != Mode::Stream).then_some(timeout), authorization: way.authorization() })
    }

    /// Begins a call.
    pub fn begin(&self, sender: &mut SendRequest<Bytes>) -> Result<Begun, Failed> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("user-agent", HeaderValue::from_static(concat!("tessera-loadtest/", env!("CARGO_PKG_VERSION"))));
        if let Some(timeout) = &self.timeout {
            headers.insert("grpc-timeout", timeout.clone());
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(http::header::AUTHORIZATION, authorization.clone());
        }
        sender.send_request(request, false).map_err(|error| Failed::lost(&error))
    }
}

/// Connects within `patience`. Nothing says yet that a gRPC server is on the other side: HTTP/2 waits for no greeting.
pub async fn connect(way: &Way, patience: Duration) -> Result<(SendRequest<Bytes>, Connection<Socket, Bytes>), Failed> {
    let connecting = async {
        let stream = socket(way).await.map_err(|error| Failed::client("CANNOT_CONNECT", error.to_string()))?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES).enable_push(false);
        builder.handshake(stream).await.map_err(|error| Failed::lost(&error))
    };
    match tokio::time::timeout(patience, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(Failed::client("CANNOT_CONNECT", format!("not connected within {patience:?}"))),
    }
}

async fn socket(way: &Way) -> std::io::Result<Socket> {
    let stream = TcpStream::connect(way.authority()).await?;
    stream.set_nodelay(true)?;
    let Some((config, name)) = way.tls() else { return Ok(Either::Left(stream)) };
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
        return Err(std::io::Error::other("the other side speaks TLS and did not agree to HTTP/2"));
    }
    Ok(Either::Right(Box::new(stream)))
}

/// The head of an answer, if it is one of gRPC that may have messages.
pub fn accept(response: http::Response<RecvStream>) -> Result<RecvStream, Failed> {
    let (head, body) = response.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(Failed::client("HTTP_STATUS", format!("the other side answered with HTTP status {}", head.status)));
    }
    // A call that fails at once has its status here.
    match head.headers.contains_key("grpc-status").then(|| Failed::of_end(&head.headers)).flatten() {
        Some(failed) => Err(failed),
        None => Ok(body),
    }
}

/// The one message of a call, and its good end.
pub async fn only_message(answer: h2::client::ResponseFuture) -> Result<Bytes, Failed> {
    let response = answer.await.map_err(|error| Failed::lost(&error))?;
    let mut body = accept(response)?;
    let mut messages = Messages::default();
    let message = messages.next(&mut body).await?;
    // To the end, so that the status is there.
    while messages.next(&mut body).await?.is_some() {}
    let trailers = body.trailers().await.map_err(|error| Failed::lost(&error))?;
    if let Some(failed) = Failed::of_end(&trailers.unwrap_or_default()) {
        return Err(failed);
    }
    message.ok_or_else(|| Failed::malformed("a call without an answer"))
}

/// Messages out of frames of data, which may hold many or parts of one.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: BytesMut,
    /// A frame that nothing is waiting before: it is cut up where it is.
    frame: Bytes,
}

impl Messages {
    /// The next message, if its bytes are here.
    pub fn here(&mut self) -> Result<Option<Bytes>, Failed> {
        if self.bytes.is_empty() {
            if let Some(len) = whole(&self.frame)? {
                self.frame.advance(PREFIX_LEN);
                return Ok(Some(self.frame.split_to(len)));
            }
            self.bytes.extend_from_slice(&self.frame);
            self.frame.clear();
        }
        match whole(&self.bytes)? {
            None => Ok(None),
            Some(len) => {
                self.bytes.advance(PREFIX_LEN);
                Ok(Some(self.bytes.split_to(len).freeze()))
            }
        }
    }

    /// Takes a frame of data. What was here before has been asked for.
    pub fn take(&mut self, data: Bytes) {
        if self.bytes.is_empty() && self.frame.is_empty() {
            self.frame = data;
        } else {
            self.bytes.extend_from_slice(&data);
        }
    }

    /// The next message; `None` at the end. Dropping the wait loses nothing.
    pub async fn next(&mut self, body: &mut RecvStream) -> Result<Option<Bytes>, Failed> {
        loop {
            if let Some(message) = self.here()? {
                return Ok(Some(message));
            }
            let Some(data) = body.data().await else {
                let rest = self.bytes.len();
                return if rest == 0 {
                    Ok(None)
                } else {
                    Err(Failed::malformed(format!("{rest} bytes of a message that never ended")))
                };
            };
            let data = data.map_err(|error| Failed::lost(&error))?;
            body.flow_control().release_capacity(data.len()).map_err(|error| Failed::lost(&error))?;
            self.take(data);
        }
    }
}

/// The length of the first message if it is there whole.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Failed> {
    let Some([compressed, length @ ..]) = bytes.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
    if *compressed != 0 {
        return Err(Failed::malformed("an answer is compressed, though nobody asked for that"));
    }
    let len = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if len > ANSWER_LEN_MAX {
        return Err(Failed::malformed(format!("an answer of {len} bytes; at most {ANSWER_LEN_MAX} are read")));
    }
    Ok((bytes.len() - PREFIX_LEN >= len).then_some(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
        bytes
    }

    proptest! {
        #[test]
        fn messages_come_out_however_they_were_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            cuts in proptest::collection::vec(1_usize..60, 1..50),
        ) {
            let mut rest: Vec<u8> = messages.iter().flat_map(|message| prefixed(message)).collect();
            let (mut reader, mut read) = (Messages::default(), Vec::new());
            for cut in cuts.iter().cycle() {
                while let Some(message) = reader.here().unwrap() {
                    read.push(message.to_vec());
                }
                if rest.is_empty() {
                    break;
                }
                let tail = rest.split_off((*cut).min(rest.len()));
                reader.take(Bytes::from(std::mem::replace(&mut rest, tail)));
            }
            prop_assert_eq!(read, messages);
        }
    }

    #[test]
    fn what_is_no_message_of_grpc_is_refused() {
        for bytes in [&[1, 0, 0, 0, 0][..], b"\0\xff\xff\xff\xff", b"HTTP/1.1 400"] {
            let mut reader = Messages::default();
            reader.take(Bytes::copy_from_slice(bytes));
            assert_eq!(reader.here().unwrap_err().cause.reason, "MALFORMED_ANSWER");
        }
    }
}
