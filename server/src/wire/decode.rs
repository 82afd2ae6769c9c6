//! Decodes the hot messages without a copy and, but for one list per message, without an allocation: what is asked is borrowed
//! from the bytes that came. Takes and refuses what prost does, and says of what it refuses what prost says, but for two things. Of
//! a list that is longer than allowed nothing more is read than its length: two bytes are a check, and a check takes a hundred. And
//! groups of unknown fields may nest as deep inside a message of ours as outside one, where prost counts the messages around them.
//!
//! Nearly every check is three short texts in order ([`plain`]), and then every byte of it is ASCII, keys and lengths as well. So a
//! message is looked at as text once, as a whole, and cut up afterwards, which is several times cheaper than to look at each text of
//! each check by itself. Whatever is otherwise is read field by field.

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

/// The checks of a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Checks<'a> {
    /// At most as many as are allowed.
    pub(crate) kept: Vec<Check<'a>>,
    /// How many came.
    pub(crate) count: usize,
}

/// `BatchCheckEntitlementRequest`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch<'a> {
    pub(crate) checks: Checks<'a>,
    pub(crate) consistency: Option<Box<v1::Consistency>>,
    pub(crate) with_revisions: bool,
    pub(crate) with_details: bool,
}

/// `StreamCheckEntitlementRequest`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Frame<'a> {
    pub(crate) id: u64,
    pub(crate) checks: Checks<'a>,
    pub(crate) with_revisions: bool,
    pub(crate) with_details: bool,
}

impl<'a> Checks<'a> {
    /// Adds the check that is field `tag` of a message, of which `rest` is left and which may have so many checks; if it is the
    /// first, those that come right after it as well.
    fn take(&mut self, check: &'a [u8], tag: u8, rest: &mut &'a [u8], max: usize) -> Option<()> {
        let is_first = self.count == 0;
        if is_first {
            self.expect(check.len(), rest.len());
        }
        self.push(max, || Check::parse(check))?;
        // Once in a message: whoever sends much that is no text after much that is does not have it looked at again and again.
        if is_first && let Ok(mut text) = std::str::from_utf8(rest) {
            let key = tag << 3 | WireType::LengthDelimited as u8;
            while let Some((check, after)) = short_field(text, key) {
                self.push(max, || plain(check).or_else(|| Check::parse_fields(check.as_bytes())))?;
                text = after;
            }
            *rest = text.as_bytes();
        }
        Some(())
    }

    fn push(&mut self, max: usize, read: impl FnOnce() -> Option<Check<'a>>) -> Option<()> {
        self.count += 1;
        if self.count <= max {
            self.kept.push(read()?);
        }
        Some(())
    }

    /// Makes room for the checks of a message of which so many bytes are left behind a first of that length. If all are of one size
    /// the list never grows again.
    fn expect(&mut self, first: usize, left: usize) {
        /// Tag and length.
        const FRAME_BYTES: usize = 2;
        /// No room is made for more on the word of the first alone.
        const EXPECTED_MAX: usize = 1_000;
        self.kept.reserve((1 + left / (first + FRAME_BYTES)).min(EXPECTED_MAX));
    }

    /// Why a message with these was not taken.
    #[cold]
    fn refused<M: Message + Default>(&self, bytes: &Bytes, max: usize) -> Failure {
        if self.count > max {
            let problem = format!("the bytes are not the message of this method, and more than {max} checks are in them");
            return Failure::invalid_field("request", problem);
        }
        refused::<M>(bytes)
    }
}

impl<'a> Check<'a> {
    /// What the message says.
    pub(crate) fn read(bytes: &'a Bytes) -> Result<Self, Failure> {
        Self::parse(bytes).ok_or_else(|| refused::<v1::CheckEntitlementRequest>(bytes))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().and_then(plain).or_else(|| Self::parse_fields(bytes))
    }

    fn parse_fields(bytes: &'a [u8]) -> Option<Self> {
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
    /// What the message says, in which so many checks are allowed.
    pub(crate) fn read(bytes: &'a Bytes, max: usize) -> Result<Self, Failure> {
        let mut batch = Self::default();
        let parsed = fields(bytes, |tag, wire, rest| {
            match tag {
                1 => batch.checks.take(message(wire, rest)?, 1, rest, max)?,
                2 => merge(&mut batch.consistency, message(wire, rest)?)?,
                3 => batch.with_revisions = number(wire, rest)? != 0,
                4 => batch.with_details = number(wire, rest)? != 0,
                _ => return Some(false),
            }
            Some(true)
        });
        match parsed {
            Some(()) => Ok(batch),
            None => Err(batch.checks.refused::<v1::BatchCheckEntitlementRequest>(bytes, max)),
        }
    }
}

impl<'a> Frame<'a> {
    /// What the message says, in which so many checks are allowed.
    pub(crate) fn read(bytes: &'a Bytes, max: usize) -> Result<Self, Failure> {
        let mut frame = Self::default();
        let parsed = fields(bytes, |tag, wire, rest| {
            match tag {
                1 => frame.id = number(wire, rest)?,
                2 => frame.checks.take(message(wire, rest)?, 2, rest, max)?,
                3 => frame.with_revisions = number(wire, rest)? != 0,
                4 => frame.with_details = number(wire, rest)? != 0,
                _ => return Some(false),
            }
            Some(true)
        });
        match parsed {
            Some(()) => Ok(frame),
            None => Err(frame.checks.refused::<v1::StreamCheckEntitlementRequest>(bytes, max)),
        }
    }
}

/// The check of that message, if it is a tenant, a service and perhaps a feature, in this order, each of less than 128 bytes, and
/// nothing else.
#[inline]
fn plain(message: &str) -> Option<Check<'_>> {
    let (tenant_id, rest) = short_field(message, 0x0a)?;
    let (service, rest) = short_field(rest, 0x12)?;
    let (feature, rest) = if rest.is_empty() { ("", rest) } else { short_field(rest, 0x1a)? };
    let asked = Asked { tenant_id, service, feature, limit: None };
    rest.is_empty().then_some(Check { asked, consistency: None, explain: false })
}

/// What `text` begins with if that is a field with that key and of less than 128 bytes, and what is behind it.
#[inline]
fn short_field(text: &str, key: u8) -> Option<(&str, &str)> {
    match *text.as_bytes() {
        [first, len @ 0..0x80, ..] if first == key => text.get(2..)?.split_at_checked(usize::from(len)),
        _ => None,
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
#[inline]
pub(crate) fn fields<'a>(mut bytes: &'a [u8], mut field: impl FnMut(u32, WireType, &mut &'a [u8]) -> Option<bool>) -> Option<()> {
    while !bytes.is_empty() {
        let (tag, wire) = key(&mut bytes)?;
        if !field(tag, wire, &mut bytes)? {
            skip_field(wire, tag, &mut bytes, DecodeContext::default()).ok()?;
        }
    }
    Some(())
}

/// Number and kind of the next field. Nearly all are texts and messages whose key is one byte.
#[inline]
fn key(bytes: &mut &[u8]) -> Option<(u32, WireType)> {
    if let Some((&first @ 0x08..0x80, rest)) = bytes.split_first()
        && first & 7 == WireType::LengthDelimited as u8
    {
        *bytes = rest;
        return Some((u32::from(first >> 3), WireType::LengthDelimited));
    }
    decode_key(bytes).ok()
}

/// Nearly all numbers are lengths below 128.
#[inline]
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    if let Some((&short @ 0..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some(u64::from(short));
    }
    decode_varint(bytes).ok()
}

fn number(wire: WireType, bytes: &mut &[u8]) -> Option<u64> {
    if wire == WireType::Varint { varint(bytes) } else { None }
}

#[inline]
pub(crate) fn message<'a>(wire: WireType, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    if wire != WireType::LengthDelimited {
        return None;
    }
    let len = usize::try_from(varint(bytes)?).ok()?;
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
