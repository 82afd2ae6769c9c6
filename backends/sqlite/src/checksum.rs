//! Sums over stored rows: 8 bytes of xxh3 in a row tell that a byte of it was flipped, on every read. They are no secret and
//! do not stop a forger; the chain of SHA-256 hashes over the events does that.

use tessera_ports::event_store::{Head, RequestRow};
use xxhash_rust::xxh3::Xxh3;

/// Each kind of row has its own, so that a row never passes for another kind's.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Row {
    Stream = 1,
    Event = 2,
    Request = 3,
    Meta = 4,
}

struct Sum(Xxh3);

impl Sum {
    fn of(row: Row) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&[row as u8]);
        Self(hash)
    }

    fn number(mut self, number: i64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// Its length goes in too, so that bytes do not wander between neighbours.
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// As SQLite keeps it.
    fn end(self) -> i64 {
        i64::from_le_bytes(self.0.digest().to_le_bytes())
    }
}

pub(crate) fn of_stream(kind: i64, key: &str, head: &Head, state: &[u8]) -> i64 {
    let seq = crate::row::stored(head.seq);
    Sum::of(Row::Stream).number(kind).bytes(key.as_bytes()).number(seq).bytes(&head.hash.0).bytes(state).end()
}

pub(crate) fn of_event(stream: i64, seq: i64, cell: &[u8]) -> i64 {
    Sum::of(Row::Event).number(stream).number(seq).bytes(cell).end()
}

pub(crate) fn of_request(stream: i64, request: &RequestRow) -> i64 {
    let (id, seq) = (request.id.as_str().as_bytes(), crate::row::stored(request.seq));
    Sum::of(Row::Request).number(stream).bytes(id).number(seq).bytes(&request.digest.0).end()
}

pub(crate) fn of_meta(epoch: i64, database: &str) -> i64 {
    Sum::of(Row::Meta).number(epoch).bytes(database.as_bytes()).end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_sums_never_change() {
        let head = Head { seq: 3, hash: tessera_ports::event_store::CellHash([7; 32]) };
        assert_eq!(
            (of_stream(4, "acme", &head, b"state"), of_event(9, 3, b"cell"), of_meta(1, "name")),
            (4_576_514_298_394_491_019, 3_604_885_679_550_966_429, -6_003_485_641_887_904_022)
        );
    }
}
