//! Answers out of their bytes: the fields that are held against what is expected, and nothing is built.
//!
//! What cannot be read is an error that is counted; what these fields do not cover (times, revisions) is not looked at. Tests
//! hold the reading against the generated code, which also prints an answer that was wrong.

use crate::expected::{Oracle, Verdict};

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is no message of protobuf")]
pub struct Malformed;

/// What an answer says, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer<'a> {
    /// Whether the tenant may.
    pub entitled: bool,
    /// The number of the reason.
    pub reason: i32,
    /// The plan's id.
    pub plan_id: &'a [u8],
    /// How much of the service's UI is shown.
    pub familiarity_basis_points: i32,
}

/// The result of one check among many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// It was answered; these are the answer's bytes.
    Answer(&'a [u8]),
    /// It failed; these are the bytes of a google.rpc.Status.
    Error(&'a [u8]),
    /// Neither.
    Nothing,
}

/// What a frame's answer has besides its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frame<'a> {
    /// The frame that it answers.
    pub id: u64,
    /// The frame failed as a whole; the bytes of a google.rpc.Status.
    pub error: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    /// Reads one answer.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut answer = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Value::Varint(value)) => answer.entitled = value != 0,
                (2, Value::Varint(value)) => answer.reason = int32(value),
                (3, Value::Bytes(value)) => answer.plan_id = value,
                (5, Value::Varint(value)) => answer.familiarity_basis_points = int32(value),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Whether it says what was expected.
    pub fn says(&self, expected: &Verdict, oracle: &Oracle) -> bool {
        let Verdict { entitled, reason, plan, familiarity_basis_points } = *expected;
        (self.entitled, self.reason, self.familiarity_basis_points) == (entitled, reason, familiarity_basis_points)
            && self.plan_id == oracle.plan_id(plan).as_bytes()
    }
}

/// The items of a batch's answer.
pub fn batch(bytes: &[u8]) -> impl Iterator<Item = Result<Item<'_>, Malformed>> {
    Fields(bytes).filter_map(|field| match field {
        Ok((1, Value::Bytes(item))) => Some(read_item(item)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

/// What a frame's answer says besides its items.
pub fn frame(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let mut frame = Frame::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Varint(id)) => frame.id = id,
            (3, Value::Bytes(error)) => frame.error = Some(error),
            _ => {}
        }
    }
    Ok(frame)
}

/// The items of a frame's answer.
pub fn frame_items(bytes: &[u8]) -> impl Iterator<Item = Result<Item<'_>, Malformed>> {
    Fields(bytes).filter_map(|field| match field {
        Ok((2, Value::Bytes(item))) => Some(read_item(item)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

fn read_item(bytes: &[u8]) -> Result<Item<'_>, Malformed> {
    let mut item = Item::Nothing;
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(answer)) => item = Item::Answer(answer),
            (2, Value::Bytes(error)) => item = Item::Error(error),
            _ => {}
        }
    }
    Ok(item)
}

/// A 32-bit number is written with as many bits as a 64-bit one would have.
#[expect(clippy::cast_possible_truncation, reason = "protobuf says so")]
fn int32(value: u64) -> i32 {
    value as i32
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of fixed width; nothing that is looked at has one.
    Fixed,
}

/// The fields of a message, in the order in which they were written.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // One error ends it.
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).map_err(|_| Malformed)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests;
