//! A span while its call is under way, and which calls have one.

use std::cell::RefCell;
use std::sync::Arc;

use metrics::{Counter, counter};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use tessera_ports::Clock;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::http::{HeaderMap, Request};

use super::Settings;
use super::context::Parent;
use crate::metric_definitions::TRACE_SPANS_DROPPED;

/// Longest name of a span, in bytes: our longest method has half of it. What a client makes up is cut.
const NAME_LEN_MAX: usize = 128;
/// Longest tenant that is noted, in bytes: the longest id.
const TENANT_LEN_MAX: usize = 128;
/// The metadata that names a call.
const REQUEST_ID: &str = "tessera-request-id";
/// Health checks and reflection: of no interest, and many.
const OF_GRPC: &str = "/grpc.";
/// Bits of a trace's id that are random for certain, at its end.
const RANDOM_BITS: u32 = 56;
/// `flags`: the trace is sampled; whether the parent is remote is known; it is.
const SAMPLED: u32 = 1;
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

tokio::task_local! {
    /// The tenant that the call of this task is about.
    pub(super) static NOTED: RefCell<Option<String>>;
}

/// Begins spans, and hands over those that have ended.
pub(super) struct Recorder {
    sender: mpsc::Sender<Span>,
    clock: Arc<dyn Clock>,
    /// Sixteen bytes that nobody had before, the last seven random.
    ids: fn() -> [u8; 16],
    /// Of the random numbers of traces without a caller's word those below it are sampled.
    threshold: u64,
    follow_callers: bool,
    queue_full: Counter,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    pub(super) fn new(settings: &Settings, sender: mpsc::Sender<Span>, clock: Arc<dyn Clock>, ids: fn() -> [u8; 16]) -> Self {
        let queue_full = counter!(TRACE_SPANS_DROPPED, "cause" => "queue");
        let threshold = share_of(settings.sample_ratio);
        Self { sender, clock, ids, threshold, follow_callers: settings.follow_callers, queue_full }
    }

    /// The span of a call that begins now; `None` when it is not sampled.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> Option<Open> {
        let path = request.uri().path();
        if path.starts_with(OF_GRPC) {
            return None;
        }
        let parent = Parent::of(request.headers());
        let (trace, sampled) = match parent {
            Some(parent) if self.follow_callers => (parent.trace, parent.sampled),
            Some(parent) => (parent.trace, self.samples(parent.trace)),
            None => {
                let trace = (self.ids)();
                (trace, self.samples(trace))
            }
        };
        if !sampled {
            return None;
        }
        let name = path.strip_prefix('/').unwrap_or(path);
        let name = name.get(..name.floor_char_boundary(NAME_LEN_MAX)).unwrap_or_default();
        let (service, method) = name.rsplit_once('/').unwrap_or((name, ""));
        let [_, _, _, _, _, _, _, _, id @ ..] = (self.ids)();
        let remote = if parent.is_some() { PARENT_REMOTE } else { 0 };
        let span = Span {
            trace_id: trace.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.map(|parent| parent.span.to_vec()).unwrap_or_default(),
            flags: SAMPLED | PARENT_KNOWN | remote,
            name: name.to_owned(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: self.now(),
            attributes: vec![text("rpc.system", "grpc"), text("rpc.service", service), text("rpc.method", method)],
            ..Span::default()
        };
        Some(Open { recorder: Arc::clone(self), span, code: None, named: false })
    }

    /// Whether chance samples a trace: the same for everybody who goes by the same ratio.
    fn samples(&self, trace: [u8; 16]) -> bool {
        let [_, _, _, _, _, _, _, _, last @ ..] = trace;
        u64::from_be_bytes(last) & ((1 << RANDOM_BITS) - 1) < self.threshold
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_nanos()).unwrap_or(0)
    }
}

/// How many of the numbers of [`RANDOM_BITS`] are that share of them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^56")]
fn share_of(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * f64::from(1_u32 << 28) * f64::from(1_u32 << 28)) as u64
}

/// A span whose call is under way. It ends when this is dropped, at the latest: then without a code, as cancelled.
#[derive(Debug)]
pub(super) struct Open {
    recorder: Arc<Recorder>,
    span: Span,
    code: Option<Code>,
    named: bool,
}

impl Open {
    /// What headers or trailers of the answer say: the code, and what the call is named.
    pub(super) fn see(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(code.as_bytes()));
        }
        if !self.named
            && let Some(id) = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok())
        {
            self.named = true;
            self.span.attributes.push(text("tessera.request_id", id));
        }
    }

    /// Which tenant it is about.
    pub(super) fn about(&mut self, tenant: &str) {
        let cut = tenant.get(..tenant.floor_char_boundary(TENANT_LEN_MAX)).unwrap_or_default();
        self.span.attributes.push(text("tessera.tenant_id", cut));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let mut span = std::mem::take(&mut self.span);
        span.end_time_unix_nano = self.recorder.now().max(span.start_time_unix_nano);
        let number = any_value::Value::IntValue(i64::from(i32::from(code)));
        span.attributes.push(attribute("rpc.grpc.status_code", number));
        if is_fault(code) {
            span.status = Some(Status { code: StatusCode::Error.into(), message: String::new() });
        }
        if self.recorder.sender.try_send(span).is_err() {
            self.recorder.queue_full.increment(1);
        }
    }
}

/// Codes that say that something is wrong with the server, by the conventions for spans of gRPC.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown | Code::DeadlineExceeded | Code::Unimplemented | Code::Internal | Code::Unavailable | Code::DataLoss
    )
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
