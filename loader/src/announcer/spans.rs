//! Which events wait to be told, and which hints stand until they are. Told to whom and how is none of its business.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Epoch, Seq, StreamId};
use tessera_ports::event_store::EventCell;
use tessera_ports::hint_store::Hint;

/// Cells of one stream that are kept; beyond that, events are read from the store.
const CELLS_MAX: usize = 256;

/// Bytes of cells that are kept of all streams that wait; beyond that, too, events are read from the store. As many spans as there
/// may be hints would hold gigabytes of long ones while nobody takes them.
const CELL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Streams of which it is known how far they were told; when there are more, all that is known is forgotten, and some events are
/// told twice.
const TOLD_MAX: usize = 16_384;

/// Events of one stream that are to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The life of the store.
    pub epoch: Epoch,
    /// They begin after this seq …
    pub after: Seq,
    /// … and end with this one.
    pub through: Seq,
    /// All of them as they are stored, if they are at hand; otherwise they are read.
    pub cells: Vec<Bytes>,
    /// Hints that stand until they are told.
    pub hints: Vec<Hint>,
}

/// Events of one stream that this process has told.
#[derive(Debug, Clone, Copy)]
struct Told {
    epoch: Epoch,
    after: Seq,
    through: Seq,
}

/// What waits, by stream.
#[derive(Debug)]
pub(super) struct Waiting {
    hints_max: usize,
    spans: BTreeMap<StreamId, Span>,
    /// Of the cells in them, at most.
    cell_bytes: usize,
    /// By their keys, the hints of all spans, of those too that are being told now.
    held: BTreeSet<(StreamId, RequestId, Seq)>,
    /// Events after these seqs are in no span, and whatever comes next in their streams must not be told before them.
    owed: BTreeMap<StreamId, Seq>,
    /// Publisher and sweeper often lead to the same events.
    told: BTreeMap<StreamId, Told>,
}

// === impl Span ===

impl Span {
    /// How many they are.
    pub(super) fn len(&self) -> Seq {
        self.through.saturating_sub(self.after)
    }

    fn is_at_hand(&self) -> bool {
        Seq::try_from(self.cells.len()) == Ok(self.len())
    }

    /// The first `count` of them, if they are at hand.
    pub(super) fn known(&self, count: usize) -> Option<Vec<EventCell>> {
        let first = self.after.checked_add(1)?;
        let cells = (first..).zip(&self.cells).take(count).map(|(seq, cell)| EventCell { seq, cell: cell.clone() });
        self.is_at_hand().then(|| cells.collect())
    }

    /// These first ones are told; whether there are others.
    pub(super) fn advance(&mut self, told: &[EventCell]) -> bool {
        self.cells = if self.is_at_hand() { self.cells.split_off(told.len().min(self.cells.len())) } else { Vec::new() };
        self.after = told.last().map_or(self.through, |cell| cell.seq);
        self.after < self.through
    }

    /// Those at its beginning need not be told again.
    fn skip(&mut self, told: Told) {
        if told.epoch != self.epoch || told.after > self.after || told.through <= self.after {
            return;
        }
        let through = told.through.min(self.through);
        let skipped = usize::try_from(through.saturating_sub(self.after)).unwrap_or(usize::MAX);
        self.cells = if self.is_at_hand() { self.cells.split_off(skipped.min(self.cells.len())) } else { Vec::new() };
        self.after = through;
    }

    /// They begin earlier.
    fn begin_after(&mut self, after: Seq) {
        if after < self.after {
            self.after = after;
            self.cells.clear();
        }
    }

    /// Both, and whatever lies between them.
    fn join(self, other: Self) -> Self {
        let (mut first, mut second) = if self.after <= other.after { (self, other) } else { (other, self) };
        let follows = first.through == second.after && first.is_at_hand() && second.is_at_hand();
        if second.through > first.through {
            let few = first.cells.len().saturating_add(second.cells.len()) <= CELLS_MAX;
            if follows && few {
                first.cells.append(&mut second.cells);
            } else {
                first.cells.clear();
            }
            first.through = second.through;
        }
        first.hints.append(&mut second.hints);
        first
    }
}

// === impl Waiting ===

fn key(hint: &Hint) -> (StreamId, RequestId, Seq) {
    (hint.stream.clone(), hint.request_id.clone(), hint.head)
}

impl Waiting {
    /// At most so many hints are held.
    pub(super) fn new(hints_max: usize) -> Self {
        let (spans, cell_bytes) = (BTreeMap::new(), 0);
        Self { hints_max, spans, cell_bytes, held: BTreeSet::new(), owed: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// Takes it in, with as many of its hints as there is room for: how many. Without any room it is owed.
    pub(super) fn take_in(&mut self, stream: StreamId, mut span: Span) -> Option<usize> {
        let room = self.hints_max.saturating_sub(self.held.len());
        if room == 0 && !span.hints.is_empty() {
            self.owe(&stream, span.after);
            return None;
        }
        span.hints.truncate(room);
        let held = span.hints.len();
        self.held.extend(span.hints.iter().map(key));
        let cell_bytes = span.cells.iter().map(Bytes::len).fold(self.cell_bytes, usize::saturating_add);
        if cell_bytes <= CELL_BYTES_MAX {
            self.cell_bytes = cell_bytes;
        } else {
            span.cells.clear();
        }
        if let Some(after) = self.owed.remove(&stream) {
            span.begin_after(after);
        }
        self.add(stream, span);
        Some(held)
    }

    /// Something of this stream is known to be missing. Beyond so many streams it is forgotten: then events may come out of order.
    pub(super) fn owe(&mut self, stream: &StreamId, after: Seq) {
        if let Some(known) = self.owed.get_mut(stream) {
            *known = after.min(*known);
        } else if self.owed.len() < self.hints_max {
            self.owed.insert(stream.clone(), after);
        }
    }

    /// All that waits, without what was told meanwhile. Its hints are still held.
    pub(super) fn take_out(&mut self) -> BTreeMap<StreamId, Span> {
        let mut spans = std::mem::take(&mut self.spans);
        self.cell_bytes = 0;
        for (stream, span) in &mut spans {
            if let Some(told) = self.told.get(stream) {
                span.skip(*told);
            }
        }
        spans
    }

    /// The first events of this span are told: up to the seq of the last one.
    pub(super) fn note_told(&mut self, stream: &StreamId, span: &Span, through: Seq) {
        let now = Told { epoch: span.epoch, after: span.after, through };
        if let Some(told) = self.told.get_mut(stream) {
            let meets = told.epoch == now.epoch && now.after <= told.through && told.after <= now.through;
            *told = if meets {
                Told { after: told.after.min(now.after), through: told.through.max(now.through), ..now }
            } else {
                now
            };
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(stream.clone(), now);
    }

    /// What was taken out was not told. Its cells are not kept for so long.
    pub(super) fn put_back(&mut self, stream: StreamId, mut span: Span) {
        span.cells.clear();
        self.add(stream, span);
    }

    /// These hints are not held any more.
    pub(super) fn release(&mut self, hints: &[Hint]) {
        for hint in hints {
            self.held.remove(&key(hint));
        }
    }

    pub(super) fn holds(&self, hint: &Hint) -> bool {
        self.held.contains(&key(hint))
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn add(&mut self, stream: StreamId, span: Span) {
        let joined = match self.spans.remove(&stream) {
            // Of two lives of the store the later one counts; the hints of the other lead nowhere.
            Some(before) if before.epoch < span.epoch => {
                self.release(&before.hints);
                span
            }
            Some(before) if before.epoch > span.epoch => {
                self.release(&span.hints);
                before
            }
            Some(before) => before.join(span),
            None => span,
        };
        self.spans.insert(stream, joined);
    }
}

#[cfg(test)]
mod tests;
