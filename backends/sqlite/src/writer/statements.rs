//! The statements that write. All of them run inside a transaction of the writing thread.

use rusqlite::Connection;
use tessera_core::stream::StreamId;
use tessera_ports::event_store::{Append, Head};
use tessera_ports::hint_store::Hint;

use super::group::Feed;
use super::{Comparisons, Done};
use crate::checksum;
use crate::error::Trouble;
use crate::row::{hash, restored, stored};

/// The conditional append. It looks before it writes, so that a conflict leaves nothing to undo.
pub(super) fn append(
    connection: &Connection,
    append: &Append,
    comparisons: Comparisons,
    feed: &mut Feed,
) -> Result<Done, Trouble> {
    let found = find(connection, &append.stream)?;
    let head = found.map_or_else(Head::default, |(_, head)| head);
    let moved = comparisons.head && head.seq != append.expected.seq;
    let forked = comparisons.hash && head.hash != append.expected.hash;
    if moved || forked {
        return Ok(Done::Conflict);
    }
    let after = Head { seq: head.seq.saturating_add(append.cells.len() as u64), hash: append.head_after().hash };
    let number = write_stream(connection, found.map(|(number, _)| number), append, after)?;
    let mut insert = connection.prepare_cached("INSERT INTO event (stream, seq, cell, sum) VALUES (?1, ?2, ?3, ?4)")?;
    for (seq, cell) in (stored(head.seq).saturating_add(1)..).zip(&append.cells) {
        insert.execute((number, seq, &cell[..], checksum::of_event(number, seq, cell)))?;
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO request (stream, id, seq, digest, sum) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (stream, id) DO UPDATE SET seq = excluded.seq, digest = excluded.digest, sum = excluded.sum",
    )?;
    for request in &append.requests {
        let sum = checksum::of_request(number, request);
        upsert.execute((number, request.id.as_str(), stored(request.seq), request.digest.0, sum))?;
    }
    feed_stream(connection, number, stored(after.seq), feed)?;
    Ok(Done::Written)
}

fn find(connection: &Connection, stream: &StreamId) -> Result<Option<(i64, Head)>, Trouble> {
    let mut select = connection.prepare_cached("SELECT number, seq, hash FROM stream WHERE kind = ?1 AND key = ?2")?;
    let mut rows = select.query((stream.kind() as u8, stream.key()))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let whose = format_args!("stream `{stream}`");
    let blob = row.get_ref(2)?.as_blob().map_err(|error| Trouble::Damaged(format!("{whose}: {error}")))?;
    let head = Head { seq: restored(row.get(1)?)?, hash: hash(blob, &whose)? };
    Ok(Some((row.get(0)?, head)))
}

/// Head and state after the append; the number of the stream.
fn write_stream(connection: &Connection, number: Option<i64>, append: &Append, head: Head) -> Result<i64, Trouble> {
    let (kind, key) = (append.stream.kind() as u8, append.stream.key());
    let sum = checksum::of_stream(i64::from(kind), key, &head, &append.state);
    let seq = stored(head.seq);
    if let Some(number) = number {
        let mut update =
            connection.prepare_cached("UPDATE stream SET seq = ?2, hash = ?3, state = ?4, sum = ?5 WHERE number = ?1")?;
        update.execute((number, seq, head.hash.0, &append.state[..], sum))?;
        return Ok(number);
    }
    let mut insert =
        connection.prepare_cached("INSERT INTO stream (kind, key, seq, hash, state, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    insert.execute((kind, key, seq, head.hash.0, &append.state[..], sum))?;
    Ok(connection.last_insert_rowid())
}

fn feed_stream(connection: &Connection, number: i64, seq: i64, feed: &mut Feed) -> Result<(), Trouble> {
    let position = feed.last.saturating_add(1);
    let mut insert = connection.prepare_cached("INSERT INTO change (position, stream, seq) VALUES (?1, ?2, ?3)")?;
    insert.execute((position, number, seq))?;
    feed.last = position;
    Ok(())
}

/// Puts streams into the feed once more. What the store does not have, or not at that seq, cannot be in its feed.
pub(super) fn publish(connection: &Connection, streams: &[(StreamId, u64)], feed: &mut Feed) -> Result<Done, Trouble> {
    for (stream, seq) in streams {
        let Some((number, head)) = find(connection, stream)?.filter(|(_, head)| head.seq >= *seq) else {
            return Ok(Done::Refused(format!("stream `{stream}` is not at seq {seq} in this database")));
        };
        feed_stream(connection, number, stored(head.seq), feed)?;
    }
    Ok(if streams.is_empty() { Done::Conflict } else { Done::Written })
}

/// Removes the oldest rows of the feed beyond `rows_max`, at most `removed_max` of them.
pub(super) fn trim(connection: &Connection, feed: &mut Feed, rows_max: i64, removed_max: i64) -> Result<(), Trouble> {
    let beyond = feed.last.saturating_sub(feed.first).saturating_add(1).saturating_sub(rows_max);
    if beyond > 0 {
        let first = feed.first.saturating_add(beyond.min(removed_max));
        let mut delete = connection.prepare_cached("DELETE FROM change WHERE position < ?1")?;
        delete.execute([first])?;
        feed.first = first;
    }
    Ok(())
}

/// Two questions, each answered by one end of the table; asked as one they would be answered by going through all of it.
const FEED_ENDS: &str = "SELECT (SELECT min(position) FROM change), (SELECT max(position) FROM change)";

/// Where the feed begins and ends; of an empty one: after nothing.
pub(crate) fn feed_rows(connection: &Connection) -> rusqlite::Result<Feed> {
    let mut select = connection.prepare_cached(FEED_ENDS)?;
    let rows = select.query_row([], |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?)))?;
    let (first, last) = rows.unwrap_or((1, 0));
    Ok(Feed { first, last })
}

/// The key of a hint, as columns.
fn hint_key(hint: &Hint) -> (u8, &str, &str, i64) {
    (hint.stream.kind() as u8, hint.stream.key(), hint.request_id.as_str(), stored(hint.head))
}

pub(super) fn put_hint(connection: &Connection, hint: &Hint) -> Result<Done, Trouble> {
    let (kind, key, request_id, head) = hint_key(hint);
    let mut insert = connection.prepare_cached(
        "INSERT INTO hint (kind, key, request_id, head, at_s, at_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?;
    insert.execute((kind, key, request_id, head, hint.at.seconds(), hint.at.subsec_nanos()))?;
    Ok(Done::Written)
}

pub(super) fn erase_hint(connection: &Connection, hint: &Hint) -> Result<Done, Trouble> {
    let mut delete =
        connection.prepare_cached("DELETE FROM hint WHERE kind = ?1 AND key = ?2 AND request_id = ?3 AND head = ?4")?;
    delete.execute(hint_key(hint))?;
    Ok(Done::Written)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// Every read of the feed asks for its ends: that must not cost more the longer the feed is.
    #[test]
    fn the_ends_of_the_feed_are_found_without_going_through_it() {
        const ROWS: i32 = 1_000;
        let connection = Connection::open_in_memory().expect("a database");
        connection.pragma_update(None, "foreign_keys", false).expect("a pragma");
        connection.execute_batch(include_str!("../schema/001.sql")).expect("a schema");
        assert_eq!(feed_rows(&connection).map(|feed| (feed.first, feed.last)), Ok((1, 0)), "an empty one");
        for position in 1..=ROWS {
            connection.execute("INSERT INTO change (position, stream, seq) VALUES (?1 + 10, 1, 1)", [position]).expect("a row");
        }
        assert_eq!(feed_rows(&connection).map(|feed| (feed.first, feed.last)), Ok((11, i64::from(ROWS) + 10)));

        let rows_passed = |question: &str| {
            let mut statement = connection.prepare(question).expect(question);
            statement.query_row([], |_| Ok(())).expect(question);
            statement.get_status(StatementStatus::FullscanStep)
        };
        assert!(rows_passed(FEED_ENDS) <= 2, "{} rows were passed", rows_passed(FEED_ENDS));
        let as_one = "SELECT min(position), max(position) FROM change";
        assert!(rows_passed(as_one) >= ROWS - 1, "one question would do: {} rows were passed", rows_passed(as_one));
    }
}
