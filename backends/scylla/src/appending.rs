//! The append: one conditional batch in one partition, sent once.

use std::sync::Arc;

use bytes::Bytes;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchType};
use scylla::value::{CqlValue, Row};
use tessera_ports::event_store::{Append, AppendError, Appended, CellHash};
use tessera_ports::hooks::{self, Guard};

use crate::checksum;
use crate::keyspace::{ANCHOR, CLASS_EVENT, CLASS_REQUEST, Keyspace, advance_text, partition};
use crate::open::Scylla;
use crate::row::{request_cell, stored};
use crate::session::{Consistencies, append_error, one_line};

/// Bytes of an append: half of what Cassandra takes in one write unless it is told otherwise, several times what loaders append.
const APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What of the head is compared; tests take parts away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Comparisons {
    head: bool,
    hash: bool,
}

impl Comparisons {
    /// Asked for where an append is called: a test takes a guard away for its own thread.
    pub(crate) fn now() -> Self {
        let head = hooks::holds(Guard::AppendComparesHead);
        Self { head, hash: head && hooks::holds(Guard::AppendComparesHash) }
    }

    fn all(self) -> bool {
        self.head && self.hash
    }
}

/// Values of one statement of an append. They are their own, since bytes are cheap to hold twice.
#[derive(Debug)]
enum Values {
    Advance { head: i64, hash: [u8; 32], state: Bytes, sum: i64, key: Arc<str>, expected: Expected },
    Insert { key: Arc<str>, class: i8, request: String, seq: i64, cell: Bytes },
}

/// What the head must be; nothing at all before the first event.
#[derive(Debug, Clone, Copy)]
struct Expected {
    comparisons: Comparisons,
    head: Option<i64>,
    hash: Option<[u8; 32]>,
}

impl SerializeRow for Values {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        match self {
            Self::Advance { head, hash, state, sum, key, expected } => {
                let old = expected.hash.as_ref().map(<[u8; 32]>::as_slice);
                let new = (head, hash.as_slice(), &state[..], sum, &**key);
                match (expected.comparisons.head, expected.comparisons.hash) {
                    (true, true) => (new.0, new.1, new.2, new.3, new.4, expected.head, old).serialize(ctx, writer),
                    (true, false) => (new.0, new.1, new.2, new.3, new.4, expected.head).serialize(ctx, writer),
                    (false, _) => new.serialize(ctx, writer),
                }
            }
            Self::Insert { key, class, request, seq, cell } => {
                (&**key, class, request.as_str(), seq, &cell[..]).serialize(ctx, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl Scylla {
    /// One conditional batch in one partition, sent once.
    pub(crate) async fn append_one(&self, append: &Append, comparisons: Comparisons) -> Result<Appended, AppendError> {
        if append.cells.is_empty() {
            return Err(AppendError::NotAttempted("an append needs at least one event".to_owned()));
        }
        let keyspace = self.keyspace();
        // A keyspace has one epoch for ever.
        if append.epoch != keyspace.identity.epoch {
            return Ok(Appended::Conflict);
        }
        let bytes = append.state.len() + append.cells.iter().map(Bytes::len).sum::<usize>();
        if bytes > APPEND_BYTES_MAX {
            let why = format!("the append has {bytes} bytes; allowed are {APPEND_BYTES_MAX}");
            return Err(AppendError::NotAttempted(why));
        }
        let values = values(append, comparisons);
        let batch = self.batch(&keyspace, append, comparisons, values.len());
        let answer = self.0.session.batch(&batch, values).await;
        self.heard(&answer);
        let outcome = applied(answer, comparisons);
        if outcome == Ok(Appended::Committed) {
            // Of many appends others may be written by then, and others not.
            hooks::fail_point("scylla.batch.appended");
        }
        outcome
    }

    pub(crate) fn batch(&self, keyspace: &Keyspace, append: &Append, comparisons: Comparisons, statements: usize) -> Batch {
        let kind = append.stream.kind();
        let streams = keyspace.streams(kind);
        let consistencies = Consistencies::of(self.0.config.datacenters);
        let mut batch = Batch::new(BatchType::Unlogged);
        if comparisons.all() {
            batch.append_statement(streams.advance.clone());
        } else {
            batch.append_statement(advance_text(&keyspace.name, kind, comparisons.head, comparisons.hash).as_str());
        }
        for _ in 1..statements {
            batch.append_statement(streams.insert.clone());
        }
        batch.set_consistency(consistencies.regular);
        batch.set_serial_consistency(Some(consistencies.conditions));
        batch.set_request_timeout(Some(self.0.config.append_timeout()));
        // Nobody beneath repeats an append, as the session's profile says: the second time would be a conflict with the first.
        batch.set_is_idempotent(false);
        batch
    }
}

/// The condition first, then every row.
fn values(append: &Append, comparisons: Comparisons) -> Vec<Values> {
    let stream = &append.stream;
    let key: Arc<str> = partition(stream).into();
    let first = append.expected.seq == 0;
    let expected = Expected {
        comparisons,
        head: (!first).then(|| stored(append.expected.seq)),
        hash: (append.expected.hash != CellHash::default()).then_some(append.expected.hash.0),
    };
    let after = append.head_after();
    let mut values = Vec::with_capacity(append.cells.len() + append.requests.len() + 2);
    values.push(Values::Advance {
        head: stored(after.seq),
        hash: after.hash.0,
        state: append.state.clone(),
        sum: checksum::of_stream(stream, &after, &append.state),
        key: Arc::clone(&key),
        expected,
    });
    let insert = |class, request: &str, seq: u64, cell: Bytes| Values::Insert {
        key: Arc::clone(&key),
        class,
        request: request.to_owned(),
        seq: stored(seq),
        cell,
    };
    if first {
        values.push(insert(CLASS_REQUEST, ANCHOR, 0, Bytes::new()));
    }
    for (seq, cell) in (append.expected.seq.saturating_add(1)..).zip(&append.cells) {
        values.push(insert(CLASS_EVENT, "", seq, cell.clone()));
    }
    for row in &append.requests {
        values.push(insert(CLASS_REQUEST, row.id.as_str(), 0, request_cell(stream, row)));
    }
    values
}

/// What the answer says. A row for each statement, or one, or one with more columns than that: only the first column of the first
/// row is the same everywhere.
fn applied(answer: Result<QueryResult, ExecutionError>, comparisons: Comparisons) -> Result<Appended, AppendError> {
    let unclear = |why: &dyn std::fmt::Display| AppendError::Unknown(format!("the answer cannot be read: {}", one_line(why)));
    let result = answer.map_err(|error| append_error(&error))?;
    if !comparisons.head && !result.is_rows() {
        return Ok(Appended::Committed);
    }
    let rows = result.into_rows_result().map_err(|error| unclear(&error))?;
    if rows.column_specs().get_by_index(0).is_none_or(|column| column.name() != "[applied]") {
        return Err(unclear(&"its first column is not `[applied]`"));
    }
    let row = rows.first_row::<Row>().map_err(|error| unclear(&error))?;
    match row.columns.first() {
        Some(Some(CqlValue::Boolean(true))) => Ok(Appended::Committed),
        Some(Some(CqlValue::Boolean(false))) => Ok(Appended::Conflict),
        _ => Err(unclear(&"`[applied]` is neither true nor false")),
    }
}
