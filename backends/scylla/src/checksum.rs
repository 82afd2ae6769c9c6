//! Sums over what is read together: 8 bytes of xxh3 tell that head, hash and state of a stream, or the parts of a request row, do
//! not belong together or were altered. They are no secret and stop no forger; the chain of SHA-256 hashes over the events does.
//! Events have no sum: the next one names the hash of each, and the head that of the last.

use tessera_core::stream::{Seq, StreamId};
use tessera_ports::event_store::{CommandDigest, Head};
use xxhash_rust::xxh3::Xxh3;

/// Each kind of row has its own, so that a row never passes for another kind's.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Row {
    Stream = 1,
    Request = 2,
}

struct Sum(Xxh3);

impl Sum {
    fn of(row: Row, stream: &StreamId) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&[row as u8, stream.kind() as u8]);
        Self(hash).bytes(stream.key().as_bytes())
    }

    fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// Its length goes in too, so that bytes do not wander between neighbours.
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn end(self) -> u64 {
        self.0.digest()
    }
}

/// As it is stored beside the head.
pub(crate) fn of_stream(stream: &StreamId, head: &Head, state: &[u8]) -> i64 {
    Sum::of(Row::Stream, stream).number(head.seq).bytes(&head.hash.0).bytes(state).end().cast_signed()
}

pub(crate) fn of_request(stream: &StreamId, id: &str, seq: Seq, digest: &CommandDigest) -> u64 {
    Sum::of(Row::Request, stream).bytes(id.as_bytes()).number(seq).bytes(&digest.0).end()
}

#[cfg(test)]
mod tests {
    use tessera_core::ids::TenantId;
    use tessera_ports::event_store::CellHash;

    use super::*;

    #[test]
    fn stored_sums_never_change() {
        let stream = StreamId::Tenant(TenantId::parse("acme").expect("an id"));
        let head = Head { seq: 3, hash: CellHash([7; 32]) };
        let sums = (of_stream(&stream, &head, b"state"), of_request(&stream, "first", 3, &CommandDigest([9; 32])));
        assert_eq!(sums, (6_730_089_443_870_853_219, 17_661_203_280_418_075_920));
    }
}
