//! What an append writes, put together without the adapter: its tables, statements and sums, as they are stored for ever. A mistake
//! in them is found by whoever reads them through the adapter: what does not match its sum is handed on as an empty state.

use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use tessera_core::stream::{StreamId, StreamKind};
use xxhash_rust::xxh3::Xxh3;

/// Class of the rows of events.
pub(super) const CLASS_EVENT: i8 = 0;
/// Class of the rows of requests.
pub(super) const CLASS_REQUEST: i8 = 1;

/// The table of a kind.
pub(super) fn table(keyspace: &str, kind: StreamKind) -> String {
    let table = match kind {
        StreamKind::Catalog => "catalog",
        StreamKind::Plan => "plan",
        StreamKind::AddOn => "add_on",
        StreamKind::Tenant => "tenant",
    };
    format!("\"{keyspace}\".{table}")
}

/// The key of a stream's partition.
pub(super) fn partition(stream: &StreamId) -> &str {
    match stream {
        StreamId::Catalog => "catalog",
        _ => stream.key(),
    }
}

/// Sets what a stream has once; with a condition or without.
pub(super) fn set_head(keyspace: &str, kind: StreamKind, condition: &str) -> String {
    let table = table(keyspace, kind);
    format!("UPDATE {table} SET head = ?, hash = ?, state = ?, sum = ? WHERE key = ?{condition}")
}

/// Writes a row of a stream.
pub(super) fn insert_row(keyspace: &str, kind: StreamKind) -> String {
    format!("INSERT INTO {} (key, class, request, seq, cell) VALUES (?, ?, ?, ?, ?)", table(keyspace, kind))
}

/// Values of one of the two.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values<'a> {
    Head { key: &'a str, head: i64, hash: &'a [u8], state: &'a [u8], sum: i64 },
    HeadIf { key: &'a str, head: i64, hash: &'a [u8], state: &'a [u8], sum: i64, expected: (Option<i64>, Option<&'a [u8]>) },
    Row { key: &'a str, class: i8, request: &'a str, seq: i64, cell: &'a [u8] },
}

impl SerializeRow for Values<'_> {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        match *self {
            Self::Head { key, head, hash, state, sum } => (head, hash, state, sum, key).serialize(ctx, writer),
            Self::HeadIf { key, head, hash, state, sum, expected } => {
                (head, hash, state, sum, key, expected.0, expected.1).serialize(ctx, writer)
            }
            Self::Row { key, class, request, seq, cell } => (key, class, request, seq, cell).serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

struct Sum(Xxh3);

impl Sum {
    fn of(row: u8, stream: &StreamId) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&[row, stream.kind() as u8]);
        Self(hash).bytes(stream.key().as_bytes())
    }

    fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }
}

/// The sum beside the head.
pub(super) fn sum_of_head(stream: &StreamId, seq: u64, hash: &[u8], state: &[u8]) -> i64 {
    Sum::of(1, stream).number(seq).bytes(hash).bytes(state).0.digest().cast_signed()
}

/// The cell of the row of a request, its sum in it.
pub(super) fn request_cell(stream: &StreamId, id: &str, seq: u64, digest: &[u8]) -> Vec<u8> {
    let sum = Sum::of(2, stream).bytes(id.as_bytes()).number(seq).bytes(digest).0.digest();
    [&seq.to_le_bytes()[..], digest, &sum.to_le_bytes()[..]].concat()
}
