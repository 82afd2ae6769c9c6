//! The calls of the data plane, made alike: one question through any of them, and what came back in one form.

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use tessera_core::tenant::Event;
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Item;
use tessera_proto::v1::watch_entitlements_request::Action;
use tessera_proto::v1::watch_entitlements_response::Event as Watched;
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::bench::{Bench, check, without_scan};
use crate::universe::latest;

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rpc {
    Check,
    Batch,
    Stream,
    List,
    Watch,
}

/// What came back for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Decision(v1::Reason),
    Document(v1::TenantStatus),
    Refused(Refusal),
}

/// A refusal, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) message: String,
    /// Field and description of each violation.
    pub(super) violations: Vec<(String, String)>,
    /// Whether it says when to try again.
    pub(super) retry: bool,
}

impl Rpc {
    pub(super) const ALL: [Self; 5] = [Self::Check, Self::Batch, Self::Stream, Self::List, Self::Watch];
    /// Those that decide.
    pub(super) const CHECKING: [Self; 3] = [Self::Check, Self::Batch, Self::Stream];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Check => "CheckEntitlement",
            Self::Batch => "BatchCheckEntitlement",
            Self::Stream => "StreamCheckEntitlement",
            Self::List => "ListEntitlements",
            Self::Watch => "WatchEntitlements",
        }
    }

    pub(super) fn streams(self) -> bool {
        matches!(self, Self::Stream | Self::Watch)
    }

    pub(super) fn path(self) -> PathAndQuery {
        format!("/tessera.v1.EntitlementService/{}", self.name()).parse().unwrap()
    }

    /// The path of a field of [`v1::CheckEntitlementRequest`] in what [`Self::ask`] sends.
    pub(super) fn field(self, field: &str) -> String {
        match (self, field) {
            (Self::Check | Self::List, _) => field.to_owned(),
            (Self::Batch | Self::Stream, _) => format!("checks[1].{field}"),
            (Self::Watch, "consistency.at_least.revision") => "subscribe.last_revision".to_owned(),
            (Self::Watch, _) => format!("subscribe.{field}"),
        }
    }

    /// The message that carries the question, encoded.
    pub(super) fn encode(self, question: v1::CheckEntitlementRequest) -> Vec<u8> {
        let good = check("other", "reports", "view");
        match self {
            Self::Check => question.encode_to_vec(),
            Self::Batch => {
                v1::BatchCheckEntitlementRequest { checks: vec![good, question], ..Default::default() }.encode_to_vec()
            }
            Self::Stream => {
                let checks = vec![good, question];
                v1::StreamCheckEntitlementRequest { id: 7, checks, ..Default::default() }.encode_to_vec()
            }
            Self::List => {
                let v1::CheckEntitlementRequest { tenant_id, consistency, .. } = question;
                v1::ListEntitlementsRequest { tenant_id, consistency, ..Default::default() }.encode_to_vec()
            }
            Self::Watch => {
                let last_revision = match question.consistency.and_then(|consistency| consistency.requirement) {
                    Some(v1::consistency::Requirement::AtLeast(at_least)) => at_least.revision,
                    _ => Bytes::new(),
                };
                let subscribe = v1::Subscribe { tenant_id: question.tenant_id, last_revision };
                v1::WatchEntitlementsRequest { action: Some(Action::Subscribe(subscribe)) }.encode_to_vec()
            }
        }
    }

    /// Asks one question. In a batch and a frame another one comes before it, which must not suffer.
    pub(super) async fn ask(self, bench: &Bench, question: v1::CheckEntitlementRequest) -> Said {
        let answer = self.send(bench, self.encode(question).into()).await;
        self.read(answer.map(|bytes| bytes.expect("an answer")))
    }

    /// Sends bytes as the one message of a call and returns its first answer.
    pub(super) async fn send(self, bench: &Bench, message: Bytes) -> Result<Option<Bytes>, Status> {
        self.call(bench, Request::new(message)).await?.into_inner()
    }

    /// [`Self::send`], with metadata there and back.
    pub(super) async fn call(
        self,
        bench: &Bench,
        request: Request<Bytes>,
    ) -> Result<Response<Result<Option<Bytes>, Status>>, Status> {
        let mut grpc = tonic::client::Grpc::new(bench.services.clone()).max_decoding_message_size(8 << 20);
        grpc.ready().await.unwrap();
        if !self.streams() {
            return Ok(grpc.unary(request, self.path(), BytesCodec).await?.map(|bytes| Ok(Some(bytes))));
        }
        // The caller listens on, so that a watch goes on.
        let request = request.map(|message| tokio_stream::once(message).chain(tokio_stream::pending()));
        let response = grpc.streaming(request, self.path(), BytesCodec).await?;
        let (metadata, mut answers, extensions) = response.into_parts();
        let first = answers.message().await;
        Ok(Response::from_parts(metadata, first, extensions))
    }

    /// Reads the answer to [`Self::ask`].
    pub(super) fn read(self, answer: Result<Bytes, Status>) -> Said {
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => return Said::Refused(Refusal::of(&status)),
        };
        match self {
            Self::Check => Said::Decision(v1::CheckEntitlementResponse::decode(answer).unwrap().reason()),
            Self::Batch => of_items(&v1::BatchCheckEntitlementResponse::decode(answer).unwrap().results),
            Self::Stream => {
                let answer = v1::StreamCheckEntitlementResponse::decode(answer).unwrap();
                assert_eq!(answer.id, 7);
                answer.frame_error.map_or_else(|| of_items(&answer.results), |error| Said::Refused(Refusal::of_item(&error)))
            }
            Self::List => {
                let document = v1::ListEntitlementsResponse::decode(answer).unwrap().document.unwrap();
                Said::Document(document.status())
            }
            Self::Watch => match v1::WatchEntitlementsResponse::decode(answer).unwrap().event.unwrap() {
                Watched::Document(document) => Said::Document(document.status()),
                Watched::Error(error) => Said::Refused(Refusal::of_item(&error.status.unwrap())),
                Watched::Heartbeat(_) => panic!("nothing was said about the tenant"),
            },
        }
    }
}

#[track_caller]
fn of_items(results: &[v1::CheckResult]) -> Said {
    let [first, second] = results else { panic!("two answers to two questions: {results:?}") };
    assert!(matches!(&first.result, Some(Item::Response(answer)) if answer.entitled), "the good item suffers: {first:?}");
    match second.result.as_ref().unwrap() {
        Item::Response(answer) => Said::Decision(answer.reason()),
        Item::Error(status) => Said::Refused(Refusal::of_item(status)),
    }
}

impl Said {
    #[track_caller]
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            other => panic!("expected a refusal, found {other:?}"),
        }
    }
}

impl Refusal {
    /// `INVALID_ARGUMENT` with one violation.
    pub(super) fn invalid(reason: &str, field: &str, description: &str) -> Self {
        Self {
            code: Code::InvalidArgument,
            reason: reason.to_owned(),
            message: format!("{field}: {description}"),
            violations: vec![(field.to_owned(), description.to_owned())],
            retry: false,
        }
    }

    #[track_caller]
    pub(super) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        assert_eq!(info.domain, "tessera");
        let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
        let refusal = Self {
            code: status.code(),
            reason: info.reason.clone(),
            message: status.message().to_owned(),
            violations: violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect(),
            retry: details.retry_info().is_some(),
        };
        let again = matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted);
        assert_eq!(refusal.retry, again, "when to try again is said where it helps: {refusal:?}");
        let texts = refusal.violations.iter().flat_map(|(field, description)| [field, description]);
        for text in texts.chain([&refusal.message]) {
            let harmless = |character: char| matches!(character, ' '..='~' | '…');
            assert!(text.len() <= 500 && text.chars().all(harmless), "may act on a terminal or is long: {text:?}");
        }
        refusal
    }

    #[track_caller]
    pub(super) fn of_item(status: &tonic_types::pb::Status) -> Self {
        let details = status.encode_to_vec().into();
        Self::of(&Status::with_details(Code::from_i32(status.code), &status.message, details))
    }
}

/// Without the scan, with tenants `acme` and `other` on gold: reports/view and 10 seats.
pub(super) async fn bench() -> Bench {
    bench_with(without_scan()).await
}

pub(super) async fn bench_with(config: tessera_server::Config) -> Bench {
    let mut bench = Bench::with(config).await;
    for tenant in ["acme", "other"] {
        let created = bench.universe.create(tenant, latest("gold"));
        bench.commit(&created).await;
    }
    bench.settled().await;
    bench
}

/// Deletes `acme`, and the feed loses it.
pub(super) fn delete_acme_unheard(bench: &mut Bench) -> tessera_ports::change_feed::Change {
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.lose(&deleted);
    deleted
}

/// Sends and receives messages as they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}
