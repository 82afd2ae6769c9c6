//! Writing a snapshot, step by step: what the writer of the matrix knew at one moment, then rows part by part from wherever this
//! runs, then the tables as the writer knows them after that.

use std::sync::Arc;

use tessera_core::digest::StateDigest;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::Change;

use super::bytes::{self, BLOCK_LEN, End, HEAD_LEN, Head, Kind, Whole};
use super::folder::{SnapshotFolder, SnapshotWriter};
use super::{Origin, Standing, software};
use crate::matrix::Matrix;

/// What is noted before the first row is copied.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) origin: Origin,
    /// `None` only without a guard: it comes at the end then.
    pub(crate) standing: Option<Standing>,
    pub(crate) parked: Vec<Change>,
    pub(crate) bad: Vec<(StreamId, Seq)>,
}

/// What is noted after the last row was copied.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Catalog, plans and add-ons, in the order in which they are to be taken in.
    pub(crate) tables: Vec<Change>,
    /// Only without a guard.
    pub(crate) standing: Option<Standing>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

/// A snapshot in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    file: Box<dyn SnapshotWriter>,
    matrix: Arc<Matrix>,
    /// Into how many slices each map of the table is cut.
    cut: usize,
    next_part: usize,
    blocks: Blocks,
    rows: u64,
    digest: StateDigest,
}

/// What is known of the blocks so far.
#[derive(Debug)]
struct Blocks {
    whole: Whole,
    count: u64,
    bytes: u64,
}

impl Draft {
    /// Begins the file and writes what was noted.
    pub(crate) fn begin(folder: &dyn SnapshotFolder, beginning: Beginning) -> std::io::Result<Self> {
        let Beginning { matrix, origin, standing, parked, bad } = beginning;
        // In a simulation even a few rows are copied at several moments.
        let cut = if folder.pause().is_some() { 4 } else { 1 };
        let mut file = folder.begin()?;
        file.write(&bytes::preamble())?;
        let blocks = Blocks { whole: Whole::new(), count: 0, bytes: u64::try_from(bytes::PREAMBLE_LEN).unwrap_or(0) };
        let (rows, digest) = (0, StateDigest::default());
        let mut draft = Self { file, matrix, cut, next_part: 0, blocks, rows, digest };
        draft.block(Kind::Origin, &origin.encode(&software()))?;
        if let Some(standing) = standing {
            draft.block(Kind::Standing, &standing.encode())?;
        }
        draft.changes(Kind::Parked, &parked)?;
        draft.items(Kind::Bad, &bad, |out, (stream, seq)| {
            bytes::put_stream(out, stream);
            bytes::put_number(out, *seq);
        })?;
        Ok(draft)
    }

    /// Copies and writes the next part of the rows; `false` when there was none left.
    pub(crate) fn step(&mut self) -> std::io::Result<bool> {
        if self.next_part >= self.matrix.parts(self.cut) {
            return Ok(false);
        }
        let (part, matrix) = (self.next_part, Arc::clone(&self.matrix));
        self.next_part = part.saturating_add(1);
        matrix.pack_part(part, self.cut, BLOCK_LEN, |packed| {
            self.rows = self.rows.saturating_add(packed.rows);
            self.digest.absorb(packed.digest);
            self.block(Kind::Rows, &packed.bytes)
        })?;
        Ok(true)
    }

    /// Writes what was noted after the last step, and the end mark; the file is there from now on.
    pub(crate) fn finish(mut self, ending: &Ending) -> std::io::Result<Written> {
        self.changes(Kind::Tables, &ending.tables)?;
        for change in &ending.tables {
            let checksum = tessera_core::digest::state_checksum(&change.state);
            self.digest.add(change.stream.kind(), change.stream.key().as_bytes(), change.seq, checksum);
        }
        if let Some(standing) = &ending.standing {
            self.block(Kind::Standing, &standing.encode())?;
        }
        let end = End { whole: self.blocks.whole.checksum(), rows: self.rows, digest: self.digest.sum() };
        self.block(Kind::End, &end.encode())?;
        let written = Written { bytes: self.blocks.bytes, rows: self.digest.count(StreamKind::Tenant) };
        self.file.finish()?;
        Ok(written)
    }

    fn changes(&mut self, kind: Kind, changes: &[Change]) -> std::io::Result<()> {
        self.items(kind, changes, bytes::put_change)
    }

    /// Items in blocks of about the usual length.
    fn items<T>(&mut self, kind: Kind, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) -> std::io::Result<()> {
        let mut payload = Vec::new();
        for item in items {
            put(&mut payload, item);
            if payload.len() >= BLOCK_LEN {
                self.block(kind, &payload)?;
                payload.clear();
            }
        }
        if payload.is_empty() { Ok(()) } else { self.block(kind, &payload) }
    }

    fn block(&mut self, kind: Kind, payload: &[u8]) -> std::io::Result<()> {
        let head = Head::of(kind, self.blocks.count, payload);
        let head = head.ok_or_else(|| std::io::Error::other("a block of a snapshot is too long"))?;
        self.blocks.whole.take_in(head);
        self.blocks.count = self.blocks.count.saturating_add(1);
        let length = u64::from(head.length).saturating_add(u64::try_from(HEAD_LEN).unwrap_or(0));
        self.blocks.bytes = self.blocks.bytes.saturating_add(length);
        self.file.write(&head.encode())?;
        self.file.write(payload)
    }
}
