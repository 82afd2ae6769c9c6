//! Questions, as numbers while they are under way and as bytes when they are sent.
//!
//! The bytes are written by hand, since whoever measures microseconds cannot spend them on building messages first. Tests hold
//! them against the generated code.

use std::rc::Rc;

use bytes::{BufMut as _, Bytes, BytesMut};
use tessera_benches::scenario::{self, ALL_FEATURES, ID_LEN, SplitMix64, Tenant};
use tessera_proto::v1;

use crate::expected::{Oracle, Verdict};
use crate::popularity::Popularity;

/// How questions are packed into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One check in a call of its own
    Unary,
    /// Frames of a stream that lasts
    Stream,
    /// Many checks in a call of their own
    Batch,
}

/// A question that was asked, and its right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Who is asked about.
    pub tenant: Tenant,
    /// Which of the 40 features.
    pub feature: u8,
    /// What the answer must be.
    pub expected: Verdict,
}

/// Draws questions and writes them.
#[derive(Debug)]
pub struct Questions {
    random: SplitMix64,
    popularity: Popularity,
    oracle: Oracle,
    packing: Packing,
}

/// Writes messages.
#[derive(Debug)]
pub struct Packing {
    mode: Mode,
    /// Service and feature of a check, encoded.
    named: Rc<[Bytes]>,
}

impl Question {
    /// As it is asked.
    pub fn message(&self) -> v1::CheckEntitlementRequest {
        let (service, feature) = scenario::names(usize::from(self.feature));
        v1::CheckEntitlementRequest { tenant_id: self.tenant.id(), service, feature, ..Default::default() }
    }
}

// === impl Questions ===

impl Questions {
    /// From a seed.
    pub fn new(seed: u64, popularity: Popularity, mode: Mode) -> anyhow::Result<Self> {
        Ok(Self { random: SplitMix64::new(seed), popularity, oracle: Oracle::new()?, packing: Packing::new(mode) })
    }

    /// The next message: its questions, and its bytes with gRPC's prefix. `id` is that of a stream's frame.
    pub fn draw(&mut self, id: u64, count: usize) -> anyhow::Result<(Vec<Question>, Bytes)> {
        let mut questions = Vec::with_capacity(count);
        for _ in 0..count {
            let tenant = Tenant(self.popularity.draw(&mut self.random));
            let feature = self.random.index(ALL_FEATURES);
            let expected = self.oracle.expected(tenant, feature)?;
            questions.push(Question { tenant, feature: u8::try_from(feature)?, expected });
        }
        let bytes = self.packing.pack(id, &questions);
        Ok((questions, bytes))
    }

    /// Who knows the plans' names.
    pub fn oracle(&mut self) -> &mut Oracle {
        &mut self.oracle
    }
}

// === impl Packing ===

impl Packing {
    /// For one mode.
    pub fn new(mode: Mode) -> Self {
        let named = (0..ALL_FEATURES).map(|feature| {
            let (service, feature) = scenario::names(feature);
            let mut bytes = BytesMut::new();
            text(&mut bytes, 2, &service);
            text(&mut bytes, 3, &feature);
            bytes.freeze()
        });
        Self { mode, named: named.collect() }
    }

    /// The message that asks all of them; in unary mode the first.
    pub fn pack(&self, id: u64, questions: &[Question]) -> Bytes {
        let check_len_max = ID_LEN + 64;
        let mut bytes = BytesMut::with_capacity(16 + questions.len() * check_len_max);
        // Not compressed, and the length, which is known at the end.
        bytes.put_bytes(0, PREFIX_LEN);
        match self.mode {
            Mode::Unary => questions.iter().take(1).for_each(|question| self.check(&mut bytes, question)),
            Mode::Stream => {
                bytes.put_u8(key(1, 0));
                varint(&mut bytes, id);
                self.checks(&mut bytes, 2, questions);
            }
            Mode::Batch => self.checks(&mut bytes, 1, questions),
        }
        let len = u32::try_from(bytes.len() - PREFIX_LEN).unwrap_or(u32::MAX);
        if let Some(prefix) = bytes.get_mut(1..PREFIX_LEN) {
            prefix.copy_from_slice(&len.to_be_bytes());
        }
        bytes.freeze()
    }

    fn checks(&self, bytes: &mut BytesMut, field: u8, questions: &[Question]) {
        for question in questions {
            bytes.put_u8(key(field, 2));
            varint(bytes, (2 + ID_LEN + self.names(question).len()) as u64);
            self.check(bytes, question);
        }
    }

    fn check(&self, bytes: &mut BytesMut, question: &Question) {
        bytes.put_u8(key(1, 2));
        varint(bytes, ID_LEN as u64);
        // Bytes grow as needed: this cannot fail.
        question.tenant.write_id(bytes).unwrap_or_default();
        bytes.put_slice(self.names(question));
    }

    fn names(&self, question: &Question) -> &[u8] {
        self.named.get(usize::from(question.feature)).map_or(&[], |named| named)
    }
}

/// Bytes before each message of gRPC.
pub const PREFIX_LEN: usize = 5;

fn key(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

fn varint(bytes: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.put_u8((number & 0x7f) as u8);
}

fn text(bytes: &mut BytesMut, field: u8, value: &str) {
    bytes.put_u8(key(field, 2));
    varint(bytes, value.len() as u64);
    bytes.put_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn questions(mode: Mode, seed: u64, id: u64, count: usize) -> (Vec<Question>, Bytes) {
        let mut questions = Questions::new(seed, Popularity::uniform(100_000), mode).unwrap();
        questions.draw(id, count).unwrap()
    }

    /// What prost would have sent.
    fn by_prost(message: &impl prost::Message) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
        bytes.extend(message.encode_to_vec());
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn bytes_are_those_of_the_generated_code(seed: u64, id in prop_oneof![1_u64..1_000, 1_u64..], count in 0_usize..200) {
            let (one, bytes) = questions(Mode::Unary, seed, id, 1);
            prop_assert_eq!(&bytes[..], by_prost(&one[0].message()));
            let (many, bytes) = questions(Mode::Batch, seed, id, count);
            let checks: Vec<_> = many.iter().map(Question::message).collect();
            prop_assert_eq!(many.len(), count);
            prop_assert_eq!(&bytes[..], by_prost(&v1::BatchCheckEntitlementRequest { checks: checks.clone(), ..Default::default() }));
            let (_, bytes) = questions(Mode::Stream, seed, id, count);
            prop_assert_eq!(&bytes[..], by_prost(&v1::StreamCheckEntitlementRequest { id, checks, ..Default::default() }));
        }

        #[test]
        fn the_same_seed_asks_the_same(seed: u64) {
            prop_assert_eq!(questions(Mode::Batch, seed, 0, 20), questions(Mode::Batch, seed, 0, 20));
        }
    }
}
