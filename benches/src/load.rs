//! Questions over the wire, and a look at every answer.
//!
//! HTTP/2 frames are written by `h2` itself, without a gRPC framework: the generator shares the machine with what it measures.
//! It is a closed loop: each caller asks again when it has its answer. That is right for CPU time per question and wrong for
//! latency under a rate, which is the load test's business.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use futures::future::try_join_all;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;
use tessera_ports::memory::SplitMix64;
use tessera_proto::v1;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::envoy;
use crate::scenario::Question;

/// Windows so wide that nobody waits for one.
const WINDOW_BYTES: u32 = 16 << 20;
/// One of so many frames of a stream is looked at item by item; of the others, whether they have as many items as were asked for.
const LOOK_AT: u64 = 16;

/// A frame's answer whose items are left as they are.
#[derive(Clone, PartialEq, Message)]
struct Outline {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    results: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    frame_error: Option<Bytes>,
}

/// What a caller sends at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// One question in a call of its own.
    Unary,
    /// One question in a call of its own, as an Envoy asks it.
    Envoy,
    /// So many questions in a call of their own.
    Batch(usize),
    /// So many questions in a frame of a stream that lasts.
    Frame(usize),
}

/// Who asks how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How questions are packed.
    pub call: Call,
    /// Connections.
    pub connections: usize,
    /// Calls, or frames of its one stream, under way on each connection.
    pub under_way: usize,
}

impl Call {
    /// Questions in one message.
    pub fn questions(self) -> usize {
        match self {
            Self::Unary | Self::Envoy => 1,
            Self::Batch(count) | Self::Frame(count) => count,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Unary => "/tessera.v1.EntitlementService/CheckEntitlement",
            Self::Envoy => envoy::PATH,
            Self::Batch(_) => "/tessera.v1.EntitlementService/BatchCheckEntitlement",
            Self::Frame(_) => "/tessera.v1.EntitlementService/StreamCheckEntitlement",
        }
    }
}

/// Questions to be asked, and how many of them are left.
#[derive(Debug)]
pub struct Source {
    random: SplitMix64,
    tenants: u64,
    messages: u64,
    /// Whether answers are those of the scenario; a twin's are not.
    checked: bool,
}

impl Source {
    /// `messages` messages about the first `tenants` tenants.
    pub fn new(seed: u64, tenants: u64, messages: u64, checked: bool) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { random: SplitMix64::new(seed), tenants, messages, checked }))
    }

    /// The next message's questions.
    fn next(&mut self, count: usize) -> Option<Vec<Question>> {
        self.messages = self.messages.checked_sub(1)?;
        Some((0..count).map(|_| Question::draw(&mut self.random, self.tenants)).collect())
    }
}

/// Asks everything that `source` has; an error is the first wrong answer. Blocks this thread.
pub fn run(address: SocketAddr, shape: Shape, source: &Rc<RefCell<Source>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let connections = (0..shape.connections).map(|_| connection(address, shape, source));
        try_join_all(connections).await.map(drop)
    })
}

async fn connection(address: SocketAddr, shape: Shape, source: &Rc<RefCell<Source>>) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let (sender, connection) = builder.handshake(stream).await?;
    let driven = tokio::task::spawn_local(connection);
    match shape.call {
        Call::Unary | Call::Envoy | Call::Batch(_) => {
            let callers = (0..shape.under_way).map(|_| caller(sender.clone(), shape.call, address, source));
            try_join_all(callers).await?;
        }
        Call::Frame(count) => frames(sender, shape.under_way, count, address, source).await?,
    }
    // Without a sender the connection ends, unless the other side has something to say still.
    driven.abort();
    Ok(())
}

/// One call after the other.
async fn caller(
    mut sender: SendRequest<Bytes>,
    call: Call,
    address: SocketAddr,
    source: &Rc<RefCell<Source>>,
) -> anyhow::Result<()> {
    loop {
        let (questions, checked) = {
            let mut source = source.borrow_mut();
            let Some(questions) = source.next(call.questions()) else { return Ok(()) };
            (questions, source.checked)
        };
        let body = match call {
            Call::Batch(_) => {
                let checks = questions.iter().map(Question::message).collect();
                prefixed(&v1::BatchCheckEntitlementRequest { checks, ..Default::default() })
            }
            Call::Envoy => prefixed(&envoy::request(&questions[0])),
            Call::Unary | Call::Frame(_) => prefixed(&questions[0].message()),
        };
        let (response, mut body_sender) = begin(&mut sender, call, address).await?;
        body_sender.send_data(body, true)?;
        let mut answer = response.await?.into_body();
        let mut messages = Messages::default();
        let message = messages.next(&mut answer).await?.context("a call without an answer")?;
        finish(&mut answer).await?;
        if !checked {
            continue;
        }
        match call {
            Call::Batch(_) => look(&questions, &v1::BatchCheckEntitlementResponse::decode(message)?.results)?,
            Call::Envoy => {
                let allows = envoy::allows(&CheckResponse::decode(message)?);
                anyhow::ensure!(questions[0].entitled == allows, "{:?} was answered {allows}", questions[0]);
            }
            Call::Unary | Call::Frame(_) => right(&questions[0], &v1::CheckEntitlementResponse::decode(message)?)?,
        }
    }
}

/// One stream, with so many frames under way.
async fn frames(
    mut sender: SendRequest<Bytes>,
    under_way: usize,
    count: usize,
    address: SocketAddr,
    source: &Rc<RefCell<Source>>,
) -> anyhow::Result<()> {
    let (response, mut stream) = begin(&mut sender, Call::Frame(count), address).await?;
    let (mut id, mut waiting) = (0, VecDeque::with_capacity(under_way));
    let checked = source.borrow().checked;
    let mut ask = |stream: &mut SendStream<Bytes>, waiting: &mut VecDeque<_>| -> anyhow::Result<bool> {
        let Some(questions) = source.borrow_mut().next(count) else { return Ok(false) };
        id += 1;
        let checks = questions.iter().map(Question::message).collect();
        stream.send_data(prefixed(&v1::StreamCheckEntitlementRequest { id, checks, ..Default::default() }), false)?;
        waiting.push_back((id, questions));
        Ok(true)
    };
    while waiting.len() < under_way && ask(&mut stream, &mut waiting)? {}
    let mut answers = response.await?.into_body();
    let mut messages = Messages::default();
    while let Some((id, questions)) = waiting.pop_front() {
        let message = messages.next(&mut answers).await?.context("the stream ended early")?;
        outline(&message, id, count)?;
        if checked && id % LOOK_AT == 0 {
            look(&questions, &v1::StreamCheckEntitlementResponse::decode(message)?.results)?;
        }
        ask(&mut stream, &mut waiting)?;
    }
    stream.send_data(Bytes::new(), true)?;
    finish(&mut answers).await
}

type Started = (h2::client::ResponseFuture, SendStream<Bytes>);

/// Begins a call, whose message is to follow.
pub(crate) async fn begin(sender: &mut SendRequest<Bytes>, call: Call, address: SocketAddr) -> anyhow::Result<Started> {
    let request = Request::post(format!("http://{address}{}", call.path()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    Ok(sender.send_request(request, false)?)
}

/// Reads to the end, which must be a good one.
async fn finish(body: &mut RecvStream) -> anyhow::Result<()> {
    while let Some(data) = body.data().await {
        anyhow::ensure!(data?.is_empty(), "more than was asked for");
    }
    let trailers = body.trailers().await?.context("no trailers")?;
    let status = trailers.get("grpc-status").map(http::HeaderValue::as_bytes);
    anyhow::ensure!(status == Some(b"0"), "the call failed: {trailers:?}");
    Ok(())
}

/// A frame that was refused costs next to nothing: it must not pass for one that was answered.
fn outline(message: &Bytes, id: u64, count: usize) -> anyhow::Result<()> {
    let answer = Outline::decode(message.clone())?;
    anyhow::ensure!(answer.id == id, "frame {} was answered when {id} was next", answer.id);
    anyhow::ensure!(answer.frame_error.is_none(), "frame {id} failed: {answer:?}");
    anyhow::ensure!(answer.results.len() == count, "{} answers to {count} questions of frame {id}", answer.results.len());
    Ok(())
}

fn look(questions: &[Question], results: &[v1::CheckResult]) -> anyhow::Result<()> {
    anyhow::ensure!(questions.len() == results.len(), "{} answers to {} questions", results.len(), questions.len());
    for (question, result) in questions.iter().zip(results) {
        match &result.result {
            Some(v1::check_result::Result::Response(answer)) => right(question, answer)?,
            other => bail!("{question:?} was answered {other:?}"),
        }
    }
    Ok(())
}

fn right(question: &Question, answer: &v1::CheckEntitlementResponse) -> anyhow::Result<()> {
    anyhow::ensure!(question.entitled == answer.entitled, "{question:?} was answered {answer:?}");
    Ok(())
}

/// With the prefix of gRPC: not compressed, and the length.
fn prefixed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Messages out of frames of data, which may hold many or parts of one.
#[derive(Debug, Default)]
struct Messages(BytesMut);

impl Messages {
    async fn next(&mut self, body: &mut RecvStream) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(head) = self.0.first_chunk::<5>() {
                let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.0.len() >= 5 + len {
                    self.0.advance(5);
                    return Ok(Some(self.0.split_to(len).freeze()));
                }
            }
            let Some(data) = body.data().await else { return Ok(None) };
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            self.0.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_not_answered_passes_for_none() {
        let answered =
            v1::StreamCheckEntitlementResponse { id: 7, results: vec![v1::CheckResult::default(); 3], frame_error: None };
        let failed = Outline { id: 7, results: Vec::new(), frame_error: Some(Bytes::new()) };
        let (answered, failed) = (answered.encode_to_vec().into(), failed.encode_to_vec().into());
        let said = |frame, id, count| outline(frame, id, count).map_err(|error| error.to_string());
        assert_eq!(said(&answered, 7, 3), Ok(()));
        assert_eq!(said(&answered, 8, 3).unwrap_err(), "frame 7 was answered when 8 was next");
        assert_eq!(said(&answered, 7, 4).unwrap_err(), "3 answers to 4 questions of frame 7");
        assert!(said(&failed, 7, 0).unwrap_err().starts_with("frame 7 failed"));
    }
}
