-- Schema version 1. A version that was released is never edited; the next change is the next file.

-- Who this database is; one row.
CREATE TABLE meta (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  epoch    INTEGER NOT NULL,
  -- The id of this database: also the topic of its feed.
  database TEXT    NOT NULL,
  sum      INTEGER NOT NULL
) STRICT;

-- The head and the current state of every stream. Rows are never removed, so numbers are dense and mean the order in which
-- streams came into being.
CREATE TABLE stream (
  number INTEGER PRIMARY KEY,
  kind   INTEGER NOT NULL,
  key    TEXT    NOT NULL,
  seq    INTEGER NOT NULL,
  -- SHA-256 of the last event's cell.
  hash   BLOB    NOT NULL,
  state  BLOB    NOT NULL,
  sum    INTEGER NOT NULL,
  UNIQUE (kind, key)
) STRICT;

-- Scans go through the streams of a kind in the order of their numbers, which is that of the table.
CREATE INDEX stream_by_kind ON stream (kind);

-- One cell per event, never changed.
CREATE TABLE event (
  stream INTEGER NOT NULL REFERENCES stream (number),
  seq    INTEGER NOT NULL,
  cell   BLOB    NOT NULL,
  sum    INTEGER NOT NULL,
  PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;

-- The commands that every stream has seen.
CREATE TABLE request (
  stream INTEGER NOT NULL REFERENCES stream (number),
  id     TEXT    NOT NULL,
  -- Of the command's last event.
  seq    INTEGER NOT NULL,
  digest BLOB    NOT NULL,
  sum    INTEGER NOT NULL,
  PRIMARY KEY (stream, id)
) STRICT, WITHOUT ROWID;

-- The feed: that a stream moved, written in the transaction that moved it. Readers are given its state of now. Only the oldest
-- rows are removed.
CREATE TABLE change (
  position INTEGER PRIMARY KEY,
  stream   INTEGER NOT NULL REFERENCES stream (number),
  seq      INTEGER NOT NULL
) STRICT;

-- Appends that may still have to be published. This store feeds itself, so that nobody needs them here; they are kept all the
-- same for whoever puts some.
CREATE TABLE hint (
  kind       INTEGER NOT NULL,
  key        TEXT    NOT NULL,
  request_id TEXT    NOT NULL,
  head       INTEGER NOT NULL,
  at_s       INTEGER NOT NULL,
  at_ns      INTEGER NOT NULL,
  PRIMARY KEY (kind, key, request_id, head)
) STRICT, WITHOUT ROWID;

CREATE INDEX hint_by_age ON hint (at_s, at_ns);
