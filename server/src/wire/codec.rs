//! A codec whose answers are bytes that were encoded before, and whose requests are generated messages or, where a check must not
//! cost an allocation, bytes that are decoded later (`decode.rs`).

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::{DecodeError, Message as _};
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// First size of a call's buffers, in bytes: a check and its answer are smaller, and larger messages grow them. The default of
/// 8 KiB costs more to touch than a decision.
const BUFFER_BYTES: usize = 512;
/// Answers of a stream are collected up to so many bytes before they are handed on.
const YIELD_BYTES: usize = 32 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct EncodedCodec<Request>(PhantomData<fn() -> Request>);

/// An encoded message.
pub(crate) type Encoded = Bytes;

/// What a codec can hand to a call.
pub(crate) trait Incoming: Sized + Send + 'static {
    /// Takes the whole message.
    fn take(buffer: &mut DecodeBuf<'_>) -> Result<Self, Failure>;
}

impl Incoming for Encoded {
    fn take(buffer: &mut DecodeBuf<'_>) -> Result<Self, Failure> {
        Ok(buffer.copy_to_bytes(buffer.remaining()))
    }
}

impl Incoming for v1::ListEntitlementsRequest {
    fn take(buffer: &mut DecodeBuf<'_>) -> Result<Self, Failure> {
        Self::decode(buffer).map_err(|error| malformed(&error))
    }
}

impl Incoming for v1::WatchEntitlementsRequest {
    fn take(buffer: &mut DecodeBuf<'_>) -> Result<Self, Failure> {
        Self::decode(buffer).map_err(|error| malformed(&error))
    }
}

/// What came is no message of the method.
pub(super) fn malformed(error: &DecodeError) -> Failure {
    Failure::invalid_field("request", format!("the bytes are not the message of this method: {error}"))
}

impl<Request> Default for EncodedCodec<Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Request: Incoming> Codec for EncodedCodec<Request> {
    type Encode = Encoded;
    type Decode = Request;
    type Encoder = EncodedEncoder;
    type Decoder = RequestDecoder<Request>;

    fn encoder(&mut self) -> Self::Encoder {
        EncodedEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

/// Copies what is encoded.
#[derive(Debug)]
pub(crate) struct EncodedEncoder;

impl Encoder for EncodedEncoder {
    type Item = Encoded;
    type Error = Status;

    fn encode(&mut self, item: Encoded, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Takes what comes.
#[derive(Debug)]
pub(crate) struct RequestDecoder<Request>(PhantomData<fn() -> Request>);

impl<Request: Incoming> Decoder for RequestDecoder<Request> {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Request>, Status> {
        Ok(Some(Request::take(buffer)?))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
