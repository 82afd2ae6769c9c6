//! Folding events to a state, as whoever reads a stream does.

use crate::aggregate::{Aggregate, Recorded, References};
use crate::stream::Seq;
use crate::time::Timestamp;

/// A state with its place in its stream, to be carried on event by event.
#[derive(Debug, Clone, Default)]
pub struct Fold<A> {
    /// The state.
    pub state: A,
    /// The seq of its last event; 0 before the first.
    pub seq: Seq,
}

impl<A: Aggregate> Fold<A> {
    /// Carried on by one event.
    #[must_use]
    pub fn then(self, at: Timestamp, references: &References, event: A::Event) -> Self {
        let seq = self.seq.saturating_add(1);
        let recorded = Recorded { seq, at, references: references.clone(), event };
        Self { state: self.state.evolve(&recorded), seq }
    }
}

/// The state after those events, all at the beginning of time and with references to the first seq of nothing.
pub fn fold<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> A {
    let nothing = References::default();
    events.into_iter().fold(Fold::<A>::default(), |fold, event| fold.then(Timestamp::MIN, &nothing, event)).state
}
