//! Whatever happens in one stream, all of it is told in the end, in order and once as far as this process knows, and no hint
//! stands for longer than it must.

use proptest::prelude::*;
use tessera_core::ids::TenantId;
use tessera_core::time::Timestamp;

use super::*;

/// What may happen to one stream and its hints.
#[derive(Debug, Clone)]
enum Step {
    /// So many events are committed, and their change is published.
    Commit(u64),
    /// So many events are committed, and their change is not published.
    Left(u64),
    /// Whoever sweeps follows the hints that are not held.
    Sweep,
    /// What waits is taken to be told.
    Begin,
    /// It is told in pages of that size; after so many of them it fails.
    Tell { page: usize, pages: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..=4u64).prop_map(Step::Commit),
        2 => (1..=4u64).prop_map(Step::Left),
        2 => Just(Step::Sweep),
        2 => Just(Step::Begin),
        3 => (1..=5usize, 0..4usize).prop_map(|(page, pages)| Step::Tell { page, pages }),
    ];
    proptest::collection::vec(step, 0..60)
}

fn stream() -> StreamId {
    StreamId::Tenant(TenantId::parse("acme").unwrap())
}

fn cell(seq: Seq) -> Bytes {
    Bytes::from(seq.to_string())
}

fn hint(head: Seq) -> Hint {
    let request_id = RequestId::parse(&format!("r{head}")).unwrap();
    Hint { stream: stream(), request_id, head, at: Timestamp::MIN }
}

fn span(after: Seq, through: Seq) -> Span {
    Span { epoch: 1, after, through, cells: (after + 1..=through).map(cell).collect(), hints: vec![hint(after)] }
}

/// A store of one stream, its hints, and what others were told.
struct World {
    waiting: Waiting,
    head: Seq,
    hints: BTreeSet<Seq>,
    told: Vec<Seq>,
    /// Being told.
    out: BTreeMap<StreamId, Span>,
}

impl World {
    fn new(hints_max: usize) -> Self {
        Self { waiting: Waiting::new(hints_max), head: 0, hints: BTreeSet::new(), told: Vec::new(), out: BTreeMap::new() }
    }

    fn commit(&mut self, count: u64) -> Span {
        let before = self.head;
        self.head += count;
        self.hints.insert(before);
        span(before, self.head)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Commit(count) => {
                let span = self.commit(*count);
                self.waiting.take_in(stream(), span);
            }
            Step::Left(count) => {
                let span = self.commit(*count);
                self.waiting.owe(&stream(), span.after);
            }
            Step::Sweep => {
                let hints: Vec<Hint> =
                    self.hints.iter().map(|head| hint(*head)).filter(|hint| !self.waiting.holds(hint)).collect();
                if let Some(after) = hints.iter().map(|hint| hint.head).min() {
                    let cells = Vec::new();
                    self.waiting.take_in(stream(), Span { epoch: 1, after, through: self.head, cells, hints });
                }
            }
            Step::Begin if self.out.is_empty() => self.out = self.waiting.take_out(),
            Step::Begin => {}
            Step::Tell { page, pages } => self.tell(*page, *pages),
        }
    }

    fn tell(&mut self, page: usize, pages: usize) {
        self.take(&Step::Begin);
        for (stream, mut span) in std::mem::take(&mut self.out) {
            let mut others = span.len() > 0;
            for _ in 0..pages {
                if !others {
                    break;
                }
                let stored = (span.after + 1..=span.through).map(|seq| EventCell { seq, cell: cell(seq) });
                let stored: Vec<EventCell> = stored.take(page).collect();
                if let Some(known) = span.known(page) {
                    assert_eq!(known, stored, "what is at hand is what is stored");
                }
                self.told.extend(stored.iter().map(|event| event.seq));
                if let Some(last) = stored.last() {
                    self.waiting.note_told(&stream, &span, last.seq);
                }
                others = span.advance(&stored);
            }
            if others {
                self.waiting.put_back(stream, span);
            } else {
                for hint in &span.hints {
                    self.hints.remove(&hint.head);
                }
                self.waiting.release(&span.hints);
            }
        }
    }
}

proptest! {
    #[test]
    fn all_is_told_once_and_in_order_and_no_hint_is_left(steps in steps(), hints_max in 1..40usize) {
        let mut world = World::new(hints_max);
        for step in &steps {
            world.take(step);
            prop_assert!(world.waiting.held() <= hints_max);
            // A hint that is gone leads to nothing that was not told.
            let told: BTreeSet<Seq> = world.told.iter().copied().collect();
            let untold = (1..=world.head).find(|seq| !told.contains(seq));
            prop_assert!(untold.is_none_or(|seq| world.hints.iter().any(|head| *head < seq)), "{untold:?} is lost");
        }
        // Each time at least one hint is held.
        for _ in 0..=world.hints.len() {
            world.tell(100, 100);
            world.take(&Step::Sweep);
        }
        world.tell(100, 100);
        prop_assert_eq!(&world.told, &(1..=world.head).collect::<Vec<_>>(), "in order, and each once");
        prop_assert_eq!((world.hints, world.waiting.held()), (BTreeSet::new(), 0));
    }
}

#[test]
fn hints_are_bounded() {
    let mut waiting = Waiting::new(2);
    assert_eq!((waiting.take_in(stream(), span(0, 1)), waiting.take_in(stream(), span(1, 2))), (Some(1), Some(1)));
    assert_eq!(waiting.take_in(stream(), span(2, 3)), None);
    assert_eq!((waiting.held(), waiting.holds(&hint(1)), waiting.holds(&hint(2))), (2, true, false));
    let told = waiting.take_out().remove(&stream()).unwrap();
    waiting.release(&told.hints);
    // What was refused is not forgotten: the next one begins there.
    assert_eq!(waiting.take_in(stream(), span(3, 4)), Some(1));
    assert_eq!(waiting.take_out()[&stream()].after, 2);
    let many = Span { hints: (0..5).map(hint).collect(), ..span(0, 5) };
    assert_eq!(waiting.take_in(stream(), many), Some(1), "as many as there is room for");
    assert_eq!((waiting.held(), waiting.take_out()[&stream()].len()), (2, 5));
}

#[test]
fn spans_that_follow_each_other_keep_their_cells_as_long_as_they_are_few() {
    let joined = span(0, 2).join(span(2, 3));
    assert_eq!(joined.known(10).unwrap().len(), 3);
    assert!(span(0, 2).join(span(3, 4)).known(10).is_none(), "event 3 is not at hand");
    let many = Seq::try_from(CELLS_MAX).unwrap();
    assert!(span(0, many).join(span(many, many + 1)).known(10).is_none());
}

#[test]
fn no_more_bytes_of_cells_are_kept_than_may_be() {
    let mut waiting = Waiting::new(10);
    let long = |tenant: &str| {
        let span = Span { cells: vec![Bytes::from(vec![0; CELL_BYTES_MAX / 2])], ..span(0, 1) };
        (StreamId::Tenant(TenantId::parse(tenant).unwrap()), span)
    };
    for _ in 0..2 {
        for (stream, span) in ["a", "b", "c"].map(long) {
            waiting.take_in(stream, span);
        }
        let at_hand: Vec<bool> = waiting.take_out().values().map(|span| span.known(1).is_some()).collect();
        assert_eq!(at_hand, [true, true, false], "what is taken out takes up no room");
    }
}

#[test]
fn of_two_lives_of_the_store_the_later_one_counts() {
    let mut waiting = Waiting::new(10);
    waiting.take_in(stream(), span(4, 5));
    waiting.take_in(stream(), Span { epoch: 2, ..span(1, 2) });
    assert_eq!((waiting.held(), waiting.holds(&hint(4))), (1, false));
    let spans = waiting.take_out();
    assert_eq!((spans[&stream()].epoch, spans[&stream()].after), (2, 1));
}

#[test]
fn what_was_told_is_skipped_and_only_that() {
    let mut waiting = Waiting::new(100);
    let mut left = |told: (Seq, Seq), span: Span| {
        waiting.note_told(&stream(), &self::span(told.0, told.1), told.1);
        waiting.take_in(stream(), span);
        let span = waiting.take_out().remove(&stream()).unwrap();
        waiting.release(&span.hints);
        let cells = span.known(100).map(|cells| cells.into_iter().map(|cell| cell.cell).collect::<Vec<_>>());
        assert!(cells.is_none_or(|cells| cells.into_iter().eq((span.after + 1..=span.through).map(cell))));
        (span.after, span.through)
    };
    assert_eq!(left((2, 4), span(2, 4)), (4, 4), "all of it");
    assert_eq!(left((4, 6), span(3, 8)), (6, 8), "both times together");
    assert_eq!(left((6, 7), span(0, 8)), (0, 8), "what comes before was not told");
    assert_eq!(left((6, 7), span(8, 9)), (8, 9));
    assert_eq!(left((6, 7), Span { epoch: 2, ..span(5, 6) }), (5, 6), "another life of the store");
}
