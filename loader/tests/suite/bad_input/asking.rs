//! Calls of any rpc with a request written as JSON, and what an error says.

use std::sync::LazyLock;

use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::rig::Rig;

/// All methods of the control plane, by `Service/Method`.
static METHODS: LazyLock<Vec<(String, MethodDescriptor)>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(tessera_proto::FILE_DESCRIPTOR_SET).unwrap();
    let control = ["PlanService", "AddOnService", "CatalogService", "TenantService", "AuditService"];
    let services = pool.services().filter(|service| control.contains(&service.name())).collect::<Vec<_>>();
    let methods = services.iter().flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods.into_iter().map(|method| (format!("{}/{}", service.name(), method.name()), method)).collect::<Vec<_>>()
    });
    methods.collect()
});

/// All methods of the control plane, by `Service/Method`.
pub(super) fn methods() -> &'static [(String, MethodDescriptor)] {
    &METHODS
}

/// Calls `TenantService/GetTenant` or any other with a request in JSON, as REST clients write it.
pub(super) async fn ask(rig: &Rig, method: &str, request: &serde_json::Value) -> Result<(), Status> {
    let known = &methods().iter().find(|(name, _)| name == method).unwrap_or_else(|| panic!("no method {method}")).1;
    let message =
        DynamicMessage::deserialize(known.input(), request).unwrap_or_else(|error| panic!("{method} {request}: {error}"));
    send(rig, method, message.encode_to_vec()).await
}

/// Calls a method with these bytes for a request.
pub(super) async fn send(rig: &Rig, method: &str, bytes: Vec<u8>) -> Result<(), Status> {
    let mut client = Grpc::new(rig.channel.clone());
    client.ready().await.unwrap();
    let path = format!("/tessera.v1.{method}").parse().unwrap();
    client.unary(Request::new(bytes), path, Plain).await.map(|_| ())
}

/// What an error says.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) message: String,
    /// The fields at fault, each with what is wrong and what is allowed.
    pub(super) violations: Vec<(String, String)>,
}

/// What the error of a call says; every error is ours.
#[track_caller]
pub(super) fn said<T: std::fmt::Debug>(result: Result<T, Status>) -> Said {
    let status = result.expect_err("an error was expected");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "tessera");
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let violations = violations.into_iter().map(|violation| (violation.field, violation.description)).collect();
    Said { code: status.code(), reason: info.reason, message: status.message().to_owned(), violations }
}

impl Said {
    /// The one violation, which is of that field, has all those words, and is `INVALID_FIELD`.
    #[track_caller]
    pub(super) fn is_invalid(&self, field: &str, words: &[&str]) {
        assert_eq!((self.code, self.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{self:?}");
        let [(found, description)] = self.violations.as_slice() else { panic!("one violation was expected: {self:?}") };
        assert_eq!(found, field, "{self:?}");
        for word in words {
            assert!(description.contains(word), "`{word}` is not in {self:?}");
        }
    }

    /// Another refusal, whose message has all those words.
    #[track_caller]
    pub(super) fn is(&self, code: Code, reason: &str, words: &[&str]) {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{self:?}");
        for word in words {
            assert!(self.message.contains(word), "`{word}` is not in {self:?}");
        }
    }
}

/// Bytes as they are, whatever they mean.
#[derive(Debug, Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
