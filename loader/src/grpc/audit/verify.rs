//! Walking one stream: every event names the hash of the one before, the head names the last, and the stored state is what
//! the events make. Says which event is the first that is not as it was written.

use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::event_store::{CellHash, ReadError};
use tessera_proto::storage;
use tokio::sync::Semaphore;

use crate::aggregate::Handled;
use crate::refusal::Refusal;
use crate::streams::Streams;

/// Events read at a time.
const EVENTS_PER_READ: usize = 500;

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many events were walked.
    pub(crate) events: u64,
    /// What is wrong, if anything.
    pub(crate) problem: Option<Problem>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The first event that is wrong; 0 when the state is.
    pub(crate) seq: Seq,
    /// What was expected and what is there.
    pub(crate) description: String,
}

impl Problem {
    fn at(seq: Seq, description: impl Into<String>) -> Self {
        Self { seq, description: description.into() }
    }
}

/// Walks `stream` up to the head that a strong read finds, each read of events in its turn.
pub(crate) async fn verify<A: Handled>(streams: &Streams<A>, turns: &Semaphore, stream: &StreamId) -> Result<Found, Refusal> {
    let read = match streams.store().read(stream, &[], None).await {
        Err(ReadError::Damaged(damage)) => return Ok(Found { events: 0, problem: Some(Problem::at(0, damage)) }),
        read => read?,
    };
    let mut walk = Walk::<A>::new(read.head.seq);
    let mut limit = EVENTS_PER_READ;
    while walk.problem.is_none() && walk.seq < read.head.seq {
        let _turn = turns.acquire().await;
        let cells = match streams.store().events(stream, walk.seq, limit).await {
            // One of them; which one is found one by one.
            Err(ReadError::Damaged(_)) if limit > 1 => {
                limit = 1;
                continue;
            }
            Err(ReadError::Damaged(damage)) => {
                walk.problem = Some(Problem::at(walk.seq.saturating_add(1), damage));
                break;
            }
            cells => cells?,
        };
        if cells.is_empty() {
            let missing = walk.seq.saturating_add(1);
            walk.problem = Some(Problem::at(missing, format!("it is missing; the stream is at {}", read.head.seq)));
        }
        for cell in cells {
            if walk.problem.is_none() && walk.seq < read.head.seq {
                walk.step(cell.seq, &cell.cell);
            }
        }
    }
    walk.end(read.head.hash);
    if walk.problem.is_none() {
        walk.problem = walk.compare_state(read.state.as_deref());
    }
    Ok(Found { events: walk.seq, problem: walk.problem })
}

struct Walk<A> {
    head: Seq,
    seq: Seq,
    hash: CellHash,
    at: Timestamp,
    state: A,
    /// The event before the last one does not match what the last one says of it: one of both was altered. The next link
    /// tells which: an altered last event does not match it either.
    doubt: Option<Seq>,
    problem: Option<Problem>,
}

impl<A: Handled> Walk<A> {
    fn new(head: Seq) -> Self {
        Self { head, seq: 0, hash: CellHash::default(), at: Timestamp::MIN, state: A::default(), doubt: None, problem: None }
    }

    fn step(&mut self, seq: Seq, cell: &[u8]) {
        let expected = self.seq.saturating_add(1);
        if seq != expected {
            self.problem = Some(Problem::at(expected, format!("event {expected} was expected, event {seq} follows")));
            return;
        }
        let event = match storage::decode_event::<A>(cell) {
            Ok(event) => event,
            Err(error) => {
                self.problem = Some(Problem::at(self.doubt.unwrap_or(seq), format!("it cannot be read: {error}")));
                return;
            }
        };
        self.link(CellHash(event.previous_hash), seq);
        if self.problem.is_some() {
            return;
        }
        let recorded = event.recorded;
        if self.doubt.is_none() && (recorded.seq != seq || recorded.at < self.at) {
            let (says, at, before) = (recorded.seq, recorded.at.as_nanos(), self.at.as_nanos());
            let description =
                format!("it says that it is event {says} at {at} ns; it is event {seq}, and the one before was at {before} ns");
            self.problem = Some(Problem::at(seq, description));
            return;
        }
        self.at = recorded.at;
        let state = std::mem::take(&mut self.state);
        self.state = state.evolve(&recorded);
        self.seq = seq;
        self.hash = CellHash::of(cell);
    }

    /// The event `next` (or the head, one beyond the last) says that the hash of the last one is `said`.
    fn link(&mut self, said: CellHash, next: Seq) {
        let broken = said != self.hash;
        match (self.doubt, broken) {
            // Only one link is broken: the event before it was altered.
            (Some(seq), false) => self.problem = Some(Self::altered(seq)),
            // Both links of the last event are broken: it was altered.
            (Some(_), true) => self.problem = Some(Self::altered(self.seq)),
            // What the first event says of the one before it is its own fault.
            (None, true) if self.seq == 0 => self.problem = Some(Self::altered(next)),
            (None, true) => self.doubt = Some(self.seq),
            (None, false) => {}
        }
    }

    fn altered(seq: Seq) -> Problem {
        Problem::at(seq, "its SHA-256 is not what the event after it, or the head, says; it was altered")
    }

    /// The head says the hash of the last event.
    fn end(&mut self, said: CellHash) {
        if self.problem.is_none() && self.seq == self.head && self.seq > 0 {
            self.link(said, self.seq);
            if let (None, Some(seq)) = (&self.problem, self.doubt) {
                self.problem = Some(Self::altered(seq));
            }
        }
    }

    fn compare_state(&self, stored: Option<&[u8]>) -> Option<Problem> {
        let Some(stored) = stored else {
            return (self.head > 0).then(|| Problem::at(0, format!("there is no state at {}", self.head)));
        };
        match storage::decode_state::<A>(stored) {
            Err(error) => Some(Problem::at(0, format!("the state cannot be read: {error}"))),
            Ok((state, at)) if state != self.state || at != self.at => {
                Some(Problem::at(0, format!("the state is not what the {} events make", self.head)))
            }
            Ok(_) => None,
        }
    }
}
