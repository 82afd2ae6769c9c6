//! Encodes decisions as `tessera.v1.CheckEntitlementResponse` and the messages round it, field by field in order of their
//! numbers, leaving out what has its default: the same bytes that prost writes.

use prost::encoding::{WireType, encoded_len_varint};
use tessera_core::decision::{Reason, Step, StepOutcome};
use tessera_core::time::Timestamp;
use tessera_core::value::LimitValue;
use tessera_proto::convert::decision as convert;
use tessera_proto::convert::time::to_timestamp;
use tessera_proto::v1;
use tonic_types::pb;

/// Everything an answer says, borrowed.
#[derive(Debug, Clone)]
pub(crate) struct Answer<'a> {
    pub(crate) reason: Reason,
    pub(crate) plan_id: &'a str,
    /// 0 when the tenant is unknown.
    pub(crate) plan_version: u32,
    /// 0 when not entitled.
    pub(crate) familiarity_basis_points: u16,
    pub(crate) limit: Option<LimitAnswer<'a>>,
    pub(crate) valid_until: Option<Timestamp>,
    /// Empty: left out.
    pub(crate) revision: &'a [u8],
    pub(crate) as_of: &'a AsOf,
    pub(crate) grace_until: Option<Timestamp>,
    pub(crate) detail: Option<v1::ReasonDetail>,
    pub(crate) explanation: Option<[StepOutcome; Step::ALL.len()]>,
}

/// What an answer says of a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitAnswer<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: LimitValue,
    pub(crate) used: i64,
    /// `None` when unlimited.
    pub(crate) remaining: Option<i64>,
}

/// What every answer of a message says alike: `staleness_ms` and `evaluated_at`, encoded once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsOf {
    bytes: [u8; AS_OF_BYTES],
    len: usize,
}

/// Two keys, a number, a length and a time of two numbers, each of the most bytes it can take.
const AS_OF_BYTES: usize = 1 + 10 + 2 + 2 * (1 + 10);

impl AsOf {
    pub(crate) fn new(staleness_ms: Option<i64>, evaluated_at: Timestamp) -> Self {
        let mut bytes = [0; AS_OF_BYTES];
        let mut rest = bytes.as_mut_slice();
        if let Some(staleness) = staleness_ms {
            prost::encoding::int64::encode(9, &staleness, &mut rest);
        }
        prost::encoding::message::encode(10, &to_timestamp(evaluated_at), &mut rest);
        let len = AS_OF_BYTES.saturating_sub(rest.len());
        Self { bytes, len }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Appends the answer.
pub(crate) fn answer(out: &mut Vec<u8>, answer: &Answer<'_>) {
    uint(out, 1, u64::from(answer.reason.entitles()));
    uint(out, 2, reason_number(answer.reason));
    bytes(out, 3, answer.plan_id.as_bytes());
    uint(out, 4, u64::from(answer.plan_version));
    uint(out, 5, u64::from(answer.familiarity_basis_points));
    if let Some(limit) = &answer.limit {
        nested(out, 6, |out| limit_answer(out, limit));
    }
    timestamp(out, 7, answer.valid_until);
    bytes(out, 8, answer.revision);
    out.extend_from_slice(answer.as_of.bytes());
    timestamp(out, 11, answer.grace_until);
    if let Some(detail) = &answer.detail {
        message(out, 12, detail);
    }
    if let Some(outcomes) = &answer.explanation {
        for step in convert::to_explanation(outcomes) {
            message(out, 13, &step);
        }
    }
}

/// Appends `CheckResult {response}` as field `tag` of the message round it.
pub(crate) fn result_answer(out: &mut Vec<u8>, tag: u32, checked: &Answer<'_>) {
    nested(out, tag, |out| nested(out, 1, |out| answer(out, checked)));
}

/// Appends `CheckResult {error}` as field `tag` of the message round it.
pub(crate) fn result_error(out: &mut Vec<u8>, tag: u32, status: pb::Status) {
    message(out, tag, &v1::CheckResult { result: Some(v1::check_result::Result::Error(status)) });
}

/// Appends an unsigned number, or nothing for 0.
#[inline]
pub(crate) fn uint(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        pair(out, tag, WireType::Varint, value);
    }
}

/// Appends a time, if there is one.
#[inline]
pub(crate) fn timestamp(out: &mut Vec<u8>, tag: u32, at: Option<Timestamp>) {
    if let Some(at) = at {
        nested(out, tag, |out| {
            uint(out, 1, at.seconds().cast_unsigned());
            uint(out, 2, u64::from(at.subsec_nanos()));
        });
    }
}

/// Appends a generated message.
pub(crate) fn message(out: &mut Vec<u8>, tag: u32, message: &impl prost::Message) {
    pair(out, tag, WireType::LengthDelimited, length_of(message.encoded_len()));
    message.encode_raw(out);
}

fn limit_answer(out: &mut Vec<u8>, limit: &LimitAnswer<'_>) {
    bytes(out, 1, limit.name.as_bytes());
    match limit.value {
        // In a oneof a default is written, too.
        LimitValue::Maximum(amount) => int_present(out, 2, amount.get()),
        LimitValue::Unlimited => int_present(out, 3, 1),
    }
    uint(out, 4, limit.used.cast_unsigned());
    if let Some(remaining) = limit.remaining {
        int_present(out, 5, remaining);
    }
}

/// Appends a number also when it is 0.
fn int_present(out: &mut Vec<u8>, tag: u32, value: i64) {
    pair(out, tag, WireType::Varint, value.cast_unsigned());
}

#[inline]
fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        pair(out, tag, WireType::LengthDelimited, length(value));
        out.extend_from_slice(value);
    }
}

/// Appends a message. Most are of at most 127 bytes, so that their length is one byte; longer ones are moved to make room.
#[inline]
fn nested(out: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    pair(out, tag, WireType::LengthDelimited, 0);
    let at = out.len().saturating_sub(1);
    write(out);
    let written = out.len().saturating_sub(at + 1);
    if let (Ok(short @ 0..0x80), Some(place)) = (u8::try_from(written), out.get_mut(at)) {
        *place = short;
        return;
    }
    out.remove(at);
    varint(out, length_of(written));
    // The length stands behind the message: bring it before it.
    if let Some(message_and_length) = out.get_mut(at..) {
        message_and_length.rotate_right(encoded_len_varint(length_of(written)));
    }
}

/// Appends the number and kind of a field, and its value or length. Nearly all of those take a byte or two, which are appended in
/// one go.
#[expect(clippy::inline_always, reason = "what it is called with is mostly known then, and a call costs more than what is left")]
#[inline(always)]
fn pair(out: &mut Vec<u8>, tag: u32, wire: WireType, value: u64) {
    let key = u64::from(tag << 3 | wire as u32);
    let ([key_byte, ..], [low, high, ..]) = (key.to_le_bytes(), (value << 1).to_le_bytes());
    match (key, value) {
        (0..0x80, 0..0x80) => out.extend_from_slice(&[key_byte, low >> 1]),
        (0..0x80, 0x80..0x4000) => out.extend_from_slice(&[key_byte, low >> 1 | 0x80, high]),
        _ => {
            varint(out, key);
            varint(out, value);
        }
    }
}

/// Appends a number, seven bits a byte, least first.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

fn reason_number(reason: Reason) -> u64 {
    u64::from((convert::to_reason(reason) as i32).cast_unsigned())
}

fn length(bytes: &[u8]) -> u64 {
    length_of(bytes.len())
}

fn length_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
