//! Decodes the hot messages without a copy and, but for one list per message, without an allocation: what is asked is borrowed
//! from the bytes that came. Takes and refuses exactly what prost does, and says of what it refuses what prost says.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tessera_proto::convert::decision::{Asked, AskedLimit};
use tessera_proto::status::Failure;
use tessera_proto::v1;

use super::codec::malformed;

/// One check: `CheckEntitlementRequest`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Check<'a> {
    pub(crate) asked: Asked<'a>,
    /// Rare, and therefore apart.
    pub(crate) consistency: Option<Box<v1::Consistency>>,
    pub(crate) explain: bool,
}

/// `BatchCheckEntitlementRequest`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch<'a> {
    pub(crate) checks: Vec<Check<'a>>,
    pub(crate) consistency: Option<Box<v1::Consistency>>,
    pub(crate) with_revisions: bool,
    pub(crate) with_details: bool,
}

/// `StreamCheckEntitlementRequest`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Frame<'a> {
    pub(crate) id: u64,
    pub(crate) checks: Vec<Check<'a>>,
    pub(crate) with_revisions: bool,
    pub(crate) with_details: bool,
}

/// Least bytes of a check of ordinary ids with its tag: says how many there may be.
const CHECK_BYTES: usize = 32;

impl<'a> Check<'a> {
    /// What the message says.
    pub(crate) fn read(bytes: &'a Bytes) -> Result<Self, Failure> {
        Self::parse(bytes).ok_or_else(|| refused::<v1::CheckEntitlementRequest>(bytes))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut check = Self::default();
        fields(bytes, |tag, wire, rest| {
            match tag {
                1 => check.asked.tenant_id = text(wire, rest)?,
                2 => check.asked.service = text(wire, rest)?,
                3 => check.asked.feature = text(wire, rest)?,
                4 => limit(check.asked.limit.get_or_insert_default(), message(wire, rest)?)?,
                5 => merge(&mut check.consistency, message(wire, rest)?)?,
                6 => check.explain = number(wire, rest)? != 0,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(check)
    }
}

impl<'a> Batch<'a> {
    /// What the message says.
    pub(crate) fn read(bytes: &'a Bytes) -> Result<Self, Failure> {
        Self::parse(bytes).ok_or_else(|| refused::<v1::BatchCheckEntitlementRequest>(bytes))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut batch = Self { checks: Vec::with_capacity(bytes.len() / CHECK_BYTES), ..Self::default() };
        fields(bytes, |tag, wire, rest| {
            match tag {
                1 => batch.checks.push(Check::parse(message(wire, rest)?)?),
                2 => merge(&mut batch.consistency, message(wire, rest)?)?,
                3 => batch.with_revisions = number(wire, rest)? != 0,
                4 => batch.with_details = number(wire, rest)? != 0,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(batch)
    }
}

impl<'a> Frame<'a> {
    /// What the message says.
    pub(crate) fn read(bytes: &'a Bytes) -> Result<Self, Failure> {
        Self::parse(bytes).ok_or_else(|| refused::<v1::StreamCheckEntitlementRequest>(bytes))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut frame = Self { checks: Vec::with_capacity(bytes.len() / CHECK_BYTES), ..Self::default() };
        fields(bytes, |tag, wire, rest| {
            match tag {
                1 => frame.id = number(wire, rest)?,
                2 => frame.checks.push(Check::parse(message(wire, rest)?)?),
                3 => frame.with_revisions = number(wire, rest)? != 0,
                4 => frame.with_details = number(wire, rest)? != 0,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(frame)
    }
}

fn limit<'a>(limit: &mut AskedLimit<'a>, bytes: &'a [u8]) -> Option<()> {
    fields(bytes, |tag, wire, rest| {
        match tag {
            1 => limit.name = text(wire, rest)?,
            2 => limit.amount = number(wire, rest)?.cast_signed(),
            3 => limit.used = Some(number(wire, rest)?.cast_signed()),
            _ => return Some(false),
        }
        Some(true)
    })
}

/// A message that comes twice is one message.
fn merge<M: Message + Default>(into: &mut Option<Box<M>>, bytes: &[u8]) -> Option<()> {
    into.get_or_insert_default().merge(bytes).ok()
}

/// Hands every field to `field`, which takes its value or, with `false`, leaves it to be skipped.
fn fields<'a>(mut bytes: &'a [u8], mut field: impl FnMut(u32, WireType, &mut &'a [u8]) -> Option<bool>) -> Option<()> {
    while !bytes.is_empty() {
        let (tag, wire) = decode_key(&mut bytes).ok()?;
        if !field(tag, wire, &mut bytes)? {
            skip_field(wire, tag, &mut bytes, DecodeContext::default()).ok()?;
        }
    }
    Some(())
}

fn number(wire: WireType, bytes: &mut &[u8]) -> Option<u64> {
    if wire == WireType::Varint { decode_varint(bytes).ok() } else { None }
}

fn message<'a>(wire: WireType, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    if wire != WireType::LengthDelimited {
        return None;
    }
    let len = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let (message, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(message)
}

fn text<'a>(wire: WireType, bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(message(wire, bytes)?).ok()
}

/// Why prost would not take it.
#[cold]
fn refused<M: Message + Default>(bytes: &Bytes) -> Failure {
    match M::decode(bytes.clone()) {
        Err(error) => malformed(&error),
        Ok(_) => Failure::internal("a message was refused that should not have been"),
    }
}

#[cfg(test)]
mod tests;
