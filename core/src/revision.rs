//! Revisions: opaque tokens that name how new an answer is, or must be.
//!
//! Format 1: the byte 1, the epoch as a varint, then for every stream its kind (1 byte), the 8-byte hash of its id
//! (little-endian) and its seq as a varint. At most one stream of kind tenant. Nobody but Tessera reads them; what is read
//! back is untrusted, and every error is a reason to refuse the request.

use crate::stream::{Epoch, Seq, StreamId, StreamKind, stream_hash};

/// First byte of the only format so far.
const FORMAT: u8 = 1;
/// Most streams one revision may name: the catalog, a tenant, its plan, 64 add-ons, with room to spare.
pub const STREAMS_MAX: usize = 128;
/// No well-formed revision is longer than this, in bytes.
pub const LEN_MAX: usize = 1 + 10 + STREAMS_MAX * (1 + 8 + 10);

/// A stream as a revision names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Kind of the stream.
    pub kind: StreamKind,
    /// [`StreamId::hash`] of the stream.
    pub hash: u64,
    /// The seq it is at, or must be at least at; 1 or more.
    pub seq: Seq,
}

impl Named {
    /// Names `stream` at `seq`.
    pub fn new(stream: &StreamId, seq: Seq) -> Self {
        Self { kind: stream.kind(), hash: stream.hash(), seq }
    }
}

/// A revision that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The life of the store it speaks of; 1 or more.
    pub epoch: Epoch,
    /// The streams it names, in the order written; at least one.
    pub streams: Vec<Named>,
}

/// Why bytes are not a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// Nothing was given.
    #[error("the revision is empty; allowed are bytes that an earlier answer returned")]
    Empty,
    /// Not bytes that Tessera made.
    #[error("the revision is malformed; allowed are bytes that an earlier answer returned")]
    Malformed,
    /// It names another tenant than the request.
    #[error(
        "the revision belongs to another tenant; allowed are revisions of the tenant that is asked about, or of a plan, an add-on or the catalog"
    )]
    OtherTenant,
}

/// Appends a revision to `out`: what [`Revision::parse`] reads.
pub fn write(out: &mut Vec<u8>, epoch: Epoch, streams: impl IntoIterator<Item = Named>) {
    out.push(FORMAT);
    write_varint(out, epoch);
    for named in streams {
        out.push(named.kind as u8);
        out.extend_from_slice(&named.hash.to_le_bytes());
        write_varint(out, named.seq);
    }
}

/// The revision of a write: one stream.
pub fn of_write(epoch: Epoch, stream: &StreamId, seq: Seq) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    write(&mut out, epoch, [Named::new(stream, seq)]);
    out
}

impl Revision {
    /// Reads what [`write()`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevisionError> {
        let (format, rest) = bytes.split_first().ok_or(RevisionError::Empty)?;
        if *format != FORMAT || bytes.len() > LEN_MAX {
            return Err(RevisionError::Malformed);
        }
        let mut reader = Reader(rest);
        let epoch = reader.varint().filter(|epoch| *epoch > 0).ok_or(RevisionError::Malformed)?;
        let mut streams = Vec::new();
        while !reader.0.is_empty() {
            streams.push(reader.named().ok_or(RevisionError::Malformed)?);
        }
        let tenants = streams.iter().filter(|named| named.kind == StreamKind::Tenant).count();
        if streams.is_empty() || streams.len() > STREAMS_MAX || tenants > 1 {
            return Err(RevisionError::Malformed);
        }
        Ok(Self { epoch, streams })
    }

    /// `Err` when it names a tenant other than `tenant`.
    pub fn check_tenant(&self, tenant: &str) -> Result<(), RevisionError> {
        let hash = stream_hash(StreamKind::Tenant, tenant);
        let other = self.streams.iter().any(|named| named.kind == StreamKind::Tenant && named.hash != hash);
        if other { Err(RevisionError::OtherTenant) } else { Ok(()) }
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Reads from the front; `None` when the bytes end early or are not what was asked for.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return None;
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                // One value has one form, so that equal revisions are equal bytes.
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    fn named(&mut self) -> Option<Named> {
        let kind = StreamKind::from_number(self.byte()?)?;
        let (hash, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        let seq = self.varint().filter(|seq| *seq > 0)?;
        Some(Named { kind, hash: u64::from_le_bytes(*hash), seq })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::TenantId;

    fn named() -> impl Strategy<Value = Named> {
        (1_u8..=3, any::<u64>(), 1_u64..).prop_map(|(kind, hash, seq)| Named {
            kind: StreamKind::from_number(kind).unwrap(),
            hash,
            seq,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(epoch in 1_u64.., streams in prop::collection::vec(named(), 1..70)) {
            let mut bytes = Vec::new();
            write(&mut bytes, epoch, streams.iter().copied());
            prop_assert_eq!(Revision::parse(&bytes), Ok(Revision { epoch, streams }));
        }

        #[test]
        fn other_bytes_are_refused_or_mean_themselves(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(revision) = Revision::parse(&bytes) {
                let mut again = Vec::new();
                write(&mut again, revision.epoch, revision.streams);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn a_revision_of_another_tenant_is_told_apart() {
        let acme = StreamId::Tenant(TenantId::parse("acme").unwrap());
        let revision = Revision::parse(&of_write(1, &acme, 7)).unwrap();
        assert_eq!(revision.check_tenant("acme"), Ok(()));
        assert_eq!(revision.check_tenant("Acme"), Err(RevisionError::OtherTenant));
        assert_eq!(Revision::parse(&[]), Err(RevisionError::Empty));
        assert_eq!(Revision::parse(&[1, 1]), Err(RevisionError::Malformed));
        assert_eq!(Revision::parse(&[2, 1, 1]), Err(RevisionError::Malformed));
    }
}
