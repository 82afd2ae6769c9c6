//! The statements that write. All of them run inside a transaction of the writing thread.

use rusqlite::{CachedStatement, Connection};
use tessera_core::stream::{Seq, StreamId};
use tessera_ports::event_store::{Append, Head};
use tessera_ports::hint_store::Hint;

use super::group::Feed;
use super::{Appending, Done};
use crate::checksum;
use crate::error::Trouble;
use crate::row::{hash, restored, stored};

/// Those that every append needs, at hand for one transaction, and its connection for the others.
pub(super) struct Statements<'a> {
    connection: &'a Connection,
    find: CachedStatement<'a>,
    insert_stream: CachedStatement<'a>,
    update_stream: CachedStatement<'a>,
    insert_event: CachedStatement<'a>,
    upsert_request: CachedStatement<'a>,
    insert_change: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    pub(super) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            find: connection.prepare_cached("SELECT number, seq, hash FROM stream WHERE kind = ?1 AND key = ?2")?,
            insert_stream: connection.prepare_cached(
                "INSERT INTO stream (kind, key, seq, hash, state, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (kind, key) DO NOTHING",
            )?,
            update_stream: connection
                .prepare_cached("UPDATE stream SET seq = ?2, hash = ?3, state = ?4, sum = ?5 WHERE number = ?1")?,
            insert_event: connection.prepare_cached("INSERT INTO event (stream, seq, cell, sum) VALUES (?1, ?2, ?3, ?4)")?,
            upsert_request: connection.prepare_cached(
                "INSERT INTO request (stream, id, seq, digest, sum) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (stream, id) DO UPDATE SET seq = excluded.seq, digest = excluded.digest, sum = excluded.sum",
            )?,
            insert_change: connection.prepare_cached("INSERT INTO change (position, stream, seq) VALUES (?1, ?2, ?3)")?,
        })
    }

    /// The conditional append. It looks before it writes, so that a conflict leaves nothing to undo.
    pub(super) fn append(&mut self, appending: &Appending, feed: &mut Feed) -> Result<Done, Trouble> {
        let append = &*appending.append;
        let Some((number, before)) = self.write_stream(appending)? else { return Ok(Done::Conflict) };
        for (seq, cell) in (stored(before).saturating_add(1)..).zip(&append.cells) {
            self.insert_event.execute((number, seq, &cell[..], checksum::of_event(number, seq, cell)))?;
        }
        for request in &append.requests {
            let sum = checksum::of_request(number, request);
            self.upsert_request.execute((number, request.id.as_str(), stored(request.seq), request.digest.0, sum))?;
        }
        let after = before.saturating_add(append.cells.len() as u64);
        self.feed_stream(number, stored(after), feed)?;
        Ok(Done::Written)
    }

    /// Head and state after the append: the number of the stream, and the seq it was at. `None`, and nothing written: the
    /// conditions do not hold.
    fn write_stream(&mut self, appending: &Appending) -> Result<Option<(i64, Seq)>, Trouble> {
        let Appending { append, comparisons, last_hash } = appending;
        let (kind, key) = (append.stream.kind() as u8, append.stream.key());
        let after = |before: Seq| {
            let head = Head { seq: before.saturating_add(append.cells.len() as u64), hash: *last_hash };
            (head, checksum::of_stream(i64::from(kind), key, &head, &append.state))
        };
        // No row is what the default head means: the row is made if there is none, which is both comparisons in one step.
        let begins = append.expected == Head::default();
        if begins && let Some(number) = self.begin_stream(kind, append, after(0))? {
            return Ok(Some((number, 0)));
        }
        let found = self.find(&append.stream)?;
        let head = found.map_or_else(Head::default, |(_, head)| head);
        let moved = comparisons.head && head.seq != append.expected.seq;
        let forked = comparisons.hash && head.hash != append.expected.hash;
        if moved || forked {
            return Ok(None);
        }
        let number = match found {
            Some((number, _)) => {
                let (after, sum) = after(head.seq);
                self.update_stream.execute((number, stored(after.seq), after.hash.0, &append.state[..], sum))?;
                Some(number)
            }
            None => self.begin_stream(kind, append, after(0))?,
        };
        Ok(number.map(|number| (number, head.seq)))
    }

    /// The number of the stream that this made; `None` if there is one already.
    fn begin_stream(&mut self, kind: u8, append: &Append, (head, sum): (Head, i64)) -> Result<Option<i64>, Trouble> {
        let row = (kind, append.stream.key(), stored(head.seq), head.hash.0, &append.state[..], sum);
        let made = self.insert_stream.execute(row)? > 0;
        Ok(made.then(|| self.connection.last_insert_rowid()))
    }

    fn find(&mut self, stream: &StreamId) -> Result<Option<(i64, Head)>, Trouble> {
        let mut rows = self.find.query((stream.kind() as u8, stream.key()))?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let whose = format_args!("stream `{stream}`");
        let blob = row.get_ref(2)?.as_blob().map_err(|error| Trouble::Damaged(format!("{whose}: {error}")))?;
        let head = Head { seq: restored(row.get(1)?)?, hash: hash(blob, &whose)? };
        Ok(Some((row.get(0)?, head)))
    }

    fn feed_stream(&mut self, number: i64, seq: i64, feed: &mut Feed) -> Result<(), Trouble> {
        let position = feed.last.saturating_add(1);
        self.insert_change.execute((position, number, seq))?;
        feed.last = position;
        Ok(())
    }

    /// Puts streams into the feed once more. What the store does not have, or not at that seq, cannot be in its feed. As an append
    /// it looks before it writes: its transaction is committed, and what is refused must leave no rows in it.
    pub(super) fn publish(&mut self, streams: &[(StreamId, u64)], feed: &mut Feed) -> Result<Done, Trouble> {
        let mut found = Vec::with_capacity(streams.len());
        for (stream, seq) in streams {
            let Some((number, head)) = self.find(stream)?.filter(|(_, head)| head.seq >= *seq) else {
                return Ok(Done::Refused(format!("stream `{stream}` is not at seq {seq} in this database")));
            };
            found.push((number, stored(head.seq)));
        }
        for (number, seq) in found {
            self.feed_stream(number, seq, feed)?;
        }
        Ok(if streams.is_empty() { Done::Conflict } else { Done::Written })
    }

    pub(super) fn put_hint(&self, hint: &Hint) -> Result<Done, Trouble> {
        let (kind, key, request_id, head) = hint_key(hint);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO hint (kind, key, request_id, head, at_s, at_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?;
        insert.execute((kind, key, request_id, head, hint.at.seconds(), hint.at.subsec_nanos()))?;
        Ok(Done::Written)
    }

    pub(super) fn erase_hint(&self, hint: &Hint) -> Result<Done, Trouble> {
        let mut delete =
            self.connection.prepare_cached("DELETE FROM hint WHERE kind = ?1 AND key = ?2 AND request_id = ?3 AND head = ?4")?;
        delete.execute(hint_key(hint))?;
        Ok(Done::Written)
    }
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
