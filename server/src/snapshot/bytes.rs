//! The form of a snapshot: a preamble, then blocks, the last of which is the end mark.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `TESSMTRX` |
//! | 4 | the format, least byte first, as all numbers of fixed length |
//! | 13 and more | blocks: kind (1), length of what follows the head of the block (4), its checksum (8), and that many bytes |
//!
//! A checksum is XXH3 (64 bits) seeded with the kind and the number of the block, so that no block can stand in another's place. The
//! end mark holds the checksum of the preamble and of the heads of all blocks before it: with that, every byte of the file is
//! checked, and blocks of another file are found out. Checksums find mistakes of disks and people, not attacks; against these
//! the file has its mode.

use prost::encoding::{decode_varint, encode_varint};
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_core::time::Timestamp;
use tessera_ports::Change;
use tessera_ports::change_feed::Topic;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::{FORMAT, Origin, Refusal, Standing};

pub(crate) const MAGIC: [u8; 8] = *b"TESSMTRX";
pub(crate) const PREAMBLE_LEN: usize = 12;
pub(crate) const HEAD_LEN: usize = 13;
/// A block is begun anew once it holds as much.
pub(crate) const BLOCK_LEN: usize = 2 << 20;
/// No block is longer: what makes it full may be the largest state there is, and is far smaller.
pub(crate) const BLOCK_LEN_MAX: u32 = 16 << 20;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whose rows they are.
    Origin = 1,
    /// Positions and heartbeats.
    Standing = 2,
    /// Changes that wait for what they name.
    Parked = 3,
    /// Streams whose newest state cannot be used, with its seq.
    Bad = 4,
    /// Rows of tenants.
    Rows = 5,
    /// Catalog, plans and add-ons.
    Tables = 6,
    /// The end mark.
    End = 7,
}

impl Kind {
    const ALL: [Self; 7] = [Self::Origin, Self::Standing, Self::Parked, Self::Bad, Self::Rows, Self::Tables, Self::End];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

pub(crate) fn preamble() -> [u8; PREAMBLE_LEN] {
    let mut preamble = [0; PREAMBLE_LEN];
    let (magic, format) = preamble.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    format.copy_from_slice(&FORMAT.to_le_bytes());
    preamble
}

pub(crate) fn read_preamble(preamble: [u8; PREAMBLE_LEN]) -> Result<(), Refusal> {
    let (magic, format) = preamble.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Refusal::NotASnapshot);
    }
    match format.try_into().map(u32::from_le_bytes) {
        Ok(FORMAT) => Ok(()),
        Ok(given) => Err(Refusal::Format { given }),
        Err(_) => Err(Refusal::NotASnapshot),
    }
}

/// The head of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
    pub(crate) checksum: u64,
}

impl Head {
    /// Of the block with that number holding `payload`; `None` when it is too long to be one.
    pub(crate) fn of(kind: Kind, number: u64, payload: &[u8]) -> Option<Self> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= BLOCK_LEN_MAX)?;
        Some(Self { kind, length, checksum: checksum(kind, number, payload) })
    }

    pub(crate) fn encode(self) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        let parts = [&[self.kind as u8][..], &self.length.to_le_bytes(), &self.checksum.to_le_bytes()];
        for (to, from) in head.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        head
    }

    pub(crate) fn decode(bytes: [u8; HEAD_LEN]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (length, checksum) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        let checksum = u64::from_le_bytes(checksum.try_into().ok()?);
        (length <= BLOCK_LEN_MAX).then_some(Self { kind: Kind::from_number(*kind)?, length, checksum })
    }
}

pub(crate) fn checksum(kind: Kind, number: u64, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, number << 8 | u64::from(kind as u8))
}

/// The checksum of everything before the end mark, by way of the checksums of the blocks.
#[derive(Clone)]
pub(crate) struct Whole(Box<Xxh3>);

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Whole")
    }
}

impl Whole {
    pub(crate) fn new() -> Self {
        let mut hasher = Box::new(Xxh3::new());
        hasher.update(&preamble());
        Self(hasher)
    }

    pub(crate) fn take_in(&mut self, head: Head) {
        self.0.update(&head.encode());
    }

    pub(crate) fn checksum(&self) -> u64 {
        self.0.digest()
    }
}

/// What the end mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Of everything before it.
    pub(crate) whole: u64,
    /// How many rows there are.
    pub(crate) rows: u64,
    /// Digest of rows and tables, without what is parked.
    pub(crate) digest: u128,
}

// === what blocks hold ===

pub(crate) fn put_number(out: &mut Vec<u8>, number: u64) {
    encode_varint(number, out);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

fn put_time(out: &mut Vec<u8>, at: Timestamp) {
    put_number(out, at.seconds().unsigned_abs());
    put_number(out, at.subsec_nanos().into());
}

pub(crate) fn put_stream(out: &mut Vec<u8>, stream: &StreamId) {
    out.push(stream.kind() as u8);
    put_bytes(out, stream.key().as_bytes());
}

pub(crate) fn put_change(out: &mut Vec<u8>, change: &Change) {
    put_stream(out, &change.stream);
    put_number(out, change.seq);
    put_bytes(out, &change.state);
}

/// Takes what was put from the beginning of the bytes; `None` when they hold something else.
#[derive(Debug)]
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        decode_varint(&mut self.0).ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn time(&mut self) -> Option<Timestamp> {
        let seconds = i64::try_from(self.number()?).ok()?;
        Timestamp::new(seconds, i64::try_from(self.number()?).ok()?).ok()
    }

    pub(crate) fn stream(&mut self) -> Option<StreamId> {
        let kind = StreamKind::from_number(self.byte()?)?;
        StreamId::from_parts(kind, self.text()?).ok()
    }

    /// Stream, seq and state.
    pub(crate) fn change(&mut self) -> Option<(StreamId, Seq, &'a [u8])> {
        Some((self.stream()?, self.number()?, self.bytes()?))
    }
}

impl Origin {
    pub(crate) fn encode(&self, software: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, software.as_bytes());
        put_bytes(&mut out, self.store.as_bytes());
        put_number(&mut out, self.epoch);
        put_bytes(&mut out, self.topic.id.as_bytes());
        put_number(&mut out, self.topic.partitions.into());
        put_number(&mut out, self.tenants);
        out
    }

    /// With the software that wrote it.
    pub(crate) fn decode(payload: &[u8]) -> Option<(String, Self)> {
        let mut take = Take(payload);
        let software = take.text()?.to_owned();
        let (store, epoch) = (take.text()?.to_owned(), take.number()?);
        let topic = Topic { id: take.text()?.to_owned(), partitions: u32::try_from(take.number()?).ok()? };
        let origin = Self { store, epoch, topic, tenants: take.number()? };
        take.is_empty().then_some((software, origin))
    }
}

impl Standing {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_time(&mut out, self.at);
        put_number(&mut out, u64::try_from(self.positions.len()).unwrap_or(u64::MAX));
        for (position, heartbeat) in self.positions.iter().zip(&self.heartbeats) {
            put_number(&mut out, *position);
            out.push(u8::from(heartbeat.is_some()));
            if let Some(at) = heartbeat {
                put_time(&mut out, *at);
            }
        }
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut take = Take(payload);
        let at = take.time()?;
        let (mut positions, mut heartbeats) = (Vec::new(), Vec::new());
        for _ in 0..take.number()? {
            positions.push(take.number()?);
            heartbeats.push(match take.byte()? {
                0 => None,
                1 => Some(take.time()?),
                _ => return None,
            });
        }
        take.is_empty().then_some(Self { at, positions, heartbeats })
    }
}

impl End {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.whole.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut take = Take(payload);
        let (whole, rows) = (u64::from_le_bytes(take.fixed()?), u64::from_le_bytes(take.fixed()?));
        let digest = u128::from_le_bytes(take.fixed()?);
        take.is_empty().then_some(Self { whole, rows, digest })
    }
}
