//! A codec whose requests are generated messages and whose answers are bytes that were encoded before.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use tessera_proto::status::Failure;
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

impl<Request> Default for EncodedCodec<Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Request: prost::Message + Default + 'static> Codec for EncodedCodec<Request> {
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

/// Decodes a generated message.
#[derive(Debug)]
pub(crate) struct RequestDecoder<Request>(PhantomData<fn() -> Request>);

impl<Request: prost::Message + Default> Decoder for RequestDecoder<Request> {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Request>, Status> {
        Request::decode(buffer).map(Some).map_err(|error| {
            Failure::invalid_field("request", format!("the bytes are not the message of this method: {error}")).into()
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
