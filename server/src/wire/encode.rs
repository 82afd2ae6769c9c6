//! Encodes decisions as `tessera.v1.CheckEntitlementResponse` and the messages round it, field by field in order of their
//! numbers, leaving out what has its default: the same bytes that prost writes.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tessera_core::decision::{Reason, Step, StepOutcome};
use tessera_core::time::Timestamp;
use tessera_core::value::LimitValue;
use tessera_proto::convert::decision as convert;
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
    pub(crate) staleness_ms: Option<i64>,
    pub(crate) evaluated_at: Timestamp,
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
    if let Some(staleness) = answer.staleness_ms {
        int_present(out, 9, staleness);
    }
    timestamp(out, 10, Some(answer.evaluated_at));
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

/// Appends `CheckResult {response}` as field `tag` of the message round it. `scratch` saves an allocation per answer.
pub(crate) fn result_answer(out: &mut Vec<u8>, tag: u32, scratch: &mut Vec<u8>, checked: &Answer<'_>) {
    scratch.clear();
    answer(scratch, checked);
    let inner = 1 + encoded_len_varint(length(scratch)) + scratch.len();
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length_of(inner), out);
    encode_key(1, WireType::LengthDelimited, out);
    encode_varint(length(scratch), out);
    out.extend_from_slice(scratch);
}

/// Appends `CheckResult {error}` as field `tag` of the message round it.
pub(crate) fn result_error(out: &mut Vec<u8>, tag: u32, status: pb::Status) {
    message(out, tag, &v1::CheckResult { result: Some(v1::check_result::Result::Error(status)) });
}

/// Appends an unsigned number, or nothing for 0.
pub(crate) fn uint(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }
}

/// Appends a time, if there is one.
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
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length_of(message.encoded_len()), out);
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
    encode_key(tag, WireType::Varint, out);
    encode_varint(value.cast_unsigned(), out);
}

fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(length(value), out);
        out.extend_from_slice(value);
    }
}

/// Appends a message of at most 127 bytes, whose length is therefore one byte; longer ones are moved to make room.
fn nested(out: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(tag, WireType::LengthDelimited, out);
    let at = out.len();
    out.push(0);
    write(out);
    let written = out.len().saturating_sub(at + 1);
    if let (Ok(short @ 0..0x80), Some(place)) = (u8::try_from(written), out.get_mut(at)) {
        *place = short;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    encode_varint(length_of(written), &mut prefix);
    out.splice(at..=at, prefix);
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
