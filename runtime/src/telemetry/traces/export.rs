//! The one task that sends spans: what has gathered within a second, or a full batch sooner. A batch that the collector does not
//! take is dropped and counted, and the next one is tried. The log says once that it began, and once that it is over. It is an
//! outlet: however slow the collector, work does not wait for it, and the end of the process no more than a moment.

use std::pin::pin;
use std::time::Duration;

use futures::FutureExt as _;
use metrics::{Counter, counter};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;
use tracing::{info, warn};

use super::span::text;
use crate::metric_definitions::{TRACE_SPANS_DROPPED, TRACE_SPANS_SENT, VERSION};

/// Most spans of one message: some 256 KiB.
const BATCH_MAX: usize = 512;
/// How long spans gather.
const PAUSE: Duration = Duration::from_secs(1);
/// Who makes the spans, as collectors are told.
const SCOPE: &str = "tessera";

/// Sends to one collector.
#[derive(Debug)]
pub(super) struct Exporter {
    client: TraceServiceClient<Channel>,
    timeout: Duration,
    resource: Resource,
    spans: mpsc::Receiver<Span>,
    batch: Vec<Span>,
    /// Spans that the collector was sent and has said nothing of.
    under_way: u64,
    sent: Counter,
    failed: Counter,
    /// Whether the last batch was not taken.
    fails: bool,
}

impl Exporter {
    pub(super) fn new(spans: mpsc::Receiver<Span>, channel: Channel, service: &'static str, timeout: Duration) -> Self {
        let attributes = vec![text("service.name", service), text("service.version", VERSION)];
        Self {
            client: TraceServiceClient::new(channel),
            timeout,
            resource: Resource { attributes, ..Resource::default() },
            spans,
            batch: Vec::new(),
            under_way: 0,
            sent: counter!(TRACE_SPANS_SENT),
            failed: counter!(TRACE_SPANS_DROPPED, "cause" => "export"),
            fails: false,
        }
    }

    /// Sends until nobody is left to make spans, or work is done: then it does not wait for more to gather, and gives up with the
    /// first batch that is not taken.
    pub(super) async fn run(mut self, work_done: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut work_done = pin!(work_done.fuse());
        loop {
            tokio::select! {
                taken = self.spans.recv_many(&mut self.batch, BATCH_MAX) => if taken == 0 { return Ok(()) },
                () = &mut work_done => {
                    self.spans.close();
                    continue;
                }
            }
            if self.batch.len() < BATCH_MAX && !self.spans.is_closed() {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = &mut work_done => self.spans.close(),
                }
                while self.batch.len() < BATCH_MAX
                    && let Ok(span) = self.spans.try_recv()
                {
                    self.batch.push(span);
                }
            }
            self.send().await;
            if self.fails && self.spans.is_closed() {
                return Ok(());
            }
        }
    }

    async fn send(&mut self) {
        let spans = std::mem::take(&mut self.batch);
        let count = spans.len() as u64;
        self.under_way = count;
        let scope =
            InstrumentationScope { name: SCOPE.to_owned(), version: VERSION.to_owned(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let of_process = ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![of_process] };
        let taken = match tokio::time::timeout(self.timeout, self.client.export(request)).await {
            Ok(answer) => answer.map(|answer| answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans)),
            Err(_) => Err(Status::deadline_exceeded("it took too long")),
        };
        self.under_way = 0;
        match taken {
            Ok(rejected) => {
                let rejected = u64::try_from(rejected).unwrap_or(0).min(count);
                self.sent.increment(count - rejected);
                self.failed.increment(rejected);
                if std::mem::take(&mut self.fails) {
                    info!("the collector takes spans again");
                }
            }
            Err(status) => {
                self.failed.increment(count);
                if !std::mem::replace(&mut self.fails, true) {
                    warn!(code = ?status.code(), reason = status.message(), "the collector does not take spans; they are dropped");
                }
            }
        }
    }
}

/// Whenever it ends, what it has left is lost. Those who still make spans find the queue closed, and count them.
impl Drop for Exporter {
    fn drop(&mut self) {
        self.spans.close();
        let waiting = self.batch.len() + self.spans.len();
        self.failed.increment(self.under_way + waiting as u64);
    }
}
